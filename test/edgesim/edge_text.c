/* See edge_text.h. */
#include "test/edgesim/edge_text.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_MIN_BYTES 512

void edge_text_init(struct edge_text *t)
{
    *t = (struct edge_text){0};
}

void edge_text_fini(struct edge_text *t)
{
    free(t->at);
    *t = (struct edge_text){0};
}

void edge_text_clear(struct edge_text *t)
{
    t->size = 0;
    t->failed = false;
}

bool edge_text_ok(const struct edge_text *t)
{
    return !t->failed;
}

bool edge_text_reserve(struct edge_text *t, size_t extra)
{
    size_t want = t->size + extra;
    if (t->failed || want < extra) {
        t->failed = true;
        return false;
    }
    if (want <= t->capacity)
        return true;
    size_t capacity = t->capacity ? t->capacity : TEXT_MIN_BYTES;
    while (capacity < want)
        capacity *= 2;
    char *grown = realloc(t->at, capacity);
    if (!grown) {
        t->failed = true;
        return false;
    }
    t->at = grown;
    t->capacity = capacity;
    return true;
}

void edge_text_append(struct edge_text *t, const char *bytes, size_t size)
{
    if (size == 0 || !edge_text_reserve(t, size))
        return;
    memcpy(t->at + t->size, bytes, size);
    t->size += size;
}

void edge_text_str(struct edge_text *t, const char *s)
{
    edge_text_append(t, s, strlen(s));
}

void edge_text_printf(struct edge_text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    /* One more for vsnprintf's NUL, which is not counted. */
    if (size >= 0 && edge_text_reserve(t, (size_t)size + 1)) {
        vsnprintf(t->at + t->size, (size_t)size + 1, format, again);
        t->size += (size_t)size;
    }
    va_end(again);
}

static const char *short_escape(unsigned char c)
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '<':
        return "\\u003c";
    case '>':
        return "\\u003e";
    case '&':
        return "\\u0026";
    default:
        return NULL;
    }
}

/* U+2028 and U+2029 are E2 80 A8 and E2 80 A9. */
static bool is_line_separator(const char *p, const char *end)
{
    return end - p >= 3 && memcmp(p, "\xe2\x80", 2) == 0 && ((unsigned char)p[2] & 0xfe) == 0xa8;
}

void edge_text_escape(struct edge_text *t, const char *bytes, size_t size)
{
    const char *end = bytes + size;
    const char *plain = bytes;
    for (const char *p = bytes; p < end;) {
        unsigned char c = (unsigned char)*p;
        const char *escaped = short_escape(c);
        bool separator = c == 0xe2 && is_line_separator(p, end);
        if (!escaped && !separator && c >= 0x20) {
            p++;
            continue;
        }
        edge_text_append(t, plain, (size_t)(p - plain));
        if (escaped)
            edge_text_str(t, escaped);
        else if (separator)
            edge_text_printf(t, "\\u202%d", (unsigned char)p[2] == 0xa8 ? 8 : 9);
        else
            edge_text_printf(t, "\\u%04x", c);
        p += separator ? 3 : 1;
        plain = p;
    }
    edge_text_append(t, plain, (size_t)(end - plain));
}

void edge_text_base64(struct edge_text *t, const char *bytes, size_t size)
{
    size_t need = 4 * ((size + 2) / 3);
    if (!edge_text_reserve(t, need + 1))
        return;
    EVP_EncodeBlock((unsigned char *)t->at + t->size, (const unsigned char *)bytes, (int)size);
    t->size += need;
}

static void append_time(struct edge_text *t, uint64_t wall_us, bool micro)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[40];
    gmtime_r(&seconds, &tm);
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    edge_text_append(t, text, n);
    if (micro)
        edge_text_printf(t, ".%06u", (unsigned)(wall_us % 1000000));
    edge_text_append(t, "Z", 1);
}

void edge_text_time(struct edge_text *t, uint64_t wall_us)
{
    append_time(t, wall_us, false);
}

void edge_text_micro_time(struct edge_text *t, uint64_t wall_us)
{
    append_time(t, wall_us, true);
}
