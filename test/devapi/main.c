/* devapi: a development Kubernetes API server for demonstration, faults and load. One thread,
 * everything in memory.
 *
 * Happy path: options, certificates, store with the usual namespaces and the seed, listening, and
 * then the kubeconfig: who waits for that file waits for readiness. SIGINT and SIGTERM end it.
 * Failure modes: whatever goes wrong before it listens ends the process with a text and status 1;
 * afterwards nothing does but the loss of memory at start. */
#include "isthmus/log.h"
#include "isthmus/options.h"
#include "isthmus/version.h"
#include "test/devapi/auth.h"
#include "test/devapi/certs.h"
#include "test/devapi/leases.h"
#include "test/devapi/seed.h"
#include "test/devapi/server.h"
#include "test/devapi/stats.h"
#include "test/devapi/watch.h"
#include "test/devapi/write.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct config {
    const char *address, *kubeconfig_out, *cert_dir, *seed_file, *token_file, *journal, *log_level;
    uint64_t latency_ms, retry_after_ms, event_cap, history_count, history_bytes, connection_max,
        lease_grace_ms, random_seed;
    double error_rate, throttle_rate, reset_rate, goaway_rate;
    struct option_list stalls;
    bool without_crds;
};

#define AT(member) OPTION(struct config, member)

static const struct option_spec specs[] = {
    {"address", OPTION_STRING, AT(address), "127.0.0.1:6443", "HOST:PORT", "Where to listen (TLS).",
     0, 0},
    {"kubeconfig-out", OPTION_STRING, AT(kubeconfig_out), NULL, "FILE",
     "Where to write an administrator's kubeconfig, once it listens.", 0, 0},
    {"cert-dir", OPTION_STRING, AT(cert_dir), NULL, "DIR",
     "Keep the CA here (ca.crt, ca.key) from run to run; without it each run makes its own.", 0, 0},
    {"seed-file", OPTION_STRING, AT(seed_file), NULL, "FILE",
     "A JSON array of objects that are there from the start.", 0, 0},
    {"token-file", OPTION_STRING, AT(token_file), NULL, "FILE",
     "Bearer tokens, TOKEN,USER,UID[,\"GROUPS\"] a line.", 0, 0},
    {"latency", OPTION_DURATION, AT(latency_ms), "0", "D", "Delay every request of the API.", 0, 0},
    {"error-rate", OPTION_REAL, AT(error_rate), "0", "F", "Answer this part of them with 500.", 0,
     1},
    {"throttle-rate", OPTION_REAL, AT(throttle_rate), "0", "F",
     "Answer this part of them with 429 and Retry-After.", 0, 1},
    {"retry-after", OPTION_DURATION, AT(retry_after_ms), "1s", "D", "What Retry-After says.", 0, 0},
    {"reset-rate", OPTION_REAL, AT(reset_rate), "0", "F",
     "Reset this part of their streams, half of them after the request was carried out.", 0, 1},
    {"goaway-rate", OPTION_REAL, AT(goaway_rate), "0", "F",
     "Send GOAWAY at this part of them, and finish what is under way.", 0, 1},
    {"stall", OPTION_LIST, AT(stalls), NULL, "KIND=D",
     "Let each write of a kind take this long, as in event=8s; may be given more than once.", 0, 0},
    {"without-crds", OPTION_BOOL, AT(without_crds), "false", NULL,
     "Do not know custom resources, as a cluster where KubeEdge's were not applied.", 0, 0},
    {"event-cap", OPTION_NUMBER, AT(event_cap), "5000", "N", "Keep at most so many events.", 1,
     10000000},
    {"history", OPTION_NUMBER, AT(history_count), "8192", "N",
     "Changes of each kind that a watch can resume from.", 1, 1000000},
    {"history-bytes", OPTION_NUMBER, AT(history_bytes), "67108864", "N",
     "The bytes these may take, for each kind.", 1024, 0},
    {"max-connections", OPTION_NUMBER, AT(connection_max), "4096", "N", "Connections at once.", 1,
     1000000},
    {"lease-grace", OPTION_DURATION, AT(lease_grace_ms), "40s", "D",
     "A node whose lease is older counts as NotReady.", 0, 0},
    {"random-seed", OPTION_NUMBER, AT(random_seed), "1", "N",
     "Decides which requests meet a fault.", 1, 0},
    {"journal", OPTION_STRING, AT(journal), NULL, "FILE",
     "One line for each accepted write: time (us, monotonic), user, verb, kind, name, version.", 0,
     0},
    {"log-level", OPTION_STRING, AT(log_level), "info", "L", "debug, info, warn or error.", 0, 0},
    {NULL, 0, 0, NULL, NULL, NULL, 0, 0},
};

static void on_change(void *context, const struct dev_change *change)
{
    dev_watch_changed(context, change->object->kind);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct dev_server *server = handle->data;
    log_info("stopping", F_I64("signal", number));
    uv_signal_t *signals = server->loop->data;
    uv_close((uv_handle_t *)&signals[0], NULL);
    uv_close((uv_handle_t *)&signals[1], NULL);
    dev_server_stop(server);
}

static int set_faults(struct dev_server *server, const struct config *config, struct errbuf *e)
{
    server->faults = (struct dev_faults){.latency_ms = config->latency_ms,
                                         .error_rate = config->error_rate,
                                         .throttle_rate = config->throttle_rate,
                                         .reset_rate = config->reset_rate,
                                         .goaway_rate = config->goaway_rate,
                                         .retry_after_s = (config->retry_after_ms + 999) / 1000};
    if (config->without_crds)
        dev_kinds_without_custom();
    for (size_t i = 0; i < config->stalls.count; i++) {
        int rc = dev_faults_set_stall(&server->faults, config->stalls.items[i], e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int fill_store(struct dev_server *server, const struct config *config, struct errbuf *e)
{
    static const char *const namespaces[] = {"default", "kube-node-lease", "kube-public",
                                             "kube-system"};
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
        int rc = dev_write_namespace(server, namespaces[i]);
        if (rc != 0) {
            errbuf_set(e, "namespace %s: %s", namespaces[i], strerror(-rc));
            return rc;
        }
    }
    return config->seed_file ? dev_seed_load(server, config->seed_file, e) : 0;
}

static int prepare(struct dev_server *server, const struct config *config,
                   const struct dev_certs *certs, struct errbuf *e)
{
    const struct dev_store_limits limits = {.event_cap = config->event_cap,
                                            .history_count = config->history_count,
                                            .history_bytes = config->history_bytes};
    server->random_state = config->random_seed;
    server->conn_max = config->connection_max;
    server->started_ms = uv_now(server->loop);
    server->ca_pem = dev_certs_ca_pem(certs);
    server->store = dev_store_create(&limits);
    server->stats = dev_stats_create();
    server->leases = dev_leases_create(config->lease_grace_ms);
    server->tls = dev_certs_server_context(certs, e);
    if (!server->tls)
        return -EINVAL;
    if (!server->store || !server->stats || !server->leases ||
        RAND_bytes(server->token_key, sizeof(server->token_key)) != 1)
        return -ENOMEM;
    dev_store_listen(server->store, on_change, server);
    if (config->journal && !(server->journal = fopen(config->journal, "ae"))) {
        int rc = -errno;
        errbuf_set(e, "journal %s: %s", config->journal, strerror(-rc));
        return rc;
    }
    int rc = config->token_file ? dev_tokens_load(config->token_file, &server->tokens, e) : 0;
    if (rc == 0)
        rc = set_faults(server, config, e);
    if (rc == 0)
        rc = fill_store(server, config, e);
    return rc;
}

static int serve(struct dev_server *server, const struct config *config,
                 const struct dev_certs *certs, struct errbuf *e)
{
    uv_signal_t signals[2];
    int rc = dev_server_start(server);
    if (rc == 0)
        rc = dev_server_listen(server, config->address, e);
    if (rc == 0 && config->kubeconfig_out)
        rc = dev_certs_write_kubeconfig(certs, config->kubeconfig_out, config->address,
                                        "devapi-admin", "system:masters", e);
    if (rc != 0)
        return rc;
    server->loop->data = signals;
    for (int i = 0; i < 2; i++) {
        uv_signal_init(server->loop, &signals[i]);
        signals[i].data = server;
        uv_signal_start(&signals[i], on_signal, i ? SIGTERM : SIGINT);
    }
    log_info("listening", F_STR("address", config->address), F_STR("version", isthmus_version()),
             F_U64("resource_version", dev_store_version(server->store)));
    uv_run(server->loop, UV_RUN_DEFAULT);
    return 0;
}

static void release(struct dev_server *server, struct dev_certs *certs)
{
    dev_store_destroy(server->store);
    dev_stats_destroy(server->stats);
    dev_leases_destroy(server->leases);
    dev_tokens_destroy(server->tokens);
    SSL_CTX_free(server->tls);
    if (server->journal)
        fclose(server->journal);
    dev_certs_destroy(certs);
}

static int run(const struct config *config, struct errbuf *e)
{
    struct dev_server server = {.loop = uv_default_loop()};
    struct dev_certs *certs = NULL;
    int rc = dev_certs_create(config->cert_dir, config->address, &certs, e);
    if (rc == 0)
        rc = prepare(&server, config, certs, e);
    if (rc == 0)
        rc = serve(&server, config, certs, e);
    release(&server, certs);
    return rc;
}

int main(int argc, char **argv)
{
    struct config config = {0};
    struct options_result result;
    struct errbuf e = {{0}};
    enum log_level level;
    signal(SIGPIPE, SIG_IGN);
    int rc = options_parse(specs, "DEVAPI", argc, argv, &config, &result, false, &e);
    if (rc == 0 && result.wants_help) {
        options_print_help(
            stdout, "devapi --kubeconfig-out FILE [FLAG ...]",
            "A development Kubernetes API server for demonstration, faults and load.", specs,
            "DEVAPI");
        return 0;
    }
    if (rc == 0 && result.wants_version) {
        printf("devapi %s\n", isthmus_version());
        return 0;
    }
    if (rc == 0 && log_level_parse(config.log_level, &level) != 0) {
        errbuf_set(&e, "log-level '%s': want debug, info, warn or error", config.log_level);
        rc = -EINVAL;
    }
    if (rc != 0) {
        fprintf(stderr, "devapi: %s\n", e.text);
        return 2;
    }
    log_configure(LOG_FORMAT_TEXT, level, STDERR_FILENO);
    rc = run(&config, &e);
    if (rc != 0)
        fprintf(stderr, "devapi: %s\n", e.text[0] ? e.text : strerror(-rc));
    return rc == 0 ? 0 : 1;
}
