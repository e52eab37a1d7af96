/* See object.h. */
#include "test/devapi/object.h"
#include "isthmus/jsonscan.h"
#include "test/devapi/mentions.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *string_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* ---- facts ---- */

static void add_string(struct dev_text *t, const char *s)
{
    dev_text_add(t, s, strlen(s) + 1);
}

static void add_labels(struct dev_text *t, const json_t *metadata)
{
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(metadata, "labels"), key, value) {
        if (key[0] == '\0' || !json_is_string(value))
            continue;
        add_string(t, key);
        add_string(t, json_string_value(value));
    }
    dev_text_add(t, "", 1);
}

static struct dev_facts *facts_from(struct dev_text *t, const size_t offsets[8])
{
    struct dev_facts *f = t->failed ? NULL : malloc(sizeof(*f) + t->size);
    if (!f)
        return NULL;
    memcpy(f->data, t->at, t->size);
    f->refs = 1;
    f->namespace_ = f->data + offsets[0];
    f->name = f->data + offsets[1];
    f->uid = f->data + offsets[2];
    f->node_name = f->data + offsets[3];
    f->labels = f->data + offsets[4];
    f->mentions = f->data + offsets[5];
    f->created = f->data + offsets[6];
    f->deleted = f->data + offsets[7];
    return f;
}

static struct dev_facts *facts_build(const struct dev_kind *kind, const json_t *root)
{
    static struct dev_text scratch; /* loop thread only; kept for its memory */
    const json_t *metadata = json_object_get(root, "metadata");
    const json_t *spec = json_object_get(root, "spec");
    const json_t *finalizers = json_object_get(metadata, "finalizers");
    size_t offsets[8] = {0};

    dev_text_clear(&scratch);
    add_string(&scratch, string_at(metadata, "namespace"));
    offsets[1] = scratch.size;
    add_string(&scratch, string_at(metadata, "name"));
    offsets[2] = scratch.size;
    add_string(&scratch, string_at(metadata, "uid"));
    offsets[3] = scratch.size;
    add_string(&scratch, string_at(spec, "nodeName"));
    offsets[4] = scratch.size;
    add_labels(&scratch, metadata);
    offsets[5] = scratch.size;
    if (kind->index == DEV_POD)
        dev_mentions_add(&scratch, spec);
    dev_text_add(&scratch, "", 1);
    offsets[6] = scratch.size;
    add_string(&scratch, string_at(metadata, "creationTimestamp"));
    offsets[7] = scratch.size;
    add_string(&scratch, string_at(metadata, "deletionTimestamp"));

    struct dev_facts *f = facts_from(&scratch, offsets);
    if (!f)
        return NULL;
    const json_t *grace = json_object_get(metadata, "deletionGracePeriodSeconds");
    f->is_terminating = f->deleted[0] != '\0';
    f->grace_s = json_is_integer(grace) ? (long)json_integer_value(grace) : -1;
    f->has_finalizers = json_array_size(finalizers) > 0;
    f->is_mirror = json_object_get(json_object_get(metadata, "annotations"),
                                   "kubernetes.io/config.mirror") != NULL;
    f->generation = (uint64_t)json_integer_value(json_object_get(metadata, "generation"));
    return f;
}

static void facts_put(struct dev_facts *f)
{
    assert(f->refs > 0);
    if (--f->refs == 0)
        free(f);
}

const char *dev_facts_label(const struct dev_facts *facts, const char *key)
{
    for (const char *at = facts->labels; *at;) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, key) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

/* ---- objects ---- */

static struct dev_object *object_new(const struct dev_kind *kind, size_t size)
{
    if (size >= UINT32_MAX)
        return NULL;
    struct dev_object *o = malloc(sizeof(*o) + size + 1);
    if (!o)
        return NULL;
    *o = (struct dev_object){.refs = 1, .kind = kind, .size = (uint32_t)size};
    o->json[size] = '\0';
    return o;
}

static void remember_phase(struct dev_object *o)
{
    static const char *const path[] = {"phase", NULL};
    struct json_span phase;
    o->phase[0] = '\0';
    bool has_phase = o->kind->index == DEV_POD || o->kind->index == DEV_NAMESPACE;
    if (!has_phase || o->status_size == 0 ||
        jsonscan_find(o->json + o->status_at, o->status_size, path, &phase) != 0 ||
        phase.kind != JSON_KIND_STRING)
        return;
    size_t size = phase.size < sizeof(o->phase) ? phase.size : sizeof(o->phase) - 1;
    memcpy(o->phase, phase.at, size);
    o->phase[size] = '\0';
}

/* Members of metadata that devapi writes itself or does not keep. */
static bool is_dropped(const char *key, const json_t *value)
{
    return strcmp(key, "resourceVersion") == 0 || strcmp(key, "selfLink") == 0 ||
           json_is_null(value);
}

static void write_metadata(struct dev_text *t, const json_t *metadata, uint64_t version,
                           uint32_t *version_at, uint32_t *version_size)
{
    const char *key;
    json_t *value;
    dev_text_str(t, "\"metadata\":{\"resourceVersion\":\"");
    *version_at = (uint32_t)t->size;
    dev_text_u64(t, version);
    *version_size = (uint32_t)t->size - *version_at;
    dev_text_str(t, "\"");
    json_object_foreach ((json_t *)(uintptr_t)metadata, key, value) {
        if (is_dropped(key, value))
            continue;
        dev_text_str(t, ",");
        dev_text_quoted(t, key);
        dev_text_str(t, ":");
        dev_text_json(t, value);
    }
    dev_text_str(t, "}");
}

static bool is_head(const char *key)
{
    return strcmp(key, "kind") == 0 || strcmp(key, "apiVersion") == 0 ||
           strcmp(key, "metadata") == 0 || strcmp(key, "status") == 0;
}

struct dev_object *dev_object_build(const struct dev_kind *kind, const json_t *root,
                                    uint64_t version)
{
    static struct dev_text scratch; /* as above */
    struct dev_text *t = &scratch;
    uint32_t version_at = 0, version_size = 0, status_at = 0, status_size = 0;
    const char *key;
    json_t *value;

    dev_text_clear(t);
    dev_text_str(t, kind->prefix);
    write_metadata(t, json_object_get(root, "metadata"), version, &version_at, &version_size);
    json_object_foreach ((json_t *)(uintptr_t)root, key, value) {
        if (is_head(key) || json_is_null(value))
            continue;
        dev_text_str(t, ",");
        dev_text_quoted(t, key);
        dev_text_str(t, ":");
        dev_text_json(t, value);
    }
    value = json_object_get(root, "status");
    if (json_is_object(value)) {
        dev_text_str(t, ",\"status\":");
        status_at = (uint32_t)t->size;
        dev_text_json(t, value);
        status_size = (uint32_t)t->size - status_at;
    }
    dev_text_str(t, "}");

    struct dev_object *o = t->failed ? NULL : object_new(kind, t->size);
    if (!o)
        return NULL;
    o->facts = facts_build(kind, root);
    if (!o->facts) {
        free(o);
        return NULL;
    }
    memcpy(o->json, t->at, t->size);
    o->version = version;
    o->version_at = version_at;
    o->version_size = version_size;
    o->status_at = status_at;
    o->status_size = status_size;
    remember_phase(o);
    return o;
}

static char *copy(char *to, const char *from, size_t size)
{
    memcpy(to, from, size);
    return to + size;
}

struct dev_object *dev_object_derive(const struct dev_object *old, uint64_t version,
                                     const char *status, size_t status_size)
{
    static const char status_key[] = ",\"status\":";
    char digits[24];
    size_t digit_count = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, version);
    if (!status && old->status_size > 0) {
        status = old->json + old->status_at;
        status_size = old->status_size;
    }
    /* What lies between the version and the status: the rest of metadata and the other members. */
    size_t middle_at = old->version_at + old->version_size;
    size_t middle_end =
        old->status_size > 0 ? old->status_at - (sizeof(status_key) - 1) : old->size - 1;
    size_t size = old->version_at + digit_count + (middle_end - middle_at) + 1;
    if (status)
        size += sizeof(status_key) - 1 + status_size;

    struct dev_object *o = object_new(old->kind, size);
    if (!o)
        return NULL;
    char *to = copy(o->json, old->json, old->version_at);
    to = copy(to, digits, digit_count);
    to = copy(to, old->json + middle_at, middle_end - middle_at);
    if (status) {
        to = copy(to, status_key, sizeof(status_key) - 1);
        o->status_at = (uint32_t)(to - o->json);
        o->status_size = (uint32_t)status_size;
        to = copy(to, status, status_size);
    }
    *to++ = '}';
    assert((size_t)(to - o->json) == size);

    o->facts = old->facts;
    o->facts->refs++;
    o->version = version;
    o->version_at = old->version_at;
    o->version_size = (uint32_t)digit_count;
    remember_phase(o);
    return o;
}

struct dev_object *dev_object_get(struct dev_object *o)
{
    assert(o->refs > 0);
    o->refs++;
    return o;
}

void dev_object_put(struct dev_object *o)
{
    if (!o)
        return;
    assert(o->refs > 0);
    if (--o->refs > 0)
        return;
    facts_put(o->facts);
    free(o);
}

bool dev_object_same(const struct dev_object *a, const struct dev_object *b)
{
    const char *rest_a = a->json + a->version_at + a->version_size;
    const char *rest_b = b->json + b->version_at + b->version_size;
    size_t size_a = (size_t)(a->json + a->size - rest_a);
    size_t size_b = (size_t)(b->json + b->size - rest_b);
    return size_a == size_b && memcmp(rest_a, rest_b, size_a) == 0;
}

json_t *dev_object_parse(const struct dev_object *o)
{
    return json_loadb(o->json, o->size, JSON_ALLOW_NUL, NULL);
}

/* ---- fields ---- */

struct selectable {
    int kind; /* -1: every kind */
    const char *field;
    const char *path[4];
};

static const struct selectable selectables[] = {
    {-1, "metadata.name", {NULL}},
    {-1, "metadata.namespace", {NULL}},
    {DEV_POD, "spec.nodeName", {NULL}},
    {DEV_POD, "status.phase", {NULL}},
    {DEV_NAMESPACE, "status.phase", {NULL}},
    {DEV_POD, "spec.restartPolicy", {"spec", "restartPolicy"}},
    {DEV_POD, "spec.schedulerName", {"spec", "schedulerName"}},
    {DEV_POD, "spec.serviceAccountName", {"spec", "serviceAccountName"}},
    {DEV_POD, "status.podIP", {"status", "podIP"}},
    {DEV_NODE, "spec.unschedulable", {"spec", "unschedulable"}},
    {DEV_SECRET, "type", {"type"}},
    {DEV_CSR, "spec.signerName", {"spec", "signerName"}},
    {DEV_EVENT, "involvedObject.kind", {"involvedObject", "kind"}},
    {DEV_EVENT, "involvedObject.namespace", {"involvedObject", "namespace"}},
    {DEV_EVENT, "involvedObject.name", {"involvedObject", "name"}},
    {DEV_EVENT, "involvedObject.uid", {"involvedObject", "uid"}},
    {DEV_EVENT, "reason", {"reason"}},
    {DEV_EVENT, "type", {"type"}},
    {DEV_EVENT, "reportingComponent", {"reportingComponent"}},
};

static const struct selectable *selectable_find(const struct dev_kind *kind, const char *field)
{
    for (size_t i = 0; i < sizeof(selectables) / sizeof(selectables[0]); i++) {
        const struct selectable *s = &selectables[i];
        if ((s->kind < 0 || s->kind == (int)kind->index) && strcmp(s->field, field) == 0)
            return s;
    }
    return NULL;
}

const char *dev_object_field(const struct dev_object *o, const char *field, char *out)
{
    const struct selectable *s = selectable_find(o->kind, field);
    if (!s)
        return NULL;
    if (strcmp(field, "metadata.name") == 0)
        return o->facts->name;
    if (strcmp(field, "metadata.namespace") == 0)
        return o->facts->namespace_;
    if (strcmp(field, "spec.nodeName") == 0)
        return o->facts->node_name;
    if (strcmp(field, "status.phase") == 0)
        return o->phase;
    struct json_span value;
    if (jsonscan_find(o->json, o->size, s->path, &value) != 0 || value.size >= 256)
        return "";
    size_t size = value.size;
    if (value.kind == JSON_KIND_STRING)
        size = jsonscan_unescape(&value, out);
    else
        memcpy(out, value.at, size);
    out[size] = '\0';
    return out;
}
