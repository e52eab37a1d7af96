/* One thread of the upstream pool: its mailbox, its lanes, its client of the API server. Private to upstream.c and worker.c. */
#ifndef HUB_WORKER_H
#define HUB_WORKER_H

#include "hub/bridge.h"
#include "hub/config.h"
#include "hub/kinds.h"
#include "hub/lanes.h"
#include "hub/message.h"
#include "hub/reasons.h"
#include "hub/upstream.h"

#include <pthread.h>
#include <stdatomic.h>

struct job;

/* What the workers share. */
struct upstream {
    const struct config *config;
    struct apiconfig *api;
    struct kinds_context kinds;
    struct hub *hub;
    struct downstream *downstream; /* NULL: off */
    struct lanes_limits limits; /* of each worker */
    _Atomic size_t taken_bytes; /* of messages that are not finished */
    _Atomic uint64_t answered_ms; /* when the API server last answered anything; 0: never */
    size_t worker_count;
    struct worker *workers;
    char local_address[64];
};

struct worker {
    struct upstream *upstream;
    pthread_t thread;
    bool is_started;
    uv_loop_t loop;
    struct mailbox mailbox;
    uv_async_t stop;
    uv_timer_t tick;
    struct lanes *lanes;
    struct apiclient *client;
    struct bridges bridges;
    struct job *sleeping;
    size_t jobs;
    uint64_t probe_ms;             /* when to ask for a sign of life next; worker 0 only */
    bool is_probing;
    _Atomic uint64_t stop_within_ms; /* set before `stop` is sent */
    bool is_stopping, is_closing;
    uint64_t stop_by_ms;

    pthread_mutex_t lock;
    struct upstream_stats stats; /* under lock */
};

/* Control thread. 0 or negative errno and `e`. */
int worker_init(struct worker *w, struct upstream *upstream, struct errbuf *e);
int worker_start(struct worker *w);
/* Control thread: asks it to finish within the time, and to end. */
void worker_stop(struct worker *w, uint64_t within_ms);
void worker_join(struct worker *w);
void worker_fini(struct worker *w);

/* Any thread. Counts the message as finished and gives its bytes back; takes nothing. */
void upstream_finished(struct upstream *upstream, const struct message *message, enum reply_outcome outcome);
/* Any thread: takes the message, counts the reason, replies. */
void upstream_drop(struct upstream *upstream, struct message *message, enum drop_reason reason);

#endif
