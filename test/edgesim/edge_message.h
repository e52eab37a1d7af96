/* The messages of an EdgeCore, byte for byte as Go's encoder writes them, with the LF at the end.
 *
 * Templates, not a JSON library: a fleet writes thousands a second. Names of nodes and objects are
 * Kubernetes names, so they need no escaping. Every edge_message_ function appends one whole
 * message to `t`. Shapes: captured sessions and the encoded vectors. Pure; one thread. */
#ifndef EDGE_MESSAGE_H
#define EDGE_MESSAGE_H

#include "test/edgesim/edge_text.h"

#define EDGE_ID_SIZE 37 /* with the NUL */
/* Where the id stands in every message: a repetition with a new id is written over the old one. */
#define EDGE_ID_OFFSET 21

enum edge_dialect {
    EDGE_DIALECT_1_12_0,
    EDGE_DIALECT_1_12_1,
    EDGE_DIALECT_1_22,
    EDGE_DIALECT_1_23
};
int edge_dialect_parse(const char *text, enum edge_dialect *dialect); /* 0 or -EINVAL */
const char *
edge_dialect_node_namespace(enum edge_dialect dialect); /* "null" from 1.23 on, else "default" */

/* An id looks like any UUIDv4 and says whose message it is, so that an answer finds its question
 * without a table. */
struct edge_id {
    uint64_t nonce; /* 44 bits, one for each process */
    uint32_t edge;  /* 24 bits */
    bool expects_answer;
    uint64_t sequence; /* 48 bits; two counters, by expects_answer */
};
void edge_id_format(const struct edge_id *id, char text[EDGE_ID_SIZE]);
/* 0; -EINVAL if it is not an id of ours at all; -ENOENT if it comes from another process. */
int edge_id_parse(const char *text, size_t size, uint64_t nonce, struct edge_id *id);

/* Who writes, and when. */
struct edge_author {
    const char *node;
    enum edge_dialect dialect;
    uint64_t wall_us; /* the edge's clock, microseconds since the epoch */
    size_t
        padding_bytes; /* Nodes and their patches are made this much longer, by a list of images */
};

void edge_message_keepalive(struct edge_text *t, const struct edge_author *a, const char *id);
/* Answers and pushes are acknowledged under the same source, group and resource (spans: borrowed
 * until return). */
struct edge_ack {
    const char *source, *group, *resource, *parent;
    size_t source_size, group_size, resource_size, parent_size;
};
void edge_message_ack(struct edge_text *t, const struct edge_author *a, const char *id,
                      const struct edge_ack *ack);

void edge_message_node_insert(struct edge_text *t, const struct edge_author *a, const char *id);
void edge_message_node_query(struct edge_text *t, const struct edge_author *a, const char *id);
enum edge_report { EDGE_REPORT_EMPTY, EDGE_REPORT_HEARTBEAT, EDGE_REPORT_FULL };
void edge_message_nodepatch(struct edge_text *t, const struct edge_author *a, const char *id,
                            enum edge_report report);

void edge_message_lease_query(struct edge_text *t, const struct edge_author *a, const char *id);
void edge_message_lease_insert(struct edge_text *t, const struct edge_author *a, const char *id,
                               const char *node_uid);
void edge_message_lease_update(struct edge_text *t, const struct edge_author *a, const char *id,
                               const char *metadata, size_t metadata_size, bool typed);

/* A query without content: `resource` is "<namespace>/<type>/<name>". */
void edge_message_query(struct edge_text *t, const struct edge_author *a, const char *id,
                        const char *resource);
void edge_message_event(struct edge_text *t, const struct edge_author *a, const char *id,
                        uint64_t number, size_t message_bytes);

struct edge_pod_names {
    const char *space, *name, *uid, *account;
    const char *container, *image;
};
enum edge_pod_phase { EDGE_POD_PENDING, EDGE_POD_RUNNING, EDGE_POD_SUCCEEDED };
void edge_message_podpatch(struct edge_text *t, const struct edge_author *a, const char *id,
                           const struct edge_pod_names *pod, enum edge_pod_phase phase);
void edge_message_pod_delete(struct edge_text *t, const struct edge_author *a, const char *id,
                             const struct edge_pod_names *pod);
void edge_message_token_query(struct edge_text *t, const struct edge_author *a, const char *id,
                              const struct edge_pod_names *pod);

/* The parts every message is made of: the envelope up to the resource, then its content, then the
 * end. */
void edge_message_begin(struct edge_text *t, const struct edge_author *a, const char *id,
                        const char *source, const char *group, const char *operation);
void edge_message_begin_content(struct edge_text *t);
/* A patch as content: text, which EdgeCore 1.12.0 sent as bytes (base64 in Go's JSON). */
void edge_message_patch_content(struct edge_text *t, const struct edge_author *a,
                                const struct edge_text *patch);
void edge_message_end(struct edge_text *t);

/* For peers that behave ill: any route and any content (already JSON; none when NULL). */
struct edge_route {
    const char *source, *group, *operation, *resource;
};
void edge_message_raw(struct edge_text *t, const struct edge_author *a, const char *id,
                      const struct edge_route *route, const char *content);

#endif
