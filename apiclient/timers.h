/* Many deadlines on one uv_timer: a binary heap. An apitimer reserves its place when it is made, so
 * that setting it later cannot fail. Loop thread only. */
#ifndef APICLIENT_TIMERS_H
#define APICLIENT_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct apitimer;
typedef void (*apitimer_cb)(struct apitimer *timer, uint64_t now_ms);

struct apitimer {
    apitimer_cb fire;
    size_t place; /* in the heap, from 1; 0: not set */
};

struct apitimers_slot {
    uint64_t due_ms;
    struct apitimer *timer;
};

struct apitimers {
    uv_timer_t uv;
    struct apitimers_slot *slots; /* from 1 */
    size_t count, reserved, room;
    bool firing;
    uint64_t firing_ms;
    uint64_t armed_ms; /* what the uv_timer waits for; UINT64_MAX: nothing */
};

int apitimers_init(struct apitimers *t, uv_loop_t *loop, void *data)
    __attribute__((warn_unused_result));
/* Releases the heap; the caller closes t->uv. */
void apitimers_fini(struct apitimers *t);
/* Fires what is due; to be called from the uv_timer's callback, which the caller sets by
 * apitimers_start(). */
void apitimers_fire(struct apitimers *t, uint64_t now_ms);
/* `on_timer` is what the uv_timer calls. */
void apitimers_arm(struct apitimers *t, uint64_t now_ms, uv_timer_cb on_timer);

int apitimer_init(struct apitimers *t, struct apitimer *timer, apitimer_cb fire)
    __attribute__((warn_unused_result));
void apitimer_fini(struct apitimers *t, struct apitimer *timer);
/* Sets it, or moves it. */
void apitimer_set(struct apitimers *t, struct apitimer *timer, uint64_t due_ms);
void apitimer_stop(struct apitimers *t, struct apitimer *timer);

#endif
