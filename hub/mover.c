/* See mover.h.
 *
 * hub_release() asks for a number of nodes; each of them comes back as an event (released, stayed)
 * or within a count of those that were not found, and when none is missing the balancer hears that
 * the order is done. Until then it knows how many are leaving. A node takes as long as what it
 * waits for, which has limits; what does not come back within them found no memory for its event,
 * and is given up. */
#include "hub/mover.h"

#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/steer.h"
#include "hub/upstream.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->is_listed = false)
#include <uthash.h>

#define REMEMBER_MS  ((uint64_t)3600 * 1000)
#define REMEMBER_MAX 100000
#define EVENTS_MAX   ((size_t)1 << 22)

/* Whom we let go, oldest first. */
struct memory {
    UT_hash_handle hh;
    struct memory *prev, *next;
    struct node_name *node;
    bool is_listed;
    uint64_t at_ms;
    struct mover_release release;
};

struct mover {
    struct mover_options options;
    struct balancer *balancer;
    struct mailbox events;
    bool is_draining, is_steering;
    bool has_said_waiting; /* of a drain: for bridges only */
    bool was_ready;        /* when the last decision was made */
    uint32_t pending;      /* ordered, and not heard of yet */
    uint64_t heard_ms;     /* when one was ordered or heard of last */
    struct balancer_decision decision;
    struct memory *by_name, *oldest;
    size_t remembered;
    void (*closed)(void *context);
    void *closed_context;
    unsigned open_parts;
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- memory ---- */

static void forget(struct mover *m, struct memory *r)
{
    HASH_DELETE(hh, m->by_name, r);
    DL_DELETE(m->oldest, r);
    m->remembered--;
    node_name_put(r->node);
    free(r);
}

static struct memory *recall(const struct mover *m, const char *node)
{
    struct memory *r = NULL;
    HASH_FIND(hh, m->by_name, node, strlen(node), r);
    return r;
}

/* Without memory it is not remembered; that is all. */
static void remember(struct mover *m, const struct hub_event *e)
{
    struct memory *r = recall(m, e->node->text);
    if (r)
        forget(m, r);
    while (m->oldest &&
           (m->remembered >= REMEMBER_MAX || m->oldest->at_ms + REMEMBER_MS < now_ms()))
        forget(m, m->oldest);
    r = calloc(1, sizeof(*r));
    if (!r)
        return;
    r->is_listed = true;
    r->at_ms = now_ms();
    r->release = (struct mover_release){.is_bridged = e->is_bridged,
                                        .why = m->decision.why,
                                        .live = m->decision.live,
                                        .expected = m->decision.expected};
    HASH_ADD_KEYPTR(hh, m->by_name, e->node->text, e->node->size, r);
    if (!r->is_listed) {
        free(r);
        return;
    }
    r->node = node_name_get(e->node);
    DL_APPEND(m->oldest, r);
    m->remembered++;
}

bool mover_find_release(const struct mover *m, const char *node, struct mover_release *release)
{
    const struct memory *r = recall(m, node);
    if (!r || r->at_ms + REMEMBER_MS < now_ms())
        return false;
    *release = r->release;
    release->ago_ms = now_ms() - r->at_ms;
    return true;
}

/* ---- what happens in the loops ---- */

static void settle(struct mover *m, uint32_t count)
{
    if (m->pending == 0)
        return; /* given up */
    m->heard_ms = now_ms();
    m->pending -= count < m->pending ? count : m->pending;
    if (m->pending == 0)
        balancer_order_done(m->balancer);
}

static void on_event(void *context, struct mail *item)
{
    struct mover *m = context;
    struct hub_event *e = (struct hub_event *)(void *)item; /* mail is its first member */
    switch (e->kind) {
    case HUB_NODE_ARRIVED:
        balancer_arrived(m->balancer, e->node->text);
        break;
    case HUB_NODE_REPLACED:
        balancer_replaced(m->balancer, e->node->text);
        break;
    case HUB_NODE_LOST:
        balancer_lost(m->balancer, 1);
        break;
    case HUB_NODE_RELEASED:
        balancer_released(m->balancer, e->node->text, e->is_bridged);
        remember(m, e);
        settle(m, 1);
        break;
    case HUB_NODE_STAYED:
        settle(m, 1);
        break;
    case HUB_NODE_REFUSED:
        balancer_refused(m->balancer, e->node->text);
        break;
    case HUB_NONE_FIT:
        settle(m, e->count);
        break;
    }
    hub_event_destroy(e);
}

/* ---- what the balancer wants ---- */

/* Prepared, everything answered, everything sent. */
static uint64_t patience_ms(const struct config *c)
{
    return 2 * (c->edge_timeout_ms + c->write_timeout_ms);
}

static void give_up_lost(struct mover *m)
{
    if (m->pending == 0 || now_ms() - m->heard_ms < patience_ms(m->options.config))
        return;
    log_error("order_lost", F_U64("nodes", m->pending));
    settle(m, m->pending);
}

static void on_read_self(void *context, struct balancer_self *self)
{
    struct mover *m = context;
    const char *text;
    self->max_connections = (uint32_t)m->options.config->max_connections;
    give_up_lost(m);
    self->leaving = m->pending;
    self->bridged = (uint32_t)upstream_bridged(m->options.upstream);
    self->is_api_ok = upstream_is_healthy(m->options.upstream, &text);
    self->is_ready = m->was_ready = self->is_api_ok;
    self->is_draining = m->is_draining;
}

static void stop_steering(struct mover *m)
{
    if (m->is_steering)
        hub_steer(m->options.hub, NULL);
    m->is_steering = false;
}

/* Nothing is connected any more and still the process does not end: somebody may watch it. */
static void say_waiting(struct mover *m, const struct balancer_decision *d)
{
    size_t bridged = upstream_bridged(m->options.upstream);
    if (m->has_said_waiting || d->phase != BALANCER_DRAIN || d->live > 0 || bridged == 0)
        return;
    m->has_said_waiting = true;
    log_info("drain_waits",
             F_STR("text", "every edge has left; the leases of those that are on their way to "
                           "other replicas are renewed until they renew them there"),
             F_U64("bridged", bridged),
             F_U64("at_most_s", m->options.config->balancing.bridge_ms / 1000));
}

static void on_decided(void *context, const struct balancer_decision *d)
{
    struct mover *m = context;
    m->decision = *d;
    if (!d->is_refusing)
        stop_steering(m);
    if (d->release_now > 0) {
        m->heard_ms = now_ms();
        m->pending += hub_release(m->options.hub, d->release_now, d);
        if (m->pending == 0)
            balancer_order_done(m->balancer);
    }
    say_waiting(m, d);
    if (d->is_drained)
        m->options.drained(m->options.context);
}

static void on_moved(void *context, const char *const *nodes, size_t count)
{
    struct mover *m = context;
    for (size_t i = 0; i < count; i++)
        hub_mark_moved(m->options.hub, nodes[i]);
}

static void on_flights(void *context, const struct balance_flight *list, size_t count)
{
    struct mover *m = context;
    if (count == 0 || !m->decision.is_refusing) {
        stop_steering(m);
        return;
    }
    struct steer *steer =
        steer_create(&m->options.config->balancing, &m->decision, list, count, now_ms());
    if (!steer) {
        stop_steering(m);
        return;
    }
    m->is_steering = true;
    hub_steer(m->options.hub, steer);
}

static void on_beat_ended(void *context, enum balance_beat end, uint64_t round_trip_us)
{
    (void)context;
    count(BALANCE_BEATS, end, 1);
    if (end == BALANCE_BEAT_ANSWERED)
        observe_us(BALANCE_BEAT_SECONDS, 0, round_trip_us);
}

/* ---- what others ask ---- */

void mover_set_draining(struct mover *m, bool is_draining)
{
    m->is_draining = is_draining;
    m->has_said_waiting = false;
    hub_set_draining(m->options.hub, is_draining);
}

bool mover_is_draining(const struct mover *m)
{
    return m->is_draining;
}

bool mover_is_accepting(const struct mover *m)
{
    /* Whether this replica serves at all is /readyz's to say, and may have changed since. */
    return m->decision.is_accepting || !m->was_ready;
}

unsigned mover_agent_percent(const struct mover *m)
{
    return m->decision.agent_percent;
}

const struct balancer *mover_balancer(const struct mover *m)
{
    return m->balancer;
}

/* ---- life ---- */

static int start_balancer(struct mover *m, uv_loop_t *loop, struct errbuf *e)
{
    const struct config *c = m->options.config;
    const struct balance_options options = {.config = &c->balancing,
                                            .replica_id = c->replica_id,
                                            .redis_url = c->redis,
                                            .redis_group = c->redis_group,
                                            .password_file = c->redis_password_file,
                                            .password = getenv("ISTHMUS_REDIS_PASSWORD"),
                                            .redis_timeout_ms = c->redis_timeout_ms};
    const struct balance_owner owner = {.context = m,
                                        .read_self = on_read_self,
                                        .decided = on_decided,
                                        .moved = on_moved,
                                        .flights = on_flights,
                                        .beat_ended = on_beat_ended};
    return balancer_create(loop, &options, &owner, &m->balancer, e);
}

int mover_create(uv_loop_t *loop, const struct mover_options *options, struct mover **mover,
                 struct errbuf *e)
{
    struct mover *m = calloc(1, sizeof(*m));
    if (!m) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    m->options = *options;
    m->decision.is_accepting = true;
    m->decision.agent_percent = 100;
    int rc = start_balancer(m, loop, e);
    if (rc != 0) {
        mover_destroy(m);
        return rc;
    }
    rc = mailbox_init(&m->events, loop, EVENTS_MAX, SIZE_MAX, on_event, m);
    assert(rc == 0); /* an async handle of a loop that lives */
    hub_set_events(options->hub, &m->events);
    *mover = m;
    return 0;
}

static void part_closed(struct mover *m)
{
    if (--m->open_parts == 0)
        m->closed(m->closed_context);
}

static void on_balancer_closed(void *context)
{
    part_closed(context);
}

static void on_events_closed(uv_handle_t *handle)
{
    struct mailbox *events =
        (struct mailbox *)(void *)((char *)handle - offsetof(struct mailbox, wake));
    part_closed(events->context);
}

void mover_close(struct mover *m, void (*closed)(void *context), void *context)
{
    m->closed = closed;
    m->closed_context = context;
    m->open_parts = 2;
    mailbox_close(&m->events, on_events_closed);
    balancer_close(m->balancer, on_balancer_closed, m);
}

void mover_destroy(struct mover *m)
{
    if (!m)
        return;
    while (m->oldest)
        forget(m, m->oldest);
    balancer_destroy(m->balancer);
    free(m);
}
