/* See release.h. */
#include "hub/release.h"

#include "hub/hub_metrics.h"
#include "hub/loop.h"
#include "hub/upstream.h"
#include "isthmus/log.h"

#include <assert.h>
#include <stdlib.h>

/* ---- whom ---- */

struct found {
    struct balancer_candidate candidate;
    struct session *session;
};

static uint64_t since(uint64_t then_ms, uint64_t now_ms)
{
    return then_ms == 0 ? BALANCER_NEVER : now_ms - then_ms;
}

static struct balancer_candidate candidate(const struct session *s, uint64_t now_ms)
{
    return (struct balancer_candidate){
        .is_busy = s->unfinished_bytes > 0 || s->partial || s->out_head || s->pauses != 0 ||
                   s->awaited_push != 0,
        .is_kept = s->kept_until_ms > now_ms,
        .since_connect_ms = now_ms - s->connected_ms,
        .since_moved_ms = since(s->moved_ms, now_ms),
        .since_renewal_ms = since(s->renewed_ms, now_ms),
    };
}

static size_t find_fit(struct hub_loop *loop, const struct balancer_decision *d,
                       struct found *found)
{
    const struct balancer_config *config = &loop->hub->config->balancing;
    uint64_t now_ms = hub_loop_now(loop);
    size_t n = 0;
    for (uint32_t i = 0; i < loop->slots.room; i++) {
        struct session *s = loop->slots.slots[i].session;
        if (!s || s->state != SESSION_OPEN || s->leaving != LEAVING_NOT)
            continue;
        struct balancer_candidate c = candidate(s, now_ms);
        if (balancer_victim_judge(config, d, &c) == BALANCER_FIT)
            found[n++] = (struct found){c, s};
    }
    return n;
}

static int compare(const void *a, const void *b)
{
    return balancer_victim_compare(&((const struct found *)a)->candidate,
                                   &((const struct found *)b)->candidate);
}

static void stay(struct session *s, enum release_result why)
{
    s->leaving = LEAVING_NOT;
    count(RELEASES, why, 1);
    hub_post_event(s->loop->hub, HUB_NODE_STAYED, s->node, false);
}

static void get_ready(struct session *s)
{
    s->leaving = LEAVING_READY;
    session_retire(s);
}

static void ask(struct session *s, bool must_leave)
{
    s->leaving = LEAVING_ASKED;
    s->must_leave = must_leave;
    if (upstream_node_release(s->loop->hub->upstream, s->node, s->ref, must_leave) == 0)
        return;
    if (must_leave)
        get_ready(s);
    else
        stay(s, RELEASE_FAILED);
}

void release_some(struct hub_loop *loop, const struct release_order *order)
{
    const struct balancer_decision *d = &order->decision;
    struct found *found = calloc(loop->slots.used ? loop->slots.used : 1, sizeof(*found));
    size_t n = found ? find_fit(loop, d, found) : 0;
    if (n > 1)
        qsort(found, n, sizeof(*found), compare);
    if (n > order->count)
        n = order->count;
    hub_post_count(loop->hub, HUB_NONE_FIT, order->count - (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        ask(found[i].session, d->phase == BALANCER_DRAIN);
    free(found);
}

void release_note_renewal(struct session *s, const struct reply *r)
{
    bool is_renewal = r->kind == UPSTREAM_LEASE_UPDATE || r->kind == UPSTREAM_LEASE_INSERT;
    if (is_renewal && r->outcome == REPLY_ANSWERED && r->succeeded)
        s->renewed_ms = hub_loop_now(s->loop);
}

/* ---- how ---- */

void release_on_farewell(struct session *s, struct reply *r)
{
    enum farewell farewell = r->farewell;
    if (s->leaving != LEAVING_ASKED) {
        reply_destroy(r);
        return;
    }
    s->is_bridged = r->is_bridged;
    if (farewell == FAREWELL_GO && r->size > 0) {
        r->farewell = FAREWELL_NONE;
        s->farewell = r;
    } else {
        reply_destroy(r);
    }
    if (farewell == FAREWELL_KEPT)
        s->kept_until_ms = hub_loop_now(s->loop) + s->loop->hub->config->balancing.move_cooldown_ms;
    if (farewell == FAREWELL_GO || s->must_leave)
        get_ready(s);
    else
        stay(s, farewell == FAREWELL_KEPT ? RELEASE_KEPT : RELEASE_FAILED);
}

void release_go(struct session *s)
{
    struct reply *r = s->farewell;
    assert(s->leaving == LEAVING_READY);
    if (!r) {
        session_close(s, CLOSE_RELEASED, s->is_bridged ? "bridged" : "plain");
        return;
    }
    s->farewell = NULL;
    session_deliver(s, r); /* comes back here when it has left */
}

void release_on_close(struct session *s, bool is_last)
{
    struct hub *hub = s->loop->hub;
    if (s->farewell)
        reply_destroy(s->farewell);
    s->farewell = NULL;
    if (s->leaving != LEAVING_NOT && (s->close_reason != CLOSE_RELEASED || !is_last)) {
        stay(s, RELEASE_FAILED);
    } else if (s->close_reason == CLOSE_RELEASED) {
        count(RELEASES, s->is_bridged ? RELEASE_BRIDGED : RELEASE_PLAIN, 1);
        hub_post_event(hub, HUB_NODE_RELEASED, s->node, s->is_bridged);
        return;
    }
    if (is_last)
        hub_post_event(hub, HUB_NODE_LOST, s->node, false);
}
