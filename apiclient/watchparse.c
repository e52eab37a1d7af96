/* See watchparse.h. */
#include "apiclient/watchparse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_text(const struct json_span *v)
{
    return v->kind == JSON_KIND_STRING;
}

/* ObjectMeta; of other kinds of values nothing is taken. */
static int read_metadata(struct jsonscan *s, struct apiwatch_object *object)
{
    struct json_span key, value;
    int rc = jsonscan_enter_object(s);
    while (rc == 0 && (rc = jsonscan_next_member(s, &key)) == 1) {
        rc = jsonscan_value(s, &value);
        if (rc != 0 || !is_text(&value))
            continue;
        if (jsonscan_equals(&key, "resourceVersion"))
            object->resource_version = value;
        else if (jsonscan_equals(&key, "name"))
            object->name = value;
        else if (jsonscan_equals(&key, "namespace"))
            object->namespace_ = value;
        else if (jsonscan_equals(&key, "uid"))
            object->uid = value;
    }
    return rc;
}

int watchparse_object(const char *json, size_t size, struct apiwatch_object *object)
{
    *object = (struct apiwatch_object){.json = json, .size = size};
    struct jsonscan s;
    struct json_span key, value;
    jsonscan_init(&s, json, size);
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1)
        rc = jsonscan_equals(&key, "metadata") ? read_metadata(&s, object)
                                               : jsonscan_value(&s, &value);
    return rc == 0 ? jsonscan_end(&s) : -EBADMSG;
}

static void set_type(struct watchparse_event *event, const struct json_span *type)
{
    static const struct {
        const char *name;
        enum watchparse_kind kind;
        enum apiwatch_event_type type;
    } types[] = {
        {"ADDED", WATCHPARSE_OBJECT, API_WATCH_ADDED},
        {"MODIFIED", WATCHPARSE_OBJECT, API_WATCH_MODIFIED},
        {"DELETED", WATCHPARSE_OBJECT, API_WATCH_DELETED},
        {"BOOKMARK", WATCHPARSE_BOOKMARK, API_WATCH_ADDED},
        {"ERROR", WATCHPARSE_ERROR, API_WATCH_ADDED},
    };
    event->kind = WATCHPARSE_UNKNOWN;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (is_text(type) && jsonscan_equals(type, types[i].name)) {
            event->kind = types[i].kind;
            event->type = types[i].type;
        }
    }
}

int watchparse_event(const char *line, size_t size, struct watchparse_event *event)
{
    *event = (struct watchparse_event){.kind = WATCHPARSE_UNKNOWN};
    struct json_span key, value, object = {0}, code;
    struct jsonscan s;
    jsonscan_init(&s, line, size);
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1) {
        rc = jsonscan_value(&s, &value);
        if (rc == 0 && jsonscan_equals(&key, "type"))
            set_type(event, &value);
        else if (rc == 0 && jsonscan_equals(&key, "object"))
            object = value;
    }
    if (rc == 0)
        rc = jsonscan_end(&s);
    if (rc != 0 || object.kind != JSON_KIND_OBJECT)
        return -EBADMSG;
    rc = watchparse_object(object.at, object.size, &event->object);
    if (rc != 0 || event->kind != WATCHPARSE_ERROR)
        return rc;
    static const char *const path[] = {"code", NULL};
    if (jsonscan_find(object.at, object.size, path, &code) != 0 ||
        jsonscan_integer(&code, &event->code) != 0)
        event->code = 0;
    return 0;
}

/* ---- lists ---- */

static int read_list_metadata(struct jsonscan *s, struct watchparse_list *list)
{
    struct json_span key, value;
    int rc = jsonscan_enter_object(s);
    while (rc == 0 && (rc = jsonscan_next_member(s, &key)) == 1) {
        rc = jsonscan_value(s, &value);
        if (rc != 0 || !is_text(&value))
            continue;
        if (jsonscan_equals(&key, "resourceVersion"))
            list->resource_version = value;
        else if (jsonscan_equals(&key, "continue"))
            list->continue_token = value;
    }
    return rc;
}

static int read_items(struct jsonscan *s,
                      bool (*item)(void *context, const struct apiwatch_object *object),
                      void *context)
{
    struct json_span value;
    struct apiwatch_object object;
    struct jsonscan before = *s;
    if (jsonscan_value(s, &value) != 0)
        return -EBADMSG;
    if (value.kind == JSON_KIND_NULL)
        return 0; /* Go's empty slice */
    *s = before;
    int rc = jsonscan_enter_array(s);
    while (rc == 0 && (rc = jsonscan_next_element(s)) == 1) {
        rc = jsonscan_value(s, &value);
        if (rc == 0)
            rc = watchparse_object(value.at, value.size, &object);
        if (rc == 0 && !item(context, &object))
            return -ECANCELED;
    }
    return rc;
}

int watchparse_list(const char *json, size_t size, struct watchparse_list *list,
                    bool (*item)(void *context, const struct apiwatch_object *object),
                    void *context)
{
    *list = (struct watchparse_list){0};
    struct jsonscan s;
    struct json_span key, value;
    jsonscan_init(&s, json, size);
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1) {
        if (jsonscan_equals(&key, "metadata"))
            rc = read_list_metadata(&s, list);
        else if (jsonscan_equals(&key, "items"))
            rc = read_items(&s, item, context);
        else
            rc = jsonscan_value(&s, &value);
    }
    if (rc == 0)
        rc = jsonscan_end(&s);
    return rc;
}

/* ---- errors ---- */

static void append_member(const char *json, size_t size, const char *key, char *text, size_t room)
{
    const char *const path[] = {key, NULL};
    struct json_span value;
    size_t used = strlen(text);
    if (jsonscan_find(json, size, path, &value) != 0 || !is_text(&value) || value.size == 0)
        return;
    char *clear = malloc(value.size);
    if (!clear)
        return;
    size_t clear_size = jsonscan_unescape(&value, clear);
    snprintf(text + used, room - used, "%s%.*s", used ? ": " : "", (int)clear_size, clear);
    free(clear);
}

void watchparse_status_text(const char *json, size_t size, char *text, size_t room)
{
    text[0] = '\0';
    append_member(json, size, "reason", text, room);
    append_member(json, size, "message", text, room);
}
