/* The way down: pods, ConfigMaps, Secrets and Nodes to the edges that want them.
 *
 * One thread owns all of it: the watches (hub/watcher.h), the index of who wants what (hub/want.h),
 * what is being delivered to each connected node (hub/delivery.h) and the records of what was
 * acknowledged (hub/recorder.h). Others only send it mail:
 *
 *     hub loops   --connected, gone, acknowledged, refused-->  downstream  --pushes, by
 * hub_deliver()--> hub loops workers     --what an edge got as an answer---------->
 *
 * Where a `struct downstream *` is NULL (--downstream=false), the calls of other threads do
 * nothing. */
#ifndef HUB_DOWNSTREAM_H
#define HUB_DOWNSTREAM_H

#include "hub/config.h"
#include "hub/message.h"
#include "isthmus/apiclient.h"
#include "isthmus/errbuf.h"

struct downstream;
struct hub;

/* Control thread. `config` and `api` are borrowed until downstream_destroy(). 0 or negative errno
 * and `e`. */
int downstream_create(const struct config *config, struct apiconfig *api, struct downstream **down,
                      struct errbuf *e) __attribute__((warn_unused_result));
/* Starts the thread; pushes go to `hub` (borrowed until downstream_close). Control thread. */
int downstream_start(struct downstream *down, struct hub *hub, struct errbuf *e)
    __attribute__((warn_unused_result));
/* Ends the thread; deliveries end where they are, and the next connection goes on from the records.
 * Control thread. */
void downstream_close(struct downstream *down);
void downstream_destroy(struct downstream *down);

/* ---- hub loops ---- */

/* `order` is that of the node's sessions (registry_entry.order): mail of two threads comes in any.
 */
void downstream_connected(struct downstream *down, struct node_name *node,
                          struct session_ref session, uint64_t order);
void downstream_gone(struct downstream *down, struct node_name *node, struct session_ref session);
/* The edge acknowledged the push whose id has this key. */
void downstream_acked(struct downstream *down, struct node_name *node, struct session_ref session,
                      uint64_t id);
/* A push was not sent, for the edge already has `version` of the object by an answer. */
void downstream_refused(struct downstream *down, struct node_name *node, struct session_ref session,
                        uint64_t id, uint64_t version);
/* An answer with `version` of an object was sent behind a push of a newer one: the edge's copy is
 * old now. */
void downstream_set_back(struct downstream *down, struct node_name *node,
                         struct session_ref session, uint64_t object, uint64_t version);

/* ---- workers ---- */

/* The edge gets a ConfigMap or Secret at `version` as the answer to a query. */
void downstream_answered(struct downstream *down, struct node_name *node,
                         struct session_ref session, enum resource_kind kind,
                         const struct text_span *ns, const struct text_span *name,
                         uint64_t version);
/* The Node as it was read, or written, for this session; `is_ours`: it carries this replica's
 * annotation at this version. An empty `body`: it could not be read. Comes once for each session,
 * whatever happened. */
void downstream_node_seen(struct downstream *down, struct node_name *node,
                          struct session_ref session, const struct text_span *body, bool is_ours);

/* ---- any thread ---- */

/* What is watched: X(id, name, path, page size). Secrets and ConfigMaps may be 1 MiB each. */
#define DOWN_WATCHES(X)                                                                            \
    X(NODES, "nodes", "/api/v1/nodes", 250)                                                        \
    X(CONFIGMAPS, "configmaps", "/api/v1/configmaps", 50)                                          \
    X(SECRETS, "secrets", "/api/v1/secrets", 50)                                                   \
    X(PODS, "pods", "/api/v1/pods", 250)                                                           \
    X(OBJECTSYNCS, "objectsyncs", "/apis/reliablesyncs.kubeedge.io/v1alpha1/objectsyncs", 500)     \
    X(CLUSTEROBJECTSYNCS, "clusterobjectsyncs",                                                    \
      "/apis/reliablesyncs.kubeedge.io/v1alpha1/clusterobjectsyncs", 500)

#define DOWN_WATCH_ENUM(id, ...) DOWN_##id,
enum down_watch { DOWN_WATCHES(DOWN_WATCH_ENUM) DOWN_WATCH_COUNT };
#undef DOWN_WATCH_ENUM
extern const char *const down_watch_names[DOWN_WATCH_COUNT];

/* What becomes of pushes: the values of the metric label. */
#define PUSH_OUTCOMES(X)                                                                           \
    X(SENT, "sent")     /* written, the first time */                                              \
    X(RESENT, "resent") /* the same bytes again */                                                 \
    X(ACKED, "acked")                                                                              \
    X(GIVEN_UP, "given_up")     /* never acknowledged; it takes its turn again later */            \
    X(REFUSED, "refused")       /* the edge had got a newer version as an answer: pushed anew */   \
    X(SET_BACK, "set_back")     /* an answer with an older version came behind it: pushed anew */  \
    X(EDGE_ERROR, "edge_error") /* the edge could not do it; it is sent again like one without an  \
                                   acknowledgement */                                              \
    X(FAILED, "failed")         /* its content could not be had; it takes its turn again later */  \
    X(UNDELIVERED, "undelivered") /* its session was gone, or took no more */

#define PUSH_OUTCOME_ENUM(id, text) PUSHED_##id,
enum push_outcome { PUSH_OUTCOMES(PUSH_OUTCOME_ENUM) PUSHED_COUNT };
#undef PUSH_OUTCOME_ENUM
extern const char *const push_outcome_names[PUSHED_COUNT];

/* Results of the requests that write records. */
#define RECORD_RESULTS(X)                                                                          \
    X(CREATED, "created")                                                                          \
    X(UPDATED, "updated")                                                                          \
    X(DELETED, "deleted")                                                                          \
    X(FAILED, "failed")   /* tried again */                                                        \
    X(REFUSED, "refused") /* by the API server, for good: the record stays as it is */

#define RECORD_RESULT_ENUM(id, text) RECORD_##id,
enum record_result { RECORD_RESULTS(RECORD_RESULT_ENUM) RECORD_RESULT_COUNT };
#undef RECORD_RESULT_ENUM
extern const char *const record_result_names[RECORD_RESULT_COUNT];

struct downstream_stats {
    bool is_on, is_synced, has_records;
    struct {
        bool is_healthy, is_synced;
        char text[96];
    } watches[DOWN_WATCH_COUNT];
    uint64_t objects, links, nodes, index_bytes;
    uint64_t connected, waiting, in_flight; /* nodes; pushes */
    uint64_t content_bytes; /* of objects that wait for their turn or for their acknowledgement */
    uint64_t record_writes; /* that wait */
};
void downstream_stats(struct downstream *down, struct downstream_stats *stats);

#endif
