/* The last minutes as the status page draws them: cumulative counters, sampled every
 * HISTORY_STEP_MS into a ring. What is shown is always the difference of two samples. Pure but for
 * history_read(), which reads the metrics. One thread. */
#ifndef HUB_HISTORY_H
#define HUB_HISTORY_H

#include "hub/lane.h"

#include <stddef.h>
#include <stdint.h>

#define HISTORY_STEP_MS 2000
#define HISTORY_SAMPLES 151 /* five minutes of differences */
#define HISTORY_BUCKETS 20

struct history_sample {
    uint64_t at_ms;
    uint32_t connections;
    /* Cumulative; differences are right across an overflow. */
    uint32_t received[LANE_COUNT], other, finished, established, failed;
    uint32_t buckets[LANE_COUNT][HISTORY_BUCKETS]; /* of isthmus_answer_seconds */
};

struct history {
    struct history_sample samples[HISTORY_SAMPLES];
    size_t next, count;
};

/* Reads the hub's metrics into a sample. */
void history_read(struct history_sample *sample, uint64_t now_ms);
void history_add(struct history *h, const struct history_sample *sample);

/* The i-th sample, 0 the oldest; NULL beyond the newest. */
const struct history_sample *history_at(const struct history *h, size_t i);
/* The newest, and the one that is `span_ms` older, or the oldest there is. NULL, both, with less
 * than two. */
void history_span(const struct history *h, uint64_t span_ms, const struct history_sample **from,
                  const struct history_sample **to);

/* What happened between two samples. */
double history_rate(uint32_t from, uint32_t to, uint64_t span_ms); /* each second */
double history_quantile(const struct history_sample *from, const struct history_sample *to,
                        enum lane lane,
                        double q); /* of the answers' latencies in seconds; NaN: none */
uint64_t history_answers(const struct history_sample *from, const struct history_sample *to,
                         enum lane lane);

#endif
