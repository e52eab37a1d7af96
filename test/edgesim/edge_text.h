/* A growing text, and the pieces of Go's JSON encoder that EdgeCore's messages show.
 *
 * Appending never reports failure on the spot: the text is marked as failed and edge_text_ok()
 * tells at the end, so that a message is composed in one straight run. One thread. */
#ifndef EDGE_TEXT_H
#define EDGE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct edge_text {
    char *at;
    size_t size, capacity;
    bool failed;
};

void edge_text_init(struct edge_text *t);
void edge_text_fini(struct edge_text *t);
void edge_text_clear(struct edge_text *t);
bool edge_text_ok(const struct edge_text *t);

/* Makes room for `extra` more bytes; false (and failed) when there is no memory. */
bool edge_text_reserve(struct edge_text *t, size_t extra);
void edge_text_append(struct edge_text *t, const char *bytes, size_t size);
void edge_text_str(struct edge_text *t, const char *s);
void edge_text_printf(struct edge_text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The inside of a JSON string, escaped as Go's encoding/json does (<, >, & and U+2028/9 too),
 * without the quotes. The bytes must be valid UTF-8. */
void edge_text_escape(struct edge_text *t, const char *bytes, size_t size);
/* Standard, padded base64. */
void edge_text_base64(struct edge_text *t, const char *bytes, size_t size);

/* "2026-11-23T19:58:17Z" and, with microseconds, "2026-11-23T19:58:17.123456Z": metav1.Time and
 * MicroTime. */
void edge_text_time(struct edge_text *t, uint64_t wall_us);
void edge_text_micro_time(struct edge_text *t, uint64_t wall_us);

#endif
