/* See reassembly.h. The largest is found by going through the shares: there are as many as messages
 * in pieces at this moment, and it happens only beyond the budget. */
#include "hub/reassembly.h"

#include "hub/hub_metrics.h"

#include <assert.h>
#include <utlist.h>

void reassembly_init(struct reassembly *r, size_t budget)
{
    *r = (struct reassembly){.budget = budget};
    int rc = pthread_mutex_init(&r->lock, NULL);
    assert(rc == 0);
}

void reassembly_fini(struct reassembly *r)
{
    assert(!r->shares && r->total == 0);
    pthread_mutex_destroy(&r->lock);
}

static void set_bytes(struct reassembly *r, struct reassembly_share *share, size_t bytes)
{
    if (!share->is_condemned) {
        r->total = r->total - share->bytes + bytes;
        count(REASSEMBLY_BYTES, 0, (int64_t)bytes - (int64_t)share->bytes);
    }
    share->bytes = bytes;
}

static struct reassembly_share *condemn_largest(struct reassembly *r)
{
    struct reassembly_share *largest = NULL, *share;
    DL_FOREACH (r->shares, share)
        if (!share->is_condemned && (!largest || share->bytes > largest->bytes))
            largest = share;
    assert(largest);
    r->total -= largest->bytes;
    count(REASSEMBLY_BYTES, 0, -(int64_t)largest->bytes);
    largest->is_condemned = true;
    return largest;
}

bool reassembly_hold(struct reassembly *r, struct reassembly_share *share, struct session_ref owner,
                     size_t bytes, struct session_ref *victim)
{
    bool is_exceeded = false;
    assert(bytes > 0);
    pthread_mutex_lock(&r->lock);
    if (share->bytes == 0) {
        share->owner = owner;
        share->is_condemned = false;
        DL_APPEND(r->shares, share);
    }
    set_bytes(r, share, bytes);
    if (r->total > r->budget) {
        *victim = condemn_largest(r)->owner;
        is_exceeded = true;
    }
    pthread_mutex_unlock(&r->lock);
    return is_exceeded;
}

void reassembly_release(struct reassembly *r, struct reassembly_share *share)
{
    if (share->bytes == 0)
        return; /* only its own thread makes it non-zero */
    pthread_mutex_lock(&r->lock);
    set_bytes(r, share, 0);
    DL_DELETE(r->shares, share);
    pthread_mutex_unlock(&r->lock);
}
