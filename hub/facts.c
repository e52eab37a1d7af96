/* See facts.h: gathering, health, and the metrics that are read rather than counted. */
#include "hub/facts.h"

#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/mover.h"
#include "isthmus/version.h"

void facts_gather(struct facts *f, const struct facts_sources *sources, uint64_t now_ms)
{
    bool is_draining = mover_is_draining(sources->mover);
    *f = (struct facts){.config = sources->config,
                        .version = isthmus_version(),
                        .api_server = apiconfig_server(sources->api),
                        .now_ms = now_ms,
                        .started_ms = sources->started_ms,
                        .is_draining = is_draining,
                        .accepts = !is_draining && hub_accepts(sources->hub) &&
                                   mover_is_accepting(sources->mover),
                        .connections = hub_connections(sources->hub)};
    f->is_api_healthy = upstream_is_healthy(sources->upstream, &f->api_text);
    upstream_stats(sources->upstream, &f->upstream);
    downstream_stats(sources->downstream, &f->downstream);
    f->has_balance = true;
    facts_balance_gather(&f->balance, mover_balancer(sources->mover));
    process_read(&f->process);
    f->pulse_count = pulse_read(now_ms, f->pulses, PULSE_MAX);
}

/* ---- health ---- */

static bool report(struct metric_text *text, const char *name, bool ok, const char *detail)
{
    if (text)
        metric_text_printf(text, "[%c]%s %s\n", ok ? '+' : '-', name, ok ? "ok" : detail);
    return ok;
}

static bool check_loops(const struct facts *f, struct metric_text *text)
{
    const struct pulse_view *oldest = NULL;
    char detail[96] = "no thread reports";
    for (size_t i = 0; i < f->pulse_count; i++) {
        if (!oldest || f->pulses[i].age_ms > oldest->age_ms)
            oldest = &f->pulses[i];
    }
    bool ok = oldest && oldest->age_ms < PULSE_LATE_MS;
    if (oldest)
        snprintf(detail, sizeof(detail), "failed: %s silent for %llu s", oldest->name,
                 (unsigned long long)(oldest->age_ms / 1000));
    return report(text, "loops", ok, detail);
}

static bool check_serving(const struct facts *f, struct metric_text *text)
{
    return report(text, "serving", !f->is_draining, "failed: draining");
}

static bool check_api(const struct facts *f, struct metric_text *text)
{
    char detail[160];
    snprintf(detail, sizeof(detail), "failed: %s", f->api_text);
    return report(text, "api-server", f->is_api_healthy, detail);
}

static bool check_room(const struct facts *f, struct metric_text *text)
{
    return report(text, "room", f->accepts, "failed: takes no new connections");
}

bool health_check(const struct facts *f, enum health which, struct metric_text *text)
{
    bool ok = check_loops(f, text);
    if (which == HEALTH_LIVE)
        return ok;
    ok = check_serving(f, text) && ok;
    return (which == HEALTH_READY ? check_api(f, text) : check_room(f, text)) && ok;
}

/* ---- metrics ---- */

static double oldest_pulse_s(const struct facts *f)
{
    uint64_t oldest = 0;
    for (size_t i = 0; i < f->pulse_count; i++)
        oldest = f->pulses[i].age_ms > oldest ? f->pulses[i].age_ms : oldest;
    return (double)oldest / 1000;
}

/* X(name, type, help, value) */
/* clang-format off */
#define READ_METRICS(X) \
    X("isthmus_ready", "gauge", "1 while /readyz says yes.", health_check(f, HEALTH_READY, NULL)) \
    X("isthmus_max_connections", "gauge", "Connections held at most (--max-connections).", f->config->max_connections) \
    X("isthmus_loop_silence_seconds", "gauge", "How long the most silent thread has not turned its loop.", oldest_pulse_s(f)) \
    X("isthmus_api_client_connections", "gauge", "Connections to the API server.", f->upstream.api.connections) \
    X("isthmus_api_client_streams", "gauge", "Requests in flight on them.", f->upstream.api.streams) \
    X("isthmus_api_client_waiting", "gauge", "Requests that wait for a stream.", f->upstream.api.waiting) \
    X("isthmus_api_client_retries_total", "counter", "Requests sent once more.", f->upstream.api.retries) \
    X("isthmus_api_client_retries_denied_total", "counter", "Retries not made because the budget for them was spent.", f->upstream.api.retries_denied) \
    X("isthmus_api_client_goaways_total", "counter", "Connections the API server asked to leave.", f->upstream.api.goaways) \
    X("isthmus_api_client_connects_total", "counter", "Connections opened.", f->upstream.api.connects) \
    X("isthmus_api_client_connect_failures_total", "counter", "Connections that could not be opened.", f->upstream.api.connect_failures) \
    X("isthmus_api_client_dead_peers_total", "counter", "Connections given up because nothing came back.", f->upstream.api.dead_peers) \
    X("isthmus_api_client_received_bytes_total", "counter", "Bytes received from the API server.", f->upstream.api.bytes_in) \
    X("isthmus_api_client_sent_bytes_total", "counter", "Bytes sent to the API server.", f->upstream.api.bytes_out) \
    X("process_cpu_seconds_total", "counter", "User and system CPU time.", f->process.cpu_s) \
    X("process_resident_memory_bytes", "gauge", "Resident memory.", f->process.resident_bytes) \
    X("process_virtual_memory_bytes", "gauge", "Virtual memory.", f->process.virtual_bytes) \
    X("process_open_fds", "gauge", "Open file descriptors.", f->process.open_files) \
    X("process_max_fds", "gauge", "Limit of open file descriptors.", f->process.max_files) \
    X("process_start_time_seconds", "gauge", "Start of the process since the epoch.", f->process.start_time_s)
/* clang-format on */

#define BUILD_INFO_HELP "Always 1; the label says what was built."

void facts_render_metrics(struct metric_text *out, const struct facts *f)
{
#define RENDER(name, type, help, value)                                                            \
    metric_text_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type,      \
                       name, (double)(value));
    READ_METRICS(RENDER)
#undef RENDER
    if (f->has_balance)
        facts_balance_render(out, &f->balance);
    metric_text_printf(out,
                       "# HELP isthmus_build_info %s\n# TYPE isthmus_build_info gauge\n"
                       "isthmus_build_info{version=\"%s\"} 1\n",
                       BUILD_INFO_HELP, f->version);
}

static void put_row(struct metric_text *out, const struct metric_family *f)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    metric_text_printf(out, "| `%s` | %s | ", f->name, types[f->type]);
    for (size_t i = 0; i < 2; i++) {
        if (f->labels[i].name)
            metric_text_printf(out, "%s`%s`", i ? ", " : "", f->labels[i].name);
    }
    metric_text_printf(out, " | %s |\n", f->help);
}

void facts_metrics_markdown(struct metric_text *out)
{
    metric_text_printf(out, "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < HUB_METRIC_COUNT; i++)
        put_row(out, &hub_metrics[i]);
#define ROW(name, type, help, value)                                                               \
    metric_text_printf(out, "| `%s` | %s |  | %s |\n", name, type, help);
    READ_METRICS(ROW)
#undef ROW
    facts_balance_markdown(out);
    metric_text_printf(out, "| `isthmus_build_info` | gauge | `version` | %s |\n", BUILD_INFO_HELP);
}
