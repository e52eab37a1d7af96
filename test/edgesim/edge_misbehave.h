/* Peers that behave ill, for system tests: what each kind does beside, or instead of, what an edge
 * does. One thread. */
#ifndef EDGE_MISBEHAVE_H
#define EDGE_MISBEHAVE_H

#include "test/edgesim/edge.h"
#include "test/edgesim/edge_conn.h"

#define EDGE_MISBEHAVIOURS_X(X)                                                                    \
    X(NONE, "none")                                                                                \
    X(SLOW_HANDSHAKE, "slow-handshake")       /* the first flight byte by byte */                  \
    X(SLOW_READER, "slow-reader")             /* asks on and on, reads nothing */                  \
    X(SLOW_WRITER, "slow-writer")             /* one byte of a message at a time, never done */    \
    X(FLOOD, "flood")                         /* as fast as it can, beyond the edge's own limit */ \
    X(OVERSIZED, "oversized")                 /* one frame of 1 GiB */                             \
    X(ENDLESS_FRAGMENTS, "endless-fragments") /* a message of tiny fragments, without an end */    \
    X(GARBAGE, "garbage")                     /* text that is no JSON */                           \
    X(TRUNCATED_JSON, "truncated-json")                                                            \
    X(DEEP_NESTING, "deep-nesting")                                                                \
    X(INVALID_UTF8, "invalid-utf8")                                                                \
    X(NUL_NAME, "nul-name")                 /* \u0000 in a resource */                             \
    X(BINARY, "binary")                     /* a good message in a binary frame */                 \
    X(UNKNOWN_KIND, "unknown-kind")         /* resources and operations that nobody knows */       \
    X(FOREIGN_RESOURCE, "foreign-resource") /* other nodes' things */                              \
    X(PATH_TRICKS, "path-tricks")           /* names that would be something else in a URL */      \
    X(WRONG_NODE_ID, "wrong-node-id") /* the header names another node than the certificate */     \
    X(NO_CERT, "no-cert")                                                                          \
    X(FOREIGN_CA, "foreign-ca")         /* a certificate of an authority that nobody trusts */     \
    X(HALF_OPEN, "half-open")           /* falls silent, without a FIN */                          \
    X(DUPLICATE_NODE, "duplicate-node") /* two edges, one name */

#define EDGE_MISBEHAVIOURS_TEXT                                                                    \
    "slow-handshake, slow-reader, slow-writer, flood, oversized, endless-fragments, garbage, "     \
    "truncated-json, "                                                                             \
    "deep-nesting, invalid-utf8, nul-name, binary, unknown-kind, foreign-resource, path-tricks, "  \
    "wrong-node-id, no-cert, "                                                                     \
    "foreign-ca, half-open, duplicate-node"

enum edge_misbehaviour {
#define X(id, name) EDGE_ODD_##id,
    EDGE_MISBEHAVIOURS_X(X)
#undef X
        EDGE_MISBEHAVIOURS
};
int edge_misbehaviour_parse(const char *name, enum edge_misbehaviour *kind); /* 0 or -EINVAL */

struct edge_odd {
    enum edge_misbehaviour kind;
    uint64_t period_us, due_us;
    uint32_t step;
    bool is_silent;     /* what the edge writes goes nowhere */
    const char *victim; /* another node's name; borrowed */
};

void edge_odd_init(struct edge_odd *odd, enum edge_misbehaviour kind, double time_scale,
                   const char *victim);
/* Changes how it dials; `foreign` is the authority that nobody trusts. */
void edge_odd_dial(const struct edge_odd *odd, struct edge_dial *dial, struct edge_certs *foreign);
void edge_odd_opened(struct edge_odd *odd, struct edge_conn *c, uint64_t now_us);
/* Does what is due on an open (or stalled) connection; returns when to be called again. Never
 * closes it. */
uint64_t edge_odd_tick(struct edge_odd *odd, struct edge *e, struct edge_conn *c, uint64_t now_us);

#endif
