/* See history.h. */
#include "hub/history.h"

#include "hub/hub_metrics.h"
#include "hub/message.h"

#include <assert.h>
#include <math.h>

static uint32_t sum(const struct metric_family *f)
{
    int64_t total = 0;
    for (size_t i = 0; i < f->series; i++)
        total += atomic_load_explicit(&f->cells[i], memory_order_relaxed);
    return (uint32_t)total;
}

static void read_kinds(struct history_sample *s)
{
    for (size_t kind = 0; kind < UPSTREAM_KIND_COUNT; kind++)
        s->received[upstream_kinds[kind].lane] +=
            (uint32_t)metric_value(&hub_metrics[M_MESSAGES_RECEIVED], kind, 0);
}

static void read_buckets(struct history_sample *s)
{
    const struct metric_family *f = &hub_metrics[M_ANSWER_SECONDS];
    uint64_t buckets[METRIC_MAX_BUCKETS];
    assert(f->bound_count < HISTORY_BUCKETS);
    for (size_t lane = 0; lane < LANE_COUNT; lane++) {
        metric_buckets(f, lane, 0, buckets);
        for (size_t i = 0; i <= f->bound_count; i++)
            s->buckets[lane][i] = (uint32_t)buckets[i];
    }
}

void history_read(struct history_sample *s, uint64_t now_ms)
{
    *s = (struct history_sample){.at_ms = now_ms};
    s->connections = (uint32_t)metric_value(&hub_metrics[M_EDGE_CONNECTIONS], 0, 0);
    s->established = (uint32_t)metric_value(&hub_metrics[M_EDGE_ESTABLISHED], 0, 0);
    s->other = sum(&hub_metrics[M_MESSAGES_LOCAL]);
    s->finished = sum(&hub_metrics[M_MESSAGES_FINISHED]);
    s->failed = sum(&hub_metrics[M_MESSAGES_DROPPED]);
    read_kinds(s);
    read_buckets(s);
}

void history_add(struct history *h, const struct history_sample *sample)
{
    h->samples[h->next] = *sample;
    h->next = (h->next + 1) % HISTORY_SAMPLES;
    if (h->count < HISTORY_SAMPLES)
        h->count++;
}

const struct history_sample *history_at(const struct history *h, size_t i)
{
    if (i >= h->count)
        return NULL;
    return &h->samples[(h->next + HISTORY_SAMPLES - h->count + i) % HISTORY_SAMPLES];
}

void history_span(const struct history *h, uint64_t span_ms, const struct history_sample **from,
                  const struct history_sample **to)
{
    *from = *to = NULL;
    if (h->count < 2)
        return;
    *to = history_at(h, h->count - 1);
    for (size_t i = h->count - 1; i-- > 0;) {
        *from = history_at(h, i);
        if ((*to)->at_ms - (*from)->at_ms >= span_ms)
            return;
    }
}

double history_rate(uint32_t from, uint32_t to, uint64_t span_ms)
{
    return span_ms ? (double)(uint32_t)(to - from) * 1000 / (double)span_ms : 0;
}

static uint64_t difference(const struct history_sample *from, const struct history_sample *to,
                           enum lane lane, uint64_t *buckets)
{
    uint64_t total = 0;
    for (size_t i = 0; i < HISTORY_BUCKETS; i++) {
        buckets[i] = (uint32_t)(to->buckets[lane][i] - from->buckets[lane][i]);
        total += buckets[i];
    }
    return total;
}

double history_quantile(const struct history_sample *from, const struct history_sample *to,
                        enum lane lane, double q)
{
    uint64_t buckets[HISTORY_BUCKETS];
    if (difference(from, to, lane, buckets) == 0)
        return NAN;
    return metric_buckets_quantile(&hub_metrics[M_ANSWER_SECONDS], buckets, q);
}

uint64_t history_answers(const struct history_sample *from, const struct history_sample *to,
                         enum lane lane)
{
    uint64_t buckets[HISTORY_BUCKETS];
    return difference(from, to, lane, buckets);
}
