/* The downstream thread: its mail, its loop, its life. See downstream.h.
 *
 * Mail that tells of a session's beginning or end is never refused (there are two for each
 * session); what may be lost under pressure - an acknowledgement, say - costs a message that is
 * sent once more. */
#include "hub/downstream.h"

#include "hub/delivery.h"
#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "isthmus/log.h"
#include "isthmus/pulse.h"
#include "isthmus/version.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define EXPIRE_EVERY_MS 60000
#define TICK_MS         100
/* What is acknowledged when the process ends is still recorded, within this time. */
#define LAST_WRITES_MS 3000
#define MAIL_COUNT     ((size_t)1 << 18)
#define MAIL_BYTES     ((size_t)64 * 1024 * 1024)
#define STREAMS        64
#define WAITING_CALLS  1024

#define TEXT(id, text) text,
const char *const push_outcome_names[PUSHED_COUNT] = {PUSH_OUTCOMES(TEXT)};
const char *const record_result_names[RECORD_RESULT_COUNT] = {RECORD_RESULTS(TEXT)};
#undef TEXT

/* ---- mail ---- */

enum letter_kind {
    LETTER_CONNECTED,
    LETTER_GONE,
    LETTER_ACKED,
    LETTER_REFUSED,
    LETTER_SET_BACK,
    LETTER_ANSWERED,
    LETTER_NODE_SEEN
};

struct letter {
    struct mail mail;
    enum letter_kind kind;
    struct node_name *node; /* a ref of its own */
    struct session_ref session;
    uint64_t id;               /* of a push; of an object, for SET_BACK */
    uint64_t version;          /* CONNECTED: the session's order */
    enum resource_kind object; /* ANSWERED */
    bool is_ours;              /* NODE_SEEN */
    size_t ns_size, size;
    char text[]; /* ANSWERED: namespace, name; NODE_SEEN: the Node */
};

static struct letter *letter_create(enum letter_kind kind, struct node_name *node,
                                    struct session_ref session, size_t size)
{
    struct letter *letter = calloc(1, sizeof(*letter) + size);
    if (!letter)
        return NULL;
    letter->mail.bytes = sizeof(*letter) + size;
    letter->kind = kind;
    letter->node = node_name_get(node);
    letter->session = session;
    letter->size = size;
    return letter;
}

static void letter_free(struct letter *letter)
{
    node_name_put(letter->node);
    free(letter);
}

/* Takes the letter, which may be NULL. */
static void post(struct downstream *d, struct letter *letter, bool is_always)
{
    if (!letter)
        return;
    int rc = is_always ? mailbox_post_always(&d->mailbox, &letter->mail)
                       : mailbox_post(&d->mailbox, &letter->mail);
    if (rc != 0)
        letter_free(letter);
}

void downstream_connected(struct downstream *d, struct node_name *node, struct session_ref session,
                          uint64_t order)
{
    struct letter *letter = d ? letter_create(LETTER_CONNECTED, node, session, 0) : NULL;
    if (!letter)
        return;
    letter->version = order;
    post(d, letter, true);
}

void downstream_gone(struct downstream *d, struct node_name *node, struct session_ref session)
{
    if (d)
        post(d, letter_create(LETTER_GONE, node, session, 0), true);
}

static void post_about(struct downstream *d, enum letter_kind kind, struct node_name *node,
                       struct session_ref session, uint64_t id, uint64_t version)
{
    struct letter *letter = d ? letter_create(kind, node, session, 0) : NULL;
    if (!letter)
        return;
    letter->id = id;
    letter->version = version;
    post(d, letter, false);
}

void downstream_acked(struct downstream *d, struct node_name *node, struct session_ref session,
                      uint64_t id)
{
    post_about(d, LETTER_ACKED, node, session, id, 0);
}

void downstream_refused(struct downstream *d, struct node_name *node, struct session_ref session,
                        uint64_t id, uint64_t version)
{
    post_about(d, LETTER_REFUSED, node, session, id, version);
}

void downstream_set_back(struct downstream *d, struct node_name *node, struct session_ref session,
                         uint64_t object, uint64_t version)
{
    post_about(d, LETTER_SET_BACK, node, session, object, version);
}

void downstream_answered(struct downstream *d, struct node_name *node, struct session_ref session,
                         enum resource_kind kind, const struct text_span *ns,
                         const struct text_span *name, uint64_t version)
{
    struct letter *letter =
        d ? letter_create(LETTER_ANSWERED, node, session, ns->size + name->size) : NULL;
    if (!letter)
        return;
    letter->object = kind;
    letter->version = version;
    letter->ns_size = ns->size;
    memcpy(letter->text, ns->at, ns->size);
    memcpy(letter->text + ns->size, name->at, name->size);
    post(d, letter, false);
}

void downstream_node_seen(struct downstream *d, struct node_name *node, struct session_ref session,
                          const struct text_span *body, bool is_ours)
{
    struct letter *letter = d ? letter_create(LETTER_NODE_SEEN, node, session, body->size) : NULL;
    if (!letter)
        return;
    letter->is_ours = is_ours;
    if (body->size > 0)
        memcpy(letter->text, body->at, body->size);
    post(d, letter, true);
}

static void deliver_letter(struct downstream *d, struct letter *m)
{
    struct delivery *v = delivery_find(d, m->node, m->session);
    if (!v)
        return;
    switch (m->kind) {
    case LETTER_ACKED:
        delivery_acked(d, v, m->id);
        break;
    case LETTER_REFUSED:
        delivery_refused(d, v, m->id, m->version);
        break;
    case LETTER_SET_BACK:
        delivery_set_back(d, v, m->id, m->version);
        break;
    case LETTER_ANSWERED: {
        const struct want_key key = {
            m->object, {m->text, m->ns_size}, {m->text + m->ns_size, m->size - m->ns_size}};
        delivery_answered(d, v, &key, m->version);
        break;
    }
    case LETTER_NODE_SEEN:
        delivery_node_seen(d, v, m->text, m->size, m->is_ours);
        break;
    default:
        break;
    }
}

static void on_mail(void *context, struct mail *mail)
{
    struct downstream *d = context;
    struct letter *m = (struct letter *)(void *)mail; /* mail is its first member */
    if (d->is_closing)
        ; /* nothing is delivered any more */
    else if (m->kind == LETTER_CONNECTED)
        delivery_connected(d, m->node, m->session, m->version);
    else if (m->kind == LETTER_GONE)
        delivery_gone(d, m->node, m->session);
    else
        deliver_letter(d, m);
    letter_free(m);
}

/* ---- figures ---- */

static void publish(struct downstream *d)
{
    struct want_stats index;
    want_stats(d->want, &index);
    pthread_mutex_lock(&d->lock);
    struct downstream_stats *s = &d->stats;
    *s = (struct downstream_stats){
        .is_on = true,
        .is_synced = d->is_synced,
        .has_records = d->has_records,
        .objects = index.objects,
        .links = index.links,
        .nodes = index.nodes,
        .index_bytes = index.bytes,
        .connected = d->connected,
        .waiting = d->waiting,
        .in_flight = d->in_flight,
        .content_bytes = d->content_bytes,
        .record_writes = d->recorder.count + d->recorder.writes,
    };
    for (int i = 0; i < DOWN_WATCH_COUNT; i++) {
        s->watches[i].is_healthy = d->watchers[i].is_healthy;
        s->watches[i].is_synced = d->watchers[i].is_synced;
        memcpy(s->watches[i].text, d->watchers[i].text, sizeof(s->watches[i].text));
        metric_set(&hub_metrics[M_WATCH_HEALTHY], (size_t)i, 0, d->watchers[i].is_healthy);
    }
    pthread_mutex_unlock(&d->lock);
    metric_set(&hub_metrics[M_PUSHES_WAITING], 0, 0, (int64_t)d->waiting);
    metric_set(&hub_metrics[M_PUSHES_IN_FLIGHT], 0, 0, (int64_t)d->in_flight);
    metric_set(&hub_metrics[M_INDEX_OBJECTS], 0, 0, (int64_t)index.objects);
    metric_set(&hub_metrics[M_INDEX_LINKS], 0, 0, (int64_t)index.links);
    metric_set(&hub_metrics[M_INDEX_BYTES], 0, 0, (int64_t)index.bytes);
}

void downstream_stats(struct downstream *d, struct downstream_stats *stats)
{
    *stats = (struct downstream_stats){.is_on = false};
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    *stats = d->stats;
    pthread_mutex_unlock(&d->lock);
}

/* ---- time ---- */

static void finish(struct downstream *d);

static void on_tick(uv_timer_t *tick)
{
    struct downstream *d = tick->data;
    uint64_t now = uv_now(&d->loop);
    pulse_beat(now);
    wheel_advance(&d->wheel, now, delivery_timer, d);
    recorder_tick(d, now);
    recorder_collect(d, now);
    if (now >= d->expire_ms) {
        d->expire_ms = now + EXPIRE_EVERY_MS;
        want_expire(d->want, now);
    }
    publish(d);
    bool is_idle = d->recorder.count == 0 && d->recorder.writes == 0;
    if (d->stop_by_ms != 0 && (is_idle || now >= d->stop_by_ms))
        finish(d);
}

/* ---- life ---- */

static void on_client_closed(void *context)
{
    (void)context;
}

static void on_stop(uv_async_t *stop)
{
    struct downstream *d = stop->data;
    if (d->stop_by_ms != 0)
        return;
    d->stop_by_ms = uv_now(&d->loop) + LAST_WRITES_MS;
    mailbox_close(&d->mailbox, NULL);
    delivery_end_all(d);
}

static void finish(struct downstream *d)
{
    d->is_closing = true;
    apiclient_close(d->client, on_client_closed, d);
    uv_close((uv_handle_t *)&d->tick, NULL);
    uv_close((uv_handle_t *)&d->stop, NULL);
}

static void channel_options(struct apiclient_options *options)
{
    options->channel_count = DOWN_CHANNEL_COUNT;
    options->channels[DOWN_CHANNEL_WATCH] =
        (struct apiclient_channel){1, STREAMS, DOWN_WATCH_COUNT};
    options->channels[DOWN_CHANNEL_READ] = (struct apiclient_channel){1, STREAMS, WAITING_CALLS};
    options->channels[DOWN_CHANNEL_WRITE] = (struct apiclient_channel){1, STREAMS, WAITING_CALLS};
}

int downstream_create(const struct config *config, struct apiconfig *api, struct downstream **out,
                      struct errbuf *e)
{
    struct downstream *d = calloc(1, sizeof(*d));
    if (!d || !(d->want = want_create())) {
        free(d);
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    d->config = config;
    d->api = api;
    d->line_tail = &d->line_head;
    int rc = uv_loop_init(&d->loop);
    if (rc != 0) {
        errbuf_set(e, "downstream loop: %s", uv_strerror(rc));
        want_destroy(d->want);
        free(d);
        return rc;
    }
    char agent[128];
    snprintf(agent, sizeof(agent), "isthmus/%s", isthmus_version());
    struct apiclient_options options = {.user_agent = agent};
    channel_options(&options);
    rc = apiclient_create(&d->loop, api, &options, &d->client, e);
    if (rc != 0) {
        uv_run(&d->loop, UV_RUN_DEFAULT);
        uv_loop_close(&d->loop);
        want_destroy(d->want);
        free(d);
        return rc;
    }
    pthread_mutex_init(&d->lock, NULL);
    d->stats.is_on = true;
    slab_init(&d->deliveries, sizeof(struct delivery));
    wheel_init(&d->wheel, uv_now(&d->loop));
    rc = mailbox_init(&d->mailbox, &d->loop, MAIL_COUNT, MAIL_BYTES, on_mail, d);
    assert(rc == 0); /* nothing in it but a mutex and an async handle */
    uv_async_init(&d->loop, &d->stop, on_stop);
    uv_timer_init(&d->loop, &d->tick);
    d->stop.data = d->tick.data = d;
    uv_timer_start(&d->tick, on_tick, 0, TICK_MS);
    *out = d;
    return 0;
}

static void *thread_main(void *context)
{
    struct downstream *d = context;
    uv_run(&d->loop, UV_RUN_DEFAULT);
    return NULL;
}

int downstream_start(struct downstream *d, struct hub *hub, struct errbuf *e)
{
    sigset_t all, before;
    d->hub = hub;
    int rc = watcher_start_all(d);
    if (rc == 0) {
        sigfillset(&all); /* signals are the control thread's */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = -pthread_create(&d->thread, NULL, thread_main, d);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (rc != 0) {
        errbuf_set(e, "downstream thread: %s", strerror(-rc));
        return rc;
    }
    d->is_started = true;
    pthread_setname_np(d->thread, "downstream");
    return 0;
}

void downstream_close(struct downstream *d)
{
    if (!d)
        return;
    uv_async_send(&d->stop);
    if (d->is_started)
        pthread_join(d->thread, NULL);
    else
        thread_main(d); /* never started: the closing still has to run its course */
    d->is_started = false;
}

void downstream_destroy(struct downstream *d)
{
    if (!d)
        return;
    int rc = uv_loop_close(&d->loop);
    assert(rc == 0); /* downstream_close() came before */
    pthread_mutex_destroy(&d->lock);
    recorder_fini(d);
    slab_fini(&d->deliveries);
    want_destroy(d->want);
    free(d);
}
