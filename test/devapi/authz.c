/* See authz.h. */
#include "test/devapi/authz.h"
#include "isthmus/jsonscan.h"
#include "test/devapi/mentions.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#define WHY_BYTES 512

const char *dev_node_of(const char *user, bool in_group)
{
    static const char prefix[] = "system:node:";
    if (!in_group || strncmp(user, prefix, sizeof(prefix) - 1) != 0)
        return NULL;
    return user + sizeof(prefix) - 1;
}

/* Mirror pods give no access: a node makes them itself. */
bool dev_node_has(struct dev_store *store, const char *node, const char *namespace_, char type,
                  const char *name)
{
    const struct dev_entry *pod;
    DL_FOREACH (dev_store_pods_of(store, node), pod) {
        const struct dev_facts *f = pod->object->facts;
        if (!f->is_mirror && strcmp(f->namespace_, namespace_) == 0 &&
            dev_mentions_has(f->mentions, type, name))
            return true;
    }
    return false;
}

/* ---- the graph ---- */

static bool copy_span(const struct json_span *span, char *out)
{
    if (span->kind != JSON_KIND_STRING || span->size >= DEV_NAME_MAX)
        return false;
    out[jsonscan_unescape(span, out)] = '\0';
    return true;
}

/* A volume is the node's if the claim it is bound to is. */
static bool has_volume(struct dev_store *store, const char *node, const char *name)
{
    static const char *const ns_path[] = {"spec", "claimRef", "namespace", NULL};
    static const char *const name_path[] = {"spec", "claimRef", "name", NULL};
    struct json_span ns, claim;
    char ns_text[DEV_NAME_MAX], claim_text[DEV_NAME_MAX];
    struct dev_entry *pv = dev_store_find(store, dev_kind(DEV_PERSISTENTVOLUME), "", name);
    return pv && jsonscan_find(pv->object->json, pv->object->size, ns_path, &ns) == 0 &&
           jsonscan_find(pv->object->json, pv->object->size, name_path, &claim) == 0 &&
           copy_span(&ns, ns_text) && copy_span(&claim, claim_text) &&
           dev_node_has(store, node, ns_text, 'p', claim_text);
}

static bool has_path(struct dev_store *store, const struct dev_request *r)
{
    const char *ns = r->path->namespace_, *name = r->path->name;
    struct dev_entry *entry;
    switch (r->path->kind->index) {
    case DEV_SECRET:
        return dev_node_has(store, r->node, ns, 's', name);
    case DEV_CONFIGMAP:
        return dev_node_has(store, r->node, ns, 'c', name);
    case DEV_PERSISTENTVOLUMECLAIM:
        return dev_node_has(store, r->node, ns, 'p', name);
    case DEV_SERVICEACCOUNT:
        return dev_node_has(store, r->node, ns, 'a', name);
    case DEV_PERSISTENTVOLUME:
        return has_volume(store, r->node, name);
    case DEV_POD:
    case DEV_VOLUMEATTACHMENT:
        entry = dev_store_find(store, r->path->kind, ns, name);
        return entry && strcmp(entry->object->facts->node_name, r->node) == 0;
    default:
        return false;
    }
}

static bool related(struct dev_store *store, const struct dev_request *r, char *why)
{
    if (!r->path->name[0]) {
        snprintf(why, WHY_BYTES, "No Object name found");
        return false;
    }
    if (has_path(store, r))
        return true;
    snprintf(why, WHY_BYTES, "no relationship found between node '%s' and this object", r->node);
    return false;
}

static bool may_get(struct dev_store *store, const struct dev_request *r, char *why)
{
    if (r->verb != DEV_GET) {
        snprintf(why, WHY_BYTES, "can only get individual resources of this type");
        return false;
    }
    if (r->path->subresource[0]) {
        snprintf(why, WHY_BYTES, "cannot get subresource");
        return false;
    }
    return related(store, r, why);
}

static bool may_read(struct dev_store *store, const struct dev_request *r, char *why)
{
    if (dev_verb_is_write(r->verb)) {
        snprintf(why, WHY_BYTES, "can only read resources of this type");
        return false;
    }
    if (r->path->subresource[0]) {
        snprintf(why, WHY_BYTES, "cannot read subresource");
        return false;
    }
    if (!r->path->namespace_[0]) {
        snprintf(why, WHY_BYTES, "can only read namespaced object of this type");
        return false;
    }
    /* A list of one, by its name. */
    const char *name = dev_selector_field(r->selector, "metadata.name");
    if (r->path->name[0] || !name)
        return related(store, r, why);
    struct dev_path path = *r->path;
    struct dev_request one = *r;
    snprintf(path.name, sizeof(path.name), "%s", name);
    one.path = &path;
    return related(store, &one, why);
}

static bool may_lease(const struct dev_request *r, char *why)
{
    if (r->verb == DEV_LIST || r->verb == DEV_WATCH || r->verb == DEV_DELETECOLLECTION)
        snprintf(why, WHY_BYTES, "can only get, create, update, patch, or delete a node lease");
    else if (strcmp(r->path->namespace_, "kube-node-lease") != 0)
        snprintf(why, WHY_BYTES,
                 "can only access leases in the \"kube-node-lease\" system namespace");
    else if (r->verb != DEV_CREATE && strcmp(r->path->name, r->node) != 0)
        snprintf(why, WHY_BYTES,
                 "can only access node lease with the same name as the requesting node");
    else
        return true;
    return false;
}

static bool may_node(const struct dev_request *r, char *why)
{
    bool is_status = strcmp(r->path->subresource, "status") == 0;
    if (r->verb == DEV_UPDATE || r->verb == DEV_PATCH)
        return is_status || !r->path->subresource[0];
    if (r->path->subresource[0] || r->verb > DEV_CREATE)
        return false;
    if (r->verb == DEV_CREATE)
        return true;
    const char *name = r->path->name;
    if (!name[0] && dev_selector_field(r->selector, "metadata.name"))
        name = dev_selector_field(r->selector, "metadata.name");
    if (strcmp(name, r->node) == 0)
        return true;
    if (name[0])
        snprintf(why, WHY_BYTES, "node '%s' cannot read '%s', only its own Node object", r->node,
                 name);
    else
        snprintf(why, WHY_BYTES, "node '%s' cannot read all nodes, only its own Node object",
                 r->node);
    return false;
}

static bool may_pod(struct dev_store *store, const struct dev_request *r, char *why)
{
    if (strcmp(r->path->subresource, "status") == 0)
        return r->verb == DEV_UPDATE || r->verb == DEV_PATCH;
    if (r->path->subresource[0])
        return false;
    switch (r->verb) {
    case DEV_GET:
        return may_get(store, r, why);
    case DEV_CREATE:
    case DEV_DELETE:
        return true;
    case DEV_LIST:
    case DEV_WATCH: {
        const char *node = dev_selector_field(r->selector, "spec.nodeName");
        if (node && strcmp(node, r->node) == 0)
            return true;
        snprintf(why, WHY_BYTES, "can only list/watch pods with spec.nodeName field selector");
        return false;
    }
    default:
        return false;
    }
}

static bool may_token(struct dev_store *store, const struct dev_request *r, char *why)
{
    if (r->verb == DEV_GET && !r->path->subresource[0])
        return may_read(store, r, why);
    if (r->verb != DEV_CREATE || !r->path->name[0]) {
        snprintf(why, WHY_BYTES, "can only create tokens for individual service accounts");
        return false;
    }
    if (strcmp(r->path->subresource, "token") != 0) {
        snprintf(why, WHY_BYTES, "can only create token subresource of serviceaccount");
        return false;
    }
    return related(store, r, why);
}

static bool node_may(struct dev_store *store, const struct dev_request *r, char *why)
{
    bool is_plain = !r->path->subresource[0];
    switch (r->path->kind->index) {
    case DEV_SECRET:
    case DEV_CONFIGMAP:
        return may_read(store, r, why);
    case DEV_PERSISTENTVOLUME:
    case DEV_PERSISTENTVOLUMECLAIM:
    case DEV_VOLUMEATTACHMENT:
        return may_get(store, r, why);
    case DEV_SERVICEACCOUNT:
        return may_token(store, r, why);
    case DEV_LEASE:
        return may_lease(r, why);
    case DEV_NODE:
        return may_node(r, why);
    case DEV_POD:
        return may_pod(store, r, why);
    case DEV_EVENT:
        return is_plain && (r->verb == DEV_CREATE || r->verb == DEV_UPDATE || r->verb == DEV_PATCH);
    case DEV_CSR:
        return is_plain && r->verb <= DEV_CREATE;
    default:
        return false;
    }
}

static void forbid(const struct dev_request *r, const char *why, struct dev_error *e)
{
    const struct dev_path *p = r->path;
    char text[1200], where[DEV_NAME_MAX + 32];
    if (p->namespace_[0])
        snprintf(where, sizeof(where), "in the namespace \"%s\"", p->namespace_);
    else
        snprintf(where, sizeof(where), "at the cluster scope");
    snprintf(text, sizeof(text),
             "User \"%.256s\" cannot %s resource \"%s%s%s\" in API group \"%s\" %s%s%s", r->user,
             dev_verb_name(r->verb), p->kind->plural, p->subresource[0] ? "/" : "", p->subresource,
             p->kind->group, where, why[0] ? ": " : "", why);
    dev_error_forbidden(e, p->kind, p->name, text);
}

bool dev_authorize(struct dev_store *store, const struct dev_request *r, struct dev_error *e)
{
    char why[WHY_BYTES] = "";
    if (!r->node || node_may(store, r, why))
        return true;
    forbid(r, why, e);
    return false;
}
