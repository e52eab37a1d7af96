/* What a replica says of itself: which checks decide which question, their texts, and documents in
 * all states. */
#include "hub/facts.h"

#include "hub/hub_metrics.h"
#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct config config = {.replica_id = "replica-1", .max_connections = 100};

static struct facts all_is_well(void)
{
    struct facts f = {.config = &config,
                      .version = "v1",
                      .api_server = "https://api:6443",
                      .now_ms = 70000,
                      .started_ms = 10000,
                      .accepts = true,
                      .is_api_healthy = true,
                      .api_text = "ok",
                      .pulse_count = 2};
    strcpy(f.pulses[0].name, "hub-0");
    strcpy(f.pulses[1].name, "upstream-0");
    f.pulses[1].age_ms = PULSE_LATE_MS - 1;
    return f;
}

static void expect(const struct facts *f, bool live, bool ready, bool accepting)
{
    assert_int_equal(health_check(f, HEALTH_LIVE, NULL), live);
    assert_int_equal(health_check(f, HEALTH_READY, NULL), ready);
    assert_int_equal(health_check(f, HEALTH_ACCEPTING, NULL), accepting);
}

static void expect_text(const struct facts *f, enum health which, const char *expected)
{
    struct metric_text text = {0};
    bool ok = health_check(f, which, &text);
    assert_string_equal(text.bytes, expected);
    assert_int_equal(ok, strstr(expected, "[-]") == NULL);
    free(text.bytes);
}

static void test_all_is_well(void **state)
{
    (void)state;
    struct facts f = all_is_well();
    expect(&f, true, true, true);
    expect_text(&f, HEALTH_LIVE, "[+]loops ok\n");
    expect_text(&f, HEALTH_READY, "[+]loops ok\n[+]serving ok\n[+]api-server ok\n");
    expect_text(&f, HEALTH_ACCEPTING, "[+]loops ok\n[+]serving ok\n[+]room ok\n");
}

static void test_a_thread_that_hangs(void **state)
{
    (void)state;
    struct facts f = all_is_well();
    f.pulses[0].age_ms = PULSE_LATE_MS;
    expect(&f, false, false, false);
    expect_text(&f, HEALTH_LIVE, "[-]loops failed: hub-0 silent for 10 s\n");
    f.pulse_count = 0; /* not even the thread that asks */
    expect(&f, false, false, false);
    expect_text(&f, HEALTH_LIVE, "[-]loops no thread reports\n");
}

/* Nothing that a restart would not mend makes it dead. */
static void test_without_an_api_server_it_lives_and_accepts(void **state)
{
    (void)state;
    struct facts f = all_is_well();
    f.is_api_healthy = false;
    f.api_text = "connection refused";
    expect(&f, true, false, true);
    expect_text(&f, HEALTH_READY,
                "[+]loops ok\n[+]serving ok\n[-]api-server failed: connection refused\n");
}

static void test_full_is_ready_all_the_same(void **state)
{
    (void)state;
    struct facts f = all_is_well();
    f.accepts = false;
    expect(&f, true, true, false);
    expect_text(&f, HEALTH_ACCEPTING,
                "[+]loops ok\n[+]serving ok\n[-]room failed: takes no new connections\n");
}

static void test_draining(void **state)
{
    (void)state;
    struct facts f = all_is_well();
    f.is_draining = true;
    f.accepts = false;
    expect(&f, true, false, false);
    expect_text(&f, HEALTH_READY, "[+]loops ok\n[-]serving failed: draining\n[+]api-server ok\n");
}

/* A text that cannot be made changes no verdict. */
static void test_out_of_memory(void **state)
{
    (void)state;
    bool failed = true;
    for (unsigned n = 1; failed; n++) {
        struct facts f = all_is_well();
        struct metric_text text = {0};
        heap_fail_nth(n);
        bool ok = health_check(&f, HEALTH_READY, &text);
        facts_render_metrics(&text, &f);
        failed = heap_fail_end();
        assert_true(ok);
        assert_int_equal(text.failed != 0, failed);
        free(text.bytes);
    }
}

static void test_metrics_that_are_read(void **state)
{
    (void)state;
    struct facts f = all_is_well();
    struct metric_text text = {0};
    f.process.open_files = 42;
    facts_render_metrics(&text, &f);
    assert_non_null(strstr(text.bytes, "\nisthmus_ready 1\n"));
    assert_non_null(strstr(text.bytes, "\nisthmus_max_connections 100\n"));
    assert_non_null(strstr(text.bytes, "\nprocess_open_fds 42\n"));
    assert_non_null(strstr(text.bytes, "\nisthmus_loop_silence_seconds 9.99"));
    assert_non_null(strstr(text.bytes, "\nisthmus_build_info{version=\"v1\"} 1\n"));
    free(text.bytes);
    text = (struct metric_text){0};
    f.is_draining = true;
    facts_render_metrics(&text, &f);
    assert_non_null(strstr(text.bytes, "\nisthmus_ready 0\n"));
    free(text.bytes);
}

/* Each metric stands in the table of the documentation once. */
static void test_the_table_of_metrics(void **state)
{
    (void)state;
    struct metric_text text = {0};
    facts_metrics_markdown(&text);
    for (size_t i = 0; i < HUB_METRIC_COUNT; i++) {
        char row[128];
        snprintf(row, sizeof(row), "\n| `%s` |", hub_metrics[i].name);
        const char *found = strstr(text.bytes, row);
        assert_non_null(found);
        assert_null(strstr(found + 1, row));
    }
    assert_non_null(strstr(text.bytes, "| `process_open_fds` | gauge |"));
    free(text.bytes);
}

static json_t *document(const struct facts *f, const struct facts_past *h)
{
    json_t *json = facts_to_json(f, h);
    assert_non_null(json);
    return json;
}

static json_t *at(json_t *json, const char *key)
{
    json_t *value = json_object_get(json, key);
    assert_non_null(value);
    return value;
}

static void test_the_status(void **state)
{
    (void)state;
    static struct facts_past h;
    struct facts f = all_is_well();
    json_t *json = document(&f, &h); /* of a replica that has just begun */
    assert_string_equal(json_string_value(at(json, "replica")), "replica-1");
    assert_string_equal(json_string_value(at(json, "state")), "serving");
    assert_int_equal(json_integer_value(at(json, "uptime_s")), 60);
    assert_true(json_is_true(at(json, "ready")));
    assert_int_equal(json_array_size(at(json, "lanes")), LANE_COUNT);
    json_t *event = json_array_get(at(json, "lanes"), LANE_EVENT);
    assert_string_equal(json_string_value(at(event, "name")), "event");
    assert_true(json_is_null(at(event, "p99_ms"))); /* no answer, no latency */
    assert_int_equal(json_array_size(at(json, "threads")), 2);
    assert_int_equal(json_array_size(at(at(json, "history"), "connections")), 0);
    json_decref(json);

    f.is_draining = true;
    for (uint32_t i = 0; i < 3; i++) {
        struct history_sample s = {.at_ms = i * HISTORY_STEP_MS, .connections = i};
        s.received[LANE_EVENT] = 20 * i;
        s.buckets[LANE_EVENT][2] = 20 * i;
        history_add(&h.history, &s);
    }
    json = document(&f, &h);
    assert_string_equal(json_string_value(at(json, "state")), "draining");
    event = json_array_get(at(json, "lanes"), LANE_EVENT);
    assert_float_equal(json_real_value(at(event, "received_per_s")), 10, 1e-9);
    assert_true(json_real_value(at(event, "p99_ms")) > 0);
    assert_int_equal(json_array_size(at(at(json, "history"), "connections")), 2);
    json_decref(json);
}

static int set_up(void **state)
{
    (void)state;
    return hub_metrics_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_well),
        cmocka_unit_test(test_a_thread_that_hangs),
        cmocka_unit_test(test_without_an_api_server_it_lives_and_accepts),
        cmocka_unit_test(test_full_is_ready_all_the_same),
        cmocka_unit_test(test_draining),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_metrics_that_are_read),
        cmocka_unit_test(test_the_table_of_metrics),
        cmocka_unit_test(test_the_status),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
