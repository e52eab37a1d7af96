/* The edge side: loops that accept, shake hands and hold the sessions. One libuv loop, one libwebsockets context and one
 * SO_REUSEPORT listener for each of --hub-threads.
 *
 * Life: hub_create() -> hub_start() -> ... -> hub_stop_listening() -> hub_close() -> hub_destroy(). */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include "hub/config.h"
#include "hub/message.h"
#include "isthmus/balancer.h"
#include "hub/reasons.h"
#include "isthmus/errbuf.h"

struct hub;
struct downstream;
struct tls_material;
struct upstream;

/* Makes TLS contexts and listening sockets, so that everything that can be wrong with flags and files is said here. Control
 * thread. `config` is borrowed as long as the hub lives; of `tls` it keeps a reference. 0 or negative errno and `e`. */
int hub_create(const struct config *config, struct tls_material *tls, struct hub **hub, struct errbuf *e)
    __attribute__((warn_unused_result));
/* Starts the threads; messages go to `upstream` (borrowed until hub_destroy). Control thread. */
int hub_start(struct hub *hub, struct upstream *upstream, struct errbuf *e) __attribute__((warn_unused_result));

/* Who is told of sessions and acknowledgements; before hub_start(). NULL: nobody. Control thread. */
void hub_set_downstream(struct hub *hub, struct downstream *downstream);

/* Any thread; takes the reply. If the session is gone it is counted and freed. */
void hub_deliver(struct hub *hub, struct reply *reply);

/* The port the websocket listener got (for port 0 in tests). */
uint16_t hub_port(const struct hub *hub);
/* Whether new connections would be taken now: not at --max-connections, not draining. Any thread. */
bool hub_accepts(const struct hub *hub);
/* Any thread: has the session closed, wherever it is. */
void hub_close_session(struct hub *hub, struct session_ref session, enum close_reason reason);
/* Live sessions now. Any thread. */
uint64_t hub_connections(const struct hub *hub);
/* New certificate, key and CA for new connections; live ones stay. Control thread; keeps a reference. -EINVAL and `e` when they
 * cannot take the place of the old ones, which then stay in force. */
int hub_replace_tls(struct hub *hub, struct tls_material *tls, struct errbuf *e) __attribute__((warn_unused_result));
/* Reads --deny-nodes again: who is on it now is refused, and closed if connected. Control thread. On failure the old list stays
 * in force, and `e` says why. */
int hub_reload_denied(struct hub *hub, struct errbuf *e) __attribute__((warn_unused_result));
/* Whether this node is kept out. Any thread. */
bool hub_denies(struct hub *hub, const char *node);
/* Whether a node of this name has a session here now. Any thread. */
bool hub_has_node(struct hub *hub, const char *node);

/* Whether this node is connected here, and since when (uv_hrtime ms); for `isthmus explain`. Any thread. */
struct hub_node_info {
    bool is_connected;
    char remote[64];
    uint64_t connected_ms, last_received_ms, last_keepalive_ms;
    uint64_t messages_in, messages_out, unfinished, unsent_bytes;
    bool is_reading;
};
void hub_explain(struct hub *hub, const char *node, struct hub_node_info *info);

/* ---- moving nodes to other replicas (release.h) ---- */

enum hub_event_kind {
    HUB_NODE_ARRIVED,  /* a session was established */
    HUB_NODE_REPLACED, /* a session was established in place of an older one, whose end is no event */
    HUB_NODE_LOST,     /* a session ended, and its node will connect again somewhere */
    HUB_NODE_RELEASED, /* it was let go as asked */
    HUB_NODE_STAYED,   /* it was to be let go, but was not */
    HUB_NODE_REFUSED,  /* it was sent on to another replica */
    HUB_NONE_FIT       /* so many of those asked for were not found */
};

struct hub_event {
    struct mail mail;
    enum hub_event_kind kind;
    struct node_name *node; /* a ref of its own; NULL with HUB_NONE_FIT */
    uint32_t count;
    bool is_bridged;
};
/* Takes the event that the mailbox delivered. */
void hub_event_destroy(struct hub_event *event);
/* Control thread, before hub_start(): where events go. `events` is borrowed until hub_close(). */
void hub_set_events(struct hub *hub, struct mailbox *events);

/* Control thread. Asks the loops to let go of `count` nodes as the decision allows. Each of them is reported: as released,
 * stayed, or within HUB_NONE_FIT. Returns how many were asked for, fewer only without memory. */
uint32_t hub_release(struct hub *hub, uint32_t count, const struct balancer_decision *decision);
/* Any thread. The node, if it is here, had been let go somewhere before it came. */
void hub_mark_moved(struct hub *hub, const char *node);
/* Control thread. From now on nodes that arrive are asked for there; NULL: nobody is refused. Takes `steer`. */
struct steer;
void hub_steer(struct hub *hub, struct steer *steer);
/* Control thread. While draining new connections are refused; sessions stay until they are released. */
void hub_set_draining(struct hub *hub, bool is_draining);

/* Control thread: no new connections; sessions stay. */
void hub_stop_listening(struct hub *hub);
/* Closes every session orderly (close code 1001), paced over at most `within_ms`, waits for what is in flight, ends the threads.
 * Blocks the control thread; at the end there are no sessions. */
void hub_close(struct hub *hub, uint64_t within_ms);
void hub_destroy(struct hub *hub);

#endif
