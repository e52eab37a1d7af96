/* The kubelet's two loops put to work: what they want to ask becomes messages, what comes back
 * becomes their outcomes. See edge_lease.h, edge_node.h.
 *
 * MetaManager answers for the cloud while it knows that there is no connection: inserts and lease
 * updates fail at once, a lease is read from the edge's own database, a Node query too. Patches
 * wait in EdgeHub's queue. */
#include "test/edgesim/edge.h"

#include <string.h>

static void lease_asks(struct edge *e, enum edge_lease_ask ask, uint64_t now_us);
static void node_asks(struct edge *e, enum edge_node_ask ask, uint64_t now_us);

static enum edge_kind lease_kind(enum edge_lease_ask ask)
{
    if (ask == EDGE_LEASE_ASK_QUERY)
        return EDGE_KIND_LEASE_QUERY;
    return ask == EDGE_LEASE_ASK_INSERT ? EDGE_KIND_LEASE_INSERT : EDGE_KIND_LEASE_UPDATE;
}

static bool send_lease(struct edge *e, enum edge_lease_ask ask, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    edge_ask_begin(e, id);
    if (ask == EDGE_LEASE_ASK_QUERY)
        edge_message_lease_query(e->scratch, &a, id);
    else if (ask == EDGE_LEASE_ASK_INSERT)
        edge_message_lease_insert(e->scratch, &a, id, e->node.uid);
    else
        edge_message_lease_update(e->scratch, &a, id, e->lease.metadata, e->lease.metadata_size,
                                  e->lease.is_typed);
    return edge_ask_send(e, lease_kind(ask), EDGE_ASKER_LEASE, 0, now_us);
}

/* What MetaManager says without the cloud. */
static enum edge_outcome lease_outcome_offline(const struct edge *e, enum edge_lease_ask ask)
{
    bool in_database = ask == EDGE_LEASE_ASK_QUERY && e->lease.metadata_size > 0;
    return in_database ? EDGE_OUTCOME_OK : EDGE_OUTCOME_FAILED;
}

static bool knows_uid(const struct edge *e)
{
    return e->node.is_known && e->node.uid[0] != '\0';
}

static void count_renewal(struct edge *e, uint64_t now_us)
{
    struct edge_stats *s = e->stats;
    if (e->renewed_us) {
        edge_histogram_add(&s->lease_gap, now_us - e->renewed_us);
        if (now_us - e->renewed_us > e->config->lease_valid_us)
            s->lease_gaps_too_long++;
    } else {
        s->leased_nodes++;
    }
    e->renewed_us = now_us;
}

static enum edge_lease_ask lease_step(struct edge *e, enum edge_outcome outcome, uint64_t now_us)
{
    bool renewed;
    enum edge_lease_ask next = edge_lease_done(&e->lease, &e->config->lease, outcome, knows_uid(e),
                                               edge_random(e), now_us, &renewed);
    if (renewed)
        count_renewal(e, now_us);
    return next;
}

static void lease_asks(struct edge *e, enum edge_lease_ask ask, uint64_t now_us)
{
    while (ask != EDGE_LEASE_ASK_NONE) {
        bool connected = edge_link_believes_connected(&e->link);
        if (connected && send_lease(e, ask, now_us))
            return;
        e->stats->kinds[lease_kind(ask)].failed_local++;
        ask = lease_step(e, lease_outcome_offline(e, ask), now_us);
    }
}

static bool store_lease(struct edge *e, const struct json_span *object)
{
    static const char *const metadata_path[] = {"metadata", NULL}, *const kind_path[] = {"kind",
                                                                                         NULL};
    struct json_span metadata, kind;
    if (!object || jsonscan_find(object->at, object->size, metadata_path, &metadata) != 0 ||
        metadata.kind != JSON_KIND_OBJECT)
        return false;
    bool typed = jsonscan_find(object->at, object->size, kind_path, &kind) == 0;
    return edge_lease_store(&e->lease, metadata.at, metadata.size, typed) == 0;
}

void edge_lease_outcome(struct edge *e, enum edge_outcome outcome, const struct json_span *object,
                        uint64_t now_us)
{
    if (outcome == EDGE_OUTCOME_OK && !store_lease(e, object)) {
        e->stats->bad_objects++;
        outcome = EDGE_OUTCOME_FAILED;
    }
    lease_asks(e, lease_step(e, outcome, now_us), now_us);
}

/* --- the Node --- */

static enum edge_kind node_kind(enum edge_node_ask ask)
{
    if (ask == EDGE_NODE_ASK_INSERT)
        return EDGE_KIND_NODE_INSERT;
    return ask == EDGE_NODE_ASK_QUERY ? EDGE_KIND_NODE_QUERY : EDGE_KIND_NODEPATCH;
}

/* A fresh Node has nothing to report beyond its insert; later a report carries the times, or all
 * when something changed. */
static enum edge_report report_of(const struct edge *e)
{
    if (!e->node.has_reported)
        return e->node.was_created ? EDGE_REPORT_EMPTY : EDGE_REPORT_FULL;
    return e->node.tells_change ? EDGE_REPORT_FULL : EDGE_REPORT_HEARTBEAT;
}

static bool send_node(struct edge *e, enum edge_node_ask ask, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    edge_ask_begin(e, id);
    if (ask == EDGE_NODE_ASK_INSERT)
        edge_message_node_insert(e->scratch, &a, id);
    else if (ask == EDGE_NODE_ASK_QUERY)
        edge_message_node_query(e->scratch, &a, id);
    else
        edge_message_nodepatch(e->scratch, &a, id, report_of(e));
    return edge_ask_send(e, node_kind(ask), EDGE_ASKER_NODE, 0, now_us);
}

static enum edge_node_ask node_step(struct edge *e, enum edge_outcome outcome, uint64_t now_us)
{
    bool was_registered = e->node.is_registered;
    enum edge_node_ask next =
        edge_node_done(&e->node, &e->config->node, outcome, edge_random(e), now_us);
    if (e->node.is_registered && !was_registered)
        e->stats->registered_nodes++;
    return next;
}

static void node_asks(struct edge *e, enum edge_node_ask ask, uint64_t now_us)
{
    while (ask != EDGE_NODE_ASK_NONE) {
        bool goes_out = ask == EDGE_NODE_ASK_PATCH || edge_link_believes_connected(&e->link);
        if (goes_out && send_node(e, ask, now_us))
            return;
        e->stats->kinds[node_kind(ask)].failed_local++;
        bool in_database = ask == EDGE_NODE_ASK_QUERY && e->node.is_known;
        ask = node_step(e, in_database ? EDGE_OUTCOME_OK : EDGE_OUTCOME_FAILED, now_us);
    }
}

void edge_node_told(struct edge *e, const struct json_span *node)
{
    static const char *const uid_path[] = {"metadata", "uid", NULL};
    struct json_span uid = {0};
    if (node->kind != JSON_KIND_OBJECT ||
        jsonscan_find(node->at, node->size, uid_path, &uid) != 0) {
        e->stats->bad_objects++;
        return;
    }
    edge_node_learned(&e->node, uid.at, uid.size, edge_answer_says_ready(node));
}

void edge_node_outcome(struct edge *e, enum edge_outcome outcome, const struct json_span *object,
                       uint64_t now_us)
{
    if (object)
        edge_node_told(e, object);
    node_asks(e, node_step(e, outcome, now_us), now_us);
}

void edge_kubelet_tick(struct edge *e, uint64_t now_us)
{
    lease_asks(e, edge_lease_tick(&e->lease, &e->config->lease, now_us), now_us);
    node_asks(e, edge_node_tick(&e->node, &e->config->node, now_us), now_us);
}
