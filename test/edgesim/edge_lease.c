/* See edge_lease.h. Names in comments are those of the Go code. */
#include "test/edgesim/edge_lease.h"
#include "test/edgesim/edge_link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_UPDATES     5
#define INTERVAL_JITTER 0.04

void edge_lease_init(struct edge_lease *l, uint64_t first_us)
{
    *l = (struct edge_lease){.due_us = first_us};
}

void edge_lease_fini(struct edge_lease *l)
{
    free(l->metadata);
    *l = (struct edge_lease){.due_us = EDGE_NEVER};
}

static enum edge_lease_ask ask(struct edge_lease *l, enum edge_lease_ask what)
{
    l->asked = what;
    return what;
}

/* backoffEnsureLease */
static enum edge_lease_ask ensure(struct edge_lease *l, const struct edge_lease_times *times,
                                  bool after_conflict)
{
    l->after_conflict = after_conflict;
    l->backoff_us = times->backoff_us / 2;
    return ask(l, EDGE_LEASE_ASK_QUERY);
}

static enum edge_lease_ask fall_back(struct edge_lease *l, const struct edge_lease_times *times)
{
    l->has_fallen_back = true;
    return ensure(l, times, false);
}

/* The end of sync(): the next one is an interval away. */
static enum edge_lease_ask finish(struct edge_lease *l, const struct edge_lease_times *times,
                                  double jitter, uint64_t now_us)
{
    l->is_backing_off = false;
    l->due_us = now_us + times->interval_us +
                (uint64_t)((double)times->interval_us * INTERVAL_JITTER * jitter);
    return ask(l, EDGE_LEASE_ASK_NONE);
}

static enum edge_lease_ask back_off(struct edge_lease *l, const struct edge_lease_times *times,
                                    uint64_t now_us)
{
    l->backoff_us *= 2;
    if (l->backoff_us > times->backoff_max_us)
        l->backoff_us = times->backoff_max_us;
    l->is_backing_off = true;
    l->due_us = now_us + l->backoff_us;
    return ask(l, EDGE_LEASE_ASK_NONE);
}

enum edge_lease_ask edge_lease_tick(struct edge_lease *l, const struct edge_lease_times *times,
                                    uint64_t now_us)
{
    if (l->asked != EDGE_LEASE_ASK_NONE || now_us < l->due_us)
        return EDGE_LEASE_ASK_NONE;
    l->due_us = EDGE_NEVER;
    if (l->is_backing_off) {
        l->is_backing_off = false;
        return ask(l, EDGE_LEASE_ASK_QUERY);
    }
    l->tries = 0;
    l->has_fallen_back = false;
    if (!l->is_known)
        return fall_back(l, times);
    return ask(l, EDGE_LEASE_ASK_UPDATE);
}

/* The loop of retryUpdateLease: once more, or its error. */
static enum edge_lease_ask next_update(struct edge_lease *l, const struct edge_lease_times *times,
                                       double jitter, uint64_t now_us)
{
    if (l->tries < MAX_UPDATES)
        return ask(l, EDGE_LEASE_ASK_UPDATE);
    return l->has_fallen_back ? finish(l, times, jitter, now_us) : fall_back(l, times);
}

/* ensureLease has a lease in hand. */
static enum edge_lease_ask ensured(struct edge_lease *l, const struct edge_lease_times *times,
                                   double jitter, uint64_t now_us)
{
    l->is_known = true;
    if (!l->after_conflict)
        l->tries = 0;
    return next_update(l, times, jitter, now_us);
}

static enum edge_lease_ask query_done(struct edge_lease *l, const struct edge_lease_times *times,
                                      enum edge_outcome outcome, bool node_is_known, double jitter,
                                      uint64_t now_us)
{
    if (outcome == EDGE_OUTCOME_OK)
        return ensured(l, times, jitter, now_us);
    if (outcome != EDGE_OUTCOME_NOT_FOUND)
        return back_off(l, times, now_us);
    if (node_is_known)
        return ask(l, EDGE_LEASE_ASK_INSERT);
    l->is_known =
        false; /* newLease fails without the Node's uid: try again in the next iteration */
    return finish(l, times, jitter, now_us);
}

enum edge_lease_ask edge_lease_done(struct edge_lease *l, const struct edge_lease_times *times,
                                    enum edge_outcome outcome, bool node_is_known, double jitter,
                                    uint64_t now_us, bool *renewed)
{
    enum edge_lease_ask asked = l->asked;
    assert(asked != EDGE_LEASE_ASK_NONE);
    *renewed = outcome == EDGE_OUTCOME_OK && asked != EDGE_LEASE_ASK_QUERY;
    if (*renewed) {
        l->is_known = true;
        return finish(l, times, jitter, now_us);
    }
    if (asked == EDGE_LEASE_ASK_QUERY)
        return query_done(l, times, outcome, node_is_known, jitter, now_us);
    if (asked == EDGE_LEASE_ASK_INSERT)
        return back_off(l, times, now_us);
    l->tries++;
    if (outcome == EDGE_OUTCOME_CONFLICT)
        return ensure(l, times, true);
    return next_update(l, times, jitter, now_us);
}

int edge_lease_store(struct edge_lease *l, const char *metadata, size_t size, bool typed)
{
    char *copy = realloc(l->metadata, size ? size : 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, metadata, size);
    l->metadata = copy;
    l->metadata_size = size;
    l->is_typed = typed;
    return 0;
}

uint64_t edge_lease_due(const struct edge_lease *l)
{
    return l->asked == EDGE_LEASE_ASK_NONE ? l->due_us : EDGE_NEVER;
}
