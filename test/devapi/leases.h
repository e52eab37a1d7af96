/* How old node leases are, read where it counts: at the API server, on its own monotonic clock,
 * since the last renewal it accepted. A renewal is a write that moves spec.renewTime forward, as
 * the node-lifecycle controller sees it. Loop thread only. */
#ifndef DEVAPI_LEASES_H
#define DEVAPI_LEASES_H

#include "test/devapi/object.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct dev_server;
struct dev_leases;

/* A node whose lease is older than `grace_ms` counts as NotReady. NULL without memory. */
struct dev_leases *dev_leases_create(uint64_t grace_ms);
void dev_leases_destroy(struct dev_leases *l);

/* The lease was written; `old` is what it was (NULL: it is new). */
void dev_lease_renewed(struct dev_server *server, const struct dev_object *fresh,
                       const struct dev_object *old);
/* The age of a node's lease; false if it has none. */
bool dev_lease_age(struct dev_server *server, const char *node, uint64_t *age_ms);
uint64_t dev_lease_grace(const struct dev_server *server);
/* Forgets maxima, histogram and counts; ages go on. */
void dev_leases_reset(struct dev_server *server);
/* The caller owns the value; NULL without memory. */
json_t *dev_leases_describe(struct dev_server *server, bool is_summary);

#endif
