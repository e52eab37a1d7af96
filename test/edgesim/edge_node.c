/* See edge_node.h. */
#include "test/edgesim/edge_node.h"
#include "test/edgesim/edge_link.h"

#include <assert.h>
#include <string.h>

#define MAX_REPORTS  5 /* nodeStatusUpdateRetry */
#define CHECK_JITTER 0.04

void edge_node_init(struct edge_node *n, const struct edge_node_times *times, bool queries_cloud,
                    bool has_database, uint64_t now_us)
{
    *n = (struct edge_node){.queries_cloud = queries_cloud,
                            .is_known = has_database,
                            .has_changed = true,
                            .step_us = times->register_us,
                            .due_us = now_us + times->register_us};
}

static enum edge_node_ask ask(struct edge_node *n, enum edge_node_ask what)
{
    n->asked = what;
    return what;
}

static enum edge_node_ask wait_until(struct edge_node *n, uint64_t due_us)
{
    n->due_us = due_us;
    return ask(n, EDGE_NODE_ASK_NONE);
}

static enum edge_node_ask register_later(struct edge_node *n, const struct edge_node_times *times,
                                         uint64_t now_us)
{
    n->step_us *= 2;
    if (n->step_us > times->register_max_us)
        n->step_us = times->register_max_us;
    return wait_until(n, now_us + n->step_us);
}

static enum edge_node_ask registered(struct edge_node *n, const struct edge_node_times *times,
                                     uint64_t now_us)
{
    n->is_registered = true;
    n->is_known = true;
    return wait_until(n, now_us + times->settle_us);
}

static enum edge_node_ask look_later(struct edge_node *n, const struct edge_node_times *times,
                                     double jitter, uint64_t now_us)
{
    return wait_until(n, now_us + times->check_us +
                             (uint64_t)((double)times->check_us * CHECK_JITTER * jitter));
}

static bool is_report_due(const struct edge_node *n, const struct edge_node_times *times,
                          uint64_t now_us)
{
    return n->has_changed || now_us - n->reported_us >= times->report_us;
}

/* One turn of tryUpdateNodeStatus, with the Node at hand. */
static enum edge_node_ask report(struct edge_node *n, const struct edge_node_times *times,
                                 double jitter, uint64_t now_us)
{
    if (is_report_due(n, times, now_us)) {
        n->tells_change = n->has_changed;
        n->has_changed = false; /* what is learned from now on is for the next report */
        return ask(n, EDGE_NODE_ASK_PATCH);
    }
    return look_later(n, times, jitter, now_us);
}

enum edge_node_ask edge_node_tick(struct edge_node *n, const struct edge_node_times *times,
                                  uint64_t now_us)
{
    if (n->asked != EDGE_NODE_ASK_NONE || now_us < n->due_us)
        return EDGE_NODE_ASK_NONE;
    n->due_us = EDGE_NEVER;
    if (!n->is_registered)
        return ask(n, EDGE_NODE_ASK_INSERT);
    n->tries = 0;
    if (n->queries_cloud)
        return ask(n, EDGE_NODE_ASK_QUERY);
    return report(n, times, 0, now_us);
}

static enum edge_node_ask insert_done(struct edge_node *n, const struct edge_node_times *times,
                                      enum edge_outcome outcome, uint64_t now_us)
{
    n->was_created = outcome == EDGE_OUTCOME_OK;
    if (n->was_created)
        return registered(n, times, now_us);
    if (outcome != EDGE_OUTCOME_EXISTS)
        return register_later(n, times, now_us);
    if (n->queries_cloud)
        return ask(n, EDGE_NODE_ASK_QUERY);
    return n->is_known ? registered(n, times, now_us) : register_later(n, times, now_us);
}

static enum edge_node_ask report_failed(struct edge_node *n, const struct edge_node_times *times,
                                        double jitter, uint64_t now_us)
{
    n->has_changed |= n->tells_change;
    if (++n->tries >= MAX_REPORTS)
        return look_later(n, times, jitter, now_us);
    return n->queries_cloud ? ask(n, EDGE_NODE_ASK_QUERY) : report(n, times, jitter, now_us);
}

enum edge_node_ask edge_node_done(struct edge_node *n, const struct edge_node_times *times,
                                  enum edge_outcome outcome, double jitter, uint64_t now_us)
{
    enum edge_node_ask asked = n->asked;
    bool is_ok = outcome == EDGE_OUTCOME_OK;
    assert(asked != EDGE_NODE_ASK_NONE);
    if (asked == EDGE_NODE_ASK_INSERT)
        return insert_done(n, times, outcome, now_us);
    if (!n->is_registered) /* the query behind an insert that found the Node there */
        return is_ok ? registered(n, times, now_us) : register_later(n, times, now_us);
    if (!is_ok)
        return report_failed(n, times, jitter, now_us);
    if (asked == EDGE_NODE_ASK_QUERY)
        return report(n, times, jitter, now_us);
    n->tells_change = false;
    n->has_reported = true;
    n->reported_us = now_us;
    return look_later(n, times, jitter, now_us);
}

void edge_node_learned(struct edge_node *n, const char *uid, size_t uid_size, bool says_ready)
{
    n->is_known = true;
    if (uid_size > 0 && uid_size < EDGE_UID_SIZE) {
        memcpy(n->uid, uid, uid_size);
        n->uid[uid_size] = '\0';
    }
    if (!says_ready)
        n->has_changed = true;
}

uint64_t edge_node_due(const struct edge_node *n)
{
    return n->asked == EDGE_NODE_ASK_NONE ? n->due_us : EDGE_NEVER;
}
