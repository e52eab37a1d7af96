/* The API client's requests, against a server that does what it is told (test/lib/h2server.h). */
#include "test/lib/apitest.h"
#include "test/lib/heap.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void echo(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    t->count++;
    char *text;
    int size = asprintf(
        &text,
        "{\"method\":\"%s\",\"path\":\"%s\",\"authority\":\"%s\",\"auth\":\"%s\",\"user\":\"%s\","
        "\"group\":\"%s\",\"type\":\"%s\",\"agent\":\"%s\",\"body\":\"%s\"}",
        s->method, s->path, s->authority, s->authorization, s->impersonate_user,
        s->impersonate_group, s->content_type, s->user_agent, s->body ? s->body : "");
    h2stream_respond(s, 200, "application/json; charset=utf-8", NULL, text, (size_t)size);
    free(text);
}

/* Keeps every request. */
static void hold(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    t->count++;
    t->held = s;
    t->held_list[t->held_count++] = s;
}

static void init(struct apitest *t, h2server_request_cb on_request)
{
    apitest_init(t, &(struct h2server_options){.on_request = on_request});
}

static struct apiclient_stats stats_of(const struct apitest *t)
{
    struct apiclient_stats stats;
    apiclient_stats(t->client, &stats);
    return stats;
}

/* ---- answers ---- */

static void test_says_all_there_is_to_say(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, echo);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/api/v1/nodes/x?y=z", &a);
    r.method = "PATCH";
    r.content_type = "application/merge-patch+json";
    r.body = "abc";
    r.body_size = 3;
    r.impersonate_user = "system:node:edge-1";
    r.impersonate_group = "system:nodes";
    char *expected;
    assert_true(
        asprintf(
            &expected,
            "{\"method\":\"PATCH\",\"path\":\"/api/v1/nodes/x?y=z\",\"authority\":\"127.0.0.1:%d\","
            "\"auth\":\"Bearer "
            "secret-token\",\"user\":\"system:node:edge-1\",\"group\":\"system:nodes\","
            "\"type\":\"application/merge-patch+json\",\"agent\":\"isthmus/"
            "test\",\"body\":\"abc\"}",
            t.server.port) > 0);
    for (unsigned i = 0; i < 3;
         i++) { /* the second is written with the tables of header compression filled */
        apitest_do(&t, &r);
        assert_int_equal(a.error, 0);
        assert_int_equal(a.status, 200);
        assert_true(a.is_json);
        assert_int_equal(a.attempts, 1);
        assert_string_equal(a.body, expected);
    }
    assert_int_equal(stats_of(&t).requests, 3);
    assert_int_equal(stats_of(&t).responses, 3);
    assert_int_equal(stats_of(&t).connections, 1);
    assert_int_equal(stats_of(&t).streams, 0);
    free(expected);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_base_path_and_host_name(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, echo);
    char *text = apitest_kubeconfig(&t, "localhost", "", "token: x"), *with_path, port[32];
    snprintf(port, sizeof(port), ":%d'", t.server.port);
    char *at = strstr(text, port);
    assert_non_null(at);
    assert_true(asprintf(&with_path, "%.*s:%d/k8s/c-1/'%s", (int)(at - text), text, t.server.port,
                         at + strlen(port)) > 0);
    free(text);
    apitest_config(&t, with_path);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/api", &a);
    apitest_do(&t, &r); /* localhost may be ::1 first, where nobody listens */
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"path\":\"/k8s/c-1/api\""));
    assert_non_null(strstr(a.body, "\"authority\":\"localhost:"));
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void answer_plain(void *context, struct h2stream *s)
{
    (void)context;
    static const char with_nul[] = {'a', '\0', 'b'};
    if (strcmp(s->path, "/nul") == 0)
        h2stream_respond(s, 200, "application/jsonl", NULL, with_nul, sizeof(with_nul));
    else
        h2stream_respond(s, 404, NULL, NULL, NULL, 0);
}

static void test_bodies_are_bytes(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, answer_plain);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/nul", &a);
    apitest_do(&t, &r);
    assert_int_equal(a.size, 3);
    assert_memory_equal(a.body, "a\0b", 3);
    assert_false(a.is_json);
    r.path = "/empty";
    apitest_do(&t, &r);
    assert_int_equal(a.error, 0);
    assert_int_equal(a.status, 404);
    assert_int_equal(a.size, 0);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void send_much(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    size_t size = (size_t)atol(s->path + 1);
    char *body = OPENSSL_malloc(size);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)('a' + i % 23);
    t->count += (unsigned)s->size;
    h2stream_begin(s, 200, "application/json", s->size ? -1 : (long)size);
    h2stream_send(s, body, size);
    h2stream_end(s);
    OPENSSL_free(body);
}

static void test_large_bodies_both_ways(void **state)
{
    (void)state;
    enum { LARGE = 3 * 1024 * 1024 };
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, send_much);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/3145728", &a);
    apitest_do(&t, &r);
    assert_int_equal(a.error, 0);
    assert_int_equal(a.size, LARGE);
    for (size_t i = 0; i < LARGE; i += 4099)
        assert_int_equal(a.body[i], 'a' + i % 23);

    char *body = OPENSSL_zalloc(LARGE);
    r = apitest_get(&t, "/3145728", &a);
    r.method = "POST";
    r.content_type = "application/json";
    r.body = body;
    r.body_size = LARGE;
    apitest_do(&t, &r);
    assert_int_equal(a.error, 0);
    assert_int_equal(a.size, LARGE);
    assert_int_equal(t.count, LARGE);
    OPENSSL_free(body);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_too_large_an_answer(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, send_much);
    t.options.max_response_bytes = 100000;
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/100001", &a);
    apitest_do(&t, &r); /* announced */
    assert_int_equal(a.error, -EMSGSIZE);
    assert_true(a.may_have_happened);
    r.body = "x";
    r.body_size = 1;
    apitest_do(&t, &r); /* not announced */
    assert_int_equal(a.error, -EMSGSIZE);
    r.path = "/100000";
    apitest_do(&t, &r);
    assert_int_equal(a.size, 100000);
    assert_int_equal(t.server.accepted, 1); /* only the streams were ended */
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

/* ---- many ---- */

static void answer_in_order(struct apitest *t)
{
    for (unsigned i = 0; i < t->held_count; i++)
        h2stream_json(t->held_list[i], 200, t->held_list[i]->path);
    t->held_count = 0;
}

static void test_streams_and_connections_are_limited(void **state)
{
    (void)state;
    enum { MANY = 70 };
    struct apitest t;
    struct apitest_answer answers[MANY] = {0};
    apitest_init(&t, &(struct h2server_options){.on_request = hold, .max_streams = 4});
    apitest_client(&t);
    for (int i = 0; i < MANY; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/%d", i);
        struct apirequest r = apitest_get(&t, path, &answers[i]);
        assert_int_equal(apiclient_request(t.client, &r, NULL), i < 64 ? 0 : -ENOBUFS);
    }
    unsigned answered = 0;
    while (answered < 64) {
        unsigned wanted = 64 - answered < 8 ? 64 - answered : 8;
        apitest_wait(&t, &t.held_count, wanted);
        assert_int_equal(t.held_count,
                         wanted); /* two connections with the server's four streams each */
        answered += wanted;
        answer_in_order(&t);
        apitest_wait(&t, &answers[answered - 1].calls, 1);
    }
    assert_int_equal(t.server.accepted, 2);
    for (int i = 0; i < 64; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/%d", i);
        apitest_wait(&t, &answers[i].calls, 1);
        assert_string_equal(answers[i].body, path);
    }
    for (int i = 0; i < MANY; i++)
        apitest_answer_fini(&answers[i]);
    apitest_fini(&t);
}

static void stall_channel_0(void *context, struct h2stream *s)
{
    if (strcmp(s->path, "/stall") == 0)
        hold(context, s);
    else
        echo(context, s);
}

static void test_channels_do_not_wait_for_each_other(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer stalled[5] = {0}, quick = {0};
    apitest_init(&t, &(struct h2server_options){.on_request = stall_channel_0});
    t.options.channel_count = 2;
    t.options.channels[0] =
        (struct apiclient_channel){.connections = 1, .max_streams = 2, .max_waiting = 8};
    t.options.channels[1] =
        (struct apiclient_channel){.connections = 1, .max_streams = 2, .max_waiting = 8};
    apitest_client(&t);
    for (int i = 0; i < 5; i++) {
        struct apirequest r = apitest_get(&t, "/stall", &stalled[i]);
        assert_int_equal(apiclient_request(t.client, &r, NULL), 0);
    }
    apitest_wait(&t, &t.held_count, 2);
    for (int i = 0; i < 3; i++) {
        struct apirequest r = apitest_get(&t, "/quick", &quick);
        r.channel = 1;
        apitest_do(&t, &r);
        assert_int_equal(quick.status, 200);
    }
    assert_int_equal(t.held_count, 2);
    assert_int_equal(stats_of(&t).waiting, 3);
    apitest_answer_fini(&quick);
    apitest_fini(&t); /* with the others still in flight */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(stalled[i].calls, 1);
        assert_int_equal(stalled[i].error, -ECANCELED);
        assert_int_equal(stalled[i].may_have_happened, i < 2);
        apitest_answer_fini(&stalled[i]);
    }
}

/* ---- time ---- */

static void test_deadline(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0}, waits = {0};
    init(&t, hold);
    t.options.channels[0] =
        (struct apiclient_channel){.connections = 1, .max_streams = 1, .max_waiting = 1};
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a), second = apitest_get(&t, "/2", &waits);
    r.deadline_ms = uv_now(&t.loop) + 200;
    second.deadline_ms = uv_now(&t.loop) + 100;
    assert_int_equal(apiclient_request(t.client, &r, NULL), 0);
    assert_int_equal(apiclient_request(t.client, &second, NULL),
                     -ENOBUFS); /* until there is a connection */
    apitest_wait(&t, &t.held_count, 1);
    assert_int_equal(apiclient_request(t.client, &second, NULL), 0);
    apitest_wait(&t, &waits.calls, 1);
    assert_int_equal(waits.error, -ETIMEDOUT);
    assert_false(waits.may_have_happened);
    assert_int_equal(waits.attempts, 0);
    apitest_wait(&t, &a.calls, 1);
    assert_int_equal(a.error, -ETIMEDOUT);
    assert_true(a.may_have_happened);
    apitest_wait(&t, &t.server.resets, 1);
    apitest_answer_fini(&a);
    apitest_answer_fini(&waits);
    apitest_fini(&t);
}

static void test_cancel(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0}, after = {0};
    struct apicall *calls[3];
    init(&t, stall_channel_0);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/stall", &a);
    assert_int_equal(apiclient_request(t.client, &r, &calls[0]), 0);
    assert_int_equal(apiclient_request(t.client, &r, &calls[1]), 0);
    apiclient_cancel(calls[1]); /* it waits for the connection */
    apitest_wait(&t, &t.held_count, 1);
    assert_int_equal(apiclient_request(t.client, &r, &calls[2]), 0);
    apiclient_cancel(calls[2]); /* it has a stream, but nothing of it is written yet */
    apiclient_cancel(calls[0]);
    apitest_wait(&t, &t.server.resets, 1);
    struct apirequest other = apitest_get(&t, "/other", &after);
    apitest_do(&t, &other);
    assert_int_equal(after.status, 200);
    assert_int_equal(a.calls, 0);
    assert_int_equal(t.held_count, 1);
    assert_int_equal(stats_of(&t).streams, 0);
    apitest_answer_fini(&after);
    apitest_fini(&t);
}

/* ---- again ---- */

struct again {
    int status;
    const char *retry_after;
    unsigned times; /* then 200 */
    unsigned seen;
};

static void answer_again(void *context, struct h2stream *s)
{
    struct again *again = context;
    int status = again->seen++ < again->times ? again->status : 200;
    h2stream_respond(s, status, "application/json", status == 200 ? NULL : again->retry_after, "{}",
                     2);
}

struct again_case {
    int status;
    const char *retry_after;
    enum apirequest_retry retry;
    bool is_retried;
};

static void test_what_is_retried(void **state)
{
    (void)state;
    static const struct again_case cases[] = {
        {429, "0", API_RETRY_NEVER, false},
        {429, "0", API_RETRY_UNSENT, true},
        {429, NULL, API_RETRY_REPEATABLE, true},
        {429, "100", API_RETRY_REPEATABLE, false}, /* too late */
        {503, NULL, API_RETRY_UNSENT, false},
        {503, NULL, API_RETRY_REPEATABLE, true},
        {500, "0", API_RETRY_REPEATABLE, true},
        {502, NULL, API_RETRY_REPEATABLE, true},
        {504, NULL, API_RETRY_REPEATABLE, true},
        {409, NULL, API_RETRY_REPEATABLE, false},
        {501, NULL, API_RETRY_REPEATABLE, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct apitest t;
        struct apitest_answer a = {0};
        struct again again = {
            .status = cases[i].status, .retry_after = cases[i].retry_after, .times = 1};
        apitest_init(&t, &(struct h2server_options){.on_request = answer_again, .context = &again});
        apitest_client(&t);
        struct apirequest r = apitest_get(&t, "/", &a);
        r.retry = cases[i].retry;
        apitest_do(&t, &r);
        assert_int_equal(a.status, cases[i].is_retried ? 200 : cases[i].status);
        assert_int_equal(a.attempts, cases[i].is_retried ? 2 : 1);
        assert_int_equal(stats_of(&t).retries, cases[i].is_retried);
        if (cases[i].retry_after && !cases[i].is_retried)
            assert_int_equal(a.retry_after_ms, (uint64_t)atoi(cases[i].retry_after) * 1000);
        apitest_answer_fini(&a);
        apitest_fini(&t);
    }
}

static void do_after(const char *retry_after)
{
    struct apitest t;
    struct apitest_answer a = {0};
    struct again again = {.status = 429, .retry_after = retry_after, .times = 1};
    apitest_init(&t, &(struct h2server_options){.on_request = answer_again, .context = &again});
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a);
    r.retry = API_RETRY_UNSENT;
    apitest_do(&t, &r);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.attempts, 2);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_retry_after_is_obeyed(void **state)
{
    (void)state;
    uint64_t before = uv_hrtime();
    do_after("1");
    assert_true(uv_hrtime() - before >= 990u * 1000000u);

    char date[64];
    time_t soon = time(NULL) + 2;
    struct tm tm;
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&soon, &tm));
    do_after(date);
    assert_true(time(NULL) >= soon);
}

static void test_retry_until(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    struct again again = {.status = 503, .times = 1000000};
    apitest_init(&t, &(struct h2server_options){.on_request = answer_again, .context = &again});
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a);
    r.retry = API_RETRY_REPEATABLE;
    r.retry_until_ms = uv_now(&t.loop) + 300;
    apitest_do(&t, &r);
    assert_int_equal(a.error, 0); /* the last answer, not a timeout */
    assert_int_equal(a.status, 503);
    assert_true(a.attempts >= 2);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_retries_have_a_budget(void **state)
{
    (void)state;
    enum { MANY = 100 };
    struct apitest t;
    struct apitest_answer a[MANY] = {0};
    struct again again = {.status = 503, .times = 1000000};
    apitest_init(&t, &(struct h2server_options){.on_request = answer_again, .context = &again});
    t.options.retry_budget_percent = 10;
    t.options.channels[0].max_waiting = MANY;
    apitest_client(&t);
    for (int i = 0; i < MANY; i++) {
        struct apirequest r = apitest_get(&t, "/", &a[i]);
        r.retry = API_RETRY_REPEATABLE;
        assert_int_equal(apiclient_request(t.client, &r, NULL), 0);
    }
    for (int i = 0; i < MANY; i++) {
        apitest_wait(&t, &a[i].calls, 1);
        assert_int_equal(a[i].status, 503);
        apitest_answer_fini(&a[i]);
    }
    assert_int_equal(stats_of(&t).retries, 30); /* 20 to begin with and 10 % of 100 */
    assert_int_equal(again.seen, MANY + 30);
    assert_int_equal(stats_of(&t).retries_denied, MANY);
    apitest_fini(&t);
}

static void refuse_first(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    if (t->held_count++ < 2)
        h2stream_reset(s, NGHTTP2_REFUSED_STREAM);
    else
        echo(context, s);
}

static void test_refused_streams_are_sent_again(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, refuse_first);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a);
    r.method = "POST";
    r.body = "body";
    r.body_size = 4;
    apitest_do(&t, &r);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"body\":\"body\""));
    assert_int_equal(a.attempts, 3);
    assert_int_equal(stats_of(&t).resent, 2);
    assert_int_equal(stats_of(&t).retries, 0);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void reset_first(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    if (t->held_count++ > 0)
        echo(context, s);
    else if (strcmp(s->path, "/half") == 0) {
        h2stream_begin(s, 200, "application/json", 100);
        h2stream_send(s, "{\"half\":", 8);
        h2conn_abort(s->conn);
    } else if (strcmp(s->path, "/abort") == 0) {
        h2conn_abort(s->conn);
    } else {
        h2stream_reset(s, NGHTTP2_INTERNAL_ERROR);
    }
}

static void test_lost_requests(void **state)
{
    (void)state;
    static const char *const paths[] = {"/reset", "/abort", "/half"};
    for (int i = 0; i < 6; i++) {
        struct apitest t;
        struct apitest_answer a = {0};
        init(&t, reset_first);
        apitest_client(&t);
        struct apirequest r = apitest_get(&t, paths[i / 2], &a);
        bool is_repeatable = i % 2;
        r.retry = is_repeatable ? API_RETRY_REPEATABLE : API_RETRY_UNSENT;
        apitest_do(&t, &r);
        if (is_repeatable) {
            assert_int_equal(a.status, 200);
            assert_non_null(strstr(a.body, "\"method\":\"GET\""));
            assert_int_equal(a.attempts, 2);
        } else {
            assert_int_equal(a.error, -ECONNRESET);
            assert_true(a.may_have_happened);
            assert_int_equal(a.size, 0);
            apitest_do(&t, &r); /* the next one finds its way */
            assert_int_equal(a.status, 200);
        }
        apitest_answer_fini(&a);
        apitest_fini(&t);
    }
}

/* ---- GOAWAY ---- */

static void test_goaway_is_exact(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a[6] = {0};
    init(&t, hold);
    t.options.channels[0] =
        (struct apiclient_channel){.connections = 1, .max_streams = 16, .max_waiting = 16};
    apitest_client(&t);
    for (int i = 0; i < 5; i++) {
        struct apirequest r = apitest_get(&t, "/", &a[i]);
        assert_int_equal(apiclient_request(t.client, &r, NULL), 0);
    }
    apitest_wait(&t, &t.held_count, 5);
    /* What comes first was processed; the rest goes to another connection, though nothing may be
     * repeated. */
    struct h2conn *old = t.held_list[0]->conn;
    h2conn_goaway(old, t.held_list[1]->id, NGHTTP2_NO_ERROR);
    apitest_wait(&t, &t.held_count, 8);
    assert_int_equal(t.server.accepted, 2);
    for (int i = 5; i < 8; i++) {
        assert_ptr_not_equal(t.held_list[i]->conn, old);
        h2stream_json(t.held_list[i], 200, "{}");
    }
    for (int i = 2; i < 5; i++) {
        apitest_wait(&t, &a[i].calls, 1);
        assert_int_equal(a[i].status, 200);
        assert_int_equal(a[i].attempts, 2);
    }
    assert_int_equal(a[0].calls, 0);
    h2stream_json(t.held_list[0], 201, "{}");
    h2stream_json(t.held_list[1], 201, "{}");
    for (int i = 0; i < 2; i++) {
        apitest_wait(&t, &a[i].calls, 1);
        assert_int_equal(a[i].status, 201);
        assert_int_equal(a[i].attempts, 1);
    }
    assert_int_equal(stats_of(&t).goaways, 1);
    assert_int_equal(stats_of(&t).resent, 3);
    apitest_run_for(&t, 50);
    assert_int_equal(stats_of(&t).connections, 1); /* the old one has gone */
    for (int i = 0; i < 6; i++)
        apitest_answer_fini(&a[i]);
    apitest_fini(&t);
}

/* Keeps what it says: what lies above the last id is not carried out. */
static void goaway_often(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    if (t->last_conn == s->conn && s->id > t->last_id)
        return;
    if (t->last_conn != s->conn && ++t->held_count % 7 == 0) {
        t->last_conn = s->conn;
        t->last_id = s->id;
        h2conn_goaway(s->conn, s->id, NGHTTP2_NO_ERROR);
    }
    echo(context, s);
}

struct storm {
    struct apitest *t;
    unsigned sent, done, bad;
};

static void storm_on(struct storm *storm);

static void on_storm_done(void *context, const struct apiresponse *r)
{
    struct storm *storm = context;
    storm->done++;
    storm->bad += r->error != 0 || r->status != 200;
    storm_on(storm);
}

static void storm_on(struct storm *storm)
{
    if (storm->sent >= 2000)
        return;
    storm->sent++;
    struct apirequest r = {.method = "PATCH",
                           .path = "/x",
                           .body = "{}",
                           .body_size = 2,
                           .content_type = "application/json",
                           .deadline_ms = uv_now(&storm->t->loop) + 30000,
                           .done = on_storm_done,
                           .context = storm};
    assert_int_equal(apiclient_request(storm->t->client, &r, NULL), 0);
}

/* Nothing is lost and nothing is done twice, whatever the number of GOAWAYs. */
static void test_goaway_storm_loses_nothing(void **state)
{
    (void)state;
    struct apitest t;
    init(&t, goaway_often);
    apitest_client(&t);
    struct storm storm = {.t = &t};
    for (int i = 0; i < 40; i++)
        storm_on(&storm);
    apitest_wait(&t, &storm.done, 2000);
    assert_int_equal(storm.bad, 0);
    assert_true(stats_of(&t).goaways > 100);
    assert_int_equal(t.count, 2000);
    apitest_fini(&t);
}

/* ---- peers that are not what they should be ---- */

static void test_dead_peer(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0}, b = {0};
    init(&t, stall_channel_0);
    t.options.channels[0].connections = 1;
    t.options.ping_idle_ms = 100;
    t.options.ping_timeout_ms = 1000;
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/stall", &a), repeatable = apitest_get(&t, "/quick", &b);
    assert_int_equal(apiclient_request(t.client, &r, NULL), 0);
    apitest_wait(&t, &t.held_count, 1);
    apitest_wait(&t, &t.server.pings,
                 2); /* a slow answer is no reason as long as somebody is there */
    assert_int_equal(a.calls, 0);
    h2conn_mute(t.held->conn, true);
    repeatable.retry = API_RETRY_REPEATABLE;
    repeatable.deadline_ms = uv_now(&t.loop) + 8000;
    assert_int_equal(apiclient_request(t.client, &repeatable, NULL), 0);
    apitest_wait(&t, &a.calls, 1);
    assert_int_equal(a.error, -ECONNRESET);
    assert_true(a.may_have_happened);
    assert_int_equal(stats_of(&t).dead_peers, 1);
    apitest_wait(&t, &b.calls, 1); /* on a new connection */
    assert_int_equal(b.status, 200);
    assert_int_equal(t.server.accepted, 2);
    apitest_answer_fini(&a);
    apitest_answer_fini(&b);
    apitest_fini(&t);
}

/* One request of a client with this configuration. */
static int error_of(struct apitest *t, const struct h2server_options *options, const char *cluster,
                    const char *user)
{
    struct apitest_answer a = {0};
    apitest_init(t, options);
    apitest_config(t, apitest_kubeconfig(t, "127.0.0.1", cluster, user));
    apitest_client(t);
    struct apirequest r = apitest_get(t, "/", &a);
    r.retry = API_RETRY_UNSENT;
    apitest_do(t, &r);
    assert_false(a.may_have_happened);
    assert_int_equal(t->count, a.error == 0);
    int error = a.error;
    apitest_answer_fini(&a);
    apitest_fini(t);
    return error;
}

static void test_only_http_1(void **state)
{
    (void)state;
    struct apitest t;
    struct h2server_options http1 = {.on_request = echo, .alpn = "http/1.1"},
                            none = {.on_request = echo, .alpn = ""};
    assert_int_equal(error_of(&t, &http1, "", "token: x"), -EPROTO);
    assert_int_equal(error_of(&t, &none, "", "token: x"), -EPROTO);
}

static void test_certificates_are_checked(void **state)
{
    (void)state;
    struct apitest t;
    struct testcert foreign_ca, foreign;
    testcert_make(&foreign_ca, "foreign", NULL);
    testcert_make(&foreign, "kube-apiserver", &foreign_ca);
    struct h2server_options of_foreign_ca = {.on_request = echo, .cert = &foreign},
                            plain = {.on_request = echo},
                            asking = {.on_request = echo, .client_ca_pem = ""};

    assert_int_equal(error_of(&t, &of_foreign_ca, "", "token: x"), -EACCES);
    assert_int_equal(error_of(&t, &plain, "tls-server-name: elsewhere,", "token: x"), -EACCES);
    assert_int_equal(error_of(&t, &plain, "tls-server-name: 127.0.0.9,", "token: x"), -EACCES);
    assert_int_equal(error_of(&t, &plain, "tls-server-name: localhost,", "token: x"), 0);
    /* A client certificate: none, a foreign one. */
    assert_int_equal(error_of(&t, &asking, "", "token: x"), -EACCES);
    char *user = apitest_identity(&foreign);
    assert_int_equal(error_of(&t, &asking, "", user), -EACCES);
    free(user);
    testcert_fini(&foreign_ca);
    testcert_fini(&foreign);
}

static void test_client_certificate(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    apitest_init(&t, &(struct h2server_options){.on_request = echo, .client_ca_pem = ""});
    char *user = apitest_identity(&t.client_cert);
    apitest_config(&t, apitest_kubeconfig(&t, "127.0.0.1", "", user));
    free(user);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a);
    apitest_do(&t, &r);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body, "\"auth\":\"\""));
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_insecure(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, echo);
    char *text;
    assert_true(
        asprintf(&text,
                 "{current-context: c, contexts: [{name: c, context: {cluster: k}}], clusters: "
                 "[{name: k, "
                 "cluster: {server: 'https://127.0.0.1:%d', insecure-skip-tls-verify: true}}]}",
                 t.server.port) > 0);
    apitest_config(&t, text);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a);
    apitest_do(&t, &r);
    assert_int_equal(a.status, 200);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_server_that_says_nothing(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0}, b = {0};
    apitest_init(&t, &(struct h2server_options){.on_request = echo, .no_settings = true});
    t.options.connect_timeout_ms = 200;
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a), patient = apitest_get(&t, "/", &b);
    patient.retry = API_RETRY_UNSENT;
    patient.deadline_ms = uv_now(&t.loop) + 1500;
    assert_int_equal(apiclient_request(t.client, &patient, NULL), 0);
    apitest_do(&t, &r);
    assert_int_equal(a.error, -EHOSTUNREACH);
    apitest_wait(&t, &b.calls, 1);
    assert_int_equal(b.error, -ETIMEDOUT);
    assert_int_equal(b.attempts, 0);
    assert_true(t.server.accepted >= 2);
    apitest_answer_fini(&a);
    apitest_answer_fini(&b);
    apitest_fini(&t);
}

static void test_server_comes_back(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer never = {0}, unsent = {0}, until = {0};
    init(&t, echo);
    h2server_stop_listening(&t.server);
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/never", &never),
                      patient = apitest_get(&t, "/unsent", &unsent),
                      hasty = apitest_get(&t, "/until", &until);
    patient.retry = hasty.retry = API_RETRY_UNSENT;
    hasty.retry_until_ms = uv_now(&t.loop) + 1;
    assert_int_equal(apiclient_request(t.client, &patient, NULL), 0);
    assert_int_equal(apiclient_request(t.client, &hasty, NULL), 0);
    apitest_do(&t, &r);
    assert_int_equal(never.error, -ECONNREFUSED);
    assert_int_equal(never.attempts, 0);
    apitest_wait(&t, &until.calls, 1);
    assert_int_equal(until.error, -ECONNREFUSED);
    assert_int_equal(unsent.calls, 0);
    h2server_listen_again(&t.server);
    apitest_wait(&t, &unsent.calls, 1);
    assert_int_equal(unsent.status, 200);
    assert_int_equal(unsent.attempts, 1);
    apitest_answer_fini(&never);
    apitest_answer_fini(&unsent);
    apitest_answer_fini(&until);
    apitest_fini(&t);
}

/* ---- credentials that change ---- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void check_token(void *context, struct h2stream *s)
{
    struct apitest *t = context;
    t->count++;
    bool ok = strcmp(s->authorization, "Bearer second") == 0;
    h2stream_json(s, ok ? 200 : 401, "{}");
}

static void test_rotated_token(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, check_token);
    char path[] = "/tmp/isthmus-token-XXXXXX", user[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(path, "first\n");
    snprintf(user, sizeof(user), "tokenFile: %s", path);
    apitest_config(&t, apitest_kubeconfig(&t, "127.0.0.1", "", user));
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a);
    apitest_do(&t, &r); /* still the same: once more would be of no use */
    assert_int_equal(a.status, 401);
    assert_int_equal(a.attempts, 1);
    write_file(path, "second\n");
    apitest_run_for(&t, 250); /* files are not read with every 401 */
    apitest_do(&t, &r);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.attempts, 2);
    assert_int_equal(stats_of(&t).token_reloads, 1);
    apitest_do(&t, &r);
    assert_int_equal(a.attempts, 1);
    /* Without any 401: a reload by hand. */
    write_file(path, "third\n");
    struct errbuf e = {0};
    assert_int_equal(apiconfig_reload(t.config, &e), 0);
    apitest_do(&t, &r);
    assert_int_equal(a.status, 401);
    assert_int_equal(t.count, 5);
    unlink(path);
    apitest_answer_fini(&a);
    apitest_fini(&t);
}

static void test_rotated_client_certificate(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0}, held = {0};
    apitest_init(&t,
                 &(struct h2server_options){.on_request = stall_channel_0, .client_ca_pem = ""});
    char cert_path[] = "/tmp/isthmus-cert-XXXXXX", key_path[] = "/tmp/isthmus-key-XXXXXX",
         user[128];
    close(mkstemp(cert_path));
    close(mkstemp(key_path));
    write_file(cert_path, t.client_cert.cert_pem);
    write_file(key_path, t.client_cert.key_pem);
    snprintf(user, sizeof(user), "client-certificate: %s, client-key: %s", cert_path, key_path);
    apitest_config(&t, apitest_kubeconfig(&t, "127.0.0.1", "", user));
    apitest_client(&t);
    struct apirequest r = apitest_get(&t, "/", &a), stall = apitest_get(&t, "/stall", &held);
    apitest_do(&t, &r);
    assert_int_equal(apiclient_request(t.client, &stall, NULL), 0);
    apitest_wait(&t, &t.held_count, 1);

    struct testcert newer;
    struct errbuf e = {0};
    testcert_make(&newer, "hub-2", &t.ca);
    write_file(cert_path, newer.cert_pem);
    assert_int_equal(apiconfig_reload(t.config, &e),
                     -EINVAL); /* the key is missing yet: the old stays */
    assert_non_null(strstr(e.text, "client key"));
    apitest_do(&t, &r);
    assert_int_equal(t.server.accepted, 1);
    write_file(key_path, newer.key_pem);
    assert_int_equal(apiconfig_reload(t.config, &e), 0);
    apitest_do(&t, &r);
    assert_int_equal(a.status, 200);
    assert_int_equal(t.server.accepted, 2);
    h2stream_json(t.held, 200, "{}"); /* the old connection finishes what it has */
    apitest_wait(&t, &held.calls, 1);
    assert_int_equal(held.status, 200);
    testcert_fini(&newer);
    unlink(cert_path);
    unlink(key_path);
    apitest_answer_fini(&a);
    apitest_answer_fini(&held);
    apitest_fini(&t);
}

/* ---- the caller ---- */

static void test_bad_requests(void **state)
{
    (void)state;
    struct apitest t;
    struct apitest_answer a = {0};
    init(&t, echo);
    apitest_client(&t);
    static const char *const bad_paths[] = {"", "api", "/a b", "/a\nb", "/\x80", NULL};
    for (int i = 0; bad_paths[i]; i++) {
        struct apirequest r = apitest_get(&t, bad_paths[i], &a);
        assert_int_equal(apiclient_request(t.client, &r, NULL), -EINVAL);
    }
    struct apirequest good = apitest_get(&t, "/", &a), r;
    r = good;
    r.deadline_ms = 0;
    assert_int_equal(apiclient_request(t.client, &r, NULL), -EINVAL);
    r = good;
    r.channel = 1;
    assert_int_equal(apiclient_request(t.client, &r, NULL), -EINVAL);
    r = good;
    r.impersonate_user = "system:node:a\r\nx: y";
    assert_int_equal(apiclient_request(t.client, &r, NULL), -EINVAL);
    r = good;
    r.body_size = 1;
    assert_int_equal(apiclient_request(t.client, &r, NULL), -EINVAL);
    assert_int_equal(a.calls, 0);
    apitest_fini(&t);
}

struct chain {
    struct apitest *t;
    unsigned left, done;
    bool close_at_end;
};

static void on_chain(void *context, const struct apiresponse *response)
{
    struct chain *chain = context;
    chain->done++;
    if (response->error != 0)
        return;
    struct apirequest r = {.method = "GET",
                           .path = "/",
                           .deadline_ms = uv_now(&chain->t->loop) + 5000,
                           .done = on_chain,
                           .context = chain};
    if (chain->left-- > 0) {
        assert_int_equal(apiclient_request(chain->t->client, &r, NULL), 0);
        return;
    }
    assert_int_equal(apiclient_request(chain->t->client, &r, NULL), 0); /* to be cancelled */
    struct apiclient *client = chain->t->client;
    chain->t->client = NULL;
    apiclient_close(client, NULL, NULL);
    assert_int_equal(apiclient_request(client, &r, NULL), -ECANCELED);
}

/* The callback may ask again, and it may close the client. */
static void test_callbacks_may_do_anything(void **state)
{
    (void)state;
    struct apitest t;
    init(&t, echo);
    apitest_client(&t);
    struct chain chain = {.t = &t, .left = 5};
    struct apirequest r = {.method = "GET",
                           .path = "/",
                           .deadline_ms = uv_now(&t.loop) + 5000,
                           .done = on_chain,
                           .context = &chain};
    assert_int_equal(apiclient_request(t.client, &r, NULL), 0);
    apitest_wait(&t, &chain.done, 7); /* 1 + 5, and the cancelled one */
    assert_int_equal(t.count, 6);
    apitest_fini(&t);
}

static void test_close_while_connecting(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1", "localhost", "no-such-host.invalid"};
    for (int i = 0; i < 6; i++) {
        struct apitest t;
        struct apitest_answer a = {0};
        init(&t, hold);
        apitest_config(&t, apitest_kubeconfig(&t, hosts[i / 2], "", "token: x"));
        apitest_client(&t);
        struct apirequest r = apitest_get(&t, "/", &a);
        assert_int_equal(apiclient_request(t.client, &r, NULL), 0);
        for (int turns = 0; turns < i % 2; turns++)
            uv_run(&t.loop, UV_RUN_NOWAIT);
        apitest_fini(&t);
        assert_int_equal(a.calls, 1);
        /* In one turn a resolver may already have said that there is no such host. */
        if (i < 5 || a.error != -EHOSTUNREACH)
            assert_int_equal(a.error, -ECANCELED);
        apitest_answer_fini(&a);
    }
}

static void test_bad_options(void **state)
{
    (void)state;
    struct apitest t;
    struct errbuf e = {0};
    init(&t, echo);
    struct apiclient_options none = {0}, empty = {.channel_count = 1};
    assert_int_equal(apiclient_create(&t.loop, t.config, &none, &t.client, &e), -EINVAL);
    assert_int_equal(apiclient_create(&t.loop, t.config, &empty, &t.client, &e), -EINVAL);
    assert_non_null(strstr(e.text, "channel 0"));
    t.client = NULL;
    apitest_fini(&t);
}

/* Each allocation of ours fails once: nothing crashes, nothing leaks, the request ends once. */
static void test_out_of_memory(void **state)
{
    (void)state;
    bool failed = true;
    for (unsigned n = 1; failed; n++) {
        struct apitest t;
        struct apitest_answer a = {0};
        struct errbuf e = {0};
        init(&t, echo);
        apiconfig_put(t.config);
        t.config = NULL;
        char *text = apitest_kubeconfig(&t, "127.0.0.1", "", "token: x");
        struct apirequest r = apitest_get(&t, "/", &a);
        r.retry = API_RETRY_UNSENT;

        heap_fail_nth(n);
        int rc = apiconfig_parse_kubeconfig(text, strlen(text), "/", &t.config, &e);
        if (rc == 0)
            rc = apiclient_create(&t.loop, t.config, &t.options, &t.client, &e);
        if (rc == 0)
            rc = apiclient_request(t.client, &r, NULL);
        if (rc == 0)
            apitest_wait(&t, &a.calls, 1);
        failed = heap_fail_end();

        if (rc == 0 && a.error == 0)
            assert_int_equal(a.status, 200);
        else
            assert_int_equal(rc ? rc : a.error, -ENOMEM);
        if (!failed)
            assert_int_equal(a.status, 200);
        free(text);
        apitest_answer_fini(&a);
        apitest_fini(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_all_there_is_to_say),
        cmocka_unit_test(test_base_path_and_host_name),
        cmocka_unit_test(test_bodies_are_bytes),
        cmocka_unit_test(test_large_bodies_both_ways),
        cmocka_unit_test(test_too_large_an_answer),
        cmocka_unit_test(test_streams_and_connections_are_limited),
        cmocka_unit_test(test_channels_do_not_wait_for_each_other),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_what_is_retried),
        cmocka_unit_test(test_retry_after_is_obeyed),
        cmocka_unit_test(test_retry_until),
        cmocka_unit_test(test_retries_have_a_budget),
        cmocka_unit_test(test_refused_streams_are_sent_again),
        cmocka_unit_test(test_lost_requests),
        cmocka_unit_test(test_goaway_is_exact),
        cmocka_unit_test(test_goaway_storm_loses_nothing),
        cmocka_unit_test(test_dead_peer),
        cmocka_unit_test(test_only_http_1),
        cmocka_unit_test(test_certificates_are_checked),
        cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_insecure),
        cmocka_unit_test(test_server_that_says_nothing),
        cmocka_unit_test(test_server_comes_back),
        cmocka_unit_test(test_rotated_token),
        cmocka_unit_test(test_rotated_client_certificate),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_callbacks_may_do_anything),
        cmocka_unit_test(test_close_while_connecting),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
