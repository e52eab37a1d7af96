/* See history.h. */
#include "test/devapi/history.h"

#include <errno.h>
#include <stdlib.h>

static void drop_first(struct dev_history *h)
{
    struct dev_change *c = &h->ring[h->first];
    h->floor = c->object->version;
    h->bytes -= c->object->size;
    dev_object_put(c->object);
    dev_object_put(c->previous);
    h->first = (h->first + 1) % h->room;
    h->count--;
}

void dev_history_fini(struct dev_history *h)
{
    while (h->count > 0)
        drop_first(h);
    free(h->ring);
    h->ring = NULL;
    h->room = 0;
}

static int grow(struct dev_history *h)
{
    size_t room = h->room ? h->room * 2 : 64;
    if (room > h->limit)
        room = h->limit;
    struct dev_change *ring = calloc(room, sizeof(*ring));
    if (!ring)
        return -ENOMEM;
    for (size_t i = 0; i < h->count; i++)
        ring[i] = h->ring[(h->first + i) % h->room];
    free(h->ring);
    h->ring = ring;
    h->room = room;
    h->first = 0;
    return 0;
}

int dev_history_push(struct dev_history *h, enum dev_change_type type, struct dev_object *object,
                     struct dev_object *previous)
{
    while (h->count > 0 && (h->count >= h->limit || h->bytes + object->size > h->bytes_limit))
        drop_first(h);
    if (h->count == h->room && grow(h) != 0) {
        while (h->count > 0)
            drop_first(h);
        h->floor = object->version;
        return -ENOMEM;
    }
    struct dev_change *c = &h->ring[(h->first + h->count) % h->room];
    c->type = type;
    c->object = dev_object_get(object);
    c->previous = previous ? dev_object_get(previous) : NULL;
    h->count++;
    h->bytes += object->size;
    return 0;
}

const struct dev_change *dev_history_find(const struct dev_history *h, uint64_t version)
{
    size_t low = 0, high = h->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (h->ring[(h->first + middle) % h->room].object->version > version)
            high = middle;
        else
            low = middle + 1;
    }
    return low < h->count ? &h->ring[(h->first + low) % h->room] : NULL;
}
