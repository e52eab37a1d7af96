/* The life of a session, see session.h: slots, states, deadlines, and how it begins and ends.
 * Receiving is in receive.c, sending in send.c.
 *
 * Nothing is closed from inside a callback of libwebsockets: session_close() only marks,
 * session_reap() acts when libwebsockets is done with its event. A session is freed when its socket
 * is closed and at no other time, so that no event can find it gone. */
#include "hub/session.h"

#include "hub/downstream.h"
#include "hub/hub_metrics.h"
#include "hub/identity.h"
#include "hub/loop.h"
#include "hub/release.h"
#include "hub/socket.h"
#include "hub/steer.h"
#include "hub/trim.h"
#include "hub/upstream.h"
#include "hub/ws.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* How long the peer may take to answer a close frame before the socket is shut down. */
#define CLOSE_GRACE_MS 2000

/* RFC 6455 section 7.4.1, and what a person with a packet capture may want to read. */
static const struct {
    unsigned code;
    const char *text;
} close_frames[CLOSE_REASON_COUNT] = {
    [CLOSE_PEER] = {1000, ""},
    [CLOSE_REPLACED] = {1008, "replaced by a newer connection"},
    [CLOSE_KEEPALIVE_TIMEOUT] = {1008, "keepalive timeout"},
    [CLOSE_MESSAGE_TOO_LARGE] = {1009, "message too large"},
    [CLOSE_MESSAGE_TIMEOUT] = {1008, "message timeout"},
    [CLOSE_REASSEMBLY_BUDGET] = {1013, "too much half-received"},
    [CLOSE_INVALID_MESSAGE] = {1007, "invalid message"},
    [CLOSE_SLOW_READER] = {1008, "slow reader"},
    [CLOSE_WRITE_FAILED] = {1011, "write failed"},
    [CLOSE_PROTOCOL] = {1002, "protocol"},
    [CLOSE_SHUTDOWN] = {1001, "going away"},
    [CLOSE_RELEASED] = {1012, "service restart"},
    [CLOSE_NODE_DELETED] = {1008, "node deleted"},
    [CLOSE_DENIED] = {1008, "denied"},
    [CLOSE_NO_MEMORY] = {1011, "no memory"},
};

/* ---- slots ---- */

#define NO_SLOT UINT32_MAX

void session_slots_init(struct session_slots *s)
{
    *s = (struct session_slots){.first_free = NO_SLOT};
}

void session_slots_fini(struct session_slots *s)
{
    assert(s->used == 0);
    free(s->slots);
}

static int grow_slots(struct session_slots *s)
{
    uint32_t room = s->room ? s->room * 2 : 64;
    struct session_slot *slots = realloc(s->slots, room * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    s->slots = slots;
    for (uint32_t i = room; i-- > s->room;) {
        slots[i] = (struct session_slot){.next_free = s->first_free};
        s->first_free = i;
    }
    s->room = room;
    return 0;
}

int session_slots_put(struct session_slots *s, uint32_t loop, struct session *session)
{
    if (s->first_free == NO_SLOT && grow_slots(s) != 0)
        return -ENOMEM;
    uint32_t slot = s->first_free;
    s->first_free = s->slots[slot].next_free;
    s->slots[slot].session = session;
    s->used++;
    session->ref = (struct session_ref){loop, slot, ++s->generation};
    return 0;
}

void session_slots_remove(struct session_slots *s, struct session *session)
{
    struct session_slot *slot = &s->slots[session->ref.slot];
    assert(slot->session == session);
    slot->session = NULL;
    slot->next_free = s->first_free;
    s->first_free = session->ref.slot;
    s->used--;
}

struct session *session_slots_find(const struct session_slots *s, struct session_ref ref)
{
    if (ref.slot >= s->room)
        return NULL;
    struct session *session = s->slots[ref.slot].session;
    return session && session->ref.generation == ref.generation ? session : NULL;
}

/* ---- states ---- */

bool session_may_change(enum session_state from, enum session_state to)
{
    static const bool allowed[SESSION_STATE_COUNT][SESSION_STATE_COUNT] = {
        [SESSION_HANDSHAKE] = {[SESSION_OPEN] = true, [SESSION_CLOSED] = true},
        [SESSION_OPEN] = {[SESSION_CLOSING] = true},
        [SESSION_CLOSING] = {[SESSION_CLOSED] = true},
    };
    return allowed[from][to];
}

/* The only writer of ->state; what is counted by state is counted here. */
static void set_state(struct session *s, enum session_state to)
{
    struct hub *hub = s->loop->hub;
    assert(session_may_change(s->state, to));
    if (s->state == SESSION_HANDSHAKE) {
        count(HANDSHAKES, 0, -1);
        acceptor_handshake_done(&s->loop->acceptor);
        trimmer_note(hub->trimmer);
    }
    if (s->state == SESSION_OPEN) {
        count(EDGE_CONNECTIONS, 0, -1);
        atomic_fetch_sub_explicit(&hub->sessions, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&s->loop->session_count, 1, memory_order_relaxed);
    }
    if (to == SESSION_OPEN) {
        count(EDGE_CONNECTIONS, 0, 1);
        count(EDGE_ESTABLISHED, 0, 1);
        atomic_fetch_add_explicit(&hub->sessions, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->loop->session_count, 1, memory_order_relaxed);
    }
    s->state = to;
}

struct session *session_create(struct hub_loop *loop, const struct sockaddr_in6 *remote,
                               uint64_t accepted_ms)
{
    struct session *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->loop = loop;
    if (session_slots_put(&loop->slots, loop->index, s) != 0) {
        free(s);
        return NULL;
    }
    s->state = SESSION_HANDSHAKE;
    s->refuse_reason = REFUSE_REASON_COUNT;
    s->remote = *remote;
    s->accepted_ms = accepted_ms;
    s->handshake_deadline_ms = hub_loop_now(loop) + loop->hub->config->handshake_timeout_ms;
    count(HANDSHAKES, 0, 1);
    session_arm(s);
    return s;
}

/* ---- deadlines ---- */

static void earliest(uint64_t *deadline, uint64_t candidate)
{
    if (candidate != 0 && candidate < *deadline)
        *deadline = candidate;
}

static uint64_t next_deadline(const struct session *s)
{
    uint64_t deadline = UINT64_MAX;
    switch (s->state) {
    case SESSION_HANDSHAKE:
        earliest(&deadline, s->handshake_deadline_ms);
        break;
    case SESSION_OPEN:
        if (s->pauses == 0) {
            earliest(&deadline, s->keepalive_deadline_ms);
            earliest(&deadline, s->message_deadline_ms);
        }
        earliest(&deadline, s->write_deadline_ms);
        earliest(&deadline, s->resume_ms);
        break;
    case SESSION_CLOSING:
        earliest(&deadline, s->close_deadline_ms);
        break;
    default:
        break;
    }
    return deadline;
}

/* A timer that is set too early costs one look; a keepalive that moves its deadline costs nothing.
 */
void session_arm(struct session *s)
{
    uint64_t deadline = next_deadline(s);
    if (deadline == UINT64_MAX)
        return;
    if (wheel_is_armed(&s->timer) && s->timer.deadline_ms <= deadline)
        return;
    wheel_arm(&s->loop->wheel, &s->timer, deadline);
}

/* After a gap in our own running (a stopped process, a stalled host) what the peers sent meanwhile
 * has not been read yet. */
static bool is_due(const struct session *s, uint64_t *deadline_ms, uint64_t now_ms)
{
    if (*deadline_ms == 0 || *deadline_ms > now_ms)
        return false;
    if (now_ms >= s->loop->patient_until_ms)
        return true;
    *deadline_ms = s->loop->patient_until_ms;
    return false;
}

static void check_open(struct session *s, uint64_t now_ms)
{
    if (s->resume_ms != 0 && s->resume_ms <= now_ms)
        session_retry(s);
    if (s->state == SESSION_OPEN && is_due(s, &s->write_deadline_ms, now_ms))
        session_check_writing(s);
    if (s->state != SESSION_OPEN || s->pauses != 0)
        return;
    if (is_due(s, &s->message_deadline_ms, now_ms))
        session_close(s, CLOSE_MESSAGE_TIMEOUT, NULL);
    else if (is_due(s, &s->keepalive_deadline_ms, now_ms))
        session_close(s, CLOSE_KEEPALIVE_TIMEOUT, NULL);
}

void session_check(struct session *s)
{
    uint64_t now_ms = hub_loop_now(s->loop);
    hub_loop_assert_thread(s->loop);
    if (s->state == SESSION_HANDSHAKE && is_due(s, &s->handshake_deadline_ms, now_ms))
        session_refuse(s, REFUSE_HANDSHAKE_TIMEOUT,
                       s->has_tls ? "no upgrade request" : "TLS not done");
    else if (s->state == SESSION_OPEN)
        check_open(s, now_ms);
    else if (s->state == SESSION_CLOSING && s->close_deadline_ms <= now_ms) {
        ws_kill(s);
        s->close_deadline_ms = now_ms + CLOSE_GRACE_MS;
    }
    session_arm(s);
}

/* ---- how it ends ---- */

static void log_closed(const struct session *s)
{
    char remote[ADDRESS_TEXT_BYTES];
    address_format(&s->remote, remote);
    log_limited(LOG_LEVEL_INFO, "edge_closed", F_STR("node", s->node->text),
                F_STR("remote", remote), F_STR("reason", close_reason_names[s->close_reason]),
                F_STR("detail", s->detail ? s->detail : "-"),
                F_U64("connected_s", (hub_loop_now(s->loop) - s->connected_ms) / 1000),
                F_U64("messages_in", s->messages_in), F_U64("messages_out", s->messages_out),
                F_U64("bytes_in", s->bytes_in), F_U64("bytes_out", s->bytes_out),
                F_U64("unfinished", s->unfinished));
}

void session_close(struct session *s, enum close_reason reason, const char *detail)
{
    hub_loop_assert_thread(s->loop);
    if (s->state != SESSION_OPEN)
        return;
    s->close_reason = reason;
    s->detail = detail;
    release_on_close(s, registry_leave(&s->loop->hub->registry, &s->entry, s->node));
    downstream_gone(s->loop->hub->downstream, s->node, s->ref);
    session_drop_received(s);
    session_drop_unsent(s);
    set_state(s, SESSION_CLOSING);
    count(EDGE_CLOSED, reason, 1);
    log_closed(s);
    s->close_deadline_ms = hub_loop_now(s->loop) + CLOSE_GRACE_MS;
    session_arm(s);
    session_note(s);
}

void session_note(struct session *s)
{
    if (s->is_noted || s->is_dead)
        return;
    s->is_noted = true;
    LL_PREPEND2(s->loop->noted, s, next_noted);
}

static void settle(struct session *s)
{
    if (s->state == SESSION_OPEN && s->is_reading != (s->pauses == 0)) {
        s->is_reading = s->pauses == 0;
        ws_set_reading(s, s->is_reading);
    }
    /* The peer's own close frame is answered by libwebsockets. */
    if (s->state != SESSION_CLOSING || s->close_reason == CLOSE_PEER)
        return;
    if (s->close_reason == CLOSE_SLOW_READER || s->close_reason == CLOSE_WRITE_FAILED ||
        ws_is_choked(s))
        ws_kill(s); /* it would not take a close frame either */
    else
        ws_close(s, s->close_code ? s->close_code : close_frames[s->close_reason].code,
                 close_frames[s->close_reason].text);
}

void session_settle_all(struct hub_loop *loop)
{
    while (loop->noted) {
        struct session *s = loop->noted;
        LL_DELETE2(loop->noted, s, next_noted);
        s->is_noted = false;
        if (!s->is_dead)
            settle(s);
    }
}

void session_retire(struct session *s)
{
    if (s->state != SESSION_OPEN || (s->pauses & PAUSE_RETIRING))
        return;
    session_pause(s, PAUSE_RETIRING);
    session_retry(s);
}

void session_refuse(struct session *s, enum refuse_reason reason, const char *detail)
{
    if (s->state != SESSION_HANDSHAKE)
        return;
    if (s->refuse_reason == REFUSE_REASON_COUNT) {
        s->refuse_reason = reason;
        s->detail = detail;
    }
    s->handshake_deadline_ms = hub_loop_now(s->loop) + CLOSE_GRACE_MS;
    ws_kill(s);
}

static void log_refused(const struct session *s)
{
    char remote[ADDRESS_TEXT_BYTES];
    address_format(&s->remote, remote);
    log_limited(LOG_LEVEL_INFO, "edge_refused", F_STR("remote", remote),
                F_STR("reason", refuse_reason_names[s->refuse_reason]),
                F_STR("detail", s->detail ? s->detail : "-"),
                F_U64("after_ms", hub_loop_now(s->loop) - s->accepted_ms));
}

static void end_handshake(struct session *s)
{
    if (s->refuse_reason == REFUSE_REASON_COUNT)
        s->refuse_reason = REFUSE_PEER_LEFT;
    set_state(s, SESSION_CLOSED);
    count(EDGE_REFUSED, s->refuse_reason, 1);
    log_refused(s);
}

/* ---- what libwebsockets reports ---- */

void session_on_upgrade(struct session *s, const struct upgrade_request *request,
                        const struct identity *identity, struct upgrade_answer *answer)
{
    const struct config *config = s->loop->hub->config;
    assert(s->state == SESSION_HANDSHAKE && !s->node);
    upgrade_check(request, identity, config->legacy_client_certs, answer);
    if (answer->status == 101 && hub_denies(s->loop->hub, request->node_id))
        *answer =
            (struct upgrade_answer){403, REFUSE_DENIED, "Forbidden: this node is denied", false};
    if (answer->status == 101 && (s->loop->is_closing || hub_is_draining(s->loop->hub)))
        *answer =
            (struct upgrade_answer){503, REFUSE_DRAINING, "Service Unavailable: closing", false};
    if (answer->status == 101) {
        s->node = node_name_create(request->node_id, strlen(request->node_id), answer->is_legacy);
        if (!s->node)
            *answer = (struct upgrade_answer){503, REFUSE_NO_MEMORY, "Service Unavailable", false};
        else if (s->loop->steer && steer_refuses(s->loop->steer, s->node, hub_loop_now(s->loop))) {
            *answer = (struct upgrade_answer){503, REFUSE_STEERED,
                                              "Service Unavailable: dial again", false};
            hub_post_event(s->loop->hub, HUB_NODE_REFUSED, s->node, false);
        }
    }
    if (answer->status != 101) {
        s->refuse_reason = answer->reason;
        s->detail = answer->text;
    }
}

static void log_connected(const struct session *s)
{
    char remote[ADDRESS_TEXT_BYTES];
    address_format(&s->remote, remote);
    log_limited(LOG_LEVEL_INFO, "edge_connected", F_STR("node", s->node->text),
                F_STR("remote", remote), F_U64("after_ms", s->connected_ms - s->accepted_ms));
}

/* The newest connection of a node wins, on whatever loop the older one is. */
static int take_node(struct session *s)
{
    struct hub *hub = s->loop->hub;
    struct session_ref previous;
    int rc = registry_take(&hub->registry, &s->entry, s->node, s->ref, &previous);
    if (rc < 0)
        return rc;
    hub_post_event(hub, rc == 1 ? HUB_NODE_REPLACED : HUB_NODE_ARRIVED, s->node, false);
    if (rc == 1)
        hub_close_session(hub, previous, CLOSE_REPLACED);
    return 0;
}

void session_on_open(struct session *s)
{
    const struct config *config = s->loop->hub->config;
    uint64_t now_ms = hub_loop_now(s->loop);

    assert(s->node);
    set_state(s, SESSION_OPEN);
    s->is_reading = true;
    s->connected_ms = s->last_received_ms = now_ms;
    s->keepalive_deadline_ms = now_ms + config->keepalive_timeout_ms;
    bucket_init(&s->tokens, config->node_burst, now_ms);
    observe_us(HANDSHAKE_SECONDS, 0, (now_ms - s->accepted_ms) * 1000);
    log_connected(s);
    if (take_node(s) != 0) {
        session_close(s, CLOSE_NO_MEMORY, NULL);
        return;
    }
    if (hub_denies(s->loop->hub, s->node->text)) { /* the list changed since the upgrade */
        session_close(s, CLOSE_DENIED, NULL);
        return;
    }
    session_arm(s);
    downstream_connected(s->loop->hub->downstream, s->node, s->ref, s->entry.order);
    upstream_node_connected(s->loop->hub->upstream, s->node, s->ref);
}

void session_on_peer_close(struct session *s)
{
    session_close(s, CLOSE_PEER, "close frame");
}

void session_on_dead(struct session *s)
{
    s->is_dead = true;
    session_close(s, CLOSE_PEER, "connection ended");
}

void session_on_gone(struct session *s)
{
    struct hub_loop *loop = s->loop;
    session_on_dead(s);
    if (s->state == SESSION_HANDSHAKE)
        end_handshake(s);
    else
        set_state(s, SESSION_CLOSED);
    if (s->is_noted)
        LL_DELETE2(loop->noted, s, next_noted);
    trimmer_note(loop->hub->trimmer);
    wheel_disarm(&s->timer);
    session_slots_remove(&loop->slots, s);
    atomic_fetch_sub_explicit(&loop->hub->connections, 1, memory_order_relaxed);
    if (s->node)
        node_name_put(s->node);
    free(s);
}
