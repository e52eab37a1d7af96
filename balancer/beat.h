/* What a beat says and what its answer means: the words of balancer/beat.lua in C. Pure; the answer
 * comes from a server that may be anything, so that everything in it is checked. */
#ifndef BALANCER_BEAT_H
#define BALANCER_BEAT_H

#include "balancer/redis_args.h"
#include "balancer/redis_reply.h"
#include "isthmus/balancer.h"

/* The script. */
extern const char beat_script[];

/* As many nodes in flight as one beat brings. */
#define BEAT_LIST_MAX 4000
/* A node's name is longer nowhere in Kubernetes. */
#define BEAT_NAME_MAX 253

struct beat {
    const char *group;
    const char *id;
    uint64_t incarnation;
    uint64_t seq, acked; /* number of this beat, of the last one acknowledged (0: none) */
    uint64_t quiet_ms;   /* since that one was sent */
    uint64_t nonce;      /* random */
    uint32_t live, room; /* consistent with what follows */
    enum balancer_state state;
    bool is_full, is_leaving;
    uint32_t want;
    uint32_t lost, unnamed;
    const char *const *arrived, *const *refused;
    const char *const *bridged, *const *released;   /* let go: with a bridged lease, without */
    const uint64_t *bridged_at_ms, *released_at_ms; /* when, beside them */
    size_t arrived_count, bridged_count, released_count, refused_count;
    uint64_t now_ms;       /* on the clock of these */
    bool has_moves;        /* some of them were let go to balance, not in a drain */
    bool wants_list;       /* of nodes in flight: those with this deadline and later ones, */
    uint64_t list_from_ms; /* but for the first so many of them */
    size_t list_skip;
};

/* Appends the script's keys and arguments. `config` gives period, timeout, weight, mode, caps. */
void beat_encode(const struct beat *beat, const struct balancer_config *config,
                 struct redis_args *args);

/* A node in flight as the store knows it. */
struct beat_flight {
    const char *node; /* borrowed from the reply */
    uint64_t deadline_ms;
    uint32_t refusals;
    bool is_bridged;
};

struct beat_answer {
    struct balancer_view view; /* its records lie here */
    struct balancer_record records[BALANCER_REPLICAS_MAX + 1];
    uint32_t unknown_version_count;
    const struct redis_reply *moved; /* positions among the arrived, see beat_moved() */
    size_t moved_count;
    struct beat_flight flights[BEAT_LIST_MAX]; /* those that could be read */
    size_t flight_count;
    size_t listed_count; /* those and others: whether the page is full */
    uint64_t last_deadline_ms;
};

/* NULL, or what is wrong with it. `answer` borrows from the reply. Records that cannot be read are
 * counted in the view; one more than BALANCER_REPLICAS_MAX is kept, which makes the plan hold. */
const char *beat_decode(const struct redis_reply *reply, size_t arrived_count,
                        struct beat_answer *answer);
/* The i-th moved node's position; below arrived_count. */
size_t beat_moved(const struct beat_answer *answer, size_t i);

#endif
