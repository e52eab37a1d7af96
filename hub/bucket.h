/* A token bucket: `rate` tokens a second, at most `burst` at once. Pure: time is an argument, and
 * rate and burst too, because thousands of buckets share them. */
#ifndef HUB_BUCKET_H
#define HUB_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
    int64_t millitokens; /* below zero: spent in advance */
    uint64_t refilled_ms;
};

/* Begins full. */
void bucket_init(struct bucket *b, uint64_t burst, uint64_t now_ms);
/* Takes a token if there is one. */
bool bucket_take(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ms);
/* Takes `tokens`, there or not: what has already happened is charged afterwards. */
void bucket_spend(struct bucket *b, uint64_t tokens, uint64_t rate, uint64_t burst,
                  uint64_t now_ms);
/* Milliseconds until there is a whole token: 0 when there is one. */
uint64_t bucket_wait_ms(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ms);

#endif
