/* From a complete request to its answer. Loop thread only. */
#ifndef DEVAPI_HANDLER_H
#define DEVAPI_HANDLER_H

#include "test/devapi/exchange.h"

/* The transport has read the whole request. The exchange is answered, or waits; it may not be freed
 * within. */
void dev_handle(struct dev_exchange *x);
/* Its latency or stall is over. */
void dev_handle_ready(struct dev_exchange *x);

/* The verbs, each of which answers. Authorized already. */
void dev_handle_get(struct dev_exchange *x);
void dev_handle_list(struct dev_exchange *x);
void dev_handle_create(struct dev_exchange *x);
void dev_handle_update(struct dev_exchange *x);
void dev_handle_patch(struct dev_exchange *x);
void dev_handle_delete(struct dev_exchange *x);
void dev_handle_delete_collection(struct dev_exchange *x);
void dev_handle_token(struct dev_exchange *x);
/* Paths that are not resources: health, versions, discovery. False: not such a path. */
bool dev_handle_discovery(struct dev_exchange *x, const char *path);
/* /devapi/... */
void dev_handle_control(struct dev_exchange *x, const char *path);

#endif
