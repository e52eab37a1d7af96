/* Bridging leases against a scripted API server: what is asked when, and how each bridge ends. */
#include "hub/bridge.h"

#include "hub/hub_metrics.h"
#include "hub/lease.h"
#include "test/lib/apitest.h"
#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PERIOD_MS  60
#define LONGEST_MS 400

struct fixture {
    struct apitest api;
    struct bridges bridges;
    uv_timer_t ticker;
    uv_timer_t delay;
    unsigned delay_ms; /* before it answers, one request at a time */
    struct h2stream *held;
    char answer[512];     /* the last that was carried out: how the lease stands */
    bool is_stored;       /* a renewal is carried out even if the answer is no success */
    int status;           /* what the server answers */
    unsigned asked, read; /* renewals and reads it got */
    char path[1024], user[128], time[64], version[32]; /* of the last one */
};

static void on_delay(uv_timer_t *delay)
{
    struct fixture *f = delay->data;
    h2stream_json(f->held, f->status, f->answer);
}

static void on_request(void *context, struct h2stream *stream)
{
    struct fixture *f = context;
    if (strcmp(stream->method, "GET") == 0) {
        f->read++;
        h2stream_json(stream, 200, f->answer);
        return;
    }
    json_t *lease = json_loadb(stream->body, stream->size, 0, NULL);
    assert_non_null(lease);
    const char *time =
        json_string_value(json_object_get(json_object_get(lease, "spec"), "renewTime"));
    const char *version =
        json_string_value(json_object_get(json_object_get(lease, "metadata"), "resourceVersion"));
    assert_string_equal("PUT", stream->method);
    snprintf(f->path, sizeof(f->path), "%s", stream->path);
    snprintf(f->user, sizeof(f->user), "%s", stream->impersonate_user);
    assert_string_equal(*f->user ? "system:nodes" : "", stream->impersonate_group);
    snprintf(f->time, sizeof(f->time), "%s", time);
    snprintf(f->version, sizeof(f->version), "%s", version);
    if (f->status == 200 || f->is_stored)
        snprintf(f->answer, sizeof(f->answer),
                 "{\"metadata\":{\"resourceVersion\":\"%d\"},\"spec\":{\"renewTime\":\"%s\"}}",
                 atoi(version) + 1, time);
    json_decref(lease);
    f->asked++;
    f->held = stream;
    if (f->delay_ms > 0)
        uv_timer_start(&f->delay, on_delay, f->delay_ms, 0);
    else
        h2stream_json(stream, f->status, f->status == 200 ? f->answer : "{\"kind\":\"Status\"}");
}

static void on_tick(uv_timer_t *ticker)
{
    struct fixture *f = ticker->data;
    bridges_tick(&f->bridges, uv_now(&f->api.loop));
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct h2server_options options = {.on_request = on_request, .context = f};
    apitest_init(&f->api, &options);
    f->api.options.channels[0] = (struct apiclient_channel){.connections = 1, .max_streams = 8};
    f->api.options.channel_count = 1;
    apitest_client(&f->api);
    f->status = 200;
    snprintf(f->answer, sizeof(f->answer),
             "{\"metadata\":{\"resourceVersion\":\"5\"},"
             "\"spec\":{\"renewTime\":\"2026-11-28T03:00:00.000000Z\"}}");
    bridges_init(&f->bridges, &f->api.loop, f->api.client, "system:nodes", PERIOD_MS, LONGEST_MS);
    uv_timer_init(&f->api.loop, &f->ticker);
    uv_timer_init(&f->api.loop, &f->delay);
    f->ticker.data = f->delay.data = f;
    uv_timer_start(&f->ticker, on_tick, 5, 5);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    uv_close((uv_handle_t *)&f->ticker, NULL);
    uv_close((uv_handle_t *)&f->delay, NULL);
    bridges_close(&f->bridges);
    assert_int_equal(0, bridges_count(&f->bridges));
    apitest_fini(&f->api);
    assert_int_equal(0, metric_value(&hub_metrics[M_BRIDGED_NODES], 0, 0));
    free(f);
    return 0;
}

static json_t *lease(void)
{
    return json_pack("{s:{s:s}, s:{s:s}}", "metadata", "resourceVersion", "5", "spec", "renewTime",
                     "2026-11-28T03:00:00.000000Z");
}

static bool add(struct fixture *f, const char *name, bool as_node)
{
    struct node_name *node = node_name_create(name, strlen(name), false);
    bool is = bridges_add(&f->bridges, node, lease(), as_node, uv_now(&f->api.loop));
    node_name_put(node);
    return is;
}

static int64_t ended(enum bridge_end why)
{
    return metric_value(&hub_metrics[M_BRIDGE_ENDS], why, 0);
}

/* Runs until the number of bridges is 0. */
static void wait_for_the_end(struct fixture *f)
{
    for (int i = 0; i < 1000 && bridges_count(&f->bridges) > 0; i++)
        apitest_run_for(&f->api, 10);
    assert_int_equal(0, bridges_count(&f->bridges));
}

static int64_t ahead_us(const struct fixture *f)
{
    int64_t start, now;
    assert_int_equal(0, lease_time_parse("2026-11-28T03:00:00.000000Z", &start));
    assert_int_equal(0, lease_time_parse(f->time, &now));
    return now - start;
}

static void test_the_nodes_own_time_goes_on(void **state)
{
    struct fixture *f = *state;
    assert_true(add(f, "edge-1", true));
    assert_int_equal(0, f->asked); /* the lease is fresh */
    apitest_wait(&f->api, &f->asked, 3);
    assert_string_equal("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1",
                        f->path);
    assert_string_equal("system:node:edge-1", f->user);
    assert_string_equal("7", f->version); /* what the answer before brought */
    assert_true(ahead_us(f) >= 3 * PERIOD_MS * 1000);
    assert_true(ahead_us(f) < 60 * 1000000); /* not our clock */
    assert_int_equal(1, bridges_count(&f->bridges));
}

/* The time that the API server takes is time, too. */
static void test_a_slow_api_server_makes_no_lease_older(void **state)
{
    struct fixture *f = *state;
    f->delay_ms = 40;
    assert_true(add(f, "edge-1", true));
    apitest_wait(&f->api, &f->asked, 3);
    assert_true(ahead_us(f) >= (3 * PERIOD_MS + 2 * 40 - 10) * 1000);
}

static void test_it_ends_when_its_time_is_over(void **state)
{
    struct fixture *f = *state;
    int64_t before = ended(BRIDGE_EXPIRED);
    assert_true(add(f, "edge-1", false));
    wait_for_the_end(f);
    assert_string_equal("", f->user);
    assert_int_equal(before + 1, ended(BRIDGE_EXPIRED));
    assert_true(f->asked >= 2);
}

static void end_with(struct fixture *f, int status, enum bridge_end why)
{
    int64_t before = ended(why);
    f->status = status;
    assert_true(add(f, "edge-1", true));
    wait_for_the_end(f);
    assert_int_equal(before + 1, ended(why));
    assert_int_equal(1, f->asked);
}

static void test_a_conflict_ends_it(void **state)
{
    end_with(*state, 409, BRIDGE_TAKEN_BACK);
}

static void test_a_refusal_ends_it(void **state)
{
    end_with(*state, 403, BRIDGE_REFUSED);
}

static void test_an_api_server_that_fails_does_not(void **state)
{
    struct fixture *f = *state;
    f->status = 500;
    assert_true(add(f, "edge-1", true));
    apitest_wait(&f->api, &f->asked, 2);
    assert_int_equal(1, f->read);
    assert_string_equal("5", f->version);
    assert_int_equal(1, bridges_count(&f->bridges));
    f->status = 200;
    apitest_wait(&f->api, &f->asked, 4);
    assert_string_equal("6", f->version);
}

/* The API server carried it out and failed then: our own write is no sign of the node. */
static void test_a_renewal_in_doubt_is_looked_up(void **state)
{
    struct fixture *f = *state;
    f->status = 500;
    f->is_stored = true;
    assert_true(add(f, "edge-1", true));
    apitest_wait(&f->api, &f->asked, 1);
    f->status = 200;
    apitest_wait(&f->api, &f->asked, 2);
    assert_int_equal(1, f->read);
    assert_string_equal("6", f->version);
    assert_true(ahead_us(f) >= 2 * PERIOD_MS * 1000);
    assert_int_equal(1, bridges_count(&f->bridges));
}

static void test_a_renewal_in_doubt_that_the_node_has_taken_over(void **state)
{
    struct fixture *f = *state;
    int64_t before = ended(BRIDGE_TAKEN_BACK);
    f->status = 500;
    assert_true(add(f, "edge-1", true));
    apitest_wait(&f->api, &f->asked, 1);
    snprintf(f->answer, sizeof(f->answer),
             "{\"metadata\":{\"resourceVersion\":\"9\"},"
             "\"spec\":{\"renewTime\":\"2026-11-28T03:00:07.000000Z\"}}");
    wait_for_the_end(f);
    assert_int_equal(before + 1, ended(BRIDGE_TAKEN_BACK));
    assert_int_equal(1, f->asked);
}

static void test_the_node_itself_ends_it(void **state)
{
    struct fixture *f = *state;
    int64_t before = ended(BRIDGE_RETURNED);
    struct node_name *node = node_name_create("edge-1", 6, false);
    assert_true(add(f, "edge-1", true));
    assert_true(add(f, "edge-2", true));
    bridges_end(&f->bridges, node);
    bridges_end(&f->bridges, node);
    assert_int_equal(1, bridges_count(&f->bridges));
    assert_int_equal(before + 1, ended(BRIDGE_RETURNED));
    apitest_wait(&f->api, &f->asked, 2);
    assert_non_null(strstr(f->path, "edge-2"));
    node_name_put(node);
}

/* Also while its request is under way. */
static void test_many_come_and_go(void **state)
{
    struct fixture *f = *state;
    char name[16];
    srandom(7);
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "edge-%ld", random() % 40);
        struct node_name *node = node_name_create(name, strlen(name), false);
        if (random() % 3 == 0)
            bridges_end(&f->bridges, node);
        else
            assert_true(add(f, name, true));
        node_name_put(node);
        if (random() % 8 == 0)
            apitest_run_for(&f->api, 5);
    }
    wait_for_the_end(f);
}

static void test_without_memory(void **state)
{
    struct fixture *f = *state;
    for (unsigned n = 1;; n++) {
        struct node_name *node = node_name_create("edge-1", 6, false);
        json_t *l = lease();
        heap_fail_nth(n);
        bool is = bridges_add(&f->bridges, node, l, true, uv_now(&f->api.loop));
        bool has_failed = heap_fail_end();
        node_name_put(node);
        assert_int_equal(is ? 1 : 0, bridges_count(&f->bridges));
        assert_true(is || has_failed);
        if (!has_failed)
            break;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static int set_up_all(void **state)
{
    (void)state;
    return hub_metrics_init(); /* once: it lives as long as the process */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_nodes_own_time_goes_on),
        TEST(test_a_slow_api_server_makes_no_lease_older),
        TEST(test_it_ends_when_its_time_is_over),
        TEST(test_a_conflict_ends_it),
        TEST(test_a_refusal_ends_it),
        TEST(test_an_api_server_that_fails_does_not),
        TEST(test_a_renewal_in_doubt_is_looked_up),
        TEST(test_a_renewal_in_doubt_that_the_node_has_taken_over),
        TEST(test_the_node_itself_ends_it),
        TEST(test_many_come_and_go),
        TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, set_up_all, NULL);
}
