/* Bridging: renewing the leases of nodes that this replica has let go, until they are heard of
 * again. An intended move must not look like a failure: the edge is away for 30 s and may sit out a
 * lost renewal for longer, its lease is good for 40 s.
 *
 * A renewal that failed may have been carried out all the same; then the lease is read first, so
 * that our own write is not taken for the node's.
 *
 * A bridge ends with the first conflict (the node has renewed its lease itself, wherever), with any
 * lease message of the node that comes by here, when the lease or the right to it is gone, or after
 * --bridge-seconds. A node that really failed while it was away is noticed at most that much later.
 *
 * One for each upstream worker, on its thread. */
#ifndef HUB_BRIDGE_H
#define HUB_BRIDGE_H

#include "hub/message.h"
#include "isthmus/apiclient.h"

#include <jansson.h>
#include <stdatomic.h>

struct bridge;

struct bridges {
    struct apiclient *client;
    const char *group;
    uv_loop_t *loop;
    uint64_t period_ms, longest_ms;
    struct bridge *by_name; /* uthash */
    struct bridge *queue;   /* by the time of the next renewal */
    unsigned in_flight;
    bool is_closing;
    _Atomic size_t count;
};

/* Why a bridge ended: the metric label. */
#define BRIDGE_ENDS(X)                                                                             \
    X(TAKEN_BACK, "taken_back") /* the node renewed its lease itself */                            \
    X(RETURNED, "returned")     /* the node came by here */                                        \
    X(EXPIRED, "expired")       /* --bridge-seconds are over */                                    \
    X(REFUSED, "refused")       /* the API server does not let us, or the lease is gone */         \
    X(NO_MEMORY, "no_memory")                                                                      \
    X(SHUTDOWN, "shutdown")
#define BRIDGE_ENUM(id, text) BRIDGE_##id,
enum bridge_end { BRIDGE_ENDS(BRIDGE_ENUM) BRIDGE_END_COUNT };
#undef BRIDGE_ENUM
extern const char *const bridge_end_names[BRIDGE_END_COUNT];

/* `group` is sent along with the name of a node that is impersonated; NULL: the API server adds it.
 * Pointers are borrowed until bridges_close(). */
void bridges_init(struct bridges *b, uv_loop_t *loop, struct apiclient *client, const char *group,
                  uint64_t period_ms, uint64_t longest_ms);
/* Takes `lease` as the API server returned it for what it was asked at `renewed_ms` (uv_hrtime ms,
 * which the loop's clock trails): to that moment its renewTime belongs. `node` gets a
 * ref of its own. A bridge of that node that is there already is replaced. False: no memory, there
 * is no bridge. */
bool bridges_add(struct bridges *b, struct node_name *node, json_t *lease, bool as_node,
                 uint64_t renewed_ms);
/* The node is heard of here. */
void bridges_end(struct bridges *b, const struct node_name *node);
/* Renews what is due. */
void bridges_tick(struct bridges *b, uint64_t now_ms);
/* Ends all. Requests under way are the client's, which is closed next. */
void bridges_close(struct bridges *b);
/* Any thread. */
size_t bridges_count(const struct bridges *b);

#endif
