/* Requests that are waited for, against a server on a thread of its own. */
#include "hub/api_blocking.h"
#include "hub/subcommands.h"
#include "test/lib/apitest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define WITHIN_MS 8000

static struct apitest t;
static uv_thread_t thread;
static uv_async_t stop;
static unsigned asked;

static void on_request(void *context, struct h2stream *s)
{
    (void)context;
    asked++;
    if (strcmp(s->path, "/ok") == 0)
        h2stream_json(s, 200, "{\"kind\":\"Secret\"}");
    else if (strcmp(s->path, "/busy") == 0)
        h2stream_json(s, asked < 3 ? 503 : 200, "{}");
    else if (strcmp(s->path, "/echo") == 0)
        h2stream_respond(s, 201, s->content_type, NULL, s->body, s->size);
    else if (strcmp(s->path, "/refused") == 0)
        h2stream_json(s, 403, "{\"kind\":\"Status\",\"message\":\"secrets is forbidden\"}");
    else if (strcmp(s->path, "/odd") == 0)
        h2stream_respond(s, 404, "text/plain", NULL, "nothing here", 12);
    /* else: silence */
}

static void on_stop(uv_async_t *handle)
{
    uv_close((uv_handle_t *)handle, NULL);
    uv_stop(&t.loop);
}

static void serve(void *unused)
{
    (void)unused;
    uv_run(&t.loop, UV_RUN_DEFAULT);
}

static int set_up(void **state)
{
    const struct h2server_options options = {.on_request = on_request};
    (void)state;
    asked = 0;
    apitest_init(&t, &options);
    assert_int_equal(0, uv_async_init(&t.loop, &stop, on_stop));
    return uv_thread_create(&thread, serve, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    uv_async_send(&stop);
    uv_thread_join(&thread);
    apitest_fini(&t);
    return 0;
}

static void open_it(struct api_blocking *b, uint64_t within_ms)
{
    struct errbuf e = {{0}};
    assert_int_equal(0, api_blocking_open(b, t.config, within_ms, &e));
}

static void test_answers_are_waited_for(void **state)
{
    struct api_blocking b;
    struct api_blocking_answer answer;
    struct errbuf e = {{0}};
    (void)state;
    open_it(&b, WITHIN_MS);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(0, api_blocking_call(&b, "GET", "/ok", NULL, NULL, &answer, &e));
        assert_int_equal(200, answer.status);
        assert_string_equal("{\"kind\":\"Secret\"}", answer.body);
        assert_int_equal(strlen(answer.body), answer.size);
        api_blocking_answer_free(&answer);
        assert_null(answer.body);
    }
    assert_int_equal(
        0, api_blocking_call(&b, "POST", "/echo", "application/json", "{\"a\":1}", &answer, &e));
    assert_int_equal(201, answer.status);
    assert_string_equal("{\"a\":1}", answer.body);
    api_blocking_answer_free(&answer);
    api_blocking_close(&b);
}

static void test_a_busy_server_is_asked_again(void **state)
{
    struct api_blocking b;
    struct api_blocking_answer answer;
    struct errbuf e = {{0}};
    (void)state;
    open_it(&b, WITHIN_MS);
    assert_int_equal(0, api_blocking_call(&b, "GET", "/busy", NULL, NULL, &answer, &e));
    assert_int_equal(200, answer.status);
    assert_int_equal(3, asked);
    api_blocking_answer_free(&answer);
    api_blocking_close(&b);
}

/* Until the time is over: then the refusal itself is the answer. */
static void test_a_server_that_stays_busy(void **state)
{
    struct api_blocking b;
    struct api_blocking_answer answer;
    struct errbuf e = {{0}};
    (void)state;
    asked = 0;
    open_it(&b, 300);
    assert_int_equal(0, api_blocking_call(&b, "GET", "/busy", NULL, NULL, &answer, &e));
    assert_int_equal(503, answer.status);
    api_blocking_answer_free(&answer);
    api_blocking_close(&b);
}

static void test_a_silent_server(void **state)
{
    struct api_blocking b;
    struct api_blocking_answer answer;
    struct errbuf e = {{0}};
    (void)state;
    uint64_t begun_ns = uv_hrtime();
    open_it(&b, 300);
    assert_int_equal(-ETIMEDOUT, api_blocking_call(&b, "GET", "/silence", NULL, NULL, &answer, &e));
    assert_non_null(strstr(e.text, "GET /silence: "));
    /* Not when the connection's own timers happen to turn the loop. */
    assert_true(uv_hrtime() - begun_ns < 4000 * 1000000ULL);
    api_blocking_close(&b);
}

static void test_what_a_refusal_says(void **state)
{
    struct api_blocking b;
    struct api_blocking_answer answer;
    struct errbuf e = {{0}};
    (void)state;
    open_it(&b, WITHIN_MS);
    assert_int_equal(0, api_blocking_call(&b, "GET", "/refused", NULL, NULL, &answer, &e));
    api_blocking_explain(&answer, &e);
    assert_string_equal("403: secrets is forbidden", e.text);
    api_blocking_answer_free(&answer);
    assert_int_equal(0, api_blocking_call(&b, "GET", "/odd", NULL, NULL, &answer, &e));
    api_blocking_explain(&answer, &e);
    assert_string_equal("the API server answered 404", e.text);
    api_blocking_answer_free(&answer);
    assert_int_equal(2, asked); /* neither is asked again */
    api_blocking_close(&b);
}

static void test_finding_subcommands(void **state)
{
    char *token[] = {"isthmus", "token", "--namespace", "x", NULL},
         *flag[] = {"isthmus", "--token", NULL}, *other[] = {"isthmus", "tok", NULL};
    (void)state;
    const struct subcommand *found = subcommand_find(4, token);
    assert_non_null(found);
    assert_string_equal("token", found->name);
    assert_null(subcommand_find(2, flag));
    assert_null(subcommand_find(2, other));
    assert_null(subcommand_find(1, token));
    for (const struct subcommand *s = subcommands; s->name; s++)
        assert_true(s->help && s->run);
}

int main(void)
{
#define WITH_SERVER(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_answers_are_waited_for),   WITH_SERVER(test_a_busy_server_is_asked_again),
        WITH_SERVER(test_a_server_that_stays_busy), WITH_SERVER(test_a_silent_server),
        WITH_SERVER(test_what_a_refusal_says),      cmocka_unit_test(test_finding_subcommands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
