/* All objects by kind and key, one counter of versions for all of them, and per kind the latest
 * changes for watches to resume from. Everything is bounded: events by --event-cap, histories by
 * count and bytes. Loop thread only. */
#ifndef DEVAPI_STORE_H
#define DEVAPI_STORE_H

#include "test/devapi/object.h"

#include <stdint.h>
#include <uthash.h>

/* Lease ages, on our own monotonic clock; see leases.h. */
struct dev_lease_age {
    uint64_t renewed_ms, max_ms;
};

struct dev_entry {
    UT_hash_handle hh;
    struct dev_object *object;     /* owned */
    struct dev_entry *prev, *next; /* pods: of the same node */
    struct dev_node_pods *node;    /* pods: whose list it is in; NULL if unbound */
    struct dev_lease_age lease;    /* leases */
    char key[];                    /* NAMESPACE/NAME */
};

enum dev_change_type { DEV_ADDED, DEV_MODIFIED, DEV_DELETED };

struct dev_change {
    enum dev_change_type type;
    struct dev_object *object; /* as it is now, or as it last was, with the version of the change */
    struct dev_object *previous; /* NULL for ADDED */
};

struct dev_store;

struct dev_store_limits {
    size_t event_cap, history_count, history_bytes;
};

struct dev_store *dev_store_create(const struct dev_store_limits *limits);
void dev_store_destroy(struct dev_store *s);

uint64_t dev_store_version(const struct dev_store *s);
/* Borrowed until the next change. */
struct dev_entry *dev_store_find(struct dev_store *s, const struct dev_kind *kind,
                                 const char *namespace_, const char *name);
size_t dev_store_count(const struct dev_store *s, const struct dev_kind *kind);
size_t dev_store_bytes(const struct dev_store *s, const struct dev_kind *kind);
/* Sorted by namespace and name; borrowed until the next change. NULL with *count 0 if empty or
 * without memory. */
struct dev_entry *const *dev_store_sorted(struct dev_store *s, const struct dev_kind *kind,
                                          size_t *count);
/* The pods bound to a node: a list by next; NULL if none. Borrowed until the next change. */
struct dev_entry *dev_store_pods_of(struct dev_store *s, const char *node);

/* Stores `object`, built for version dev_store_version() + 1: takes it. 0 or -ENOMEM. */
int dev_store_set(struct dev_store *s, struct dev_object *object)
    __attribute__((warn_unused_result));
/* Removes it and records `last` (takes it), the object with the deletion's version. 0 or -ENOMEM.
 */
int dev_store_remove(struct dev_store *s, struct dev_entry *entry, struct dev_object *last)
    __attribute__((warn_unused_result));
/* As set, for a seed: the object keeps its version, the counter moves beyond it, and no history is
 * written. */
int dev_store_load(struct dev_store *s, struct dev_object *object)
    __attribute__((warn_unused_result));
/* Called after each recorded change (not for loads). One listener. */
void dev_store_listen(struct dev_store *s,
                      void (*changed)(void *context, const struct dev_change *change),
                      void *context);

/* ---- history ---- */

/* Every change of the kind above this version is still there. */
uint64_t dev_history_floor(const struct dev_store *s, const struct dev_kind *kind);
/* The first change above `version`, or NULL. Borrowed until the next change. */
const struct dev_change *dev_history_after(const struct dev_store *s, const struct dev_kind *kind,
                                           uint64_t version);

#endif
