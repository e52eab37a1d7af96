/* In which order the objects of one node are pushed to its edge, and when again: the rules of
 * CloudHub's node session (kubeedge cloud/pkg/cloudhub/session/node_session.go,
 * dispatcher/message_dispatcher.go; kubeedge-protocol 5.3), without its losses.
 *
 *     IDLE --take--> PREPARING --sent--> WAITING --acked--> IDLE
 *      ^  '--------- back ---'             |
 *      '---- superseded, refused, given up-'
 *
 *   - One message at a time: the next is taken when the last was acknowledged or given up.
 *   - Of each object only the newest is kept: an item is one object of one node, and says from
 * which version on the edge must have it, or that it must be deleted. Nothing follows a deletion.
 *   - Unacknowledged, the same bytes are written again each PUSH_RETRY_MS, PUSH_WRITES times in
 * all; then the item goes to the end of the queue and waits, PUSH_BACKOFF_MS doubling to
 * PUSH_BACKOFF_MAX_MS, while others take their turn.
 *   - No version is written below one that was written before, or that the edge got as an answer
 * (`seen`).
 *
 * Bounds: an item is in the queue once; there are as many as the node has objects. Pure: time is an
 * argument, no allocation. One thread. Items are embedded in their owner's object, zeroed at first,
 * and leave by pushqueue_forget(). */
#ifndef HUB_PUSHQUEUE_H
#define HUB_PUSHQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUSH_RETRY_MS       5000
#define PUSH_WRITES         5
#define PUSH_BACKOFF_MS     1000
#define PUSH_BACKOFF_MAX_MS 64000

enum push_op { PUSH_NOTHING, PUSH_SET, PUSH_DELETE };

struct push_item {
    struct push_item *next;   /* in the queue */
    uint64_t wanted;          /* the edge must have this version, or a later one */
    uint64_t seen;            /* the newest that was written to it, by us or as an answer */
    uint64_t acked;           /* the newest it is known to have taken in */
    uint32_t not_before_ms32; /* after a failure; low half of the time */
    uint8_t op;               /* what is still to do */
    uint8_t failures;         /* in a row */
    bool is_queued;
    bool is_waiting_long; /* not_before_ms32 is in force */
};

enum push_state { PUSH_IDLE, PUSH_PREPARING, PUSH_WAITING };

struct pushqueue {
    struct push_item *head, **tail;
    struct push_item *current; /* PREPARING, WAITING */
    uint64_t id;               /* WAITING: of the message */
    uint64_t version;          /* WAITING: that was written */
    uint64_t deadline_ms;      /* WAITING: of this write */
    uint32_t count;            /* queued */
    uint8_t state, op, writes;
};

void pushqueue_init(struct pushqueue *q);

/* The object is at `version` (0 is none): the edge must get it, unless it has it. */
void pushqueue_set(struct pushqueue *q, struct push_item *item, uint64_t version);
/* The object is gone. */
void pushqueue_delete(struct pushqueue *q, struct push_item *item);
/* The edge got the object at `version` as an answer. An answer that is older than what was pushed
 * put the edge's copy back: then it is pushed again. `is_enough`: an answer does for the edge what
 * a push does (not for pods: kubelet hears of pushes only). */
void pushqueue_answered(struct pushqueue *q, struct push_item *item, uint64_t version,
                        bool is_enough);
/* Nothing is to be done for it any more. Not while it is `current`. */
void pushqueue_forget(struct pushqueue *q, struct push_item *item);

/* IDLE: the next whose time has come, which is PREPARING from here on; or NULL. */
struct push_item *pushqueue_take(struct pushqueue *q, uint64_t now_ms);
/* PREPARING: the content must have at least this version. */
uint64_t pushqueue_floor(const struct push_item *item);
/* PREPARING: the message was written. `version` is that of the content, at least the floor; for a
 * deletion 0. */
void pushqueue_sent(struct pushqueue *q, uint64_t id, uint64_t version, uint64_t now_ms);
/* PREPARING: it could not be made now; again after a while. */
void pushqueue_back(struct pushqueue *q, uint64_t now_ms);
/* PREPARING: there is nothing to send after all. */
void pushqueue_skip(struct pushqueue *q);

/* The edge acknowledged `id`: the item, whose version `acked` or deletion is done; NULL: not what
 * is waited for. */
struct push_item *pushqueue_ack(struct pushqueue *q, uint64_t id, enum push_op *op);
/* The message `id` was not written after all, for the edge had got `version` as an answer
 * meanwhile. */
void pushqueue_refused(struct pushqueue *q, uint64_t id, uint64_t version);

enum push_action {
    PUSH_ACTION_NONE,
    PUSH_ACTION_RESEND,  /* the same bytes once more */
    PUSH_ACTION_GIVEN_UP /* the item waits now; take the next */
};
enum push_action pushqueue_tick(struct pushqueue *q, uint64_t now_ms);
/* When to call pushqueue_tick() or pushqueue_take() next; UINT64_MAX: nothing waits for time. */
uint64_t pushqueue_deadline(const struct pushqueue *q, uint64_t now_ms);

#endif
