/* See registry.h.
 *
 * An entry lies in its session, which another loop may unlist under the shard's lock when a newer
 * session of the node takes its place. The session's own loop may free it only after
 * registry_leave(), which takes the same lock: nobody holds on to an entry outside of it. */
#include "hub/registry.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void registry_init(struct registry *r)
{
    memset(r, 0, sizeof(*r));
    for (size_t i = 0; i < REGISTRY_SHARDS; i++) {
        int rc = pthread_mutex_init(&r->shards[i].lock, NULL);
        assert(rc == 0);
    }
}

void registry_fini(struct registry *r)
{
    for (size_t i = 0; i < REGISTRY_SHARDS; i++) {
        assert(!r->shards[i].entries);
        pthread_mutex_destroy(&r->shards[i].lock);
    }
}

/* The name's hash also chooses the upstream worker by its low bits: the shard takes the high ones.
 */
static size_t shard_of(const struct node_name *node)
{
    return (node->hash >> 16) % REGISTRY_SHARDS;
}

int registry_take(struct registry *r, struct registry_entry *entry, struct node_name *node,
                  struct session_ref session, struct session_ref *previous)
{
    size_t i = shard_of(node);
    struct registry_entry *old = NULL;
    int rc = 0;

    assert(!entry->is_listed);
    pthread_mutex_lock(&r->shards[i].lock);
    HASH_FIND(hh, r->shards[i].entries, node->text, node->size, old);
    entry->node = node;
    entry->session = session;
    entry->order = ++r->shards[i].taken;
    entry->is_listed = true;
    HASH_ADD_KEYPTR(hh, r->shards[i].entries, node->text, node->size, entry);
    if (!entry->is_listed) {
        rc = -ENOMEM; /* the older one stays: who is counted as come must be seen to leave */
    } else if (old) {
        *previous = old->session;
        HASH_DELETE(hh, r->shards[i].entries, old);
        old->is_listed = false;
        rc = 1;
    }
    pthread_mutex_unlock(&r->shards[i].lock);
    return rc;
}

bool registry_leave(struct registry *r, struct registry_entry *entry, struct node_name *node)
{
    size_t i = shard_of(node);
    pthread_mutex_lock(&r->shards[i].lock);
    bool was_listed = entry->is_listed;
    if (was_listed) {
        HASH_DELETE(hh, r->shards[i].entries, entry);
        entry->is_listed = false;
    }
    pthread_mutex_unlock(&r->shards[i].lock);
    return was_listed;
}

bool registry_find(struct registry *r, const char *name, struct session_ref *session)
{
    /* The shard follows from the hash that node_name_create() makes; asking is rare. */
    struct node_name *node = node_name_create(name, strlen(name), false);
    if (!node)
        return false;
    size_t i = shard_of(node);
    struct registry_entry *found = NULL;
    pthread_mutex_lock(&r->shards[i].lock);
    HASH_FIND(hh, r->shards[i].entries, node->text, node->size, found);
    if (found)
        *session = found->session;
    pthread_mutex_unlock(&r->shards[i].lock);
    node_name_put(node);
    return found != NULL;
}
