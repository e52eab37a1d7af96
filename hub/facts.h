/* What there is to know about this replica at one moment: gathered once, then /status, /metrics and
 * the health checks are pure functions of it. Names no node. */
#ifndef HUB_FACTS_H
#define HUB_FACTS_H

#include "hub/downstream.h"
#include "hub/facts_balance.h"
#include "hub/history.h"
#include "hub/process.h"
#include "hub/upstream.h"
#include "isthmus/metrics.h"
#include "isthmus/pulse.h"

#include <jansson.h>

struct facts {
    const struct config *config;
    const char *version, *api_server;
    uint64_t now_ms, started_ms; /* uv_hrtime() / 1e6 */
    bool is_draining;
    bool accepts; /* new connections */
    uint64_t connections;
    bool is_api_healthy;
    const char *api_text;
    struct upstream_stats upstream;
    struct downstream_stats downstream;
    bool has_balance;
    struct facts_balance balance;
    struct process_stats process;
    struct pulse_view pulses[PULSE_MAX];
    size_t pulse_count;
};

/* A thread that is silent for so long hangs. */
#define PULSE_LATE_MS 10000

/* What admin keeps from moment to moment for the charts. */
struct facts_past {
    struct history history;
    struct balance_past balance;
};

struct facts_sources {
    const struct config *config;
    struct hub *hub;
    const struct mover *mover;
    const struct upstream *upstream;
    struct downstream *downstream; /* NULL: off */
    const struct apiconfig *api;
    uint64_t started_ms;
};
/* Reads everything; control thread. */
void facts_gather(struct facts *f, const struct facts_sources *sources, uint64_t now_ms);

/* ---- health ---- */

enum health { HEALTH_LIVE, HEALTH_READY, HEALTH_ACCEPTING };

/* Whether all checks of this kind pass. With `text` also what kubectl shows with ?verbose:
 * "[+]loops ok" for each. */
bool health_check(const struct facts *f, enum health which, struct metric_text *text);

/* ---- documents ---- */

/* New reference, or NULL without memory. */
json_t *facts_to_json(const struct facts *f, const struct facts_past *past);

/* The metrics that are not counted but read: of the process, the API client, the state. */
void facts_render_metrics(struct metric_text *out, const struct facts *f);
/* The table of every metric as Markdown: name, type, labels, meaning. */
void facts_metrics_markdown(struct metric_text *out);

#endif
