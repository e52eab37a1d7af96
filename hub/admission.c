/* See admission.h. */
#include "hub/admission.h"

#include <assert.h>
#include <utlist.h>

void admission_init(struct admission *a, const struct admission_limits *limits, uint64_t now_ms)
{
    assert(limits->burst > 0 && limits->inflight > 0 && limits->waiting > 0);
    *a = (struct admission){.limits = *limits, .window = ADMISSION_WINDOW};
    bucket_init(&a->tokens, limits->burst, now_ms);
}

struct admission_entry *admission_pop(struct admission *a)
{
    struct admission_entry *oldest = a->queue;
    if (!oldest)
        return NULL;
    DL_DELETE(a->queue, oldest);
    a->waiting--;
    return oldest;
}

struct admission_entry *admission_push(struct admission *a, struct admission_entry *entry,
                                       uint64_t now_ms)
{
    struct admission_entry *dropped = a->waiting >= a->limits.waiting ? admission_pop(a) : NULL;
    entry->arrived_ms = now_ms;
    DL_APPEND(a->queue, entry);
    a->waiting++;
    return dropped;
}

struct admission_entry *admission_expired(struct admission *a, uint64_t now_ms)
{
    if (!a->queue || now_ms < a->queue->arrived_ms + a->limits.wait_ms)
        return NULL;
    return admission_pop(a);
}

static bool is_full(const struct admission *a)
{
    return a->inflight >= a->limits.inflight || a->inflight >= a->window;
}

struct admission_entry *admission_next(struct admission *a, uint64_t now_ms)
{
    if (!a->queue || is_full(a))
        return NULL;
    if (a->limits.rate > 0 && !bucket_take(&a->tokens, a->limits.rate, a->limits.burst, now_ms))
        return NULL;
    a->inflight++;
    return admission_pop(a);
}

void admission_done(struct admission *a)
{
    assert(a->inflight > 0);
    a->inflight--;
    a->ended++;
    a->has_ended = true;
}

void admission_stepped(struct admission *a)
{
    a->steps++;
}

static void set_window(struct admission *a, size_t window)
{
    if (window > a->limits.inflight)
        window = a->limits.inflight;
    a->window = window > ADMISSION_WINDOW ? window : ADMISSION_WINDOW;
}

void admission_turned(struct admission *a)
{
    bool was_used = a->inflight + a->ended >= a->window;
    if (a->inflight == 0)
        set_window(a, ADMISSION_WINDOW);
    else if (a->steps > ADMISSION_STEPS_PER_TURN)
        set_window(a, a->window / 2);
    else if (was_used)
        set_window(a, a->window + a->ended);
    a->steps = a->ended = 0;
}

void admission_ticked(struct admission *a, uint64_t now_ms)
{
    bool is_stalled = a->queue && a->inflight >= a->window && !a->has_ended;
    a->has_ended = false;
    if (is_stalled && now_ms < a->moved_ms + ADMISSION_STALL_MS)
        return;
    if (is_stalled)
        set_window(a, a->window * 2);
    a->moved_ms = now_ms;
}

uint64_t admission_wait_ms(struct admission *a, uint64_t now_ms)
{
    if (!a->queue || is_full(a))
        return UINT64_MAX;
    if (a->limits.rate == 0)
        return 0;
    return bucket_wait_ms(&a->tokens, a->limits.rate, a->limits.burst, now_ms);
}
