/* A stored object: its serialised bytes, immutable and refcounted, laid out so that the frequent
 * writes need not be parsed:
 *
 *     {"kind":"Node","apiVersion":"v1","metadata":{"resourceVersion":"5150","name":...},"spec":{...},"status":{...}}
 *
 * The version comes first in metadata and status comes last, so a status write and a version change
 * are two copies and a splice. What selectors and the authorizer ask for is taken out once, into
 * facts that successive versions share. Loop thread only. */
#ifndef DEVAPI_OBJECT_H
#define DEVAPI_OBJECT_H

#include "test/devapi/kinds.h"
#include "test/devapi/text.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Everything points into data. Lists are strings one behind the other; an empty one ends them. */
struct dev_facts {
    unsigned refs;
    bool is_terminating, has_finalizers, is_mirror;
    uint64_t generation;
    const char *namespace_, *name, *uid;
    const char *created, *deleted; /* creationTimestamp, deletionTimestamp; "" if none */
    long grace_s;                  /* deletionGracePeriodSeconds, -1: none */
    const char *node_name;         /* spec.nodeName; "" if none */
    const char *labels;            /* key, value, key, value, ... */
    const char
        *mentions; /* of a pod: "s/NAME" secret, "c/" configmap, "p/" claim, "a/" service account */
    char data[];
};

struct dev_object {
    unsigned refs;
    const struct dev_kind *kind;
    struct dev_facts *facts;
    uint64_t version;
    char phase[16]; /* status.phase, cut */
    uint32_t version_at, version_size;
    uint32_t status_at, status_size; /* the value; size 0: none */
    uint32_t size;
    char json[]; /* NUL-terminated beyond size */
};

/* Serialises `root` (borrowed; its metadata.resourceVersion is ignored) as version `version`. The
 * caller owns one reference. NULL without memory. metadata.name and, for namespaced kinds,
 * metadata.namespace must be there. */
struct dev_object *dev_object_build(const struct dev_kind *kind, const json_t *root,
                                    uint64_t version);
/* The same object with another version and, unless `status` is NULL, another status. */
struct dev_object *dev_object_derive(const struct dev_object *old, uint64_t version,
                                     const char *status, size_t status_size);
struct dev_object *dev_object_get(struct dev_object *o);
void dev_object_put(struct dev_object *o);

/* Everything but the version is the same, byte for byte. */
bool dev_object_same(const struct dev_object *a, const struct dev_object *b);
/* Parses it whole. The caller owns the value. */
json_t *dev_object_parse(const struct dev_object *o);
/* A label's value, or NULL. */
const char *dev_facts_label(const struct dev_facts *facts, const char *key);
/* A field for a field selector ("spec.nodeName"), written to `out` (256 bytes) where it has to be
 * looked for. "" if absent; NULL if the kind has no such selectable field. */
const char *dev_object_field(const struct dev_object *o, const char *field, char *out);

#endif
