/* See admin.h. Every answer is made at once from facts that are gathered for it; the only state is
 * the history, a sample every HISTORY_STEP_MS. */
#include "hub/admin.h"

#include "hub/hub_metrics.h"
#include "hub/httpd.h"
#include "hub/mover.h"
#include "hub/status_page.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ADMIN_CONNECTIONS 64
#define ADMIN_TIMEOUT_MS  15000
#define BODY_BYTES        1024

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
/* One file that asks only its own origin for data. */
#define PAGE_POLICY                                                                                \
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "                  \
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "                     \
    "frame-ancestors 'none'"

struct admin {
    uv_loop_t *loop;
    const struct facts_sources *sources;
    struct httpd *http;
    uv_timer_t sampler;
    struct facts_past past;
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static void gather(const struct admin *a, struct facts *f)
{
    facts_gather(f, a->sources, now_ms());
}

/* ---- answers ---- */

/* Takes `text`. */
static void answer_with(struct httpd_response *r, const char *type, struct metric_text *text)
{
    if (text->failed || !text->bytes) {
        free(text->bytes);
        httpd_answer_text(r, 500, "no memory\n");
        return;
    }
    r->status = 200;
    r->content_type = type;
    r->body = text->bytes;
    r->size = text->size;
}

static void answer_metrics(const struct admin *a, struct httpd_response *r)
{
    struct facts f;
    struct metric_text text = {0};
    gather(a, &f);
    metrics_render(&text, hub_metrics, HUB_METRIC_COUNT);
    facts_render_metrics(&text, &f);
    answer_with(r, METRICS_TYPE, &text);
}

static void answer_status(struct admin *a, struct httpd_response *r)
{
    json_t *json = admin_status(a);
    char *body = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(json);
    if (!body) {
        httpd_answer_text(r, 500, "no memory\n");
        return;
    }
    r->status = 200;
    r->content_type = "application/json";
    r->body = body;
    r->size = strlen(body);
}

static void answer_page(struct httpd_response *r)
{
    r->status = 200;
    r->content_type = "text/html; charset=utf-8";
    r->content_security_policy = PAGE_POLICY;
    r->body = (char *)(uintptr_t)status_page; /* only read */
    r->size = status_page_size;
    r->is_constant = true;
}

static bool wants_verbose(const char *query)
{
    return strncmp(query, "verbose", 7) == 0 || strstr(query, "&verbose");
}

/* As kube-apiserver's /readyz: "ok", or every check with [+] or [-] when it was asked for or one
 * fails. */
static void answer_health(const struct admin *a, enum health which, const char *query,
                          struct httpd_response *r)
{
    struct facts f;
    struct metric_text text = {0};
    gather(a, &f);
    bool ok = health_check(&f, which, &text);
    if (ok && !wants_verbose(query)) {
        free(text.bytes);
        httpd_answer_text(r, 200, "ok\n");
        return;
    }
    metric_text_printf(&text, "%s\n", ok ? "ok" : "not ok");
    answer_with(r, "text/plain; charset=utf-8", &text);
    if (r->status == 200 && !ok)
        r->status = 503;
}

static void on_admin_request(void *context, const struct httpd_request *q, struct httpd_response *r)
{
    struct admin *a = context;
    if (q->method != HTTPD_GET && q->method != HTTPD_HEAD)
        httpd_answer_text(r, 405, "this endpoint only reads\n");
    else if (strcmp(q->path, "/") == 0)
        answer_page(r);
    else if (strcmp(q->path, "/status") == 0)
        answer_status(a, r);
    else if (strcmp(q->path, "/metrics") == 0)
        answer_metrics(a, r);
    else if (strcmp(q->path, "/livez") == 0)
        answer_health(a, HEALTH_LIVE, q->query, r);
    else if (strcmp(q->path, "/readyz") == 0 || strcmp(q->path, "/healthz") == 0)
        answer_health(a, HEALTH_READY, q->query, r);
    else if (strcmp(q->path, "/acceptz") == 0)
        answer_health(a, HEALTH_ACCEPTING, q->query, r);
    else
        httpd_answer_text(r, 404, "not found\n");
}

/* ---- life ---- */

static void sample(struct admin *a)
{
    struct history_sample s;
    struct facts_balance balance;
    history_read(&s, now_ms());
    history_add(&a->past.history, &s);
    facts_balance_gather(&balance, mover_balancer(a->sources->mover));
    facts_balance_remember(&a->past.balance, &balance);
}

static void on_sample(uv_timer_t *timer)
{
    sample(timer->data);
}

static int listen_admin(struct admin *a, struct errbuf *e)
{
    const char *address = a->sources->config->admin_address;
    const struct httpd_options options = {.address = address,
                                          .max_connections = ADMIN_CONNECTIONS,
                                          .timeout_ms = ADMIN_TIMEOUT_MS,
                                          .max_body_bytes = BODY_BYTES,
                                          .handler = on_admin_request,
                                          .context = a};
    if (!address || !*address)
        return 0;
    int rc = httpd_create(a->loop, &options, &a->http, e);
    if (rc != 0)
        errbuf_wrap(e, "--admin-address");
    return rc;
}

int admin_create(uv_loop_t *loop, const struct facts_sources *sources, struct admin **out,
                 struct errbuf *e)
{
    struct admin *a = calloc(1, sizeof(*a));
    if (!a) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    a->loop = loop;
    a->sources = sources;
    int rc = uv_timer_init(loop, &a->sampler);
    assert(rc == 0);
    a->sampler.data = a;
    uv_timer_start(&a->sampler, on_sample, HISTORY_STEP_MS, HISTORY_STEP_MS);
    sample(a);

    rc = listen_admin(a, e);
    if (rc == 0) {
        *out = a;
        return 0;
    }
    admin_close(a);
    uv_run(loop, UV_RUN_NOWAIT);
    admin_destroy(a);
    return rc;
}

json_t *admin_status(struct admin *a)
{
    struct facts f;
    gather(a, &f);
    return facts_to_json(&f, &a->past);
}

bool admin_is_live(struct admin *a)
{
    struct facts f;
    gather(a, &f);
    return health_check(&f, HEALTH_LIVE, NULL);
}

uint16_t admin_port(const struct admin *a)
{
    return a->http ? httpd_port(a->http) : 0;
}

void admin_close(struct admin *a)
{
    uv_close((uv_handle_t *)&a->sampler, NULL);
    if (a->http)
        httpd_close(a->http);
}

void admin_destroy(struct admin *a)
{
    if (!a)
        return;
    httpd_destroy(a->http);
    free(a);
}
