/* The way out: EdgeHub's queue and rate limit, acknowledgements, and the questions that wait for
 * their answers. See edge.h.
 *
 * EdgeHub writes one message after another: when its rate limit or the wire holds it up, everything
 * behind waits, in order, also while it is not connected. Keepalives alone go past the queue. The
 * message whose write fails is lost. */
#include "test/edgesim/edge.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define OUTBOX_MAX 1024 /* beehive's channel */

struct edge_waiting {
    struct edge_waiting *prev, *next;
    uint64_t due_us;   /* acknowledgements: when; in the outbox unused */
    uint64_t sequence; /* of the question; 0: none */
    enum edge_kind kind;
    size_t size;
    char text[];
};

void edge_waiting_free(struct edge *e)
{
    struct edge_waiting *w, *tmp;
    DL_FOREACH_SAFE (e->outbox, w, tmp)
        free(w);
    DL_FOREACH_SAFE (e->acks, w, tmp)
        free(w);
    e->outbox = e->acks = NULL;
    e->outbox_count = 0;
}

/* --- writing --- */

static bool has_token(const struct edge *e, uint64_t now_us)
{
    return e->rate_us <= now_us + e->config->burst_us;
}

static void take_token(struct edge *e, uint64_t now_us)
{
    e->rate_us = (e->rate_us > now_us ? e->rate_us : now_us) + e->config->token_us;
}

static bool can_write(const struct edge *e, uint64_t now_us)
{
    return edge_link_believes_connected(&e->link) && has_token(e, now_us) && !e->io->is_blocked(e);
}

static void mark_written(struct edge *e, uint64_t sequence, uint64_t now_us)
{
    struct edge_request *q = edge_requests_find(&e->requests, sequence);
    if (!q)
        return;
    if (q->sends == 0) {
        e->stats->kinds[q->kind].ids++;
        q->sent_us = now_us;
    }
    q->sends++;
    if (q->state == EDGE_REQUEST_WAITING)
        q->state = EDGE_REQUEST_OPEN;
}

static void mark_lost(struct edge_request *q, struct edge_stats *stats)
{
    q->state = EDGE_REQUEST_LOST;
    stats->kinds[q->kind].lost++;
}

void edge_link_lost(struct edge *e)
{
    for (uint32_t i = 0; i < e->requests.capacity; i++) {
        if (e->requests.ring[i].state == EDGE_REQUEST_OPEN)
            mark_lost(&e->requests.ring[i], e->stats);
    }
}

static void notice(struct edge *e, uint64_t now_us)
{
    edge_link_lost(e);
    if (e->link.state == EDGE_LINK_UP)
        e->io->hang_up(e, EDGE_END_WRITE_ERROR);
    edge_link_noticed(&e->link, &e->config->link, now_us);
    e->noticed_us = now_us;
    e->keepalive_us = EDGE_NEVER;
}

static void write_message(struct edge *e, enum edge_kind kind, uint64_t sequence, const char *text,
                          size_t size, uint64_t now_us)
{
    struct edge_stats *s = e->stats;
    bool written = e->link.state == EDGE_LINK_UP && e->io->write(e, text, size, now_us);
    s->kinds[kind].sent++;
    s->messages_out++;
    s->bytes_out += size;
    mark_written(e, sequence, now_us);
    if (!written) {
        s->kinds[kind].unwritten++;
        notice(e, now_us);
    }
}

/* --- the queue --- */

static struct edge_waiting *keep(enum edge_kind kind, uint64_t sequence, const char *text,
                                 size_t size)
{
    struct edge_waiting *w = malloc(sizeof(*w) + size);
    if (!w)
        return NULL;
    *w = (struct edge_waiting){.kind = kind, .sequence = sequence, .size = size};
    memcpy(w->text, text, size);
    return w;
}

static void queue(struct edge *e, enum edge_kind kind, uint64_t sequence, const char *text,
                  size_t size)
{
    struct edge_waiting *w = e->outbox_count < OUTBOX_MAX ? keep(kind, sequence, text, size) : NULL;
    if (!w) {
        e->stats->outbox_dropped++;
        return;
    }
    DL_APPEND(e->outbox, w);
    e->outbox_count++;
}

static void send_message(struct edge *e, enum edge_kind kind, uint64_t sequence, const char *text,
                         size_t size, uint64_t now_us)
{
    if (kind == EDGE_KIND_KEEPALIVE) {
        write_message(e, kind, sequence, text, size, now_us);
        return;
    }
    if (e->outbox || !can_write(e, now_us)) {
        queue(e, kind, sequence, text, size);
        return;
    }
    take_token(e, now_us);
    write_message(e, kind, sequence, text, size, now_us);
}

void edge_outbox_tick(struct edge *e, uint64_t now_us)
{
    while (e->outbox && can_write(e, now_us)) {
        struct edge_waiting *w = e->outbox;
        DL_DELETE(e->outbox, w);
        e->outbox_count--;
        take_token(e, now_us);
        write_message(e, w->kind, w->sequence, w->text, w->size, now_us);
        free(w);
    }
}

uint64_t edge_outbox_due(const struct edge *e, uint64_t now_us)
{
    if (!e->outbox || !edge_link_believes_connected(&e->link) || e->io->is_blocked(e))
        return EDGE_NEVER;
    return has_token(e, now_us) ? now_us : e->rate_us - e->config->burst_us;
}

/* --- messages without an answer --- */

static void new_id(struct edge *e, bool expects_answer, uint64_t sequence, char id[EDGE_ID_SIZE])
{
    const struct edge_id parts = {e->config->nonce, e->index, expects_answer, sequence};
    edge_id_format(&parts, id);
}

void edge_tell_begin(struct edge *e, char id[EDGE_ID_SIZE])
{
    edge_text_clear(e->scratch);
    new_id(e, false, e->next_plain++, id);
}

void edge_tell_send(struct edge *e, enum edge_kind kind, uint64_t now_us)
{
    if (edge_text_ok(e->scratch))
        send_message(e, kind, 0, e->scratch->at, e->scratch->size, now_us);
}

static struct edge_ack ack_of(const struct edge_answer *a)
{
    return (struct edge_ack){a->source.at,   a->group.at,   a->resource.at,   a->id.at,
                             a->source.size, a->group.size, a->resource.size, a->id.size};
}

void edge_ack_later(struct edge *e, const struct edge_answer *a, uint64_t now_us)
{
    const struct edge_config *c = e->config;
    char id[EDGE_ID_SIZE];
    struct edge_ack ack = ack_of(a);
    uint64_t due_us = now_us + c->ack_min_us +
                      (uint64_t)((double)(c->ack_max_us - c->ack_min_us) * edge_random(e));
    struct edge_author author = edge_author(e, due_us);
    edge_tell_begin(e, id);
    edge_message_ack(e->scratch, &author, id, &ack);
    struct edge_waiting *w =
        edge_text_ok(e->scratch) ? keep(EDGE_KIND_ACK, 0, e->scratch->at, e->scratch->size) : NULL;
    if (!w)
        return;
    w->due_us = due_us;
    DL_APPEND(e->acks, w);
}

void edge_acks_tick(struct edge *e, uint64_t now_us)
{
    struct edge_waiting *w, *tmp;
    DL_FOREACH_SAFE (e->acks, w, tmp) {
        if (w->due_us > now_us)
            continue;
        DL_DELETE(e->acks, w);
        send_message(e, EDGE_KIND_ACK, 0, w->text, w->size, now_us);
        free(w);
    }
}

uint64_t edge_acks_due(const struct edge *e)
{
    const struct edge_waiting *w;
    uint64_t due_us = EDGE_NEVER;
    DL_FOREACH (e->acks, w) {
        if (w->due_us < due_us)
            due_us = w->due_us;
    }
    return due_us;
}

/* --- questions --- */

void edge_ask_begin(struct edge *e, char id[EDGE_ID_SIZE])
{
    edge_text_clear(e->scratch);
    new_id(e, true, e->requests.next, id);
}

bool edge_ask_send(struct edge *e, enum edge_kind kind, enum edge_asker asker, uint32_t tag,
                   uint64_t now_us)
{
    struct edge_text *t = e->scratch;
    if (!edge_text_ok(t))
        return false;
    struct edge_request *q = edge_requests_open(&e->requests, kind, asker, tag, t->at, t->size,
                                                now_us + e->config->answer_us);
    if (!q)
        return false;
    send_message(e, kind, q->sequence, t->at, t->size, now_us);
    return true;
}

/* MetaManager gives what it asks the cloud itself a new id each time; patches and pod deletions it
 * only passes on. */
static bool keeps_id(enum edge_kind kind)
{
    return kind == EDGE_KIND_NODEPATCH || kind == EDGE_KIND_PODPATCH ||
           kind == EDGE_KIND_POD_DELETE;
}

static void close_unanswered(struct edge *e, struct edge_request *q)
{
    bool never = q->state == EDGE_REQUEST_OPEN;
    if (never)
        e->stats->kinds[q->kind].never++;
    else if (q->state == EDGE_REQUEST_WAITING && q->sends > 0)
        e->stats->kinds[q->kind].lost++;
    edge_requests_close(&e->requests, q, never ? EDGE_REQUEST_NEVER : EDGE_REQUEST_GIVEN_UP);
}

static void repeat_same_id(struct edge *e, struct edge_request *q, uint64_t now_us)
{
    edge_requests_extend(&e->requests, q, now_us + e->config->answer_us);
    if (q->state == EDGE_REQUEST_LOST) {
        /* It has another chance; what becomes of the id is told later. */
        if (e->stats->kinds[q->kind].lost > 0)
            e->stats->kinds[q->kind].lost--;
        q->state = EDGE_REQUEST_WAITING;
    }
    send_message(e, q->kind, q->sequence, q->text, q->size, now_us);
}

static void repeat_new_id(struct edge *e, struct edge_request *q, uint64_t now_us)
{
    struct edge_request old = *q;
    char id[EDGE_ID_SIZE];
    new_id(e, true, e->requests.next, id);
    memcpy(old.text + EDGE_ID_OFFSET, id, EDGE_ID_SIZE - 1);
    struct edge_request *again =
        edge_requests_open(&e->requests, old.kind, old.asker, old.tag, old.text, old.size,
                           now_us + e->config->answer_us);
    if (again) {
        again->is_repetition = true;
        send_message(e, again->kind, again->sequence, again->text, again->size, now_us);
    }
    /* Opening may have moved the ring, and sending may have lost the link. */
    close_unanswered(e, edge_requests_find(&e->requests, old.sequence));
    if (!again)
        edge_asker_done(e, old.asker, old.tag, old.kind, EDGE_OUTCOME_FAILED, NULL, now_us);
}

void edge_requests_tick(struct edge *e, uint64_t now_us)
{
    struct edge_request *q;
    while ((q = edge_requests_expired(&e->requests, now_us)) != NULL) {
        if (!q->is_repetition && q->asker != EDGE_ASKER_LOAD) {
            e->stats->kinds[q->kind].repeated++;
            if (keeps_id(q->kind))
                repeat_same_id(e, q, now_us);
            else
                repeat_new_id(e, q, now_us);
            continue;
        }
        struct edge_request old = *q;
        close_unanswered(e, q);
        edge_asker_done(e, old.asker, old.tag, old.kind, EDGE_OUTCOME_FAILED, NULL, now_us);
    }
}
