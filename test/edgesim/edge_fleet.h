/* A fleet: edges with their sockets and timers on one libuv loop, the clock that starts them, and
 * the samples of a second.
 *
 * Happy path: init, run (start edges at their rate, until the duration is over or somebody says
 * stop; then hang everything up), report, fini. Failure modes: set-up fails with a text; afterwards
 * whatever happens is a number in the statistics. One thread. */
#ifndef EDGE_FLEET_H
#define EDGE_FLEET_H

#include "test/edgesim/edge_conn.h"
#include "test/edgesim/edge_misbehave.h"
#include "test/edgesim/edge_options.h"

#define EDGE_TARGETS_MAX 16
#define EDGE_SAMPLES_MAX 3600

struct edge_fleet;

struct edge_peer {
    struct edge edge;
    struct edge_fleet *fleet;
    struct edge_conn *conn; /* NULL: none */
    struct edge_cert cert;
    struct edge_odd odd;
    uv_timer_t timer;
    uint64_t armed_us; /* what the timer is set to */
    uint32_t next_target;
    bool has_failed_dial; /* to be told at the next step */
    bool is_paused;
};

/* What the fleet looked like at one moment. */
struct edge_sample {
    uint32_t t_ms, connected, served, ready;
    uint64_t messages_in, messages_out;
};

struct edge_fleet {
    const struct edge_options *options;
    struct edge_config config;
    struct edge_stats stats;
    struct edge_text scratch;
    struct edge_certs certs, foreign;
    struct edge_net net;
    struct edge_target targets[EDGE_TARGETS_MAX];
    uint32_t target_count;
    uv_loop_t loop;
    uv_timer_t ramp, second, end;
    uv_signal_t interrupt, terminate;
    struct edge_control *control;
    struct edge_peer *peers;
    uint32_t count;
    uint32_t started, wanted; /* edges that dial, and how many shall */
    double ramp_credit;
    uint64_t begun_us, ramped_us, ended_us;
    bool is_stopping;
    struct edge_sample *samples;
    uint32_t sample_count, sample_stride, seconds;
    struct edge_sample last;
    uint64_t handshakes_seen, handshakes_trimmed; /* by the giving back of memory */
};

/* 0, or -errno and `e`. Borrows the options. */
int edge_fleet_init(struct edge_fleet *f, const struct edge_options *o, struct errbuf *e);
/* Until the duration is over, or a signal or a command stops it. */
void edge_fleet_run(struct edge_fleet *f);
void edge_fleet_fini(struct edge_fleet *f);

/* For the control socket. */
void edge_fleet_stop(struct edge_fleet *f);
void edge_fleet_start_more(struct edge_fleet *f, uint32_t count); /* 0: all */
uint32_t edge_fleet_drop(struct edge_fleet *f,
                         double fraction); /* connections, by a reset; returns how many */
uint32_t edge_fleet_pause(struct edge_fleet *f, uint32_t count, bool paused); /* 0: all */
void edge_fleet_reset_stats(struct edge_fleet *f);
struct edge_sample edge_fleet_sample(struct edge_fleet *f);

#endif
