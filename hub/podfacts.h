/* What the index must know of a Pod or a Node, read from its JSON in one or two passes. Pure, no
 * allocation, any thread. */
#ifndef HUB_PODFACTS_H
#define HUB_PODFACTS_H

#include "hub/resource.h"
#include "isthmus/jsonscan.h"

#include <stdint.h>

/* A number that changes when something changes that the edge must hear of. Of a pod: metadata and
 * spec, as EdgeController's filter compares them (kubeedge
 * cloud/pkg/edgecontroller/manager/pod.go), without resourceVersion and generation, and without
 * managedFields, which change with every status. Of a node also status.volumesAttached, which
 * kubelet waits for. The API server writes the same value as the same bytes. 0 or -EBADMSG. */
int podfacts_digest(const char *json, size_t size, uint64_t *digest)
    __attribute__((warn_unused_result));

/* The node that a pod is bound to; size 0: none. */
struct json_span podfacts_node(const char *json, size_t size);
/* It has a deletionTimestamp. */
bool podfacts_is_terminating(const char *json, size_t size);

/* Each ConfigMap and Secret that the pod mentions: those CloudCore looks for (manager/location.go)
 * in volumes, projected volumes, envFrom, env and imagePullSecrets, and the same in init and
 * ephemeral containers. A name may come more than once. */
typedef void (*podfacts_cb)(void *context, enum resource_kind kind, const struct json_span *name);
void podfacts_mentions(const char *json, size_t size, podfacts_cb mention, void *context);

#endif
