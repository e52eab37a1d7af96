/* See upstream.h. Here is what is asked from other threads: submitting, health, figures. worker.c has the threads.
 *
 * The byte budget is one counter for all. The lanes may use different parts of it, so that what stalls first is refused first:
 * events up to a half, status and queries up to three quarters, liveness all of it. */
#include "hub/upstream.h"

#include "hub/downstream.h"
#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/lease.h"
#include "hub/socket.h"
#include "hub/worker.h"
#include "isthmus/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEALTHY_MS 15000

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- life ---- */

static unsigned share_of(uint64_t total, size_t workers)
{
    uint64_t share = (total + workers - 1) / workers;
    return share > 0 ? (unsigned)share : 1;
}

void upstream_close(struct upstream *u, uint64_t within_ms)
{
    for (size_t i = 0; i < u->worker_count; i++)
        worker_stop(&u->workers[i], within_ms);
    for (size_t i = 0; i < u->worker_count; i++)
        worker_join(&u->workers[i]);
}

void upstream_destroy(struct upstream *u)
{
    if (!u)
        return;
    for (size_t i = 0; i < u->worker_count; i++)
        worker_fini(&u->workers[i]);
    free(u->workers);
    free(u);
}

int upstream_create(const struct config *config, struct apiconfig *api, struct upstream **upstream, struct errbuf *e)
{
    struct upstream *u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    u->config = config;
    u->api = api;
    u->worker_count = config->upstream_threads;
    socket_local_address(u->local_address, sizeof(u->local_address));
    u->kinds = (struct kinds_context){
        .impersonate = config->impersonate,
        .impersonate_group = config->constrained_impersonation ? NULL : "system:nodes",
        .advertise_address = config->advertise_address ? config->advertise_address : u->local_address,
        .replica_id = config->replica_id,
        .ca_pem = apiconfig_ca_pem(api),
        .allowed_node_labels = &config->allowed_node_labels,
        .nudges = config->release_nudge,
        .bridges_leases = config->balancing.bridge_ms > 0,
    };
    for (int lane = 0; lane < LANE_COUNT; lane++)
        u->limits.lane_inflight[lane] = share_of(config->upstream_inflight, u->worker_count);
    u->limits.node_inflight = (unsigned)config->node_inflight;
    u->limits.node_events = (unsigned)config->event_queue;

    u->workers = calloc(u->worker_count, sizeof(*u->workers));
    int rc = u->workers ? 0 : -ENOMEM;
    size_t made = 0;
    while (rc == 0 && made < u->worker_count) {
        rc = worker_init(&u->workers[made], u, e);
        if (rc == 0)
            made++;
    }
    if (rc != 0) {
        u->worker_count = made;
        upstream_close(u, 0);
        upstream_destroy(u);
        return rc;
    }
    *upstream = u;
    return 0;
}

int upstream_start(struct upstream *u, struct hub *hub, struct errbuf *e)
{
    u->hub = hub;
    for (size_t i = 0; i < u->worker_count; i++) {
        int rc = worker_start(&u->workers[i]);
        if (rc != 0) {
            errbuf_set(e, "upstream thread: %s", strerror(-rc));
            return rc;
        }
    }
    return 0;
}

void upstream_set_downstream(struct upstream *u, struct downstream *downstream)
{
    u->downstream = downstream;
}

/* ---- messages ---- */

void upstream_finished(struct upstream *u, const struct message *m, enum reply_outcome outcome)
{
    atomic_fetch_sub_explicit(&u->taken_bytes, m->mail.bytes, memory_order_relaxed);
    count(UPSTREAM_BYTES, 0, -(int64_t)m->mail.bytes);
    if (!upstream_is_own(m->route.kind))
        count2(MESSAGES_FINISHED, m->route.kind, outcome, 1);
}

void upstream_drop(struct upstream *u, struct message *m, enum drop_reason reason)
{
    upstream_finished(u, m, REPLY_DROPPED);
    if (m->route.kind == UPSTREAM_NODE_CONNECTED) {
        downstream_node_seen(u->downstream, m->node, m->from, &(struct text_span){0}, false);
        message_destroy(m);
        return;
    }
    if (m->route.kind == UPSTREAM_NODE_RELEASE) {
        struct reply *reply = answer_none(m, REPLY_PUSH);
        reply->farewell = FAREWELL_FAILED;
        hub_deliver(u->hub, reply);
        return;
    }
    count(MESSAGES_DROPPED, reason, 1);
    log_limited(LOG_LEVEL_INFO, "message_dropped", F_STR("reason", drop_reason_names[reason]),
                F_STR("node", m->node->text), F_STR("kind", upstream_kind_names[m->route.kind]),
                F_U64("age_ms", now_ms() - m->received_ms));
    hub_deliver(u->hub, answer_none(m, REPLY_DROPPED));
}

static size_t budget(const struct upstream *u, enum lane lane)
{
    size_t all = (size_t)u->config->queue_bytes;
    if (lane == LANE_LIVENESS)
        return all;
    return lane == LANE_EVENT || lane == LANE_OWN ? all / 2 : all / 4 * 3;
}

static struct worker *worker_of(struct upstream *u, const struct node_name *node)
{
    return &u->workers[node->hash % u->worker_count];
}

static void reserve(struct upstream *u, const struct message *m)
{
    atomic_fetch_add_explicit(&u->taken_bytes, m->mail.bytes, memory_order_relaxed);
    count(UPSTREAM_BYTES, 0, m->mail.bytes);
}

static void unreserve(struct upstream *u, const struct message *m)
{
    atomic_fetch_sub_explicit(&u->taken_bytes, m->mail.bytes, memory_order_relaxed);
    count(UPSTREAM_BYTES, 0, -(int64_t)m->mail.bytes);
}

int upstream_submit(struct upstream *u, struct message *m)
{
    enum lane lane = upstream_kinds[m->route.kind].lane;
    size_t taken = atomic_load_explicit(&u->taken_bytes, memory_order_relaxed);
    int rc = -ENOBUFS;

    reserve(u, m);
    if (taken + m->mail.bytes <= budget(u, lane))
        rc = mailbox_post(&worker_of(u, m->node)->mailbox, &m->mail);
    if (rc == -ENOBUFS && lane == LANE_EVENT) {
        upstream_drop(u, m, DROP_EVENT_OVERFLOW); /* nobody waits for it; it must not keep its node from being read */
        return 0;
    }
    if (rc != 0)
        unreserve(u, m);
    return rc;
}

/* A message of our own about a node. */
static int submit_own(struct upstream *u, enum upstream_kind kind, struct node_name *node, struct session_ref session,
                      bool must_leave)
{
    struct message *m = message_create(0);
    if (!m)
        return -ENOMEM;
    m->node = node_name_get(node);
    m->from = session;
    m->received_ms = now_ms();
    m->must_leave = must_leave;
    m->route.class = ROUTE_UPSTREAM;
    m->route.kind = kind;
    m->route.ns = (struct text_span){LEASE_NAMESPACE, sizeof(LEASE_NAMESPACE) - 1};
    m->route.name = (struct text_span){node->text, node->size};
    int rc = upstream_submit(u, m);
    if (rc != 0)
        message_destroy(m);
    return rc;
}

void upstream_node_connected(struct upstream *u, struct node_name *node, struct session_ref session)
{
    if (submit_own(u, UPSTREAM_NODE_CONNECTED, node, session, false) != 0)
        downstream_node_seen(u->downstream, node, session, &(struct text_span){0}, false);
}

int upstream_node_release(struct upstream *u, struct node_name *node, struct session_ref session, bool must_leave)
{
    return submit_own(u, UPSTREAM_NODE_RELEASE, node, session, must_leave);
}

size_t upstream_bridged(const struct upstream *u)
{
    size_t n = 0;
    for (size_t i = 0; i < u->worker_count; i++)
        n += bridges_count(&u->workers[i].bridges);
    return n;
}

/* ---- figures ---- */

bool upstream_is_healthy(const struct upstream *u, const char **text)
{
    uint64_t answered = atomic_load_explicit(&u->answered_ms, memory_order_relaxed);
    bool is = answered != 0 && now_ms() - answered < HEALTHY_MS;
    *text = is ? "ok" : answered == 0 ? "the API server has not answered yet" : "the API server has not answered for 15 s";
    return is;
}

static void add_api(struct apiclient_stats *to, const struct apiclient_stats *from)
{
    to->requests += from->requests;
    to->responses += from->responses;
    to->retries += from->retries;
    to->retries_denied += from->retries_denied;
    to->goaways += from->goaways;
    to->resets += from->resets;
    to->connects += from->connects;
    to->connect_failures += from->connect_failures;
    to->dead_peers += from->dead_peers;
    to->token_reloads += from->token_reloads;
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
    to->connections += from->connections;
    to->streams += from->streams;
    to->waiting += from->waiting;
}

void upstream_stats(const struct upstream *u, struct upstream_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    for (size_t i = 0; i < u->worker_count; i++) {
        struct worker *w = &u->workers[i];
        pthread_mutex_lock(&w->lock);
        for (int lane = 0; lane < LANE_COUNT; lane++) {
            stats->waiting[lane] += w->stats.waiting[lane];
            stats->in_flight[lane] += w->stats.in_flight[lane];
        }
        add_api(&stats->api, &w->stats.api);
        pthread_mutex_unlock(&w->lock);
    }
    stats->waiting_bytes = atomic_load_explicit(&u->taken_bytes, memory_order_relaxed);
}
