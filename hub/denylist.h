/* --deny-nodes: the names of nodes that are kept out. A text with one name a line; white space
 * around it, empty lines and what follows a '#' do not count. Immutable once made; any thread. */
#ifndef HUB_DENYLIST_H
#define HUB_DENYLIST_H

#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stddef.h>

struct denylist;

/* 0, -ENOMEM, or -EINVAL and `e`, which names the line: not a node's name. A list that is half
 * right is no list: it would let in whom it was meant to keep out. Pure. */
int denylist_parse(const char *text, size_t size, struct denylist **list, struct errbuf *e)
    __attribute__((warn_unused_result));
/* From a file of at most 64 MiB. 0 or negative errno and `e`. */
int denylist_load(const char *path, struct denylist **list, struct errbuf *e)
    __attribute__((warn_unused_result));
void denylist_destroy(struct denylist *list); /* NULL is fine */

bool denylist_has(const struct denylist *list, const char *name); /* NULL has none */
size_t denylist_count(const struct denylist *list);
const char *denylist_at(const struct denylist *list, size_t i);

#endif
