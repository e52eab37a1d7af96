/* Private to balancer/: the runtime's state, and what its files want of each other. balance.c
 * begins and ends it and answers questions, balance_step.c steps the plan and remembers what it
 * decided, balance_beat.c carries the beats. */
#ifndef BALANCER_BALANCE_H
#define BALANCER_BALANCE_H

#include "balancer/beat.h"
#include "balancer/flights.h"
#include "balancer/ledger.h"
#include "balancer/redis.h"
#include "isthmus/balance.h"

struct balancer {
    uv_loop_t *loop;
    struct balancer_config config;
    struct balance_owner owner;
    char id[BALANCER_ID_SIZE], group[BALANCER_ID_SIZE];
    uint64_t incarnation;

    /* the store */
    struct redis *redis; /* NULL: on its own */
    char url[REDIS_URL_PRINTED];
    uint64_t timeout_ms;
    uint64_t store_since_ms, store_error_ms;
    char store_error[160];

    /* beats */
    uv_timer_t beat_timer;
    struct redis_args args;
    struct ledger ledger;
    struct flights flights;
    bool is_under_way; /* a beat is */
    bool is_list_asked, has_list;
    uint64_t sent_ms, acked_sent_ms, answered_ms, round_trip_us, sent_us;
    struct beat_answer *answer, *spare; /* the last good one; decoded into */
    bool has_answer, has_shares;
    const char *moved[LEDGER_BATCH_NAMES];

    /* the plan */
    uv_timer_t step_timer;
    struct balancer_plan plan;
    struct balancer_self self;
    struct balancer_shares shares;
    struct balancer_decision decision;
    uint64_t order_ms; /* when what is under way was ordered; 0: nothing is */

    /* what happened */
    struct balance_change changes[BALANCE_CHANGES];
    size_t change_next, change_count;
    uint64_t said; /* reasons seen in this phase, bits */
    struct balance_counters counters;

    /* the end */
    bool is_closing, is_leaving, is_closed;
    size_t open_handles; /* of the two timers and the client */
    void (*closed)(void *context);
    void *closed_context;
};

uint64_t balance_now_ms(void);

/* balance_step.c */
void balance_step(struct balancer *b);

/* balance_beat.c */
void balance_beat(struct balancer *b);
/* The last one; balance_finish() follows it, sooner or later. */
void balance_leave(struct balancer *b);
void balance_on_up(void *context);
void balance_on_down(void *context, const char *error, uint64_t retry_ms);
void balance_on_answered(void *context, const struct redis_reply *reply);

/* balance.c: closes the handles, now. */
void balance_finish(struct balancer *b);

#endif
