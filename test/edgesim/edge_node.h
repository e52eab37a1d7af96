/* The kubelet's registration of its Node and its reports of status, as pure state machines.
 *
 * Registration: the Node is inserted after 100 ms, and as long as that fails again after 200 ms,
 * 400 ms ... 7 s. A Node that exists already is looked up: from EdgeCore 1.23 on in the edge's own
 * database (which a wiped node has empty until the cloud pushes the Node), before by a query.
 * Status: looked at every 10 s, sent when it changed or every 5 min, up to five times at once on
 * failure; EdgeCore up to 1.22 queries the Node each time it looks. Behaviour:
 * kubelet_node_status.go and captures of a real one. Pure; one thread. */
#ifndef EDGE_NODE_H
#define EDGE_NODE_H

#include "test/edgesim/edge_lease.h"

#define EDGE_UID_SIZE 37

enum edge_node_ask {
    EDGE_NODE_ASK_NONE,
    EDGE_NODE_ASK_INSERT,
    EDGE_NODE_ASK_QUERY,
    EDGE_NODE_ASK_PATCH
};

struct edge_node_times {
    uint64_t register_us, register_max_us; /* the first step and the longest */
    uint64_t settle_us;                    /* from the registration to the first report */
    uint64_t check_us, report_us;
};

struct edge_node {
    bool queries_cloud; /* EdgeCore <= 1.22 */
    bool is_registered;
    bool was_created;  /* by this edge, just now: there is nothing yet to report beyond that */
    bool is_known;     /* the Node is in the edge's database */
    bool has_changed;  /* the status is to be sent at the next look */
    bool tells_change; /* the report under way does */
    bool has_reported; /* at least one report was taken */
    char uid[EDGE_UID_SIZE];
    enum edge_node_ask asked;
    unsigned tries;
    uint64_t step_us, due_us, reported_us;
};

void edge_node_init(struct edge_node *n, const struct edge_node_times *times, bool queries_cloud,
                    bool has_database, uint64_t now_us);
enum edge_node_ask edge_node_tick(struct edge_node *n, const struct edge_node_times *times,
                                  uint64_t now_us);
/* The outcome of what was asked; returns what to ask next, at once. `jitter` is random in [0, 1).
 */
enum edge_node_ask edge_node_done(struct edge_node *n, const struct edge_node_times *times,
                                  enum edge_outcome outcome, double jitter, uint64_t now_us);
/* The cloud has told the Node: by a push, or in an answer. `says_ready` is what it thinks of it. */
void edge_node_learned(struct edge_node *n, const char *uid, size_t uid_size, bool says_ready);
uint64_t edge_node_due(const struct edge_node *n);

#endif
