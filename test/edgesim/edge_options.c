/* See edge_options.h. */
#include "test/edgesim/edge_options.h"
#include "isthmus/log.h"
#include "isthmus/version.h"

#include <errno.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#define MS 1000.0
#define S  1000000.0

#define O(member) OPTION(struct edge_options, member)

static const struct option_spec specs[] = {
    {.help = "Fleet"},
    {"server", OPTION_STRING, O(servers), NULL, "HOST:PORT[,...]",
     "Where edges connect to; several are tried in turn, one for each dial.", 0, 0},
    {"ca", OPTION_STRING, O(ca), NULL, "FILE",
     "The authority that the server's certificate must come from.", 0, 0},
    {"cert-dir", OPTION_STRING, O(cert_dir), NULL, "DIR",
     "Holds NODE.crt and NODE.key; missing ones are issued from DIR/ca.crt and DIR/ca.key, to "
     "memory.",
     0, 0},
    {"join", OPTION_STRING, O(join), NULL, "HOST:PORT",
     "Fetch the authority and each node's certificate from here at the start, instead of --ca and "
     "--cert-dir.",
     0, 0},
    {"token", OPTION_STRING, O(token), NULL, "TOKEN",
     "What to join with, as 'isthmus token' or 'keadm gettoken' print it.", 0, 0},
    {"nodes", OPTION_NUMBER, O(nodes), "10", "N", "How many edges.", 1, 1000000},
    {"prefix", OPTION_STRING, O(prefix), "edge-", "TEXT", "Node names are this and a number.", 0,
     0},
    {"first-node", OPTION_NUMBER, O(first_node), "0", "N", "The number of the first node.", 0, 0},
    {"duration", OPTION_DURATION, O(duration_ms), "0", "D",
     "How long to run; 0: until SIGINT or SIGTERM.", 0, 0},
    {"json", OPTION_STRING, O(json), NULL, "FILE",
     "Where the results go at the end; - is standard output.", 0, 0},
    {"control", OPTION_STRING, O(control), NULL, "PATH",
     "A Unix socket for commands, one a line: stats, nodes [N], start [N], drop FRACTION, pause N, "
     "resume, reset, stop.",
     0, 0},
    {"progress", OPTION_BOOL, O(progress), "false", NULL,
     "A live line each second even when stdout is no terminal.", 0, 0},

    {.help = "Connecting"},
    {"connect-rate", OPTION_REAL, O(connect_rate), "0", "N",
     "First dials a second; 0: all at once.", 0, 0},
    {"source-addresses", OPTION_NUMBER, O(source_addresses), "0", "N",
     "Spread edges over N addresses of 127.0.0.0/8, each with ports of its own; 0: the system "
     "chooses.",
     0, 65536},
    {"start-stopped", OPTION_BOOL, O(start_stopped), "false", NULL,
     "Dial only when the control socket says start.", 0, 0},
    {"tls", OPTION_STRING, O(tls), "1.3", "1.2|1.3", "The highest TLS version offered.", 0, 0},
    {"time-scale", OPTION_REAL, O(time_scale), "1", "F",
     "All periods of the edges are shorter by this factor.", 0.001, 1000},

    {.help = "Edges"},
    {"edge-version", OPTION_STRING, O(edge_version), "1.23", "V",
     "The dialect: 1.12.0 (base64 patches), 1.12.1 or 1.22 (namespace default, Node queries), "
     "1.23.",
     0, 0},
    {"kubelet", OPTION_BOOL, O(kubelet), "true", NULL, "Without it edges send keepalives only.", 0,
     0},
    {"pods", OPTION_BOOL, O(pods), "true", NULL,
     "Run the pods that are pushed; without it they are only acknowledged.", 0, 0},
    {"database", OPTION_BOOL, O(database), "true", NULL,
     "Edges know their Node from before; without it one that exists must be pushed first.", 0, 0},
    {"clock-offset", OPTION_STRING, O(clock_offset), "0", "[-]D",
     "How far the edges' clocks are ahead (or behind).", 0, 0},

    {.help = "Load"},
    {"nodepatch-interval", OPTION_DURATION, O(nodepatch_interval_ms), "5m", "D",
     "Between two reports of a Node's status.", 0, 0},
    {"event-rate", OPTION_REAL, O(event_rate), "0", "N", "Events a second and edge.", 0, 0},
    {"event-nodes", OPTION_NUMBER, O(event_nodes), "0", "N",
     "Only the first N edges send events; 0: all.", 0, 0},
    {"event-bytes", OPTION_NUMBER, O(event_bytes), "0", "N", "Events are made this much longer.", 0,
     16777216},
    {"query-rate", OPTION_REAL, O(query_rate), "0", "N", "Queries a second and edge.", 0, 0},
    {"query-nodes", OPTION_NUMBER, O(query_nodes), "0", "N",
     "Only the first N edges query; 0: all.", 0, 0},
    {"query-kind", OPTION_STRING, O(query_kind), "node", "KIND",
     "node, configmap, or both in turn.", 0, 0},
    {"query-configmap", OPTION_STRING, O(query_configmap), "default/configmap/kube-root-ca.crt",
     "RESOURCE", "What configmap queries ask for.", 0, 0},
    {"big-messages", OPTION_NUMBER, O(padding_bytes), "0", "N",
     "Nodes and status patches are longer by a list of images.", 0, 16777216},
    {"flood", OPTION_NUMBER, O(flood_nodes), "0", "N",
     "The first N edges send as fast as they can, beyond 30/s.", 0, 0},
    {"flood-kind", OPTION_STRING, O(flood_kind), "event", "KIND", "event, nodepatch or configmap.",
     0, 0},

    {.help = "Ill-behaved peers"},
    {"misbehave", OPTION_STRING, O(misbehave), "none", "NAME",
     "What they do: " EDGE_MISBEHAVIOURS_TEXT ".", 0, 0},
    {"misbehave-nodes", OPTION_NUMBER, O(misbehave_nodes), "0", "N",
     "Only the first N edges; 0: all.", 0, 0},

    {.help = "Expectations (the exit code is 3 when one fails)"},
    {"expect-all-answered", OPTION_BOOL, O(expect_all_answered), "false", NULL,
     "Every question was answered exactly once within 60 s, unless its link broke.", 0, 0},
    {"expect-all-ready", OPTION_BOOL, O(expect_all_ready), "false", NULL,
     "At the end every edge is registered and has renewed its lease within 40 s.", 0, 0},
    {"expect-no-loss", OPTION_BOOL, O(expect_no_loss), "false", NULL,
     "No connection ended before we ended it.", 0, 0},
    {"expect-refused", OPTION_BOOL, O(expect_refused), "false", NULL,
     "No edge ever got a connection.", 0, 0},
    {"expect-lease-gap", OPTION_DURATION, O(expect_lease_gap_ms), "0", "D",
     "No two renewals of a lease were further apart (in scaled time); 0: not looked at.", 0, 0},

    {.help = "Logs"},
    {"log-level", OPTION_STRING, O(log_level), "warn", "L", "debug, info, warn or error.", 0, 0},
    {"log-format", OPTION_STRING, O(log_format), "text", "F", "text or json.", 0, 0},
    {0},
};

static int parse_offset(struct edge_options *o, struct errbuf *e)
{
    uint64_t ms;
    const char *text = o->clock_offset;
    bool behind = *text == '-';
    if (options_parse_duration(behind ? text + 1 : text, &ms) != 0) {
        errbuf_set(e, "--clock-offset %s: not a duration", text);
        return -EINVAL;
    }
    o->clock_offset_ms = behind ? -(int64_t)ms : (int64_t)ms;
    return 0;
}

static int check(struct edge_options *o, struct errbuf *e)
{
    enum log_level level;
    enum log_format format;
    if (!o->servers || (!o->join && (!o->ca || !o->cert_dir))) {
        errbuf_set(e, "--server, --ca and --cert-dir are needed (or --join for the latter two)");
        return -EINVAL;
    }
    if (!o->join != !o->token || (o->join && (o->ca || o->cert_dir))) {
        errbuf_set(e, "--join and --token go together, without --ca and --cert-dir");
        return -EINVAL;
    }
    if (edge_misbehaviour_parse(o->misbehave, &o->misbehaviour) != 0) {
        errbuf_set(e, "--misbehave %s: not one of %s", o->misbehave, EDGE_MISBEHAVIOURS_TEXT);
        return -EINVAL;
    }
    if (log_level_parse(o->log_level, &level) != 0 ||
        log_format_parse(o->log_format, &format) != 0) {
        errbuf_set(e, "--log-level %s --log-format %s: not known", o->log_level, o->log_format);
        return -EINVAL;
    }
    if (strcmp(o->tls, "1.2") != 0 && strcmp(o->tls, "1.3") != 0) {
        errbuf_set(e, "--tls %s: neither 1.2 nor 1.3", o->tls);
        return -EINVAL;
    }
    log_configure(format, level, 2);
    return parse_offset(o, e);
}

int edge_options_parse(struct edge_options *o, int argc, char **argv, bool *done, struct errbuf *e)
{
    struct options_result result;
    *o = (struct edge_options){0};
    *done = false;
    int rc = options_parse(specs, "EDGESIM_", argc, argv, o, &result, false, e);
    if (rc != 0)
        return rc;
    *done = result.wants_help || result.wants_version;
    if (result.wants_help)
        options_print_help(stdout,
                           "edgesim --server HOST:PORT --ca FILE --cert-dir DIR [--nodes N] ...",
                           "A fleet of simulated EdgeCores in one process.", specs, "EDGESIM_");
    else if (result.wants_version)
        printf("edgesim %s\n", isthmus_version());
    return *done ? 0 : check(o, e);
}

/* EdgeCore's own periods, in microseconds: kubeedge defaults and captures. */
static void set_periods(struct edge_config *c, double scale)
{
    c->link = (struct edge_link_times){(uint64_t)(30 * S / scale), (uint64_t)(5 * S / scale),
                                       (uint64_t)(30 * S / scale), 5};
    c->lease = (struct edge_lease_times){(uint64_t)(10 * S / scale), (uint64_t)(200 * MS / scale),
                                         (uint64_t)(7 * S / scale)};
    c->node = (struct edge_node_times){.register_us = (uint64_t)(100 * MS / scale),
                                       .register_max_us = (uint64_t)(7 * S / scale),
                                       .settle_us = (uint64_t)(60 * MS / scale),
                                       .check_us = (uint64_t)(10 * S / scale)};
    c->keepalive_us = (uint64_t)(15 * S / scale);
    c->answer_us = (uint64_t)(60 * S / scale);
    c->ack_min_us = (uint64_t)(2 * MS / scale);
    c->ack_max_us = (uint64_t)(25 * MS / scale);
    c->token_us = (uint64_t)(S / 30 / scale);
    c->burst_us = 59 * c->token_us;
    c->lease_valid_us = (uint64_t)(40 * S / scale);
    c->pod_step_us = (uint64_t)(100 * MS / scale);
}

static void set_load(const struct edge_options *o, struct edge_config *c)
{
    c->node.report_us = (uint64_t)((double)o->nodepatch_interval_ms * MS / o->time_scale);
    if (c->node.report_us < c->node.check_us)
        c->node.check_us = c->node.report_us;
    c->event_us = o->event_rate > 0 ? (uint64_t)(S / o->event_rate) : 0;
    c->query_us = o->query_rate > 0 ? (uint64_t)(S / o->query_rate) : 0;
    c->event_edges = (uint32_t)o->event_nodes;
    c->query_edges = (uint32_t)o->query_nodes;
    c->event_bytes = o->event_bytes;
    c->padding_bytes = o->padding_bytes;
    c->flood_edges = (uint32_t)o->flood_nodes;
    c->query_configmap = o->query_configmap;
}

static int index_of(const char *text, const char *const names[3])
{
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0)
            return i;
    }
    return -1;
}

static int set_kinds(const struct edge_options *o, struct edge_config *c, struct errbuf *e)
{
    static const char *const queries[] = {"configmap", "node", "both"};
    static const char *const floods[] = {"event", "nodepatch", "configmap"};
    int query = index_of(o->query_kind, queries), flood = index_of(o->flood_kind, floods);
    if (query < 0 || flood < 0 || edge_dialect_parse(o->edge_version, &c->dialect) != 0) {
        errbuf_set(e, "--query-kind %s --flood-kind %s --edge-version %s: one of them is not known",
                   o->query_kind, o->flood_kind, o->edge_version);
        return -EINVAL;
    }
    c->query_load = (enum edge_query_load)query;
    c->flood = (enum edge_flood)flood;
    return 0;
}

static int64_t wall_offset_us(void)
{
    struct timespec wall, steady;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &steady);
    return ((int64_t)wall.tv_sec - steady.tv_sec) * 1000000 +
           (wall.tv_nsec - steady.tv_nsec) / 1000;
}

int edge_options_config(const struct edge_options *o, struct edge_config *c, struct errbuf *e)
{
    *c = (struct edge_config){
        .has_database = o->database, .has_kubelet = o->kubelet, .has_pods = o->pods};
    RAND_bytes((unsigned char *)&c->nonce, sizeof(c->nonce));
    c->nonce &= UINT64_C(0xfffffffffff);
    c->wall_offset_us = wall_offset_us() + o->clock_offset_ms * 1000;
    set_periods(c, o->time_scale);
    set_load(o, c);
    return set_kinds(o, c, e);
}
