/* See edge_fleet.h: set-up, the clocks of the fleet, and commands. The life of a peer is in
 * edge_peer.c. */
#include "test/edgesim/edge_fleet.h"
#include "test/edgesim/edge_control.h"
#include "test/edgesim/edge_join.h"
#include "test/edgesim/edge_peer.h"
#include "test/edgesim/edge_report.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define RAMP_MS       10
#define SPARE_FILES   64
#define STOP_LIMIT_MS 5000

/* --- set-up --- */

static int raise_file_limit(uint64_t nodes, struct errbuf *e)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (nodes + SPARE_FILES <= limit.rlim_cur)
        return 0;
    errbuf_set(e, "%llu edges do not fit the limit of %llu open files", (unsigned long long)nodes,
               (unsigned long long)limit.rlim_cur);
    return -EMFILE;
}

static int resolve_targets(struct edge_fleet *f, struct errbuf *e)
{
    char *list = strdup(f->options->servers), *rest = list;
    int rc = list ? 0 : -ENOMEM;
    for (char *one; rc == 0 && (one = strsep(&rest, ",")) != NULL;) {
        if (f->target_count == EDGE_TARGETS_MAX) {
            errbuf_set(e, "--server: more than %d", EDGE_TARGETS_MAX);
            rc = -E2BIG;
        } else {
            rc = edge_target_resolve(&f->targets[f->target_count++], one, e);
        }
    }
    free(list);
    if (rc != 0)
        errbuf_wrap(e, "--server");
    return rc;
}

static enum edge_misbehaviour odd_kind(const struct edge_fleet *f, uint32_t index)
{
    const struct edge_options *o = f->options;
    return o->misbehave_nodes == 0 || index < o->misbehave_nodes ? o->misbehaviour : EDGE_ODD_NONE;
}

static int make_peers(struct edge_fleet *f)
{
    const struct edge_options *o = f->options;
    f->peers = calloc(f->count, sizeof(*f->peers));
    f->samples = calloc(EDGE_SAMPLES_MAX, sizeof(*f->samples));
    if (!f->peers || !f->samples)
        return -ENOMEM;
    for (uint32_t i = 0; i < f->count; i++) {
        char name[300];
        /* Twins have one name between them. */
        uint64_t number = odd_kind(f, i) == EDGE_ODD_DUPLICATE_NODE ? i / 2 : i;
        snprintf(name, sizeof(name), "%s%llu", o->prefix,
                 (unsigned long long)(o->first_node + number));
        int rc = edge_peer_init(&f->peers[i], f, name, i);
        if (rc != 0)
            return rc;
    }
    for (uint32_t i = 0; i < f->count; i++)
        edge_odd_init(&f->peers[i].odd, odd_kind(f, i), o->time_scale,
                      f->peers[(i + 1) % f->count].edge.name);
    return 0;
}

static int init_net(struct edge_fleet *f, struct errbuf *e)
{
    const struct edge_options *o = f->options;
    int rc =
        o->join ? edge_certs_open_given(&f->certs, e) : edge_certs_open(&f->certs, o->cert_dir, e);
    if (rc == 0 && o->misbehaviour == EDGE_ODD_FOREIGN_CA)
        rc = edge_certs_open_foreign(&f->foreign, e);
    if (rc == 0)
        rc = edge_net_init(&f->net, &f->loop, o->ca,
                           strcmp(o->tls, "1.2") == 0 ? TLS1_2_VERSION : 0, e);
    if (rc != 0)
        return rc;
    f->net.stats = &f->stats;
    f->net.events = &edge_peer_events;
    f->net.write_deadline_us = f->config.keepalive_us; /* both are 15 s */
    return 0;
}

/* Everybody gets a certificate before anybody dials. */
static int join_all(struct edge_fleet *f, struct errbuf *e)
{
    struct edge_join join;
    int rc = edge_join_begin(&join, f->options->join, f->options->token, e);
    if (rc != 0)
        return rc;
    rc = edge_net_trust(&f->net, join.ca);
    for (uint32_t i = 0; rc == 0 && i < f->count; i++) {
        struct edge_cert *cert = &f->peers[i].cert;
        rc = edge_join_node(&join, f->peers[i].edge.name, f->certs.shared_key, &cert->der,
                            &cert->size, e);
    }
    edge_join_end(&join);
    return rc;
}

int edge_fleet_init(struct edge_fleet *f, const struct edge_options *o, struct errbuf *e)
{
    *f = (struct edge_fleet){.options = o, .count = (uint32_t)o->nodes, .sample_stride = 1};
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&f->loop);
    edge_text_init(&f->scratch);
    int rc = edge_options_config(o, &f->config, e);
    if (rc == 0 && o->misbehaviour == EDGE_ODD_FLOOD)
        f->config.flood_edges = (uint32_t)(o->misbehave_nodes ? o->misbehave_nodes : o->nodes);
    if (rc == 0)
        rc = raise_file_limit(o->nodes, e);
    if (rc == 0)
        rc = resolve_targets(f, e);
    if (rc == 0)
        rc = init_net(f, e);
    if (rc == 0 && (rc = make_peers(f)) != 0)
        errbuf_set(e, "not enough memory for %u edges", f->count);
    if (rc == 0 && o->join)
        rc = join_all(f, e);
    if (rc == 0 && o->control)
        rc = edge_control_open(&f->control, f, o->control, e);
    if (rc != 0)
        edge_fleet_fini(f);
    return rc;
}

static void close_any(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void edge_fleet_fini(struct edge_fleet *f)
{
    edge_control_close(f->control);
    uv_walk(&f->loop, close_any, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    uv_loop_close(&f->loop);
    for (uint32_t i = 0; f->peers && i < f->count; i++)
        edge_peer_fini(&f->peers[i]);
    free(f->peers);
    free(f->samples);
    edge_net_fini(&f->net);
    edge_certs_close(&f->certs);
    edge_certs_close(&f->foreign);
    edge_text_fini(&f->scratch);
    f->peers = NULL;
    f->samples = NULL;
}

/* --- starting --- */

static void start_next(struct edge_fleet *f)
{
    struct edge_peer *p = &f->peers[f->started++];
    edge_start(&p->edge, edge_clock_us());
    edge_peer_step(p);
    if (f->started == f->count)
        f->ramped_us = edge_clock_us();
}

static void on_ramp(uv_timer_t *timer)
{
    struct edge_fleet *f = timer->data;
    double rate = f->options->connect_rate;
    f->ramp_credit = rate > 0 ? f->ramp_credit + rate * RAMP_MS / 1000 : f->count;
    while (f->started < f->wanted && f->ramp_credit >= 1) {
        f->ramp_credit -= 1;
        start_next(f);
    }
    if (f->started == f->wanted)
        uv_timer_stop(timer);
}

void edge_fleet_start_more(struct edge_fleet *f, uint32_t count)
{
    f->wanted = count == 0 || count > f->count - f->wanted ? f->count : f->wanted + count;
    f->ramp_credit = 1;
    if (!f->is_stopping)
        uv_timer_start(&f->ramp, on_ramp, 0, RAMP_MS);
}

/* --- each second --- */

struct edge_sample edge_fleet_sample(struct edge_fleet *f)
{
    uint64_t now_us = edge_clock_us();
    struct edge_sample s = {.t_ms = (uint32_t)((now_us - f->begun_us) / 1000),
                            .messages_in = f->stats.messages_in,
                            .messages_out = f->stats.messages_out};
    for (uint32_t i = 0; i < f->started; i++) {
        const struct edge *e = &f->peers[i].edge;
        bool is_connected = edge_is_connected(e);
        s.connected += is_connected;
        s.served += is_connected && e->is_served;
        s.ready += edge_is_ready(e, now_us);
    }
    return s;
}

/* When the table is full every other sample goes, and the step doubles. */
static void keep_sample(struct edge_fleet *f, const struct edge_sample *s)
{
    if (f->seconds++ % f->sample_stride != 0)
        return;
    if (f->sample_count == EDGE_SAMPLES_MAX) {
        for (uint32_t i = 0; i < EDGE_SAMPLES_MAX / 2; i++)
            f->samples[i] = f->samples[2 * i];
        f->sample_count = EDGE_SAMPLES_MAX / 2;
        f->sample_stride *= 2;
    }
    f->samples[f->sample_count++] = *s;
}

/* Handshakes leave holes, as much as a third of the memory; it goes back when a storm is over. */
static void trim_memory(struct edge_fleet *f)
{
    uint64_t handshakes = f->stats.tls12 + f->stats.tls13;
    bool is_calm = handshakes == f->handshakes_seen;
    f->handshakes_seen = handshakes;
    if (!is_calm || handshakes == f->handshakes_trimmed)
        return;
    f->handshakes_trimmed = handshakes;
    malloc_trim(0);
}

static void on_second(uv_timer_t *timer)
{
    struct edge_fleet *f = timer->data;
    struct edge_sample s = edge_fleet_sample(f);
    keep_sample(f, &s);
    if (f->options->progress)
        edge_report_line(f, &s);
    trim_memory(f);
    f->last = s;
}

/* --- the end --- */

static void on_stuck(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

void edge_fleet_stop(struct edge_fleet *f)
{
    if (f->is_stopping)
        return;
    f->is_stopping = true;
    f->ended_us = edge_clock_us();
    f->last = edge_fleet_sample(f);
    keep_sample(f, &f->last);
    uv_timer_stop(&f->ramp);
    uv_timer_stop(&f->second);
    uv_signal_stop(&f->interrupt);
    uv_signal_stop(&f->terminate);
    edge_control_close(f->control);
    f->control = NULL;
    for (uint32_t i = 0; i < f->count; i++)
        edge_peer_stop(&f->peers[i]);
    uv_timer_start(&f->end, on_stuck, STOP_LIMIT_MS, 0);
    uv_unref((uv_handle_t *)&f->end);
}

static void on_end(uv_timer_t *timer)
{
    edge_fleet_stop(timer->data);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    edge_fleet_stop(handle->data);
}

static void init_clocks(struct edge_fleet *f)
{
    uv_timer_t *timers[] = {&f->ramp, &f->second, &f->end};
    for (size_t i = 0; i < 3; i++) {
        uv_timer_init(&f->loop, timers[i]);
        timers[i]->data = f;
    }
    uv_signal_init(&f->loop, &f->interrupt);
    uv_signal_init(&f->loop, &f->terminate);
    f->interrupt.data = f->terminate.data = f;
    uv_signal_start(&f->interrupt, on_signal, SIGINT);
    uv_signal_start(&f->terminate, on_signal, SIGTERM);
    uv_timer_start(&f->second, on_second, 1000, 1000);
    if (f->options->duration_ms)
        uv_timer_start(&f->end, on_end, f->options->duration_ms, 0);
}

void edge_fleet_run(struct edge_fleet *f)
{
    f->begun_us = edge_clock_us();
    uv_update_time(&f->loop);
    init_clocks(f);
    if (!f->options->start_stopped)
        edge_fleet_start_more(f, 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
}

/* --- commands --- */

uint32_t edge_fleet_drop(struct edge_fleet *f, double fraction)
{
    uint32_t dropped = 0;
    double credit = 0;
    for (uint32_t i = 0; i < f->started; i++) {
        if (!edge_is_connected(&f->peers[i].edge))
            continue;
        credit += fraction;
        if (credit < 1)
            continue;
        credit -= 1;
        edge_peer_drop(&f->peers[i]);
        dropped++;
    }
    return dropped;
}

uint32_t edge_fleet_pause(struct edge_fleet *f, uint32_t count, bool paused)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < f->started && (count == 0 || done < count); i++) {
        if (f->peers[i].is_paused == paused)
            continue;
        edge_peer_pause(&f->peers[i], paused);
        done++;
    }
    return done;
}

void edge_fleet_reset_stats(struct edge_fleet *f)
{
    struct edge_stats *s = &f->stats;
    uint64_t served = s->served_nodes, registered = s->registered_nodes, leased = s->leased_nodes;
    uint64_t all_served_us = s->all_served_us;
    memset(s, 0, sizeof(*s));
    s->served_nodes = served;
    s->registered_nodes = registered;
    s->leased_nodes = leased;
    s->all_served_us = all_served_us;
    for (uint32_t i = 0; i < f->started; i++)
        edge_requests_recount(&f->peers[i].edge.requests, s);
}
