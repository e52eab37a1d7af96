/* See syncrecord.h. */
#include "hub/syncrecord.h"

#include "isthmus/jsonscan.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define GROUP "reliablesyncs.kubeedge.io/v1alpha1"

static const struct {
    enum resource_kind kind;
    const char *name, *type;
} kinds[] = {
    {RESOURCE_POD, "Pod", "pod"},
    {RESOURCE_CONFIGMAP, "ConfigMap", "configmap"},
    {RESOURCE_SECRET, "Secret", "secret"},
    {RESOURCE_NODE, "Node", "node"},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static size_t index_of(enum resource_kind kind)
{
    size_t i = 0;
    while (i < KINDS && kinds[i].kind != kind)
        i++;
    assert(i < KINDS);
    return i;
}

const char *syncrecord_type(enum resource_kind kind)
{
    return kinds[index_of(kind)].type;
}

/* ---- reading ---- */

/* A text without escapes; empty where it is not one. */
static struct text_span find(const char *json, size_t size, const char *a, const char *b)
{
    const char *const path[] = {a, b, NULL};
    struct json_span found;
    if (jsonscan_find(json, size, path, &found) != 0 || found.kind != JSON_KIND_STRING ||
        found.has_escapes)
        return (struct text_span){"", 0};
    return (struct text_span){found.at, found.size};
}

/* NODE.UID: a node's name may have dots in it, a UID has none. */
static int split_name(const struct text_span *name, struct syncrecord *r)
{
    if (name->size < WANT_UID_TEXT + 2)
        return -EBADMSG;
    const char *uid = name->at + name->size - WANT_UID_TEXT;
    if (uid[-1] != '.' || !want_uid_parse(uid, WANT_UID_TEXT, &r->uid))
        return -EBADMSG;
    r->node = (struct text_span){name->at, name->size - WANT_UID_TEXT - 1};
    return 0;
}

/* One whose name can be no object's is served no more than one of another kind: nobody validates
 * records, and the name becomes part of a path. */
static enum resource_kind kind_of(const struct text_span *api_version, const struct text_span *kind,
                                  const struct want_key *key)
{
    if (!resource_name_is_segment(&key->name))
        return RESOURCE_NONE;
    for (size_t i = 0; i < KINDS; i++) {
        bool is_it = text_span_equals(kind, kinds[i].name) && text_span_equals(api_version, "v1");
        if (is_it && resource_is_namespaced(kinds[i].kind) == (key->ns.size > 0))
            return kinds[i].kind;
    }
    return RESOURCE_NONE;
}

int syncrecord_read(const char *json, size_t size, struct syncrecord *r)
{
    struct text_span name = find(json, size, "metadata", "name");
    struct text_span kind = find(json, size, "spec", "objectKind");
    struct text_span api_version = find(json, size, "spec", "objectAPIVersion");
    struct text_span version = find(json, size, "status", "objectResourceVersion");
    r->key.ns = find(json, size, "metadata", "namespace");
    r->key.name = find(json, size, "spec", "objectName");
    r->key.kind = kind_of(&api_version, &kind, &r->key);
    r->version = resource_version(version.at, version.size);
    r->has_status = version.size > 0;
    if (r->key.name.size == 0)
        return -EBADMSG;
    return split_name(&name, r);
}

/* ---- writing ---- */

static size_t record_name(const char *node, const struct want_object *o, char *to, size_t room)
{
    char uid[WANT_UID_TEXT + 1];
    want_uid_format(&o->uid, uid);
    return (size_t)snprintf(to, room, "%s.%s", node, uid);
}

size_t syncrecord_path(enum syncrecord_path which, const char *node, const struct want_object *o,
                       char *to)
{
    char name[RESOURCE_MAX_NAME + WANT_UID_TEXT + 4] = "";
    const char *slash = which == SYNCRECORD_COLLECTION ? "" : "/";
    const char *status = which == SYNCRECORD_STATUS ? "/status" : "";
    int size;
    if (which != SYNCRECORD_COLLECTION)
        record_name(node, o, name, sizeof(name));
    if (o->ns_size > 0)
        size = snprintf(to, SYNCRECORD_BYTES, "/apis/" GROUP "/namespaces/%.*s/objectsyncs%s%s%s",
                        o->ns_size, o->text, slash, name, status);
    else
        size = snprintf(to, SYNCRECORD_BYTES, "/apis/" GROUP "/clusterobjectsyncs%s%s%s", slash,
                        name, status);
    assert(size > 0 && size < SYNCRECORD_BYTES);
    return (size_t)size;
}

size_t syncrecord_body(const char *node, const struct want_object *o, char *to)
{
    char name[RESOURCE_MAX_NAME + WANT_UID_TEXT + 4];
    record_name(node, o, name, sizeof(name));
    bool has_ns = o->ns_size > 0;
    int size = snprintf(
        to, SYNCRECORD_BYTES,
        "{\"apiVersion\":\"" GROUP "\",\"kind\":\"%s\",\"metadata\":{\"name\":\"%s\"%s%.*s%s},"
        "\"spec\":{\"objectAPIVersion\":\"v1\",\"objectKind\":\"%s\",\"objectName\":\"%.*s\"}}",
        has_ns ? "ObjectSync" : "ClusterObjectSync", name, has_ns ? ",\"namespace\":\"" : "",
        o->ns_size, o->text, has_ns ? "\"" : "", kinds[index_of((enum resource_kind)o->kind)].name,
        o->name_size, o->text + o->ns_size);
    assert(size > 0 && size < SYNCRECORD_BYTES);
    return (size_t)size;
}

size_t syncrecord_status(uint64_t version, char *to)
{
    return (size_t)snprintf(to, SYNCRECORD_BYTES,
                            "{\"status\":{\"objectResourceVersion\":\"%llu\"}}",
                            (unsigned long long)version);
}
