/* See secret_bytes.h. */
#include "hub/secret_bytes.h"

#include "hub/content.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int secret_bytes_copy(struct secret_bytes *b, const void *from, size_t size)
{
    unsigned char *at = malloc(size ? size : 1);
    if (!at)
        return -ENOMEM;
    memcpy(at, from, size);
    *b = (struct secret_bytes){at, size};
    return 0;
}

int secret_bytes_from_base64(struct secret_bytes *b, const char *text, size_t size)
{
    struct secret_bytes bytes;
    int rc = secret_bytes_copy(&bytes, text, size);
    if (rc != 0)
        return rc;
    long decoded = content_base64(text, size, (char *)bytes.at);
    if (decoded <= 0) {
        secret_bytes_free(&bytes);
        return -EBADMSG;
    }
    OPENSSL_cleanse(bytes.at + decoded, size - (size_t)decoded);
    bytes.size = (size_t)decoded;
    *b = bytes;
    return 0;
}

void secret_bytes_free(struct secret_bytes *b)
{
    if (b->at)
        OPENSSL_cleanse(b->at, b->size);
    free(b->at);
    *b = (struct secret_bytes){0};
}

char *secret_base64(const void *bytes, size_t size)
{
    if (size > INT_MAX / 2)
        return NULL;
    char *text = malloc((size + 2) / 3 * 4 + 1);
    if (text)
        EVP_EncodeBlock((unsigned char *)text, bytes, (int)size);
    return text;
}

char *secret_text_printf(const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    char *text = size >= 0 ? malloc((size_t)size + 1) : NULL;
    if (text)
        vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void secret_text_free(char *text)
{
    if (text)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
}
