/* The table of resources that devapi serves, and what a request's path says. Pure; any thread. */
#ifndef DEVAPI_KINDS_H
#define DEVAPI_KINDS_H

#include <stdbool.h>
#include <stddef.h>

enum dev_kind_index {
    DEV_NODE,
    DEV_LEASE,
    DEV_POD,
    DEV_CONFIGMAP,
    DEV_SECRET,
    DEV_EVENT,
    DEV_SERVICEACCOUNT,
    DEV_PERSISTENTVOLUME,
    DEV_PERSISTENTVOLUMECLAIM,
    DEV_VOLUMEATTACHMENT,
    DEV_CSR,
    DEV_NAMESPACE,
    DEV_OBJECTSYNC,
    DEV_CLUSTEROBJECTSYNC,
    DEV_KIND_COUNT
};

struct dev_kind {
    enum dev_kind_index index;
    const char *singular, *plural, *kind, *group, *version, *short_name;
    const char *api_version; /* "v1", "coordination.k8s.io/v1" */
    const char *qualified;   /* as errors name it: "leases.coordination.k8s.io" */
    const char
        *prefix; /* what every serialised object starts with: {"kind":...,"apiVersion":..., */
    bool is_namespaced;
    bool has_status; /* a /status subresource; the plain one then does not touch status */
    bool status_takes_metadata; /* /status also takes labels and annotations (nodes, pods) */
    bool returns_deleted;       /* a deletion is answered with the object, not with a Status */
    bool creates_on_update;     /* PUT of what is not there creates it */
    bool needs_version;         /* PUT without resourceVersion is refused */
    bool is_custom;             /* a custom resource: no strategic merge patch */
};

const struct dev_kind *dev_kind(enum dev_kind_index index);
size_t dev_kind_prefix_size(const struct dev_kind *kind);
/* By singular, plural or short name, any of which a flag may use; NULL if unknown. */
/* From here on custom resources are unknown, as where their definitions were not applied. Start-up
 * only. */
void dev_kinds_without_custom(void);
const struct dev_kind *dev_kind_by_name(const char *name);
/* By "apiVersion" and "kind" of an object; NULL if unknown. `api_version` may be NULL. */
const struct dev_kind *dev_kind_by_object(const char *api_version, const char *kind);
const struct dev_kind *dev_kind_by_plural(const char *group, const char *version,
                                          const char *plural);

#define DEV_NAME_MAX 254

struct dev_path {
    const struct dev_kind *kind;
    char namespace_[DEV_NAME_MAX]; /* "" for cluster-wide */
    char name[DEV_NAME_MAX];       /* "" for the collection */
    char subresource[32];          /* "" for the object itself */
};

/* Parses /api/v1/... and /apis/GROUP/VERSION/..., without the query. 0; -ENOENT (no such resource);
 * -EINVAL (a broken escape, or a name too long). */
int dev_path_parse(const char *path, size_t size, struct dev_path *out);

enum dev_verb {
    DEV_GET,
    DEV_LIST,
    DEV_WATCH,
    DEV_CREATE,
    DEV_UPDATE,
    DEV_PATCH,
    DEV_DELETE,
    DEV_DELETECOLLECTION,
    DEV_VERB_COUNT
};

const char *dev_verb_name(enum dev_verb verb);
bool dev_verb_is_write(enum dev_verb verb);

#endif
