/* Writing an envelope of our own: header, route and the beginning of content, as Go's encoder
 * orders them (hub/envelope.h reads them).
 *
 * Pure but for uuid_make(). Any thread. */
#ifndef HUB_FRAME_H
#define HUB_FRAME_H

#include "hub/resource.h"

#include <stdint.h>

/* The fixed words of an envelope, a UUID and two numbers. */
#define FRAME_BYTES 512
#define UUID_BYTES  37

/* Into room that was computed before: running out of it is a bug. */
struct writer {
    char *at, *end;
};
void writer_put(struct writer *w, const char *bytes, size_t size);
void writer_text(struct writer *w, const char *text);
/* As the inside of a JSON string; up to six bytes for one. */
void writer_escaped(struct writer *w, const char *text, size_t size);

/* Spans go out as they are: they are JSON already, or need no escape. Sizes of 0 leave a field out.
 */
struct frame {
    struct text_span parent, version, resource;
    const char *source, *operation;
};
/* Everything up to the content, whose JSON the caller puts next. */
void frame_begin(struct writer *w, const struct frame *f, int64_t wall_ms, const char *id);
void frame_end(struct writer *w);

/* RFC 9562, version 4. */
void uuid_make(char to[UUID_BYTES]);
/* The first half of a UUID as a number: enough to know a message of ours again. 0: it is none. */
uint64_t uuid_key(const char *text, size_t size);

#endif
