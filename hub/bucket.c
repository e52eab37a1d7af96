/* See bucket.h. Counted in thousandths, so that a refill of `rate` tokens a second is `rate` units
 * a millisecond. */
#include "hub/bucket.h"

#include <assert.h>

#define UNIT 1000

void bucket_init(struct bucket *b, uint64_t burst, uint64_t now_ms)
{
    *b = (struct bucket){.millitokens = (int64_t)(burst * UNIT), .refilled_ms = now_ms};
}

static void refill(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ms)
{
    assert(rate > 0 && burst > 0);
    if (now_ms <= b->refilled_ms)
        return;
    uint64_t elapsed_ms = now_ms - b->refilled_ms;
    int64_t full = (int64_t)(burst * UNIT);
    uint64_t missing = (uint64_t)(full - b->millitokens);
    b->refilled_ms = now_ms;
    if (elapsed_ms > missing / rate)
        b->millitokens = full;
    else
        b->millitokens += (int64_t)(elapsed_ms * rate);
}

bool bucket_take(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ms)
{
    refill(b, rate, burst, now_ms);
    if (b->millitokens < UNIT)
        return false;
    b->millitokens -= UNIT;
    return true;
}

void bucket_spend(struct bucket *b, uint64_t tokens, uint64_t rate, uint64_t burst, uint64_t now_ms)
{
    refill(b, rate, burst, now_ms);
    b->millitokens -= (int64_t)(tokens * UNIT);
}

uint64_t bucket_wait_ms(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ms)
{
    refill(b, rate, burst, now_ms);
    if (b->millitokens >= UNIT)
        return 0;
    return ((uint64_t)(UNIT - b->millitokens) + rate - 1) / rate;
}
