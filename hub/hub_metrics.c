/* The families of hub_metrics.h's table with their label sets. Also the words of reasons.h, which
 * are label values first of all. */
#include "hub/hub_metrics.h"

#include "hub/bridge.h"
#include "hub/downstream.h"
#include "hub/join_request.h"
#include "hub/message.h"
#include "hub/reasons.h"
#include "isthmus/balance.h"

#define TEXT(id, text) text,
const char *const close_reason_names[CLOSE_REASON_COUNT] = {CLOSE_REASONS(TEXT)};
const char *const refuse_reason_names[REFUSE_REASON_COUNT] = {REFUSE_REASONS(TEXT)};
const char *const drop_reason_names[DROP_REASON_COUNT] = {DROP_REASONS(TEXT)};
const char *const release_result_names[RELEASE_RESULT_COUNT] = {RELEASE_RESULTS(TEXT)};
#undef TEXT

/* A push is nobody's message: it has no outcome to count. */
static const char *const outcome_names[REPLY_PUSH] = {
    [REPLY_ANSWERED] = "answered",
    [REPLY_CARRIED_OUT] = "carried_out",
    [REPLY_COALESCED] = "coalesced",
    [REPLY_DROPPED] = "dropped",
};

static const char *const code_names[API_CODE_COUNT] = {
    [API_CODE_2XX] = "2xx",   [API_CODE_3XX] = "3xx", [API_CODE_4XX] = "4xx",
    [API_CODE_409] = "409",   [API_CODE_429] = "429", [API_CODE_5XX] = "5xx",
    [API_CODE_NONE] = "none", /* no answer: see the log and the client's counters */
};

/* Seconds. From a query that the API server answers from memory to the 60 s an edge waits; 10 s and
 * 40 s are the renewal and the grace of a lease. */
static const double seconds_bounds[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2,
                                        0.5,    1,     2,     5,     10,   20,   40,   60};

#define LABEL_NONE                                                                                 \
    {                                                                                              \
        .name = NULL                                                                               \
    }
#define LABEL_REFUSE_REASON                                                                        \
    {                                                                                              \
        "reason", refuse_reason_names, REFUSE_REASON_COUNT                                         \
    }
#define LABEL_CLOSE_REASON                                                                         \
    {                                                                                              \
        "reason", close_reason_names, CLOSE_REASON_COUNT                                           \
    }
#define LABEL_DROP_REASON                                                                          \
    {                                                                                              \
        "reason", drop_reason_names, DROP_REASON_COUNT                                             \
    }
#define LABEL_ROUTE_REASON                                                                         \
    {                                                                                              \
        "reason", route_reason_names, ROUTE_REASON_COUNT                                           \
    }
#define LABEL_KIND                                                                                 \
    {                                                                                              \
        "kind", upstream_kind_names, UPSTREAM_KIND_COUNT                                           \
    }
#define LABEL_LANE                                                                                 \
    {                                                                                              \
        "lane", lane_names, LANE_COUNT                                                             \
    }
#define LABEL_OUTCOME                                                                              \
    {                                                                                              \
        "outcome", outcome_names, REPLY_PUSH                                                       \
    }
#define LABEL_CODE                                                                                 \
    {                                                                                              \
        "code", code_names, API_CODE_COUNT                                                         \
    }

#define LABEL_BRIDGE_END                                                                           \
    {                                                                                              \
        "reason", bridge_end_names, BRIDGE_END_COUNT                                               \
    }
#define LABEL_BEAT                                                                                 \
    {                                                                                              \
        "result", balance_beat_names, BALANCE_BEAT_COUNT                                           \
    }
#define LABEL_RELEASE_RESULT                                                                       \
    {                                                                                              \
        "result", release_result_names, RELEASE_RESULT_COUNT                                       \
    }
#define LABEL_PUSH_OUTCOME                                                                         \
    {                                                                                              \
        "outcome", push_outcome_names, PUSHED_COUNT                                                \
    }
#define LABEL_RECORD_RESULT                                                                        \
    {                                                                                              \
        "result", record_result_names, RECORD_RESULT_COUNT                                         \
    }
#define LABEL_WATCH                                                                                \
    {                                                                                              \
        "watch", down_watch_names, DOWN_WATCH_COUNT                                                \
    }
#define LABEL_JOIN_RESULT                                                                          \
    {                                                                                              \
        "result", join_result_names, JOIN_RESULT_COUNT                                             \
    }

#define BOUNDS_COUNTER   NULL
#define BOUNDS_GAUGE     NULL
#define BOUNDS_HISTOGRAM seconds_bounds
#define COUNT_COUNTER    0
#define COUNT_GAUGE      0
#define COUNT_HISTOGRAM  (sizeof(seconds_bounds) / sizeof(seconds_bounds[0]))

#define FAMILY(id, name_, type_, label_a, label_b, help_)                                          \
    [M_##id] = {.name = name_,                                                                     \
                .help = help_,                                                                     \
                .type = METRIC_##type_,                                                            \
                .labels = {LABEL_##label_a, LABEL_##label_b},                                      \
                .bounds = BOUNDS_##type_,                                                          \
                .bound_count = COUNT_##type_},

struct metric_family hub_metrics[HUB_METRIC_COUNT] = {HUB_METRICS(FAMILY)};

int hub_metrics_init(void)
{
    return metrics_init(hub_metrics, HUB_METRIC_COUNT);
}
