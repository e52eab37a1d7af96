/* When to try again: pure functions, no clock, no I/O. Any thread. */
#ifndef APICLIENT_BACKOFF_H
#define APICLIENT_BACKOFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Doubles from base_ms with every attempt (0 is the first) up to cap_ms; `random` chooses from the
 * upper half of it, so that peers that failed together do not come back together. Never below 1. */
uint64_t apibackoff_delay_ms(unsigned attempt, uint64_t base_ms, uint64_t cap_ms, uint64_t random);

/* A Retry-After value: seconds, or an HTTP date (RFC 9110 10.2.3; the obsolete date forms are not
 * read). now_s is the wall clock. 0 or -EINVAL. More than a day counts as a day. */
int apiretry_after_parse(const char *text, size_t size, int64_t now_s, uint64_t *delay_ms);

/* At most `percent` of the requests may be retries, plus a small burst: a server in trouble is not
 * helped by a multitude. */
struct apiretry_budget {
    unsigned percent;
    uint64_t hundredths; /* of a retry */
};
void apiretry_budget_init(struct apiretry_budget *b, unsigned percent);
void apiretry_budget_earn(struct apiretry_budget *b); /* for every request */
bool apiretry_budget_take(struct apiretry_budget *b); /* for every retry; false: not now */

/* A small, fast generator (splitmix64) for jitter. Not for secrets. */
uint64_t apirandom_next(uint64_t *state);

#endif
