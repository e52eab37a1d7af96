/* See delivery.h: sessions come and go, the index changes, edges acknowledge. One push is in
 * push.c. */
#include "hub/delivery.h"

#include "hub/hub_metrics.h"
#include "isthmus/log.h"

#include <string.h>

/* How long versions that changed nothing for the edge wait for each other before one of them is
 * recorded. */
#define RECORD_DELAY_MS 10000

static struct delivery *delivery_of(const struct want_node *n)
{
    return n->session;
}

static struct want_link *link_of(struct push_item *item)
{
    return (struct want_link *)(void *)item; /* its first member */
}

static bool is_ready(const struct want_node *n)
{
    return n->session && delivery_of(n)->has_loaded;
}

/* ---- what a node lacks ---- */

/* A record is what counts for an edge that connects. */
static void queue_by_record(struct downstream *d, struct want_link *l)
{
    struct delivery *v = l->node->session;
    const struct want_object *o = l->object;
    if (o->kind == RESOURCE_NONE)
        return;
    l->item.acked = l->item.seen = l->recorded;
    if (o->state == WANT_LIVE)
        pushqueue_set(&v->queue, &l->item, o->changed);
    else if (o->state == WANT_GONE)
        pushqueue_delete(&v->queue, &l->item);
    push_settle(d, l);
}

/* The Node is pushed on every connect, whatever its record says (so load() leaves item.acked 0): an
 * EdgeCore with an empty database waits for it (kubeedge-protocol 4.3). */
static void offer_node(struct downstream *d, struct delivery *v)
{
    const struct want_key key = {RESOURCE_NODE, {"", 0}, {v->node->text, v->node->size}};
    struct want_object *o = want_object_current(d->want, &key);
    struct want_link *l = o && o->state == WANT_LIVE ? want_link_get(d->want, v->node, o) : NULL;
    if (!l)
        return; /* it is not there yet: its creation will be an event */
    pushqueue_set(&v->queue, &l->item, o->changed);
    push_settle(d, l);
}

/* Deletions first, then what pods mention, then the pods: so a pod finds what it needs on its edge.
 */
static unsigned turn_of(const struct want_object *o)
{
    if (o->state == WANT_GONE)
        return 0;
    return o->kind == RESOURCE_POD ? 2 : 1;
}

static void load(struct downstream *d, struct delivery *v)
{
    v->has_loaded = true;
    for (struct want_link *l = v->node->links, *next; l; l = next) {
        next = l->next_of_node;
        l->item = (struct push_item){0};
        delivery_tidy(d, l);
    }
    for (unsigned turn = 0; turn < 3; turn++) {
        for (struct want_link *l = v->node->links; l; l = l->next_of_node) {
            bool is_own_node = l->object->kind == RESOURCE_NODE && l->object->state != WANT_GONE;
            if (turn_of(l->object) == turn && !is_own_node)
                queue_by_record(d, l);
        }
    }
    if (v->is_node_seen)
        offer_node(d, v);
    push_next(d, v);
}

static void load_node(void *context, struct want_node *n)
{
    struct delivery *v = delivery_of(n);
    if (v && !v->has_loaded)
        load(context, v);
}

void delivery_synced(struct downstream *d)
{
    d->is_synced = true;
    want_nodes_each(d->want, load_node, d);
}

/* ---- sessions ---- */

static void end(struct downstream *d, struct delivery *v)
{
    struct want_node *n = v->node;
    push_abandon(d, v);
    n->session = NULL;
    d->connected--;
    for (struct want_link *l = n->links, *next; l; l = next) {
        next = l->next_of_node;
        if (l->has_record && l->item.acked > l->recorded && l->object->kind != RESOURCE_NODE)
            recorder_note(d, l);
        l->item.is_queued = false;
        l->item.next = NULL;
        l->item.op = PUSH_NOTHING;
        push_settle(d, l);
        delivery_tidy(d, l);
    }
    node_name_put(v->name);
    slab_put(&d->deliveries, v);
    want_node_release(d->want, n);
}

struct delivery *delivery_find(struct downstream *d, const struct node_name *name,
                               struct session_ref session)
{
    struct want_node *n = want_node_find(d->want, name->text, name->size);
    struct delivery *v = n ? delivery_of(n) : NULL;
    bool is_it = v && v->session.loop == session.loop && v->session.slot == session.slot &&
                 v->session.generation == session.generation;
    return is_it ? v : NULL;
}

void delivery_connected(struct downstream *d, struct node_name *name, struct session_ref session,
                        uint64_t order)
{
    struct want_node *n = want_node_get(d->want, name->text, name->size);
    struct delivery *v = n ? slab_get(&d->deliveries) : NULL;
    if (!v) {
        log_limited(LOG_LEVEL_ERROR, "delivery_lost", F_STR("node", name->text),
                    F_STR("why", "no memory"));
        if (n)
            want_node_release(d->want, n);
        return;
    }
    if (n->session && delivery_of(n)->order > order) {
        slab_put(&d->deliveries, v); /* the one that took its place was quicker to say so */
        return;
    }
    if (n->session)
        end(d, n->session); /* its node stays: it has a successor, below */
    n = want_node_get(d->want, name->text, name->size);
    if (!n) {
        slab_put(&d->deliveries, v);
        return;
    }
    v->node = n;
    v->name = node_name_get(name);
    v->session = session;
    v->order = order;
    pushqueue_init(&v->queue);
    n->session = v;
    n->collect_ms = 0;
    d->connected++;
    if (d->is_synced)
        load(d, v);
}

void delivery_gone(struct downstream *d, struct node_name *name, struct session_ref session)
{
    struct delivery *v = delivery_find(d, name, session);
    if (v)
        end(d, v);
}

static void end_node(void *context, struct want_node *n)
{
    if (n->session)
        end(context, n->session);
}

void delivery_end_all(struct downstream *d)
{
    want_nodes_each(d->want, end_node, d);
}

/* ---- what edges say ---- */

void delivery_acked(struct downstream *d, struct delivery *v, uint64_t id)
{
    enum push_op op;
    struct push_item *item = pushqueue_ack(&v->queue, id, &op);
    if (!item)
        return; /* late: it was given up, or is made anew */
    struct want_link *l = link_of(item);
    count(PUSHES, PUSHED_ACKED, 1);
    observe_us(PUSH_SECONDS, 0, (down_now(d) - v->flight->sent_ms) * 1000);
    push_land(d, v);
    push_settle(d, l);
    if (op == PUSH_DELETE) {
        l->item.acked = l->item.seen = 0;
        l->is_deleted = true;
        if (!l->has_record)
            delivery_tidy(d, l);
        else
            recorder_note(d, l);
    } else if (l->item.acked > l->recorded) {
        recorder_note(d, l);
    }
    push_next(d, v);
}

void delivery_refused(struct downstream *d, struct delivery *v, uint64_t id, uint64_t version)
{
    struct push_item *item = v->queue.current;
    if (v->queue.state != PUSH_WAITING || v->queue.id != id)
        return;
    struct want_link *l = link_of(item);
    count(PUSHES, PUSHED_REFUSED, 1);
    pushqueue_refused(&v->queue, id, version);
    if (l->object->kind != RESOURCE_POD)
        pushqueue_answered(&v->queue, item, version, true);
    push_land(d, v);
    push_settle(d, l);
    push_next(d, v);
}

void delivery_set_back(struct downstream *d, struct delivery *v, uint64_t object, uint64_t version)
{
    for (struct want_link *l = v->node->links; l; l = l->next_of_node) {
        struct want_key key = want_object_key(l->object);
        if (l->object->state != WANT_LIVE || resource_hash(key.kind, &key.ns, &key.name) != object)
            continue;
        count(PUSHES, PUSHED_SET_BACK, 1);
        pushqueue_answered(&v->queue, &l->item, version, l->object->kind != RESOURCE_POD);
        push_settle(d, l);
        push_next(d, v);
        return;
    }
}

void delivery_answered(struct downstream *d, struct delivery *v, const struct want_key *key,
                       uint64_t version)
{
    struct want_object *o = want_object_current(d->want, key);
    struct want_link *l =
        v->has_loaded && o && o->state == WANT_LIVE ? want_link_get(d->want, v->node, o) : NULL;
    if (!l)
        return; /* it was created this moment: it will be pushed */
    pushqueue_answered(&v->queue, &l->item, version, true);
    pushqueue_set(&v->queue, &l->item, o->changed);
    push_settle(d, l);
    if (l->item.acked > l->recorded)
        recorder_note(d, l);
    push_next(d, v);
}

void delivery_node_seen(struct downstream *d, struct delivery *v, const char *json, size_t size,
                        bool is_ours)
{
    static const char *const path[] = {"metadata", "resourceVersion", NULL};
    const struct want_key key = {RESOURCE_NODE, {"", 0}, {v->node->text, v->node->size}};
    struct json_span text;
    uint64_t version = 0;
    if (size > 0 && jsonscan_find(json, size, path, &text) == 0)
        version = resource_version(text.at, text.size);
    v->is_node_seen = true;
    if (is_ours)
        v->ours_from = version;
    if (!v->has_loaded)
        return;
    if (version > 0) {
        d->event.object = want_object_current(d->want, &key);
        d->event.json = json;
        d->event.size = size;
        d->event.version = version;
    }
    offer_node(d, v);
    push_next(d, v);
    d->event.object = NULL;
}

void delivery_timer(void *context, struct wheel_timer *timer)
{
    struct downstream *d = context;
    struct delivery *v =
        (struct delivery *)(void *)((char *)timer - offsetof(struct delivery, timer));
    uint64_t now = down_now(d);
    struct want_link *l;
    if (v->record_ms != 0 && v->record_ms <= now) {
        v->record_ms = 0;
        for (l = v->node->links; l; l = l->next_of_node) {
            if (l->object->kind == RESOURCE_POD && l->has_record && l->item.acked > l->recorded)
                recorder_note(d, l);
        }
    }
    switch (pushqueue_tick(&v->queue, now)) {
    case PUSH_ACTION_RESEND:
        push_resend(d, v);
        break;
    case PUSH_ACTION_GIVEN_UP:
        count(PUSHES, PUSHED_GIVEN_UP, 1);
        log_limited(LOG_LEVEL_INFO, "push_given_up", F_STR("node", v->node->text),
                    F_U64("waiting", v->queue.count));
        push_land(d, v);
        break;
    case PUSH_ACTION_NONE:
        break;
    }
    push_next(d, v);
}

/* ---- the index changed ---- */

void delivery_offer(struct downstream *d, struct want_link *l)
{
    struct delivery *v = l->node->session;
    if (!is_ready(l->node))
        return;
    pushqueue_set(&v->queue, &l->item, l->object->changed);
    push_settle(d, l);
    push_next(d, v);
}

void delivery_unchanged(struct downstream *d, struct want_link *l)
{
    struct delivery *v = l->node->session;
    if (!is_ready(l->node) || l->item.op != PUSH_NOTHING || l->item.acked == 0)
        return;
    if (l->object->version > l->item.acked)
        l->item.acked = l->object->version;
    if (l->object->kind != RESOURCE_POD || !l->has_record || v->record_ms != 0)
        return;
    v->record_ms = down_now(d) + RECORD_DELAY_MS;
    push_next(d, v);
}

void delivery_retract(struct downstream *d, struct want_link *l, bool is_sure)
{
    struct delivery *v = l->node->session;
    l->is_gone_for_sure = l->is_gone_for_sure || is_sure;
    if (!is_ready(l->node)) {
        delivery_tidy(d, l);
        return;
    }
    bool may_have_it =
        l->has_record || l->item.seen > 0 || l->item.acked > 0 || v->queue.current == &l->item;
    if (!may_have_it) {
        pushqueue_forget(&v->queue, &l->item);
        push_settle(d, l);
        delivery_tidy(d, l);
        return;
    }
    pushqueue_delete(&v->queue, &l->item);
    push_settle(d, l);
    push_next(d, v);
}

void delivery_tidy(struct downstream *d, struct want_link *l)
{
    struct want_node *n = l->node;
    struct delivery *v = n->session;
    bool is_busy = l->calls > 0 || (l->work & LINK_IN_RING) || l->item.op != PUSH_NOTHING ||
                   (v && v->queue.current == &l->item);
    if (l->object->state != WANT_GONE || l->has_record || is_busy)
        return;
    if (v)
        pushqueue_forget(&v->queue, &l->item);
    push_settle(d, l);
    want_link_remove(d->want,
                     l); /* its node stays until recorder_collect() or the end of its session */
}
