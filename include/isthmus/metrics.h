/* Counters, gauges and histograms from one table, rendered in the Prometheus text format.
 *
 * A family has up to two labels, each with a fixed set of values (an enum with names), so that every series exists from
 * the start, is one relaxed atomic, and no peer can create one. No label ever holds a node's name.
 *
 * The hub's table is hub/hub_metrics.c. Any thread, after metrics_init(). */
#ifndef ISTHMUS_METRICS_H
#define ISTHMUS_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_label {
    const char *name; /* NULL: no such label */
    const char *const *values;
    size_t count;
};

struct metric_family {
    const char *name, *help;
    enum metric_type type;
    struct metric_label labels[2];
    const double *bounds; /* HISTOGRAM: upper bounds in the base unit, ascending, without +Inf */
    size_t bound_count;
    /* Filled by metrics_init(). */
    _Atomic int64_t *cells;
    size_t series, cells_per_series;
};

/* Start-up only, once for each table. 0 or -ENOMEM. The table stays the caller's and lives as long as the process. */
int metrics_init(struct metric_family *families, size_t count) __attribute__((warn_unused_result));

/* Label arguments are indexes into the family's values; 0 where there is no such label. */
void metric_add(struct metric_family *f, size_t a, size_t b, int64_t n); /* COUNTER, GAUGE (may be negative) */
void metric_set(struct metric_family *f, size_t a, size_t b, int64_t value); /* GAUGE, or a COUNTER mirrored from elsewhere */
int64_t metric_value(const struct metric_family *f, size_t a, size_t b);
void metric_observe_us(struct metric_family *f, size_t a, size_t b, uint64_t microseconds); /* HISTOGRAM in seconds */
/* An estimate from a histogram's buckets, in seconds; `q` in (0, 1]. NaN when empty. Also its count. */
double metric_quantile(const struct metric_family *f, size_t a, size_t b, double q);
uint64_t metric_count(const struct metric_family *f, size_t a, size_t b);
/* The same in two steps, for the difference of two moments: what each bucket holds, bound_count + 1 of them (at most
 * METRIC_MAX_BUCKETS), not cumulated; and the quantile of such buckets. */
#define METRIC_MAX_BUCKETS 65
void metric_buckets(const struct metric_family *f, size_t a, size_t b, uint64_t *buckets);
double metric_buckets_quantile(const struct metric_family *f, const uint64_t *buckets, double q);

/* A growing text, for rendering. */
struct metric_text {
    char *bytes; /* caller frees */
    size_t size, room;
    int failed; /* -ENOMEM once an allocation failed */
};
/* Appends every family as text format 0.0.4. */
void metrics_render(struct metric_text *out, const struct metric_family *families, size_t count);
void metric_text_printf(struct metric_text *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
