/* Strategic merge patch; see patch.h. */
#include "test/devapi/patch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_BYTES 256
#define ANY_KIND       (-1)

/* The patchMergeKey tags of k8s.io/api/core/v1/types.go and meta/v1. Lists without a tag, such as
 * containerStatuses and a node's taints, are replaced. */
static const struct {
    int kind;
    const char *path, *key;
} merge_keys[] = {
    {ANY_KIND, "metadata.ownerReferences", "uid"},
    {ANY_KIND, "metadata.finalizers", ""},
    {DEV_NODE, "spec.podCIDRs", ""},
    {DEV_NODE, "status.conditions", "type"},
    {DEV_NODE, "status.addresses", "type"},
    {DEV_NAMESPACE, "status.conditions", "type"},
    {DEV_PERSISTENTVOLUMECLAIM, "status.conditions", "type"},
    {DEV_SERVICEACCOUNT, "secrets", "name"},
    {DEV_POD, "status.conditions", "type"},
    {DEV_POD, "status.hostIPs", "ip"},
    {DEV_POD, "status.podIPs", "ip"},
    {DEV_POD, "status.resourceClaimStatuses", "name"},
    {DEV_POD, "spec.volumes", "name"},
    {DEV_POD, "spec.imagePullSecrets", "name"},
    {DEV_POD, "spec.hostAliases", "ip"},
    {DEV_POD, "spec.topologySpreadConstraints", "topologyKey"},
    {DEV_POD, "spec.schedulingGates", "name"},
    {DEV_POD, "spec.resourceClaims", "name"},
    {DEV_POD, "spec.containers", "name"},
    {DEV_POD, "spec.containers.ports", "containerPort"},
    {DEV_POD, "spec.containers.env", "name"},
    {DEV_POD, "spec.containers.volumeMounts", "mountPath"},
    {DEV_POD, "spec.containers.volumeDevices", "devicePath"},
    {DEV_POD, "spec.initContainers", "name"},
    {DEV_POD, "spec.initContainers.ports", "containerPort"},
    {DEV_POD, "spec.initContainers.env", "name"},
    {DEV_POD, "spec.initContainers.volumeMounts", "mountPath"},
    {DEV_POD, "spec.initContainers.volumeDevices", "devicePath"},
    {DEV_POD, "spec.ephemeralContainers", "name"},
};

const char *dev_patch_merge_key(const struct dev_kind *kind, const char *path)
{
    for (size_t i = 0; i < sizeof(merge_keys) / sizeof(merge_keys[0]); i++) {
        if ((merge_keys[i].kind == ANY_KIND || merge_keys[i].kind == (int)kind->index) &&
            strcmp(merge_keys[i].path, path) == 0)
            return merge_keys[i].key;
    }
    return NULL;
}

bool dev_patch_keeps_null(const char *path)
{
    return strcmp(path, "status.conditions.lastProbeTime") == 0 ||
           strcmp(path, "status.conditions.lastTransitionTime") == 0;
}

struct job {
    const struct dev_kind *kind;
    struct errbuf *e;
};

static int merge_object(const struct job *job, json_t *document, const json_t *patch,
                        const char *path);

static bool join_path(char *out, const char *path, const char *key)
{
    int size = snprintf(out, PATH_MAX_BYTES, "%s%s%s", path, path[0] ? "." : "", key);
    return size >= 0 && size < PATH_MAX_BYTES;
}

/* A patch's value as it is when there is nothing to merge it into: without directives and nulls. */
static json_t *plain_value(const struct job *job, const json_t *value, const char *path)
{
    if (json_is_object(value)) {
        json_t *fresh = json_object();
        if (fresh && merge_object(job, fresh, value, path) != 0) {
            json_decref(fresh);
            return NULL;
        }
        return fresh;
    }
    if (!json_is_array(value))
        return json_deep_copy(value);
    json_t *fresh = json_array();
    size_t i;
    json_t *item;
    json_array_foreach (value, i, item) {
        const char *directive = json_string_value(json_object_get(item, "$patch"));
        if (directive && (strcmp(directive, "delete") == 0 || json_object_size(item) == 1))
            continue;
        if (json_array_append_new(fresh, plain_value(job, item, path)) != 0) {
            json_decref(fresh);
            return NULL;
        }
    }
    return fresh;
}

/* ---- lists ---- */

static long index_of(const json_t *list, const char *key, const json_t *wanted)
{
    size_t i;
    json_t *item;
    const json_t *value = key[0] ? json_object_get(wanted, key) : wanted;
    if (!value)
        return -1;
    json_array_foreach (list, i, item) {
        const json_t *have = key[0] ? json_object_get(item, key) : item;
        if (have && json_equal(have, value))
            return (long)i;
    }
    return -1;
}

static int merge_item(const struct job *job, json_t *list, const json_t *item, const char *key,
                      const char *path)
{
    const char *directive = json_string_value(json_object_get(item, "$patch"));
    if (!json_object_get(item, key)) {
        errbuf_set(job->e, "map: element of %s does not contain declared merge key: %s", path, key);
        return -EINVAL;
    }
    long at = index_of(list, key, item);
    if (directive && strcmp(directive, "delete") == 0) {
        for (; at >= 0; at = index_of(list, key, item))
            json_array_remove(list, (size_t)at);
        return 0;
    }
    if (at >= 0 && !(directive && strcmp(directive, "replace") == 0))
        return merge_object(job, json_array_get(list, (size_t)at), item, path);
    json_t *fresh = plain_value(job, item, path);
    int rc =
        at >= 0 ? json_array_set_new(list, (size_t)at, fresh) : json_array_append_new(list, fresh);
    return rc == 0 ? 0 : -ENOMEM;
}

static bool has_replace(const json_t *patch)
{
    size_t i;
    json_t *item;
    json_array_foreach (patch, i, item) {
        const char *directive = json_string_value(json_object_get(item, "$patch"));
        if (directive && strcmp(directive, "replace") == 0 && json_object_size(item) == 1)
            return true;
    }
    return false;
}

static int merge_list(const struct job *job, json_t *list, const json_t *patch, const char *key,
                      const char *path)
{
    size_t i;
    json_t *item;
    if (key[0] && has_replace(patch)) {
        json_t *fresh = plain_value(job, patch, path);
        int rc = fresh && json_array_clear(list) == 0 ? json_array_extend(list, fresh) : -1;
        json_decref(fresh);
        return rc == 0 ? 0 : -ENOMEM;
    }
    json_array_foreach (patch, i, item) {
        int rc = 0;
        if (key[0])
            rc = merge_item(job, list, item, key, path);
        else if (index_of(list, "", item) < 0)
            rc = json_array_append_new(list, json_deep_copy(item)) == 0 ? 0 : -ENOMEM;
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int delete_primitives(json_t *list, const json_t *doomed)
{
    size_t i;
    json_t *item;
    json_array_foreach (doomed, i, item) {
        for (long at = index_of(list, "", item); at >= 0; at = index_of(list, "", item))
            json_array_remove(list, (size_t)at);
    }
    return 0;
}

/* $setElementOrder: what it names comes in its order; the others keep their places among these as
 * far as `before` (the list as it was) tells. As mergeSortedSlice() in strategicpatch/patch.go. */
static int order_list(json_t *list, const json_t *order, const json_t *before, const char *key)
{
    size_t i, j = 0, total = json_array_size(list);
    json_t *item, *named = json_array(), *others = json_array(), *sorted = json_array();
    int rc = named && others && sorted ? 0 : -ENOMEM;

    json_array_foreach (order, i, item) {
        long at = index_of(list, key, item);
        if (rc == 0 && at >= 0 && json_array_append(named, json_array_get(list, (size_t)at)) != 0)
            rc = -ENOMEM;
    }
    json_array_foreach (list, i, item) {
        if (rc == 0 && index_of(order, key, item) < 0 && json_array_append(others, item) != 0)
            rc = -ENOMEM;
    }
    for (i = 0;
         rc == 0 && i + j < total && i + j < json_array_size(named) + json_array_size(others);) {
        json_t *left = json_array_get(named, i), *right = json_array_get(others, j);
        long l = left ? index_of(before, key, left) : -1;
        long r = right ? index_of(before, key, right) : -1;
        bool takes_left = !right || (left && (l < 0 || r < 0 || l < r));
        if (json_array_append(sorted, takes_left ? left : right) != 0)
            rc = -ENOMEM;
        if (takes_left)
            i++;
        else
            j++;
    }
    if (rc == 0 && (json_array_clear(list) != 0 || json_array_extend(list, sorted) != 0))
        rc = -ENOMEM;
    json_decref(named);
    json_decref(others);
    json_decref(sorted);
    return rc;
}

/* ---- objects ---- */

static int merge_member(const struct job *job, json_t *document, const char *key,
                        const json_t *value, const char *path)
{
    json_t *old = json_object_get(document, key);
    if (json_is_null(value) && !dev_patch_keeps_null(path)) {
        (void)json_object_del(document, key);
        return 0;
    }
    if (json_is_object(value) && json_is_object(old)) {
        const char *directive = json_string_value(json_object_get(value, "$patch"));
        if (directive && strcmp(directive, "delete") == 0)
            return json_object_del(document, key) == 0 ? 0 : -ENOMEM;
        return merge_object(job, old, value, path);
    }
    const char *merge_key = json_is_array(value) ? dev_patch_merge_key(job->kind, path) : NULL;
    if (merge_key && json_is_array(old))
        return merge_list(job, old, value, merge_key, path);
    json_t *fresh = plain_value(job, value, path);
    return json_object_set_new(document, key, fresh) == 0 ? 0 : -ENOMEM;
}

static const char *behind(const char *key, const char *prefix)
{
    size_t size = strlen(prefix);
    return strncmp(key, prefix, size) == 0 ? key + size : NULL;
}

static int retain_keys(json_t *document, const json_t *keys)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe (document, next, key, value) {
        size_t i;
        json_t *kept;
        bool is_kept = false;
        json_array_foreach (keys, i, kept) {
            const char *name = json_string_value(kept);
            is_kept = is_kept || (name && strcmp(name, key) == 0);
        }
        if (!is_kept)
            (void)json_object_del(document, key);
    }
    return 0;
}

/* The order is set after the members are merged, against the lists as they were before. */
static int merge_ordered(const struct job *job, json_t *document, const json_t *patch,
                         const char *path)
{
    const char *key;
    json_t *value;
    char inner[PATH_MAX_BYTES];
    json_object_foreach ((json_t *)(uintptr_t)patch, key, value) {
        if (key[0] == '$')
            continue;
        char order_key[PATH_MAX_BYTES];
        int size = snprintf(order_key, sizeof(order_key), "$setElementOrder/%s", key);
        const json_t *order = size < PATH_MAX_BYTES ? json_object_get(patch, order_key) : NULL;
        if (!join_path(inner, path, key)) {
            errbuf_set(job->e, "the patch is nested too deeply");
            return -EINVAL;
        }
        json_t *before = order ? json_copy(json_object_get(document, key)) : NULL;
        int rc = merge_member(job, document, key, value, inner);
        const char *merge_key = order ? dev_patch_merge_key(job->kind, inner) : NULL;
        json_t *list = json_object_get(document, key);
        if (rc == 0 && merge_key && json_is_array(list) && json_is_array(order))
            rc = order_list(list, order, before, merge_key);
        json_decref(before);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int apply_directives(const struct job *job, json_t *document, const json_t *patch,
                            const char *path)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)patch, key, value) {
        const char *target = behind(key, "$deleteFromPrimitiveList/");
        if (target)
            delete_primitives(json_object_get(document, target), value);
        else if (strcmp(key, "$retainKeys") == 0)
            retain_keys(document, value);
        target = behind(key, "$setElementOrder/");
        char inner[PATH_MAX_BYTES];
        /* An order for a list that the patch does not otherwise touch. */
        if (!target || json_object_get(patch, target) || !join_path(inner, path, target))
            continue;
        json_t *list = json_object_get(document, target);
        const char *merge_key = dev_patch_merge_key(job->kind, inner);
        json_t *before = merge_key && json_is_array(list) ? json_copy(list) : NULL;
        int rc = before && json_is_array(value) ? order_list(list, value, before, merge_key) : 0;
        json_decref(before);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int merge_object(const struct job *job, json_t *document, const json_t *patch,
                        const char *path)
{
    const char *directive = json_string_value(json_object_get(patch, "$patch"));
    if (directive && strcmp(directive, "replace") == 0)
        json_object_clear(document);
    else if (directive && strcmp(directive, "delete") == 0)
        return json_object_clear(document) == 0 ? 0 : -ENOMEM;
    int rc = apply_directives(job, document, patch, path);
    return rc != 0 ? rc : merge_ordered(job, document, patch, path);
}

int dev_patch_strategic(const struct dev_kind *kind, json_t *document, const json_t *patch,
                        struct errbuf *e)
{
    const struct job job = {.kind = kind, .e = e};
    if (!json_is_object(patch)) {
        errbuf_set(e, "a patch is an object");
        return -EINVAL;
    }
    return merge_object(&job, document, patch, "");
}
