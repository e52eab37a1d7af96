/* Load beyond what an idle edge makes: events, queries, and floods. See edge.h.
 *
 * Events and queries come at a steady rate, each edge with a phase of its own, and go through
 * EdgeHub's rate limit like everything else. A flooding edge ignores that limit and writes whenever
 * the wire takes something. */
#include "test/edgesim/edge.h"

#define EVENTS_WAITING_MAX                                                                         \
    512 /* beyond it events are not even made: a real edge's sender would stand still */
#define QUERIES_PENDING_MAX 64
#define FLOOD_BURST         32
#define FLOOD_PENDING_MAX   4096

static void send_event(struct edge *e, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    /* Unique over restarts of the fleet, too. */
    uint64_t number = (a.wall_us << 8) + (e->events_made++ & 0xff);
    edge_tell_begin(e, id);
    edge_message_event(e->scratch, &a, id, number, e->config->event_bytes);
    edge_tell_send(e, EDGE_KIND_EVENT, now_us);
}

static bool send_query(struct edge *e, bool of_node, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    edge_ask_begin(e, id);
    if (of_node)
        edge_message_node_query(e->scratch, &a, id);
    else
        edge_message_query(e->scratch, &a, id, e->config->query_configmap);
    return edge_ask_send(e, of_node ? EDGE_KIND_NODE_QUERY : EDGE_KIND_CONFIGMAP_QUERY,
                         EDGE_ASKER_LOAD, 0, now_us);
}

static bool send_patch(struct edge *e, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    edge_ask_begin(e, id);
    edge_message_nodepatch(e->scratch, &a, id, EDGE_REPORT_HEARTBEAT);
    return edge_ask_send(e, EDGE_KIND_NODEPATCH, EDGE_ASKER_LOAD, 0, now_us);
}

/* The time of the next one; a backlog of more than a second is forgotten. */
static uint64_t advance(uint64_t due_us, uint64_t period_us, uint64_t now_us)
{
    due_us += period_us;
    return due_us + 1000000 < now_us ? now_us : due_us;
}

static void events_tick(struct edge *e, uint64_t now_us)
{
    while (e->event_us <= now_us) {
        if (e->outbox_count < EVENTS_WAITING_MAX)
            send_event(e, now_us);
        else
            e->stats->events_skipped++;
        e->event_us = advance(e->event_us, e->config->event_us, now_us);
    }
}

static bool queries_node(const struct edge *e)
{
    enum edge_query_load load = e->config->query_load;
    return load == EDGE_QUERY_NODE || (load == EDGE_QUERY_BOTH && (e->requests.next & 1));
}

static void queries_tick(struct edge *e, uint64_t now_us)
{
    while (e->query_us <= now_us) {
        bool can =
            edge_link_believes_connected(&e->link) && e->requests.pending < QUERIES_PENDING_MAX;
        if (!can || !send_query(e, queries_node(e), now_us))
            e->stats->queries_skipped++;
        e->query_us = advance(e->query_us, e->config->query_us, now_us);
    }
}

static bool floods(const struct edge *e)
{
    return e->index < e->config->flood_edges && e->has_started && e->link.state == EDGE_LINK_UP;
}

static bool flood_is_held(const struct edge *e)
{
    bool too_many =
        e->config->flood != EDGE_FLOOD_EVENT && e->requests.pending >= FLOOD_PENDING_MAX;
    return e->io->is_blocked(e) || too_many;
}

static void flood_tick(struct edge *e, uint64_t now_us)
{
    for (int i = 0; i < FLOOD_BURST && floods(e) && !flood_is_held(e); i++) {
        e->rate_us = 0; /* no limit for this one */
        if (e->config->flood == EDGE_FLOOD_EVENT)
            send_event(e, now_us);
        else if (e->config->flood == EDGE_FLOOD_NODEPATCH)
            send_patch(e, now_us);
        else
            send_query(e, false, now_us);
    }
}

void edge_load_tick(struct edge *e, uint64_t now_us)
{
    events_tick(e, now_us);
    queries_tick(e, now_us);
    if (e->config->flood_edges)
        flood_tick(e, now_us);
}

uint64_t edge_load_due(const struct edge *e)
{
    if (floods(e) && !flood_is_held(e))
        return 0; /* at once */
    return e->event_us < e->query_us ? e->event_us : e->query_us;
}
