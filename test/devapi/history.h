/* A ring of the latest changes of one kind. Private to the store. Loop thread only. */
#ifndef DEVAPI_HISTORY_H
#define DEVAPI_HISTORY_H

#include "test/devapi/store.h"

struct dev_history {
    struct dev_change *ring; /* grows to `limit` */
    size_t room, first, count, bytes;
    size_t limit, bytes_limit;
    uint64_t floor;
};

void dev_history_fini(struct dev_history *h);
/* Takes a reference of each. 0 or -ENOMEM (then the change is recorded as lost: watches start
 * anew). */
int dev_history_push(struct dev_history *h, enum dev_change_type type, struct dev_object *object,
                     struct dev_object *previous);
const struct dev_change *dev_history_find(const struct dev_history *h, uint64_t version);

#endif
