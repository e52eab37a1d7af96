/* The balancer's runtime with a real redis-server: several replicas on one loop, and nodes that
 * move only when the test lets them. What goes wrong is test_balance_faults.c's. */
#include "test/lib/redistest.h"

#include "test/lib/testcert.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the ordinary course ---- */

static void test_records(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_world_join(w, "a", f->server.url, NULL, NULL);
    test_world_join(w, "b", f->server.url, NULL, NULL);
    test_world_join(w, "c", f->server.url, NULL, NULL);
    w->replicas[1].max_connections = 50;
    for (size_t i = 0; i < 3; i++)
        test_world_arrive(w, i, 10 * i, 10);
    test_world_wait(w, test_see_each_other, "all see all");
    test_wait_for_why(w, BALANCER_WHY_HOLD_EPOCH); /* the store is new */
    test_world_wait(w, test_have_calmed_down, "balanced");
    for (size_t i = 0; i < 3; i++) {
        struct balance_peer peer;
        balancer_read_peer(w->replicas[0].b, i, &peer);
        assert_int_equal(peer.record->id[0], 'a' + i);
        assert_int_equal(peer.record->live, 10);
        assert_int_equal(peer.expected, 10);
        assert_int_equal(peer.is_self, i == 0);
        assert_true(peer.is_taker && peer.record->state == BALANCER_SERVING);
        assert_true(i != 1 || peer.record->room == 40);
    }
    /* One that leaves is gone with the next beat; what it held is lost. */
    test_world_leave(w, 2);
    assert_null(strstr(ASK(&f->server, "HKEYS", "isthmus:{default}:records"), "c/"));
    assert_string_equal(ASK(&f->server, "HVALS", "isthmus:{default}:lost_n"), "10");
    w->count = 2;
    test_world_wait(w, test_see_each_other, "the others see that");
}

/* Sixty nodes become thirty and thirty, and at every moment each is counted exactly once. */
static void test_balancing(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    test_wait_for_why(w, BALANCER_WHY_SURPLUS);
    w->total_expected = 60;
    w->replicas[0].is_lazy = false;
    test_world_wait(w, test_are_even, "even");
    assert_int_equal(w->replicas[0].count, 30);
    assert_int_equal(w->replicas[0].released, 30);
    assert_int_equal(w->replicas[1].moved, 30);
    assert_int_equal(test_view_of(w, 1).counters.moved, 30);
    assert_int_equal(test_view_of(w, 0).counters.rounds, 1);
    assert_string_equal(ASK(&f->server, "ZCARD", "isthmus:{default}:flight"), "0");
    assert_string_equal(ASK(&f->server, "HGET", "isthmus:{default}:stat", "landed"), "30");
}

static bool has_ordered(struct test_world *w)
{
    return w->replicas[0].ordered > 0;
}

/* An order is given once, and the next when it was carried out, even if nobody was found. */
static void test_order_once(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    test_world_wait(w, has_ordered, "an order");
    unsigned ordered = w->replicas[0].ordered;
    test_world_run(w, 100);
    assert_int_equal(w->replicas[0].ordered, ordered);
    balancer_order_done(w->replicas[0].b);
    w->replicas[0].ordered = 0;
    test_world_wait(w, has_ordered, "another order");
}

/* One that takes long holds up only others, and none of its nodes is ordered away twice: the
 * surplus is 30, of which 25 are leaving. */
static void test_slow_order(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    w->config.observe_ms = 60000; /* not to find that there are no victims */
    test_set_the_scene(w, f->server.url, 60);
    test_world_wait(w, has_ordered, "an order");
    unsigned ordered = w->replicas[0].ordered;
    w->replicas[0].leaving = 25;
    test_world_run(w, BALANCE_ORDER_MS / 2);
    assert_int_equal(w->replicas[0].ordered, ordered);
    w->replicas[0].ordered = 0;
    test_world_wait(w, has_ordered, "an order for the others");
    assert_true(w->replicas[0].ordered <= 5);
}

static bool has_released(struct test_world *w)
{
    return w->replicas[0].released >= 30 && test_view_of(w, 0).unreported == 0;
}

/* What comes home is told at once, and a round that does is futile. */
static void test_futile(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    w->replicas[0].is_lazy = false;
    test_world_wait(w, has_released, "released");
    w->replicas[0].is_lazy = true;
    test_world_land(w, 0);
    assert_int_equal(w->replicas[0].moved, 30);
    assert_int_equal(test_view_of(w, 0).counters.returned, 30);
    test_wait_for_why(w, BALANCER_WHY_FUTILE_HOME);
    assert_int_equal(w->replicas[0].decision.phase, BALANCER_BACKOFF);
    assert_int_equal(test_view_of(w, 0).counters.futile_rounds, 1);
    const struct balance_change *change = balancer_read_change(w->replicas[0].b, 0);
    assert_int_equal(change->decision.why, BALANCER_WHY_FUTILE_HOME);
    assert_int_equal(change->decision.round_home, 30);
}

static bool has_flights(struct test_world *w)
{
    return w->replicas[0].flight_count > 0;
}

static bool has_no_flights(struct test_world *w)
{
    return w->replicas[0].flight_count == 0;
}

static void test_flight_list(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    w->replicas[0].is_lazy = false;
    test_world_wait(w, has_flights, "the list of nodes in flight");
    assert_true(w->replicas[0].flight.is_bridged);
    assert_int_equal(w->replicas[0].flight.refusals, 0);
    assert_true(w->replicas[0].flight.since_release_ms < 600);
    balancer_refused(w->replicas[0].b, w->away[0]);
    test_world_land(w, 1);
    test_world_wait(w, has_no_flights, "nobody is in flight");
    test_world_run(w, 500);
    unsigned calls = w->replicas[0].flight_calls;
    test_world_run(w, 500);
    assert_int_equal(w->replicas[0].flight_calls, calls); /* forgotten once, not asked for again */
}

static bool is_drained(struct test_world *w)
{
    return w->replicas[0].decision.is_drained;
}

static void test_drain(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    w->total_expected = 60;
    w->replicas[0].is_lazy = false;
    w->replicas[0].is_draining = true;
    test_world_wait(w, is_drained, "drained");
    test_world_land(w, 1);
    test_world_leave(w, 0);
    test_world_run(w, 600);
    assert_int_equal(w->replicas[1].decision.live, 60);
    assert_int_equal(w->replicas[1].decision.in_flight, 0);
}

static void test_alone(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_world_join(w, "a", NULL, NULL, NULL);
    test_world_arrive(w, 0, 0, 20);
    test_world_run(w, 300);
    assert_int_equal(w->replicas[0].decision.why, BALANCER_WHY_HOLD_STORE_AWAY);
    assert_null(test_view_of(w, 0).redis_url);
    w->replicas[0].is_draining = true;
    test_world_wait(w, is_drained, "drained all the same");
    assert_int_equal(w->replicas[0].released, 20);
}

/* ---- several of them ---- */

static bool last_is_twin(struct test_world *w)
{
    return w->replicas[w->count - 1].decision.why == BALANCER_WHY_HOLD_TWIN;
}

static void test_twins(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 40);
    size_t twin = test_world_join(w, "a", f->server.url, NULL, NULL);
    test_world_arrive(w, twin, 100, 20);
    test_world_run(w, 800);
    test_world_wait(w, last_is_twin, "it knows that it is the second");
    assert_int_equal(w->replicas[twin].ordered, 0);
    assert_int_not_equal(w->replicas[0].decision.why, BALANCER_WHY_HOLD_TWIN);
}

static void test_groups(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_world_join(w, "a", f->server.url, "east", NULL);
    test_world_join(w, "a", f->server.url, "west", NULL);
    test_world_arrive(w, 0, 0, 10);
    test_world_run(w, 800);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(test_view_of(w, i).peer_count, 1);
        assert_int_equal(w->replicas[i].decision.total, i == 0 ? 10 : 0);
    }
    assert_non_null(strstr(ASK(&f->server, "KEYS", "*"), "isthmus:{west}:records"));
}

static bool has_a_stranger(struct test_world *w)
{
    return test_view_of(w, 0).unknown_versions == 1 && test_view_of(w, 0).peer_count == 2;
}

static void test_other_versions(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    char now[160];
    test_world_join(w, "a", f->server.url, NULL, NULL);
    test_world_wait(w, test_first_is_up, "up");
    char *rest;
    unsigned long long seconds = strtoull(ASK(&f->server, "TIME"), &rest, 10);
    unsigned long long ms = seconds * 1000 + strtoull(rest, NULL, 10) / 1000;
    snprintf(now, sizeof(now), "%llu %llu 1 0 7 2 what ever", ms, ms);
    ASK(&f->server, "HSET", "isthmus:{default}:records", "z/00000000000000ff", now);
    test_world_wait(w, has_a_stranger, "the other one is seen");
    test_world_run(w, 30);
    assert_int_equal(w->replicas[0].decision.total, 7); /* counted, */
    assert_int_equal(w->replicas[0].decision.peers, 0); /* not obeyed */
}

/* ---- addresses and the end ---- */

static void test_addresses(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    char url[128];
    char *const text = url;
    unsigned port = 20000 + (unsigned)getpid() % 10000;
    char number[16];
    snprintf(number, sizeof(number), "%u", port);
    ASK(&f->server, "CONFIG", "SET", "bind", "127.0.0.1 ::1");
    if (strcmp(ASK(&f->server, "CONFIG", "SET", "port", number), "OK") != 0)
        skip();
    static const char *const hosts[] = {"127.0.0.1", "[::1]", "localhost"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(text, sizeof(url), "redis://%s:%u/%zu", hosts[i], port, i);
        test_world_join(w, "a", url, NULL, NULL);
        test_world_wait(w, test_first_is_up, hosts[i]);
        assert_string_equal(test_view_of(w, 0).redis_url, url);
        test_world_leave(w, 0);
        w->count = 0;
    }
    test_world_join(w, "a", "redis://name.invalid:1", NULL, NULL);
    test_world_wait(w, test_first_is_down, "a name that does not exist");
    assert_non_null(strstr(test_view_of(w, 0).store_error, "the name: "));
}

static void write_file(const struct redis_server *s, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", s->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void start_with_tls(struct redis_server *s, unsigned port)
{
    char number[16];
    const char *options[] = {"--tls-port",
                             number,
                             "--tls-cert-file",
                             "cert.pem",
                             "--tls-key-file",
                             "key.pem",
                             "--tls-ca-cert-file",
                             "ca.pem",
                             "--tls-auth-clients",
                             "no",
                             NULL};
    snprintf(number, sizeof(number), "%u", port);
    redis_server_stop(s, SIGTERM);
    redis_server_start(s, options);
}

/* Only where hiredis has TLS. The name in the URL must be the certificate's. */
static void test_tls(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    struct testcert ca, cert;
    char url[64];
    unsigned port = 10000 + (unsigned)getpid() % 10000;
    if (balance_check_url("rediss://store", NULL) != 0)
        skip();
    testcert_make(&ca, "test-ca", NULL);
    testcert_make(&cert, "store", &ca);
    write_file(&f->server, "ca.pem", ca.cert_pem);
    write_file(&f->server, "cert.pem", cert.cert_pem);
    write_file(&f->server, "key.pem", cert.key_pem);
    start_with_tls(&f->server, port);

    snprintf(url, sizeof(url), "rediss://127.0.0.1:%u", port);
    test_world_join(w, "a", url, NULL, NULL);
    test_world_wait(w, test_first_is_down, "a CA that nobody knows is refused");
    assert_non_null(strstr(test_view_of(w, 0).store_error, "TLS: "));
    test_world_leave(w, 0);
    w->count = 0;
    char path[128];
    snprintf(path, sizeof(path), "%s/ca.pem", f->server.folder);
    setenv("SSL_CERT_FILE", path, 1);
    static const char *const hosts[] = {"127.0.0.1", "[::1]", "localhost"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(url, sizeof(url), "rediss://%s:%u", hosts[i], port);
        test_world_join(w, "a", url, NULL, NULL);
        test_world_wait(w, test_first_is_up, hosts[i]);
        test_world_leave(w, 0);
        w->count = 0;
    }
    snprintf(url, sizeof(url), "rediss://127.0.0.2:%u", port);
    test_world_join(w, "a", url, NULL, NULL);
    test_world_wait(w, test_first_is_down, "another's certificate is refused");
    unsetenv("SSL_CERT_FILE");
    testcert_fini(&ca);
    testcert_fini(&cert);
}

static void test_refused_at_start(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    struct balance_owner owner = {0};
    struct errbuf e = {{0}};
    struct balancer *b = NULL;
    struct balance_options o = {.config = &w->config, .replica_id = "a", .redis_url = "redis://"};
    assert_true(balancer_create(&w->loop, &o, &owner, &b, &e) < 0);
    assert_non_null(strstr(e.text, "--redis: the host"));
    o.redis_url = "rediss://store";
    if (balance_check_url(o.redis_url, NULL) != 0) {
        assert_true(balancer_create(&w->loop, &o, &owner, &b, &e) < 0);
        assert_non_null(strstr(e.text, "rediss:// needs hiredis 1.0"));
    }
    o.redis_url = f->server.url;
    o.password_file = "/nowhere/password";
    assert_true(balancer_create(&w->loop, &o, &owner, &b, &e) < 0);
    assert_non_null(strstr(e.text, "--redis-password-file /nowhere/password: No such file"));
    assert_null(b);
}

/* Closing never waits longer than the store's time limit, whatever the store does. */
static void test_close_bounded(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 10);
    kill(f->server.pid, SIGSTOP);
    uint64_t begun_ms = uv_hrtime() / 1000000;
    test_world_leave(w, 0);
    assert_true(uv_hrtime() / 1000000 - begun_ms < 5000);
    kill(f->server.pid, SIGCONT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_store_set_up, test_store_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_records),
        TEST(test_balancing),
        TEST(test_order_once),
        TEST(test_slow_order),
        TEST(test_futile),
        TEST(test_flight_list),
        TEST(test_drain),
        TEST(test_alone),
        TEST(test_twins),
        TEST(test_groups),
        TEST(test_other_versions),
        TEST(test_addresses),
        TEST(test_tls),
        TEST(test_refused_at_start),
        TEST(test_close_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
