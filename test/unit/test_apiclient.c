/* The API client's requests, against a server that does what it is told (test/lib/h2server.h). */
#include "test/lib/apitest.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void echo(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    t->count++;
    char *text;
    int size = asprintf(&text, "{\"method\":\"%s\",\"path\":\"%s\",\"authority\":\"%s\",\"auth\":\"%s\",\"user\":\"%s\","
                               "\"group\":\"%s\",\"type\":\"%s\",\"agent\":\"%s\",\"body\":\"%s\"}",
                        s->method, s->path, s->authority, s->authorization, s->impersonate_user, s->impersonate_group,
                        s->content_type, s->user_agent, s->body ? s->body : "");
    h2stream_respond(s, 200, "application/json; charset=utf-8", NULL, text, (size_t)size);
    free(text);
}

static void test_says_all_there_is_to_say(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    apitest_init(&t, &(struct h2server_options){.on_request = echo});
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/api/v1/nodes/x?y=z", &a);
    r.method = "PATCH";
    r.content_type = "application/merge-patch+json";
    r.body = "abc";
    r.body_size = 3;
    r.impersonate_user = "system:node:edge-1";
    r.impersonate_group = "system:nodes";
    apitest_do(&t, &r);
    char *expected;
    assert_true(asprintf(&expected,
                         "{\"method\":\"PATCH\",\"path\":\"/api/v1/nodes/x?y=z\",\"authority\":\"127.0.0.1:%d\","
                         "\"auth\":\"Bearer secret-token\",\"user\":\"system:node:edge-1\",\"group\":\"system:nodes\","
                         "\"type\":\"application/merge-patch+json\",\"agent\":\"isthmus/test\",\"body\":\"abc\"}",
                         t.server.port) > 0);
    assert_int_equal(a.error, 0);
    assert_int_equal(a.status, 200);
    assert_true(a.is_json);
    assert_int_equal(a.attempts, 1);
    assert_string_equal(a.body, expected);
    free(expected);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_many_at_once_share_few_connections(void **state)
{
    (void)state;
    enum { MANY = 90 };
    struct apitest t;
    struct apitest_answer answers[MANY] = {0};
    apitest_init(&t, &(struct h2server_options){.on_request = echo});
    apitest_client(&t);
    t.options.channels[0].max_waiting = MANY;
    for (int i = 0; i < MANY; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/%d", i);
        struct apirequest r = apitest_get(&t, path, &answers[i]);
        int rc = apiclient_request(t.client, &r, NULL);
        assert_int_equal(rc, i < 64 ? 0 : -ENOBUFS); /* the connections are not there yet: all wait */
    }
    for (int i = 0; i < 64; i++) {
        apitest_wait(&t, &answers[i].calls, 1);
        assert_int_equal(answers[i].status, 200);
    }
    assert_in_range(t.server.accepted, 1, 2);
    for (int i = 0; i < MANY; i++)
        apitest_answer_fini(&answers[i]);
    apitest_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_all_there_is_to_say),
        cmocka_unit_test(test_many_at_once_share_few_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
