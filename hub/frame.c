/* See frame.h. */
#include "hub/frame.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* ---- writing ---- */

void writer_put(struct writer *w, const char *bytes, size_t size)
{
    assert((size_t)(w->end - w->at) >= size); /* the room was computed before */
    memcpy(w->at, bytes, size);
    w->at += size;
}

void writer_text(struct writer *w, const char *text)
{
    writer_put(w, text, strlen(text));
}

void writer_escaped(struct writer *w, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        char escape[8];
        if (c == '"' || c == '\\') {
            writer_put(w, "\\", 1);
            writer_put(w, text + i, 1);
        } else if (c < 0x20) {
            writer_put(w, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", c));
        } else {
            writer_put(w, text + i, 1);
        }
    }
}

/* ---- message ids ---- */

/* Random bytes by the page: a system call for each id would cost more than the rest of an answer.
 */
static const unsigned char *random_bytes(size_t size)
{
    static _Thread_local unsigned char pool[2048];
    static _Thread_local size_t used = sizeof(pool);
    if (used + size > sizeof(pool)) {
        for (size_t got = 0; got < sizeof(pool);) {
            ssize_t n = getrandom(pool + got, sizeof(pool) - got, 0);
            if (n > 0)
                got += (size_t)n;
            else
                assert(errno == EINTR);
        }
        used = 0;
    }
    used += size;
    return pool + used - size;
}

void uuid_make(char to[UUID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char b[16];
    memcpy(b, random_bytes(sizeof(b)), sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = digits[b[i] >> 4];
        *to++ = digits[b[i] & 0x0f];
    }
    *to = '\0';
}

/* ---- envelopes ---- */

void frame_begin(struct writer *w, const struct frame *f, int64_t wall_ms, const char *id)
{
    char number[32];
    writer_text(w, "{\"header\":{\"msg_id\":\"");
    writer_text(w, id);
    if (f->parent.size > 0) {
        writer_text(w, "\",\"parent_msg_id\":\"");
        writer_put(w, f->parent.at, f->parent.size);
    }
    writer_put(w, number,
               (size_t)snprintf(number, sizeof(number), "\",\"timestamp\":%" PRId64, wall_ms));
    if (f->version.size > 0) {
        writer_text(w, ",\"resourceversion\":\"");
        writer_put(w, f->version.at, f->version.size);
        writer_text(w, "\"");
    }
    writer_text(w, "},\"route\":{\"source\":\"");
    writer_text(w, f->source);
    writer_text(w, "\",\"group\":\"resource\",\"operation\":\"");
    writer_text(w, f->operation);
    writer_text(w, "\",\"resource\":\"");
    writer_put(w, f->resource.at, f->resource.size);
    writer_text(w, "\"},\"content\":");
}

void frame_end(struct writer *w)
{
    writer_text(w, "}\n");
}

/* ---- ids of ours that come back ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

uint64_t uuid_key(const char *text, size_t size)
{
    uint64_t key = 0;
    if (size != UUID_BYTES - 1)
        return 0;
    for (size_t i = 0; i < 19; i++) { /* xxxxxxxx-xxxx-xxxx-xxxx: 16 digits */
        if (i == 8 || i == 13 || i == 18)
            continue;
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return 0;
        key = key << 4 | (uint64_t)digit;
    }
    return key;
}
