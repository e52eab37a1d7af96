/* fuzz-sources: apiclient/watchparse.c base/jsonscan.c base/jsonscan_text.c base/jsonscan_number.c
 */
/* Any bytes as what an API server lists and watches: what is accepted is JSON to jansson as well,
 * spans lie inside the text and are what jansson reads there, and a list's items are counted the
 * same. */
#include "apiclient/watchparse.h"

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void check_inside(const char *text, size_t size, const struct json_span *span)
{
    if (span->size > 0)
        require(span->at >= text && span->at + span->size <= text + size, "a span from outside");
}

/* With duplicate keys either of the two may be taken, so those are not compared. */
static void check_text(json_t *map, const char *key, const struct json_span *span)
{
    json_t *value = json_object_get(map, key);
    char *plain = malloc(span->size + 1);
    require(plain != NULL, "no memory");
    size_t size = span->size ? jsonscan_unescape(span, plain) : 0;
    require(size == (json_is_string(value) ? json_string_length(value) : 0) &&
                (size == 0 || memcmp(plain, json_string_value(value), size) == 0),
            "not the text that stands there");
    free(plain);
}

static void check_object(const char *text, size_t size, const struct apiwatch_object *object)
{
    require(object->json >= text && object->json + object->size <= text + size,
            "an object from outside");
    check_inside(text, size, &object->resource_version);
    check_inside(text, size, &object->name);
    check_inside(text, size, &object->namespace_);
    check_inside(text, size, &object->uid);
    json_t *root = json_loadb(object->json, object->size, JSON_REJECT_DUPLICATES, NULL);
    json_t *metadata = json_object_get(root, "metadata");
    if (root) {
        check_text(metadata, "resourceVersion", &object->resource_version);
        check_text(metadata, "name", &object->name);
        check_text(metadata, "namespace", &object->namespace_);
        check_text(metadata, "uid", &object->uid);
    }
    json_decref(root);
}

static void check_event(const char *text, size_t size)
{
    struct watchparse_event event;
    int rc = watchparse_event(text, size, &event);
    require(rc == 0 || rc == -EBADMSG, "an unknown error");
    if (rc == 0)
        check_object(text, size, &event.object);
}

struct counted {
    const char *text;
    size_t size, items;
};

static bool count(void *context, const struct apiwatch_object *object)
{
    struct counted *c = context;
    check_object(c->text, c->size, object);
    return ++c->items < 1000;
}

static void check_list(const char *text, size_t size)
{
    struct counted c = {.text = text, .size = size};
    struct watchparse_list list;
    int rc = watchparse_list(text, size, &list, count, &c);
    require(rc == 0 || rc == -EBADMSG || (rc == -ECANCELED && c.items == 1000), "an unknown error");
    if (rc != 0)
        return;
    check_inside(text, size, &list.resource_version);
    check_inside(text, size, &list.continue_token);
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    if (root) {
        require(json_array_size(json_object_get(root, "items")) == c.items, "not all the items");
        check_text(json_object_get(root, "metadata"), "resourceVersion", &list.resource_version);
        check_text(json_object_get(root, "metadata"), "continue", &list.continue_token);
    }
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char status[64];
    char *text = malloc(size ? size : 1); /* ends with the bytes */
    require(text != NULL, "no memory");
    memcpy(text, data, size);
    check_event(text, size);
    check_list(text, size);
    watchparse_status_text(text, size, status, sizeof(status));
    require(strlen(status) < sizeof(status), "a text without an end");
    free(text);
    return 0;
}
