/* The last minutes: a ring of samples, and what happened between two of them. */
#include "hub/history.h"

#include "hub/hub_metrics.h"
#include "hub/message.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void fill(struct history *h, size_t samples)
{
    memset(h, 0, sizeof(*h));
    for (size_t i = 0; i < samples; i++) {
        const struct history_sample s = {.at_ms = 1000 + i * HISTORY_STEP_MS,
                                         .connections = (uint32_t)i};
        history_add(h, &s);
    }
}

static void test_an_empty_one(void **state)
{
    (void)state;
    struct history h;
    const struct history_sample *from, *to;
    fill(&h, 0);
    assert_null(history_at(&h, 0));
    history_span(&h, 1000, &from, &to);
    assert_null(from);
    assert_null(to);
    fill(&h, 1);
    assert_int_equal(history_at(&h, 0)->at_ms, 1000);
    history_span(&h, 1000, &from, &to);
    assert_null(from);
}

static void test_the_oldest_are_forgotten(void **state)
{
    (void)state;
    struct history h;
    fill(&h, HISTORY_SAMPLES + 7);
    assert_int_equal(history_at(&h, 0)->connections, 7);
    assert_int_equal(history_at(&h, HISTORY_SAMPLES - 1)->connections, HISTORY_SAMPLES + 6);
    assert_null(history_at(&h, HISTORY_SAMPLES));
    for (size_t i = 1; i < HISTORY_SAMPLES; i++)
        assert_true(history_at(&h, i)->at_ms == history_at(&h, i - 1)->at_ms + HISTORY_STEP_MS);
}

static void expect_span(const struct history *h, uint64_t span_ms, uint64_t got_ms)
{
    const struct history_sample *from, *to;
    history_span(h, span_ms, &from, &to);
    assert_ptr_equal(to, history_at(h, h->count - 1));
    assert_int_equal(to->at_ms - from->at_ms, got_ms);
}

static void test_a_span(void **state)
{
    (void)state;
    struct history h;
    fill(&h, 10);
    expect_span(&h, 1, HISTORY_STEP_MS); /* at least one step */
    expect_span(&h, 3 * HISTORY_STEP_MS, 3 * HISTORY_STEP_MS);
    expect_span(&h, 3 * HISTORY_STEP_MS + 1, 4 * HISTORY_STEP_MS); /* rather more than asked for */
    expect_span(&h, 3600000, 9 * HISTORY_STEP_MS);                 /* as much as there is */
    fill(&h, HISTORY_SAMPLES + 50);
    expect_span(&h, 3600000, (HISTORY_SAMPLES - 1) * HISTORY_STEP_MS);
}

static void test_rates(void **state)
{
    (void)state;
    assert_float_equal(history_rate(10, 40, 2000), 15, 1e-9);
    assert_float_equal(history_rate(7, 7, 2000), 0, 0);
    assert_float_equal(history_rate(UINT32_MAX - 9, 20, 10000), 3, 1e-9); /* across an overflow */
    assert_float_equal(history_rate(1, 2, 0), 0, 0);
}

static void test_quantiles_are_of_the_difference(void **state)
{
    (void)state;
    struct history_sample from = {0}, to = {0};
    assert_true(isnan(history_quantile(&from, &to, LANE_STATUS, 0.5)));
    assert_int_equal(history_answers(&from, &to, LANE_STATUS), 0);

    const double *bounds = hub_metrics[M_ANSWER_SECONDS].bounds;
    from.buckets[LANE_STATUS][9] = 1000; /* slow ones, long ago */
    memcpy(&to.buckets, &from.buckets, sizeof(to.buckets));
    to.buckets[LANE_STATUS][3] += 99;
    to.buckets[LANE_STATUS][6] += 1;
    assert_int_equal(history_answers(&from, &to, LANE_STATUS), 100);
    double half = history_quantile(&from, &to, LANE_STATUS, 0.5);
    double most = history_quantile(&from, &to, LANE_STATUS, 1);
    assert_true(half > bounds[2] && half <= bounds[3]);
    assert_true(most > bounds[5] && most <= bounds[6]);
    assert_true(isnan(history_quantile(&from, &to, LANE_QUERY, 0.5)));

    from.buckets[LANE_QUERY][0] = UINT32_MAX;
    to.buckets[LANE_QUERY][0] = 4; /* a counter that has come round */
    assert_int_equal(history_answers(&from, &to, LANE_QUERY), 5);
}

static void test_reading_the_metrics(void **state)
{
    (void)state;
    struct history_sample before, after;
    history_read(&before, 5);
    count(EDGE_CONNECTIONS, 0, 3);
    count(EDGE_ESTABLISHED, 0, 4);
    for (size_t kind = 0; kind < UPSTREAM_KIND_COUNT; kind++)
        count(MESSAGES_RECEIVED, kind, 1);
    count(MESSAGES_LOCAL, 0, 2);
    count(MESSAGES_LOCAL, 1, 2);
    count2(MESSAGES_FINISHED, 0, REPLY_ANSWERED, 5);
    count2(MESSAGES_FINISHED, 1, REPLY_DROPPED, 6);
    count(MESSAGES_DROPPED, 1, 6);
    observe_us(ANSWER_SECONDS, LANE_EVENT, 30);
    observe_us(ANSWER_SECONDS, LANE_EVENT, 3600000000u); /* beyond the last bound */
    history_read(&after, 77);

    assert_int_equal(after.at_ms, 77);
    assert_int_equal(after.connections - before.connections, 3);
    assert_int_equal(after.established - before.established, 4);
    assert_int_equal(after.other - before.other, 4);
    assert_int_equal(after.finished - before.finished, 11);
    assert_int_equal(after.failed - before.failed, 6);
    size_t received = 0;
    for (size_t lane = 0; lane < LANE_COUNT; lane++)
        received += after.received[lane] - before.received[lane];
    assert_int_equal(received, UPSTREAM_KIND_COUNT);
    assert_int_equal(history_answers(&before, &after, LANE_EVENT), 2);
    assert_int_equal(history_answers(&before, &after, LANE_STATUS), 0);
}

static int set_up(void **state)
{
    (void)state;
    return hub_metrics_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_one),
        cmocka_unit_test(test_the_oldest_are_forgotten),
        cmocka_unit_test(test_a_span),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_quantiles_are_of_the_difference),
        cmocka_unit_test(test_reading_the_metrics),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
