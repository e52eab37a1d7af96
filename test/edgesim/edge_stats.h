/* What a fleet has seen: for every kind of message its ids and latencies, for connections how they
 * began and ended.
 *
 * Of every id that expects an answer exactly one of `once`, `twice`, `never`, `lost` and `pending`
 * is true, so that ids = once + twice + never + lost + pending. Plain counters; one thread. */
#ifndef EDGE_STATS_H
#define EDGE_STATS_H

#include "test/edgesim/edge_histogram.h"

#include <stdbool.h>
#include <stddef.h>

#define EDGE_KINDS_X(X)                                                                            \
    X(KEEPALIVE, "keepalive", false)                                                               \
    X(ACK, "ack", false)                                                                           \
    X(NODE_INSERT, "node_insert", true)                                                            \
    X(NODE_QUERY, "node_query", true)                                                              \
    X(NODEPATCH, "nodepatch", true)                                                                \
    X(LEASE_QUERY, "lease_query", true)                                                            \
    X(LEASE_INSERT, "lease_insert", true)                                                          \
    X(LEASE_UPDATE, "lease_update", true)                                                          \
    X(PODPATCH, "podpatch", true)                                                                  \
    X(POD_DELETE, "pod_delete", true)                                                              \
    X(CONFIGMAP_QUERY, "configmap_query", true)                                                    \
    X(SECRET_QUERY, "secret_query", true)                                                          \
    X(TOKEN_QUERY, "token_query", true)                                                            \
    X(EVENT, "event", false)                                                                       \
    X(ODD, "odd", true)

enum edge_kind {
#define X(id, name, answered) EDGE_KIND_##id,
    EDGE_KINDS_X(X)
#undef X
        EDGE_KINDS
};
const char *edge_kind_name(enum edge_kind kind);
bool edge_kind_expects_answer(enum edge_kind kind);

/* Why a dial did not become a connection. */
#define EDGE_DIAL_FAILURES_X(X)                                                                    \
    X(CERTIFICATE, "certificate") /* our own could not be made */                                  \
    X(SOCKET, "socket")                                                                            \
    X(REFUSED, "refused")                                                                          \
    X(RESET, "reset")                                                                              \
    X(CLOSED, "closed")                                                                            \
    X(TIMEOUT, "timeout")                                                                          \
    X(TLS, "tls")                                                                                  \
    X(HTTP_503, "http_503")                                                                        \
    X(HTTP_403, "http_403")                                                                        \
    X(HTTP_OTHER, "http_other")                                                                    \
    X(UPGRADE, "upgrade") /* 101, but not as the protocol wants it */

enum edge_dial_failure {
#define X(id, name) EDGE_DIAL_##id,
    EDGE_DIAL_FAILURES_X(X)
#undef X
        EDGE_DIAL_FAILURES
};
const char *edge_dial_failure_name(enum edge_dial_failure failure);

/* How a connection ended, as the edge saw it. */
#define EDGE_ENDS_X(X)                                                                             \
    X(CLOSE_FRAME, "close_frame")                                                                  \
    X(EOF, "eof")                                                                                  \
    X(RESET, "reset")                                                                              \
    X(TLS, "tls")                                                                                  \
    X(PROTOCOL, "protocol")       /* the frames were not websocket */                              \
    X(BAD_MESSAGE, "bad_message") /* not JSON: EdgeCore closes at once */                          \
    X(WRITE_STUCK, "write_stuck") /* the write deadline of 15 s */                                 \
    X(WRITE_ERROR, "write_error")                                                                  \
    X(DROPPED, "dropped") /* by our own control socket */                                          \
    X(STOPPED, "stopped")

enum edge_end {
#define X(id, name) EDGE_END_##id,
    EDGE_ENDS_X(X)
#undef X
        EDGE_ENDS
};
const char *edge_end_name(enum edge_end end);

struct edge_kind_stats {
    uint64_t sent;      /* messages written, repetitions included */
    uint64_t unwritten; /* of them, those whose write failed: they never left */
    uint64_t ids;       /* different ids written that expect an answer */
    uint64_t once, twice, never, lost;
    uint64_t late;     /* answered, but after the edge gave up: counted in never (or lost) too */
    uint64_t errors;   /* answers that said no; part of once */
    uint64_t repeated; /* asked again after 60 s */
    uint64_t failed_local;         /* not sent: the edge knew it was not connected */
    struct edge_histogram latency; /* from the write to the first answer */
};

struct edge_stats {
    struct edge_kind_stats kinds[EDGE_KINDS];
    uint64_t messages_in, bytes_in, messages_out, bytes_out;

    uint64_t dials, connects, dial_failures[EDGE_DIAL_FAILURES], ends[EDGE_ENDS];
    uint64_t close_codes_1000_1015[16], close_codes_other;
    uint64_t tls12, tls13;
    struct edge_histogram dial_time;   /* from the dial to the upgrade */
    struct edge_histogram served_time; /* from the upgrade to the first answer */
    struct edge_histogram away_time; /* from the noticed end of a connection to the next upgrade */
    uint64_t served_nodes;           /* nodes with at least one answer */
    uint64_t all_served_us;          /* when that was all of them, since the start; 0: not yet */

    uint64_t registered_nodes, leased_nodes;
    struct edge_histogram lease_gap; /* between two renewals that succeeded, as seen here */
    uint64_t lease_gaps_too_long;    /* above the lease's 40 s */

    uint64_t pushes, pushes_pod, pushes_node, pushes_configmap, pushes_secret, pushes_other;
    uint64_t push_deletes, push_repeats; /* the very version that is stored */
    uint64_t order_violations;           /* an older version after a newer one */
    uint64_t foreign_pods;               /* a pod of another node */

    uint64_t unknown_answers;  /* nobody asked for that id (of this process) */
    uint64_t misdelivered;     /* the answer to another edge's question */
    uint64_t wrong_resource;   /* an answer under another name than its question's */
    uint64_t bad_messages;     /* not JSON or not an envelope */
    uint64_t bad_objects;      /* answers that would crash or confuse a real EdgeCore */
    uint64_t viaduct_controls; /* ping, pong, config */
    uint64_t outbox_dropped, events_skipped, queries_skipped;

    uint64_t pods_seen, pods_running, pods_gone;
    uint64_t odd_sent, odd_bytes; /* what the ill-behaved ones wrote */
};

#endif
