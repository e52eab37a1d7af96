/* See steer.h. */
#include "hub/steer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->is_listed = false)
#include <uthash.h>

struct entry {
    UT_hash_handle hh;
    char *name;
    bool is_listed, is_bridged;
    _Atomic uint32_t refusals;
    uint64_t since_release_ms;
};

struct steer {
    _Atomic uint32_t refs;
    const struct balancer_config *config;
    struct balancer_decision decision;
    uint64_t made_ms;
    struct entry *by_name;
    size_t count;
    struct entry entries[];
};

static int add(struct steer *s, const struct balance_flight *node)
{
    struct entry *e = &s->entries[s->count];
    e->name = strdup(node->node);
    if (!e->name)
        return -1;
    s->count++;
    e->is_listed = true;
    e->is_bridged = node->is_bridged;
    e->since_release_ms = node->since_release_ms;
    atomic_init(&e->refusals, node->refusals);
    HASH_ADD_KEYPTR(hh, s->by_name, e->name, strlen(e->name), e);
    return e->is_listed ? 0 : -1;
}

struct steer *steer_create(const struct balancer_config *config,
                           const struct balancer_decision *decision,
                           const struct balance_flight *nodes, size_t count, uint64_t now_ms)
{
    struct steer *s = calloc(1, sizeof(*s) + count * sizeof(s->entries[0]));
    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    s->config = config;
    s->decision = *decision;
    s->made_ms = now_ms;
    for (size_t i = 0; i < count; i++) {
        if (add(s, &nodes[i]) != 0) {
            steer_put(s);
            return NULL;
        }
    }
    return s;
}

struct steer *steer_get(struct steer *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void steer_put(struct steer *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    HASH_CLEAR(hh, s->by_name);
    for (size_t i = 0; i < s->count; i++)
        free(s->entries[i].name);
    free(s);
}

bool steer_refuses(struct steer *s, const struct node_name *node, uint64_t now_ms)
{
    struct entry *e = NULL;
    HASH_FIND(hh, s->by_name, node->text, node->size, e);
    if (!e)
        return false;
    const struct balancer_arrival arrival = {
        .is_released = true,
        .is_bridged = e->is_bridged,
        .refusals = atomic_load_explicit(&e->refusals, memory_order_relaxed),
        .since_release_ms = e->since_release_ms + (now_ms > s->made_ms ? now_ms - s->made_ms : 0),
    };
    if (!balancer_should_refuse(s->config, &s->decision, &arrival))
        return false;
    atomic_fetch_add_explicit(&e->refusals, 1, memory_order_relaxed);
    return true;
}
