/* From replies to frames.
 *
 * Happy path: nothing is queued and libwebsockets keeps nothing back, so the reply is written from
 * where it was made, headers in the room before it. Else it waits, and what waits is bounded by
 * --send-bytes. A large reply goes out in fragments: what libwebsockets keeps of a fragment that
 * the socket did not take is a copy, which stays small.
 *
 * Failure modes: a peer that takes nothing for --write-timeout, by what its TCP acknowledges, is
 * closed; one that takes too little is closed when --send-bytes is reached. */
#include "hub/session.h"

#include "hub/downstream.h"
#include "hub/hub_metrics.h"
#include "hub/loop.h"
#include "hub/release.h"
#include "hub/ws.h"

#include <assert.h>

#define FRAGMENT_BYTES (64 * 1024)

void reply_discard(struct reply *reply, enum drop_reason reason)
{
    if (reply->outcome == REPLY_PUSH)
        count(PUSHES, PUSHED_UNDELIVERED, 1); /* nothing is lost: see hub/pushqueue.h */
    else if (reply->size > 0)
        count(MESSAGES_DROPPED, reason, 1);
    reply_destroy(reply);
}

static void push(struct session *s, struct reply *r)
{
    r->mail.next = NULL;
    if (s->out_tail)
        s->out_tail->mail.next = &r->mail;
    else
        s->out_head = r;
    s->out_tail = r;
    s->out_bytes += r->size;
}

static struct reply *pop(struct session *s)
{
    struct reply *r = s->out_head;
    s->out_head = (struct reply *)r->mail.next;
    if (!s->out_head)
        s->out_tail = NULL;
    s->out_bytes -= r->size;
    s->out_offset = 0;
    return r;
}

static void finish(struct session *s, struct reply *r)
{
    s->messages_out++;
    s->bytes_out += r->size;
    count(SENT_MESSAGES, 0, 1);
    count(SENT_BYTES, 0, r->size);
    if (r->outcome == REPLY_ANSWERED)
        observe_us(ANSWER_SECONDS, r->lane, (uv_hrtime() / 1000000 - r->received_ms) * 1000);
    reply_destroy(r);
}

/* The next fragment; the headers overwrite the end of the one before it, which is gone. */
static int write_fragment(struct session *s)
{
    struct reply *r = s->out_head;
    size_t rest = r->size - s->out_offset;
    size_t size = rest < FRAGMENT_BYTES ? rest : FRAGMENT_BYTES;
    int rc = ws_write(s, reply_text(r) + s->out_offset, size, s->out_offset == 0, size == rest);
    if (rc != 0)
        return rc;
    s->out_offset += size;
    if (size == rest)
        finish(s, pop(s));
    return 0;
}

static void watch_writing(struct session *s)
{
    bool is_choked = ws_is_choked(s);
    if (is_choked)
        session_pause(s, PAUSE_CHOKED);
    else
        session_resume(s, PAUSE_CHOKED);
    if (!s->out_head && !is_choked) {
        s->write_deadline_ms = 0;
        return;
    }
    ws_want_writable(s);
    if (s->write_deadline_ms != 0)
        return;
    s->acked_mark = ws_acked_bytes(s);
    s->write_deadline_ms = hub_loop_now(s->loop) + s->loop->hub->config->write_timeout_ms;
    session_arm(s);
}

static void flush(struct session *s)
{
    while (s->out_head && !ws_is_choked(s)) {
        if (write_fragment(s) != 0) {
            session_close(s, CLOSE_WRITE_FAILED, NULL);
            return;
        }
    }
    watch_writing(s);
}

static void send_reply(struct session *s, struct reply *r)
{
    if (s->out_bytes + r->size > s->loop->hub->config->send_bytes) {
        reply_discard(r, DROP_SEND_FAILED);
        session_close(s, CLOSE_SLOW_READER, "too much unsent");
        return;
    }
    push(s, r);
    if (s->out_head == r)
        flush(s);
}

static void unreserve(struct session *s, const struct reply *r)
{
    if (r->outcome == REPLY_PUSH)
        return;
    size_t weight = r->lane == LANE_EVENT ? 0 : 1;
    assert(s->unfinished >= weight && s->unfinished_bytes >= r->message_bytes);
    s->unfinished -= weight;
    s->unfinished_bytes -= r->message_bytes;
}

/* ---- the order of versions ---- */

/* The edge stores what it gets as an answer and what is pushed to it in the same place. The two
 * come from different threads, so it is here, where they become one sequence, that a push which is
 * older than an answer is noticed. */
static uint64_t answered_version(const struct session *s, uint64_t object)
{
    for (size_t i = 0; i < SESSION_ANSWERED; i++) {
        if (s->answered[i].object == object)
            return s->answered[i].version;
    }
    return 0;
}

static void note_answered(struct session *s, const struct reply *r)
{
    size_t i = 0;
    if (s->pushed.object == r->object && s->pushed.version > r->object_version)
        downstream_set_back(s->loop->hub->downstream, s->node, s->ref, r->object,
                            r->object_version);
    while (i < SESSION_ANSWERED && s->answered[i].object != r->object)
        i++;
    if (i == SESSION_ANSWERED)
        i = s->answered_at++ % SESSION_ANSWERED;
    else if (s->answered[i].version > r->object_version)
        return;
    s->answered[i].object = r->object;
    s->answered[i].version = r->object_version;
}

/* False: it must not be sent any more; it was taken. */
static bool admit_push(struct session *s, struct reply *r)
{
    uint64_t version = r->object ? answered_version(s, r->object) : 0;
    bool is_late = r->push_id == 0 && r->object != 0 && s->pushed.object == r->object &&
                   s->pushed.version > r->object_version;
    if (version > r->object_version || is_late) {
        if (r->push_id)
            downstream_refused(s->loop->hub->downstream, s->node, s->ref, r->push_id, version);
        reply_destroy(r);
        return false;
    }
    if (r->push_id == 0 && r->object)
        note_answered(s, r); /* a worker's: nobody knows of it downstream */
    if (r->object) {
        s->pushed.object = r->object;
        s->pushed.version = r->object_version;
    }
    if (r->push_id)
        s->awaited_push = r->push_id;
    return true;
}

static bool admit(struct session *s, struct reply *r)
{
    if (r->outcome == REPLY_PUSH)
        return admit_push(s, r);
    if (r->object)
        note_answered(s, r);
    return true;
}

void session_deliver(struct session *s, struct reply *r)
{
    hub_loop_assert_thread(s->loop);
    if (s->state != SESSION_OPEN) {
        reply_discard(r, DROP_SESSION_GONE);
        return;
    }
    if (r->farewell != FAREWELL_NONE) {
        release_on_farewell(s, r);
        return;
    }
    unreserve(s, r);
    release_note_renewal(s, r);
    if (r->size == 0)
        reply_destroy(r);
    else if (admit(s, r))
        send_reply(s, r);
    if (s->state == SESSION_OPEN && s->pauses != 0)
        session_retry(s);
}

void session_on_writable(struct session *s)
{
    if (s->state != SESSION_OPEN)
        return;
    /* libwebsockets got rid of what it kept: that is progress. */
    if (!ws_is_choked(s))
        s->write_deadline_ms = 0;
    flush(s);
    if (s->state == SESSION_OPEN && (s->pauses & PAUSE_RETIRING))
        session_retry(s);
}

void session_check_writing(struct session *s)
{
    uint64_t acked = ws_acked_bytes(s);
    if (acked == s->acked_mark) {
        session_close(s, CLOSE_SLOW_READER, "takes nothing");
        return;
    }
    s->acked_mark = acked;
    s->write_deadline_ms = hub_loop_now(s->loop) + s->loop->hub->config->write_timeout_ms;
}

void session_drop_unsent(struct session *s)
{
    while (s->out_head)
        reply_discard(pop(s), DROP_SEND_FAILED);
    s->write_deadline_ms = 0;
}
