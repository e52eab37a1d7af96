/* A hashed timer wheel: thousands of deadlines, O(1) to arm and to disarm, no allocation.
 * libwebsockets keeps its timers in a sorted list, which is why none of ours are there.
 *
 * A timer never fires early; it fires at the first wheel_advance() at or after its deadline, up to
 * WHEEL_TICK_MS late. Pure: time is an argument. One thread. */
#ifndef HUB_WHEEL_H
#define HUB_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define WHEEL_TICK_MS 50
#define WHEEL_SLOTS                                                                                \
    1024 /* a power of two; 51 s go round once, longer deadlines are looked at once each round */

/* Embedded in what waits. Zeroed is disarmed. */
struct wheel_timer {
    struct wheel_timer *next, **link;
    uint64_t deadline_ms;
};

typedef void (*wheel_cb)(void *context, struct wheel_timer *timer);

struct wheel {
    uint64_t tick; /* the last one that was gone through */
    struct wheel_timer *slots[WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now_ms);
/* (Re)arms. */
void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t deadline_ms);
void wheel_disarm(struct wheel_timer *t);
static inline bool wheel_is_armed(const struct wheel_timer *t)
{
    return t->link != 0;
}
/* Fires what is due, disarmed first; the callback may arm, disarm and free any timer. */
void wheel_advance(struct wheel *w, uint64_t now_ms, wheel_cb fire, void *context);

#endif
