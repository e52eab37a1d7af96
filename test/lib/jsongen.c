/* See jsongen.h. */
#include "test/lib/jsongen.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t prng_next(struct prng *p)
{
    p->state ^= p->state >> 12;
    p->state ^= p->state << 25;
    p->state ^= p->state >> 27;
    return (uint32_t)((p->state * UINT64_C(2685821657736338717)) >> 32);
}

uint32_t prng_below(struct prng *p, uint32_t limit)
{
    return prng_next(p) % limit;
}

static bool one_in(struct jsongen *g, uint32_t n)
{
    return prng_below(g->prng, n) == 0;
}

static void put_bytes(struct jsongen *g, const char *bytes, size_t size)
{
    if (g->room - g->size < size)
        return;
    memcpy(g->to + g->size, bytes, size);
    g->size += size;
}

static void put(struct jsongen *g, const char *text)
{
    put_bytes(g, text, strlen(text));
}

#define PICK(g, list) list[prng_below((g)->prng, sizeof(list) / sizeof(*list))]

static void put_space(struct jsongen *g)
{
    static const char *const spaces[] = {" ", "\n", "\t", "\r", "  \r\n"};
    if (one_in(g, 6))
        put(g, PICK(g, spaces));
}

static const char *const text_pieces[] = {"a",
                                          "edge-node-1",
                                          "0123456789",
                                          "a longer piece without anything special in it ",
                                          "\\n",
                                          "\\\"",
                                          "\\\\",
                                          "\\/",
                                          "\\t",
                                          "\\b",
                                          "\\f",
                                          "\\r",
                                          "\\u0041",
                                          "\\u003c",
                                          "\\u2028",
                                          "\\ud83d\\ude00",
                                          "\\uDBFF\\uDFFF",
                                          "\\u007f",
                                          "\xc3\xa9",
                                          "\xe4\xb8\x96",
                                          "\xf0\x9f\x98\x80",
                                          "\xf4\x8f\xbf\xbf",
                                          "\xed\x9f\xbf",
                                          "\xee\x80\x80",
                                          "\x7f",
                                          "{",
                                          "}",
                                          "[",
                                          ",",
                                          ":",
                                          "%",
                                          "..",
                                          "/"};

/* What jansson refuses inside a string. */
static const char *const bad_pieces[] = {"\\u0000",
                                         "\\ud800",
                                         "\\udc00",
                                         "\\ud800\\u0041",
                                         "\\u12",
                                         "\\x",
                                         "\n",
                                         "\x01",
                                         "\x80",
                                         "\xc0\xaf",
                                         "\xc3",
                                         "\xe0\x80\x80",
                                         "\xed\xa0\x80",
                                         "\xf0\x80\x80\x80",
                                         "\xf4\x90\x80\x80",
                                         "\xf8\x88",
                                         "\xff"};

static void put_string(struct jsongen *g)
{
    put(g, "\"");
    for (uint32_t i = prng_below(g->prng, 6); i > 0; i--)
        put(g, one_in(g, 400) ? PICK(g, bad_pieces) : PICK(g, text_pieces));
    put(g, "\"");
}

static void put_digits(struct jsongen *g, uint32_t count)
{
    for (; count > 0; count--)
        put_bytes(g, &"0123456789"[prng_below(g->prng, 10)], 1);
}

static void put_made_number(struct jsongen *g)
{
    if (one_in(g, 3))
        put(g, "-");
    if (one_in(g, 4))
        put(g, "0");
    else {
        put_bytes(g, &"123456789"[prng_below(g->prng, 9)], 1);
        put_digits(g, prng_below(g->prng, one_in(g, 4) ? 22 : 5));
    }
    if (one_in(g, 3)) {
        put(g, ".");
        put_digits(g, 1 + prng_below(g->prng, 12));
    }
    if (one_in(g, 4)) {
        put(g, one_in(g, 2) ? "e" : "E");
        put(g, one_in(g, 3) ? "-" : one_in(g, 3) ? "+" : "");
        put_digits(g, 1 + prng_below(g->prng, 3));
    }
}

static void put_number(struct jsongen *g)
{
    static const char *const corners[] = {"0",
                                          "-0",
                                          "-0.0",
                                          "1e308",
                                          "1.7976931348623157e308",
                                          "1.7976931348623158e308",
                                          "1.7976931348623159e308",
                                          "-1.797693134862315807e308",
                                          "-1.797693134862315808e308",
                                          "17976931348623158e292",
                                          "0.00017976931348623159e312",
                                          "1e309",
                                          "1e-400",
                                          "0e99999999999999999999",
                                          "1e99999999999999999999",
                                          "1e-99999999999999999999",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "-9223372036854775808",
                                          "-9223372036854775809",
                                          "01",
                                          "-",
                                          "1.",
                                          ".5",
                                          "1e",
                                          "1e+",
                                          "+1",
                                          "00"};
    if (one_in(g, 5))
        put(g, PICK(g, corners));
    else
        put_made_number(g);
}

static void put_scalar(struct jsongen *g)
{
    static const char *const words[] = {"null", "true", "false"};
    switch (prng_below(g->prng, 4)) {
    case 0:
        put(g, one_in(g, 200) ? "nul" : PICK(g, words));
        break;
    case 1:
        put_number(g);
        break;
    default:
        put_string(g);
    }
}

static void put_nested(struct jsongen *g, unsigned depth, bool is_object)
{
    put(g, is_object ? "{" : "[");
    for (uint32_t left = prng_below(g->prng, 5); left > 0; left--) {
        put_space(g);
        if (is_object) {
            put_string(g);
            put_space(g);
            put(g, ":");
        }
        jsongen_value(g, depth - 1);
        if (left > 1 || one_in(g, 500))
            put(g, ",");
    }
    put_space(g);
    put(g, is_object ? "}" : "]");
}

void jsongen_value(struct jsongen *g, unsigned depth)
{
    put_space(g);
    /* Stops when the room ends, so that what is there stays closed. */
    if (depth == 0 || g->room - g->size < 1000 || one_in(g, 3))
        put_scalar(g);
    else
        put_nested(g, depth, one_in(g, 2));
    put_space(g);
}

/* ---- messages ---- */

static void put_deep(struct jsongen *g)
{
    uint32_t depth = 120 + prng_below(g->prng, 12);
    for (uint32_t i = 0; i < depth; i++)
        put(g, "[");
    for (uint32_t i = 0; i < depth; i++)
        put(g, "]");
}

static void put_content(struct jsongen *g)
{
    static const char *const usual[] = {"null",
                                        "\"OK\"",
                                        "\"ping\"",
                                        "\"\"",
                                        "\"{\\\"status\\\":{}}\"",
                                        "\"eyJzdGF0dXMiOnt9fQ==\"",
                                        "\"with a \\u0000 in it\"",
                                        "{\"a\":1,\"a\":2}",
                                        "{\"metadata\":{\"name\":\"x\"}}"};
    if (one_in(g, 40))
        put_deep(g);
    else if (one_in(g, 2))
        put(g, PICK(g, usual));
    else
        jsongen_value(g, 4);
}

static const char *const header_keys[] = {"msg_id",          "parent_msg_id", "timestamp",
                                          "resourceversion", "sync",          "type"};
static const char *const route_keys[] = {"source", "destination", "group", "operation", "resource"};

static void put_key(struct jsongen *g, const char *key)
{
    put_space(g);
    put(g, "\"");
    for (; *key; key++) {
        char escape[16];
        snprintf(escape, sizeof(escape), "\\u%04x", (unsigned char)*key & 0x7Fu);
        if (one_in(g, 200))
            put(g, escape);
        else
            put_bytes(g, key, 1);
    }
    put(g, "\"");
    put_space(g);
    put(g, ":");
    put_space(g);
}

static void put_field_value(struct jsongen *g, const char *key)
{
    static const char *const words[] = {"\"edged\"",
                                        "\"meta\"",
                                        "\"query\"",
                                        "\"update\"",
                                        "\"default/pod/web-0\"",
                                        "\"null/node/n\"",
                                        "\"00000000-0000-4000-8000-000000000002\"",
                                        "\"\"",
                                        "\"\\u0061\"",
                                        "\"keepalive\""};
    if (one_in(g, 60))
        jsongen_value(g, 2);
    else if (strcmp(key, "timestamp") == 0)
        put(g, one_in(g, 50) ? "1.5" : "1700000000002");
    else if (strcmp(key, "sync") == 0)
        put(g, one_in(g, 2) ? "true" : "false");
    else if (one_in(g, 20))
        put_string(g);
    else
        put(g, PICK(g, words));
}

static void put_fields(struct jsongen *g, const char *const *keys, uint32_t count)
{
    if (one_in(g, 100)) {
        jsongen_value(g, 1);
        return;
    }
    put(g, "{");
    uint32_t first = prng_below(g->prng, count),
             many = one_in(g, 100) ? 25 : prng_below(g->prng, count + 1);
    for (uint32_t i = 0; i < many; i++) {
        char unknown[16];
        snprintf(unknown, sizeof(unknown), "x%u", prng_below(g->prng, 40));
        /* In turn, so that one comes twice only when more are put than there are, or by chance. */
        const char *key = keys[(one_in(g, 100) ? prng_next(g->prng) : first + i) % count];
        put_key(g, one_in(g, 20) || many > count ? unknown : key);
        put_field_value(g, key);
        if (i + 1 < many)
            put(g, ",");
    }
    put(g, "}");
}

void jsongen_envelope(struct jsongen *g)
{
    static const char *const keys[] = {"header", "route", "content", "other"};
    uint32_t first = prng_below(g->prng, 4), count = one_in(g, 20) ? 2 : one_in(g, 40) ? 5 : 4;
    put(g, "{");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t which = (first + i) % 4;
        put_key(g, keys[which]);
        if (which == 0)
            put_fields(g, header_keys, sizeof(header_keys) / sizeof(*header_keys));
        else if (which == 1)
            put_fields(g, route_keys, sizeof(route_keys) / sizeof(*route_keys));
        else if (which == 2)
            put_content(g);
        else
            jsongen_value(g, 2);
        if (i + 1 < count)
            put(g, ",");
    }
    put(g, one_in(g, 30) ? "} x" : one_in(g, 2) ? "}\n" : "}");
}

/* ---- damage ---- */

static void insert(struct jsongen *g, size_t at, const char *bytes, size_t size)
{
    char piece[64];
    if (size > sizeof(piece) || g->room - g->size < size)
        return;
    memcpy(piece, bytes, size); /* it may come from the text itself */
    memmove(g->to + at + size, g->to + at, g->size - at);
    memcpy(g->to + at, piece, size);
    g->size += size;
}

static void damage(struct jsongen *g)
{
    static const char *const tokens[] = {"{",  "}",    "[", "]",  ",", ":", "\"",
                                         "\\", "null", "-", "e5", ".", "0", "1e400"};
    size_t at = prng_below(g->prng, (uint32_t)g->size), left = g->size - at;
    size_t size = 1 + prng_below(g->prng, 30);
    const char *token = one_in(g, 2) ? PICK(g, tokens) : PICK(g, bad_pieces);
    if (size > left)
        size = left;
    switch (prng_below(g->prng, 5)) {
    case 0:
        g->to[at] = (char)prng_next(g->prng);
        break;
    case 1:
        memmove(g->to + at, g->to + at + size, left - size);
        g->size -= size;
        break;
    case 2:
        insert(g, prng_below(g->prng, (uint32_t)g->size), g->to + at, size);
        break;
    case 3:
        insert(g, at, token, strlen(token));
        break;
    default:
        insert(g, at, PICK(g, text_pieces), 1);
    }
}

void jsongen_mutate(struct jsongen *g)
{
    for (uint32_t i = 1 + prng_below(g->prng, 3); i > 0 && g->size > 0; i--)
        damage(g);
}

long jsongen_rounds(long rounds)
{
    const char *is_long = getenv("ISTHMUS_LONG");
    return is_long && strcmp(is_long, "1") == 0 ? rounds * 20 : rounds;
}

uint64_t jsongen_seed(void)
{
    const char *seed = getenv("ISTHMUS_SEED");
    uint64_t value = seed ? strtoull(seed, NULL, 0) : 0;
    return value ? value : UINT64_C(0x9E3779B97F4A7C15);
}
