/* See envelope.h. Each of the three objects has a table of its fields; one walker serves them all.
 * A key is looked up by comparing lengths first, so that finding it costs less than scanning it. */
#include "hub/envelope.h"

#include <errno.h>
#include <string.h>

#define ENVELOPE_NAME(id, text) text,
const char *const envelope_error_names[ENVELOPE_ERROR_COUNT] = {"ok",
                                                                ENVELOPE_ERRORS(ENVELOPE_NAME)};
#undef ENVELOPE_NAME

enum field_type { FIELD_TEXT, FIELD_INTEGER, FIELD_BOOL, FIELD_CONTENT, FIELD_HEADER, FIELD_ROUTE };

struct field {
    const char *key;
    size_t key_size;
    enum field_type type;
    size_t offset;   /* in struct envelope */
    size_t max_size; /* of a text */
};

#define FIELD(key, type, member, max)                                                              \
    {                                                                                              \
        key, sizeof(key) - 1, type, offsetof(struct envelope, member), max                         \
    }
#define TEXT(key, member, max) FIELD(key, FIELD_TEXT, member, max)

#define HEADER_NUMBER 0 /* in envelope_fields */

static const struct field envelope_fields[] = {
    FIELD("header", FIELD_HEADER, msg_id, 0),
    FIELD("route", FIELD_ROUTE, source, 0),
    FIELD("content", FIELD_CONTENT, content, 0),
    {0},
};

static const struct field header_fields[] = {
    TEXT("msg_id", msg_id, ENVELOPE_MAX_ID),
    TEXT("parent_msg_id", parent_msg_id, ENVELOPE_MAX_ID),
    FIELD("timestamp", FIELD_INTEGER, timestamp, 0),
    TEXT("resourceversion", resource_version, ENVELOPE_MAX_WORD),
    FIELD("sync", FIELD_BOOL, sync, 0),
    TEXT("type", type, ENVELOPE_MAX_WORD),
    {0},
};

static const struct field route_fields[] = {
    TEXT("source", source, ENVELOPE_MAX_WORD),
    TEXT("destination", destination, ENVELOPE_MAX_WORD),
    TEXT("group", group, ENVELOPE_MAX_WORD),
    TEXT("operation", operation, ENVELOPE_MAX_WORD),
    TEXT("resource", resource, ENVELOPE_MAX_RESOURCE),
    {0},
};

/* Which keys an object has had so far. */
struct seen {
    unsigned known; /* a bit for each field of the table */
    unsigned unknown_count;
    struct json_span unknown[ENVELOPE_MAX_UNKNOWN_KEYS];
};

/* The field's number in its table, or -1. */
static int find_field(const struct field *fields, const struct json_span *key)
{
    for (int i = 0; fields[i].key; i++) {
        const struct field *f = &fields[i];
        if (key->has_escapes ? jsonscan_equals(key, f->key)
                             : key->size == f->key_size && memcmp(key->at, f->key, key->size) == 0)
            return i;
    }
    return -1;
}

static int note_unknown(struct seen *seen, const struct json_span *key)
{
    for (unsigned i = 0; i < seen->unknown_count; i++)
        if (jsonscan_same_text(&seen->unknown[i], key))
            return -ENVELOPE_DUPLICATE_KEY;
    if (seen->unknown_count == ENVELOPE_MAX_UNKNOWN_KEYS)
        return -ENVELOPE_TOO_MANY_KEYS;
    seen->unknown[seen->unknown_count++] = *key;
    return 0;
}

static int note_known(struct seen *seen, int number)
{
    if (seen->known & 1u << number)
        return -ENVELOPE_DUPLICATE_KEY;
    seen->known |= 1u << number;
    return 0;
}

static int read_text(const struct field *f, const struct json_span *value, struct json_span *to)
{
    if (value->kind == JSON_KIND_NULL)
        return 0;
    if (value->kind != JSON_KIND_STRING)
        return -ENVELOPE_WRONG_TYPE;
    if (value->size > f->max_size)
        return -ENVELOPE_TOO_LONG;
    *to = *value;
    return 0;
}

static int read_integer(const struct json_span *value, int64_t *to)
{
    if (value->kind == JSON_KIND_NULL)
        return 0;
    return jsonscan_integer(value, to) == 0 ? 0 : -ENVELOPE_WRONG_TYPE;
}

static int read_bool(const struct json_span *value, bool *to)
{
    if (value->kind != JSON_KIND_TRUE && value->kind != JSON_KIND_FALSE &&
        value->kind != JSON_KIND_NULL)
        return -ENVELOPE_WRONG_TYPE;
    *to = value->kind == JSON_KIND_TRUE;
    return 0;
}

static int read_value(struct jsonscan *s, const struct field *f, struct envelope *e)
{
    struct json_span value;
    void *to = (char *)e + f->offset;
    s->accept_nul = f->type == FIELD_CONTENT;
    int rc = jsonscan_value(s, &value);
    s->accept_nul = false;
    if (rc != 0)
        return -ENVELOPE_NOT_JSON;
    switch (f->type) {
    case FIELD_TEXT:
        return read_text(f, &value, to);
    case FIELD_INTEGER:
        return read_integer(&value, to);
    case FIELD_BOOL:
        return read_bool(&value, to);
    default:
        *(struct json_span *)to = value;
        return 0;
    }
}

static int skip_unknown(struct jsonscan *s, const struct json_span *key, struct seen *seen)
{
    struct json_span value;
    int rc = note_unknown(seen, key);
    if (rc == 0 && jsonscan_value(s, &value) != 0)
        rc = -ENVELOPE_NOT_JSON;
    return rc;
}

static int read_field(struct jsonscan *s, const struct field *f, struct envelope *e);

/* Walks an object behind its opening bracket. `known` gets a bit for each field that was there. */
static int read_members(struct jsonscan *s, const struct field *fields, struct envelope *e,
                        unsigned *known)
{
    struct seen seen = {.known = 0, .unknown_count = 0};
    struct json_span key;
    int rc;
    while ((rc = jsonscan_next_member(s, &key)) == 1) {
        int number = find_field(fields, &key);
        rc = number < 0 ? skip_unknown(s, &key, &seen) : note_known(&seen, number);
        if (rc == 0 && number >= 0)
            rc = read_field(s, &fields[number], e);
        if (rc != 0)
            return rc;
    }
    *known = seen.known;
    return rc == 0 ? 0 : -ENVELOPE_NOT_JSON;
}

/* header or route. Goes no deeper: their own fields are values. */
static int read_nested(struct jsonscan *s, const struct field *f, struct envelope *e)
{
    struct json_span other;
    unsigned known;
    bool is_header = f->type == FIELD_HEADER;
    if (jsonscan_enter_object(s) == 0)
        return read_members(s, is_header ? header_fields : route_fields, e, &known);
    if (jsonscan_value(s, &other) != 0)
        return -ENVELOPE_NOT_JSON;
    return other.kind == JSON_KIND_NULL && !is_header ? 0 : -ENVELOPE_WRONG_TYPE;
}

static int read_field(struct jsonscan *s, const struct field *f, struct envelope *e)
{
    if (f->type == FIELD_HEADER || f->type == FIELD_ROUTE)
        return read_nested(s, f, e);
    return read_value(s, f, e);
}

static int read_not_object(struct jsonscan *s)
{
    struct json_span value;
    return jsonscan_value(s, &value) == 0 ? -ENVELOPE_NOT_OBJECT : -ENVELOPE_NOT_JSON;
}

int envelope_scan(const char *text, size_t size, struct envelope *e)
{
    struct jsonscan s;
    unsigned known = 0;
    *e = (struct envelope){.timestamp = 0};
    jsonscan_init(&s, text, size);
    if (jsonscan_enter_object(&s) != 0)
        return read_not_object(&s);
    int rc = read_members(&s, envelope_fields, e, &known);
    if (rc != 0)
        return rc;
    if (jsonscan_end(&s) != 0)
        return -ENVELOPE_NOT_JSON;
    return known & 1u << HEADER_NUMBER ? 0 : -ENVELOPE_NO_HEADER;
}

const char *envelope_error_name(int rc)
{
    bool is_known = rc <= 0 && rc > -ENVELOPE_ERROR_COUNT;
    return is_known ? envelope_error_names[-rc] : "unknown";
}

int envelope_text(const struct json_span *field, char *to, size_t room)
{
    /* Room for the raw size is asked for even where the value is shorter: who gives less has a
     * limit of his own. */
    if (field->size >= room)
        return -ENOBUFS;
    size_t size = field->has_escapes ? jsonscan_unescape(field, to) : field->size;
    if (!field->has_escapes && size > 0)
        memcpy(to, field->at, size);
    to[size] = '\0';
    return (int)size;
}
