/* See content.h. */
#include "hub/content.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define CONTENT_NAME(id, text) text,
const char *const content_error_names[CONTENT_ERROR_COUNT] = {"ok", CONTENT_ERRORS(CONTENT_NAME)};
#undef CONTENT_NAME

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters, of which the last `padding` are '='; -1 if they are not base64. */
static int32_t read_quad(const char *text, size_t padding)
{
    int32_t bits = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = i < 4 - padding ? base64_digit(text[i]) : 0;
        if (digit < 0)
            return -1;
        bits = bits << 6 | digit;
    }
    return bits;
}

long content_base64(const char *text, size_t size, char *to)
{
    char *out = to;
    if (size % 4 != 0)
        return -EBADMSG;
    for (size_t at = 0; at < size; at += 4) {
        size_t padding = 0;
        if (at + 4 == size)
            padding = text[at + 3] != '=' ? 0 : text[at + 2] != '=' ? 1 : 2;
        int32_t bits = read_quad(text + at, padding);
        if (bits < 0 || (padding && bits & ((1 << 8 * padding) - 1)))
            return -EBADMSG;
        for (size_t i = 0; i < 3 - padding; i++)
            *out++ = (char)(bits >> (16 - 8 * i) & 0xFF);
    }
    return out - to;
}

/* Puts the bytes of a string or an object into `to`. */
static int read_bytes(const struct json_span *content, char *to, size_t *size)
{
    *size = 0;
    if (content->kind == JSON_KIND_NULL ||
        (content->kind == JSON_KIND_STRING && content->size == 0))
        return -CONTENT_EMPTY;
    if (content->kind != JSON_KIND_STRING && content->kind != JSON_KIND_OBJECT)
        return -CONTENT_WRONG_TYPE;
    if (content->kind == JSON_KIND_STRING && content->has_escapes)
        *size = jsonscan_unescape(content, to);
    else {
        memmove(to, content->at, content->size);
        *size = content->size;
    }
    return 0;
}

int content_patch(const struct json_span *content, char *to, size_t *size)
{
    int rc = read_bytes(content, to, size);
    if (rc != 0 || to[0] == '{')
        return rc;
    long decoded = content_base64(to, *size, to);
    if (decoded < 0)
        return -CONTENT_NOT_BASE64;
    if (decoded == 0 || to[0] != '{')
        return -CONTENT_NOT_OBJECT;
    *size = (size_t)decoded;
    return 0;
}

/* A UID is a UUID, but that of a static pod's mirror is the hash of its manifest: hexadecimal,
 * without dashes. */
static bool is_uid(const char *text, size_t size)
{
    static const char allowed[] = "0123456789abcdefABCDEF-";
    if (size < 8 || size > 64)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!memchr(allowed, text[i], sizeof(allowed) - 1))
            return false;
    return true;
}

static const char uid_front[] = "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"";
static const char uid_back[] = "\"}}";
#define UID_FRONT (sizeof(uid_front) - 1)
#define UID_BACK  (sizeof(uid_back) - 1)
_Static_assert(UID_FRONT + UID_BACK <= CONTENT_DELETE_EXTRA, "what stands around a UID fits");

int content_delete_options(const struct json_span *content, char *to, size_t *size)
{
    char *bytes = to + UID_FRONT; /* where a UID will stand */
    int rc = read_bytes(content, bytes, size);
    if (rc != 0)
        return rc;
    if (bytes[0] == '{') {
        memmove(to, bytes, *size);
        return 0;
    }
    /* First the UID: hexadecimal digits may pass for base64 too, but not for that of an object,
     * which begins with "eyJ" or is "e30=". */
    if (is_uid(bytes, *size)) {
        memcpy(to, uid_front, UID_FRONT);
        memcpy(bytes + *size, uid_back, UID_BACK);
        *size += UID_FRONT + UID_BACK;
        return 0;
    }
    long decoded = content_base64(bytes, *size, to);
    if (decoded <= 0 || to[0] != '{')
        return -CONTENT_BAD_UID;
    *size = (size_t)decoded;
    return 0;
}
