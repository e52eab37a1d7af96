/* The edge side: loops that accept, shake hands and hold the sessions. One libuv loop, one libwebsockets context and one
 * SO_REUSEPORT listener for each of --hub-threads.
 *
 * Life: hub_create() -> hub_start() -> ... -> hub_stop_listening() -> hub_close() -> hub_destroy(). */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include "hub/config.h"
#include "hub/message.h"
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

/* Control thread: no new connections; sessions stay. */
void hub_stop_listening(struct hub *hub);
/* Closes every session orderly (close code 1001), paced over at most `within_ms`, waits for what is in flight, ends the threads.
 * Blocks the control thread; at the end there are no sessions. */
void hub_close(struct hub *hub, uint64_t within_ms);
void hub_destroy(struct hub *hub);

#endif
