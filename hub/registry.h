/* Which session a node has, across all loops of the process: the newest connection of a node wins.
 * Any thread; the names are spread over small locks, held for one hash look-up. */
#ifndef HUB_REGISTRY_H
#define HUB_REGISTRY_H

#include "hub/message.h"

#include <pthread.h>
#include <stdbool.h>

/* Before uthash.h: an allocation that fails is reported, it does not end the process. */
#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->is_listed = false)
#include <uthash.h>

/* Embedded in a session; zeroed is not listed. Guarded by its shard's lock. */
struct registry_entry {
    UT_hash_handle hh;
    struct node_name *node; /* borrowed from the session */
    struct session_ref session;
    uint64_t order; /* of two sessions of one node, the later one has the higher */
    bool is_listed;
};

#define REGISTRY_SHARDS 16

struct registry {
    struct {
        pthread_mutex_t lock;
        struct registry_entry *entries; /* under lock, by name */
        uint64_t taken;                 /* under lock */
    } shards[REGISTRY_SHARDS];
};

void registry_init(struct registry *r);
/* Every session has left before. */
void registry_fini(struct registry *r);
/* The node's session is `session` from here on; `entry` stays listed, with `node` borrowed, until
 * registry_leave() or until another session takes its place. 1: `previous` had it until now and is
 * to be closed. 0: nobody had. -ENOMEM. */
int registry_take(struct registry *r, struct registry_entry *entry, struct node_name *node,
                  struct session_ref session, struct session_ref *previous)
    __attribute__((warn_unused_result));
/* The session ends. False, and nothing happens, when another has taken its place. */
bool registry_leave(struct registry *r, struct registry_entry *entry, struct node_name *node);
bool registry_find(struct registry *r, const char *name, struct session_ref *session);

#endif
