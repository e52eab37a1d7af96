/* See edge_histogram.h.
 *
 * Values below 32 have a bucket each. Above, with e the position of the highest bit, the five bits
 * below it choose among the 32 buckets of that power of two. */
#include "test/edgesim/edge_histogram.h"

#include <math.h>
#include <stddef.h>

#define STEP_BITS 5

static size_t bucket_of(uint64_t value)
{
    if (value < EDGE_HISTOGRAM_STEPS)
        return (size_t)value;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(value);
    size_t step = (size_t)(value >> (exponent - STEP_BITS)) - EDGE_HISTOGRAM_STEPS;
    size_t bucket = (size_t)(exponent - STEP_BITS + 1) * EDGE_HISTOGRAM_STEPS + step;
    return bucket < EDGE_HISTOGRAM_BUCKETS ? bucket : EDGE_HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_upper(size_t bucket)
{
    if (bucket < EDGE_HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = (unsigned)(bucket / EDGE_HISTOGRAM_STEPS) - 1;
    uint64_t step = bucket % EDGE_HISTOGRAM_STEPS + EDGE_HISTOGRAM_STEPS;
    return ((step + 1) << shift) - 1;
}

void edge_histogram_add(struct edge_histogram *h, uint64_t value)
{
    if (h->count == 0 || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->count++;
    h->sum += value;
    h->buckets[bucket_of(value)]++;
}

uint64_t edge_histogram_quantile(const struct edge_histogram *h, double q)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = (uint64_t)ceil(q * (double)h->count);
    if (rank == 0)
        rank = 1;
    uint64_t seen = 0;
    for (size_t i = 0; i < EDGE_HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank)
            return bucket_upper(i) < h->max ? bucket_upper(i) : h->max;
    }
    return h->max;
}

uint64_t edge_histogram_count_above(const struct edge_histogram *h, uint64_t value)
{
    uint64_t above = 0;
    for (size_t i = bucket_of(value) + 1; i < EDGE_HISTOGRAM_BUCKETS; i++)
        above += h->buckets[i];
    return above;
}
