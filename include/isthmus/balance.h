/* The balancer at work: carries this replica's beats to Redis, steps the plan (isthmus/balancer.h)
 * and tells its owner, the hub, what to do.
 *
 * Happy path. balancer_create() starts a timer and the connection to Redis. The owner says what
 * happens to sessions (balancer_arrived() and the like); every period one beat reports all of it in
 * one round trip and brings everybody's records; several times a second, and before each beat, the
 * plan is stepped and decided() gets its decision. balancer_close() says goodbye to the group.
 *
 * Failure modes. Redis away, slow, emptied, paused, refusing: service and drain go on, nothing else
 * is released, reports are kept, and when it is back the same beat is sent again, which books
 * nothing twice. A reply that makes no sense is an error that is counted; the next beat tries anew.
 * Without memory a node is reported as a number instead of by name: the sums stay right.
 *
 * Threading: one loop's thread, which every function and callback here belongs to; nothing blocks.
 * Times are uv_hrtime() milliseconds unless the name says `server`. */
#ifndef ISTHMUS_BALANCE_H
#define ISTHMUS_BALANCE_H

#include "isthmus/balancer.h"
#include "isthmus/errbuf.h"

#include <uv.h>

struct balancer;

struct balance_options {
    const struct balancer_config *config; /* checked with balancer_config_check(); copied */
    const char *replica_id;               /* 1 to 63 printable characters without blank; copied */
    const char *redis_url;   /* copied; NULL or "": this replica is on its own, and says so once */
    const char *redis_group; /* [A-Za-z0-9._-]{1,63}; NULL: "default" */
    const char *password_file; /* copied, read at each connect, first line; NULL: none */
    const char *password;      /* copied; used when there is neither a file nor one in the URL */
    uint64_t redis_timeout_ms; /* for a connection to stand, and for each answer; 0: 2000 */
};

/* Whether the URL can be used with this build, for the check of the flags: 0, or -EINVAL and `e`,
 * which never holds the password. Pure. */
int balance_check_url(const char *url, struct errbuf *e) __attribute__((warn_unused_result));
/* Whether it is a name for a group; NULL and "" are (the default). Pure. */
bool balance_is_group_name(const char *group);

/* A node in flight: released on purpose, not seen anywhere since. */
struct balance_flight {
    const char *node;
    uint32_t refusals; /* so far, fleet-wide, as far as known */
    bool is_bridged;
    uint64_t since_release_ms; /* at the time of the call */
};

/* What became of one beat. */
enum balance_beat {
    BALANCE_BEAT_ANSWERED,
    BALANCE_BEAT_LOST,      /* the connection ended first, or the time was up */
    BALANCE_BEAT_REFUSED,   /* an error reply */
    BALANCE_BEAT_MALFORMED, /* a reply that makes no sense, or too large */
    BALANCE_BEAT_COUNT
};
/* Label values: "answered", "lost", "refused", "malformed". */
extern const char *const balance_beat_names[BALANCE_BEAT_COUNT];

/* The owner's side. All but `context` must be set, except `beat_ended`. They may call anything here
 * but balancer_create(), balancer_close() and balancer_destroy(). */
struct balance_owner {
    void *context;

    /* Fills max_connections, leaving, bridged, is_ready, is_api_ok and is_draining; the rest of
     * `self` (id, incarnation, live, is_store_up) is the balancer's and set already. */
    void (*read_self)(void *context, struct balancer_self *self);

    /* After every step. When decision->release_now is not 0 it is an order: let go of at most so
     * many that balancer_victim_judge() calls fit, say so with balancer_released() for each, and
     * then, at once or later, balancer_order_done(). Until that no further decision orders
     * anything; from BALANCE_ORDER_MS on others than those that are leaving: no order is ever
     * given twice. */
    void (*decided)(void *context, const struct balancer_decision *decision);

    /* Of those that arrived here, these had been released before, by whomever: they were moved, at
     * about this moment (balancer_candidate.since_moved_ms). Names are borrowed until return. */
    void (*moved)(void *context, const char *const *nodes, size_t count);

    /* The nodes in flight, for balancer_should_refuse(), each time a beat brought them; count 0
     * once when they are no longer asked for: forget the list. Borrowed until return. */
    void (*flights)(void *context, const struct balance_flight *list, size_t count);

    /* For the metrics; may be NULL. `round_trip_us` is 0 unless it was answered. */
    void (*beat_ended)(void *context, enum balance_beat end, uint64_t round_trip_us);
};

#define BALANCE_ORDER_MS 5000

/* Starts. `options` and its strings may go after the call. 0, or a negative errno and `e`: a bad
 * URL, a scheme this build cannot speak, an unreadable password file, no memory. That Redis cannot
 * be reached is no error. */
int balancer_create(uv_loop_t *loop, const struct balance_options *options,
                    const struct balance_owner *owner, struct balancer **balancer, struct errbuf *e)
    __attribute__((warn_unused_result));

/* ---- what happens to sessions: live is counted from these calls and nothing else ---- */

/* A session of this node was established; it had none here. */
void balancer_arrived(struct balancer *b, const char *node);
/* A session was established in place of an older one of the same node, which ends without any
 * further word: live stays the same. */
void balancer_replaced(struct balancer *b, const char *node);
/* So many sessions ended in any other way than the two here: nobody knows where their nodes go. */
void balancer_lost(struct balancer *b, uint32_t count);
/* This node's session was let go as a decision ordered (a drain's too); `is_bridged` when its lease
 * is renewed for it from now on. Its end is not reported as lost. */
void balancer_released(struct balancer *b, const char *node, bool is_bridged);
/* The last order is carried out as far as it can be now. */
void balancer_order_done(struct balancer *b);
/* This node, in flight, was answered 503. */
void balancer_refused(struct balancer *b, const char *node);

/* ---- what people see ---- */

#define BALANCE_CHANGES 64 /* decisions remembered */

/* A decision that differed from the one before. */
struct balance_change {
    uint64_t at_ms;
    struct balancer_decision decision;
};

/* Counted since the start. */
struct balance_counters {
    uint64_t arrived, lost, released, returned, refused, moved;
    uint64_t futile_rounds, rounds;
    uint64_t beats[BALANCE_BEAT_COUNT];
    uint64_t connects, disconnects;
};

/* One replica as the last beat showed it. */
struct balance_peer {
    const struct balancer_record *record;
    uint32_t expected;
    bool is_taker, is_self;
    uint64_t age_ms; /* since its own last beat, by the store's clock and then ours */
};

/* A view for /status and /metrics. Borrowed until the loop turns. */
struct balance_view {
    const struct balancer_config *config;
    const char *replica_id, *group;
    uint64_t incarnation;
    uint64_t now_ms;
    const char *redis_url;    /* without the password; NULL: on its own */
    bool is_store_up;         /* connected and greeted */
    uint64_t store_since_ms;  /* since when it is up, or away */
    const char *store_error;  /* why it was lost, could not be reached, or refused a beat; "" */
    uint64_t store_error_ms;  /* when; 0: never */
    uint64_t round_trip_us;   /* of the last answered beat; 0: none */
    uint64_t answered_ms;     /* when it was answered; 0: never */
    uint64_t epoch_server_ms; /* since when the store remembers; 0: unknown */
    uint64_t server_ms;       /* its clock at the last answer */
    size_t unreported;        /* names that wait for a beat */
    uint32_t bridged;         /* as the owner said last */
    uint32_t bad_records, unknown_versions; /* in the last answer */
    struct balancer_decision decision;      /* the last one */
    struct balance_counters counters;
    size_t peer_count;
    size_t change_count; /* at most BALANCE_CHANGES */
};

void balancer_read(const struct balancer *b, struct balance_view *view);
/* The i-th replica, by id; i < view.peer_count of the same moment. */
void balancer_read_peer(const struct balancer *b, size_t i, struct balance_peer *peer);
/* The i-th remembered change, 0 the newest; i < view.change_count. Borrowed until the next step. */
const struct balance_change *balancer_read_change(const struct balancer *b, size_t i);

/* ---- the end ---- */

/* Tells the group that this replica leaves (what it still holds counts as lost), waits at most
 * redis_timeout_ms for the answer, closes everything, then calls `closed` with `context`. No other
 * callback comes after this call. Once. */
void balancer_close(struct balancer *b, void (*closed)(void *context), void *context);
/* After `closed`, or after balancer_create() failed (NULL is fine). */
void balancer_destroy(struct balancer *b);

#endif
