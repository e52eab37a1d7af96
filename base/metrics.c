/* See metrics.h. A series is one cell, or for a histogram one for each bucket (not cumulated), one
 * for +Inf and one for the sum in microseconds: observing is two relaxed additions. Rendering reads
 * each cell once, so that _count is always the +Inf bucket, whatever happens meanwhile. */
#include "isthmus/metrics.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BOUNDS (METRIC_MAX_BUCKETS - 1)

static size_t label_count(const struct metric_label *l)
{
    return l->name ? l->count : 1;
}

static void fini(struct metric_family *families, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((void *)families[i].cells);
        families[i].cells = NULL;
    }
}

int metrics_init(struct metric_family *families, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct metric_family *f = &families[i];
        assert(f->bound_count <= MAX_BOUNDS);
        f->series = label_count(&f->labels[0]) * label_count(&f->labels[1]);
        f->cells_per_series = f->type == METRIC_HISTOGRAM ? f->bound_count + 2 : 1;
        f->cells = calloc(f->series * f->cells_per_series, sizeof(*f->cells));
        if (!f->cells) {
            fini(families, i);
            return -ENOMEM;
        }
    }
    return 0;
}

static _Atomic int64_t *series(const struct metric_family *f, size_t a, size_t b)
{
    assert(a < label_count(&f->labels[0]) && b < label_count(&f->labels[1]));
    return f->cells + (a * label_count(&f->labels[1]) + b) * f->cells_per_series;
}

void metric_add(struct metric_family *f, size_t a, size_t b, int64_t n)
{
    atomic_fetch_add_explicit(series(f, a, b), n, memory_order_relaxed);
}

void metric_set(struct metric_family *f, size_t a, size_t b, int64_t value)
{
    atomic_store_explicit(series(f, a, b), value, memory_order_relaxed);
}

int64_t metric_value(const struct metric_family *f, size_t a, size_t b)
{
    return atomic_load_explicit(series(f, a, b), memory_order_relaxed);
}

void metric_observe_us(struct metric_family *f, size_t a, size_t b, uint64_t microseconds)
{
    assert(f->type == METRIC_HISTOGRAM);
    _Atomic int64_t *cells = series(f, a, b);
    double seconds = (double)microseconds / 1e6;
    size_t i = 0;
    while (i < f->bound_count && seconds > f->bounds[i])
        i++;
    atomic_fetch_add_explicit(&cells[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cells[f->bound_count + 1], (int64_t)microseconds,
                              memory_order_relaxed);
}

/* Reads each bucket once; returns the sum of them. */
static uint64_t read_buckets(const struct metric_family *f, size_t a, size_t b, uint64_t *buckets)
{
    _Atomic int64_t *cells = series(f, a, b);
    uint64_t total = 0;
    for (size_t i = 0; i <= f->bound_count; i++) {
        buckets[i] = (uint64_t)atomic_load_explicit(&cells[i], memory_order_relaxed);
        total += buckets[i];
    }
    return total;
}

uint64_t metric_count(const struct metric_family *f, size_t a, size_t b)
{
    uint64_t buckets[MAX_BOUNDS + 1];
    return read_buckets(f, a, b, buckets);
}

void metric_buckets(const struct metric_family *f, size_t a, size_t b, uint64_t *buckets)
{
    assert(f->type == METRIC_HISTOGRAM);
    read_buckets(f, a, b, buckets);
}

/* As Prometheus' histogram_quantile: linear within the bucket, the last bound for what is beyond
 * it. */
double metric_buckets_quantile(const struct metric_family *f, const uint64_t *buckets, double q)
{
    assert(f->type == METRIC_HISTOGRAM && q > 0 && q <= 1);
    uint64_t total = 0;
    for (size_t i = 0; i <= f->bound_count; i++)
        total += buckets[i];
    if (total == 0)
        return NAN;
    double rank = q * (double)total, below = 0;
    for (size_t i = 0; i < f->bound_count; i++) {
        double in = (double)buckets[i];
        if (in > 0 && below + in >= rank) {
            double lower = i == 0 ? 0 : f->bounds[i - 1];
            return lower + (f->bounds[i] - lower) * (rank - below) / in;
        }
        below += in;
    }
    return f->bound_count ? f->bounds[f->bound_count - 1] : NAN;
}

double metric_quantile(const struct metric_family *f, size_t a, size_t b, double q)
{
    uint64_t buckets[METRIC_MAX_BUCKETS];
    read_buckets(f, a, b, buckets);
    return metric_buckets_quantile(f, buckets, q);
}

/* ---- text ---- */

static int make_room(struct metric_text *out, size_t more)
{
    if (out->size + more < out->room)
        return 0;
    size_t room = out->room ? out->room * 2 : 4096;
    while (room <= out->size + more)
        room *= 2;
    char *bytes = realloc(out->bytes, room);
    if (!bytes) {
        out->failed = -ENOMEM;
        return -ENOMEM;
    }
    out->bytes = bytes;
    out->room = room;
    return 0;
}

static void put(struct metric_text *out, const char *bytes, size_t n)
{
    if (out->failed || make_room(out, n) != 0)
        return;
    memcpy(out->bytes + out->size, bytes, n);
    out->size += n;
    out->bytes[out->size] = '\0';
}

void metric_text_printf(struct metric_text *out, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n < sizeof(line)) {
        put(out, line, (size_t)n);
        return;
    }
    if (out->failed || make_room(out, (size_t)n) != 0)
        return;
    va_start(args, format);
    vsnprintf(out->bytes + out->size, (size_t)n + 1, format, args);
    va_end(args);
    out->size += (size_t)n;
}

static void put_escaped(struct metric_text *out, const char *text, const char *special)
{
    while (*text) {
        size_t plain = strcspn(text, special);
        put(out, text, plain);
        text += plain;
        if (!*text)
            return;
        char escaped[2] = {'\\', *text == '\n' ? 'n' : *text};
        put(out, escaped, 2);
        text++;
    }
}

static void put_label(struct metric_text *out, const char *name, const char *value, bool *first)
{
    metric_text_printf(out, "%s%s=\"", *first ? "{" : ",", name);
    put_escaped(out, value, "\\\"\n");
    put(out, "\"", 1);
    *first = false;
}

/* NAME SUFFIX {labels, le}: everything before the value. */
static void put_series(struct metric_text *out, const struct metric_family *f, const char *suffix,
                       size_t a, size_t b, const char *le)
{
    size_t index[2] = {a, b};
    bool first = true;
    metric_text_printf(out, "%s%s", f->name, suffix);
    for (size_t i = 0; i < 2; i++) {
        if (f->labels[i].name)
            put_label(out, f->labels[i].name, f->labels[i].values[index[i]], &first);
    }
    if (le)
        put_label(out, "le", le, &first);
    put(out, first ? " " : "} ", first ? 1 : 2);
}

static void put_histogram(struct metric_text *out, const struct metric_family *f, size_t a,
                          size_t b)
{
    uint64_t buckets[MAX_BOUNDS + 1], below = 0;
    read_buckets(f, a, b, buckets);
    for (size_t i = 0; i <= f->bound_count; i++) {
        char le[32] = "+Inf";
        if (i < f->bound_count)
            snprintf(le, sizeof(le), "%.12g", f->bounds[i]);
        below += buckets[i];
        put_series(out, f, "_bucket", a, b, le);
        metric_text_printf(out, "%" PRIu64 "\n", below);
    }
    int64_t sum_us =
        atomic_load_explicit(&series(f, a, b)[f->bound_count + 1], memory_order_relaxed);
    put_series(out, f, "_sum", a, b, NULL);
    metric_text_printf(out, "%" PRId64 ".%06" PRId64 "\n", sum_us / 1000000, sum_us % 1000000);
    put_series(out, f, "_count", a, b, NULL);
    metric_text_printf(out, "%" PRIu64 "\n", below);
}

static void put_family(struct metric_text *out, const struct metric_family *f)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    metric_text_printf(out, "# HELP %s ", f->name);
    put_escaped(out, f->help, "\\\n");
    metric_text_printf(out, "\n# TYPE %s %s\n", f->name, types[f->type]);
    for (size_t a = 0; a < label_count(&f->labels[0]); a++) {
        for (size_t b = 0; b < label_count(&f->labels[1]); b++) {
            if (f->type == METRIC_HISTOGRAM) {
                put_histogram(out, f, a, b);
                continue;
            }
            put_series(out, f, "", a, b, NULL);
            metric_text_printf(out, "%" PRId64 "\n", metric_value(f, a, b));
        }
    }
}

void metrics_render(struct metric_text *out, const struct metric_family *families, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_family(out, &families[i]);
}
