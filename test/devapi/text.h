/* A growing buffer of bytes. A failed allocation sticks: later additions do nothing, and the owner
 * asks once, at the end. One thread. */
#ifndef DEVAPI_TEXT_H
#define DEVAPI_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dev_text {
    char *at; /* owned; NULL while empty */
    size_t size, capacity;
    bool failed;
};

void dev_text_fini(struct dev_text *t);
/* Empties it and keeps the memory. */
void dev_text_clear(struct dev_text *t);
void dev_text_add(struct dev_text *t, const char *bytes, size_t size);
void dev_text_str(struct dev_text *t, const char *s);
void dev_text_u64(struct dev_text *t, uint64_t value);
void dev_text_printf(struct dev_text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The JSON value, compact. */
void dev_text_json(struct dev_text *t, const json_t *value);
/* A JSON string with its quotes. `s` is UTF-8; what is not becomes U+FFFD. */
void dev_text_quoted(struct dev_text *t, const char *s);
/* NUL-terminates without counting the NUL; returns the text, or NULL if anything failed. */
const char *dev_text_cstr(struct dev_text *t);

/* RFC 3339 in UTC as metav1.Time writes it ("2026-11-23T19:58:17Z"); `out` has room for 32 bytes.
 */
void dev_time_format(int64_t unix_s, char *out);
/* A random (version 4) UUID; `out` has room for 37 bytes. */
void dev_uuid(char *out);
/* Percent-decodes in place ('+' becomes a blank if `is_query`). Returns the new size, or -1 if an
 * escape is broken or makes a NUL. */
long dev_percent_decode(char *at, size_t size, bool is_query);
/* Unpadded base64url. */
void dev_text_base64url(struct dev_text *t, const unsigned char *bytes, size_t size);
/* Padded base64. */
void dev_text_base64(struct dev_text *t, const unsigned char *bytes, size_t size);

#endif
