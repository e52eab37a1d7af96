/* See edge_link.h. */
#include "test/edgesim/edge_link.h"

#include <assert.h>

void edge_link_start(struct edge_link *l, uint64_t now_us)
{
    if (l->state != EDGE_LINK_STOPPED)
        return;
    l->state = EDGE_LINK_PAUSING;
    l->tries = 0;
    l->due_us = now_us;
}

void edge_link_stop(struct edge_link *l)
{
    l->state = EDGE_LINK_STOPPED;
    l->due_us = EDGE_NEVER;
}

bool edge_link_wants_dial(struct edge_link *l, const struct edge_link_times *times, uint64_t now_us)
{
    bool waits = l->state == EDGE_LINK_PAUSING || l->state == EDGE_LINK_SLEEPING;
    if (!waits || now_us < l->due_us)
        return false;
    if (l->state == EDGE_LINK_SLEEPING)
        l->tries = 0;
    l->state = EDGE_LINK_DIALING;
    l->tries++;
    l->due_us = now_us + times->handshake_us;
    return true;
}

bool edge_link_dial_is_late(const struct edge_link *l, uint64_t now_us)
{
    return l->state == EDGE_LINK_DIALING && now_us >= l->due_us;
}

void edge_link_connected(struct edge_link *l)
{
    assert(l->state == EDGE_LINK_DIALING);
    l->state = EDGE_LINK_UP;
    l->due_us = EDGE_NEVER;
}

void edge_link_dial_failed(struct edge_link *l, const struct edge_link_times *times,
                           uint64_t now_us)
{
    assert(l->state == EDGE_LINK_DIALING);
    bool last = l->tries >= times->tries;
    l->state = last ? EDGE_LINK_SLEEPING : EDGE_LINK_PAUSING;
    l->due_us = now_us + times->pause_us + (last ? times->sleep_us : 0);
}

void edge_link_closed(struct edge_link *l)
{
    if (l->state == EDGE_LINK_UP)
        l->state = EDGE_LINK_BROKEN;
}

void edge_link_noticed(struct edge_link *l, const struct edge_link_times *times, uint64_t now_us)
{
    assert(edge_link_believes_connected(l));
    l->state = EDGE_LINK_SLEEPING;
    l->due_us = now_us + times->sleep_us;
}

bool edge_link_believes_connected(const struct edge_link *l)
{
    return l->state == EDGE_LINK_UP || l->state == EDGE_LINK_BROKEN;
}

uint64_t edge_link_due(const struct edge_link *l)
{
    return l->due_us;
}

const char *edge_link_state_name(enum edge_link_state state)
{
    static const char *const names[] = {"stopped", "dialing", "pausing",
                                        "up",      "broken",  "sleeping"};
    return names[state];
}
