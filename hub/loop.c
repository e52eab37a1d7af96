/* See loop.h.
 *
 * One turn of the loop: replies and commands from the mailboxes, events of libwebsockets, new
 * connections; then, in a check handle, what may not be done inside libwebsockets' callbacks. Each
 * WHEEL_TICK_MS the wheel fires deadlines.
 *
 * Closing: sessions are retired a few each tick, so that the whole takes the time it was given;
 * when none is left, or the time is over, the handles are closed, the loop runs empty, and the
 * thread ends. */
#include "hub/loop.h"

#include "hub/hub_metrics.h"
#include "hub/steer.h"
#include "hub/tls.h"
#include "hub/ws.h"
#include "isthmus/log.h"
#include "isthmus/pulse.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A mailbox of replies bounds only what the cloud says of its own accord: answers have their room
 * reserved. */
#define REPLIES_MAX        65536
#define REPLIES_MAX_BYTES  ((size_t)256 * 1024 * 1024)
#define COMMANDS_MAX       ((size_t)1 << 20)
#define COMMANDS_MAX_BYTES SIZE_MAX

/* No tick for so long: the process was stopped, not its peers. */
#define GAP_MS 5000
/* What close frames may take when the time for closing is over. */
#define LAST_WORDS_MS 3000

void hub_loop_assert_thread(const struct hub_loop *loop)
{
    assert(!loop->is_started || pthread_equal(pthread_self(), loop->thread));
}

/* ---- mail ---- */

static void on_reply(void *context, struct mail *item)
{
    struct hub_loop *loop = context;
    struct reply *reply = (struct reply *)item; /* mail is its first member */
    struct session *s = session_slots_find(&loop->slots, reply->to);
    if (s)
        session_deliver(s, reply);
    else
        reply_discard(reply, DROP_SESSION_GONE);
}

static void answer_explain(struct hub_loop *loop, const struct command *c)
{
    const struct session *s = session_slots_find(&loop->slots, c->session);
    struct explain *x = c->explain;
    pthread_mutex_lock(&x->lock);
    if (s && s->state == SESSION_OPEN) {
        x->info = (struct hub_node_info){
            .is_connected = true,
            .connected_ms = s->connected_ms,
            .last_received_ms = s->last_received_ms,
            .last_keepalive_ms = s->last_keepalive_ms,
            .messages_in = s->messages_in,
            .messages_out = s->messages_out,
            .unfinished = s->unfinished,
            .unsent_bytes = s->out_bytes,
            .is_reading = s->pauses == 0,
        };
        address_format(&s->remote, x->info.remote);
    }
    x->is_answered = true;
    pthread_cond_signal(&x->answered);
    pthread_mutex_unlock(&x->lock);
}

static void begin_closing(struct hub_loop *loop, uint64_t deadline_ms)
{
    loop->is_closing = true;
    loop->close_deadline_ms = deadline_ms;
    acceptor_stop(&loop->acceptor);
}

static void close_one(struct hub_loop *loop, const struct command *c)
{
    struct session *s = session_slots_find(&loop->slots, c->session);
    if (s)
        session_close(s, c->reason, NULL);
}

static void mark_moved(struct hub_loop *loop, const struct command *c)
{
    struct session *s = session_slots_find(&loop->slots, c->session);
    if (s)
        s->moved_ms = hub_loop_now(loop);
}

static void replace_steer(struct hub_loop *loop, struct command *c)
{
    steer_put(loop->steer);
    loop->steer = c->steer;
    c->steer = NULL;
}

/* What the command holds on to. */
static void command_let_go(const struct command *c)
{
    tls_material_put(c->tls);
    if (c->explain)
        explain_put(c->explain);
    steer_put(c->steer);
}

static void command_free(struct command *c)
{
    command_let_go(c);
    free(c);
}

static void on_command(void *context, struct mail *item)
{
    struct hub_loop *loop = context;
    struct command *c = (struct command *)item; /* mail is its first member */
    switch (c->kind) {
    case COMMAND_CLOSE_SESSION:
        close_one(loop, c);
        break;
    case COMMAND_STOP_LISTENING:
        acceptor_stop(&loop->acceptor);
        break;
    case COMMAND_REPLACE_TLS:
        if (ws_replace_tls(loop->ws, c->tls) != 0)
            log_error("tls_not_replaced", F_U64("loop", loop->index));
        break;
    case COMMAND_EXPLAIN:
        answer_explain(loop, c);
        break;
    case COMMAND_RELEASE:
        release_some(loop, &c->order);
        break;
    case COMMAND_MARK_MOVED:
        mark_moved(loop, c);
        break;
    case COMMAND_STEER:
        replace_steer(loop, c);
        break;
    case COMMAND_CLOSE:
        begin_closing(loop, c->deadline_ms);
        break;
    }
    command_free(c);
}

int hub_loop_command(struct hub_loop *loop, const struct command *command)
{
    struct command *c = malloc(sizeof(*c));
    int rc = -ENOMEM;
    if (c) {
        *c = *command;
        c->mail = (struct mail){.bytes = sizeof(*c)};
        rc = mailbox_post_always(&loop->commands, &c->mail);
        if (rc == 0)
            return 0;
        command_free(c);
    } else {
        command_let_go(command);
    }
    return rc;
}

void hub_close_session(struct hub *hub, struct session_ref session, enum close_reason reason)
{
    struct hub_loop *loop = &hub->loops[session.loop];
    const struct command c = {.kind = COMMAND_CLOSE_SESSION, .session = session, .reason = reason};
    if (pthread_equal(pthread_self(), loop->thread))
        close_one(loop, &c);
    else if (hub_loop_command(loop, &c) == -ENOMEM)
        log_limited(LOG_LEVEL_ERROR, "close_lost", F_STR("reason", close_reason_names[reason]));
}

void explain_put(struct explain *x)
{
    pthread_mutex_lock(&x->lock);
    unsigned left = --x->refs;
    pthread_mutex_unlock(&x->lock);
    if (left > 0)
        return;
    pthread_cond_destroy(&x->answered);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

/* ---- closing ---- */

static void retire(struct session *s)
{
    if (s->state == SESSION_HANDSHAKE)
        session_refuse(s, REFUSE_DRAINING, "closing");
    else
        session_retire(s);
}

/* So many slots each tick that the last one is reached in time. */
static void retire_some(struct hub_loop *loop, uint64_t now_ms)
{
    uint64_t left_ms = loop->close_deadline_ms > now_ms ? loop->close_deadline_ms - now_ms : 0;
    uint64_t ticks = left_ms / WHEEL_TICK_MS + 1;
    uint32_t slots = loop->slots.room - loop->close_cursor;
    uint32_t some = (uint32_t)((slots + ticks - 1) / ticks);
    for (; some > 0; some--) {
        struct session *s = loop->slots.slots[loop->close_cursor++].session;
        if (s)
            retire(s);
    }
}

static void close_rest(struct hub_loop *loop)
{
    for (uint32_t i = 0; i < loop->slots.room; i++) {
        struct session *s = loop->slots.slots[i].session;
        if (s)
            session_close(s, CLOSE_SHUTDOWN, "not finished in time");
    }
}

/* Closes what hub_loop_init() made, as far as it came; what has to run in the loop runs with the
 * next uv_run(). */
static void finish(struct hub_loop *loop)
{
    acceptor_close(&loop->acceptor);
    if (loop->has_handles) {
        uv_close((uv_handle_t *)&loop->ticker, NULL);
        uv_close((uv_handle_t *)&loop->after_io, NULL);
    }
    if (loop->has_commands)
        mailbox_close(&loop->commands, NULL);
    if (loop->has_replies)
        mailbox_close(&loop->replies, NULL);
    if (loop->ws)
        ws_close_all(loop->ws);
}

static void run_empty(struct hub_loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    if (loop->ws)
        ws_destroy(loop->ws);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

static void close_step(struct hub_loop *loop)
{
    uint64_t now_ms = hub_loop_now(loop);
    retire_some(loop, now_ms);
    if (now_ms >= loop->close_deadline_ms)
        close_rest(loop);
    session_settle_all(loop);
    bool is_empty = loop->slots.used == 0 && !loop->acceptor.proxied;
    if (is_empty || now_ms >= loop->close_deadline_ms + LAST_WORDS_MS)
        finish(loop);
}

/* ---- turning ---- */

static void on_timer(void *context, struct wheel_timer *timer)
{
    (void)context;
    session_check((struct session *)((char *)timer - offsetof(struct session, timer)));
}

static void on_tick(uv_timer_t *ticker)
{
    struct hub_loop *loop = ticker->data;
    uint64_t now_ms = hub_loop_now(loop);
    if (now_ms > loop->ticked_ms + GAP_MS)
        loop->patient_until_ms = now_ms + loop->hub->config->keepalive_timeout_ms;
    loop->ticked_ms = now_ms;
    pulse_beat(now_ms);
    wheel_advance(&loop->wheel, now_ms, on_timer, loop);
    acceptor_tick(&loop->acceptor);
    session_settle_all(loop);
    if (loop->is_closing)
        close_step(loop);
}

static void on_after_io(uv_check_t *check)
{
    struct hub_loop *loop = check->data;
    session_settle_all(loop);
    acceptor_turn(&loop->acceptor);
}

static void *run(void *argument)
{
    run_empty(argument);
    return NULL;
}

/* ---- life ---- */

static void split_limits(const struct config *c, struct admission_limits *limits)
{
    uint64_t n = c->hub_threads;
    uint64_t rate = (c->accept_rate + n - 1) / n;
    *limits = (struct admission_limits){
        .rate = rate,
        .burst = rate / 20 + 1,
        .inflight = (c->handshakes_inflight + n - 1) / n,
        .waiting = c->max_connections ? c->max_connections : 1,
        .wait_ms = c->accept_wait_ms,
    };
}

static int init_handles(struct hub_loop *loop)
{
    int rc =
        mailbox_init(&loop->replies, &loop->uv, REPLIES_MAX, REPLIES_MAX_BYTES, on_reply, loop);
    if (rc != 0)
        return rc;
    loop->has_replies = true;
    rc = mailbox_init(&loop->commands, &loop->uv, COMMANDS_MAX, COMMANDS_MAX_BYTES, on_command,
                      loop);
    if (rc != 0)
        return rc;
    loop->has_commands = true;
    rc = uv_timer_init(&loop->uv, &loop->ticker);
    if (rc == 0)
        rc = uv_check_init(&loop->uv, &loop->after_io);
    assert(rc == 0); /* neither asks the system for anything */
    loop->has_handles = true;
    loop->ticker.data = loop;
    loop->after_io.data = loop;
    rc = uv_timer_start(&loop->ticker, on_tick, WHEEL_TICK_MS, WHEEL_TICK_MS);
    return rc != 0 ? rc : uv_check_start(&loop->after_io, on_after_io);
}

static int init_acceptor(struct hub_loop *loop, struct errbuf *e)
{
    struct admission_limits limits;
    const struct config *config = loop->hub->config;
    int fd = socket_listen(config->websocket_address, &loop->hub->port, e);
    if (fd < 0) {
        errbuf_wrap(e, "--websocket-address");
        return fd;
    }
    split_limits(config, &limits);
    int rc = acceptor_init(&loop->acceptor, loop, fd, &limits);
    if (rc != 0)
        errbuf_set(e, "event loop: %s", uv_strerror(rc));
    return rc;
}

int hub_loop_init(struct hub_loop *loop, struct hub *hub, uint32_t index, struct errbuf *e)
{
    *loop = (struct hub_loop){.hub = hub, .index = index};
    loop->acceptor.fd = -1;
    session_slots_init(&loop->slots);
    int rc = uv_loop_init(&loop->uv);
    if (rc != 0) {
        errbuf_set(e, "event loop: %s", uv_strerror(rc));
        return rc;
    }
    loop->has_uv = true;
    wheel_init(&loop->wheel, hub_loop_now(loop));
    loop->ticked_ms = hub_loop_now(loop);
    rc = init_handles(loop);
    if (rc != 0) {
        errbuf_set(e, "event loop: %s", uv_strerror(rc));
        return rc;
    }
    rc = ws_create(loop, &loop->uv, hub->tls, &loop->ws, e);
    return rc != 0 ? rc : init_acceptor(loop, e);
}

int hub_loop_start(struct hub_loop *loop)
{
    char name[16];
    loop->is_started = true;
    int rc = pthread_create(&loop->thread, NULL, run, loop);
    if (rc != 0) {
        loop->is_started = false;
        return -rc;
    }
    snprintf(name, sizeof(name), "hub-%u", (unsigned)loop->index);
    pthread_setname_np(loop->thread, name);
    return 0;
}

void hub_loop_join(struct hub_loop *loop)
{
    if (loop->is_started)
        pthread_join(loop->thread, NULL);
}

void hub_loop_fini(struct hub_loop *loop)
{
    if (!loop->has_uv)
        return;
    if (!loop->is_started) {
        finish(loop);
        run_empty(loop);
    }
    int rc = uv_loop_close(&loop->uv);
    assert(rc == 0);
    steer_put(loop->steer);
    session_slots_fini(&loop->slots);
}
