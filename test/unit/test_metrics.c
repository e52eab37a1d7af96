/* Metrics: the text format byte by byte, quantiles, allocation failures, many threads. */
#include "isthmus/metrics.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "test/lib/heap.h"

static const char *const colours[] = {"red", "a\"b\\c\nd"};
static const char *const sizes[] = {"s", "m", "l"};
static const double bounds[] = {0.001, 0.5, 2};

static const struct metric_family templates[] = {
    {.name = "t_plain_total", .help = "Line one\nback\\slash \"quoted\".", .type = METRIC_COUNTER},
    {.name = "t_things",
     .help = "Things.",
     .type = METRIC_GAUGE,
     .labels = {{"colour", colours, 2}, {"size", sizes, 3}}},
    {.name = "t_seconds",
     .help = "Time.",
     .type = METRIC_HISTOGRAM,
     .labels = {{"size", sizes, 2}},
     .bounds = bounds,
     .bound_count = 3},
};
#define FAMILIES (sizeof(templates) / sizeof(templates[0]))

static struct metric_family families[FAMILIES];

static int set_up(void **state)
{
    (void)state;
    memcpy(families, templates, sizeof(families));
    return metrics_init(families, FAMILIES);
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < FAMILIES; i++)
        free((void *)families[i].cells);
    return 0;
}

static void expect_text(size_t from, size_t n, const char *expected)
{
    struct metric_text out = {0};
    metrics_render(&out, families + from, n);
    assert_int_equal(out.failed, 0);
    assert_string_equal(out.bytes, expected);
    assert_int_equal(strlen(out.bytes), out.size);
    free(out.bytes);
}

static void test_counter(void **state)
{
    (void)state;
    metric_add(&families[0], 0, 0, 41);
    metric_add(&families[0], 0, 0, 1);
    assert_int_equal(metric_value(&families[0], 0, 0), 42);
    expect_text(0, 1,
                "# HELP t_plain_total Line one\\nback\\\\slash \"quoted\".\n"
                "# TYPE t_plain_total counter\n"
                "t_plain_total 42\n");
}

static void test_labels(void **state)
{
    (void)state;
    metric_set(&families[1], 0, 2, 5);
    metric_add(&families[1], 1, 0, -3);
    expect_text(1, 1,
                "# HELP t_things Things.\n"
                "# TYPE t_things gauge\n"
                "t_things{colour=\"red\",size=\"s\"} 0\n"
                "t_things{colour=\"red\",size=\"m\"} 0\n"
                "t_things{colour=\"red\",size=\"l\"} 5\n"
                "t_things{colour=\"a\\\"b\\\\c\\nd\",size=\"s\"} -3\n"
                "t_things{colour=\"a\\\"b\\\\c\\nd\",size=\"m\"} 0\n"
                "t_things{colour=\"a\\\"b\\\\c\\nd\",size=\"l\"} 0\n");
}

static void test_histogram(void **state)
{
    (void)state;
    metric_observe_us(&families[2], 0, 0, 1000);    /* on the bound: belongs to it */
    metric_observe_us(&families[2], 0, 0, 1001);    /* beyond */
    metric_observe_us(&families[2], 0, 0, 3000000); /* +Inf */
    assert_int_equal(metric_count(&families[2], 0, 0), 3);
    expect_text(2, 1,
                "# HELP t_seconds Time.\n"
                "# TYPE t_seconds histogram\n"
                "t_seconds_bucket{size=\"s\",le=\"0.001\"} 1\n"
                "t_seconds_bucket{size=\"s\",le=\"0.5\"} 2\n"
                "t_seconds_bucket{size=\"s\",le=\"2\"} 2\n"
                "t_seconds_bucket{size=\"s\",le=\"+Inf\"} 3\n"
                "t_seconds_sum{size=\"s\"} 3.002001\n"
                "t_seconds_count{size=\"s\"} 3\n"
                "t_seconds_bucket{size=\"m\",le=\"0.001\"} 0\n"
                "t_seconds_bucket{size=\"m\",le=\"0.5\"} 0\n"
                "t_seconds_bucket{size=\"m\",le=\"2\"} 0\n"
                "t_seconds_bucket{size=\"m\",le=\"+Inf\"} 0\n"
                "t_seconds_sum{size=\"m\"} 0.000000\n"
                "t_seconds_count{size=\"m\"} 0\n");
}

static void expect_near(double is, double should)
{
    assert_true(fabs(is - should) < 1e-9);
}

static void test_quantiles(void **state)
{
    (void)state;
    struct metric_family *f = &families[2];
    assert_true(isnan(metric_quantile(f, 1, 0, 0.5)));
    for (int i = 0; i < 10; i++)
        metric_observe_us(f, 1, 0, 100000); /* in (0.001, 0.5] */
    expect_near(metric_quantile(f, 1, 0, 0.5), 0.001 + 0.499 * 0.5);
    expect_near(metric_quantile(f, 1, 0, 1), 0.5);
    metric_observe_us(f, 1, 0, 60000000);
    expect_near(metric_quantile(f, 1, 0, 1), 2); /* not more than the last bound is known */
}

static void test_no_memory_at_start(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= FAMILIES; n++) {
        struct metric_family copy[FAMILIES];
        memcpy(copy, templates, sizeof(copy));
        heap_fail_nth(n);
        int rc = metrics_init(copy, FAMILIES);
        assert_true(heap_fail_end());
        assert_int_equal(rc, -ENOMEM);
        assert_null(copy[0].cells);
    }
}

static void test_no_memory_in_text(void **state)
{
    (void)state;
    struct metric_text out = {0};
    metric_text_printf(&out, "%s", "before");
    char *large = calloc(1, 100001);
    assert_non_null(large);
    memset(large, 'x', 100000);

    heap_fail_nth(1);
    metric_text_printf(&out, "%s", large);
    assert_true(heap_fail_end());
    assert_int_equal(out.failed, -ENOMEM);
    metric_text_printf(&out, "%s", "after");
    assert_string_equal(out.bytes, "before");

    out.failed = 0;
    metric_text_printf(&out, "%s", large);
    assert_int_equal(out.size, 100006);
    assert_int_equal(strlen(out.bytes), 100006);
    free(out.bytes);
    free(large);
}

#define THREADS 4
#define ROUNDS  20000

static void *hammer(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        metric_add(&families[0], 0, 0, 1);
        metric_observe_us(&families[2], 0, 0, 700);
    }
    return NULL;
}

/* A count that is read meanwhile never differs from its buckets, and nothing is lost. */
static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, NULL), 0);
    for (int i = 0; i < 20; i++) {
        struct metric_text out = {0};
        unsigned long long inf = 0, count = 1;
        metrics_render(&out, families + 2, 1);
        assert_int_equal(
            sscanf(strstr(out.bytes, "s\",le=\"+Inf\"} "), "s\",le=\"+Inf\"} %llu", &inf), 1);
        assert_int_equal(sscanf(strstr(out.bytes, "_count{"), "_count{size=\"s\"} %llu", &count),
                         1);
        assert_int_equal(inf, count);
        free(out.bytes);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metric_value(&families[0], 0, 0), THREADS * ROUNDS);
    assert_int_equal(metric_count(&families[2], 0, 0), THREADS * ROUNDS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_counter),           TEST(test_labels),  TEST(test_histogram),
        TEST(test_quantiles),         TEST(test_threads), TEST(test_no_memory_at_start),
        TEST(test_no_memory_in_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
