/* The connections of every replica over the last minutes, as the status page draws them: a sample
 * each HISTORY_STEP_MS of what the last beat said, beside the samples of hub/history.h. Bounded:
 * replicas beyond BALANCE_PAST_REPLICAS have no past until one that is gone makes room. Pure. One
 * thread. */
#ifndef HUB_BALANCE_PAST_H
#define HUB_BALANCE_PAST_H

#include "hub/history.h"
#include "isthmus/balancer.h"

#define BALANCE_PAST_REPLICAS 32
#define BALANCE_PAST_ABSENT   UINT32_MAX

struct balance_past {
    struct balance_past_replica {
        char id[BALANCER_ID_SIZE]; /* "": free */
        uint32_t live[HISTORY_SAMPLES];
    } replicas[BALANCE_PAST_REPLICAS];
    size_t next, count; /* of the rings, all together */
};

struct balance_past_sample {
    const char *id;
    uint32_t live;
};

/* The next sample: whoever is not in it is absent at this moment. An id counts once. */
void balance_past_add(struct balance_past *past, const struct balance_past_sample *samples,
                      size_t count);
/* The past of a replica, NULL without one; then the i-th of past->count values, 0 the oldest. */
const struct balance_past_replica *balance_past_find(const struct balance_past *past,
                                                     const char *id);
uint32_t balance_past_at(const struct balance_past *past,
                         const struct balance_past_replica *replica, size_t i);

#endif
