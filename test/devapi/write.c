/* create and update; see write.h and handler.h. */
#include "test/devapi/write.h"
#include "test/devapi/authz.h"
#include "test/devapi/handler.h"
#include "test/devapi/leases.h"
#include "test/devapi/prepare.h"
#include "test/devapi/server.h"
#include "test/devapi/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *string_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static void answer_no_memory(struct dev_exchange *x)
{
    struct dev_error e;
    dev_error_no_memory(&e);
    dev_answer_error(x, &e);
}

static struct dev_request request_of(const struct dev_exchange *x)
{
    return (struct dev_request){
        .user = x->user, .node = x->node, .verb = x->verb, .path = &x->path};
}

/* JSON only: no protobuf, no YAML. */
static bool is_json(const struct dev_exchange *x, struct dev_error *e)
{
    if (!x->content_type || strncmp(x->content_type, "application/json", 16) == 0)
        return true;
    dev_error_plain(e, 415, "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types "
                    "include: application/json");
    return false;
}

/* ---- devapi's own objects ---- */

int dev_write_own(struct dev_server *server, const struct dev_path *path, json_t *root)
{
    struct dev_error e;
    int rc = root ? dev_prepare_create(path, root, (int64_t)time(NULL), "devapi", &e) : -ENOMEM;
    const char *name = string_at(json_object_get(root, "metadata"), "name");
    if (rc == 0 && !dev_store_find(server->store, path->kind, path->namespace_, name)) {
        struct dev_object *o =
            dev_object_build(path->kind, root, dev_store_version(server->store) + 1);
        rc = o ? dev_store_set(server->store, o) : -ENOMEM;
    }
    json_decref(root);
    return rc;
}

static struct dev_path path_in(enum dev_kind_index kind, const char *namespace_)
{
    struct dev_path path = {.kind = dev_kind(kind)};
    snprintf(path.namespace_, sizeof(path.namespace_), "%s", namespace_);
    return path;
}

static int fill_namespace(struct dev_server *server, const char *name)
{
    struct dev_path account = path_in(DEV_SERVICEACCOUNT, name);
    struct dev_path ca = path_in(DEV_CONFIGMAP, name);
    int rc = dev_write_own(server, &account, json_pack("{s:{s:s}}", "metadata", "name", "default"));
    if (rc == 0)
        rc = dev_write_own(server, &ca,
                           json_pack("{s:{s:s},s:{s:s}}", "metadata", "name", "kube-root-ca.crt",
                                     "data", "ca.crt", server->ca_pem));
    return rc;
}

int dev_write_namespace(struct dev_server *server, const char *name)
{
    struct dev_path path = path_in(DEV_NAMESPACE, "");
    int rc = dev_write_own(server, &path, json_pack("{s:{s:s}}", "metadata", "name", name));
    return rc == 0 ? fill_namespace(server, name) : rc;
}

/* ---- create ---- */

static bool can_create(struct dev_exchange *x, json_t *root, struct dev_error *e)
{
    struct dev_store *store = x->server->store;
    struct dev_request request = request_of(x);
    const char *name = string_at(json_object_get(root, "metadata"), "name");
    if (x->path.kind->is_namespaced &&
        !dev_store_find(store, dev_kind(DEV_NAMESPACE), "", x->path.namespace_)) {
        dev_error_not_found(e, dev_kind(DEV_NAMESPACE), x->path.namespace_);
        return false;
    }
    if (!dev_admit(store, &request, NULL, root, e))
        return false;
    if (dev_store_find(store, x->path.kind, x->path.namespace_, name)) {
        dev_error_already_exists(e, x->path.kind, name);
        return false;
    }
    return true;
}

static void store_new(struct dev_exchange *x, json_t *root)
{
    struct dev_store *store = x->server->store;
    struct dev_object *o = dev_object_build(x->path.kind, root, dev_store_version(store) + 1);
    if (!o) {
        answer_no_memory(x);
        return;
    }
    dev_object_get(o);
    if (dev_store_set(store, o) != 0) {
        dev_object_put(o);
        answer_no_memory(x);
        return;
    }
    dev_stats_wrote(x, o->facts->name, o->version);
    if (o->kind->index == DEV_LEASE)
        dev_lease_renewed(x->server, o, NULL);
    if (o->kind->index == DEV_NAMESPACE && fill_namespace(x->server, o->facts->name) != 0) {
        dev_object_put(o);
        answer_no_memory(x);
        return;
    }
    dev_answer_object(x, 201, o);
    dev_object_put(o);
}

/* Takes `root`. */
static void create(struct dev_exchange *x, json_t *root)
{
    struct dev_error e;
    if (dev_prepare_create(&x->path, root, (int64_t)time(NULL), x->user, &e) != 0 ||
        !can_create(x, root, &e))
        dev_answer_error(x, &e);
    else
        store_new(x, root);
    json_decref(root);
}

/* A scheduler's POST .../pods/NAME/binding. */
static void bind_pod(struct dev_exchange *x, json_t *binding)
{
    struct dev_error e;
    const char *node = string_at(json_object_get(binding, "target"), "name");
    struct dev_entry *entry =
        dev_store_find(x->server->store, x->path.kind, x->path.namespace_, x->path.name);
    if (!entry)
        dev_error_not_found(&e, x->path.kind, x->path.name);
    else if (entry->object->facts->node_name[0])
        dev_error_conflict(&e, x->path.kind, x->path.name, "pod is already assigned to a node");
    else {
        json_t *root = dev_object_parse(entry->object);
        int rc =
            root ? json_object_set_new(json_object_get(root, "spec"), "nodeName", json_string(node))
                 : -1;
        struct dev_object *fresh =
            rc == 0 ? dev_object_build(x->path.kind, root, dev_store_version(x->server->store) + 1)
                    : NULL;
        json_decref(root);
        if (fresh && dev_store_set(x->server->store, fresh) == 0) {
            struct dev_text text = {0};
            dev_stats_wrote(x, x->path.name, dev_store_version(x->server->store));
            dev_text_str(&text, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},"
                                "\"status\":\"Success\",\"code\":201}\n");
            dev_answer_text(x, 201, "application/json", &text);
            return;
        }
        dev_error_no_memory(&e);
    }
    dev_answer_error(x, &e);
}

void dev_handle_create(struct dev_exchange *x)
{
    struct dev_error e;
    bool is_binding = strcmp(x->path.subresource, "binding") == 0;
    if (!is_json(x, &e)) {
        dev_answer_error(x, &e);
        return;
    }
    if (strcmp(x->path.subresource, "token") == 0) {
        dev_handle_token(x);
        return;
    }
    if (x->path.subresource[0] && !is_binding) {
        dev_error_method(&e, x->path.kind, "create");
        dev_answer_error(x, &e);
        return;
    }
    if (is_binding) {
        json_t *binding = json_loadb(x->body.at ? x->body.at : "", x->body.size, 0, NULL);
        bind_pod(x, binding);
        json_decref(binding);
        return;
    }
    json_t *root = dev_parse_object(x->path.kind, x->body.at, x->body.size, &e);
    if (root)
        create(x, root);
    else
        dev_answer_error(x, &e);
}

/* ---- update ---- */

/* uid and resourceVersion of an update are preconditions. */
static bool holds(const struct dev_exchange *x, const struct dev_object *old, const json_t *root,
                  struct dev_error *e)
{
    const json_t *metadata = json_object_get(root, "metadata");
    const char *uid = string_at(metadata, "uid");
    const char *version = string_at(metadata, "resourceVersion");
    char *end;
    if (uid[0] && strcmp(uid, old ? old->facts->uid : "") != 0) {
        dev_error_uid(e, x->path.kind, x->path.namespace_, x->path.name, uid,
                      old ? old->facts->uid : "");
        return false;
    }
    if (!old)
        return true;
    if (!version[0] && x->verb == DEV_UPDATE && x->path.kind->needs_version) {
        dev_error_invalid(e, x->path.kind, x->path.name, "metadata.resourceVersion",
                          "FieldValueInvalid",
                          "Invalid value: 0x0: must be specified for an update");
        return false;
    }
    if (version[0] && (strtoull(version, &end, 10) != old->version || *end)) {
        dev_error_modified(e, x->path.kind, x->path.name);
        return false;
    }
    return true;
}

void dev_write_commit(struct dev_exchange *x, struct dev_entry *entry, struct dev_object *fresh)
{
    struct dev_store *store = x->server->store;
    struct dev_object *old = dev_object_get(entry->object);
    bool is_gone =
        fresh->facts->is_terminating && !fresh->facts->has_finalizers && old->facts->has_finalizers;
    int rc = 0;
    if (dev_object_same(old, fresh)) { /* as the real one: no new version, no event */
        dev_object_put(fresh);
        fresh = dev_object_get(old);
    } else {
        dev_object_get(fresh);
        rc = is_gone ? dev_store_remove(store, entry, fresh) : dev_store_set(store, fresh);
    }
    if (rc == 0) {
        dev_stats_wrote(x, fresh->facts->name, fresh->version);
        if (fresh->kind->index == DEV_LEASE)
            dev_lease_renewed(x->server, fresh, old);
        dev_answer_object(x, 200, fresh);
    } else {
        answer_no_memory(x);
    }
    dev_object_put(fresh);
    dev_object_put(old);
}

void dev_write_update(struct dev_exchange *x, struct dev_entry *entry, json_t *root)
{
    struct dev_error e;
    struct dev_object *old = entry->object;
    struct dev_request request = request_of(x);
    if (!holds(x, old, root, &e) || !dev_admit(x->server->store, &request, old, root, &e)) {
        dev_answer_error(x, &e);
        json_decref(root);
        return;
    }
    struct dev_object *fresh = NULL;
    if (dev_prepare_update(old, &root, x->path.subresource) == 0)
        fresh = dev_object_build(x->path.kind, root, dev_store_version(x->server->store) + 1);
    json_decref(root);
    if (fresh)
        dev_write_commit(x, entry, fresh);
    else
        answer_no_memory(x);
}

/* PUT of what is not there, for the kinds that allow it. Takes `root`. */
static void create_by_update(struct dev_exchange *x, json_t *root)
{
    struct dev_error e;
    if (!x->path.kind->creates_on_update || x->path.subresource[0]) {
        dev_error_not_found(&e, x->path.kind, x->path.name);
    } else if (holds(x, NULL, root, &e)) {
        json_t *metadata = json_object_get(root, "metadata");
        (void)json_object_del(metadata, "resourceVersion");
        x->verb = DEV_CREATE;
        create(x, root);
        return;
    }
    dev_answer_error(x, &e);
    json_decref(root);
}

void dev_handle_update(struct dev_exchange *x)
{
    struct dev_error e;
    json_t *root = NULL;
    if (is_json(x, &e))
        root = dev_parse_object(x->path.kind, x->body.at, x->body.size, &e);
    if (!root) {
        dev_answer_error(x, &e);
        return;
    }
    json_t *metadata = json_object_get(root, "metadata");
    const char *name = string_at(metadata, "name");
    const char *ns = string_at(metadata, "namespace");
    if (!name[0] || strcmp(name, x->path.name) != 0 ||
        (ns[0] && strcmp(ns, x->path.namespace_) != 0)) {
        if (!name[0] || strcmp(name, x->path.name) != 0)
            dev_error_bad_request(
                &e, "the name of the object (%.253s) does not match the name on the URL (%s)", name,
                x->path.name);
        else
            dev_error_bad_request(&e, "the namespace of the provided object does not match the "
                                      "namespace sent on the request");
        dev_answer_error(x, &e);
        json_decref(root);
        return;
    }
    struct dev_entry *entry =
        dev_store_find(x->server->store, x->path.kind, x->path.namespace_, x->path.name);
    if (entry)
        dev_write_update(x, entry, root);
    else
        create_by_update(x, root);
}
