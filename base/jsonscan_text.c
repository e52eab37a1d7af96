/* Strings of the JSON scanner: skipping, unescaping, comparing.
 *
 * Strings are most of every body, so their plain bytes are skipped eight at a time; whatever is not
 * plain (quote, backslash, control character, non-ASCII) is found by arithmetic on the word and
 * looked at alone. */
#include "base/jsonscan_parts.h"

#include <endian.h>
#include <string.h>

#define EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* The top bit of a byte is set where that byte is a quote, a backslash, a control character or
 * non-ASCII. Bytes above such a one may be marked too (the subtractions borrow), so only the lowest
 * mark counts. */
static uint64_t special_bytes(uint64_t word)
{
    uint64_t quote = word ^ EACH_BYTE('"');
    uint64_t backslash = word ^ EACH_BYTE('\\');
    uint64_t found = ((quote - EACH_BYTE(1)) & ~quote) | ((backslash - EACH_BYTE(1)) & ~backslash) |
                     ((word - EACH_BYTE(0x20)) & ~word) | word;
    return found & EACH_BYTE(0x80);
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static const char *skip_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        uint64_t special = special_bytes(le64toh(word));
        if (special)
            return p + (__builtin_ctzll(special) >> 3);
        p += 8;
    }
    while (p < end && is_plain((unsigned char)*p))
        p++;
    return p;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* One UTF-8 sequence of two to four bytes (RFC 3629): no overlong forms, no surrogates, nothing
 * above U+10FFFF. */
static const char *skip_utf8(const char *p, const char *end)
{
    unsigned char lead = (unsigned char)p[0];
    ptrdiff_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || end - p < size)
        return NULL;
    for (ptrdiff_t i = 1; i < size; i++)
        if (!is_continuation(p[i]))
            return NULL;
    unsigned char second = (unsigned char)p[1];
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
        return NULL;
    return p + size;
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

/* The four hexadecimal digits at p, or -1. */
static int32_t read_hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static bool is_high_surrogate(int32_t unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool is_low_surrogate(int32_t unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* Behind "\u"; a pair of surrogates is taken whole. `code` gets the code point. */
static const char *read_unicode_escape(const char *p, const char *end, int32_t *code)
{
    int32_t unit = read_hex4(p, end);
    if (unit < 0 || is_low_surrogate(unit))
        return NULL;
    p += 4;
    *code = unit;
    if (!is_high_surrogate(unit))
        return p;
    if (peek(p, end) != '\\' || peek(p + 1, end) != 'u')
        return NULL;
    int32_t low = read_hex4(p + 2, end);
    if (!is_low_surrogate(low))
        return NULL;
    *code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    return p + 6;
}

/* What a backslash and this character stand for; 0 where they stand for nothing. */
static const char simple_escape[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

/* Behind the backslash. */
static const char *skip_escape(const char *p, const char *end, unsigned *flags)
{
    if (p == end)
        return NULL;
    if (simple_escape[(unsigned char)*p])
        return p + 1;
    int32_t code;
    if (*p != 'u' || !(p = read_unicode_escape(p + 1, end, &code)))
        return NULL;
    if (code == 0)
        *flags |= STRING_HAS_NUL;
    return p;
}

const char *jsonscan_skip_string(const char *p, const char *end, unsigned *flags)
{
    while (p && (p = skip_plain(p, end)) < end) {
        if (*p == '"')
            return p;
        if (*p == '\\') {
            *flags |= STRING_HAS_ESCAPES;
            p = skip_escape(p + 1, end, flags);
        } else if ((unsigned char)*p >= 0x80)
            p = skip_utf8(p, end);
        else
            return NULL;
    }
    return NULL;
}

/* ---- reading ---- */

static size_t encode_utf8(int32_t code, char *to)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = size - 1; i > 0; i--, code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3F));
    to[0] = (char)(lead[size] | code);
    return size;
}

/* Decodes the escape whose backslash is at *p, and moves *p behind it. The span was validated when
 * it was scanned. */
static size_t read_escape(const char **p, const char *end, char to[4])
{
    char c = (*p)[1];
    if (c != 'u') {
        *p += 2;
        to[0] = simple_escape[(unsigned char)c];
        return 1;
    }
    int32_t code = 0;
    const char *behind = read_unicode_escape(*p + 2, end, &code);
    *p = behind ? behind : end;
    return encode_utf8(code, to);
}

size_t jsonscan_unescape(const struct json_span *s, char *to)
{
    const char *p = s->at, *end = s->at + s->size;
    char *out = to;
    while (p < end) {
        const char *backslash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((backslash ? backslash : end) - p);
        memmove(out, p, plain);
        out += plain;
        p += plain;
        if (backslash)
            out += read_escape(&p, end, out);
    }
    return (size_t)(out - to);
}

/* The next character's bytes, of a span that is not at its end; moves *p behind it. */
static size_t read_bytes(const char **p, const char *end, char to[4])
{
    if (**p == '\\')
        return read_escape(p, end, to);
    to[0] = *(*p)++;
    return 1;
}

static bool equals_escaped(const struct json_span *s, const char *text, size_t size)
{
    const char *p = s->at, *end = s->at + s->size, *text_end = text + size;
    while (p < end) {
        char bytes[4];
        size_t count = read_bytes(&p, end, bytes);
        if ((size_t)(text_end - text) < count || memcmp(text, bytes, count) != 0)
            return false;
        text += count;
    }
    return text == text_end;
}

bool jsonscan_equals(const struct json_span *s, const char *text)
{
    size_t size = strlen(text);
    if (s->kind != JSON_KIND_STRING)
        return false;
    if (s->has_escapes)
        return equals_escaped(s, text, size);
    return s->size == size && memcmp(s->at, text, size) == 0;
}

/* Characters of one to four bytes, some of them read from escapes: compared byte by byte, refilled
 * as one side runs out. */
static bool same_escaped(const struct json_span *a, const struct json_span *b)
{
    const char *pa = a->at, *pb = b->at, *end_a = a->at + a->size, *end_b = b->at + b->size;
    char bytes_a[4], bytes_b[4];
    size_t count_a = 0, count_b = 0, at_a = 0, at_b = 0;
    for (;;) {
        if (at_a == count_a && pa < end_a) {
            count_a = read_bytes(&pa, end_a, bytes_a);
            at_a = 0;
        }
        if (at_b == count_b && pb < end_b) {
            count_b = read_bytes(&pb, end_b, bytes_b);
            at_b = 0;
        }
        if (at_a == count_a || at_b == count_b)
            return at_a == count_a && at_b == count_b;
        if (bytes_a[at_a++] != bytes_b[at_b++])
            return false;
    }
}

bool jsonscan_same_text(const struct json_span *a, const struct json_span *b)
{
    if (a->kind != JSON_KIND_STRING || b->kind != JSON_KIND_STRING)
        return false;
    if (a->has_escapes || b->has_escapes)
        return same_escaped(a, b);
    return a->size == b->size && memcmp(a->at, b->at, a->size) == 0;
}
