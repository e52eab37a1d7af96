/* The one table of the hub's metrics: X(id, name, type, labels, help). hub_metrics.c makes the families of it, docs/operations.md
 * and the test that reads it are held to it. Types C(ounter), G(auge), H(istogram of seconds). Label sets stand in hub_metrics.c. */
#ifndef HUB_HUB_METRICS_H
#define HUB_HUB_METRICS_H

#include "isthmus/metrics.h"

/* clang-format off */
#define HUB_METRICS(X)                                                                                                                   \
    X(EDGE_CONNECTIONS,     "isthmus_edge_connections",              GAUGE,     NONE, NONE,    "Live edge sessions.")                     \
    X(EDGE_ACCEPTED,        "isthmus_edge_accepted_total",           COUNTER,   NONE, NONE,    "TCP connections accepted.")               \
    X(EDGE_ESTABLISHED,     "isthmus_edge_established_total",        COUNTER,   NONE, NONE,    "Sessions established.")                   \
    X(EDGE_REFUSED,         "isthmus_edge_refused_total",            COUNTER,   REFUSE_REASON, NONE, "Connections that did not become a session, by reason.") \
    X(EDGE_CLOSED,          "isthmus_edge_closed_total",             COUNTER,   CLOSE_REASON, NONE, "Sessions closed, by reason.")        \
    X(HANDSHAKES,           "isthmus_handshakes_in_progress",        GAUGE,     NONE, NONE,    "Connections in TLS or upgrade.")          \
    X(HANDSHAKES_WAITING,   "isthmus_handshakes_waiting",            GAUGE,     NONE, NONE,    "Accepted connections waiting for a handshake slot.") \
    X(HANDSHAKE_SECONDS,    "isthmus_handshake_seconds",             HISTOGRAM, NONE, NONE,    "From accept to an established session.")  \
    X(MESSAGES_RECEIVED,    "isthmus_messages_received_total",       COUNTER,   KIND, NONE,    "Messages received whole that go upstream, by kind.") \
    X(MESSAGES_LOCAL,       "isthmus_messages_local_total",          COUNTER,   ROUTE_REASON, NONE, "Messages received that do not go upstream: keepalives, acknowledgements, ignored and refused ones, by reason.") \
    X(MESSAGES_FINISHED,    "isthmus_messages_finished_total",       COUNTER,   KIND, OUTCOME, "Upstream messages by what became of them.") \
    X(MESSAGES_DROPPED,     "isthmus_messages_dropped_total",        COUNTER,   DROP_REASON, NONE, "Messages and answers dropped, by reason.") \
    X(RECEIVED_BYTES,       "isthmus_received_bytes_total",          COUNTER,   NONE, NONE,    "Payload bytes received from edges.")      \
    X(SENT_BYTES,           "isthmus_sent_bytes_total",              COUNTER,   NONE, NONE,    "Payload bytes sent to edges.")            \
    X(SENT_MESSAGES,        "isthmus_messages_sent_total",           COUNTER,   NONE, NONE,    "Messages sent to edges.")                 \
    X(REASSEMBLY_BYTES,     "isthmus_reassembly_bytes",              GAUGE,     NONE, NONE,    "Bytes of half-received messages.")        \
    X(PAUSED_SESSIONS,      "isthmus_paused_sessions",               GAUGE,     NONE, NONE,    "Sessions that are not read at the moment.") \
    X(ANSWER_SECONDS,       "isthmus_answer_seconds",                HISTOGRAM, LANE, NONE,    "From a message's receipt to its answer, by lane.") \
    X(UPSTREAM_WAITING,     "isthmus_upstream_waiting",              GAUGE,     LANE, NONE,    "Messages waiting for an API request, by lane.") \
    X(UPSTREAM_IN_FLIGHT,   "isthmus_upstream_in_flight",            GAUGE,     LANE, NONE,    "API requests in flight, by lane.")        \
    X(UPSTREAM_BYTES,       "isthmus_upstream_waiting_bytes",        GAUGE,     NONE, NONE,    "Bytes of messages taken and not finished.") \
    X(PUSHES,               "isthmus_pushes_total",                  COUNTER,   PUSH_OUTCOME, NONE, "Messages pushed to edges, by what became of them.") \
    X(PUSH_SECONDS,         "isthmus_push_seconds",                  HISTOGRAM, NONE, NONE,    "From the first writing of a push to its acknowledgement.") \
    X(PUSHES_WAITING,       "isthmus_pushes_waiting",                GAUGE,     NONE, NONE,    "Objects that connected edges are still to get, those in flight included.") \
    X(PUSHES_IN_FLIGHT,     "isthmus_pushes_in_flight",              GAUGE,     NONE, NONE,    "Pushes that wait for their acknowledgement.") \
    X(RECORD_WRITES,        "isthmus_record_writes_total",           COUNTER,   RECORD_RESULT, NONE, "Requests that write ObjectSync and ClusterObjectSync records, by result.") \
    X(WATCH_HEALTHY,        "isthmus_watch_healthy",                 GAUGE,     WATCH, NONE,   "1 while the watch of this kind of object runs.") \
    X(WATCH_EVENTS,         "isthmus_watch_objects_total",           COUNTER,   WATCH, NONE,   "Objects listed and watch events received, by kind.") \
    X(INDEX_OBJECTS,        "isthmus_index_objects",                 GAUGE,     NONE, NONE,    "Objects of the cluster in the index of who wants what.") \
    X(INDEX_LINKS,          "isthmus_index_links",                   GAUGE,     NONE, NONE,    "Pairs of a node and an object that it has or is to have.") \
    X(INDEX_BYTES,          "isthmus_index_bytes",                   GAUGE,     NONE, NONE,    "Memory of that index.")                   \
    X(JOIN_REQUESTS,        "isthmus_join_requests_total",           COUNTER,   JOIN_RESULT, NONE, "Requests to the join endpoint, by result.") \
    X(API_REQUESTS,         "isthmus_api_requests_total",            COUNTER,   KIND, CODE,    "API requests finished, by kind and class of HTTP status.") \
    X(BRIDGED_NODES,        "isthmus_bridged_nodes",                 GAUGE,     NONE, NONE,    "Nodes on their way to another replica whose lease is renewed for them.") \
    X(BRIDGE_RENEWALS,      "isthmus_bridge_renewals_total",         COUNTER,   NONE, NONE,    "Leases renewed for nodes on their way.")  \
    X(BRIDGE_ENDS,          "isthmus_bridge_ends_total",             COUNTER,   BRIDGE_END, NONE, "Bridged nodes by how it ended.")        \
    X(RELEASES,             "isthmus_releases_total",                COUNTER,   RELEASE_RESULT, NONE, "Nodes chosen to be let go, by what became of it.") \
    X(BALANCE_BEATS,        "isthmus_balance_beats_total",           COUNTER,   BEAT, NONE,    "Beats to Redis by what became of them.")  \
    X(BALANCE_BEAT_SECONDS, "isthmus_balance_beat_seconds",          HISTOGRAM, NONE, NONE,    "Round trip of a beat.")                   \
    X(API_SECONDS,          "isthmus_api_request_seconds",           HISTOGRAM, LANE, NONE,    "Duration of API requests, retries included, by lane.")
/* clang-format on */

#define HUB_METRIC_ENUM(id, ...) M_##id,
enum hub_metric { HUB_METRICS(HUB_METRIC_ENUM) HUB_METRIC_COUNT };
#undef HUB_METRIC_ENUM

extern struct metric_family hub_metrics[HUB_METRIC_COUNT];

/* The class of an API request's end. */
enum api_code { API_CODE_2XX, API_CODE_3XX, API_CODE_4XX, API_CODE_409, API_CODE_429, API_CODE_5XX, API_CODE_NONE,
                API_CODE_COUNT };

/* Start-up, before threads. 0 or -ENOMEM. */
int hub_metrics_init(void) __attribute__((warn_unused_result));

#define count(id, a, n)      metric_add(&hub_metrics[M_##id], (size_t)(a), 0, (int64_t)(n))
#define count2(id, a, b, n)  metric_add(&hub_metrics[M_##id], (size_t)(a), (size_t)(b), (int64_t)(n))
#define observe_us(id, a, n) metric_observe_us(&hub_metrics[M_##id], (size_t)(a), 0, (uint64_t)(n))

#endif
