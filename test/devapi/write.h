/* Carrying out writes on the store. Loop thread only. */
#ifndef DEVAPI_WRITE_H
#define DEVAPI_WRITE_H

#include "test/devapi/exchange.h"
#include "test/devapi/store.h"

/* Stores an object made by devapi itself (namespaces, their service accounts) unless it is there.
 * Takes `root`. */
int dev_write_own(struct dev_server *server, const struct dev_path *path, json_t *root);
/* A namespace and what controllers put into a new one: service account "default", configmap
 * "kube-root-ca.crt". */
int dev_write_namespace(struct dev_server *server, const char *name);
/* The update of an existing object, from PUT or PATCH: checks, prepares, stores, answers. Takes
 * `root`. */
void dev_write_update(struct dev_exchange *x, struct dev_entry *entry, json_t *root);
/* Stores `fresh` (takes it) in place of the entry's object unless nothing changed, and answers. */
void dev_write_commit(struct dev_exchange *x, struct dev_entry *entry, struct dev_object *fresh);

#endif
