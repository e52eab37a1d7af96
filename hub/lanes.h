/* In which order the messages of one upstream worker become API requests.
 *
 *   - Each lane has its own limit of requests in flight, and each node one within it: what stalls holds up itself only.
 *   - Within a lane the nodes take turns; a node that has a hundred waiting gets no more turns than one that has one.
 *   - Per API object first come, first served, one at a time, whatever the lane; different objects side by side.
 *   - A newer message of a coalesced kind takes the place of an older one that still waits for the same object, if nothing
 *     else came between them; the older one follows it and is answered with it.
 *   - Of a node's waiting events the oldest is given up when there are too many.
 *   - What waited until its deadline is handed out to be dropped.
 *
 * Pure: no I/O, no clock. One thread. A work is embedded in its owner's object, and is in here from lanes_add() until it was
 * returned by lanes_next() and given to lanes_done(), or returned as evicted, expired or follower. */
#ifndef HUB_LANES_H
#define HUB_LANES_H

#include "hub/lane.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lanes;
struct lane_node;
struct lane_object;

enum lane_work_state {
    WORK_OUT,     /* not in here */
    WORK_BLOCKED, /* another one for its object comes first */
    WORK_READY,   /* waits for its node's and its lane's turn */
    WORK_RUNNING  /* was handed out */
};

struct lane_work {
    /* set by the owner before lanes_add() */
    enum lane lane;
    unsigned kind;       /* only the same kind is coalesced */
    bool is_coalesced;
    uint64_t deadline_ms;

    /* read by the owner: coalesced into this one, newest first, linked by `next` */
    struct lane_work *followers;
    struct lane_work *next;

    enum lane_work_state state;
    struct lane_work *prev;                /* the node's ready queue or the object's blocked queue */
    struct lane_work *age_prev, *age_next; /* everything that waits, by arrival */
    struct lane_work *event_prev, *event_next; /* the node's waiting events, by arrival */
    struct lane_node *node;
    struct lane_object *object;
};

struct lanes_limits {
    unsigned lane_inflight[LANE_COUNT];
    unsigned node_inflight;
    unsigned node_events;
};

struct lanes *lanes_create(const struct lanes_limits *limits); /* NULL: no memory */
void lanes_destroy(struct lanes *l);                           /* nothing may be in it */

/* Adds a work for `object` (a key, within the node; size 0: it is in nobody's way). 0, or -ENOMEM and nothing changed.
 * `evicted` becomes an event that had to go, or NULL; it may be `w` itself only if the limit is 0. Keys are copied. */
int lanes_add(struct lanes *l, struct lane_work *w, const char *node, size_t node_size, const char *object,
              size_t object_size, struct lane_work **evicted) __attribute__((warn_unused_result));

/* The next one to run, or NULL when nothing may run now. */
struct lane_work *lanes_next(struct lanes *l);
/* It ran to its end. */
void lanes_done(struct lanes *l, struct lane_work *w);

/* One that waited beyond its deadline, with its followers, or NULL. Call until NULL. UINT64_MAX empties the queues. */
struct lane_work *lanes_expire(struct lanes *l, uint64_t now_ms);

size_t lanes_waiting(const struct lanes *l, enum lane lane);
size_t lanes_running(const struct lanes *l, enum lane lane);

#endif
