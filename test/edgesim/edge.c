/* The life of an edge: its link, and the order in which its parts are asked what is due. See
 * edge.h. */
#include "test/edgesim/edge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int edge_init(struct edge *e, const struct edge_config *config, const struct edge_io *io,
              struct edge_stats *stats, struct edge_text *scratch, const char *name, uint32_t index)
{
    *e = (struct edge){.config = config,
                       .io = io,
                       .stats = stats,
                       .scratch = scratch,
                       .name = strdup(name),
                       .index = index,
                       .random = (config->nonce ^ (index + 1) * UINT64_C(0x9e3779b97f4a7c15)) | 1,
                       .next_plain = 1,
                       .keepalive_us = EDGE_NEVER,
                       .event_us = EDGE_NEVER,
                       .query_us = EDGE_NEVER};
    edge_requests_init(&e->requests);
    edge_lease_init(&e->lease, EDGE_NEVER);
    e->link.due_us = EDGE_NEVER;
    return e->name ? 0 : -ENOMEM;
}

void edge_fini(struct edge *e)
{
    edge_requests_fini(&e->requests);
    edge_lease_fini(&e->lease);
    edge_waiting_free(e);
    edge_pods_free(e);
    edge_items_free(e);
    free(e->name);
    e->name = NULL;
}

/* xorshift64*: for jitter. */
double edge_random(struct edge *e)
{
    e->random ^= e->random >> 12;
    e->random ^= e->random << 25;
    e->random ^= e->random >> 27;
    return (double)((e->random * UINT64_C(0x2545f4914f6cdd1d)) >> 11) / 9007199254740992.0;
}

struct edge_author edge_author(const struct edge *e, uint64_t now_us)
{
    return (struct edge_author){.node = e->name,
                                .dialect = e->config->dialect,
                                .wall_us = (uint64_t)((int64_t)now_us + e->config->wall_offset_us),
                                .padding_bytes = e->config->padding_bytes};
}

void edge_start(struct edge *e, uint64_t now_us)
{
    edge_link_start(&e->link, now_us);
}

void edge_stop(struct edge *e, uint64_t now_us)
{
    (void)now_us;
    if (e->link.state == EDGE_LINK_UP || e->link.state == EDGE_LINK_DIALING)
        e->io->hang_up(e, EDGE_END_STOPPED);
    edge_link_stop(&e->link);
    e->keepalive_us = e->event_us = e->query_us = EDGE_NEVER;
}

/* The kubelet begins with the first connection, its phases a little apart (captured timeline). */
static void start_kubelet(struct edge *e, uint64_t now_us)
{
    const struct edge_config *c = e->config;
    e->has_started = true;
    if (c->has_kubelet) {
        edge_lease_init(&e->lease, now_us + c->node.register_us / 10);
        edge_node_init(&e->node, &c->node, c->dialect < EDGE_DIALECT_1_23, c->has_database, now_us);
    }
    if (c->event_us && (c->event_edges == 0 || e->index < c->event_edges))
        e->event_us = now_us + (uint64_t)((double)c->event_us * edge_random(e));
    if (c->query_us && (c->query_edges == 0 || e->index < c->query_edges))
        e->query_us = now_us + (uint64_t)((double)c->query_us * edge_random(e));
}

void edge_connected(struct edge *e, uint64_t now_us)
{
    edge_link_connected(&e->link);
    e->stats->connects++;
    e->connected_us = now_us;
    e->is_served = false;
    if (e->noticed_us)
        edge_histogram_add(&e->stats->away_time, now_us - e->noticed_us);
    e->noticed_us = 0;
    e->keepalive_us = now_us;
    if (!e->has_started)
        start_kubelet(e, now_us);
}

void edge_dial_failed(struct edge *e, uint64_t now_us)
{
    if (e->link.state == EDGE_LINK_DIALING)
        edge_link_dial_failed(&e->link, &e->config->link, now_us);
}

void edge_closed(struct edge *e, uint64_t now_us)
{
    (void)now_us;
    if (e->link.state != EDGE_LINK_UP)
        return;
    edge_link_closed(&e->link);
    edge_link_lost(e);
}

static void keepalive(struct edge *e, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    if (now_us < e->keepalive_us || !edge_link_believes_connected(&e->link))
        return;
    e->keepalive_us = now_us + e->config->keepalive_us;
    edge_tell_begin(e, id);
    edge_message_keepalive(e->scratch, &a, id);
    edge_tell_send(e, EDGE_KIND_KEEPALIVE, now_us);
}

static void dial(struct edge *e, uint64_t now_us)
{
    if (edge_link_dial_is_late(&e->link, now_us)) {
        e->stats->dial_failures[EDGE_DIAL_TIMEOUT]++;
        e->io->hang_up(e, EDGE_END_STOPPED);
        edge_link_dial_failed(&e->link, &e->config->link, now_us);
    }
    if (edge_link_wants_dial(&e->link, &e->config->link, now_us)) {
        e->stats->dials++;
        e->io->dial(e, now_us);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_due(const struct edge *e, uint64_t now_us)
{
    uint64_t due = edge_link_due(&e->link);
    if (e->link.state == EDGE_LINK_STOPPED)
        return EDGE_NEVER;
    if (edge_link_believes_connected(&e->link))
        due = earlier(due, e->keepalive_us);
    due = earlier(due, edge_acks_due(e));
    due = earlier(due, edge_outbox_due(e, now_us));
    due = earlier(due, edge_requests_due(&e->requests));
    due = earlier(due, edge_load_due(e));
    due = earlier(due, edge_pods_due(e));
    if (e->has_started && e->config->has_kubelet)
        due = earlier(due, earlier(edge_lease_due(&e->lease), edge_node_due(&e->node)));
    return due;
}

uint64_t edge_tick(struct edge *e, uint64_t now_us)
{
    if (e->link.state == EDGE_LINK_STOPPED)
        return EDGE_NEVER;
    dial(e, now_us);
    keepalive(e, now_us);
    edge_acks_tick(e, now_us);
    edge_outbox_tick(e, now_us);
    edge_requests_tick(e, now_us);
    if (e->has_started && e->config->has_kubelet) {
        edge_kubelet_tick(e, now_us);
        edge_pods_tick(e, now_us);
    }
    edge_load_tick(e, now_us);
    return next_due(e, now_us);
}

bool edge_is_connected(const struct edge *e)
{
    return e->link.state == EDGE_LINK_UP;
}

bool edge_is_ready(const struct edge *e, uint64_t now_us)
{
    return e->node.is_registered && e->renewed_us &&
           now_us - e->renewed_us <= e->config->lease_valid_us;
}
