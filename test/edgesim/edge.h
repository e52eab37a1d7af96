/* One simulated EdgeCore: what it does is decided here, without a socket and without a clock.
 *
 * Happy path: edge_start(); a tick dials; edge_connected() sends the keepalive, and the kubelet's
 * parts begin: the lease is queried, the Node inserted, its status patched, the lease renewed every
 * 10 s; answers and pushes come in through edge_message() and are acknowledged a little later.
 * Failure modes: a dial fails (edge_dial_failed), the other side closes (edge_closed: noticed by
 * the next write only), a write fails (the message is lost; 30 s of sleep), no answer within 60 s
 * (asked once more, then its asker fails and goes its own way).
 *
 * Times are microseconds of a steady clock, for latencies below a millisecond are measured. What an
 * edge does to the world goes through struct edge_io: the fleet has sockets behind it, the unit
 * tests a recorder. An edge belongs to one thread. */
#ifndef EDGE_H
#define EDGE_H

#include "test/edgesim/edge_answer.h"
#include "test/edgesim/edge_lease.h"
#include "test/edgesim/edge_link.h"
#include "test/edgesim/edge_message.h"
#include "test/edgesim/edge_node.h"
#include "test/edgesim/edge_requests.h"
#include "test/edgesim/edge_stats.h"

struct edge;
struct edge_pod;
struct edge_item;
struct edge_waiting;

/* The calls must not call back into the edge. */
struct edge_io {
    void (*dial)(struct edge *e, uint64_t now_us);
    void (*hang_up)(struct edge *e, enum edge_end why); /* also ends a dial under way */
    /* Takes a whole message over (copies it); false: the link is gone. */
    bool (*write)(struct edge *e, const char *text, size_t size, uint64_t now_us);
    /* Whether earlier messages have not left yet, so that EdgeCore's writer would stand still. */
    bool (*is_blocked)(const struct edge *e);
};

enum edge_query_load { EDGE_QUERY_CONFIGMAP, EDGE_QUERY_NODE, EDGE_QUERY_BOTH };
enum edge_flood { EDGE_FLOOD_EVENT, EDGE_FLOOD_NODEPATCH, EDGE_FLOOD_CONFIGMAP };

/* The same for all edges of a process; periods already scaled. */
struct edge_config {
    struct edge_link_times link;
    struct edge_lease_times lease;
    struct edge_node_times node;
    uint64_t keepalive_us;
    uint64_t answer_us; /* how long an asker waits: 60 s */
    uint64_t ack_min_us, ack_max_us;
    uint64_t token_us,
        burst_us;            /* the edge's own rate limit: one message each, and how far ahead */
    uint64_t lease_valid_us; /* 40 s */
    uint64_t pod_step_us;    /* 100 ms */
    enum edge_dialect dialect;
    uint64_t nonce;
    int64_t wall_offset_us; /* from the steady clock to the edges' wall clock */
    size_t padding_bytes, event_bytes;
    bool has_database; /* edges are restarted ones that know their Node */
    bool has_kubelet;  /* false: keepalives only */
    bool has_pods;     /* false: pods are acknowledged and ignored */

    uint64_t event_us, query_us;       /* 0: none; else the period for each edge */
    uint32_t event_edges, query_edges; /* only the first N; 0: all */
    enum edge_query_load query_load;
    const char *query_configmap; /* "<namespace>/configmap/<name>" */
    uint32_t flood_edges;        /* the first N flood */
    enum edge_flood flood;
};

struct edge {
    const struct edge_config *config;
    const struct edge_io *io;
    struct edge_stats *stats;
    struct edge_text *scratch; /* shared by all edges of a thread; nothing survives in it */
    void *peer;                /* the owner's */
    char *name;                /* owned */
    uint32_t index;
    uint64_t random;

    struct edge_link link;
    struct edge_lease lease;
    struct edge_node node;
    struct edge_requests requests;
    uint64_t next_plain; /* sequence of ids that expect no answer */
    struct edge_waiting *outbox, *acks;
    uint32_t outbox_count;
    struct edge_item *items; /* the edge's database: key and version */
    struct edge_pod *pods;

    bool has_started; /* the kubelet runs: since the first connection */
    bool has_been_served;
    bool is_served; /* an answer has come since the last upgrade */
    uint64_t dialed_us, connected_us, noticed_us, renewed_us; /* 0: never */
    uint64_t keepalive_us, event_us, query_us;                /* when due */
    uint64_t rate_us; /* the token bucket: the time its tokens reach to */
    uint64_t events_made;
};

/* Borrows config, io, stats and scratch until edge_fini(). 0 or -ENOMEM. */
int edge_init(struct edge *e, const struct edge_config *config, const struct edge_io *io,
              struct edge_stats *stats, struct edge_text *scratch, const char *name,
              uint32_t index);
void edge_fini(struct edge *e);

void edge_start(struct edge *e, uint64_t now_us);
/* Ends for good: hangs up, dials no more. */
void edge_stop(struct edge *e, uint64_t now_us);

/* Does what is due; returns when it wants to be called again, EDGE_NEVER if only events can wake
 * it. */
uint64_t edge_tick(struct edge *e, uint64_t now_us);

/* Events from the connection. Each is followed by an edge_tick(). */
void edge_connected(struct edge *e, uint64_t now_us);
void edge_dial_failed(struct edge *e, uint64_t now_us);
void edge_closed(struct edge *e, uint64_t now_us);
void edge_message(struct edge *e, const char *text, size_t size, uint64_t now_us);

bool edge_is_connected(const struct edge *e);
/* Registered, and its lease renewed within 40 s. */
bool edge_is_ready(const struct edge *e, uint64_t now_us);

/* --- between the parts of an edge --- */

/* For composing into e->scratch: a message's author, and an id that nobody answers. */
struct edge_author edge_author(const struct edge *e, uint64_t now_us);
double edge_random(struct edge *e); /* [0, 1) */

/* Composing a question: begin (clears the scratch, gives the id), append the message to e->scratch,
 * send. False: no memory, or too many open ones; then nothing was sent and nobody will be told. */
void edge_ask_begin(struct edge *e, char id[EDGE_ID_SIZE]);
bool edge_ask_send(struct edge *e, enum edge_kind kind, enum edge_asker asker, uint32_t tag,
                   uint64_t now_us);
/* The same for messages without an answer. */
void edge_tell_begin(struct edge *e, char id[EDGE_ID_SIZE]);
void edge_tell_send(struct edge *e, enum edge_kind kind, uint64_t now_us);

void edge_outbox_tick(struct edge *e, uint64_t now_us);
uint64_t edge_outbox_due(const struct edge *e, uint64_t now_us);
void edge_requests_tick(struct edge *e, uint64_t now_us);
void edge_link_lost(struct edge *e); /* what was open on it is lost */
/* Takes an answer to one of our questions; true if its asker still waited for it. */
bool edge_request_answered(struct edge *e, const struct edge_answer *a, enum edge_outcome outcome,
                           const struct edge_id *id, uint64_t now_us);

void edge_ack_later(struct edge *e, const struct edge_answer *a, uint64_t now_us);
void edge_acks_tick(struct edge *e, uint64_t now_us);
uint64_t edge_acks_due(const struct edge *e);
void edge_waiting_free(struct edge *e);

/* The outcome of a question, for whoever asked. `object` is what an answer carried, or absent. */
void edge_asker_done(struct edge *e, enum edge_asker asker, uint32_t tag, enum edge_kind kind,
                     enum edge_outcome outcome, const struct json_span *object, uint64_t now_us);

void edge_kubelet_tick(struct edge *e, uint64_t now_us);
void edge_lease_outcome(struct edge *e, enum edge_outcome outcome, const struct json_span *object,
                        uint64_t now_us);
void edge_node_outcome(struct edge *e, enum edge_outcome outcome, const struct json_span *object,
                       uint64_t now_us);
void edge_node_told(struct edge *e, const struct json_span *node);

void edge_pods_tick(struct edge *e, uint64_t now_us);
uint64_t edge_pods_due(const struct edge *e);
void edge_pod_pushed(struct edge *e, const struct json_span *content, bool is_delete,
                     uint64_t now_us);
void edge_pod_outcome(struct edge *e, uint32_t tag, enum edge_kind kind, enum edge_outcome outcome,
                      uint64_t now_us);
void edge_pods_free(struct edge *e);

/* The edge's database. A version of 0 is unknown. */
struct edge_item *edge_item_find(struct edge *e, const char *key, size_t size);
void edge_item_store(struct edge *e, const struct json_span *key, uint64_t version, bool is_push);
void edge_item_delete(struct edge *e, const char *key, size_t size);
void edge_items_free(struct edge *e);

void edge_load_tick(struct edge *e, uint64_t now_us);
uint64_t edge_load_due(const struct edge *e);

#endif
