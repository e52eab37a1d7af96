/* See timers.h. Most timers are deadlines that lie far ahead and never fire, set in rising order:
 * that costs one comparison to set and a few to take out. The uv_timer is moved only to an earlier
 * time, and in apitimers_arm() only, once a turn: that it sometimes wakes for nothing is cheaper
 * than moving it with every request. */
#include "apiclient/timers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define MIN_ROOM 64

int apitimers_init(struct apitimers *t, uv_loop_t *loop, void *data)
{
    *t = (struct apitimers){.room = MIN_ROOM, .armed_ms = UINT64_MAX};
    t->slots = calloc(MIN_ROOM, sizeof(*t->slots));
    if (!t->slots)
        return -ENOMEM;
    int rc = uv_timer_init(loop, &t->uv);
    assert(rc == 0); /* it always succeeds */
    t->uv.data = data;
    return 0;
}

void apitimers_fini(struct apitimers *t)
{
    assert(t->reserved == 0);
    free(t->slots);
    t->slots = NULL;
}

static void put(struct apitimers *t, size_t place, struct apitimers_slot slot)
{
    t->slots[place] = slot;
    slot.timer->place = place;
}

static void sift_up(struct apitimers *t, size_t place, struct apitimers_slot slot)
{
    while (place > 1 && t->slots[place / 2].due_ms > slot.due_ms) {
        put(t, place, t->slots[place / 2]);
        place /= 2;
    }
    put(t, place, slot);
}

static void sift_down(struct apitimers *t, size_t place, struct apitimers_slot slot)
{
    for (;;) {
        size_t child = place * 2;
        if (child > t->count)
            break;
        if (child < t->count && t->slots[child + 1].due_ms < t->slots[child].due_ms)
            child++;
        if (t->slots[child].due_ms >= slot.due_ms)
            break;
        put(t, place, t->slots[child]);
        place = child;
    }
    put(t, place, slot);
}

static void place_slot(struct apitimers *t, size_t place, struct apitimers_slot slot)
{
    if (place > 1 && t->slots[place / 2].due_ms > slot.due_ms)
        sift_up(t, place, slot);
    else
        sift_down(t, place, slot);
}

int apitimer_init(struct apitimers *t, struct apitimer *timer, apitimer_cb fire)
{
    if (t->reserved + 2 > t->room) { /* slot 0 is unused */
        struct apitimers_slot *slots = realloc(t->slots, t->room * 2 * sizeof(*slots));
        if (!slots)
            return -ENOMEM;
        t->slots = slots;
        t->room *= 2;
    }
    t->reserved++;
    *timer = (struct apitimer){.fire = fire};
    return 0;
}

void apitimer_fini(struct apitimers *t, struct apitimer *timer)
{
    assert(t->reserved > 0);
    apitimer_stop(t, timer);
    t->reserved--;
}

void apitimer_set(struct apitimers *t, struct apitimer *timer, uint64_t due_ms)
{
    if (t->firing && due_ms <= t->firing_ms)
        due_ms = t->firing_ms + 1; /* or firing would never end */
    struct apitimers_slot slot = {.due_ms = due_ms, .timer = timer};
    if (timer->place == 0) {
        assert(t->count < t->reserved);
        sift_up(t, ++t->count, slot);
    } else {
        place_slot(t, timer->place, slot);
    }
}

void apitimer_stop(struct apitimers *t, struct apitimer *timer)
{
    size_t place = timer->place;
    if (place == 0)
        return;
    timer->place = 0;
    struct apitimers_slot last = t->slots[t->count--];
    if (last.timer != timer)
        place_slot(t, place, last);
}

void apitimers_fire(struct apitimers *t, uint64_t now_ms)
{
    t->armed_ms = UINT64_MAX;
    t->firing = true;
    t->firing_ms = now_ms;
    while (t->count > 0 && t->slots[1].due_ms <= now_ms) {
        struct apitimer *timer = t->slots[1].timer;
        apitimer_stop(t, timer);
        timer->fire(timer, now_ms);
    }
    t->firing = false;
}

void apitimers_arm(struct apitimers *t, uint64_t now_ms, uv_timer_cb on_timer)
{
    if (t->count == 0 || t->slots[1].due_ms >= t->armed_ms)
        return;
    t->armed_ms = t->slots[1].due_ms;
    uint64_t delay_ms = t->armed_ms > now_ms ? t->armed_ms - now_ms : 0;
    int rc = uv_timer_start(&t->uv, on_timer, delay_ms, 0);
    assert(rc == 0); /* only a closing handle fails */
}
