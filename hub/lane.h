/* The lanes of the upstream pool: what a message competes with for API requests. Each lane has its
 * own limit of requests in flight, so that one that stalls does not hold up another. */
#ifndef HUB_LANE_H
#define HUB_LANE_H

#define LANES(X)                                                                                   \
    X(LIVENESS, "liveness") /* lease, node, nodepatch, nodestatus: keep the node Ready */          \
    X(STATUS, "status")     /* podstatus, podpatch, pod insert and delete */                       \
    X(QUERY, "query")       /* what an edge asks for to run a pod */                               \
    X(EVENT, "event")       /* nobody waits for them */                                            \
    X(OWN, "own")           /* what the hub does of its own accord */

#define LANE_ENUM(id, text) LANE_##id,
enum lane { LANES(LANE_ENUM) LANE_COUNT };
#undef LANE_ENUM

extern const char *const lane_names[LANE_COUNT];

#endif
