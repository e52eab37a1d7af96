/* What people see of balancing: the part "balance" of /status, and the metrics. Gathered once, then
 * pure functions of it. Names no node. Control thread. */
#ifndef HUB_FACTS_BALANCE_H
#define HUB_FACTS_BALANCE_H

#include "hub/balance_past.h"
#include "isthmus/balance.h"
#include "isthmus/metrics.h"

#include <jansson.h>

#define FACTS_BALANCE_PEERS   128 /* shown; a group may have more */
#define FACTS_BALANCE_CHANGES 20  /* of those remembered */

struct facts_balance {
    struct balance_view view;
    struct balance_peer peers[FACTS_BALANCE_PEERS]; /* of view.peer_count, the first ones by id */
    size_t peer_count;
    struct balance_change changes[FACTS_BALANCE_CHANGES]; /* the newest first */
    size_t change_count;
};

/* Borrows from the balancer until the loop turns. */
void facts_balance_gather(struct facts_balance *f, const struct balancer *b);

/* One more sample of everybody's connections. */
void facts_balance_remember(struct balance_past *past, const struct facts_balance *f);

/* {mode, group, redis, decision, counters, replicas, changes}. New reference, or NULL without
 * memory. */
json_t *facts_balance_json(const struct facts_balance *f, const struct balance_past *past);

void facts_balance_render(struct metric_text *out, const struct facts_balance *f);
/* The rows of the table in docs/operations.md. */
void facts_balance_markdown(struct metric_text *out);

#endif
