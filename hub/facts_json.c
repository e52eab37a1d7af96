/* The document of /status, see facts.h. Numbers that do not exist (a quantile of no answers) are
 * null. jansson's "o" in a pack steals, and a NULL anywhere makes the whole NULL: allocation
 * failures need no other care. */
#include "hub/facts.h"

#include "hub/hub_metrics.h"
#include "hub/reasons.h"

#include <math.h>

#define WINDOW_MS  10000 /* rates */
#define LATENCY_MS 60000 /* quantiles */

static json_t *number(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *milliseconds(double seconds)
{
    return number(round(seconds * 1e6) / 1e3);
}

static double tenths(double value)
{
    return round(value * 10) / 10;
}

static json_int_t metric(enum hub_metric id)
{
    return metric_value(&hub_metrics[id], 0, 0);
}

/* ---- counters by label ---- */

/* {"peer": 12, ...}: what has happened at all, summed over the second label. */
static json_t *by_label(enum hub_metric id, size_t which)
{
    const struct metric_family *f = &hub_metrics[id];
    const struct metric_label *l = &f->labels[which];
    const struct metric_label *other = &f->labels[!which];
    json_t *object = json_object();
    for (size_t i = 0; i < l->count; i++) {
        int64_t total = 0;
        for (size_t j = 0; j < (other->name ? other->count : 1); j++)
            total += which ? metric_value(f, j, i) : metric_value(f, i, j);
        if (total != 0)
            json_object_set_new(object, l->values[i], json_integer(total));
    }
    return object;
}

/* ---- parts ---- */

static json_t *edges(const struct facts *f)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "bridged", metric(M_BRIDGED_NODES),
        "connected", (json_int_t)f->connections, "limit", (json_int_t)f->config->max_connections,
        "handshakes", metric(M_HANDSHAKES), "handshakes_waiting", metric(M_HANDSHAKES_WAITING),
        "paused", metric(M_PAUSED_SESSIONS), "reassembly_bytes", metric(M_REASSEMBLY_BYTES),
        "accepted_total", metric(M_EDGE_ACCEPTED), "established_total", metric(M_EDGE_ESTABLISHED));
}

static json_t *rates(const struct history *history)
{
    const struct history_sample *from, *to;
    uint32_t before = 0, after = 0;
    history_span(history, WINDOW_MS, &from, &to);
    if (!from)
        return json_object();
    uint64_t span_ms = to->at_ms - from->at_ms;
    for (size_t lane = 0; lane < LANE_COUNT; lane++) {
        before += from->received[lane];
        after += to->received[lane];
    }
    return json_pack(
        "{s:f, s:f, s:f, s:f, s:f}", "received_per_s", tenths(history_rate(before, after, span_ms)),
        "local_per_s", tenths(history_rate(from->other, to->other, span_ms)), "finished_per_s",
        tenths(history_rate(from->finished, to->finished, span_ms)), "established_per_s",
        tenths(history_rate(from->established, to->established, span_ms)), "dropped_per_s",
        tenths(history_rate(from->failed, to->failed, span_ms)));
}

static double quantile(const struct history *history, enum lane lane, double q)
{
    const struct history_sample *from, *to;
    history_span(history, LATENCY_MS, &from, &to);
    return from ? history_quantile(from, to, lane, q) : NAN;
}

static double lane_rate(const struct history *history, enum lane lane)
{
    const struct history_sample *from, *to;
    history_span(history, WINDOW_MS, &from, &to);
    return from ? history_rate(from->received[lane], to->received[lane], to->at_ms - from->at_ms)
                : 0;
}

static json_t *lanes(const struct facts *f, const struct history *history)
{
    json_t *array = json_array();
    for (enum lane lane = 0; lane < LANE_COUNT; lane++) {
        json_array_append_new(array,
                              json_pack("{s:s, s:f, s:I, s:I, s:o, s:o}", "name", lane_names[lane],
                                        "received_per_s", tenths(lane_rate(history, lane)),
                                        "waiting", (json_int_t)f->upstream.waiting[lane],
                                        "in_flight", (json_int_t)f->upstream.in_flight[lane],
                                        "p50_ms", milliseconds(quantile(history, lane, 0.5)),
                                        "p99_ms", milliseconds(quantile(history, lane, 0.99))));
    }
    return array;
}

static json_t *api(const struct facts *f)
{
    const struct apiclient_stats *s = &f->upstream.api;
    return json_pack("{s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
                     "server", f->api_server, "healthy", f->is_api_healthy, "text", f->api_text,
                     "connections", (json_int_t)s->connections, "streams", (json_int_t)s->streams,
                     "waiting", (json_int_t)s->waiting, "requests", (json_int_t)s->requests,
                     "retries", (json_int_t)s->retries, "retries_denied",
                     (json_int_t)s->retries_denied, "goaways", (json_int_t)s->goaways,
                     "connect_failures", (json_int_t)s->connect_failures, "dead_peers",
                     (json_int_t)s->dead_peers, "waiting_bytes",
                     (json_int_t)f->upstream.waiting_bytes, "codes", by_label(M_API_REQUESTS, 1));
}

static json_t *watches(const struct downstream_stats *s)
{
    json_t *array = json_array();
    for (size_t i = 0; i < DOWN_WATCH_COUNT; i++)
        json_array_append_new(array,
                              json_pack("{s:s, s:b, s:b, s:s}", "name", down_watch_names[i],
                                        "healthy", s->watches[i].is_healthy, "synced",
                                        s->watches[i].is_synced, "text", s->watches[i].text));
    return array;
}

/* null while it is turned off. */
static json_t *down(const struct facts *f)
{
    const struct downstream_stats *s = &f->downstream;
    if (!s->is_on)
        return json_null();
    return json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "synced",
                     s->is_synced, "records", s->has_records, "connected", (json_int_t)s->connected,
                     "waiting", (json_int_t)s->waiting, "in_flight", (json_int_t)s->in_flight,
                     "content_bytes", (json_int_t)s->content_bytes, "record_writes_waiting",
                     (json_int_t)s->record_writes, "objects", (json_int_t)s->objects, "links",
                     (json_int_t)s->links, "nodes", (json_int_t)s->nodes, "index_bytes",
                     (json_int_t)s->index_bytes, "watches", watches(s), "pushes",
                     by_label(M_PUSHES, 0));
}

static json_t *process(const struct facts *f)
{
    const struct process_stats *p = &f->process;
    return json_pack("{s:I, s:f, s:I, s:I, s:I}", "resident_bytes", (json_int_t)p->resident_bytes,
                     "cpu_s", p->cpu_s, "threads", (json_int_t)p->threads, "open_files",
                     (json_int_t)p->open_files, "max_files", (json_int_t)p->max_files);
}

static json_t *threads(const struct facts *f)
{
    json_t *array = json_array();
    for (size_t i = 0; i < f->pulse_count; i++)
        json_array_append_new(array, json_pack("{s:s, s:I}", "name", f->pulses[i].name, "silent_ms",
                                               (json_int_t)f->pulses[i].age_ms));
    return array;
}

/* ---- the last minutes ---- */

/* One array for each thing that is drawn; the i-th entry of each is the same moment, the last one
 * now. */
static json_t *past(const struct history *history)
{
    const struct history_sample *from = NULL, *to;
    json_t *connections = json_array(), *received = json_object(), *p99 = json_object();
    for (enum lane lane = 0; lane < LANE_COUNT; lane++) {
        json_object_set_new(received, lane_names[lane], json_array());
        json_object_set_new(p99, lane_names[lane], json_array());
    }
    for (size_t i = 0; (to = history_at(history, i)) != NULL; from = to, i++) {
        if (!from)
            continue;
        json_array_append_new(connections, json_integer(to->connections));
        for (enum lane lane = 0; lane < LANE_COUNT; lane++) {
            double rate =
                history_rate(from->received[lane], to->received[lane], to->at_ms - from->at_ms);
            json_array_append_new(json_object_get(received, lane_names[lane]),
                                  json_real(tenths(rate)));
            json_array_append_new(json_object_get(p99, lane_names[lane]),
                                  milliseconds(history_quantile(from, to, lane, 0.99)));
        }
    }
    return json_pack("{s:f, s:o, s:o, s:o}", "step_s", HISTORY_STEP_MS / 1000.0, "connections",
                     connections, "received_per_s", received, "p99_ms", p99);
}

json_t *facts_to_json(const struct facts *f, const struct facts_past *all)
{
    const struct history *history = &all->history;
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o, s:o}",
        "replica", f->config->replica_id, "version", f->version, "uptime_s",
        (json_int_t)((f->now_ms - f->started_ms) / 1000), "state",
        f->is_draining ? "draining" : "serving", "live", health_check(f, HEALTH_LIVE, NULL),
        "ready", health_check(f, HEALTH_READY, NULL), "accepting",
        health_check(f, HEALTH_ACCEPTING, NULL), "edges", edges(f), "rates", rates(history),
        "lanes", lanes(f, history), "api", api(f), "down", down(f), "kinds",
        by_label(M_MESSAGES_RECEIVED, 0), "outcomes", by_label(M_MESSAGES_FINISHED, 1), "refused",
        by_label(M_EDGE_REFUSED, 0), "closed", by_label(M_EDGE_CLOSED, 0), "dropped",
        by_label(M_MESSAGES_DROPPED, 0), "process", process(f), "threads", threads(f), "history",
        past(history), "balance",
        f->has_balance ? facts_balance_json(&f->balance, &all->balance) : json_null());
}
