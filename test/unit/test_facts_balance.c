/* What is shown of balancing: the past of replicas that come, go and are many; the document and the
 * metrics in all their states. */
#include "hub/facts_balance.h"

#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- the past ---- */

static void add(struct balance_past *past, const char *a, uint32_t live_a, const char *b,
                uint32_t live_b)
{
    const struct balance_past_sample samples[] = {{a, live_a}, {b, live_b}};
    balance_past_add(past, samples, b ? 2 : a ? 1 : 0);
}

static void expect_past(const struct balance_past *past, const char *id, const uint32_t *values,
                        size_t count)
{
    const struct balance_past_replica *r = balance_past_find(past, id);
    assert_non_null(r);
    assert_int_equal(past->count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(balance_past_at(past, r, i), values[i]);
}

static void test_replicas_come_and_go(void **state)
{
    static struct balance_past past;
    (void)state;
    assert_null(balance_past_find(&past, "a"));
    assert_null(balance_past_find(&past, ""));
    add(&past, "a", 10, NULL, 0);
    add(&past, "a", 11, "b", 1);
    add(&past, "b", 2, NULL, 0);
    add(&past, "a", 12, "b", 3);
    expect_past(&past, "a", (const uint32_t[]){10, 11, BALANCE_PAST_ABSENT, 12}, 4);
    expect_past(&past, "b", (const uint32_t[]){BALANCE_PAST_ABSENT, 1, 2, 3}, 4);
    add(&past, "", 1, NULL, 0);
    assert_null(balance_past_find(&past, ""));
}

static void test_the_oldest_is_forgotten(void **state)
{
    static struct balance_past past;
    uint32_t values[HISTORY_SAMPLES];
    (void)state;
    for (uint32_t i = 0; i < 3 * HISTORY_SAMPLES + 7; i++)
        add(&past, "a", i, NULL, 0);
    for (uint32_t i = 0; i < HISTORY_SAMPLES; i++)
        values[i] = 2 * HISTORY_SAMPLES + 7 + i;
    expect_past(&past, "a", values, HISTORY_SAMPLES);
}

/* More than there is room for: those that were there keep their past; one that was away for the
 * whole window makes room. */
static void test_there_are_too_many(void **state)
{
    static struct balance_past past;
    static char ids[BALANCE_PAST_REPLICAS + 1][16];
    struct balance_past_sample samples[BALANCE_PAST_REPLICAS + 1];
    (void)state;
    for (uint32_t i = 0; i <= BALANCE_PAST_REPLICAS; i++) {
        snprintf(ids[i], sizeof(ids[i]), "replica-%u", (unsigned)i);
        samples[i] = (struct balance_past_sample){ids[i], i};
    }
    balance_past_add(&past, samples, BALANCE_PAST_REPLICAS + 1);
    assert_non_null(balance_past_find(&past, ids[0]));
    assert_null(balance_past_find(&past, ids[BALANCE_PAST_REPLICAS]));
    for (int i = 0; i < HISTORY_SAMPLES; i++) /* without the first one, until it is forgotten */
        balance_past_add(&past, samples + 1, BALANCE_PAST_REPLICAS);
    const struct balance_past_replica *r = balance_past_find(&past, ids[BALANCE_PAST_REPLICAS]);
    assert_non_null(r);
    assert_int_equal(balance_past_at(&past, r, HISTORY_SAMPLES - 1), BALANCE_PAST_REPLICAS);
    assert_null(balance_past_find(&past, ids[0]));
}

/* ---- the document ---- */

static const struct balancer_config config = BALANCER_CONFIG_DEFAULT;
static const struct balancer_record records[] = {
    {.id = "a", .live = 290, .weight = 100, .state = BALANCER_SERVING, .mode = BALANCER_ON},
    {.id = "b", .live = 5, .weight = 100, .state = BALANCER_STARTING, .mode = BALANCER_DRY_RUN},
};

static struct facts_balance two_replicas(void)
{
    struct facts_balance f = {
        .view = {.config = &config,
                 .replica_id = "a",
                 .group = "default",
                 .now_ms = 100000,
                 .redis_url = "redis://localhost",
                 .is_store_up = true,
                 .store_since_ms = 40000,
                 .store_error = "",
                 .round_trip_us = 450,
                 .answered_ms = 98000,
                 .decision = {.phase = BALANCER_RELEASE,
                              .why = BALANCER_WHY_NEEDY_PEER,
                              .live = 300,
                              .expected = 150,
                              .surplus = 150,
                              .in_flight = 7,
                              .beat_age_ms = 2000},
                 .counters = {.released = 12},
                 .peer_count = 2,
                 .change_count = 1},
        .peers = {{.record = &records[0], .expected = 150, .is_self = true},
                  {.record = &records[1], .expected = 150, .age_ms = 1200}},
        .peer_count = 2,
        .changes = {{.at_ms = 96500,
                     .decision = {.phase = BALANCER_DETECT, .why = BALANCER_WHY_SECOND_BEAT}}},
        .change_count = 1};
    return f;
}

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void test_document(void **state)
{
    static struct balance_past past;
    (void)state;
    struct facts_balance f = two_replicas();
    facts_balance_remember(&past, &f);
    facts_balance_remember(&past, &f);
    f.peer_count = 1;
    facts_balance_remember(&past, &f);
    f.peer_count = 2;

    json_t *json = facts_balance_json(&f, &past);
    assert_string_equal(text(json, "mode"), "on");
    json_t *decision = json_object_get(json, "decision");
    assert_string_equal(text(decision, "phase"), "release");
    assert_string_equal(text(decision, "why"), "needy_peer");
    assert_string_equal(text(decision, "text"), "a peer lacks more than its tolerance");
    assert_int_equal(number(decision, "surplus"), 150);
    assert_true(json_real_value(json_object_get(decision, "beat_age_s")) == 2.0);
    json_t *redis = json_object_get(json, "redis");
    assert_true(json_is_true(json_object_get(redis, "connected")));
    assert_true(json_real_value(json_object_get(redis, "since_s")) == 60.0);

    json_t *a = json_array_get(json_object_get(json, "replicas"), 0);
    json_t *b = json_array_get(json_object_get(json, "replicas"), 1);
    assert_true(json_is_true(json_object_get(a, "is_self")));
    assert_int_equal(number(a, "live"), 300); /* now, not when it beat last */
    assert_int_equal(number(b, "live"), 5);
    assert_string_equal(text(b, "state"), "starting");
    assert_string_equal(text(b, "mode"), "dry-run");
    assert_int_equal(number(b, "age_ms"), 1200);
    json_t *values = json_object_get(b, "connections");
    assert_int_equal(json_array_size(values), 2);
    assert_int_equal(json_integer_value(json_array_get(values, 0)), 5);
    assert_true(json_is_null(json_array_get(values, 1)));

    json_t *change = json_array_get(json_object_get(json, "changes"), 0);
    assert_string_equal(text(change, "why"), "second_beat");
    assert_true(json_real_value(json_object_get(change, "ago_s")) == 3.5);
    json_decref(json);
}

static void test_alone(void **state)
{
    static struct balance_past past;
    (void)state;
    struct facts_balance f = {
        .view = {.config = &config,
                 .replica_id = "a",
                 .group = "default",
                 .decision = {.why = BALANCER_WHY_HOLD_STORE_AWAY, .beat_age_ms = BALANCER_NEVER}}};
    json_t *json = facts_balance_json(&f, &past);
    assert_true(json_is_null(json_object_get(json, "redis")));
    assert_true(json_is_null(json_object_get(json_object_get(json, "decision"), "beat_age_s")));
    assert_int_equal(json_array_size(json_object_get(json, "replicas")), 0);
    json_decref(json);
}

static void test_document_without_memory(void **state)
{
    static struct balance_past past;
    (void)state;
    struct facts_balance f = two_replicas();
    facts_balance_remember(&past, &f);
    facts_balance_remember(&past, &f);
    json_set_alloc_funcs(malloc, free); /* jansson's, which count as ours from here on */
    bool failed = true;
    for (unsigned n = 1; failed; n++) {
        heap_fail_nth(n);
        json_t *json = facts_balance_json(&f, &past);
        failed = heap_fail_end();
        assert_true(failed || json);
        json_decref(json);
    }
}

/* ---- metrics ---- */

static void expect_line(const char *text_, const char *line)
{
    const char *at = strstr(text_, line);
    assert_non_null(at);
    assert_true((at == text_ || at[-1] == '\n') && at[strlen(line)] == '\n');
}

static void test_metrics(void **state)
{
    struct metric_text out = {0};
    (void)state;
    struct facts_balance f = two_replicas();
    facts_balance_render(&out, &f);
    expect_line(out.bytes, "isthmus_balance_expected_connections 150");
    expect_line(out.bytes, "isthmus_balance_surplus_connections 150");
    expect_line(out.bytes, "isthmus_balance_replicas 2");
    expect_line(out.bytes, "isthmus_balance_released_total 12");
    expect_line(out.bytes, "isthmus_balance_phase{phase=\"release\"} 1");
    expect_line(out.bytes, "isthmus_balance_phase{phase=\"detect\"} 0");
    free(out.bytes);
    out = (struct metric_text){0};
    f.view.decision.beat_age_ms = BALANCER_NEVER;
    f.view.decision.surplus = -3;
    facts_balance_render(&out, &f);
    expect_line(out.bytes, "isthmus_balance_beat_age_seconds 60"); /* away for so long */
    expect_line(out.bytes, "isthmus_balance_surplus_connections -3");
    free(out.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas_come_and_go),
        cmocka_unit_test(test_the_oldest_is_forgotten),
        cmocka_unit_test(test_there_are_too_many),
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_document_without_memory),
        cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
