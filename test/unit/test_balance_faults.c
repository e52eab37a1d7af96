/* The balancer's runtime when the store fails: away, slow, emptied, refusing, talking nonsense.
 * Whatever happens, nothing is released on it, nothing is booked twice, and it recovers. */
#include "test/lib/redistest.h"

#include "test/lib/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the store fails ---- */

static void expect_no_release(struct test_world *w, uint64_t ms)
{
    unsigned before = w->replicas[0].ordered;
    test_world_run(w, ms);
    assert_int_equal(w->replicas[0].ordered, before);
}

static bool has_released(struct test_world *w)
{
    return w->replicas[0].released >= 30 && test_view_of(w, 0).unreported == 0;
}

/* The answers of whole beats get lost, again and again: nothing is booked twice. */
static void test_lost_answers(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    struct proxy *proxy = &f->proxy;
    proxy_start(proxy, &w->loop, &f->server);
    test_set_the_scene(w, proxy->url, 60);
    test_wait_for_why(w, BALANCER_WHY_SURPLUS);
    w->total_expected = 60;
    w->replicas[0].is_lazy = false;
    test_world_wait(w, has_released, "released");
    proxy->mode = PROXY_LOSE;
    proxy->after = 1; /* the greeting */
    test_world_land(w, 1);
    test_world_run(w, 700);
    assert_true(w->replicas[1].beats[BALANCE_BEAT_LOST] > 0);
    proxy->mode = PROXY_PASS;
    test_world_wait(w, test_have_calmed_down, "even");
    assert_int_equal(w->replicas[1].moved, 30);
    assert_string_equal(ASK(&f->server, "HGET", "isthmus:{default}:stat", "landed"), "30");
    assert_string_equal(ASK(&f->server, "ZCARD", "isthmus:{default}:flight"), "0");
}

static void test_stopped(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    redis_server_stop(&f->server, SIGKILL);
    test_world_wait(w, test_first_is_down, "the store is away");
    test_wait_for_why(w, BALANCER_WHY_HOLD_STORE_AWAY);
    assert_true(test_view_of(w, 0).store_error[0] != '\0');
    test_world_arrive(w, 1, 60, 4);
    expect_no_release(w, 500);
    redis_server_start(&f->server, NULL); /* empty */
    test_world_wait(w, test_first_is_up, "the store is back");
    test_wait_for_why(w, BALANCER_WHY_HOLD_EPOCH);
    test_world_wait(w, test_see_each_other, "both see both");
    w->replicas[0].is_lazy = false;
    balancer_order_done(w->replicas[0].b);
    test_world_wait(w, test_are_even, "even");
    assert_int_equal(w->replicas[0].count, 32);
}

static bool beat_was_lost(struct test_world *w)
{
    return w->replicas[0].beats[BALANCE_BEAT_LOST] > 0;
}

/* A store that hangs: the connection is given up in time, and one that hangs still is no success.
 */
static void test_paused(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    kill(f->server.pid, SIGSTOP);
    test_world_wait(w, beat_was_lost, "a beat is lost");
    assert_non_null(strstr(test_view_of(w, 0).store_error, "no answer in time"));
    expect_no_release(w, 800);
    assert_false(test_view_of(w, 0).is_store_up);
    kill(f->server.pid, SIGCONT);
    test_world_wait(w, test_first_is_up, "the store is back");
    w->replicas[0].is_lazy = false;
    balancer_order_done(w->replicas[0].b);
    test_world_wait(w, test_are_even, "even");
}

static void test_flushed(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    test_wait_for_why(w, BALANCER_WHY_SURPLUS);
    balancer_order_done(w->replicas[0].b);
    ASK(&f->server, "FLUSHALL");
    test_wait_for_why(w, BALANCER_WHY_HOLD_EPOCH);
    expect_no_release(w, 700);
    w->replicas[0].is_lazy = false;
    balancer_order_done(w->replicas[0].b);
    test_world_wait(w, test_are_even, "even in the end");
}

static void test_script_flushed(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    test_set_the_scene(w, f->server.url, 60);
    ASK(&f->server, "SCRIPT", "FLUSH");
    unsigned answered = w->replicas[0].beats[BALANCE_BEAT_ANSWERED];
    test_world_run(w, 700);
    assert_true(w->replicas[0].beats[BALANCE_BEAT_ANSWERED] >= answered + 2);
    assert_int_equal(w->replicas[0].beats[BALANCE_BEAT_REFUSED], 0);
    assert_int_equal(test_view_of(w, 0).counters.disconnects, 0);
}

/* ---- the store refuses, or talks nonsense ---- */

static void test_password(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    ASK(&f->server, "CONFIG", "SET", "requirepass", "geheim-1");
    test_world_join(w, "a", f->server.url, NULL, "falsch-99");
    test_world_wait(w, test_first_is_down, "refused");
    assert_non_null(strstr(test_view_of(w, 0).store_error, "AUTH: WRONGPASS"));
    test_world_join(w, "b", f->server.url, NULL, NULL);
    test_world_run(w, 300);
    assert_non_null(strstr(test_view_of(w, 1).store_error, "NOAUTH"));
    const char *words[] = {"CONFIG", "SET", "requirepass", "falsch-99", NULL};
    redis_server_ask(&f->server, "geheim-1", words);
    test_world_wait(w, test_first_is_up, "in with the right one");
    const char *reset[] = {"CONFIG", "SET", "requirepass", "", NULL};
    redis_server_ask(&f->server, "falsch-99", reset);
}

/* A server without AUTH quotes what it was sent; nobody must read that. */
static void test_quoted_password(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    static const char *const options[] = {"--rename-command", "AUTH", "", NULL};
    redis_server_stop(&f->server, SIGTERM);
    redis_server_start(&f->server, options);
    test_world_join(w, "a", f->server.url, NULL, "geheim-12345678");
    test_world_wait(w, test_first_is_down, "refused");
    assert_non_null(strstr(test_view_of(w, 0).store_error, "AUTH: "));
    assert_null(strstr(test_view_of(w, 0).store_error, "geheim"));
}

static bool beat_was_malformed(struct test_world *w)
{
    return w->replicas[0].beats[BALANCE_BEAT_MALFORMED] > 0;
}

static bool error_is_there(struct test_world *w)
{
    return test_view_of(w, 0).counters.disconnects >= 2;
}

static void test_nonsense(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    static const enum proxy_mode modes[] = {PROXY_GARBAGE, PROXY_EXTRA, PROXY_ENDLESS};
    struct proxy *proxy = &f->proxy;
    proxy_start(proxy, &w->loop, &f->server);
    proxy->after = 1;
    for (size_t i = 0; i < 3; i++) {
        proxy->mode = PROXY_PASS;
        test_world_join(w, "a", proxy->url, NULL, NULL);
        test_world_wait(w, test_first_is_up, "up");
        proxy->mode = modes[i];
        test_world_wait(w, error_is_there, "such an answer ends the connection");
        proxy->mode = PROXY_PASS;
        w->replicas[0].beats[BALANCE_BEAT_ANSWERED] = 0;
        test_world_wait(w, test_first_is_up, "up again");
        test_world_leave(w, 0);
        w->count = 0;
    }
    test_world_join(w, "a", proxy->url, NULL, NULL);
    test_world_wait(w, test_first_is_up, "up");
    proxy->mode = PROXY_ODD;
    test_world_wait(w, beat_was_malformed, "an odd answer is counted");
    proxy->mode = PROXY_PASS;
    w->replicas[0].beats[BALANCE_BEAT_ANSWERED] = 0;
    test_world_wait(w, test_first_is_up, "up again");
}

/* Somebody else's data under our keys. */
static void test_wrong_type(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    ASK(&f->server, "SET", "isthmus:{default}:records", "mine");
    test_world_join(w, "a", f->server.url, NULL, NULL);
    test_world_run(w, 500);
    assert_true(w->replicas[0].beats[BALANCE_BEAT_REFUSED] > 0);
    assert_non_null(strstr(test_view_of(w, 0).store_error, "WRONGTYPE"));
    assert_int_equal(w->replicas[0].decision.why, BALANCER_WHY_HOLD_NO_VIEW);
    ASK(&f->server, "DEL", "isthmus:{default}:records");
    test_world_wait(w, test_first_is_up, "and without it");
}

/* Each allocation of a life fails once: joining does or says why, a beat without memory is lost,
 * and with the next everything is as it was. */
static void test_no_memory(void **state)
{
    struct test_store *f = *state;
    struct test_world *w = &f->world;
    const struct balance_options o = {
        .config = &w->config, .replica_id = "x", .redis_url = f->server.url};
    const struct balance_owner owner = {0};
    for (unsigned n = 1; n <= 4; n++) { /* what balancer_create() needs */
        struct balancer *b = NULL;
        struct errbuf e = {{0}};
        heap_fail_nth(n);
        int rc = balancer_create(&w->loop, &o, &owner, &b, &e);
        assert_true(heap_fail_end());
        assert_int_equal(rc, -ENOMEM);
        assert_null(b);
    }
    test_set_the_scene(w, f->server.url, 60);
    w->replicas[0].is_lazy = false;
    for (unsigned n = 1; n < 200; n += 3) {
        heap_fail_nth(n);
        test_world_run(w, 10);
        heap_fail_end();
    }
    balancer_order_done(w->replicas[0].b);
    test_world_wait(w, test_are_even, "even in the end");
    assert_int_equal(w->replicas[0].count + w->replicas[1].count, 60);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_store_set_up, test_store_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_lost_answers),    TEST(test_stopped),        TEST(test_paused),
        TEST(test_flushed),         TEST(test_script_flushed), TEST(test_password),
        TEST(test_quoted_password), TEST(test_nonsense),       TEST(test_wrong_type),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
