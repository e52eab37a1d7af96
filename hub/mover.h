/* Carries out what the balancer decides: passes its orders to the hub's loops and what happens
 * there back to it, keeps the list of nodes to send on to other replicas, and remembers for an hour
 * whom it let go, and why. Control thread, on its loop. */
#ifndef HUB_MOVER_H
#define HUB_MOVER_H

#include "hub/config.h"
#include "isthmus/balance.h"
#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct hub;
struct mover;
struct upstream;

struct mover_options {
    const struct config *config; /* borrowed until mover_destroy(), as are the two below */
    struct hub *hub;
    const struct upstream *upstream;
    /* A drain is over: nothing is connected and nothing is bridged any more. Called again and again
     * until it is called off. */
    void (*drained)(void *context);
    void *context;
};

/* Before hub_start(): it hears of every session. 0, or a negative errno and `e`. */
int mover_create(uv_loop_t *loop, const struct mover_options *options, struct mover **mover,
                 struct errbuf *e) __attribute__((warn_unused_result));

/* Lets go of everything and refuses what comes, or calls that off. */
void mover_set_draining(struct mover *m, bool is_draining);
bool mover_is_draining(const struct mover *m);
/* What the last decision says to load balancers: whether new connections are welcome (/acceptz),
 * and how much this replica should get of them (HAProxy's agent-check, 0 to 100). */
bool mover_is_accepting(const struct mover *m);
unsigned mover_agent_percent(const struct mover *m);
/* For what people see. Borrowed. */
const struct balancer *mover_balancer(const struct mover *m);

/* A node that was let go from here within the hour. */
struct mover_release {
    uint64_t ago_ms;
    bool is_bridged;
    enum balancer_why why;
    uint32_t live, expected; /* of this replica at that moment */
};
/* False: it was not. */
bool mover_find_release(const struct mover *m, const char *node, struct mover_release *release);

/* The hub is closed. Says goodbye to the group within bounded time, then `closed`; then
 * mover_destroy(). */
void mover_close(struct mover *m, void (*closed)(void *context), void *context);
void mover_destroy(struct mover *m); /* NULL is fine */

#endif
