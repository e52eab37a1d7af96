/* See isthmus/jsonscan.h. One pass, no recursion, no allocation; brackets are a stack of bits.
 *
 * Held against jansson 2.14 by test/unit/test_jsonscan.c and test/fuzz/fuzz_jsonscan.c. The one
 * known difference: jansson skips a raw NUL byte behind a number or a word, here it is refused as
 * RFC 8259 wants. */
#include "base/jsonscan_parts.h"

#include <errno.h>
#include <string.h>

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
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
        p = jsonscan_skip_string(p + 1, end, &flags);
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
        p = *p == '-' || is_digit((unsigned char)*p) ? jsonscan_skip_number(p, end, &value->kind)
                                                     : NULL;
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
