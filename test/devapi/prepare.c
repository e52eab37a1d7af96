/* See prepare.h. */
#include "test/devapi/prepare.h"
#include "test/devapi/defaults.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *string_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool dev_is_name(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > 253)
        return false;
    for (size_t i = 0; i < size; i++) {
        bool is_edge = i == 0 || i + 1 == size || name[i - 1] == '.' || name[i + 1] == '.';
        if (!is_alnum(name[i]) && (is_edge || (name[i] != '-' && name[i] != '.')))
            return false;
    }
    return true;
}

/* What can stand in a path at all. */
static bool is_segment(const char *name)
{
    return name[0] && strlen(name) < DEV_NAME_MAX && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && !strpbrk(name, "/%");
}

/* ---- bodies ---- */

json_t *dev_parse_object(const struct dev_kind *kind, const char *body, size_t size,
                         struct dev_error *e)
{
    json_error_t error;
    json_t *root = json_loadb(size ? body : "", size, JSON_ALLOW_NUL, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        dev_error_bad_request(e,
                              "the object provided is unrecognized (must be of type %s): couldn't "
                              "get version/kind; json parse error: %.200s",
                              kind->kind, root ? "not an object" : error.text);
        return NULL;
    }
    const char *version = string_at(root, "apiVersion"), *name = string_at(root, "kind");
    if (version[0] && strcmp(version, kind->api_version) != 0) {
        dev_error_bad_request(
            e, "the API version in the data (%.100s) does not match the expected API version (%s)",
            version, kind->api_version);
    } else if (name[0] && strcmp(name, kind->kind) != 0) {
        dev_error_bad_request(e,
                              "%s in version \"%s\" cannot be handled as a %s: converting (%.100s) "
                              "to (%s): unknown conversion",
                              name, kind->version, kind->kind, name, kind->kind);
    } else if (!json_is_object(json_object_get(root, "metadata")) &&
               json_object_set_new(root, "metadata", json_object()) != 0) {
        dev_error_no_memory(e);
    } else {
        return root;
    }
    json_decref(root);
    return NULL;
}

/* ---- creation ---- */

static int set_name(const struct dev_path *path, json_t *metadata, struct dev_error *e)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    const char *name = string_at(metadata, "name");
    const char *prefix = string_at(metadata, "generateName");
    char generated[DEV_NAME_MAX];
    if (!name[0] && prefix[0]) {
        char uuid[37];
        dev_uuid(uuid);
        int size = snprintf(generated, sizeof(generated) - 5, "%.*s", DEV_NAME_MAX - 16, prefix);
        for (int i = 0; i < 5; i++) /* two hex digits pick a letter: even enough */
            generated[size + i] = alphabet[(unsigned)(uuid[i] * 7 + uuid[24 + i] * 3) % 27];
        generated[size + 5] = '\0';
        json_object_set_new(metadata, "name", json_string(generated));
        name = string_at(metadata, "name");
    }
    if (!name[0]) {
        dev_error_invalid(e, path->kind, "", "metadata.name", "FieldValueRequired",
                          "Required value: name or generateName is required");
        return -EINVAL;
    }
    if (path->kind->index == DEV_EVENT && is_segment(name))
        return 0; /* events carry names of their makers' choice */
    if (!dev_is_name(name)) {
        char why[700];
        snprintf(why, sizeof(why),
                 "Invalid value: \"%.200s\": a lowercase RFC 1123 subdomain must consist of lower "
                 "case alphanumeric characters, '-' or '.', and must start and end with an "
                 "alphanumeric character (e.g. 'example.com', regex used for validation is "
                 "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                 name);
        dev_error_invalid(e, path->kind, name, "metadata.name", "FieldValueInvalid", why);
        return -EINVAL;
    }
    return 0;
}

static int set_namespace(const struct dev_path *path, json_t *metadata, struct dev_error *e)
{
    const char *ns = string_at(metadata, "namespace");
    if (!path->kind->is_namespaced) {
        (void)json_object_del(metadata, "namespace");
        return 0;
    }
    if (!path->namespace_[0]) {
        dev_error_bad_request(e, "an empty namespace may not be set during creation");
        return -EINVAL;
    }
    if (ns[0] && strcmp(ns, path->namespace_) != 0) {
        dev_error_bad_request(e,
                              "the namespace of the provided object does not match the namespace "
                              "sent on the request");
        return -EINVAL;
    }
    return json_object_set_new(metadata, "namespace", json_string(path->namespace_));
}

int dev_prepare_create(const struct dev_path *path, json_t *root, int64_t now_s, const char *user,
                       struct dev_error *e)
{
    json_t *metadata = json_object_get(root, "metadata");
    char uuid[37], now[32];
    if (string_at(metadata, "resourceVersion")[0]) {
        dev_error_plain(e, 500, "InternalError",
                        "resourceVersion should not be set on objects to be created");
        return -EINVAL;
    }
    int rc = set_name(path, metadata, e);
    if (rc == 0)
        rc = set_namespace(path, metadata, e);
    if (rc != 0)
        return rc;
    dev_uuid(uuid);
    dev_time_format(now_s, now);
    (void)json_object_del(metadata, "deletionTimestamp");
    (void)json_object_del(metadata, "deletionGracePeriodSeconds");
    (void)json_object_del(metadata, "generation");
    if (json_object_set_new(metadata, "uid", json_string(uuid)) != 0 ||
        json_object_set_new(metadata, "creationTimestamp", json_string(now)) != 0 ||
        dev_defaults_apply(path->kind, root, user) != 0) {
        dev_error_no_memory(e);
        return -EINVAL;
    }
    return 0;
}

/* ---- updates ---- */

static int set_or_drop(json_t *metadata, const char *key, const char *value)
{
    if (value[0])
        return json_object_set_new(metadata, key, json_string(value));
    (void)json_object_del(metadata, key);
    return 0;
}

static int keep_metadata(const struct dev_object *old, json_t *metadata)
{
    const struct dev_facts *f = old->facts;
    int rc = set_or_drop(metadata, "name", f->name) |
             set_or_drop(metadata, "namespace", f->namespace_) |
             set_or_drop(metadata, "uid", f->uid) |
             set_or_drop(metadata, "creationTimestamp", f->created) |
             set_or_drop(metadata, "deletionTimestamp", f->deleted);
    if (f->grace_s >= 0)
        rc |= json_object_set_new(metadata, "deletionGracePeriodSeconds", json_integer(f->grace_s));
    else
        (void)json_object_del(metadata, "deletionGracePeriodSeconds");
    if (f->generation > 0)
        rc |= json_object_set_new(metadata, "generation", json_integer((json_int_t)f->generation));
    else
        (void)json_object_del(metadata, "generation");
    return rc == 0 ? 0 : -ENOMEM;
}

/* The stored object with a new status (or, for CSRs, other parts that only subresources write). */
static int graft_status(const struct dev_object *old, json_t **root)
{
    json_t *fresh = *root, *whole = dev_object_parse(old);
    json_t *status = json_object_get(fresh, "status");
    int rc = whole ? 0 : -1;
    if (rc == 0 && status)
        rc = json_object_set(whole, "status", status);
    if (rc == 0 && old->kind->status_takes_metadata) {
        json_t *owners = json_object_get(json_object_get(whole, "metadata"), "ownerReferences");
        json_t *metadata = json_object_get(fresh, "metadata");
        if (owners)
            rc = json_object_set(metadata, "ownerReferences", owners);
        else
            (void)json_object_del(metadata, "ownerReferences");
        rc |= keep_metadata(old, metadata);
        rc |= json_object_set(whole, "metadata", metadata);
    }
    if (rc != 0) {
        json_decref(whole);
        return -ENOMEM;
    }
    json_decref(fresh);
    *root = whole;
    return 0;
}

/* A changed spec is a new generation, for kinds that count them. */
static int count_generation(const struct dev_object *old, json_t *root)
{
    if (old->facts->generation == 0)
        return 0;
    json_t *before = dev_object_parse(old);
    if (!before)
        return -ENOMEM;
    bool is_same = json_equal(json_object_get(before, "spec"), json_object_get(root, "spec"));
    json_decref(before);
    if (is_same)
        return 0;
    json_int_t next = (json_int_t)old->facts->generation + 1;
    return json_object_set_new(json_object_get(root, "metadata"), "generation", json_integer(next));
}

int dev_prepare_update(const struct dev_object *old, json_t **root, const char *subresource)
{
    if (subresource[0])
        return graft_status(old, root);
    json_t *metadata = json_object_get(*root, "metadata");
    int rc = keep_metadata(old, metadata);
    if (rc == 0 && old->kind->has_status) {
        (void)json_object_del(*root, "status");
        if (old->status_size > 0)
            rc = json_object_set_new(
                *root, "status",
                json_loadb(old->json + old->status_at, old->status_size, JSON_ALLOW_NUL, NULL));
    }
    if (rc == 0)
        rc = count_generation(old, *root);
    return rc == 0 ? 0 : -ENOMEM;
}
