/* A strict one-pass JSON scanner that allocates nothing: it validates, and hands out spans of the text it was given.
 *
 * It accepts what RFC 8259 allows and jansson accepts (UTF-8 checked; lone surrogates and \u0000 refused; integers that do not
 * fit 64 bits and reals that overflow refused), down to JSONSCAN_MAX_DEPTH levels. What must really be looked into
 * goes to jansson; this is for the paths where a body only passes through. Pure; any thread.
 *
 * \u0000 in string values (not in keys) is accepted by a scanner whose accept_nul the caller has set after
 * jsonscan_init(), as jansson does with JSON_ALLOW_NUL: the API server stores such texts (what a container printed last, what a
 * probe answered), so a body that only passes through must not be refused for them. */
#ifndef ISTHMUS_JSONSCAN_H
#define ISTHMUS_JSONSCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSONSCAN_MAX_DEPTH 128

enum json_kind { JSON_KIND_NULL, JSON_KIND_FALSE, JSON_KIND_TRUE, JSON_KIND_INTEGER, JSON_KIND_REAL, JSON_KIND_STRING,
                 JSON_KIND_ARRAY, JSON_KIND_OBJECT };

/* A part of the scanned text: borrowed, as long as the text lives. A STRING's span is what stands between the quotes, as it
 * stands there (escapes and all); every other value's span is the value itself. */
struct json_span {
    const char *at;
    size_t size;
    enum json_kind kind;
    bool has_escapes; /* STRING: needs jsonscan_unescape() to be read */
};

struct jsonscan {
    const char *at, *end;
    unsigned depth;
    bool accept_nul;  /* the caller's */
    bool is_at_start; /* just behind an opening bracket */
};

void jsonscan_init(struct jsonscan *s, const char *text, size_t size);

/* Validates and skips one value of any kind, with white space before it. 0 or -EBADMSG (syntax, encoding, depth). */
int jsonscan_value(struct jsonscan *s, struct json_span *value) __attribute__((warn_unused_result));

/* Only white space may be left. 0 or -EBADMSG. */
int jsonscan_end(struct jsonscan *s) __attribute__((warn_unused_result));

/* Walks an object or array member by member:
 *     rc = jsonscan_enter_object(&s);
 *     while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1) { rc = jsonscan_value(&s, &v); ... }
 * next_* return 1 (there is one; for members the key and its colon were read), 0 (the closing bracket was read) or
 * -EBADMSG. The caller reads or skips the value before it asks for the next. */
int jsonscan_enter_object(struct jsonscan *s) __attribute__((warn_unused_result));
int jsonscan_next_member(struct jsonscan *s, struct json_span *key) __attribute__((warn_unused_result));
int jsonscan_enter_array(struct jsonscan *s) __attribute__((warn_unused_result));
int jsonscan_next_element(struct jsonscan *s) __attribute__((warn_unused_result));

/* Compares a STRING span with a text without escapes; a span that has escapes is unescaped on the way. */
bool jsonscan_equals(const struct json_span *s, const char *text);

/* Whether two STRING spans stand for the same text, however each of them is escaped. */
bool jsonscan_same_text(const struct json_span *a, const struct json_span *b);

/* Writes a STRING span's value to `to`, which has room for s->size bytes (it never grows). Returns the bytes written. Not
 * NUL-terminated. `to` may be s->at itself: unescaping in place is fine. */
size_t jsonscan_unescape(const struct json_span *s, char *to);

/* An INTEGER span's value; -ERANGE cannot happen (the scan refused it), -EINVAL for other kinds. */
int jsonscan_integer(const struct json_span *s, int64_t *value) __attribute__((warn_unused_result));

/* Finds a member in an object's span by a path of keys ("metadata", "resourceVersion", NULL). The objects on the path are
 * walked to their ends, so that a key that occurs twice is noticed (-EBADMSG): which of the two somebody else would take is
 * not known. Accepts \u0000. A non-object on the way is -ENOENT. 0, -ENOENT, -EBADMSG. */
int jsonscan_find(const char *text, size_t size, const char *const *path, struct json_span *value)
    __attribute__((warn_unused_result));

#endif
