/* The edge side of the hub as others see it, see hub.h: it makes the loops, starts and stops them,
 * and passes on what other threads want of them. What a loop does is in loop.c. */
#include "hub/hub.h"

#include "hub/denylist.h"
#include "hub/hub_metrics.h"
#include "hub/loop.h"
#include "hub/steer.h"
#include "hub/tls.h"
#include "hub/trim.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A loop that has not answered by then is busy; the answer would be old. */
#define EXPLAIN_WAIT_S 1

static int create_loops(struct hub *hub, struct errbuf *e)
{
    hub->loops = calloc(hub->config->hub_threads, sizeof(*hub->loops));
    if (!hub->loops) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < hub->config->hub_threads; i++) {
        hub->loop_count++;
        int rc = hub_loop_init(&hub->loops[i], hub, i, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int create_parts(struct hub *hub, struct errbuf *e)
{
    int rc = address_list_parse(&hub->proxies, &hub->config->proxy_protocol_from, e);
    if (rc != 0) {
        errbuf_wrap(e, "--proxy-protocol-from");
        return rc;
    }
    rc = hub_reload_denied(hub, e);
    if (rc != 0)
        return rc;
    hub->trimmer = trimmer_create();
    if (!hub->trimmer) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    return create_loops(hub, e);
}

int hub_create(const struct config *config, struct tls_material *tls, struct hub **out,
               struct errbuf *e)
{
    assert(config->hub_threads > 0);
    struct hub *hub = calloc(1, sizeof(*hub));
    if (!hub) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    hub->config = config;
    hub->tls = tls_material_get(tls);
    registry_init(&hub->registry);
    pthread_rwlock_init(&hub->denied_lock, NULL);
    reassembly_init(&hub->reassembly, config->reassembly_bytes);
    /* OpenSSL writes with write(2). */
    signal(SIGPIPE, SIG_IGN);
    int rc = create_parts(hub, e);
    if (rc != 0) {
        hub_destroy(hub);
        return rc;
    }
    *out = hub;
    return 0;
}

int hub_start(struct hub *hub, struct upstream *upstream, struct errbuf *e)
{
    sigset_t all, before;
    int rc = 0;
    hub->upstream = upstream;
    /* Signals are the control thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t i = 0; i < hub->loop_count && rc == 0; i++)
        rc = hub_loop_start(&hub->loops[i]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        errbuf_set(e, "thread: %s", strerror(-rc));
        hub_close(hub, 0);
    }
    return rc;
}

/* ---- nodes that are kept out ---- */

bool hub_denies(struct hub *hub, const char *node)
{
    pthread_rwlock_rdlock(&hub->denied_lock);
    bool is = denylist_has(hub->denied, node);
    pthread_rwlock_unlock(&hub->denied_lock);
    return is;
}

static void close_denied(struct hub *hub)
{
    struct session_ref session;
    for (size_t i = 0; i < denylist_count(hub->denied); i++) {
        if (registry_find(&hub->registry, denylist_at(hub->denied, i), &session))
            hub_close_session(hub, session, CLOSE_DENIED);
    }
}

int hub_reload_denied(struct hub *hub, struct errbuf *e)
{
    struct denylist *fresh, *old;
    if (!hub->config->deny_nodes)
        return 0;
    int rc = denylist_load(hub->config->deny_nodes, &fresh, e);
    if (rc != 0) {
        errbuf_wrap(e, "--deny-nodes");
        return rc;
    }
    pthread_rwlock_wrlock(&hub->denied_lock);
    old = hub->denied;
    hub->denied = fresh;
    pthread_rwlock_unlock(&hub->denied_lock);
    denylist_destroy(old);
    close_denied(hub); /* this thread alone writes hub->denied */
    return 0;
}

void hub_set_downstream(struct hub *hub, struct downstream *downstream)
{
    hub->downstream = downstream;
}

void hub_deliver(struct hub *hub, struct reply *reply)
{
    assert(reply->to.loop < hub->loop_count);
    struct mailbox *replies = &hub->loops[reply->to.loop].replies;
    bool may_be_refused = reply->outcome == REPLY_PUSH && reply->farewell == FAREWELL_NONE;
    int rc = may_be_refused ? mailbox_post(replies, &reply->mail)
                            : mailbox_post_always(replies, &reply->mail);
    if (rc != 0)
        reply_discard(reply, rc == -EPIPE ? DROP_SHUTDOWN : DROP_SEND_FAILED);
}

uint16_t hub_port(const struct hub *hub)
{
    return hub->port;
}

bool hub_accepts(const struct hub *hub)
{
    return !atomic_load_explicit(&hub->is_draining, memory_order_relaxed) &&
           atomic_load_explicit(&hub->connections, memory_order_relaxed) <
               hub->config->max_connections;
}

uint64_t hub_connections(const struct hub *hub)
{
    return atomic_load_explicit(&hub->sessions, memory_order_relaxed);
}

static void command_all(struct hub *hub, struct command command)
{
    for (size_t i = 0; i < hub->loop_count; i++) {
        if (!hub->loops[i].has_commands)
            continue;
        if (command.kind == COMMAND_REPLACE_TLS)
            command.tls = tls_material_get(hub->tls);
        if (command.steer)
            steer_get(command.steer);
        if (hub_loop_command(&hub->loops[i], &command) == -ENOMEM)
            log_error("command_lost", F_U64("loop", i));
    }
}

int hub_replace_tls(struct hub *hub, struct tls_material *tls, struct errbuf *e)
{
    if (!tls_material_is_like(tls, hub->tls)) {
        errbuf_set(e, "the kind of the server's key (EC, RSA) cannot change while running");
        return -EINVAL;
    }
    struct tls_material *old = hub->tls;
    hub->tls = tls_material_get(tls);
    tls_material_put(old);
    command_all(hub, (struct command){.kind = COMMAND_REPLACE_TLS});
    return 0;
}

bool hub_has_node(struct hub *hub, const char *node)
{
    struct session_ref session;
    return registry_find(&hub->registry, node, &session);
}

/* ---- explain ---- */

static struct explain *explain_create(void)
{
    struct explain *x = calloc(1, sizeof(*x));
    pthread_condattr_t monotonic;
    if (!x)
        return NULL;
    pthread_mutex_init(&x->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&x->answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
    x->refs = 2; /* the asker's and the command's */
    return x;
}

static void explain_wait(struct explain *x, struct hub_node_info *info)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += EXPLAIN_WAIT_S;
    pthread_mutex_lock(&x->lock);
    while (!x->is_answered && pthread_cond_timedwait(&x->answered, &x->lock, &until) != ETIMEDOUT)
        ;
    *info = x->info;
    pthread_mutex_unlock(&x->lock);
}

void hub_explain(struct hub *hub, const char *node, struct hub_node_info *info)
{
    struct session_ref session;
    *info = (struct hub_node_info){.is_connected = false};
    if (!registry_find(&hub->registry, node, &session))
        return;
    struct hub_loop *loop = &hub->loops[session.loop];
    struct explain *x = explain_create();
    if (!x)
        return;
    assert(!pthread_equal(pthread_self(), loop->thread)); /* it would wait for itself */
    const struct command c = {.kind = COMMAND_EXPLAIN, .session = session, .explain = x};
    if (hub_loop_command(loop, &c) == 0)
        explain_wait(x, info);
    explain_put(x);
}

/* ---- moving nodes ---- */

void hub_set_events(struct hub *hub, struct mailbox *events)
{
    hub->events = events;
}

void hub_event_destroy(struct hub_event *event)
{
    if (event->node)
        node_name_put(event->node);
    free(event);
}

static void post_event(struct hub *hub, const struct hub_event *event)
{
    struct hub_event *e = hub->events ? malloc(sizeof(*e)) : NULL;
    if (!e) {
        if (hub->events)
            log_limited(LOG_LEVEL_ERROR, "event_lost", F_U64("kind", event->kind));
        return;
    }
    *e = *event;
    e->mail = (struct mail){.bytes = sizeof(*e)};
    if (e->node)
        node_name_get(e->node);
    if (mailbox_post_always(hub->events, &e->mail) != 0)
        hub_event_destroy(e); /* the process ends */
}

void hub_post_event(struct hub *hub, enum hub_event_kind kind, struct node_name *node,
                    bool is_bridged)
{
    const struct hub_event e = {.kind = kind, .node = node, .count = 1, .is_bridged = is_bridged};
    post_event(hub, &e);
}

void hub_post_count(struct hub *hub, enum hub_event_kind kind, uint32_t number)
{
    const struct hub_event e = {.kind = kind, .count = number};
    if (number > 0)
        post_event(hub, &e);
}

/* Each loop its part by the sessions it has; what rounding leaves over goes to the first that have
 * more. */
uint32_t hub_release(struct hub *hub, uint32_t number, const struct balancer_decision *decision)
{
    uint64_t sessions = 0, before = 0;
    uint32_t asked = 0;
    for (size_t i = 0; i < hub->loop_count; i++)
        sessions += atomic_load_explicit(&hub->loops[i].session_count, memory_order_relaxed);
    for (size_t i = 0; i < hub->loop_count && sessions > 0; i++) {
        uint64_t until =
            before + atomic_load_explicit(&hub->loops[i].session_count, memory_order_relaxed);
        uint32_t part = (uint32_t)(number * until / sessions - number * before / sessions);
        if (part > number - asked) /* sessions come and go meanwhile */
            part = number - asked;
        const struct command c = {.kind = COMMAND_RELEASE,
                                  .order = {.count = part, .decision = *decision}};
        before = until;
        if (part > 0 && hub_loop_command(&hub->loops[i], &c) == 0)
            asked += part;
    }
    return asked;
}

void hub_mark_moved(struct hub *hub, const char *node)
{
    struct session_ref session;
    if (!registry_find(&hub->registry, node, &session))
        return;
    const struct command c = {.kind = COMMAND_MARK_MOVED, .session = session};
    if (hub_loop_command(&hub->loops[session.loop], &c) == -ENOMEM)
        log_limited(LOG_LEVEL_ERROR, "command_lost", F_U64("loop", session.loop));
}

void hub_steer(struct hub *hub, struct steer *steer)
{
    command_all(hub, (struct command){.kind = COMMAND_STEER, .steer = steer});
    steer_put(steer);
}

void hub_set_draining(struct hub *hub, bool is_draining)
{
    atomic_store_explicit(&hub->is_draining, is_draining, memory_order_relaxed);
}

/* ---- the end ---- */

void hub_stop_listening(struct hub *hub)
{
    atomic_store_explicit(&hub->is_draining, true, memory_order_relaxed);
    command_all(hub, (struct command){.kind = COMMAND_STOP_LISTENING});
}

void hub_close(struct hub *hub, uint64_t within_ms)
{
    atomic_store_explicit(&hub->is_draining, true, memory_order_relaxed);
    uint64_t now_ms = uv_hrtime() / 1000000;
    command_all(hub, (struct command){.kind = COMMAND_CLOSE, .deadline_ms = now_ms + within_ms});
    for (size_t i = 0; i < hub->loop_count; i++)
        hub_loop_join(&hub->loops[i]);
}

void hub_destroy(struct hub *hub)
{
    for (size_t i = 0; i < hub->loop_count; i++)
        hub_loop_fini(&hub->loops[i]);
    free(hub->loops);
    trimmer_destroy(hub->trimmer);
    tls_material_put(hub->tls);
    registry_fini(&hub->registry);
    pthread_rwlock_destroy(&hub->denied_lock);
    denylist_destroy(hub->denied);
    reassembly_fini(&hub->reassembly);
    free(hub);
}
