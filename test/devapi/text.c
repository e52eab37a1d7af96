/* See text.h. */
#include "test/devapi/text.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void dev_text_fini(struct dev_text *t)
{
    free(t->at);
    *t = (struct dev_text){0};
}

void dev_text_clear(struct dev_text *t)
{
    t->size = 0;
    t->failed = false;
}

static bool reserve(struct dev_text *t, size_t more)
{
    if (t->failed)
        return false;
    if (t->capacity - t->size > more)
        return true;
    size_t capacity = t->capacity ? t->capacity * 2 : 256;
    while (capacity - t->size <= more)
        capacity *= 2;
    char *at = realloc(t->at, capacity);
    if (!at) {
        t->failed = true;
        return false;
    }
    t->at = at;
    t->capacity = capacity;
    return true;
}

void dev_text_add(struct dev_text *t, const char *bytes, size_t size)
{
    if (size == 0 || !reserve(t, size))
        return;
    memcpy(t->at + t->size, bytes, size);
    t->size += size;
}

void dev_text_str(struct dev_text *t, const char *s)
{
    dev_text_add(t, s, strlen(s));
}

void dev_text_u64(struct dev_text *t, uint64_t value)
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, value);
    dev_text_add(t, digits, (size_t)n);
}

void dev_text_printf(struct dev_text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (need < 0 || !reserve(t, (size_t)need + 1))
        return;
    va_start(args, format);
    vsnprintf(t->at + t->size, (size_t)need + 1, format, args);
    va_end(args);
    t->size += (size_t)need;
}

static int add_dumped(const char *bytes, size_t size, void *context)
{
    struct dev_text *t = context;
    dev_text_add(t, bytes, size);
    return t->failed ? -1 : 0;
}

void dev_text_json(struct dev_text *t, const json_t *value)
{
    if (json_dump_callback(value, add_dumped, t, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        t->failed = true;
}

void dev_text_quoted(struct dev_text *t, const char *s)
{
    json_t *value = json_string(s);
    if (!value)
        value = json_string("\xef\xbf\xbd");
    if (!value) {
        t->failed = true;
        return;
    }
    dev_text_json(t, value);
    json_decref(value);
}

const char *dev_text_cstr(struct dev_text *t)
{
    if (!reserve(t, 1))
        return NULL;
    t->at[t->size] = '\0';
    return t->at;
}

void dev_time_format(int64_t unix_s, char *out)
{
    time_t seconds = (time_t)unix_s;
    struct tm tm;
    gmtime_r(&seconds, &tm);
    if (strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = '\0';
}

/* Random bytes are drawn in blocks: a UUID for each created event should not cost a call into
 * OpenSSL's generator. */
static void random_bytes(unsigned char *to, size_t size)
{
    static unsigned char block[1024];
    static size_t left;
    if (left < size) {
        if (RAND_bytes(block, sizeof(block)) != 1)
            abort();
        left = sizeof(block);
    }
    memcpy(to, block + sizeof(block) - left, size);
    left -= size;
}

void dev_uuid(char *out)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char raw[16];
    random_bytes(raw, sizeof(raw));
    raw[6] = (unsigned char)((raw[6] & 0x0f) | 0x40);
    raw[8] = (unsigned char)((raw[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof(raw); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = hex[raw[i] >> 4];
        *out++ = hex[raw[i] & 15];
    }
    *out = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

long dev_percent_decode(char *at, size_t size, bool is_query)
{
    size_t to = 0;
    for (size_t i = 0; i < size; i++) {
        char c = at[i];
        if (c == '%') {
            int high = size - i > 2 ? hex_digit(at[i + 1]) : -1;
            int low = size - i > 2 ? hex_digit(at[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return -1;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && is_query) {
            c = ' ';
        }
        at[to++] = c;
    }
    return (long)to;
}

static void encode64(struct dev_text *t, const unsigned char *bytes, size_t size,
                     const char *alphabet, bool is_padded)
{
    for (size_t i = 0; i < size; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16;
        size_t have = size - i < 3 ? size - i : 3;
        if (have > 1)
            v |= (unsigned)bytes[i + 1] << 8;
        if (have > 2)
            v |= bytes[i + 2];
        char out[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], alphabet[v >> 6 & 63],
                       alphabet[v & 63]};
        dev_text_add(t, out, have + 1);
        if (is_padded)
            dev_text_add(t, "==", 3 - have);
    }
}

void dev_text_base64url(struct dev_text *t, const unsigned char *bytes, size_t size)
{
    encode64(t, bytes, size, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
             false);
}

void dev_text_base64(struct dev_text *t, const unsigned char *bytes, size_t size)
{
    encode64(t, bytes, size, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
             true);
}
