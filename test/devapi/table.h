/* meta.k8s.io/v1 Tables of nodes and pods, for kubectl get. Loop thread only. */
#ifndef DEVAPI_TABLE_H
#define DEVAPI_TABLE_H

#include "test/devapi/exchange.h"
#include "test/devapi/object.h"

/* Whether the client prefers a Table and there is one for the kind. */
bool dev_table_is_wanted(const struct dev_exchange *x);
/* Writes the Table; `metadata` is the list's, as JSON ("{...}"). A node whose lease is too old is
 * shown as NotReady. */
void dev_table_write(struct dev_exchange *x, struct dev_object *const *objects, size_t count,
                     const char *metadata, struct dev_text *out);

#endif
