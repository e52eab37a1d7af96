/* A node's Lease (coordination.k8s.io/v1) as the hub changes it when it renews it for a node that
 * is on its way to another replica. Pure. */
#ifndef HUB_LEASE_H
#define HUB_LEASE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_NAMESPACE  "kube-node-lease"
#define LEASE_TIME_BYTES 32

/* metav1.MicroTime, RFC 3339 in UTC with up to nine digits behind the seconds: microseconds since
 * the epoch. -EINVAL when it is something else, or before 1970. */
int lease_time_parse(const char *text, int64_t *us) __attribute__((warn_unused_result));
/* "2006-01-02T15:04:05.000000Z". `us` is not negative and before the year 10000. */
void lease_time_format(int64_t us, char text[LEASE_TIME_BYTES]);

/* Moves spec.renewTime `elapsed_ms` ahead of where it stands: the node's own clock goes on, ours
 * does not enter (the node-lifecycle controller takes only a later renewTime for a renewal). 0,
 * -EINVAL if it is no lease that can be renewed, -ENOMEM. On failure the lease is as before. */
int lease_advance(json_t *lease, uint64_t elapsed_ms) __attribute__((warn_unused_result));

#endif
