/* See jsonref.h. */
#include "test/lib/jsonref.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Of a valid text. Not from jansson's tree, in which a key that came twice hides what it stood for
 * at first. */
static unsigned depth_of(const char *text, size_t size)
{
    unsigned depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (!in_string && (text[i] == '[' || text[i] == '{'))
            deepest = ++depth > deepest ? depth : deepest;
        else if (!in_string && (text[i] == ']' || text[i] == '}'))
            depth--;
    }
    return deepest;
}

/* NULL where the scanner must refuse. */
static json_t *load(const char *text, size_t size, size_t flags)
{
    /* jansson passes over a raw NUL behind a number or a word. */
    if (memchr(text, '\0', size))
        return NULL;
    json_t *value = json_loadb(text, size, flags | JSON_DECODE_ANY, NULL);
    if (value && depth_of(text, size) > JSONSCAN_MAX_DEPTH) {
        json_decref(value);
        return NULL;
    }
    return value;
}

bool jsonref_accepts(const char *text, size_t size, bool accept_nul)
{
    json_t *value = load(text, size, accept_nul ? JSON_ALLOW_NUL : 0);
    json_decref(value);
    return value != NULL;
}

/* ---- values ---- */

static bool same_text(const struct json_span *span, const char *text, size_t size)
{
    char *plain = malloc(span->size + 1);
    assert(plain);
    size_t plain_size = jsonscan_unescape(span, plain);
    bool same = plain_size == size && memcmp(plain, text, size) == 0;
    free(plain);
    if (same && !memchr(text, '\0', size))
        same = jsonscan_equals(span, text);
    return same && (span->has_escapes || span->size == size);
}

static bool same_scalar(const struct json_span *span, const json_t *value)
{
    int64_t integer;
    switch (span->kind) {
    case JSON_KIND_NULL:
        return json_is_null(value);
    case JSON_KIND_FALSE:
        return json_is_false(value);
    case JSON_KIND_TRUE:
        return json_is_true(value);
    case JSON_KIND_INTEGER:
        return json_is_integer(value) && jsonscan_integer(span, &integer) == 0 &&
               integer == json_integer_value(value);
    case JSON_KIND_REAL:
        return json_is_real(value);
    case JSON_KIND_STRING:
        return json_is_string(value) &&
               same_text(span, json_string_value(value), json_string_length(value));
    default:
        return false;
    }
}

/* Walks one value with the step functions, beside jansson's tree of it. An object's members can be
 * compared one by one only where no key comes twice: jansson keeps the last. */
static const char *walk(struct jsonscan *s, const json_t *value)
{
    struct json_span span;
    int rc;
    if (json_is_object(value)) {
        size_t count = 0;
        if (jsonscan_enter_object(s) != 0)
            return "an object was not entered";
        while ((rc = jsonscan_next_member(s, &span)) == 1) {
            char *key = malloc(span.size + 1);
            assert(key);
            size_t size = jsonscan_unescape(&span, key);
            json_t *member = json_object_getn(value, key, size);
            free(key);
            const char *wrong = member ? walk(s, member) : "a key is not jansson's";
            if (wrong)
                return wrong;
            count++;
        }
        return rc == 0 && count == json_object_size(value) ? NULL : "another number of members";
    }
    if (json_is_array(value)) {
        size_t count = 0;
        if (jsonscan_enter_array(s) != 0)
            return "an array was not entered";
        while ((rc = jsonscan_next_element(s)) == 1) {
            const char *wrong = walk(s, json_array_get(value, count++));
            if (wrong)
                return wrong;
        }
        return rc == 0 && count == json_array_size(value) ? NULL : "another number of elements";
    }
    if (jsonscan_value(s, &span) != 0)
        return "a scalar was not scanned by steps";
    return same_scalar(&span, value) ? NULL : "a scalar differs";
}

static const char *check_walk(const char *text, size_t size, bool accept_nul)
{
    struct jsonscan s;
    size_t flags = JSON_REJECT_DUPLICATES | (accept_nul ? JSON_ALLOW_NUL : 0);
    json_t *value = load(text, size, flags);
    if (!value)
        return NULL; /* keys that come twice */
    jsonscan_init(&s, text, size);
    s.accept_nul = accept_nul;
    const char *wrong = walk(&s, value);
    if (!wrong && jsonscan_end(&s) != 0)
        wrong = "the walk did not come to the end";
    json_decref(value);
    return wrong;
}

static const char *check_with(const char *text, size_t size, bool accept_nul)
{
    struct jsonscan s;
    struct json_span span;
    jsonscan_init(&s, text, size);
    s.accept_nul = accept_nul;
    bool accepted = jsonscan_value(&s, &span) == 0 && jsonscan_end(&s) == 0;
    bool expected = jsonref_accepts(text, size, accept_nul);
    if (accepted != expected)
        return expected ? "refused what jansson accepts" : "accepted what jansson refuses";
    if (!accepted)
        return NULL;
    if (span.kind != JSON_KIND_STRING && !jsonref_accepts(span.at, span.size, accept_nul))
        return "the span is not the value";
    return check_walk(text, size, accept_nul);
}

const char *jsonref_check_value(const char *text, size_t size)
{
    const char *wrong = check_with(text, size, false);
    return wrong ? wrong : check_with(text, size, true);
}

/* ---- envelopes ---- */

/* By loading the text once more, strictly and without the content. */
static bool has_nul_outside_content(const char *text, size_t size)
{
    static const char *const path[] = {"content", NULL};
    struct json_span content;
    char *rest = malloc(size);
    assert(rest);
    memcpy(rest, text, size);
    if (jsonscan_find(text, size, path, &content) == 0) {
        size_t quote = content.kind == JSON_KIND_STRING;
        char *at = rest + (content.at - text) - quote;
        memset(at, ' ', content.size + 2 * quote);
        *at = '0';
    }
    json_t *strict = json_loadb(rest, size, 0, NULL);
    free(rest);
    json_decref(strict);
    return !strict;
}

static bool is_absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static bool is_text(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return is_absent(value) || json_is_string(value);
}

static bool has_right_types(const json_t *header, const json_t *route)
{
    static const char *const header_texts[] = {"msg_id", "parent_msg_id", "resourceversion", "type",
                                               NULL};
    static const char *const route_texts[] = {"source",    "destination", "group",
                                              "operation", "resource",    NULL};
    const json_t *timestamp = json_object_get(header, "timestamp"),
                 *sync = json_object_get(header, "sync");
    if (!json_is_object(header) || !(is_absent(route) || json_is_object(route)))
        return false;
    for (const char *const *key = header_texts; *key; key++)
        if (!is_text(header, *key))
            return false;
    for (const char *const *key = route_texts; *key; key++)
        if (!is_text(route, *key))
            return false;
    return (is_absent(timestamp) || json_is_integer(timestamp)) &&
           (is_absent(sync) || json_is_boolean(sync));
}

static size_t count_members(const struct json_span *object)
{
    struct jsonscan s;
    struct json_span span;
    size_t count = 0;
    int rc;
    jsonscan_init(&s, object->at, object->size);
    s.accept_nul = true;
    rc = jsonscan_enter_object(&s);
    while (rc == 0 && jsonscan_next_member(&s, &span) == 1) {
        count++;
        rc = jsonscan_value(&s, &span);
    }
    return count;
}

/* By counting: what jansson kept is less than what stands there. */
static bool has_duplicates(const char *text, size_t size, const json_t *envelope)
{
    static const char *const names[] = {"header", "route"};
    struct json_span whole = {.at = text, .size = size}, part;
    if (count_members(&whole) != json_object_size(envelope))
        return true;
    for (int i = 0; i < 2; i++) {
        const char *path[] = {names[i], NULL};
        const json_t *member = json_object_get(envelope, names[i]);
        if (json_is_object(member) && (jsonscan_find(text, size, path, &part) != 0 ||
                                       count_members(&part) != json_object_size(member)))
            return true;
    }
    return false;
}

static bool is_envelope(const char *text, size_t size, const json_t *j)
{
    return json_is_object(j) &&
           has_right_types(json_object_get(j, "header"), json_object_get(j, "route")) &&
           !has_duplicates(text, size, j) && !has_nul_outside_content(text, size);
}

static bool same_field(const struct json_span *field, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (is_absent(value))
        return field->size == 0;
    return same_text(field, json_string_value(value), json_string_length(value));
}

static bool same_content(const struct json_span *content, const json_t *value)
{
    if (is_absent(value))
        return content->kind == JSON_KIND_NULL;
    if (json_is_string(value) || !(json_is_object(value) || json_is_array(value)))
        return same_scalar(content, value);
    json_t *again = json_loadb(content->at, content->size, JSON_ALLOW_NUL, NULL);
    bool same = json_equal(again, value);
    json_decref(again);
    return same;
}

static const char *compare(const struct envelope *e, const json_t *j)
{
    const json_t *header = json_object_get(j, "header"), *route = json_object_get(j, "route");
    if (!same_field(&e->msg_id, header, "msg_id") ||
        !same_field(&e->parent_msg_id, header, "parent_msg_id") ||
        !same_field(&e->resource_version, header, "resourceversion") ||
        !same_field(&e->type, header, "type"))
        return "a text of the header differs";
    if (e->timestamp != json_integer_value(json_object_get(header, "timestamp")))
        return "the timestamp differs";
    if (e->sync != json_is_true(json_object_get(header, "sync")))
        return "sync differs";
    if (!same_field(&e->source, route, "source") ||
        !same_field(&e->destination, route, "destination") ||
        !same_field(&e->group, route, "group") || !same_field(&e->operation, route, "operation") ||
        !same_field(&e->resource, route, "resource"))
        return "a text of the route differs";
    return same_content(&e->content, json_object_get(j, "content")) ? NULL : "the content differs";
}

/* The limits are ours alone; that they are asked at the right place is for the unit test. */
static bool is_limit(int rc)
{
    return rc == -ENVELOPE_TOO_LONG || rc == -ENVELOPE_TOO_MANY_KEYS;
}

const char *jsonref_check_envelope(const char *text, size_t size, int *rc)
{
    struct envelope e;
    const char *wrong = NULL;
    *rc = envelope_scan(text, size, &e);
    json_t *j = load(text, size, JSON_ALLOW_NUL);
    bool expected = j && is_envelope(text, size, j);
    if (*rc == 0 && !expected)
        wrong = "accepted what jansson refuses";
    else if (*rc != 0 && expected && !is_limit(*rc))
        wrong = "refused what jansson accepts";
    else if (is_limit(*rc) && size <= ENVELOPE_MAX_UNKNOWN_KEYS * 5)
        wrong = "no limit can be reached in so few bytes";
    else if (*rc == 0)
        wrong = compare(&e, j);
    json_decref(j);
    return wrong;
}
