/* What travels between threads, see message.h. Plain heap objects: each is one allocation whose
 * size is known from the start, and the thread that ends with it frees it. */
#include "hub/message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a with a final mix: names of a fleet differ in their last digits only, and the workers are
 * few. */
static uint32_t hash_name(const char *text, size_t size)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    return h ^ (h >> 16);
}

struct node_name *node_name_create(const char *text, size_t size, bool is_legacy)
{
    struct node_name *n = malloc(sizeof(*n) + size + 1);
    if (!n)
        return NULL;
    atomic_init(&n->refs, 1);
    n->hash = hash_name(text, size);
    n->is_legacy = is_legacy;
    n->size = size;
    memcpy(n->text, text, size);
    n->text[size] = '\0';
    return n;
}

struct node_name *node_name_get(struct node_name *n)
{
    uint32_t before = atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
    assert(before > 0);
    return n;
}

void node_name_put(struct node_name *n)
{
    uint32_t before = atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1)
        free(n);
}

struct message *message_create(size_t room)
{
    struct message *m = malloc(sizeof(*m) + room);
    if (!m)
        return NULL;
    memset(m, 0, sizeof(*m));
    m->room = room;
    m->mail.bytes = sizeof(*m) + room;
    return m;
}

void message_destroy(struct message *m)
{
    if (!m)
        return;
    if (m->node)
        node_name_put(m->node);
    free(m);
}

struct reply *reply_create(size_t room)
{
    struct reply *r = malloc(sizeof(*r) + REPLY_HEADROOM + room);
    if (!r)
        return NULL;
    memset(r, 0, sizeof(*r));
    r->mail.bytes = sizeof(*r) + REPLY_HEADROOM + room;
    return r;
}

void reply_destroy(struct reply *r)
{
    free(r);
}
