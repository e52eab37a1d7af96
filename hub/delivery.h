/* What is being delivered to each connected node. Private to the downstream thread, on which
 * everything here runs.
 *
 * A push comes about in steps, at most three requests one after another, and only one push of a
 * node at a time (hub/pushqueue.h): set     - create the record if the object has none: should the
 * acknowledgement be lost, the record says that the edge may have it
 *           - read the object, unless the watch event brought it just now or it was kept for this
 * node
 *           - send it; when it is acknowledged, the record gets its version (hub/recorder.h)
 *   delete  - unless a watch event said so: ask the API server whether it is really gone
 *           - send the deletion; when it is acknowledged, the record is deleted
 *
 * Content: of an object that changes the content is kept as long as a connected node waits for it,
 * and that of a message until its acknowledgement, both together at most CONTENT_BYTES. Beyond, it
 * is read again when its turn comes (and a message that has to be sent again is made anew). A node
 * that is not connected costs nothing but its links.
 *
 * Bounds: MAX_CALLS requests at once; nodes beyond wait in line. What one session may have unsent
 * is the session's bound. */
#ifndef HUB_DELIVERY_H
#define HUB_DELIVERY_H

#include "hub/downstream.h"
#include "hub/frame.h"
#include "hub/slab.h"
#include "hub/want.h"
#include "hub/wheel.h"

#include <pthread.h>
#include <uv.h>

#define MAX_CALLS     64
#define CONTENT_BYTES ((size_t)128 * 1024 * 1024)
#define MAX_WRITES    32 /* requests of the recorder at once */

/* An object's JSON at one version; counted references. */
struct content {
    uint32_t refs;
    uint64_t version;
    size_t size;
    char text[];
};

struct preparation;

/* What is needed to write a message once more. */
struct flight {
    struct content *content; /* NULL: not kept */
    int64_t wall_ms;
    uint64_t sent_ms;
    const char *operation;
    char id[UUID_BYTES];
};

/* A connected node: small, for most have nothing to get. */
struct delivery {
    struct want_node *node; /* its session is this */
    struct node_name *name;
    struct session_ref session;
    uint64_t order; /* of the node's sessions */
    struct pushqueue queue;
    struct wheel_timer timer;
    struct preparation *preparation; /* a request is under way for queue.current */
    struct delivery *next_in_line;   /* waits for a request to end */
    struct flight *flight;           /* of the message that waits for its acknowledgement */
    uint64_t ours_from; /* the Node's version from which on another replica's annotation is another
                           replica's session; 0: never */
    uint64_t record_ms; /* when versions that changed nothing for the edge are recorded; 0: none */
    bool is_in_line;
    bool has_loaded;   /* what the index says was queued */
    bool is_node_seen; /* downstream_node_seen() came */
};

struct watcher {
    struct downstream *down;
    enum down_watch which;
    struct apiwatch *watch;
    bool is_healthy, is_synced, is_listing;
    bool is_absent; /* the API server does not know the kind */
    char text[96];
};

struct recorder {
    struct want_link **ring; /* links whose record has to be written */
    size_t room, head, count;
    unsigned writes;   /* under way */
    uint64_t pause_ms; /* after a failure nothing is written until then; 0: no pause */
};

struct downstream {
    const struct config *config;
    struct apiconfig *api;
    struct hub *hub;
    pthread_t thread;
    bool is_started, is_closing;
    uint64_t stop_by_ms; /* 0: it runs */
    uv_loop_t loop;
    struct mailbox mailbox;
    uv_async_t stop;
    uv_timer_t tick;
    struct apiclient *client;

    struct want *want;
    struct watcher watchers[DOWN_WATCH_COUNT];
    struct recorder recorder;
    struct slab deliveries;
    struct wheel wheel;
    bool is_synced;           /* the first lists are complete */
    bool has_records;         /* the API server has the two kinds of records */
    bool has_said_no_records; /* in the log */
    uint8_t record_epochs[2]; /* of ObjectSync, ClusterObjectSync: see watcher.c */

    unsigned calls; /* of preparations */
    struct delivery *line_head, **line_tail;
    size_t content_bytes;
    struct { /* while a watch event is handled: its content, borrowed */
        const struct want_object *object;
        const char *json;
        size_t size;
        uint64_t version;
    } event;
    uint64_t connected, waiting, in_flight;
    uint64_t collect_ms; /* when to look for records of deleted nodes next */
    uint64_t expire_ms;  /* when to forget what was awaited in vain */

    pthread_mutex_t lock;
    struct downstream_stats stats; /* under lock */
};

/* What the channels of the API client are for. */
enum down_channel { DOWN_CHANNEL_WATCH, DOWN_CHANNEL_READ, DOWN_CHANNEL_WRITE, DOWN_CHANNEL_COUNT };

static inline uint64_t down_now(const struct downstream *d)
{
    return uv_now(&d->loop);
}
/* The answer is a good one. */
static inline bool down_is_good(const struct apiresponse *r)
{
    return r->error == 0 && r->status >= 200 && r->status < 300;
}

/* ---- delivery.c: the sessions ---- */

void delivery_connected(struct downstream *d, struct node_name *name, struct session_ref session,
                        uint64_t order);
void delivery_gone(struct downstream *d, struct node_name *name, struct session_ref session);
/* NULL: this is not the node's session (any more). */
struct delivery *delivery_find(struct downstream *d, const struct node_name *name,
                               struct session_ref session);
void delivery_acked(struct downstream *d, struct delivery *v, uint64_t id);
void delivery_refused(struct downstream *d, struct delivery *v, uint64_t id, uint64_t version);
void delivery_set_back(struct downstream *d, struct delivery *v, uint64_t object, uint64_t version);
void delivery_answered(struct downstream *d, struct delivery *v, const struct want_key *key,
                       uint64_t version);
void delivery_node_seen(struct downstream *d, struct delivery *v, const char *json, size_t size,
                        bool is_ours);
/* A timer of hub/wheel.h fired. */
void delivery_timer(void *context, struct wheel_timer *timer);
void delivery_end_all(struct downstream *d);

/* ---- delivery.c: the index changed ---- */

/* Everything was listed: queues for the nodes that are connected what they lack. */
void delivery_synced(struct downstream *d);
/* The link's object, which is live, changed, or the link is new. */
void delivery_offer(struct downstream *d, struct want_link *l);
/* The link's object is gone. May free the link, and with the last one the object. */
void delivery_retract(struct downstream *d, struct want_link *l, bool is_sure);
/* The object's version changed, but nothing the edge must hear of. */
void delivery_unchanged(struct downstream *d, struct want_link *l);
/* Forgets the link if nothing is to be known of it any more. */
void delivery_tidy(struct downstream *d, struct want_link *l);

/* ---- push.c: one push ---- */

/* Goes on: takes the next item if none is under way, and sees to the timer. */
void push_next(struct downstream *d, struct delivery *v);
/* The session is going away. */
void push_abandon(struct downstream *d, struct delivery *v);
/* The message in flight has come to its end. */
void push_land(struct downstream *d, struct delivery *v);
/* Writes the message that waits for its acknowledgement once more. */
void push_resend(struct downstream *d, struct delivery *v);
/* The link's item may have been done with, or have got something to do: counts, and lets go of what
 * nobody waits for. */
void push_settle(struct downstream *d, struct want_link *l);

struct content *content_create(struct downstream *d, const char *json, size_t size,
                               uint64_t version);          /* NULL: none is kept */
void content_put(struct downstream *d, struct content *c); /* NULL is fine */

/* ---- recorder.c ---- */

/* Has the link's record brought up to date by the next tick: created, given item.acked, or deleted
 * when the object is gone. Never forgets a link at once, so it may be called while links are walked
 * through. */
void recorder_note(struct downstream *d, struct want_link *l);
/* Bits of want_link.work. */
enum { LINK_IN_RING = 1, LINK_PENDING = 2, LINK_WANTS_ZERO = 4 };
void recorder_tick(struct downstream *d, uint64_t now_ms);
/* Deletes the records of nodes that are no more. */
void recorder_collect(struct downstream *d, uint64_t now_ms);
void recorder_fini(struct downstream *d);

/* ---- watcher.c ---- */

int watcher_start_all(struct downstream *d) __attribute__((warn_unused_result));

#endif
