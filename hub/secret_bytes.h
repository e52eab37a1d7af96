/* Bytes that nobody should find later: private keys, tokens, and the texts they travel in. What
 * these functions made is zeroed before it is freed. Any thread. */
#ifndef HUB_SECRET_BYTES_H
#define HUB_SECRET_BYTES_H

#include <stddef.h>

struct secret_bytes {
    unsigned char *at; /* malloc()ed; NULL: none */
    size_t size;
};

/* A copy. 0 or -ENOMEM; `b` is written only on success. */
int secret_bytes_copy(struct secret_bytes *b, const void *from, size_t size)
    __attribute__((warn_unused_result));
/* What standard, padded base64 stands for. 0, -EBADMSG (not base64, or empty) or -ENOMEM. */
int secret_bytes_from_base64(struct secret_bytes *b, const char *text, size_t size)
    __attribute__((warn_unused_result));
void secret_bytes_free(struct secret_bytes *b);

/* Standard, padded base64, NUL-terminated; for secret_text_free(). NULL without memory. */
char *secret_base64(const void *bytes, size_t size) __attribute__((warn_unused_result));
/* snprintf() into memory of its own; for secret_text_free(). NULL without memory. */
char *secret_text_printf(const char *format, ...)
    __attribute__((format(printf, 1, 2), warn_unused_result));
void secret_text_free(char *text);

#endif
