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
}

void admission_stepped(struct admission *a)
{
    a->steps++;
}

void admission_turned(struct admission *a)
{
    bool was_used = a->inflight + a->ended >= a->window;
    if (a->steps > ADMISSION_STEPS_PER_TURN)
        a->window /= 2;
    else if (was_used && a->window < a->limits.inflight)
        a->window += a->ended;
    if (a->window < ADMISSION_WINDOW || a->inflight == 0)
        a->window = ADMISSION_WINDOW;
    a->steps = a->ended = 0;
}

uint64_t admission_wait_ms(struct admission *a, uint64_t now_ms)
{
    if (!a->queue || is_full(a))
        return UINT64_MAX;
    if (a->limits.rate == 0)
        return 0;
    return bucket_wait_ms(&a->tokens, a->limits.rate, a->limits.burst, now_ms);
}
