/* From pieces of frames to messages, and where they go.
 *
 * Happy path: a piece that is a whole message is copied once, into a struct message; one that comes
 * in several pieces (EdgeCore cuts at 4096 bytes) grows geometrically there. The envelope is
 * scanned and classified. Keepalives and acknowledgements end here; what is for the API server is
 * submitted, counted as unfinished until its reply comes, and at --node-queue the session is not
 * read until then.
 *
 * Failure modes: too large, too slow, binary, garbage: closed with a reason. A full upstream pool:
 * the message is kept, nothing more is read, and it is offered again with the next reply or after
 * RETRY_MS. */
#include "hub/session.h"

#include "hub/downstream.h"
#include "hub/frame.h"
#include "hub/hub_metrics.h"
#include "hub/loop.h"
#include "hub/release.h"
#include "hub/upstream.h"
#include "hub/ws.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#define RETRY_MS 50

/* A message in pieces is given at most so much more room than its frame has filled: what a frame's
 * header announces costs its sender nothing. */
#define MAX_ADVANCE (64 * 1024)

/* What comes in without being payload: pings, empty and tiny frames, TLS records of their own. An
 * edge has none of it to speak of; a peer that has more than this a second, after a reserve, wants
 * to keep us busy. */
#define OVERHEAD_PER_MS  4
#define OVERHEAD_RESERVE (64 * 1024)

/* ---- pausing ---- */

void session_pause(struct session *s, enum session_pause why)
{
    if (s->pauses == 0)
        count(PAUSED_SESSIONS, 0, 1);
    s->pauses |= why;
    session_note(s);
}

/* The edge's time begins anew: what it sent meanwhile is still to be read. */
static void restart_clocks(struct session *s)
{
    const struct config *config = s->loop->hub->config;
    uint64_t now_ms = hub_loop_now(s->loop);
    s->keepalive_deadline_ms = now_ms + config->keepalive_timeout_ms;
    if (s->message_deadline_ms != 0)
        s->message_deadline_ms = now_ms + config->message_timeout_ms;
    session_arm(s);
}

void session_resume(struct session *s, enum session_pause why)
{
    if (!(s->pauses & why))
        return;
    s->pauses &= ~(unsigned)why;
    if (s->pauses != 0)
        return;
    count(PAUSED_SESSIONS, 0, -1);
    restart_clocks(s);
    session_note(s);
}

static void retry_at(struct session *s, uint64_t when_ms)
{
    if (s->resume_ms == 0 || when_ms < s->resume_ms)
        s->resume_ms = when_ms;
    session_arm(s);
}

/* ---- upstream ---- */

/* Events are no measure of how busy a node is: the upstream pool keeps a number of them and drops
 * the oldest. */
static size_t weight(enum lane lane)
{
    return lane == LANE_EVENT ? 0 : 1;
}

static void reserve(struct session *s, const struct message *m)
{
    s->unfinished += weight(upstream_kinds[m->route.kind].lane);
    s->unfinished_bytes += m->mail.bytes;
}

static bool is_over_budget(const struct session *s)
{
    const struct config *config = s->loop->hub->config;
    return s->unfinished >= config->node_queue || s->unfinished_bytes >= config->node_queue_bytes;
}

static void drop(struct message *m, enum drop_reason reason)
{
    count2(MESSAGES_FINISHED, m->route.kind, REPLY_DROPPED, 1);
    count(MESSAGES_DROPPED, reason, 1);
    message_destroy(m);
}

/* 0: taken, or dropped because the pool closes; -ENOBUFS: still the caller's. */
static int offer(struct session *s, struct message *m)
{
    enum upstream_kind kind = m->route.kind;
    size_t bytes = m->mail.bytes;
    reserve(s, m);
    int rc = upstream_submit(s->loop->hub->upstream, m);
    if (rc == 0)
        return 0;
    s->unfinished -= weight(upstream_kinds[kind].lane);
    s->unfinished_bytes -= bytes;
    if (rc == -ENOBUFS)
        return rc;
    drop(m, DROP_SHUTDOWN);
    return 0;
}

static void submit(struct session *s, struct message *m)
{
    count(MESSAGES_RECEIVED, m->route.kind, 1);
    if (s->deferred || offer(s, m) != 0) {
        LL_APPEND(s->deferred, &m->mail);
        session_pause(s, PAUSE_UPSTREAM);
        retry_at(s, hub_loop_now(s->loop) + RETRY_MS);
    } else if (is_over_budget(s)) {
        session_pause(s, PAUSE_BUDGET);
    }
}

static void retry_deferred(struct session *s)
{
    while (s->deferred) {
        struct mail *first = s->deferred;
        LL_DELETE(s->deferred, first);
        if (offer(s, (struct message *)first) != 0) {
            LL_PREPEND(s->deferred, first);
            retry_at(s, hub_loop_now(s->loop) + RETRY_MS);
            return;
        }
    }
    session_resume(s, PAUSE_UPSTREAM);
}

static void check_rate(struct session *s)
{
    const struct config *config = s->loop->hub->config;
    uint64_t now_ms = hub_loop_now(s->loop);
    uint64_t wait_ms = bucket_wait_ms(&s->tokens, config->node_rate, config->node_burst, now_ms);
    if (wait_ms == 0) {
        session_resume(s, PAUSE_RATE);
        return;
    }
    session_pause(s, PAUSE_RATE);
    retry_at(s, now_ms + wait_ms);
}

void session_retry(struct session *s)
{
    s->resume_ms = 0;
    if (s->pauses & PAUSE_UPSTREAM)
        retry_deferred(s);
    if (s->pauses & PAUSE_RATE)
        check_rate(s);
    if ((s->pauses & PAUSE_BUDGET) && !is_over_budget(s))
        session_resume(s, PAUSE_BUDGET);
    if ((s->pauses & PAUSE_RETIRING) && s->unfinished_bytes == 0 && !s->deferred && !s->out_head &&
        !ws_is_choked(s)) {
        if (s->leaving == LEAVING_READY)
            release_go(s);
        else
            session_close(s, CLOSE_SHUTDOWN, NULL);
    }
}

/* ---- whole messages ---- */

/* As viaduct answers its control messages (pkg/viaduct/pkg/conn/ws.go): the same resource,
 * operation response, "ack". The spans go out as they came in. */
static void answer_control(struct session *s, const struct envelope *e)
{
    static const char form[] =
        "{\"header\":{\"msg_id\":\"%s\",\"parent_msg_id\":\"%.*s\",\"timestamp\":%" PRIu64
        "},\"route\":{\"operation\":\"response\",\"resource\":\"%.*s\"},"
        "\"content\":\"ack\"}\n";
    char id[UUID_BYTES];
    struct timespec now;
    size_t room = sizeof(form) + sizeof(id) + e->msg_id.size + e->resource.size + 32;
    struct reply *r = reply_create(room);
    if (!r) {
        session_close(s, CLOSE_NO_MEMORY, NULL);
        return;
    }
    uuid_make(id);
    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(reply_text(r), room, form, id, (int)e->msg_id.size,
                        e->msg_id.size ? e->msg_id.at : "",
                        (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000,
                        (int)e->resource.size, e->resource.size ? e->resource.at : "");
    assert(size > 0 && (size_t)size < room);
    r->size = (size_t)size;
    r->outcome = REPLY_PUSH;
    session_deliver(s, r);
}

/* Edges acknowledge many answers, too; of those nobody wants to hear. */
static bool is_awaited(const struct session *s, const struct json_span *id)
{
    return s->awaited_push != 0 && uuid_key(id->at, id->size) == s->awaited_push;
}

static void pass_on_ack(struct session *s, const struct json_span *id)
{
    if (!is_awaited(s, id))
        return;
    downstream_acked(s->loop->hub->downstream, s->node, s->ref, s->awaited_push);
    s->awaited_push = 0;
}

/* As CloudHub, which resends until there is an acknowledgement. */
static void note_edge_error(struct session *s, const struct json_span *id)
{
    if (!is_awaited(s, id))
        return;
    count(PUSHES, PUSHED_EDGE_ERROR, 1);
    log_limited(LOG_LEVEL_INFO, "push_failed_on_edge", F_STR("node", s->node->text));
}

static void finish_here(struct session *s, struct message *m)
{
    count(MESSAGES_LOCAL, m->route.reason, 1);
    if (m->route.class == ROUTE_KEEPALIVE)
        s->last_keepalive_ms = hub_loop_now(s->loop);
    else if (m->route.class == ROUTE_ACK)
        pass_on_ack(s, &m->envelope.parent_msg_id);
    else if (m->route.class == ROUTE_EDGE_ERROR)
        note_edge_error(s, &m->envelope.parent_msg_id);
    else if (m->route.class == ROUTE_CONTROL)
        answer_control(s, &m->envelope);
    else if (m->route.class == ROUTE_REFUSED)
        log_limited(LOG_LEVEL_INFO, "message_refused", F_STR("node", s->node->text),
                    F_STR("reason", route_reason_names[m->route.reason]),
                    F_STRN("resource", m->envelope.resource.size ? m->envelope.resource.at : "",
                           m->envelope.resource.size));
    message_destroy(m);
}

/* Takes the message. Any whole message is a sign of life. */
static void take_message(struct session *s, struct message *m)
{
    const struct config *config = s->loop->hub->config;
    uint64_t now_ms = hub_loop_now(s->loop);

    s->messages_in++;
    s->bytes_in += m->size;
    s->last_received_ms = now_ms;
    s->keepalive_deadline_ms = now_ms + config->keepalive_timeout_ms;
    count(RECEIVED_BYTES, 0, m->size);

    int rc = envelope_scan(m->text, m->size, &m->envelope);
    if (rc != 0) {
        message_destroy(m);
        session_close(s, CLOSE_INVALID_MESSAGE, envelope_error_name(rc));
        return;
    }
    bucket_spend(&s->tokens, 1, config->node_rate, config->node_burst, now_ms);
    route_classify(&m->envelope, s->node->text, s->node->size, &m->route);
    if (m->route.class == ROUTE_UPSTREAM) {
        m->from = s->ref;
        m->node = node_name_get(s->node);
        m->received_ms = uv_hrtime() / 1000000;
        submit(s, m);
    } else {
        finish_here(s, m);
    }
    if (s->state == SESSION_OPEN)
        check_rate(s);
}

/* ---- pieces ---- */

static void drop_partial(struct session *s)
{
    reassembly_release(&s->loop->hub->reassembly, &s->share);
    message_destroy(s->partial);
    s->partial = NULL;
    s->message_deadline_ms = 0;
}

/* The budget names who must go: itself, or somebody on whatever loop. False: it was this one. */
static bool hold_budget(struct session *s)
{
    struct hub *hub = s->loop->hub;
    struct session_ref victim;
    while (reassembly_hold(&hub->reassembly, &s->share, s->ref, s->partial->room, &victim)) {
        hub_close_session(hub, victim, CLOSE_REASSEMBLY_BUDGET);
        if (s->state != SESSION_OPEN)
            return false;
    }
    return true;
}

static bool make_room(struct session *s, const struct piece *p)
{
    size_t size = s->partial ? s->partial->size : 0, room = s->partial ? s->partial->room : 0;
    size_t limit = s->loop->hub->config->max_message_bytes;
    size_t need = size + p->size;
    if (s->partial && need <= room)
        return true;
    size_t ahead = p->remaining < MAX_ADVANCE ? p->remaining : MAX_ADVANCE;
    size_t want = need + ahead;
    if (want < 2 * room)
        want = 2 * room;
    struct message *bigger = message_create(want < limit ? want : limit);
    if (!bigger) {
        session_close(s, CLOSE_NO_MEMORY, NULL);
        return false;
    }
    if (s->partial)
        memcpy(bigger->text, s->partial->text, size);
    else
        s->message_deadline_ms = hub_loop_now(s->loop) + s->loop->hub->config->message_timeout_ms;
    bigger->size = size;
    message_destroy(s->partial);
    s->partial = bigger;
    session_arm(s);
    return hold_budget(s);
}

static void take_piece(struct session *s, const struct piece *p)
{
    if (!make_room(s, p))
        return;
    memcpy(s->partial->text + s->partial->size, p->bytes, p->size);
    s->partial->size += p->size;
    if (!p->is_last)
        return;
    struct message *m = s->partial;
    s->partial = NULL;
    drop_partial(s);
    take_message(s, m);
}

static void take_whole(struct session *s, const struct piece *p)
{
    struct message *m = message_create(p->size);
    if (!m) {
        session_close(s, CLOSE_NO_MEMORY, NULL);
        return;
    }
    memcpy(m->text, p->bytes, p->size);
    m->size = p->size;
    take_message(s, m);
}

static bool fits(const struct session *s, const struct piece *p)
{
    size_t limit = s->loop->hub->config->max_message_bytes;
    size_t have = (s->partial ? s->partial->size : 0) + p->size;
    return have <= limit && p->remaining <= limit - have;
}

void session_on_piece(struct session *s, const struct piece *p)
{
    hub_loop_assert_thread(s->loop);
    if (s->state != SESSION_OPEN)
        return;
    s->overhead_bytes -= (int64_t)(p->size + p->size / 4);
    if (s->overhead_bytes < 0)
        s->overhead_bytes = 0;
    if (p->is_binary) {
        s->close_code = 1003;
        session_close(s, CLOSE_INVALID_MESSAGE, "binary");
    } else if (!fits(s, p)) {
        session_close(s, CLOSE_MESSAGE_TOO_LARGE, NULL);
    } else if (!s->partial && p->is_last) {
        take_whole(s, p);
    } else {
        take_piece(s, p);
    }
}

void session_on_record(struct session *s, size_t size)
{
    uint64_t now_ms = hub_loop_now(s->loop);
    if (s->state != SESSION_OPEN)
        return;
    int64_t forgiven = (int64_t)(now_ms - s->overhead_ms) * OVERHEAD_PER_MS;
    s->overhead_ms = now_ms;
    s->overhead_bytes = s->overhead_bytes > forgiven ? s->overhead_bytes - forgiven : 0;
    s->overhead_bytes += (int64_t)size;
    if (s->overhead_bytes > OVERHEAD_RESERVE)
        session_close(s, CLOSE_PROTOCOL, "too much besides messages");
}

void session_drop_received(struct session *s)
{
    drop_partial(s);
    while (s->deferred) {
        struct mail *first = s->deferred;
        LL_DELETE(s->deferred, first);
        drop((struct message *)first, DROP_SESSION_GONE);
    }
    if (s->pauses != 0)
        count(PAUSED_SESSIONS, 0, -1);
    s->pauses = 0;
}
