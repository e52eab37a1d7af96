/* See isthmus/jsonscan.h. One pass, no recursion, no allocation.
 *
 * Strings are most of every body, so their plain bytes are skipped eight at a time; whatever is not
 * plain (quote, backslash, control character, non-ASCII) is found by arithmetic on the word and
 * looked at alone. Brackets are a stack of bits.
 *
 * The skip_ helpers take a position and the end, and return the position behind what they skipped,
 * or NULL if it is not well-formed. They never read at or behind the end: the text need not be
 * NUL-terminated.
 *
 * Held against jansson 2.14 by test/unit/test_jsonscan.c and test/fuzz/fuzz_jsonscan.c. The one
 * known difference: jansson skips a raw NUL byte behind a number or a word, here it is refused as
 * RFC 8259 wants. */
#include "isthmus/jsonscan.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum string_flags { STRING_HAS_ESCAPES = 1, STRING_HAS_NUL = 2 };

/* A text of JSON ends only with its last byte, so that the end can always be told from a byte of
 * it. */
#define NO_BYTE (-1)

static int peek(const char *p, const char *end)
{
    return p < end ? (unsigned char)*p : NO_BYTE;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* ---- strings ---- */

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

/* From behind the opening quote to the closing one, which is where it returns to. */
static const char *skip_string(const char *p, const char *end, unsigned *flags)
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

/* ---- numbers ---- */

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && is_digit((unsigned char)*p))
        p++;
    return p;
}

/* At least one. */
static const char *need_digits(const char *p, const char *end)
{
    const char *behind = skip_digits(p, end);
    return behind > p ? behind : NULL;
}

/* `digits` is an integer without its sign and without leading zeros. */
static bool fits_int64(const char *digits, size_t count, bool is_negative)
{
    static const char max[] = "9223372036854775807", min[] = "9223372036854775808";
    const size_t limit = sizeof(max) - 1;
    if (count != limit)
        return count < limit;
    return memcmp(digits, is_negative ? min : max, limit) <= 0;
}

/* 2^1024 - 2^970: the least value that rounds to infinity instead of DBL_MAX (a tie goes to even,
 * which is infinity). */
static const char least_overflow[] =
    "17976931348623158079372897140530341507993413271003782693617377898044496829276475"
    "09466490179775872070963302864166928879109465555478519404026306574886715058206819"
    "08902000708383676273854845817711531764475730270069855571366959622842914819860834"
    "936475292719074168444365510704342711559699508093042880177904174497792";

/* Compares digits (a '.' among them is passed over) with those of least_overflow, both with the
 * first significant digit in front and of the same magnitude. Needs no locale, no buffer and no
 * rounding, as strtod() would. */
static bool reaches_overflow(const char *p, const char *end)
{
    const char *limit = least_overflow;
    for (; p < end && *limit; p++) {
        if (*p == '.')
            continue;
        if (*p != *limit)
            return *p > *limit;
        limit++;
    }
    return *limit == '\0';
}

/* Far beyond any real exponent, far below where sums of it and a text's length could overflow. */
#define EXPONENT_CAP INT64_C(1000000000000000)

static int64_t read_exponent(const char *p, const char *end)
{
    bool is_negative = *p == '-';
    int64_t value = 0;
    for (p += *p == '-' || *p == '+'; p < end && value < EXPONENT_CAP; p++)
        value = value * 10 + (*p - '0');
    return is_negative ? -value : value;
}

/* The mantissa `at` .. `mantissa_end` is digits, perhaps with a '.', and the exponent, if any,
 * follows behind its 'e'. */
static bool fits_double(const char *at, const char *mantissa_end, const char *end)
{
    int64_t exponent = mantissa_end < end ? read_exponent(mantissa_end + 1, end) : 0;
    const char *point = memchr(at, '.', (size_t)(mantissa_end - at));
    const char *first = at;
    while (first < mantissa_end && (*first == '0' || *first == '.'))
        first++;
    if (first == mantissa_end)
        return true; /* zero, whatever its exponent */
    if (!point)
        point = mantissa_end;
    /* The power of ten of the first significant digit. */
    exponent += first < point ? point - first - 1 : point - first;
    if (exponent != 308)
        return exponent < 308;
    return !reaches_overflow(first, mantissa_end);
}

static const char *skip_number(const char *p, const char *end, enum json_kind *kind)
{
    bool is_negative = *p == '-';
    const char *digits = p + is_negative;
    p = peek(digits, end) == '0' ? digits + 1 : need_digits(digits, end);
    if (!p || is_digit(peek(p, end))) /* the latter behind a leading zero */
        return NULL;
    int next = peek(p, end);
    if (next != '.' && next != 'e' && next != 'E') {
        *kind = JSON_KIND_INTEGER;
        return fits_int64(digits, (size_t)(p - digits), is_negative) ? p : NULL;
    }
    *kind = JSON_KIND_REAL;
    if (next == '.' && !(p = need_digits(p + 1, end)))
        return NULL;
    const char *mantissa_end = p;
    next = peek(p, end);
    if (next == 'e' || next == 'E') {
        next = peek(++p, end);
        if (!(p = need_digits(p + (next == '+' || next == '-'), end)))
            return NULL;
    }
    return fits_double(digits, mantissa_end, p) ? p : NULL;
}

static const char *skip_word(const char *p, const char *end, const char *word, size_t size)
{
    return (size_t)(end - p) >= size && memcmp(p, word, size) == 0 ? p + size : NULL;
}

/* Anything but an array or an object, at p. */
static const char *skip_scalar(const char *p, const char *end, bool accept_nul,
                               struct json_span *value)
{
    unsigned flags = 0;
    value->at = p;
    switch (*p) {
    case '"':
        value->kind = JSON_KIND_STRING;
        value->at = p + 1;
        p = skip_string(p + 1, end, &flags);
        if (!p || ((flags & STRING_HAS_NUL) && !accept_nul))
            return NULL;
        value->size = (size_t)(p - value->at);
        value->has_escapes = flags & STRING_HAS_ESCAPES;
        return p + 1;
    case 't':
        value->kind = JSON_KIND_TRUE;
        p = skip_word(p, end, "true", 4);
        break;
    case 'f':
        value->kind = JSON_KIND_FALSE;
        p = skip_word(p, end, "false", 5);
        break;
    case 'n':
        value->kind = JSON_KIND_NULL;
        p = skip_word(p, end, "null", 4);
        break;
    default:
        p = *p == '-' || is_digit((unsigned char)*p) ? skip_number(p, end, &value->kind) : NULL;
    }
    value->size = p ? (size_t)(p - value->at) : 0;
    return p;
}

/* ---- arrays and objects ---- */

/* The brackets that are open: one bit each, set for an object. */
struct brackets {
    uint64_t is_object[(JSONSCAN_MAX_DEPTH + 63) / 64];
    unsigned count, room;
};

static bool brackets_push(struct brackets *b, bool is_object)
{
    if (b->count == b->room)
        return false;
    uint64_t bit = UINT64_C(1) << (b->count & 63);
    uint64_t *word = &b->is_object[b->count >> 6];
    *word = is_object ? *word | bit : *word & ~bit;
    b->count++;
    return true;
}

static bool brackets_in_object(const struct brackets *b)
{
    unsigned top = b->count - 1;
    return b->is_object[top >> 6] >> (top & 63) & 1;
}

/* A member's key and its colon, from where the quote should be; returns to where the value begins.
 */
static const char *skip_key(const char *p, const char *end, struct json_span *key)
{
    /* A NUL in a key is refused always, as by jansson even with JSON_ALLOW_NUL. */
    if (peek(p, end) != '"' || !(p = skip_scalar(p, end, false, key)))
        return NULL;
    p = skip_space(p, end);
    return peek(p, end) == ':' ? p + 1 : NULL;
}

/* Behind a value: closes brackets and passes a comma, until the next value is due or the outermost
 * bracket is closed. */
static const char *skip_to_next(const char *p, const char *end, struct brackets *open)
{
    struct json_span key;
    while (open->count > 0) {
        p = skip_space(p, end);
        bool in_object = brackets_in_object(open);
        int c = peek(p, end);
        if (c == ',')
            return in_object ? skip_key(skip_space(p + 1, end), end, &key) : p + 1;
        if (c != (in_object ? '}' : ']'))
            return NULL;
        p++;
        open->count--;
    }
    return p;
}

/* Behind an opening bracket: as skip_to_next(), but there may be nothing in the brackets. */
static const char *skip_to_first(const char *p, const char *end, struct brackets *open)
{
    struct json_span key;
    bool in_object = brackets_in_object(open);
    p = skip_space(p, end);
    if (peek(p, end) == (in_object ? '}' : ']')) {
        open->count--;
        return skip_to_next(p + 1, end, open);
    }
    return in_object ? skip_key(p, end, &key) : p;
}

/* At an opening bracket; returns behind the closing one. `depth` brackets are open around it. */
static const char *skip_nested(const char *p, const char *end, unsigned depth, bool accept_nul)
{
    struct brackets open = {.room = JSONSCAN_MAX_DEPTH - depth};
    struct json_span scalar;
    do {
        p = skip_space(p, end);
        int c = peek(p, end);
        if (c == NO_BYTE)
            return NULL;
        if (c == '{' || c == '[')
            p = brackets_push(&open, c == '{') ? skip_to_first(p + 1, end, &open) : NULL;
        else if ((p = skip_scalar(p, end, accept_nul, &scalar)))
            p = skip_to_next(p, end, &open);
    } while (p && open.count > 0);
    return p;
}

/* ---- the interface ---- */

void jsonscan_init(struct jsonscan *s, const char *text, size_t size)
{
    *s = (struct jsonscan){.at = text, .end = text + size};
}

int jsonscan_value(struct jsonscan *s, struct json_span *value)
{
    *value = (struct json_span){0};
    const char *p = skip_space(s->at, s->end);
    int c = peek(p, s->end);
    if (c == NO_BYTE)
        return -EBADMSG;
    if (c == '{' || c == '[') {
        value->kind = c == '{' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
        value->at = p;
        p = skip_nested(p, s->end, s->depth, s->accept_nul);
        value->size = p ? (size_t)(p - value->at) : 0;
    } else
        p = skip_scalar(p, s->end, s->accept_nul, value);
    if (!p)
        return -EBADMSG;
    s->at = p;
    return 0;
}

int jsonscan_end(struct jsonscan *s)
{
    s->at = skip_space(s->at, s->end);
    return s->at == s->end ? 0 : -EBADMSG;
}

static int enter(struct jsonscan *s, char bracket)
{
    s->at = skip_space(s->at, s->end);
    if (peek(s->at, s->end) != bracket || s->depth == JSONSCAN_MAX_DEPTH)
        return -EBADMSG;
    s->at++;
    s->depth++;
    s->is_at_start = true;
    return 0;
}

/* 1: a member or element is due; 0: the bracket was closed. */
static int next(struct jsonscan *s, char bracket)
{
    bool is_first = s->is_at_start;
    s->is_at_start = false;
    s->at = skip_space(s->at, s->end);
    int c = peek(s->at, s->end);
    if (c == bracket) {
        s->at++;
        s->depth--;
        return 0;
    }
    if (is_first)
        return 1;
    if (c != ',')
        return -EBADMSG;
    s->at++;
    return 1;
}

int jsonscan_enter_object(struct jsonscan *s)
{
    return enter(s, '{');
}

int jsonscan_next_member(struct jsonscan *s, struct json_span *key)
{
    *key = (struct json_span){0};
    int rc = next(s, '}');
    if (rc != 1)
        return rc;
    const char *p = skip_key(skip_space(s->at, s->end), s->end, key);
    if (!p)
        return -EBADMSG;
    s->at = p;
    return 1;
}

int jsonscan_enter_array(struct jsonscan *s)
{
    return enter(s, '[');
}

int jsonscan_next_element(struct jsonscan *s)
{
    return next(s, ']');
}

/* ---- reading values ---- */

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

int jsonscan_integer(const struct json_span *s, int64_t *value)
{
    *value = 0;
    if (s->kind != JSON_KIND_INTEGER)
        return -EINVAL;
    bool is_negative = s->size > 0 && *s->at == '-';
    uint64_t magnitude = 0;
    for (size_t i = is_negative; i < s->size; i++)
        magnitude = magnitude * 10 + (uint64_t)(s->at[i] - '0');
    *value = (int64_t)(is_negative ? 0 - magnitude : magnitude);
    return 0;
}

/* One step of the path: the member `name` of the object in `text`, which is walked to its end. */
static int find_member(const char *text, size_t size, unsigned depth, const char *name,
                       struct json_span *value)
{
    struct jsonscan s;
    struct json_span key, member;
    bool is_found = false;
    jsonscan_init(&s, text, size);
    s.accept_nul = true;
    s.depth = depth;
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1) {
        rc = jsonscan_value(&s, &member);
        if (rc != 0 || !jsonscan_equals(&key, name))
            continue;
        if (is_found)
            return -EBADMSG;
        is_found = true;
        *value = member;
    }
    if (rc != 0 || jsonscan_end(&s) != 0)
        return -EBADMSG;
    return is_found ? 0 : -ENOENT;
}

int jsonscan_find(const char *text, size_t size, const char *const *path, struct json_span *value)
{
    struct json_span inner = {.at = text, .size = size, .kind = JSON_KIND_OBJECT};
    *value = (struct json_span){0};
    for (unsigned depth = 0; path[depth]; depth++) {
        if (depth > 0 && inner.kind != JSON_KIND_OBJECT)
            return -ENOENT;
        struct json_span outer = inner;
        int rc = find_member(outer.at, outer.size, depth, path[depth], &inner);
        if (rc != 0)
            return rc;
    }
    *value = inner;
    return 0;
}
