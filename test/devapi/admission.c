/* NodeRestriction; see authz.h. The texts are those of
 * plugin/pkg/admission/noderestriction/admission.go. */
#include "test/devapi/authz.h"
#include "test/devapi/mentions.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIRROR "kubernetes.io/config.mirror"

static bool deny(const struct dev_request *r, const char *name, struct dev_error *e,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

static bool deny(const struct dev_request *r, const char *name, struct dev_error *e,
                 const char *format, ...)
{
    char why[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    dev_error_forbidden(e, r->path->kind, name, why);
    return false;
}

static const char *string_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* ---- labels ---- */

static bool is_in(const char *ns, size_t size, const char *domain)
{
    size_t d = strlen(domain);
    return size >= d && memcmp(ns + size - d, domain, d) == 0 &&
           (size == d || ns[size - d - 1] == '.');
}

/* Whether a node may set the label on itself: kubelet's own, and those outside Kubernetes' domains.
 */
static bool is_allowed_label(const char *key)
{
    static const char *const kubelet[] = {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    };
    const char *slash = strchr(key, '/');
    size_t size = slash ? (size_t)(slash - key) : 0;
    if (is_in(key, size, "node-restriction.kubernetes.io"))
        return false;
    if (!is_in(key, size, "kubernetes.io") && !is_in(key, size, "k8s.io"))
        return true;
    for (size_t i = 0; i < sizeof(kubelet) / sizeof(kubelet[0]); i++) {
        if (strcmp(key, kubelet[i]) == 0)
            return true;
    }
    return is_in(key, size, "kubelet.kubernetes.io") || is_in(key, size, "node.kubernetes.io");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

#define FORBIDDEN_MAX 64

/* Names in `out` the labels that differ and that a node may not set, sorted. Returns how many. */
static size_t forbidden_labels(const struct dev_object *old, const json_t *fresh, char *out,
                               size_t room)
{
    const char *found[FORBIDDEN_MAX];
    size_t count = 0, used = 0;
    const json_t *labels = json_object_get(json_object_get(fresh, "metadata"), "labels");
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)labels, key, value) {
        const char *before = old ? dev_facts_label(old->facts, key) : NULL;
        const char *text = json_string_value(value);
        bool is_same = before && text && strcmp(before, text) == 0;
        if (!is_same && !is_allowed_label(key) && count < FORBIDDEN_MAX)
            found[count++] = key;
    }
    for (const char *at = old ? old->facts->labels : ""; *at;) {
        if (!json_object_get(labels, at) && !is_allowed_label(at) && count < FORBIDDEN_MAX)
            found[count++] = at;
        at += strlen(at) + 1;
        at += strlen(at) + 1;
    }
    qsort(found, count, sizeof(found[0]), by_text);
    out[0] = '\0';
    for (size_t i = 0; i < count && used < room; i++) {
        int n = snprintf(out + used, room - used, "%s%s", i ? ", " : "", found[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    return count;
}

/* ---- nodes ---- */

static bool same_member(const json_t *a, const json_t *b, const char *first, const char *second)
{
    const json_t *x = json_object_get(json_object_get(a, first), second);
    const json_t *y = json_object_get(json_object_get(b, first), second);
    bool is_empty_x = !x || json_is_null(x) || (json_is_array(x) && json_array_size(x) == 0);
    bool is_empty_y = !y || json_is_null(y) || (json_is_array(y) && json_array_size(y) == 0);
    return (is_empty_x && is_empty_y) || (!is_empty_x && !is_empty_y && json_equal(x, y));
}

static bool admit_node(const struct dev_request *r, const struct dev_object *old,
                       const json_t *fresh, struct dev_error *e)
{
    char labels[900];
    const char *name = string_at(json_object_get(fresh, "metadata"), "name");
    if (r->path->name[0])
        name = r->path->name;
    if (strcmp(name, r->node) != 0)
        return deny(r, name, e, "node \"%s\" is not allowed to modify node \"%s\"", r->node, name);
    if (r->verb == DEV_CREATE) {
        if (forbidden_labels(NULL, fresh, labels, sizeof(labels)) > 0)
            return deny(r, name, e, "node \"%s\" is not allowed to set the following labels: %s",
                        r->node, labels);
        return true;
    }
    if (!old || !fresh)
        return true;
    json_t *before = dev_object_parse(old);
    bool same_taints = same_member(before, fresh, "spec", "taints");
    bool same_owners = same_member(before, fresh, "metadata", "ownerReferences");
    json_decref(before);
    if (!same_taints && strcmp(r->path->subresource, "status") != 0)
        return deny(r, name, e, "node \"%s\" is not allowed to modify taints", r->node);
    if (!same_owners)
        return deny(r, name, e, "node \"%s\" is not allowed to modify ownerReferences", r->node);
    if (forbidden_labels(old, fresh, labels, sizeof(labels)) > 0)
        return deny(r, name, e, "is not allowed to modify labels: %s", labels);
    return true;
}

/* ---- pods ---- */

static bool admit_mirror_pod(struct dev_store *store, const struct dev_request *r,
                             const json_t *fresh, struct dev_error *e)
{
    const json_t *metadata = json_object_get(fresh, "metadata");
    const json_t *owners = json_object_get(metadata, "ownerReferences");
    const json_t *owner = json_array_get(owners, 0);
    const char *name = string_at(metadata, "name");

    if (!json_object_get(json_object_get(metadata, "annotations"), MIRROR))
        return deny(r, name, e,
                    "pod does not have \"" MIRROR
                    "\" annotation, node \"%s\" can only create mirror pods",
                    r->node);
    if (strcmp(string_at(json_object_get(fresh, "spec"), "nodeName"), r->node) != 0)
        return deny(r, name, e, "node \"%s\" can only create pods with spec.nodeName set to itself",
                    r->node);
    if (json_array_size(owners) > 1)
        return deny(r, name, e,
                    "node \"%s\" can only create pods with a single owner reference set to itself",
                    r->node);
    if (strcmp(string_at(owner, "apiVersion"), "v1") != 0 ||
        strcmp(string_at(owner, "kind"), "Node") != 0 ||
        strcmp(string_at(owner, "name"), r->node) != 0)
        return deny(r, name, e,
                    "node \"%s\" can only create pods with an owner reference set to itself",
                    r->node);
    if (!json_is_true(json_object_get(owner, "controller")))
        return deny(
            r, name, e,
            "node \"%s\" can only create pods with a controller owner reference set to itself",
            r->node);
    if (json_is_true(json_object_get(owner, "blockOwnerDeletion")))
        return deny(r, name, e, "node \"%s\" must not set blockOwnerDeletion on an owner reference",
                    r->node);
    struct dev_entry *node = dev_store_find(store, dev_kind(DEV_NODE), "", r->node);
    if (!node) {
        dev_error_not_found(e, dev_kind(DEV_NODE), r->node);
        return false;
    }
    const char *uid = string_at(owner, "uid");
    if (strcmp(uid, node->object->facts->uid) != 0)
        return deny(r, name, e, "node %s UID mismatch: expected %s got %s", r->node, uid,
                    node->object->facts->uid);
    struct dev_text mentions = {0};
    dev_mentions_add(&mentions, json_object_get(fresh, "spec"));
    const char *what = mentions.size == 0      ? NULL
                       : mentions.at[0] == 's' ? "secrets"
                       : mentions.at[0] == 'c' ? "configmaps"
                       : mentions.at[0] == 'p' ? "persistentvolumeclaims"
                                               : "serviceaccounts";
    dev_text_fini(&mentions);
    return what ? deny(r, name, e, "node \"%s\" can not create pods that reference %s", r->node,
                       what)
                : true;
}

static bool admit_pod_status(const struct dev_request *r, const struct dev_object *old,
                             const json_t *fresh, struct dev_error *e)
{
    const char *name = r->path->name;
    if (!old)
        return true;
    if (strcmp(old->facts->node_name, r->node) != 0)
        return deny(
            r, name, e,
            "node \"%s\" can only update pod status for pods with spec.nodeName set to itself",
            r->node);
    const json_t *labels = json_object_get(json_object_get(fresh, "metadata"), "labels");
    size_t before = 0;
    bool is_same = true;
    for (const char *at = old->facts->labels; *at; before++) {
        const char *value = at + strlen(at) + 1;
        is_same = is_same && strcmp(string_at(labels, at), value) == 0;
        at = value + strlen(value) + 1;
    }
    if (!is_same || before != json_object_size(labels))
        return deny(r, name, e, "node \"%s\" cannot update labels through pod status", r->node);
    return true;
}

static bool admit_pod(struct dev_store *store, const struct dev_request *r,
                      const struct dev_object *old, const json_t *fresh, struct dev_error *e)
{
    if (strcmp(r->path->subresource, "status") == 0)
        return admit_pod_status(r, old, fresh, e);
    if (r->verb == DEV_CREATE)
        return admit_mirror_pod(store, r, fresh, e);
    if (r->verb == DEV_DELETE && old && strcmp(old->facts->node_name, r->node) != 0)
        return deny(r, r->path->name, e,
                    "node \"%s\" can only delete pods with spec.nodeName set to itself", r->node);
    return true;
}

bool dev_admit(struct dev_store *store, const struct dev_request *r, const struct dev_object *old,
               const json_t *fresh, struct dev_error *e)
{
    if (!r->node)
        return true;
    switch (r->path->kind->index) {
    case DEV_NODE:
        return admit_node(r, old, fresh, e);
    case DEV_POD:
        return admit_pod(store, r, old, fresh, e);
    case DEV_LEASE: {
        const char *name = string_at(json_object_get(fresh, "metadata"), "name");
        if (r->verb == DEV_CREATE && strcmp(name, r->node) != 0)
            return deny(r, name, e,
                        "can only access node lease with the same name as the requesting node");
        return true;
    }
    default:
        return true;
    }
}

bool dev_admit_status(const struct dev_request *r, const struct dev_object *old,
                      struct dev_error *e)
{
    const char *name = r->path->name;
    if (!r->node)
        return true;
    if (r->path->kind->index == DEV_NODE && strcmp(name, r->node) != 0)
        return deny(r, name, e, "node \"%s\" is not allowed to modify node \"%s\"", r->node, name);
    if (r->path->kind->index == DEV_POD && strcmp(old->facts->node_name, r->node) != 0)
        return deny(
            r, name, e,
            "node \"%s\" can only update pod status for pods with spec.nodeName set to itself",
            r->node);
    return true;
}

bool dev_admit_token(struct dev_store *store, const struct dev_request *r, const json_t *fresh,
                     struct dev_error *e)
{
    if (!r->node)
        return true;
    const json_t *ref = json_object_get(json_object_get(fresh, "spec"), "boundObjectRef");
    const char *name = string_at(ref, "name"), *uid = string_at(ref, "uid");
    if (strcmp(string_at(ref, "apiVersion"), "v1") != 0 ||
        strcmp(string_at(ref, "kind"), "Pod") != 0 || !name[0])
        return deny(r, r->path->name, e, "node requested token not bound to a pod");
    if (!uid[0])
        return deny(r, r->path->name, e, "node requested token with a pod binding without a uid");
    struct dev_entry *pod = dev_store_find(store, dev_kind(DEV_POD), r->path->namespace_, name);
    if (!pod) {
        dev_error_not_found(e, dev_kind(DEV_POD), name);
        return false;
    }
    if (strcmp(pod->object->facts->uid, uid) != 0)
        return deny(r, r->path->name, e,
                    "the UID in the bound object reference (%s) does not match the UID in record. "
                    "The object might have been deleted and then recreated",
                    uid);
    if (strcmp(pod->object->facts->node_name, r->node) != 0)
        return deny(r, r->path->name, e,
                    "node requested token bound to a pod scheduled on a different node");
    return true;
}
