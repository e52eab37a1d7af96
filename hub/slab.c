/* See slab.h. A chunk begins with the pointer to the next one. */
#include "hub/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)32 * 1024)

void slab_init(struct slab *s, size_t size)
{
    *s = (struct slab){.size = (size + sizeof(void *) - 1) & ~(sizeof(void *) - 1)};
    assert(s->size >= sizeof(void *) && s->size <= CHUNK_BYTES / 8);
}

void slab_fini(struct slab *s)
{
    while (s->chunks) {
        void *next = *(void **)s->chunks;
        free(s->chunks);
        s->chunks = next;
    }
    slab_init(s, s->size);
}

static void put_free(struct slab *s, void *object)
{
    *(void **)object = s->free;
    s->free = object;
}

static int grow(struct slab *s)
{
    char *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        return -1;
    *(void **)(void *)chunk = s->chunks;
    s->chunks = chunk;
    for (size_t at = sizeof(void *); at + s->size <= CHUNK_BYTES; at += s->size)
        put_free(s, chunk + at);
    return 0;
}

void *slab_get(struct slab *s)
{
    if (!s->free && grow(s) != 0)
        return NULL;
    void *object = s->free;
    s->free = *(void **)object;
    s->used++;
    return memset(object, 0, s->size);
}

void slab_put(struct slab *s, void *object)
{
    assert(s->used > 0);
    s->used--;
    put_free(s, object);
}
