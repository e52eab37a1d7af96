/* See apitest.h. */
#include "test/lib/apitest.h"

#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PATIENCE_MS 10000

char *apitest_kubeconfig(const struct apitest *t, const char *host, const char *cluster,
                         const char *user)
{
    char *ca = testcert_base64(t->ca.cert_pem), *text;
    int size = asprintf(&text,
                        "apiVersion: v1\nkind: Config\ncurrent-context: it\n"
                        "contexts: [{name: it, context: {cluster: here, user: me}}]\n"
                        "clusters: [{name: here, cluster: {%s server: 'https://%s:%d', "
                        "certificate-authority-data: %s}}]\n"
                        "users: [{name: me, user: {%s}}]\n",
                        cluster, host, t->server.port, ca, user);
    assert_true(size > 0);
    OPENSSL_free(ca);
    return text;
}

char *apitest_identity(const struct testcert *cert)
{
    char *pem = testcert_base64(cert->cert_pem), *key = testcert_base64(cert->key_pem), *text;
    assert_true(asprintf(&text, "client-certificate-data: %s, client-key-data: %s", pem, key) > 0);
    OPENSSL_free(pem);
    OPENSSL_free(key);
    return text;
}

void apitest_config(struct apitest *t, char *text)
{
    struct errbuf e = {0};
    apiconfig_put(t->config);
    if (apiconfig_parse_kubeconfig(text, strlen(text), NULL, &t->config, &e) != 0)
        fail_msg("%s", e.text);
    free(text);
}

void apitest_init(struct apitest *t, const struct h2server_options *server)
{
    *t = (struct apitest){0};
    assert_int_equal(uv_loop_init(&t->loop), 0);
    testcert_make(&t->ca, "test-ca", NULL);
    testcert_make(&t->server_cert, "kube-apiserver", &t->ca);
    testcert_make(&t->client_cert, "hub", &t->ca);

    struct h2server_options options = *server;
    if (!options.cert)
        options.cert = &t->server_cert;
    if (options.client_ca_pem)
        options.client_ca_pem = t->ca.cert_pem;
    if (!options.context)
        options.context = t;
    h2server_start(&t->server, &t->loop, &options);

    char *text = apitest_kubeconfig(t, "127.0.0.1", "", "token: secret-token");
    apitest_config(t, text);
    t->options = (struct apiclient_options){
        .channels = {{.connections = 2, .max_streams = 16, .max_waiting = 64}},
        .channel_count = 1,
        .connect_timeout_ms = 5000,
        .ping_idle_ms = 2000,
        .ping_timeout_ms = 5000,
        .retry_min_ms = 5,
        .retry_budget_percent = 100,
        .user_agent = "isthmus/test",
    };
}

void apitest_client(struct apitest *t)
{
    struct errbuf e = {0};
    if (apiclient_create(&t->loop, t->config, &t->options, &t->client, &e) != 0)
        fail_msg("%s", e.text);
}

static void on_closed(void *context)
{
    ((struct apitest *)context)->is_closed = true;
}

void apitest_fini(struct apitest *t)
{
    if (t->client) {
        apiclient_close(t->client, on_closed, t);
        for (int i = 0; i < 1000 && !t->is_closed; i++)
            uv_run(&t->loop, UV_RUN_ONCE);
        assert_true(t->is_closed);
    }
    apiconfig_put(t->config);
    h2server_close(&t->server);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    testcert_fini(&t->ca);
    testcert_fini(&t->server_cert);
    testcert_fini(&t->client_cert);
}

void apitest_keep(void *context, const struct apiresponse *r)
{
    struct apitest_answer *a = context;
    OPENSSL_free(a->body);
    *a = (struct apitest_answer){.calls = a->calls + 1,
                                 .error = r->error,
                                 .status = r->status,
                                 .attempts = r->attempts,
                                 .is_json = r->is_json,
                                 .may_have_happened = r->may_have_happened,
                                 .retry_after_ms = r->retry_after_ms,
                                 .size = r->size};
    a->body = OPENSSL_malloc(r->size + 1);
    memcpy(a->body, r->body, r->size + 1); /* the NUL too */
    assert_int_equal(a->body[r->size], 0);
}

void apitest_answer_fini(struct apitest_answer *a)
{
    OPENSSL_free(a->body);
    *a = (struct apitest_answer){0};
}

struct apirequest apitest_get(struct apitest *t, const char *path, struct apitest_answer *answer)
{
    uv_update_time(&t->loop);
    return (struct apirequest){.method = "GET",
                               .path = path,
                               .deadline_ms = uv_now(&t->loop) + 5000,
                               .done = apitest_keep,
                               .context = answer};
}

static void wake(uv_timer_t *timer)
{
    (void)timer;
}

static void on_timer_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

/* Runs the loop until *count is `wanted` (count NULL: never), at most `ms`. */
static bool run(struct apitest *t, const unsigned *count, unsigned wanted, uint64_t ms)
{
    uv_timer_t timer;
    bool is_closed = false;
    uv_timer_init(&t->loop, &timer);
    timer.data = &is_closed;
    uv_update_time(&t->loop);
    uint64_t until = uv_now(&t->loop) + ms;
    uv_timer_start(&timer, wake, ms, 0);
    while ((!count || *count < wanted) && uv_now(&t->loop) < until)
        uv_run(&t->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, on_timer_closed);
    while (!is_closed)
        uv_run(&t->loop, UV_RUN_NOWAIT);
    return count && *count >= wanted;
}

void apitest_wait(struct apitest *t, const unsigned *count, unsigned wanted)
{
    if (!run(t, count, wanted, PATIENCE_MS))
        fail_msg("%u instead of %u within %d ms", *count, wanted, PATIENCE_MS);
}

void apitest_run_for(struct apitest *t, uint64_t ms)
{
    run(t, NULL, 0, ms);
}

void apitest_do(struct apitest *t, const struct apirequest *request)
{
    struct apitest_answer *answer = request->context;
    unsigned before = answer->calls;
    assert_int_equal(apiclient_request(t->client, request, NULL), 0);
    assert_int_equal(answer->calls, before); /* never from within */
    apitest_wait(t, &answer->calls, before + 1);
}
