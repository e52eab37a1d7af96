/* See kinds.h. */
#include "test/devapi/kinds.h"
#include "test/devapi/text.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define CORE(i, singular_, plural_, kind_, short_)                                                 \
    .index = (i), .singular = (singular_), .plural = (plural_), .kind = (kind_), .group = "",      \
    .version = "v1", .short_name = (short_), .api_version = "v1", .qualified = (plural_),          \
    .prefix = "{\"kind\":\"" kind_ "\",\"apiVersion\":\"v1\","
#define GROUP(i, singular_, plural_, kind_, short_, group_, version_)                              \
    .index = (i), .singular = (singular_), .plural = (plural_), .kind = (kind_),                   \
    .group = (group_), .version = (version_), .short_name = (short_),                              \
    .api_version = group_ "/" version_, .qualified = plural_ "." group_,                           \
    .prefix = "{\"kind\":\"" kind_ "\",\"apiVersion\":\"" group_ "/" version_ "\","

/* Which kinds create on update, want a version or return what was deleted: the strategies in
 * kubernetes/pkg/registry. */
static const struct dev_kind kinds[DEV_KIND_COUNT] = {
    [DEV_NODE] = {CORE(DEV_NODE, "node", "nodes", "Node", "no"), .has_status = true,
                  .status_takes_metadata = true},
    [DEV_LEASE] = {GROUP(DEV_LEASE, "lease", "leases", "Lease", "", "coordination.k8s.io", "v1"),
                   .is_namespaced = true, .creates_on_update = true, .needs_version = true},
    [DEV_POD] = {CORE(DEV_POD, "pod", "pods", "Pod", "po"), .is_namespaced = true,
                 .has_status = true, .status_takes_metadata = true, .returns_deleted = true},
    [DEV_CONFIGMAP] = {CORE(DEV_CONFIGMAP, "configmap", "configmaps", "ConfigMap", "cm"),
                       .is_namespaced = true},
    [DEV_SECRET] = {CORE(DEV_SECRET, "secret", "secrets", "Secret", ""), .is_namespaced = true},
    [DEV_EVENT] = {CORE(DEV_EVENT, "event", "events", "Event", "ev"), .is_namespaced = true,
                   .creates_on_update = true},
    [DEV_SERVICEACCOUNT] = {CORE(DEV_SERVICEACCOUNT, "serviceaccount", "serviceaccounts",
                                 "ServiceAccount", "sa"),
                            .is_namespaced = true, .returns_deleted = true},
    [DEV_PERSISTENTVOLUME] = {CORE(DEV_PERSISTENTVOLUME, "persistentvolume", "persistentvolumes",
                                   "PersistentVolume", "pv"),
                              .has_status = true, .returns_deleted = true},
    [DEV_PERSISTENTVOLUMECLAIM] = {CORE(DEV_PERSISTENTVOLUMECLAIM, "persistentvolumeclaim",
                                        "persistentvolumeclaims", "PersistentVolumeClaim", "pvc"),
                                   .is_namespaced = true, .has_status = true,
                                   .returns_deleted = true},
    [DEV_VOLUMEATTACHMENT] = {GROUP(DEV_VOLUMEATTACHMENT, "volumeattachment", "volumeattachments",
                                    "VolumeAttachment", "", "storage.k8s.io", "v1"),
                              .has_status = true, .returns_deleted = true, .needs_version = true},
    [DEV_CSR] = {GROUP(DEV_CSR, "certificatesigningrequest", "certificatesigningrequests",
                       "CertificateSigningRequest", "csr", "certificates.k8s.io", "v1"),
                 .has_status = true},
    [DEV_NAMESPACE] = {CORE(DEV_NAMESPACE, "namespace", "namespaces", "Namespace", "ns"),
                       .has_status = true, .returns_deleted = true},
    [DEV_OBJECTSYNC] = {GROUP(DEV_OBJECTSYNC, "objectsync", "objectsyncs", "ObjectSync", "",
                              "reliablesyncs.kubeedge.io", "v1alpha1"),
                        .is_namespaced = true, .has_status = true, .needs_version = true,
                        .is_custom = true},
    [DEV_CLUSTEROBJECTSYNC] = {GROUP(DEV_CLUSTEROBJECTSYNC, "clusterobjectsync",
                                     "clusterobjectsyncs", "ClusterObjectSync", "",
                                     "reliablesyncs.kubeedge.io", "v1alpha1"),
                               .has_status = true, .needs_version = true, .is_custom = true},
};

const struct dev_kind *dev_kind(enum dev_kind_index index)
{
    return &kinds[index];
}

size_t dev_kind_prefix_size(const struct dev_kind *kind)
{
    return strlen(kind->prefix);
}

const struct dev_kind *dev_kind_by_name(const char *name)
{
    for (size_t i = 0; i < DEV_KIND_COUNT; i++) {
        const struct dev_kind *k = &kinds[i];
        if (strcasecmp(name, k->singular) == 0 || strcasecmp(name, k->plural) == 0 ||
            (k->short_name[0] && strcasecmp(name, k->short_name) == 0))
            return k;
    }
    return NULL;
}

const struct dev_kind *dev_kind_by_object(const char *api_version, const char *kind)
{
    for (size_t i = 0; i < DEV_KIND_COUNT; i++) {
        if (strcmp(kinds[i].kind, kind) == 0 &&
            (!api_version || strcmp(kinds[i].api_version, api_version) == 0))
            return &kinds[i];
    }
    return NULL;
}

static bool has_no_custom;

void dev_kinds_without_custom(void)
{
    has_no_custom = true;
}

const struct dev_kind *dev_kind_by_plural(const char *group, const char *version,
                                          const char *plural)
{
    for (size_t i = 0; i < DEV_KIND_COUNT; i++) {
        if (has_no_custom && kinds[i].is_custom)
            continue;
        if (strcmp(kinds[i].plural, plural) == 0 && strcmp(kinds[i].group, group) == 0 &&
            strcmp(kinds[i].version, version) == 0)
            return &kinds[i];
    }
    return NULL;
}

/* Copies the next segment, decoded, and moves behind it. False at the end of the path. */
struct walk {
    const char *at, *end;
    int error;
};

static bool next_segment(struct walk *w, char *out, size_t room)
{
    while (w->at < w->end && *w->at == '/')
        w->at++;
    if (w->at == w->end || w->error)
        return false;
    const char *slash = memchr(w->at, '/', (size_t)(w->end - w->at));
    size_t size = (size_t)((slash ? slash : w->end) - w->at);
    if (size >= room) {
        w->error = -EINVAL;
        return false;
    }
    memcpy(out, w->at, size);
    w->at += size;
    long decoded = memchr(out, '%', size) ? dev_percent_decode(out, size, false) : (long)size;
    if (decoded < 0) {
        w->error = -EINVAL;
        return false;
    }
    out[decoded] = '\0';
    return true;
}

static int error_of(const struct walk *w)
{
    return w->error ? w->error : -ENOENT;
}

static int parse_resource(struct walk *w, const char *group, const char *version,
                          struct dev_path *out)
{
    char plural[64];
    if (!next_segment(w, plural, sizeof(plural)))
        return error_of(w);

    if (strcmp(plural, "namespaces") == 0 && next_segment(w, out->namespace_, DEV_NAME_MAX)) {
        char inner[64];
        if (next_segment(w, inner, sizeof(inner))) {
            out->kind = dev_kind_by_plural(group, version, inner);
            if (!out->kind && group[0] == '\0') { /* /api/v1/namespaces/NAME/status */
                memcpy(out->name, out->namespace_, sizeof(out->name));
                out->namespace_[0] = '\0';
                out->kind = &kinds[DEV_NAMESPACE];
                if (strlen(inner) >= sizeof(out->subresource))
                    return -ENOENT;
                memcpy(out->subresource, inner, strlen(inner) + 1);
                return w->at == w->end ? 0 : -ENOENT;
            }
            if (!out->kind || !out->kind->is_namespaced)
                return -ENOENT;
            if (next_segment(w, out->name, DEV_NAME_MAX))
                next_segment(w, out->subresource, sizeof(out->subresource));
            return w->error ? w->error : 0;
        }
        memcpy(out->name, out->namespace_, sizeof(out->name));
        out->namespace_[0] = '\0';
        out->kind = group[0] == '\0' ? &kinds[DEV_NAMESPACE] : NULL;
        return w->error ? w->error : out->kind ? 0 : -ENOENT;
    }
    out->kind = dev_kind_by_plural(group, version, plural);
    if (!out->kind)
        return error_of(w);
    if (next_segment(w, out->name, DEV_NAME_MAX)) {
        if (out->kind->is_namespaced) /* a name needs its namespace */
            return -ENOENT;
        next_segment(w, out->subresource, sizeof(out->subresource));
    }
    return w->error;
}

int dev_path_parse(const char *path, size_t size, struct dev_path *out)
{
    out->kind = NULL;
    out->namespace_[0] = out->name[0] = out->subresource[0] = '\0';

    struct walk w = {.at = path, .end = path + size};
    char root[16], group[128] = "", version[32];
    if (!next_segment(&w, root, sizeof(root)))
        return error_of(&w);
    if (strcmp(root, "apis") == 0) {
        if (!next_segment(&w, group, sizeof(group)))
            return error_of(&w);
    } else if (strcmp(root, "api") != 0) {
        return -ENOENT;
    }
    if (!next_segment(&w, version, sizeof(version)))
        return error_of(&w);
    int rc = parse_resource(&w, group, version, out);
    return rc == 0 && w.at != w.end ? -ENOENT : rc;
}

const char *dev_verb_name(enum dev_verb verb)
{
    static const char *const names[DEV_VERB_COUNT] = {
        "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"};
    return names[verb];
}

bool dev_verb_is_write(enum dev_verb verb)
{
    return verb >= DEV_CREATE;
}
