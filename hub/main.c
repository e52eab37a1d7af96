/* isthmus: starts the parts, keeps the control loop, ends them.
 *
 * The control loop is the main thread's: signals, the admin endpoint, the balancer, the control socket, re-reading of files.
 * SIGTERM drains: edges are let go one after another while their leases are bridged, and the process ends when nothing is left
 * or --drain-timeout is over. SIGINT closes the edges within seconds, without that. Either ends at once when it comes again.
 * SIGHUP re-reads certificates and tokens, which is also done when their files change. Exit codes: 0 after an orderly end, 1
 * when something could not be started, 2 for wrong flags. */
#include "hub/admin.h"
#include "hub/agent.h"
#include "hub/commands.h"
#include "hub/config.h"
#include "hub/downstream.h"
#include "hub/filewatch.h"
#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/join.h"
#include "hub/notify.h"
#include "hub/subcommands.h"
#include "hub/upstream.h"
#include "isthmus/log.h"
#include "isthmus/pulse.h"
#include "isthmus/version.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BEAT_MS           500
#define FILE_CHECK_MS     10000
#define UPSTREAM_CLOSE_MS 5000
#define CLOSE_MS          2000 /* for sessions, when there is no time for a drain */

struct process {
    struct config config;
    struct apiconfig *api;
    struct upstream *upstream;
    struct downstream *downstream; /* NULL: off */
    struct hub *hub;
    struct facts_sources sources;
    struct mover *mover;
    struct admin *admin;
    struct join *join;
    struct agent *agent;
    struct explainer *explainer;
    struct control *control;
    struct commands commands;
    struct filewatch files;
    struct notify notify;

    uv_loop_t loop;
    uv_signal_t signals[3];
    uv_timer_t beat, drain_end;
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- options ---- */

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
        options_print_help(stdout, "isthmus [FLAG ...] | isthmus SUBCOMMAND", "The cloud-side hub of a KubeEdge fleet.",
                           config_options, "ISTHMUS");
        subcommands_print_help(stdout);
        exit(0);
    }
    if (rc == 0 && result.wants_version) {
        printf("isthmus %s\n", isthmus_version());
        exit(0);
    }
    if (rc == 0)
        rc = config_complete(config, &machine, &e);
    if (rc != 0)
        fprintf(stderr, "isthmus: %s\n(isthmus --help explains the flags)\n", e.text);
    return rc;
}

static void set_up_log(const struct config *config)
{
    enum log_format format = LOG_FORMAT_TEXT;
    enum log_level level = LOG_LEVEL_INFO;
    int rc = log_format_parse(config->log_format, &format);
    if (rc == 0)
        rc = log_level_parse(config->log_level, &level);
    assert(rc == 0); /* config_complete() has seen them */
    log_configure(format, level, STDERR_FILENO);
}

/* Whoever starts us may be told how we are; who cannot be told is no reason not to serve. */
static void open_notify(struct notify *notify)
{
    struct errbuf e = {{0}};
    if (notify_open_here(notify, &e) != 0)
        log_warn("service_manager_not_told", F_STR("error", e.text));
}

/* ---- files ---- */

static int on_new_tls(void *context, struct tls_material *tls, struct errbuf *e)
{
    struct process *p = context;
    return hub_replace_tls(p->hub, tls, e);
}

static void reload(struct process *p, const char *why)
{
    struct errbuf e = {{0}};
    notify_reloading(&p->notify);
    int rc = apiconfig_reload(p->api, &e);
    if (rc == 0)
        rc = join_reload(p->join, &e);
    if (rc == 0)
        rc = hub_reload_denied(p->hub, &e);
    if (rc != 0)
        log_error("reload_failed", F_STR("why", why), F_STR("error", e.text));
    else
        log_info("reloaded", F_STR("why", why));
    notify_ready(&p->notify, rc != 0 ? "Serving; the last reload failed, see the log" : "Serving");
}

static void on_files_changed(void *context)
{
    reload(context, "files changed");
}

/* ---- the control loop ---- */

static void end(struct process *p)
{
    uv_stop(&p->loop);
}

static void on_drain_end(uv_timer_t *timer)
{
    struct process *p = timer->data;
    log_warn("drain_timeout", F_U64("connected", hub_connections(p->hub)),
             F_U64("bridged", upstream_bridged(p->upstream)));
    end(p);
}

/* Of a drain that was asked for by the control socket the process stays. */
static void on_drained(void *context)
{
    struct process *p = context;
    if (p->commands.is_stopping)
        end(p);
}

static void begin_stop(struct process *p, int number)
{
    log_info("stopping", F_STR("signal", number == SIGINT ? "SIGINT" : "SIGTERM"),
             F_U64("connected", hub_connections(p->hub)),
             F_U64("bridged", upstream_bridged(p->upstream)),
             F_U64("at_most_s", number == SIGINT ? 0 : p->config.balancing.drain_timeout_ms / 1000));
    p->commands.is_stopping = true;
    notify_stopping(&p->notify);
    mover_set_draining(p->mover, true);
    for (size_t i = 0; i < 2; i++) /* the next one ends the process at once */
        uv_signal_stop(&p->signals[i]);
    if (number == SIGINT)
        end(p);
    else
        uv_timer_start(&p->drain_end, on_drain_end, p->config.balancing.drain_timeout_ms, 0);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct process *p = handle->data;
    if (number == SIGHUP)
        reload(p, "SIGHUP");
    else
        begin_stop(p, number);
}

static void on_beat(uv_timer_t *timer)
{
    struct process *p = timer->data;
    uint64_t now = now_ms();
    pulse_beat(now);
    if (p->admin && notify_is_due(&p->notify, now))
        notify_life(&p->notify, admin_is_live(p->admin), now);
}

static int start_loop(struct process *p, struct errbuf *e)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    int rc = uv_timer_init(&p->loop, &p->beat);
    p->beat.data = p;
    if (rc == 0)
        rc = uv_timer_init(&p->loop, &p->drain_end);
    if (rc == 0)
        rc = uv_timer_start(&p->beat, on_beat, 0, BEAT_MS);
    p->drain_end.data = p;
    for (size_t i = 0; rc == 0 && i < 3; i++) {
        rc = uv_signal_init(&p->loop, &p->signals[i]);
        p->signals[i].data = p;
        if (rc == 0)
            rc = uv_signal_start(&p->signals[i], on_signal, numbers[i]);
    }
    if (rc == 0)
        rc = filewatch_start(&p->files, &p->loop, &p->config, FILE_CHECK_MS, on_files_changed, p);
    if (rc != 0)
        errbuf_set(e, "control loop: %s", uv_strerror(rc));
    return rc;
}

static unsigned read_agent_percent(void *context)
{
    return mover_agent_percent(context);
}

/* What people and programs talk to, on the control loop. */
static int start_doors(struct process *p, struct errbuf *e)
{
    const struct config *c = &p->config;
    const struct control_handler handler = {&p->commands, commands_request};
    int rc = admin_create(&p->loop, &p->sources, &p->admin, e);
    if (rc == 0 && c->agent_address && *c->agent_address)
        rc = agent_create(&p->loop, c->agent_address, read_agent_percent, p->mover, &p->agent, e);
    if (rc == 0)
        rc = explainer_create(&p->loop, p->api, p->hub, p->mover, &p->explainer, e);
    p->commands = (struct commands){.admin = p->admin, .hub = p->hub, .mover = p->mover, .explainer = p->explainer};
    if (rc == 0 && c->control_socket && *c->control_socket)
        rc = control_create(&p->loop, c->control_socket, &handler, &p->control, e);
    return rc;
}

/* The parts after one another: what is wrong with flags and files is said before the first thread
 * runs. */
static int start(struct process *p, struct errbuf *e)
{
    const struct config *c = &p->config;
    int rc = hub_metrics_init();
    if (rc == 0)
        rc = c->kubeconfig ? apiconfig_load_kubeconfig(c->kubeconfig, &p->api, e)
                           : apiconfig_load_in_cluster(&p->api, e);
    if (rc == 0)
        rc = upstream_create(c, p->api, &p->upstream, e);
    if (rc == 0)
        rc = join_create(c, p->api, &p->join, e);
    if (rc == 0)
        rc = hub_create(c, join_tls(p->join), &p->hub, e);
    if (rc == 0 && c->downstream)
        rc = downstream_create(c, p->api, &p->downstream, e);
    if (rc == 0)
        rc = start_loop(p, e);
    const struct mover_options mover = {
        .config = c, .hub = p->hub, .upstream = p->upstream, .drained = on_drained, .context = p};
    if (rc == 0)
        rc = mover_create(&p->loop, &mover, &p->mover, e);
    if (rc != 0)
        return rc;
    p->sources = (struct facts_sources){.config = c,
                                        .hub = p->hub,
                                        .mover = p->mover,
                                        .upstream = p->upstream,
                                        .downstream = p->downstream,
                                        .api = p->api,
                                        .started_ms = now_ms()};
    hub_set_downstream(p->hub, p->downstream);
    upstream_set_downstream(p->upstream, p->downstream);
    rc = start_doors(p, e);
    if (rc == 0)
        rc = join_start(p->join, &p->loop, p->hub, on_new_tls, p, e);
    if (rc == 0)
        rc = upstream_start(p->upstream, p->hub, e);
    if (rc == 0 && p->downstream)
        rc = downstream_start(p->downstream, p->hub, e);
    return rc != 0 ? rc : hub_start(p->hub, p->upstream, e);
}

static void on_mover_closed(void *context)
{
    (void)context;
}

static void close_loop(struct process *p)
{
    for (size_t i = 0; i < 3; i++)
        uv_close((uv_handle_t *)&p->signals[i], NULL);
    uv_close((uv_handle_t *)&p->beat, NULL);
    uv_close((uv_handle_t *)&p->drain_end, NULL);
    filewatch_close(&p->files);
    explainer_close(p->explainer);
    control_close(p->control);
    agent_close(p->agent);
    admin_close(p->admin);
    join_close(p->join);
    mover_close(p->mover, on_mover_closed, p);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    control_destroy(p->control);
    explainer_destroy(p->explainer);
    agent_destroy(p->agent);
    admin_destroy(p->admin);
    join_destroy(p->join);
    mover_destroy(p->mover);
    int rc = uv_loop_close(&p->loop);
    assert(rc == 0);
}

static void stop(struct process *p)
{
    hub_stop_listening(p->hub);
    hub_close(p->hub, CLOSE_MS);
    upstream_close(p->upstream, UPSTREAM_CLOSE_MS);
    downstream_close(p->downstream);
    close_loop(p);
    hub_destroy(p->hub);
    downstream_destroy(p->downstream);
    upstream_destroy(p->upstream);
    apiconfig_put(p->api);
    log_info("stopped", F_U64("uptime_s", (now_ms() - p->sources.started_ms) / 1000));
}

/* With what the machine decided where no flag did. */
static void log_started(const struct process *p)
{
    const struct config *c = &p->config;
    log_info("started", F_STR("version", isthmus_version()), F_STR("replica", c->replica_id),
             F_U64("port", hub_port(p->hub)), F_U64("admin_port", admin_port(p->admin)),
             F_STR("api", apiconfig_server(p->api)), F_U64("hub_threads", c->hub_threads),
             F_U64("upstream_threads", c->upstream_threads),
             F_U64("max_connections", c->max_connections), F_U64("accept_rate", c->accept_rate));
}

int main(int argc, char **argv)
{
    static struct process p;
    struct errbuf e = {{0}};
    signal(SIGPIPE, SIG_IGN);
    const struct subcommand *subcommand = subcommand_find(argc, argv);
    if (subcommand)
        return subcommand->run(argc - 1, argv + 1);
    if (read_options(&p.config, argc, argv) != 0)
        return 2;
    set_up_log(&p.config);
    open_notify(&p.notify);
    if (uv_loop_init(&p.loop) != 0 || start(&p, &e) != 0) {
        fprintf(stderr, "isthmus: %s\n", e.text[0] ? e.text : "no memory");
        return 1;
    }
    log_started(&p);
    notify_ready(&p.notify, "Serving");
    uv_run(&p.loop, UV_RUN_DEFAULT);
    stop(&p);
    return 0;
}
