/* The nodes in flight that this replica sends on to others: their upgrade is answered 503, and
 * EdgeCore dials again after 5 s, which the load balancer may place elsewhere. Only nodes that were
 * let go on purpose and whose lease is being renewed for them are in it. Made by the control
 * thread, then only read, but for the refusals that are counted; shared by the loops. */
#ifndef HUB_STEER_H
#define HUB_STEER_H

#include "hub/message.h"
#include "isthmus/balance.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct steer;

/* The nodes are copied. `now_ms` is the loops' clock (uv_hrtime ms). One ref; NULL: no memory. */
struct steer *steer_create(const struct balancer_config *config,
                           const struct balancer_decision *decision,
                           const struct balance_flight *nodes, size_t count, uint64_t now_ms);
struct steer *steer_get(struct steer *s);
void steer_put(struct steer *s); /* NULL is fine */

/* Any thread. Whether to refuse the node now (balancer_should_refuse()); then the refusal is
 * counted. */
bool steer_refuses(struct steer *s, const struct node_name *node, uint64_t now_ms);

#endif
