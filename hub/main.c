/* isthmus: starts the parts and waits for signals.
 *
 * SIGTERM and SIGINT end it orderly (a second one at once); SIGHUP re-reads certificates and tokens. Exit codes: 0 after an
 * orderly end, 1 when something could not be started, 2 for wrong flags. */
#include "hub/config.h"
#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/upstream.h"
#include "isthmus/log.h"
#include "isthmus/version.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct process {
    struct config config;
    struct apiconfig *api;
    struct upstream *upstream;
    struct hub *hub;
};

static uint64_t raise_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

static int read_options(struct config *config, int argc, char **argv)
{
    static char host[256];
    struct errbuf e = {{0}};
    struct options_result result = {0};
    gethostname(host, sizeof(host) - 1);
    struct config_machine machine = {.cores = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN),
                                     .open_files = raise_open_files(),
                                     .host_name = host};
    int rc = options_parse(config_options, "ISTHMUS", argc, argv, config, &result, false, &e);
    if (rc == 0 && result.wants_help) {
        options_print_help(stdout, "isthmus [FLAG ...]", "The cloud-side hub of a KubeEdge fleet.", config_options,
                           "ISTHMUS");
        exit(0);
    }
    if (rc == 0 && result.wants_version) {
        printf("isthmus %s\n", isthmus_version());
        exit(0);
    }
    if (rc == 0)
        rc = config_complete(config, &machine, &e);
    if (rc != 0)
        fprintf(stderr, "isthmus: %s\n", e.text);
    return rc;
}

static int start(struct process *p, struct errbuf *e)
{
    const struct config *c = &p->config;
    int rc = hub_metrics_init();
    if (rc == 0)
        rc = c->kubeconfig ? apiconfig_load_kubeconfig(c->kubeconfig, &p->api, e) : apiconfig_load_in_cluster(&p->api, e);
    if (rc == 0)
        rc = upstream_create(c, p->api, &p->upstream, e);
    if (rc == 0)
        rc = hub_create(c, &p->hub, e);
    if (rc == 0)
        rc = upstream_start(p->upstream, p->hub, e);
    if (rc == 0)
        rc = hub_start(p->hub, p->upstream, e);
    return rc;
}

static void reload(struct process *p)
{
    struct errbuf e = {{0}};
    if (apiconfig_reload(p->api, &e) != 0 || hub_reload_tls(p->hub, &e) != 0)
        log_error("reload_failed", F_STR("error", e.text));
    else
        log_info("reloaded", F_STR("what", "certificates and tokens"));
}

static void wait_for_end(struct process *p, const sigset_t *signals)
{
    int number;
    while (sigwait(signals, &number) == 0 && number == SIGHUP)
        reload(p);
    log_info("stopping", F_STR("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
}

int main(int argc, char **argv)
{
    static struct process p;
    struct errbuf e = {{0}};
    sigset_t signals;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* inherited by every thread */

    if (read_options(&p.config, argc, argv) != 0)
        return 2;
    enum log_format format = LOG_FORMAT_TEXT;
    enum log_level level = LOG_LEVEL_INFO;
    if (log_format_parse(p.config.log_format, &format) != 0 || log_level_parse(p.config.log_level, &level) != 0) {
        fprintf(stderr, "isthmus: --log-format is text or json, --log-level debug, info, warn or error\n");
        return 2;
    }
    log_configure(format, level, STDERR_FILENO);
    if (start(&p, &e) != 0) {
        fprintf(stderr, "isthmus: %s\n", e.text);
        return 1;
    }
    log_info("started", F_STR("version", isthmus_version()), F_U64("port", hub_port(p.hub)),
             F_STR("api", apiconfig_server(p.api)));
    wait_for_end(&p, &signals);

    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    hub_stop_listening(p.hub);
    hub_close(p.hub, p.config.drain_timeout_ms);
    upstream_close(p.upstream, 5000);
    hub_destroy(p.hub);
    upstream_destroy(p.upstream);
    apiconfig_put(p.api);
    return 0;
}
