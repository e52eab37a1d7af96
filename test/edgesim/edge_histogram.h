/* A log-linear histogram of durations in microseconds: 32 steps for each power of two, so that any
 * quantile is right to 3 %, from 1 us to 12 days, in a fixed 9 kB. Pure; one thread. */
#ifndef EDGE_HISTOGRAM_H
#define EDGE_HISTOGRAM_H

#include <stdint.h>

#define EDGE_HISTOGRAM_STEPS   32
#define EDGE_HISTOGRAM_BUCKETS (EDGE_HISTOGRAM_STEPS * 36)

struct edge_histogram {
    uint64_t count, sum, min, max;
    uint64_t buckets[EDGE_HISTOGRAM_BUCKETS];
};

/* A zeroed histogram is an empty one. Values too large for it count as the largest. */
void edge_histogram_add(struct edge_histogram *h, uint64_t value);
/* The value that the fraction `q` (0..1) of all values does not exceed: the upper end of its step,
 * never above the largest value seen. 0 when empty. */
uint64_t edge_histogram_quantile(const struct edge_histogram *h, double q);
/* How many values lie above `value`, to the histogram's precision. */
uint64_t edge_histogram_count_above(const struct edge_histogram *h, uint64_t value);

#endif
