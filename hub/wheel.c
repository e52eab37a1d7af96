/* See wheel.h. Each slot is a list of the timers whose deadline falls on that tick of some round.
 */
#include "hub/wheel.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static_assert((WHEEL_SLOTS & (WHEEL_SLOTS - 1)) == 0, "the slot is the tick's low bits");

void wheel_init(struct wheel *w, uint64_t now_ms)
{
    memset(w, 0, sizeof(*w));
    w->tick = now_ms / WHEEL_TICK_MS;
}

static void push(struct wheel_timer **head, struct wheel_timer *t)
{
    t->next = *head;
    t->link = head;
    if (t->next)
        t->next->link = &t->next;
    *head = t;
}

static void insert(struct wheel *w, struct wheel_timer *t)
{
    uint64_t tick = (t->deadline_ms + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;
    if (tick <= w->tick)
        tick = w->tick + 1;
    push(&w->slots[tick & (WHEEL_SLOTS - 1)], t);
}

void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t deadline_ms)
{
    wheel_disarm(t);
    t->deadline_ms = deadline_ms;
    insert(w, t);
}

void wheel_disarm(struct wheel_timer *t)
{
    if (!t->link)
        return;
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    t->next = NULL;
    t->link = NULL;
}

/* The list is taken off its slot first: what the callbacks arm goes to later slots, and what they
 * disarm leaves this one. */
static void run_slot(struct wheel *w, struct wheel_timer **slot, uint64_t now_ms, wheel_cb fire,
                     void *context)
{
    struct wheel_timer *due = *slot;
    *slot = NULL;
    if (due)
        due->link = &due;
    while (due) {
        struct wheel_timer *t = due;
        wheel_disarm(t);
        if (t->deadline_ms <= now_ms)
            fire(context, t);
        else
            insert(w, t);
    }
}

void wheel_advance(struct wheel *w, uint64_t now_ms, wheel_cb fire, void *context)
{
    uint64_t until = now_ms / WHEEL_TICK_MS;
    /* After a long gap each slot needs to be seen only once. */
    if (until > w->tick + WHEEL_SLOTS)
        w->tick = until - WHEEL_SLOTS;
    while (w->tick < until) {
        w->tick++;
        run_slot(w, &w->slots[w->tick & (WHEEL_SLOTS - 1)], now_ms, fire, context);
    }
}
