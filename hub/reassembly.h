/* The process-wide budget of half-received messages. Each session may begin a message of
 * --max-message-bytes and send the rest never; together they may hold --reassembly-bytes. When that
 * is exceeded the one who holds most is named, to be closed: not the one who happened to ask last.
 *
 * Any thread; one small lock, taken only when a message of several pieces begins, grows or ends. */
#ifndef HUB_REASSEMBLY_H
#define HUB_REASSEMBLY_H

#include "hub/message.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* Embedded in a session; zeroed holds nothing. Guarded by the budget's lock. */
struct reassembly_share {
    struct reassembly_share *next, *prev;
    struct session_ref owner;
    size_t bytes;
    bool is_condemned; /* named already: no longer in the total */
};

struct reassembly {
    pthread_mutex_t lock;
    struct reassembly_share *shares; /* under lock, a utlist */
    size_t total, budget;            /* under lock */
};

void reassembly_init(struct reassembly *r, size_t budget);
void reassembly_fini(struct reassembly *r);
/* `share` now holds `bytes`. Returns true, and whom to close, when the budget was exceeded by it;
 * the victim no longer counts. The caller asks again (with the same bytes) until it returns false.
 */
bool reassembly_hold(struct reassembly *r, struct reassembly_share *share, struct session_ref owner,
                     size_t bytes, struct session_ref *victim) __attribute__((warn_unused_result));
/* The message has ended, or its session. */
void reassembly_release(struct reassembly *r, struct reassembly_share *share);

#endif
