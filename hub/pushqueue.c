/* See pushqueue.h. */
#include "hub/pushqueue.h"

#include <assert.h>

void pushqueue_init(struct pushqueue *q)
{
    *q = (struct pushqueue){.state = PUSH_IDLE};
    q->tail = &q->head;
}

/* ---- the queue ---- */

static void append(struct pushqueue *q, struct push_item *item)
{
    if (item->is_queued || item == q->current)
        return;
    item->next = NULL;
    *q->tail = item;
    q->tail = &item->next;
    item->is_queued = true;
    q->count++;
}

static void unlink_at(struct pushqueue *q, struct push_item **link)
{
    struct push_item *item = *link;
    *link = item->next;
    if (!*link)
        q->tail = link;
    item->next = NULL;
    item->is_queued = false;
    q->count--;
}

static bool is_done(const struct push_item *item)
{
    return item->op == PUSH_NOTHING || (item->op == PUSH_SET && item->wanted <= item->acked);
}

/* Back to IDLE. What is still to do for the item takes its turn again. */
static void release(struct pushqueue *q)
{
    struct push_item *item = q->current;
    q->current = NULL;
    q->state = PUSH_IDLE;
    if (is_done(item))
        item->op = PUSH_NOTHING;
    else
        append(q, item);
}

/* A time is kept as its low half: it is never further away than PUSH_BACKOFF_MAX_MS. */
static int32_t wait_left_ms(const struct push_item *item, uint64_t now_ms)
{
    return item->is_waiting_long ? (int32_t)(item->not_before_ms32 - (uint32_t)now_ms) : 0;
}

static void fail(struct pushqueue *q, uint64_t now_ms)
{
    struct push_item *item = q->current;
    uint64_t wait_ms = (uint64_t)PUSH_BACKOFF_MS << (item->failures < 7 ? item->failures : 7);
    if (wait_ms > PUSH_BACKOFF_MAX_MS)
        wait_ms = PUSH_BACKOFF_MAX_MS;
    if (item->failures < UINT8_MAX)
        item->failures++;
    item->is_waiting_long = true;
    item->not_before_ms32 = (uint32_t)(now_ms + wait_ms);
    release(q);
}

/* ---- what is to do ---- */

void pushqueue_set(struct pushqueue *q, struct push_item *item, uint64_t version)
{
    if (item->op == PUSH_DELETE)
        return;
    if (version > item->wanted)
        item->wanted = version;
    if (item->wanted <= item->acked)
        return;
    item->op = PUSH_SET;
    append(q, item);
}

void pushqueue_delete(struct pushqueue *q, struct push_item *item)
{
    item->op = PUSH_DELETE;
    append(q, item);
}

void pushqueue_answered(struct pushqueue *q, struct push_item *item, uint64_t version,
                        bool is_enough)
{
    if (version >= item->seen) {
        item->seen = version;
        if (is_enough && version > item->acked)
            item->acked = version;
        if (is_enough && item->op == PUSH_SET && is_done(item))
            item->op = PUSH_NOTHING;
        return;
    }
    if (item == q->current && q->state == PUSH_WAITING && version < q->version)
        q->version = version; /* its acknowledgement will be worth no more */
    if (version < item->acked)
        item->acked = version;
    pushqueue_set(q, item, item->wanted);
}

void pushqueue_forget(struct pushqueue *q, struct push_item *item)
{
    assert(item != q->current);
    item->op = PUSH_NOTHING;
    for (struct push_item **link = &q->head; item->is_queued; link = &(*link)->next) {
        if (*link == item) {
            unlink_at(q, link);
            return;
        }
    }
}

/* ---- one message ---- */

struct push_item *pushqueue_take(struct pushqueue *q, uint64_t now_ms)
{
    struct push_item **link = &q->head;
    if (q->state != PUSH_IDLE)
        return NULL;
    while (*link) {
        struct push_item *item = *link;
        if (is_done(item)) {
            unlink_at(q, link);
            item->op = PUSH_NOTHING;
            continue;
        }
        if (wait_left_ms(item, now_ms) <= 0) {
            unlink_at(q, link);
            item->is_waiting_long = false;
            q->current = item;
            q->op = item->op;
            q->state = PUSH_PREPARING;
            return item;
        }
        link = &item->next;
    }
    return NULL;
}

uint64_t pushqueue_floor(const struct push_item *item)
{
    return item->wanted > item->seen ? item->wanted : item->seen;
}

void pushqueue_sent(struct pushqueue *q, uint64_t id, uint64_t version, uint64_t now_ms)
{
    struct push_item *item = q->current;
    assert(q->state == PUSH_PREPARING && (q->op == PUSH_DELETE || version >= item->seen));
    if (q->op == PUSH_SET)
        item->seen = version;
    q->state = PUSH_WAITING;
    q->id = id;
    q->version = version;
    q->writes = 1;
    q->deadline_ms = now_ms + PUSH_RETRY_MS;
}

void pushqueue_back(struct pushqueue *q, uint64_t now_ms)
{
    assert(q->state == PUSH_PREPARING);
    fail(q, now_ms);
}

void pushqueue_skip(struct pushqueue *q)
{
    assert(q->state == PUSH_PREPARING);
    if (q->current->op == q->op)
        q->current->op = PUSH_NOTHING;
    release(q);
}

struct push_item *pushqueue_ack(struct pushqueue *q, uint64_t id, enum push_op *op)
{
    struct push_item *item = q->current;
    if (q->state != PUSH_WAITING || id != q->id)
        return NULL;
    *op = q->op;
    item->failures = 0;
    if (q->op == PUSH_DELETE)
        item->op = PUSH_NOTHING;
    else if (q->version > item->acked)
        item->acked = q->version;
    release(q);
    return item;
}

void pushqueue_refused(struct pushqueue *q, uint64_t id, uint64_t version)
{
    struct push_item *item = q->current;
    if (q->state != PUSH_WAITING || id != q->id)
        return;
    if (version > item->seen)
        item->seen = version;
    release(q);
}

/* ---- time ---- */

enum push_action pushqueue_tick(struct pushqueue *q, uint64_t now_ms)
{
    if (q->state != PUSH_WAITING || now_ms < q->deadline_ms)
        return PUSH_ACTION_NONE;
    if (q->writes < PUSH_WRITES) {
        q->writes++;
        q->deadline_ms = now_ms + PUSH_RETRY_MS;
        return PUSH_ACTION_RESEND;
    }
    fail(q, now_ms);
    return PUSH_ACTION_GIVEN_UP;
}

uint64_t pushqueue_deadline(const struct pushqueue *q, uint64_t now_ms)
{
    uint64_t deadline = UINT64_MAX;
    if (q->state == PUSH_WAITING)
        return q->deadline_ms;
    if (q->state == PUSH_PREPARING)
        return UINT64_MAX;
    for (const struct push_item *item = q->head; item; item = item->next) {
        int32_t left_ms = wait_left_ms(item, now_ms);
        uint64_t when_ms = left_ms > 0 ? now_ms + (uint64_t)left_ms : now_ms;
        if (when_ms < deadline)
            deadline = when_ms;
    }
    return deadline;
}
