/* Objects of one size, a few hundred to an allocation: without malloc's 16 bytes for each, and not
 * strewn between what lives for moments only, whose pages could not be given back then. What is put
 * back is used again; memory goes back to malloc with slab_fini() alone, so a slab is as large as
 * the most objects there ever were. One thread. */
#ifndef HUB_SLAB_H
#define HUB_SLAB_H

#include <stddef.h>

struct slab {
    size_t size;  /* of an object; a multiple of a pointer's */
    void *free;   /* linked by their first word */
    void *chunks; /* likewise */
    size_t used;
};

void slab_init(struct slab *s, size_t size);
/* Frees everything, used or not. */
void slab_fini(struct slab *s);
void *slab_get(struct slab *s); /* zeroed; NULL: no memory */
void slab_put(struct slab *s, void *object);

#endif
