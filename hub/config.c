/* The table of flags (config.h), the defaults that depend on the machine, and the checks that need
 * more than one flag. Pure. */
#include "hub/config.h"

#include "isthmus/balance.h"
#include "isthmus/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024.0
#define MIB (1024.0 * 1024)

/* A core takes about 1,500 full handshakes a second; half of that leaves room for the sessions
 * there are. */
#define HANDSHAKES_PER_CORE 700

#define FIELD(member)     OPTION(struct config, member)
#define BALANCING(member) OPTION(struct config, balancing.member)
#define HEADING(text)                                                                              \
    {                                                                                              \
        .help = text                                                                               \
    }

/* clang-format off */
const struct option_spec config_options[] = {
    HEADING("Kubernetes"),
    {"kubeconfig", OPTION_STRING, FIELD(kubeconfig), NULL, "FILE",
     "How to reach the API server; without it the pod's service account is used.", 0, 0},
    {"impersonate", OPTION_BOOL, FIELD(impersonate), "true", NULL,
     "Send each node's requests under the node's own identity, so that the Node authorizer and NodeRestriction decide what it may do.", 0, 0},
    {"constrained-impersonation", OPTION_BOOL, FIELD(constrained_impersonation), "false", NULL,
     "The hub's account has nothing but constrained impersonation (deploy/rbac-constrained.yaml): nodes are named without their group, which the API server adds itself.", 0, 0},
    {"allowed-node-labels", OPTION_LIST, FIELD(allowed_node_labels), NULL, "KEY",
     "A label that NodeRestriction keeps nodes from setting on themselves and that the hub sets for them when they ask; may be repeated. The edge role labels are always set.", 0, 0},

    {"downstream", OPTION_BOOL, FIELD(downstream), "true", NULL,
     "Watch pods, ConfigMaps, Secrets and Nodes, and push them to the edges that want them.", 0, 0},
    {"deny-nodes", OPTION_STRING, FIELD(deny_nodes), NULL, "FILE",
     "Names of nodes, one a line, that are kept out; re-read when it changes and on SIGHUP.", 0, 0},

    HEADING("Addresses"),
    {"websocket-address", OPTION_STRING, FIELD(websocket_address), "[::]:10000", "HOST:PORT",
     "Where edges connect (TLS with client certificates).", 0, 0},
    {"https-address", OPTION_STRING, FIELD(https_address), "[::]:10002", "HOST:PORT",
     "Where edges join: CA, certificates, node check (TLS); empty turns it off.", 0, 0},
    {"admin-address", OPTION_STRING, FIELD(admin_address), "[::]:9440", "HOST:PORT",
     "Where the status page, /metrics and the health checks are (plain HTTP, only reads, names no node); empty turns it off.", 0, 0},
    {"agent-address", OPTION_STRING, FIELD(agent_address), NULL, "HOST:PORT",
     "Where HAProxy's agent-check asks how many of the new connections this replica should get; default is not at all.", 0, 0},
    {"control-socket", OPTION_STRING, FIELD(control_socket), "/run/isthmus/control.sock", "PATH",
     "Unix socket of the subcommands, for this user only; empty turns it off.", 0, 0},
    {"advertise-address", OPTION_LIST, FIELD(advertise_addresses), NULL, "HOST",
     "An address under which edges reach the hubs, perhaps a load balancer's: goes into the server certificate; the first one is also written to each node's annotation 'cloudcore'; may be repeated. Default is this machine's own address.", 0, 0},
    {"dns-name", OPTION_LIST, FIELD(dns_names), NULL, "NAME",
     "A DNS name under which edges reach the hubs, for the server certificate; may be repeated.", 0, 0},
    {"replica-id", OPTION_STRING, FIELD(replica_id), NULL, "ID",
     "The name of this replica among all; default is the host name.", 0, 0},
    {"proxy-protocol-from", OPTION_LIST, FIELD(proxy_protocol_from), NULL, "CIDR",
     "Connections from these addresses must begin with a PROXY protocol header (v1 or v2); may be repeated.", 0, 0},

    HEADING("Certificates"),
    {"tls-ca", OPTION_STRING, FIELD(tls_ca), NULL, "FILE",
     "CA of the edges' client certificates (PEM), re-read when it changes and on SIGHUP. All three files are given or none; without them CA and server certificate live in Secrets. With them no node can be given a certificate.", 0, 0},
    {"tls-cert", OPTION_STRING, FIELD(tls_cert), NULL, "FILE",
     "The hub's own certificate with its chain (PEM).", 0, 0},
    {"tls-key", OPTION_STRING, FIELD(tls_key), NULL, "FILE",
     "The private key to it (PEM).", 0, 0},
    {"namespace", OPTION_STRING, FIELD(name_space), "kubeedge", "NAME",
     "Where the Secrets casecret, cloudcoresecret and tokensecret are, CloudCore's formats; what is missing is made once, by whichever replica is first.", 0, 0},
    {"renew-server-cert", OPTION_BOOL, FIELD(renew_server_cert), "false", NULL,
     "Make a new server certificate when the one in the Secret lacks a name of --advertise-address or --dns-name, has expired, or is not of the CA; the names it has stay.", 0, 0},
    {"legacy-client-certs", OPTION_BOOL, FIELD(legacy_client_certs), "false", NULL,
     "Take certificates that name no node, as EdgeCore up to 1.15 has them; such nodes are never impersonated.", 0, 0},
    {"tls-slim", OPTION_BOOL, FIELD(tls_slim), "true", NULL,
     "Let go of what TLS no longer needs once the handshake is done; saves about 7 KB for each edge.", 0, 0},

    HEADING("Joining"),
    {"token-refresh", OPTION_DURATION, FIELD(token_refresh_ms), "12h", "D",
     "How often a new join token is made; each is good for twice as long.", 0, 0},
    {"edge-cert-lifetime", OPTION_DURATION, FIELD(edge_cert_ms), "8760h", "D",
     "How long a node's certificate is good; EdgeCore renews it after 70 to 90 % of that.", 0, 0},
    {"allow-reissue", OPTION_BOOL, FIELD(allow_reissue), "false", NULL,
     "Give a certificate for a token even when a node of that name is connected here or has a fresh lease.", 0, 0},
    {"join-rate", OPTION_NUMBER, FIELD(join_rate), "100", "N",
     "Requests a second without a certificate that --https-address answers; 0 is no limit.", 0, 1e6},
    {"join-address-rate", OPTION_NUMBER, FIELD(join_address_rate), "20", "N",
     "The same from one address (of IPv6, one /64); 0, no limit, behind a balancer that hides the edges' addresses.", 0, 1e6},

    HEADING("Threads"),
    {"hub-threads", OPTION_NUMBER, FIELD(hub_threads), NULL, "N",
     "Threads that hold the edges' connections, 1 to 64; default is one for each core, at most 16.", 0, 64},
    {"upstream-threads", OPTION_NUMBER, FIELD(upstream_threads), NULL, "N",
     "Threads that talk to the API server, 1 to 64; default is one for each two cores, at most 8.", 0, 64},

    HEADING("Taking edges in"),
    {"max-connections", OPTION_NUMBER, FIELD(max_connections), NULL, "N",
     "Connections held at most; beyond it they are refused before TLS. Default is what the limit of open files allows.", 0, 10e6},
    {"accept-rate", OPTION_NUMBER, FIELD(accept_rate), NULL, "N",
     "Handshakes begun in a second; default is 700 for each core that hub threads can use.", 0, 1e6},
    {"handshakes-inflight", OPTION_NUMBER, FIELD(handshakes_inflight), "512", "N",
     "Handshakes in progress at once; further connections wait.", 1, 1e6},
    {"accept-wait", OPTION_DURATION, FIELD(accept_wait_ms), "15s", "D",
     "How long a connection may wait for its handshake to begin; an edge gives up after 30s in all.", 0, 0},
    {"handshake-timeout", OPTION_DURATION, FIELD(handshake_timeout_ms), "15s", "D",
     "Within what time TLS and the websocket upgrade together must be done.", 0, 0},

    HEADING("Each edge"),
    {"keepalive-timeout", OPTION_DURATION, FIELD(keepalive_timeout_ms), "45s", "D",
     "An edge that sends no message at all for so long is closed; EdgeCore sends a keepalive every 15s.", 0, 0},
    {"max-message-bytes", OPTION_NUMBER, FIELD(max_message_bytes), "4194304", "BYTES",
     "The largest message taken from an edge; a larger one closes its connection.", 4 * KIB, 64 * MIB},
    {"message-timeout", OPTION_DURATION, FIELD(message_timeout_ms), "30s", "D",
     "Within what time from its first byte a message must be complete.", 0, 0},
    {"write-timeout", OPTION_DURATION, FIELD(write_timeout_ms), "30s", "D",
     "An edge that takes nothing of what is sent to it for so long is closed.", 0, 0},
    {"send-bytes", OPTION_NUMBER, FIELD(send_bytes), "8388608", "BYTES",
     "An edge with more than this unsent is closed.", 64 * KIB, 1024 * MIB},
    {"node-rate", OPTION_NUMBER, FIELD(node_rate), "60", "N",
     "Messages a second taken from one edge; a faster one is read more slowly. EdgeCore itself sends at most 30.", 1, 1e6},
    {"node-burst", OPTION_NUMBER, FIELD(node_burst), "120", "N",
     "Messages one edge may send at once after a pause.", 1, 1e6},
    {"node-queue", OPTION_NUMBER, FIELD(node_queue), "64", "N",
     "Unfinished messages of one edge, events apart, beyond which it is not read.", 1, 1e6},
    {"node-queue-bytes", OPTION_NUMBER, FIELD(node_queue_bytes), "8388608", "BYTES",
     "The same in bytes.", 4 * KIB, 1024 * MIB},
    {"reassembly-bytes", OPTION_NUMBER, FIELD(reassembly_bytes), "67108864", "BYTES",
     "Half-received messages of all edges together; beyond it the largest is closed.", 64 * KIB, 64 * 1024 * MIB},

    HEADING("Upstream"),
    {"upstream-inflight", OPTION_NUMBER, FIELD(upstream_inflight), "128", "N",
     "API requests in flight at once in each lane, all threads together.", 1, 10000},
    {"node-inflight", OPTION_NUMBER, FIELD(node_inflight), "4", "N",
     "API requests in flight at once of one node in each lane.", 1, 1000},
    {"edge-timeout", OPTION_DURATION, FIELD(edge_timeout_ms), "60s", "D",
     "How long an edge waits for an answer; what cannot be answered in time is not sent to the API server any more.", 0, 0},
    {"event-queue", OPTION_NUMBER, FIELD(event_queue), "100", "N",
     "Events of one node that may wait; beyond it the oldest is dropped.", 1, 1e6},
    {"queue-bytes", OPTION_NUMBER, FIELD(queue_bytes), "134217728", "BYTES",
     "Waiting messages of all edges together; beyond it edges that send are not read.", 64 * KIB, 64 * 1024 * MIB},

    HEADING("Balancing"),
    {"redis", OPTION_STRING, FIELD(redis), NULL, "URL",
     "The Redis (5 to 7) that the replicas of a fleet share, redis://[user:password@]host:port/db or unix:///path, rediss:// for TLS; better give a password in a file or the whole URL in the environment. Without it this replica is on its own; while it is away nothing is moved and everything served.", 0, 0},
    {"redis-group", OPTION_STRING, FIELD(redis_group), "default", "NAME",
     "The replicas of one fleet have the same group; several fleets can share one Redis.", 0, 0},
    {"redis-password-file", OPTION_STRING, FIELD(redis_password_file), NULL, "FILE",
     "Holds the password for Redis in its first line; read again at every connect. A password may also be in the environment, ISTHMUS_REDIS_PASSWORD.", 0, 0},
    {"redis-timeout", OPTION_DURATION, FIELD(redis_timeout_ms), "2s", "D",
     "Within what time Redis must take a connection, and answer; then the connection is made anew.", 0, 0},
    {"balance", OPTION_STRING, FIELD(balance_mode), "on", "on|dry-run|off",
     "Whether to release connections so that all replicas hold their share; dry-run shows what it would do, a good start.", 0, 0},
    {"balance-weight", OPTION_NUMBER, BALANCING(weight), "100", "N",
     "This replica's share relative to the others'; give a machine with half the memory half the weight.", 1, BALANCER_WEIGHT_MAX},
    {"balance-period", OPTION_DURATION, BALANCING(period_ms), "5s", "D",
     "How often the replicas tell each other their numbers; the same in all of them. A replica is gone after three.", 0, 0},
    {"balance-tolerance", OPTION_REAL, BALANCING(tolerance), "0.05", "SHARE",
     "How far from its share, as a part of it, a replica may be before anything is done; it triggers a move, which then goes all the way.", 0, 1},
    {"balance-tolerance-abs", OPTION_NUMBER, BALANCING(tolerance_abs), "1", "N",
     "The same in connections; the larger of the two counts.", 1, BALANCER_LIVE_MAX},
    {"release-rate", OPTION_NUMBER, BALANCING(release_rate), "50", "N",
     "Connections released a second; each costs another replica a handshake, so stay well below --accept-rate.", 1, 100000},
    {"release-max-fraction", OPTION_REAL, BALANCING(release_max_fraction), "0.1", "SHARE",
     "How much of the whole fleet may be away at once, whatever the reason: beyond it nothing more is released.", 0, 1},
    {"moves-per-hour", OPTION_NUMBER, BALANCING(moves_per_hour), "0", "N",
     "Releases in an hour by all replicas together, drains apart; 0 means as many as the fleet has nodes.", 0, 1e9},
    {"observe-seconds", OPTION_DURATION, BALANCING(observe_ms), "30s", "D",
     "How long to watch after the last release before anything new is begun; released nodes need 30s to come back.", 0, 0},
    {"inflight-timeout", OPTION_DURATION, BALANCING(inflight_timeout_ms), "90s", "D",
     "How long a released or lost node is expected to come back; the same in all replicas.", 0, 0},
    {"move-cooldown", OPTION_DURATION, BALANCING(move_cooldown_ms), "5m", "D",
     "A node that was moved is left alone for so long.", 0, 0},
    {"release-window", OPTION_DURATION, BALANCING(release_window_ms), "2.5s", "D",
     "A node is let go only so soon after a renewal of its lease was answered: the lease is young then, and stays so while it is away.", 0, 0},
    {"release-nudge", OPTION_BOOL, FIELD(release_nudge), "true", NULL,
     "Send a node its Node right before it is closed: it must acknowledge that, notices at once, and is back after 30s. Without it a node may be away for 70s.", 0, 0},
    {"max-refusals", OPTION_NUMBER, BALANCING(max_refusals), "3", "N",
     "How often one released node may be turned away to find a replica that needs it; each costs it 5s. 0 for balancers that place connections well (leastconn, agent-check).", 0, 4},
    {"bridge-seconds", OPTION_DURATION, BALANCING(bridge_ms), "90s", "D",
     "How long a released node's lease is renewed for it at most; a real failure meanwhile is noticed that much later. 0 turns this off, and refusals with it.", 0, 0},
    {"bridge-period", OPTION_DURATION, FIELD(bridge_period_ms), "10s", "D",
     "How often the lease of such a node is renewed, as a kubelet does it; less than half of the lease's duration.", 0, 0},
    {"futile-fraction", OPTION_REAL, BALANCING(futile_fraction), "0.8", "SHARE",
     "When so much of what was released comes back here, the balancer in front binds nodes to replicas: stop and say so.", 0, 1},
    {"futile-backoff", OPTION_DURATION, BALANCING(futile_backoff_ms), "1m", "D",
     "How long to wait then before a small new try; twice as long each time.", 0, 0},
    {"futile-backoff-max", OPTION_DURATION, BALANCING(futile_backoff_max_ms), "1h", "D",
     "The longest such wait; whenever a replica comes or goes it ends.", 0, 0},
    {"edge-away", OPTION_DURATION, BALANCING(edge_away_ms), "30s", "D",
     "How long an EdgeCore sleeps after it lost its connection; change it only if yours were changed.", 0, 0},
    {"edge-redial", OPTION_DURATION, BALANCING(edge_redial_ms), "5s", "D",
     "How long it waits after a dial that failed; likewise.", 0, 0},

    HEADING("Running"),
    {"log-format", OPTION_STRING, FIELD(log_format), "text", "text|json",
     "How log lines on standard error look.", 0, 0},
    {"log-level", OPTION_STRING, FIELD(log_level), "info", "LEVEL",
     "What is logged: debug, info, warn or error.", 0, 0},
    {"drain-timeout", OPTION_DURATION, BALANCING(drain_timeout_ms), "5m", "D",
     "How long a drain (a stop, too) may take: edges are released one after another, what was taken is finished, leases are bridged until their nodes are back. At least twice --bridge-seconds, else half of it is for releasing; give the pod a terminationGracePeriodSeconds above it.", 0, 0},
    {.name = NULL},
};
/* clang-format on */

static int fail(struct errbuf *e, const char *flag, const char *why)
{
    errbuf_set(e, "--%s: %s", flag, why);
    return -EINVAL;
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Open files are also needed for connections that still wait, for the API server, for the admin
 * endpoint and for files. */
static uint64_t reserved_files(uint64_t open_files)
{
    return clamp(open_files / 20, 128, 2048);
}

static void fill_in(struct config *c, const struct config_machine *m)
{
    if (c->hub_threads == 0)
        c->hub_threads = clamp(m->cores, 1, 16);
    if (c->upstream_threads == 0)
        c->upstream_threads = clamp((m->cores + 1) / 2, 1, 8);
    if (c->accept_rate == 0)
        c->accept_rate = HANDSHAKES_PER_CORE * clamp(c->hub_threads, 1, clamp(m->cores, 1, 64));
    if (c->max_connections == 0 && m->open_files > reserved_files(m->open_files))
        c->max_connections =
            clamp(m->open_files - reserved_files(m->open_files), 1, 10 * 1000 * 1000);
    if (!c->replica_id || !*c->replica_id)
        c->replica_id = m->host_name;
    if (c->advertise_addresses.count > 0)
        c->advertise_address = c->advertise_addresses.items[0];
}

/* ---- checks ---- */

static int check_address(const char *flag, const char *text, bool may_be_empty, struct errbuf *e)
{
    char host[256];
    uint16_t port;
    if (may_be_empty && (!text || !*text))
        return 0;
    if (text && options_parse_address(text, host, &port) == 0)
        return 0;
    errbuf_set(e, "--%s: '%.200s' is not HOST:PORT, [IPv6]:PORT or :PORT", flag, text ? text : "");
    return -EINVAL;
}

static int check_addresses(const struct config *c, struct errbuf *e)
{
    int rc = check_address("websocket-address", c->websocket_address, false, e);
    if (rc == 0)
        rc = check_address("https-address", c->https_address, true, e);
    if (rc == 0)
        rc = check_address("admin-address", c->admin_address, true, e);
    if (rc == 0)
        rc = check_address("agent-address", c->agent_address, true, e);
    return rc;
}

static bool is_given(const char *text)
{
    return text && *text;
}

/* All or none. */
static int check_files(const struct config *c, struct errbuf *e)
{
    static const char why[] = "is required: all of --tls-ca, --tls-cert and --tls-key, or none";
    if (!is_given(c->tls_ca) && !is_given(c->tls_cert) && !is_given(c->tls_key))
        return 0;
    if (!is_given(c->tls_ca))
        return fail(e, "tls-ca", why);
    if (!is_given(c->tls_cert))
        return fail(e, "tls-cert", why);
    if (!is_given(c->tls_key))
        return fail(e, "tls-key", why);
    if (c->renew_server_cert)
        return fail(e, "renew-server-cert",
                    "is for the certificate in the Secret, not for --tls-cert");
    return 0;
}

/* It becomes part of paths. */
static int check_namespace(const char *name, struct errbuf *e)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    if (!is_given(name) || strlen(name) > 63 || strspn(name, allowed) != strlen(name))
        return fail(e, "namespace", "must be 1 to 63 lower-case letters, digits or '-'");
    return 0;
}

/* A replica's name becomes a key in Redis and a word in logs. */
static int check_replica_id(const char *id, struct errbuf *e)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    if (!id || !*id)
        return fail(e, "replica-id", "is empty, and the host has no name");
    if (strlen(id) > 63 || strspn(id, allowed) != strlen(id))
        return fail(e, "replica-id", "must be 1 to 63 letters, digits, '-', '.' or '_'");
    return 0;
}

static bool is_cidr(const char *text)
{
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof(address))
        return false;
    memcpy(address, text, n);
    address[n] = '\0';
    unsigned long limit = inet_pton(AF_INET, address, bytes) == 1    ? 32
                          : inet_pton(AF_INET6, address, bytes) == 1 ? 128
                                                                     : 0;
    if (limit == 0 || !slash)
        return limit != 0;
    size_t digits = strspn(slash + 1, "0123456789");
    return digits > 0 && digits <= 3 && !slash[1 + digits] && strtoul(slash + 1, NULL, 10) <= limit;
}

static int check_lists(const struct config *c, struct errbuf *e)
{
    for (size_t i = 0; i < c->proxy_protocol_from.count; i++) {
        if (!is_cidr(c->proxy_protocol_from.items[i])) {
            errbuf_set(e, "--proxy-protocol-from: '%.100s' is not an address or CIDR",
                       c->proxy_protocol_from.items[i]);
            return -EINVAL;
        }
    }
    for (size_t i = 0; i < c->allowed_node_labels.count; i++) {
        size_t n = strlen(c->allowed_node_labels.items[i]);
        if (n == 0 || n > 317)
            return fail(e, "allowed-node-labels", "a label's key has 1 to 317 characters");
    }
    return 0;
}

static int check_durations(const struct config *c, struct errbuf *e)
{
    const struct {
        const char *flag;
        uint64_t ms, least_ms;
    } rules[] = {
        {"accept-wait", c->accept_wait_ms, 100},
        {"handshake-timeout", c->handshake_timeout_ms, 100},
        {"keepalive-timeout", c->keepalive_timeout_ms, 1000},
        {"message-timeout", c->message_timeout_ms, 100},
        {"write-timeout", c->write_timeout_ms, 100},
        {"edge-timeout", c->edge_timeout_ms, 100},
        {"bridge-period", c->bridge_period_ms, 100},
        {"drain-timeout", c->balancing.drain_timeout_ms, 100},
        {"token-refresh", c->token_refresh_ms, 1000},
        {"edge-cert-lifetime", c->edge_cert_ms, 1000},
        {"redis-timeout", c->redis_timeout_ms, 10},
        {"edge-away", c->balancing.edge_away_ms, 1},
        {"edge-redial", c->balancing.edge_redial_ms, 1},
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].ms < rules[i].least_ms) {
            errbuf_set(e, "--%s: must be at least %llums", rules[i].flag,
                       (unsigned long long)rules[i].least_ms);
            return -EINVAL;
        }
    }
    return 0;
}

static int check_bounds(const struct config *c, const struct config_machine *m, struct errbuf *e)
{
    if (c->max_connections == 0 || c->max_connections + 64 > m->open_files) {
        errbuf_set(e,
                   "--max-connections: %llu do not fit the limit of %llu open files (64 are kept "
                   "for other things); raise it (ulimit -n, LimitNOFILE=)",
                   (unsigned long long)c->max_connections, (unsigned long long)m->open_files);
        return -EINVAL;
    }
    if (c->node_burst < c->node_rate)
        return fail(e, "node-burst", "must be at least --node-rate");
    if (c->reassembly_bytes < c->max_message_bytes)
        return fail(e, "reassembly-bytes", "must be at least --max-message-bytes");
    if (c->node_queue_bytes < c->max_message_bytes)
        return fail(e, "node-queue-bytes", "must be at least --max-message-bytes");
    if (c->send_bytes < c->max_message_bytes)
        return fail(e, "send-bytes", "must be at least --max-message-bytes");
    if (c->queue_bytes < c->node_queue_bytes)
        return fail(e, "queue-bytes", "must be at least --node-queue-bytes");
    return 0;
}

static int check_log(const struct config *c, struct errbuf *e)
{
    enum log_level level;
    enum log_format format;
    if (log_level_parse(c->log_level, &level) != 0)
        return fail(e, "log-level", "must be debug, info, warn or error");
    if (log_format_parse(c->log_format, &format) != 0)
        return fail(e, "log-format", "must be text or json");
    return 0;
}

static int check_balance_mode(struct config *c, struct errbuf *e)
{
    static const char *const modes[] = {
        [BALANCER_OFF] = "off", [BALANCER_DRY_RUN] = "dry-run", [BALANCER_ON] = "on"};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(c->balance_mode, modes[i]) == 0) {
            c->balancing.mode = (enum balancer_mode)i;
            return 0;
        }
    }
    return fail(e, "balance", "must be on, dry-run or off");
}

static int check_balancing(struct config *c, struct errbuf *e)
{
    int rc = check_balance_mode(c, e);
    if (rc != 0)
        return rc;
    const char *wrong = balancer_config_check(&c->balancing);
    if (wrong) {
        errbuf_set(e, "%s", wrong);
        return -EINVAL;
    }
    if (c->redis && *c->redis && balance_check_url(c->redis, e) != 0) {
        errbuf_wrap(e, "--redis");
        return -EINVAL;
    }
    if (!balance_is_group_name(c->redis_group))
        return fail(e, "redis-group", "must be 1 to 63 letters, digits, '-', '.' or '_'");
    return 0;
}

int config_complete(struct config *config, const struct config_machine *machine, struct errbuf *e)
{
    fill_in(config, machine);
    int rc = check_log(config, e);
    if (rc == 0)
        rc = check_addresses(config, e);
    if (rc == 0)
        rc = check_files(config, e);
    if (rc == 0)
        rc = check_namespace(config->name_space, e);
    if (rc == 0)
        rc = check_replica_id(config->replica_id, e);
    if (rc == 0)
        rc = check_lists(config, e);
    if (rc == 0)
        rc = check_durations(config, e);
    if (rc == 0)
        rc = check_bounds(config, machine, e);
    if (rc == 0)
        rc = check_balancing(config, e);
    return rc;
}
