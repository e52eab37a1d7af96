/* The upstream pool: --upstream-threads workers, each with its own loop and its own connections to the API server. A node always
 * meets the same worker, so that its messages keep their order without locks. */
#ifndef HUB_UPSTREAM_H
#define HUB_UPSTREAM_H

#include "hub/config.h"
#include "hub/message.h"
#include "isthmus/apiclient.h"
#include "isthmus/errbuf.h"

struct hub;
struct downstream;
struct upstream;

/* Control thread. `config`, `api` are borrowed until upstream_destroy(). 0 or negative errno and `e`. */
int upstream_create(const struct config *config, struct apiconfig *api, struct upstream **upstream,
                    struct errbuf *e) __attribute__((warn_unused_result));
/* Replies go to `hub` (borrowed until upstream_close). Starts the threads. Control thread. */
int upstream_start(struct upstream *upstream, struct hub *hub, struct errbuf *e)
    __attribute__((warn_unused_result));

/* Who is told what edges got as answers; before upstream_start(). NULL: nobody. Control thread. */
void upstream_set_downstream(struct upstream *upstream, struct downstream *downstream);

/* Hub loops. Takes the message and will hand exactly one reply to hub_deliver(), or returns -ENOBUFS (the worker's mailbox or
 * the process's byte budget is full: stop reading that node and offer it again) or -EPIPE (closing); then it stays the caller's. */
int upstream_submit(struct upstream *upstream, struct message *message) __attribute__((warn_unused_result));

/* Hub loops: a node's session was established. The worker sees to the node's annotations. Never blocks, never fails: it is a
 * convenience that is given up under pressure. */
void upstream_node_connected(struct upstream *upstream, struct node_name *node, struct session_ref session);

/* Hub loops: a node is to be let go (release.h). Its lease is renewed, its Node read; then exactly one reply with a farewell
 * comes to hub_deliver(). `must_leave`: also when it is annotated to be kept, or its Node cannot be read. 0, or a negative errno and there will be none. */
int upstream_node_release(struct upstream *upstream, struct node_name *node, struct session_ref session, bool must_leave)
    __attribute__((warn_unused_result));
/* Any thread: for how many nodes leases are renewed at the moment. */
size_t upstream_bridged(const struct upstream *upstream);

/* Any thread: whether the API server answered a probe or any request lately; `text` (constant) says what is wrong. */
bool upstream_is_healthy(const struct upstream *upstream, const char **text);

/* Any thread: queue depths and requests in flight, for /status. */
struct upstream_stats {
    uint64_t waiting[LANE_COUNT], in_flight[LANE_COUNT], waiting_bytes;
    struct apiclient_stats api;
};
void upstream_stats(const struct upstream *upstream, struct upstream_stats *stats);

/* Finishes what was taken, for at most `within_ms`, drops the rest with a counted reason, ends the threads. Control thread. */
void upstream_close(struct upstream *upstream, uint64_t within_ms);
void upstream_destroy(struct upstream *upstream);

#endif
