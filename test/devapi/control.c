/* /devapi/...: faults, counts and lease ages, for tests and demonstrations. Loop thread only.
 *
 *     GET, PUT /devapi/faults           the faults in force; PUT changes those it names
 *     GET  /devapi/stats                requests by verb, kind and code; objects, watchers, bytes,
 * what waits now GET  /devapi/leases[?summary=1]   lease ages on devapi's monotonic clock POST
 * /devapi/leases/reset         forgets maxima and histogram GET
 * /devapi/writes[?kind=K][&user=U][&summary=1]  accepted writes by kind, verb and user */
#include "test/devapi/handler.h"
#include "test/devapi/leases.h"
#include "test/devapi/server.h"
#include "test/devapi/stats.h"

#include <string.h>

static void answer_json(struct dev_exchange *x, json_t *value)
{
    struct dev_text text = {0};
    if (value)
        dev_text_json(&text, value);
    else
        text.failed = true;
    json_decref(value);
    dev_text_str(&text, "\n");
    dev_answer_text(x, 200, "application/json", &text);
}

static void answer_wrong(struct dev_exchange *x, unsigned code, const char *why)
{
    struct dev_error e;
    dev_error_plain(&e, code,
                    code == 405   ? "MethodNotAllowed"
                    : code == 404 ? "NotFound"
                                  : "BadRequest",
                    "%.500s", why);
    dev_answer_error(x, &e);
}

static void handle_faults(struct dev_exchange *x)
{
    struct errbuf why = {{0}};
    if (strcmp(x->method, "PUT") == 0) {
        json_t *changes = json_loadb(x->body.size ? x->body.at : "", x->body.size, 0, NULL);
        int rc = dev_faults_update(&x->server->faults, changes, &why);
        json_decref(changes);
        if (rc != 0) {
            answer_wrong(x, 400, why.text);
            return;
        }
    }
    answer_json(x, dev_faults_describe(&x->server->faults));
}

static json_t *by_kind(const struct dev_server *server)
{
    json_t *kinds = json_object();
    for (int i = 0; i < DEV_KIND_COUNT; i++) {
        const struct dev_kind *k = dev_kind((enum dev_kind_index)i);
        json_object_set_new(kinds, k->singular,
                            json_pack("{s:I,s:I,s:I,s:I}", "objects",
                                      (json_int_t)dev_store_count(server->store, k), "bytes",
                                      (json_int_t)dev_store_bytes(server->store, k), "watchers",
                                      (json_int_t)server->watcher_count[i], "stalled",
                                      (json_int_t)server->waiting_count[i]));
    }
    return kinds;
}

static void handle_stats(struct dev_exchange *x)
{
    const struct dev_server *s = x->server;
    json_int_t stalled = 0;
    for (int i = 0; i < DEV_KIND_COUNT; i++)
        stalled += (json_int_t)s->waiting_count[i];
    answer_json(x, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "uptime_ms",
                             (json_int_t)(uv_now(s->loop) - s->started_ms), "resourceVersion",
                             (json_int_t)dev_store_version(s->store), "connections",
                             (json_int_t)s->conn_count, "bytes_in", (json_int_t)s->bytes_in,
                             "bytes_out", (json_int_t)s->bytes_out, "stalled", stalled, "delayed",
                             (json_int_t)s->waiting_count[DEV_KIND_COUNT], "abandoned",
                             (json_int_t)s->abandoned, "kinds", by_kind(s), "requests",
                             dev_stats_requests(s->stats)));
}

static void handle_writes(struct dev_exchange *x)
{
    const struct dev_kind *kind = x->query.kind ? dev_kind_by_name(x->query.kind) : NULL;
    if (x->query.kind && !kind) {
        answer_wrong(x, 400, "unknown kind");
        return;
    }
    answer_json(x,
                dev_stats_writes(x->server->stats, kind, x->query.user, x->query.summary != NULL));
}

void dev_handle_control(struct dev_exchange *x, const char *path)
{
    bool is_get = strcmp(x->method, "GET") == 0;
    if (strcmp(path, "faults") == 0 && (is_get || strcmp(x->method, "PUT") == 0)) {
        handle_faults(x);
    } else if (strcmp(path, "stats") == 0 && is_get) {
        handle_stats(x);
    } else if (strcmp(path, "writes") == 0 && is_get) {
        handle_writes(x);
    } else if (strcmp(path, "leases") == 0 && is_get) {
        answer_json(x, dev_leases_describe(x->server, x->query.summary != NULL));
    } else if (strcmp(path, "leases/reset") == 0 && strcmp(x->method, "POST") == 0) {
        dev_leases_reset(x->server);
        answer_json(x, json_object());
    } else {
        answer_wrong(x, 404, "no such control path or method");
    }
}
