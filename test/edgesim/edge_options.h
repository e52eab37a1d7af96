/* What edgesim can be told on the command line, and the configuration of edges that follows from
 * it. Start-up only. */
#ifndef EDGE_OPTIONS_H
#define EDGE_OPTIONS_H

#include "test/edgesim/edge.h"
#include "test/edgesim/edge_misbehave.h"
#include "isthmus/options.h"

struct edge_options {
    const char *servers, *ca, *cert_dir, *join, *token, *prefix, *json, *control, *edge_version,
        *tls;
    uint64_t nodes, duration_ms, first_node, source_addresses;
    double time_scale, connect_rate;
    bool start_stopped, progress, kubelet, pods, database;

    double event_rate, query_rate;
    uint64_t event_nodes, query_nodes, event_bytes, padding_bytes, flood_nodes;
    uint64_t nodepatch_interval_ms;
    int64_t clock_offset_ms;
    const char *clock_offset, *query_kind, *query_configmap, *flood_kind;

    const char *misbehave;
    uint64_t misbehave_nodes;
    enum edge_misbehaviour misbehaviour;

    bool expect_all_answered, expect_all_ready, expect_no_loss, expect_refused;
    uint64_t expect_lease_gap_ms;

    const char *log_level, *log_format;
};

/* 0, or -EINVAL and `e`. With --help or --version it has printed and `done` is true. */
int edge_options_parse(struct edge_options *o, int argc, char **argv, bool *done, struct errbuf *e);

/* The edges' common configuration: EdgeCore's periods, all divided by the time scale. Borrows from
 * `o`. */
int edge_options_config(const struct edge_options *o, struct edge_config *c, struct errbuf *e);

#endif
