/* What the flags say, in one struct that is filled at start and then only read. The table that fills it is hub/config.c; each
 * field's meaning stands there as the flag's help. Durations are milliseconds, sizes bytes. */
#ifndef HUB_CONFIG_H
#define HUB_CONFIG_H

#include "isthmus/balancer.h"
#include "isthmus/options.h"

#include <stdbool.h>
#include <stdint.h>

struct config {
    /* what we talk to */
    const char *kubeconfig;
    bool impersonate, constrained_impersonation;
    bool downstream;
    const char *deny_nodes;

    /* where edges and people reach us */
    const char *websocket_address, *https_address, *admin_address, *control_socket;
    const char *tls_ca, *tls_cert, *tls_key;
    const char *advertise_address; /* derived: the first of them, written to the node's `cloudcore` annotation; or NULL */
    struct option_list advertise_addresses, dns_names; /* of the server certificate */
    const char *replica_id;
    bool legacy_client_certs;
    bool tls_slim; /* let go of session and chain after the handshake */
    struct option_list proxy_protocol_from;
    struct option_list allowed_node_labels;

    /* joining */
    const char *name_space;     /* of the Secrets */
    bool renew_server_cert, allow_reissue;
    uint64_t token_refresh_ms, edge_cert_ms;
    uint64_t join_rate, join_address_rate; /* requests without a certificate a second; 0: no limit */

    /* threads */
    uint64_t hub_threads, upstream_threads;

    /* admission */
    uint64_t max_connections, accept_rate, handshakes_inflight;
    uint64_t accept_wait_ms;       /* how long a connection may wait for a handshake slot */
    uint64_t handshake_timeout_ms; /* TLS and upgrade together */

    /* one session */
    uint64_t max_message_bytes, keepalive_timeout_ms;
    uint64_t message_timeout_ms; /* from a message's first byte to its last */
    uint64_t write_timeout_ms;   /* a peer that takes nothing for so long is closed */
    uint64_t node_rate, node_burst;   /* messages per second a node is read at */
    uint64_t node_queue, node_queue_bytes; /* unfinished messages of one node before it is not read */
    uint64_t reassembly_bytes;   /* half-received messages in all */
    uint64_t send_bytes;         /* unsent bytes of one node before it is closed */

    /* upstream */
    uint64_t upstream_inflight;  /* requests at once in each lane, all workers together */
    uint64_t node_inflight;      /* requests at once of one node in each lane */
    uint64_t edge_timeout_ms;    /* what an edge waits for an answer */
    uint64_t event_queue;        /* events of one node that may wait */
    uint64_t queue_bytes;        /* waiting messages in all */

    /* balancing */
    const char *balance_mode; /* as given; what it means stands in `balancing` */
    struct balancer_config balancing;
    const char *redis; /* URL, perhaps with a password: never logged; NULL or "": on its own */
    const char *redis_group, *redis_password_file;
    uint64_t redis_timeout_ms;
    bool release_nudge;        /* make a node that is let go write at once, so that it notices */
    uint64_t bridge_period_ms; /* between two renewals of the lease of a node that was let go */
    const char *agent_address; /* HAProxy's agent-check; NULL or "": off */

    const char *log_format, *log_level;
};

/* Whether CA and server certificate come from files; else they live in Secrets. */
static inline bool config_has_tls_files(const struct config *config)
{
    return config->tls_ca && *config->tls_ca;
}

/* Where the names of fields, flags and defaults stand. */
extern const struct option_spec config_options[];

/* What defaults are derived from. */
struct config_machine {
    uint64_t cores;
    uint64_t open_files;     /* RLIMIT_NOFILE as it is in force */
    const char *host_name;   /* borrowed by the config that is completed with it */
};

/* After options_parse(): fills in what was left to the machine (zeros) and checks what a single flag cannot know. Pure.
 * 0, or -EINVAL and `e`, which names the flag. */
int config_complete(struct config *config, const struct config_machine *machine, struct errbuf *e)
    __attribute__((warn_unused_result));

#endif
