/* See edge_answer.h. */
#include "test/edgesim/edge_answer.h"

#include <errno.h>
#include <string.h>

struct wanted {
    const char *key;
    struct json_span *value;
};

static int take_member(struct jsonscan *s, const struct json_span *key, const struct wanted *wanted)
{
    struct json_span value;
    int rc = jsonscan_value(s, &value);
    if (rc != 0)
        return rc;
    for (; wanted->key; wanted++) {
        if (jsonscan_equals(key, wanted->key)) {
            *wanted->value = value;
            return 0;
        }
    }
    return 0;
}

static int take_object(const char *text, size_t size, const struct wanted *wanted)
{
    struct jsonscan s;
    struct json_span key;
    jsonscan_init(&s, text, size);
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1)
        rc = take_member(&s, &key, wanted);
    return rc == 0 ? 0 : -EBADMSG;
}

int edge_answer_parse(const char *text, size_t size, struct edge_answer *a)
{
    struct json_span header = {0}, route = {0};
    *a = (struct edge_answer){0};
    const struct wanted top[] = {
        {"header", &header}, {"route", &route}, {"content", &a->content}, {0}};
    const struct wanted in_header[] = {
        {"msg_id", &a->id}, {"parent_msg_id", &a->parent}, {"resourceversion", &a->version}, {0}};
    const struct wanted in_route[] = {{"source", &a->source},
                                      {"group", &a->group},
                                      {"operation", &a->operation},
                                      {"resource", &a->resource},
                                      {0}};
    int rc = take_object(text, size, top);
    if (rc == 0 && header.at)
        rc = take_object(header.at, header.size, in_header);
    if (rc == 0 && route.at)
        rc = take_object(route.at, route.size, in_route);
    return rc;
}

static bool span_is(const struct json_span *s, const char *text)
{
    return s->at && s->size == strlen(text) && memcmp(s->at, text, s->size) == 0;
}

static enum edge_outcome outcome_of_reason(const struct json_span *reason)
{
    static const struct {
        const char *reason;
        enum edge_outcome outcome;
    } reasons[] = {{"NotFound", EDGE_OUTCOME_NOT_FOUND},
                   {"Conflict", EDGE_OUTCOME_CONFLICT},
                   {"AlreadyExists", EDGE_OUTCOME_EXISTS},
                   {"Forbidden", EDGE_OUTCOME_FORBIDDEN}};
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (span_is(reason, reasons[i].reason))
            return reasons[i].outcome;
    }
    return EDGE_OUTCOME_FAILED;
}

enum edge_outcome edge_answer_object(const struct edge_answer *a, struct json_span *object)
{
    static const char *const reason_path[] = {"ErrStatus", "reason", NULL};
    struct json_span err = {0}, reason = {0};
    const struct wanted wanted[] = {{"Object", object}, {"Err", &err}, {0}};
    *object = (struct json_span){0};
    if (a->content.kind != JSON_KIND_OBJECT ||
        take_object(a->content.at, a->content.size, wanted) != 0)
        return EDGE_OUTCOME_FAILED;
    if (err.at && err.kind == JSON_KIND_NULL && object->at && object->kind == JSON_KIND_OBJECT)
        return EDGE_OUTCOME_OK;
    *object = (struct json_span){0};
    if (!err.at || err.kind != JSON_KIND_OBJECT ||
        jsonscan_find(err.at, err.size, reason_path, &reason) != 0)
        return EDGE_OUTCOME_FAILED;
    return outcome_of_reason(&reason);
}

enum edge_outcome edge_answer_plain(const struct edge_answer *a)
{
    static const char *const status_path[] = {"ErrStatus", NULL};
    struct json_span status;
    if (span_is(&a->operation, "error"))
        return EDGE_OUTCOME_FAILED;
    if (a->content.kind == JSON_KIND_STRING)
        return span_is(&a->content, "OK") ? EDGE_OUTCOME_OK : EDGE_OUTCOME_FAILED;
    if (a->content.kind != JSON_KIND_OBJECT || a->content.size <= 2)
        return EDGE_OUTCOME_FAILED;
    return jsonscan_find(a->content.at, a->content.size, status_path, &status) == 0
               ? EDGE_OUTCOME_FAILED
               : EDGE_OUTCOME_OK;
}

uint64_t edge_answer_version(const struct json_span *version)
{
    uint64_t value = 0;
    for (size_t i = 0; version->at && i < version->size; i++) {
        if (version->at[i] < '0' || version->at[i] > '9')
            return 0;
        value = value * 10 + (uint64_t)(version->at[i] - '0');
    }
    return value;
}

struct json_span edge_answer_type(const struct json_span *resource)
{
    struct json_span none = {0}, type = {.kind = JSON_KIND_STRING};
    if (!resource->at)
        return none;
    const char *end = resource->at + resource->size;
    const char *slash = memchr(resource->at, '/', resource->size);
    if (!slash)
        return none;
    type.at = slash + 1;
    const char *stop = memchr(type.at, '/', (size_t)(end - type.at));
    type.size = (size_t)((stop ? stop : end) - type.at);
    return type;
}

static bool condition_says_ready(const struct json_span *condition)
{
    struct json_span type = {0}, status = {0};
    const struct wanted wanted[] = {{"type", &type}, {"status", &status}, {0}};
    if (take_object(condition->at, condition->size, wanted) != 0 || !span_is(&type, "Ready"))
        return true;
    return span_is(&status, "True");
}

bool edge_answer_says_ready(const struct json_span *node)
{
    static const char *const path[] = {"status", "conditions", NULL};
    struct json_span conditions, condition;
    struct jsonscan s;
    if (jsonscan_find(node->at, node->size, path, &conditions) != 0 ||
        conditions.kind != JSON_KIND_ARRAY)
        return true;
    jsonscan_init(&s, conditions.at, conditions.size);
    bool ready = true;
    int rc = jsonscan_enter_array(&s);
    while (rc == 0 && jsonscan_next_element(&s) == 1) {
        rc = jsonscan_value(&s, &condition);
        if (rc == 0 && condition.kind == JSON_KIND_OBJECT)
            ready = ready && condition_says_ready(&condition);
    }
    return ready;
}
