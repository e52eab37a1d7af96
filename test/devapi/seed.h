/* Objects that are there from the start. Start-up only. */
#ifndef DEVAPI_SEED_H
#define DEVAPI_SEED_H

#include "isthmus/errbuf.h"

struct dev_server;

/* A JSON array of objects, or a List; each with kind, apiVersion, metadata.name. They are stored as
 * they are: uid, creation time, version and all; what is missing of these is made. Namespaces they
 * live in are made if missing. 0 or negative errno and `e`. */
int dev_seed_load(struct dev_server *server, const char *path, struct errbuf *e);

#endif
