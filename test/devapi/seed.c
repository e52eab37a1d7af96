/* See seed.h. */
#include "test/devapi/seed.h"
#include "test/devapi/server.h"
#include "test/devapi/write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *string_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static void complete(json_t *metadata)
{
    char text[40];
    if (!string_at(metadata, "uid")[0]) {
        dev_uuid(text);
        json_object_set_new(metadata, "uid", json_string(text));
    }
    if (!string_at(metadata, "creationTimestamp")[0]) {
        dev_time_format((int64_t)time(NULL), text);
        json_object_set_new(metadata, "creationTimestamp", json_string(text));
    }
}

static int load_one(struct dev_server *server, json_t *root, struct errbuf *e)
{
    const struct dev_kind *kind =
        dev_kind_by_object(string_at(root, "apiVersion"), string_at(root, "kind"));
    json_t *metadata = json_object_get(root, "metadata");
    const char *name = string_at(metadata, "name"), *ns = string_at(metadata, "namespace");
    if (!kind || !name[0] || kind->is_namespaced != (ns[0] != '\0')) {
        errbuf_set(e, "%s '%s': unknown kind, or no name, or namespace missing or out of place",
                   string_at(root, "kind"), name);
        return -EINVAL;
    }
    if (ns[0] && !dev_store_find(server->store, dev_kind(DEV_NAMESPACE), "", ns)) {
        int rc = dev_write_namespace(server, ns);
        if (rc != 0)
            return rc;
    }
    complete(metadata);
    uint64_t version = strtoull(string_at(metadata, "resourceVersion"), NULL, 10);
    struct dev_object *o =
        dev_object_build(kind, root, version ? version : dev_store_version(server->store) + 1);
    int rc = o ? dev_store_load(server->store, o) : -ENOMEM;
    struct dev_entry *entry = rc == 0 ? dev_store_find(server->store, kind, ns, name) : NULL;
    if (entry)
        entry->lease.renewed_ms = uv_now(server->loop);
    return rc;
}

int dev_seed_load(struct dev_server *server, const char *path, struct errbuf *e)
{
    json_error_t error;
    size_t i;
    json_t *item, *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!root) {
        errbuf_set(e, "seed file %s: line %d: %s", path, error.line, error.text);
        return -EINVAL;
    }
    json_t *list = json_is_object(root) ? json_object_get(root, "items") : root;
    int rc = json_is_array(list) ? 0 : -EINVAL;
    if (rc != 0)
        errbuf_set(e, "want an array of objects, or a List");
    json_array_foreach (list, i, item) {
        if (rc == 0)
            rc = load_one(server, item, e);
    }
    json_decref(root);
    if (rc != 0)
        errbuf_wrap(e, "seed file %s", path);
    return rc;
}
