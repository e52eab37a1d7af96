/* See downmessage.h. */
#include "hub/downmessage.h"

#include "hub/frame.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct reply *downmessage_compose(const struct push *push, struct session_ref to, const char *id,
                                  int64_t wall_ms)
{
    char resource[RESOURCE_MAX_NAMESPACE + RESOURCE_MAX_NAME + RESOURCE_MAX_TYPE + 4];
    int size = snprintf(resource, sizeof(resource), "%.*s/%s/%.*s", (int)push->ns.size, push->ns.at,
                        push->type, (int)push->name.size, push->name.at);
    assert(size > 0 && (size_t)size < sizeof(resource));
    struct frame frame = {
        .version = push->version,
        .resource = {resource, (size_t)size},
        .source = "edgecontroller",
        .operation = push->operation,
    };
    size_t room = FRAME_BYTES + (size_t)size + push->version.size + push->content.size;
    struct reply *r = reply_create(room);
    if (!r)
        return NULL;
    struct writer w = {reply_text(r), reply_text(r) + room};
    frame_begin(&w, &frame, wall_ms, id);
    writer_put(&w, push->content.at, push->content.size);
    frame_end(&w);
    r->size = (size_t)(w.at - reply_text(r));
    r->to = to;
    r->outcome = REPLY_PUSH;
    r->push_id = uuid_key(id, strlen(id));
    r->object = push->object;
    r->object_version = push->object_version;
    return r;
}

size_t downmessage_tombstone(const struct text_span *ns, const struct text_span *name,
                             const char *uid, char *to)
{
    bool has_namespace = !text_span_equals(ns, "null");
    int size = snprintf(to, DOWNMESSAGE_TOMBSTONE_BYTES,
                        "{\"metadata\":{\"name\":\"%.*s\"%s%.*s%s,\"uid\":\"%s\"}}",
                        (int)name->size, name->at, has_namespace ? ",\"namespace\":\"" : "",
                        has_namespace ? (int)ns->size : 0, ns->at, has_namespace ? "\"" : "", uid);
    assert(size > 0 && size < DOWNMESSAGE_TOMBSTONE_BYTES);
    return (size_t)size;
}
