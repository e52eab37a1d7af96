/* A worker of the upstream pool. A message becomes a job; the lanes say when it runs; a run (kinds.h) says what to ask; what comes
 * back makes the answer, which goes to the loop of the session that asked.
 *
 * A job that waits is small; the run, which holds a path and a body, exists only while the job runs. A job is in exactly one
 * place: in the lanes (waiting), at the API client (a request), or on the list of sleepers (a pause between two requests).
 *
 * Everything here: the worker's thread, but for init, start, stop, join and fini. */
#include "hub/worker.h"

#include "hub/downstream.h"
#include "hub/frame.h"
#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "isthmus/log.h"
#include "isthmus/pulse.h"
#include "isthmus/version.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#define TICK_MS            100
#define PROBE_EVERY_MS     5000
#define STREAMS_PER_CONN   64
#define MAILBOX_COUNT      (1u << 20) /* the byte budget is the bound that matters */
#define LEASE_RETRY_MS     10000      /* by then the edge renews again anyway */
#define RELEASE_MS         5000
#define OBJECT_KEY_MAX     (RESOURCE_MAX_NAMESPACE + RESOURCE_MAX_NAME + 8)

struct job {
    struct lane_work work; /* first: the lanes hand out this */
    struct worker *worker;
    struct message *message;
    struct run *run; /* while it runs */
    uint64_t asked_us;
    uint64_t wake_ms;
    struct reply *farewell; /* of a release: what the node is sent last, until it goes out */
    struct job *prev, *next; /* sleepers */
};

static void pump(struct worker *w);

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The edge should hear of a failure before it gives up by itself. */
static uint64_t answer_margin_ms(const struct worker *w)
{
    uint64_t tenth = w->upstream->config->edge_timeout_ms / 10;
    return tenth < 1000 ? tenth : 1000;
}

/* ---- ends ---- */

static void job_free(struct job *job)
{
    if (job->run) {
        run_end(job->run);
        free(job->run);
    }
    if (job->farewell)
        reply_destroy(job->farewell);
    job->worker->jobs--;
    free(job);
}

static struct job *job_of(struct lane_work *work)
{
    return (struct job *)(void *)work;
}

/* Drops the job and what was coalesced into it. It is out of the lanes. */
static void drop(struct job *job, enum drop_reason reason)
{
    struct upstream *u = job->worker->upstream;
    struct lane_work *follower = job->work.followers;
    while (follower) {
        struct job *f = job_of(follower);
        follower = follower->next;
        upstream_drop(u, f->message, reason);
        job_free(f);
    }
    upstream_drop(u, job->message, reason);
    job_free(job);
}

static void drop_running(struct job *job, enum drop_reason reason)
{
    lanes_done(job->worker->lanes, &job->work);
    drop(job, reason);
}

/* What the edge stores of its own asking it must hear of when it changes, and need not be sent now. */
static void tell_downstream(struct upstream *u, const struct message *m, const struct reply *reply)
{
    const struct route *r = &m->route;
    if ((r->kind == UPSTREAM_CONFIGMAP_QUERY || r->kind == UPSTREAM_SECRET_QUERY) && reply->object_version > 0)
        downstream_answered(u->downstream, m->node, m->from, upstream_kinds[r->kind].object, &r->ns, &r->name,
                            reply->object_version);
}

/* How the preparation of a release ended goes to the session, with the last thing it is sent if there is one. Takes the
 * message. */
static void say_farewell(struct worker *w, struct message *m, const struct run *run, struct reply *push)
{
    struct upstream *u = w->upstream;
    bool as_node = run && u->kinds.impersonate && !m->node->is_legacy;
    enum farewell farewell = run ? run->farewell : FAREWELL_FAILED;
    bool is_bridged = farewell == FAREWELL_GO && run->saved &&
                      bridges_add(&w->bridges, m->node, json_incref(run->saved), as_node, run->asked_ms);
    upstream_finished(u, m, REPLY_CARRIED_OUT);
    struct reply *reply = push;
    if (reply)
        message_destroy(m);
    else
        reply = answer_none(m, REPLY_PUSH);
    reply->farewell = farewell == FAREWELL_NONE ? FAREWELL_FAILED : farewell;
    reply->is_bridged = is_bridged;
    hub_deliver(u->hub, reply);
}

/* The answer to one message; `outcome` is what it is counted as. */
static void answer(struct worker *w, struct message *m, const struct result *result, enum reply_outcome outcome)
{
    struct upstream *u = w->upstream;
    if (m->route.kind == UPSTREAM_NODE_CONNECTED) {
        downstream_node_seen(u->downstream, m->node, m->from, &result->body, result->happened);
        upstream_finished(u, m, outcome);
        message_destroy(m);
        return;
    }
    if (upstream_kinds[m->route.kind].answer == ANSWER_NONE) {
        if (result->kind == RESULT_FAILURE) {
            upstream_drop(u, m, DROP_API_ERROR);
            return;
        }
        upstream_finished(u, m, REPLY_CARRIED_OUT);
        hub_deliver(u->hub, answer_none(m, REPLY_CARRIED_OUT));
        return;
    }
    struct reply *reply = answer_compose(m, result, wall_ms());
    if (!reply) {
        upstream_drop(u, m, DROP_NO_MEMORY);
        return;
    }
    tell_downstream(u, m, reply);
    upstream_finished(u, m, outcome);
    message_destroy(m);
    hub_deliver(u->hub, reply);
}

/* The result answers the message and those that it replaced. */
static void complete(struct job *job)
{
    struct worker *w = job->worker;
    const struct result *result = &job->run->result;
    lanes_done(w->lanes, &job->work);

    struct lane_work *follower = job->work.followers;
    while (follower) {
        struct job *f = job_of(follower);
        follower = follower->next;
        answer(w, f->message, result, REPLY_COALESCED);
        job_free(f);
    }
    if (job->message->route.kind == UPSTREAM_NODE_RELEASE) {
        say_farewell(w, job->message, job->run, job->farewell);
        job->farewell = NULL;
    } else {
        answer(w, job->message, result, REPLY_ANSWERED);
    }
    job_free(job);
}

/* ---- running ---- */

static void advance(struct job *job, enum run_verdict verdict);

static enum api_code code_of(const struct apiresponse *response)
{
    if (response->error != 0)
        return API_CODE_NONE;
    if (response->status == 409)
        return API_CODE_409;
    if (response->status == 429)
        return API_CODE_429;
    if (response->status >= 500)
        return API_CODE_5XX;
    if (response->status >= 400)
        return API_CODE_4XX;
    return response->status >= 300 ? API_CODE_3XX : API_CODE_2XX;
}

static void note_answer(struct upstream *u, const struct apiresponse *response)
{
    if (response->error == 0 && response->status < 500)
        atomic_store_explicit(&u->answered_ms, uv_hrtime() / 1000000, memory_order_relaxed);
}

static void on_response(void *context, const struct apiresponse *response)
{
    struct job *job = context;
    struct worker *w = job->worker;
    note_answer(w->upstream, response);
    count2(API_REQUESTS, job->message->route.kind, code_of(response), 1);
    observe_us(API_SECONDS, job->work.lane, now_us() - job->asked_us);
    count(UPSTREAM_IN_FLIGHT, job->work.lane, -1);
    if (w->is_closing) {
        drop_running(job, DROP_SHUTDOWN);
        return;
    }
    advance(job, run_continue(job->run, response));
    pump(w);
}

static int send_request(struct job *job)
{
    struct worker *w = job->worker;
    const struct run_call *call = &job->run->call;
    const struct message *m = job->message;
    uint64_t deadline = job->work.deadline_ms - answer_margin_ms(w);
    char user[sizeof("system:node:") + RESOURCE_MAX_NAME];
    snprintf(user, sizeof(user), "system:node:%s", m->node->text);

    bool is_lease = upstream_kinds[m->route.kind].object == RESOURCE_LEASE;
    struct apirequest request = {
        .method = call->method,
        .path = call->path,
        .content_type = call->body ? call->content_type : NULL,
        .body = call->body,
        .body_size = call->body_size,
        .impersonate_user = call->as_node ? user : NULL,
        .impersonate_group = call->as_node ? w->upstream->kinds.impersonate_group : NULL,
        .channel = job->work.lane,
        .deadline_ms = deadline,
        .retry_until_ms = is_lease ? m->received_ms + LEASE_RETRY_MS : 0,
        .retry = call->retry,
        .done = on_response,
        .context = job,
    };
    job->asked_us = now_us();
    int rc = apiclient_request(w->client, &request, NULL);
    if (rc == 0)
        count(UPSTREAM_IN_FLIGHT, job->work.lane, 1);
    return rc;
}

static void call_api(struct job *job)
{
    int rc = send_request(job);
    if (rc == 0)
        return;
    struct apiresponse none = {.error = rc};
    result_from_response(&job->run->result, &none);
    complete(job);
}

static void sleep_for(struct job *job, uint64_t ms)
{
    job->wake_ms = uv_now(&job->worker->loop) + ms;
    DL_APPEND(job->worker->sleeping, job);
}

static void send_push(struct job *job)
{
    char id[UUID_BYTES];
    uuid_make(id);
    struct reply *push = downmessage_compose(&job->run->push, job->message->from, id, wall_ms());
    job->run->has_push = false;
    if (push)
        push->push_id = 0; /* nobody resends this one */
    if (job->message->route.kind == UPSTREAM_NODE_RELEASE)
        job->farewell = push; /* goes with the news of how it ended */
    else if (push)
        hub_deliver(job->worker->upstream->hub, push);
    else
        count(MESSAGES_DROPPED, DROP_NO_MEMORY, 1);
}

static void advance(struct job *job, enum run_verdict verdict)
{
    if (job->run->has_push)
        send_push(job);
    switch (verdict) {
    case RUN_CALL:
        call_api(job);
        return;
    case RUN_SLEEP:
        sleep_for(job, job->run->sleep_ms);
        return;
    case RUN_DONE:
        complete(job);
        return;
    case RUN_BAD_CONTENT:
        drop_running(job, DROP_BAD_CONTENT);
        return;
    case RUN_NO_MEMORY:
        drop_running(job, DROP_NO_MEMORY);
        return;
    }
}

static void start_job(struct job *job)
{
    count(UPSTREAM_WAITING, job->work.lane, -1);
    if (uv_now(&job->worker->loop) + answer_margin_ms(job->worker) >= job->work.deadline_ms) {
        drop_running(job, DROP_DEADLINE);
        return;
    }
    job->run = malloc(sizeof(*job->run));
    if (!job->run) {
        drop_running(job, DROP_NO_MEMORY);
        return;
    }
    advance(job, run_begin(job->run, &job->worker->upstream->kinds, job->message));
}

static void pump(struct worker *w)
{
    struct lane_work *work;
    while (!w->is_closing && (work = lanes_next(w->lanes)))
        start_job(job_of(work));
}

/* ---- arrival ---- */

/* What the message is about, so that messages about the same object keep their order. */
static size_t object_key(const struct route *r, char key[OBJECT_KEY_MAX])
{
    enum resource_kind kind = upstream_kinds[r->kind].object;
    if (kind == RESOURCE_NONE || r->name.size == 0)
        return 0;
    bool is_namespaced = resource_is_namespaced(kind);
    int size = snprintf(key, OBJECT_KEY_MAX, "%d/%.*s/%.*s", (int)kind, is_namespaced ? (int)r->ns.size : 0, r->ns.at,
                        (int)r->name.size, r->name.at);
    assert(size > 0 && size < OBJECT_KEY_MAX);
    return (size_t)size;
}

/* A node that is to be let go waits for nothing long: if it cannot be prepared soon, it stays or goes as it is. */
static uint64_t allowed_ms(const struct worker *w, enum upstream_kind kind)
{
    uint64_t edge_ms = w->upstream->config->edge_timeout_ms;
    return kind == UPSTREAM_NODE_RELEASE && edge_ms > RELEASE_MS ? RELEASE_MS : edge_ms;
}

static void evict(struct lane_work *work)
{
    count(UPSTREAM_WAITING, work->lane, -1);
    drop(job_of(work), DROP_EVENT_OVERFLOW);
}

static void on_message(void *context, struct mail *mail)
{
    struct worker *w = context;
    struct message *m = (struct message *)(void *)mail;
    const struct upstream_kind_info *info = &upstream_kinds[m->route.kind];
    char key[OBJECT_KEY_MAX];
    struct lane_work *evicted;

    struct job *job = calloc(1, sizeof(*job));
    if (!job) {
        upstream_drop(w->upstream, m, DROP_NO_MEMORY);
        return;
    }
    job->worker = w;
    job->message = m;
    job->work.lane = info->lane;
    job->work.kind = m->route.kind;
    job->work.is_coalesced = info->is_coalesced;
    job->work.deadline_ms = m->received_ms + allowed_ms(w, m->route.kind);
    if (info->object == RESOURCE_LEASE)
        bridges_end(&w->bridges, m->node); /* it is back */
    w->jobs++;
    size_t waiting = lanes_waiting(w->lanes, info->lane);
    if (lanes_add(w->lanes, &job->work, m->node->text, m->node->size, key, object_key(&m->route, key), &evicted) != 0) {
        drop(job, DROP_NO_MEMORY);
        return;
    }
    /* A coalesced one takes another's place: then the count stays. */
    if (lanes_waiting(w->lanes, info->lane) + (evicted ? 1 : 0) > waiting)
        count(UPSTREAM_WAITING, info->lane, 1);
    if (evicted)
        evict(evicted);
    pump(w);
}

/* ---- time ---- */

static void drop_expired(struct worker *w, uint64_t now, enum drop_reason reason)
{
    struct lane_work *work;
    while ((work = lanes_expire(w->lanes, now))) {
        count(UPSTREAM_WAITING, work->lane, -1);
        drop(job_of(work), reason);
    }
}

static void wake_sleepers(struct worker *w, uint64_t now)
{
    struct job *job, *next;
    DL_FOREACH_SAFE (w->sleeping, job, next) {
        if (job->wake_ms > now)
            continue;
        DL_DELETE(w->sleeping, job);
        advance(job, run_resume(job->run));
    }
}

static void on_probe(void *context, const struct apiresponse *response)
{
    struct worker *w = context;
    w->is_probing = false;
    note_answer(w->upstream, response);
    if (response->error != 0 && !w->is_closing)
        log_limited(LOG_LEVEL_WARN, "api_unreachable", F_STR("server", apiconfig_server(w->upstream->api)),
                    F_STR("error", apiclient_error_text(response->error)));
    else if (response->status >= 500)
        log_limited(LOG_LEVEL_WARN, "api_not_ready", F_STR("server", apiconfig_server(w->upstream->api)),
                    F_U64("status", response->status));
}

/* A hub without traffic still has to know whether it could serve some. */
static void probe(struct worker *w, uint64_t now)
{
    if (w != &w->upstream->workers[0] || now < w->probe_ms || w->is_probing)
        return;
    w->probe_ms = now + PROBE_EVERY_MS;
    struct apirequest request = {.method = "GET",
                                 .path = "/readyz",
                                 .channel = LANE_OWN,
                                 .deadline_ms = now + PROBE_EVERY_MS,
                                 .retry = API_RETRY_NEVER,
                                 .done = on_probe,
                                 .context = w};
    w->is_probing = apiclient_request(w->client, &request, NULL) == 0;
}

static void publish_stats(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        w->stats.waiting[lane] = lanes_waiting(w->lanes, (enum lane)lane);
        w->stats.in_flight[lane] = lanes_running(w->lanes, (enum lane)lane);
    }
    apiclient_stats(w->client, &w->stats.api);
    pthread_mutex_unlock(&w->lock);
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    (void)handle;
}

static void on_client_closed(void *context)
{
    (void)context;
}

static void close_worker(struct worker *w)
{
    w->is_closing = true;
    drop_expired(w, UINT64_MAX, DROP_SHUTDOWN);
    while (w->sleeping) {
        struct job *job = w->sleeping;
        DL_DELETE(w->sleeping, job);
        drop_running(job, DROP_SHUTDOWN);
    }
    publish_stats(w);
    bridges_close(&w->bridges);
    apiclient_close(w->client, on_client_closed, w);
    assert(w->jobs == 0);
    uv_close((uv_handle_t *)&w->tick, on_closed);
    uv_close((uv_handle_t *)&w->stop, on_closed);
}

static void on_stop(uv_async_t *stop)
{
    struct worker *w = stop->data;
    if (w->is_stopping)
        return;
    w->is_stopping = true;
    w->stop_by_ms = uv_now(&w->loop) + atomic_load(&w->stop_within_ms);
    mailbox_close(&w->mailbox, on_closed);
}

static void on_tick(uv_timer_t *tick)
{
    struct worker *w = tick->data;
    uint64_t now = uv_now(&w->loop);
    pulse_beat(now);
    drop_expired(w, now, DROP_DEADLINE);
    wake_sleepers(w, now);
    bridges_tick(&w->bridges, now);
    pump(w);
    publish_stats(w);
    if (!w->is_stopping)
        probe(w, now);
    else if (w->jobs == 0 || now >= w->stop_by_ms)
        close_worker(w);
}

/* ---- life ---- */

static void channel_options(const struct lanes_limits *limits, struct apiclient_options *options)
{
    options->channel_count = LANE_COUNT;
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        unsigned inflight = limits->lane_inflight[lane];
        options->channels[lane] = (struct apiclient_channel){
            .connections = (inflight + STREAMS_PER_CONN - 1) / STREAMS_PER_CONN,
            .max_streams = STREAMS_PER_CONN,
            .max_waiting = inflight + 16,
        };
    }
}

int worker_init(struct worker *w, struct upstream *u, struct errbuf *e)
{
    w->upstream = u;
    int rc = uv_loop_init(&w->loop);
    if (rc != 0) {
        errbuf_set(e, "upstream loop: %s", uv_strerror(rc));
        return rc;
    }
    char agent[128];
    snprintf(agent, sizeof(agent), "isthmus/%s", isthmus_version());
    struct apiclient_options options = {.user_agent = agent};
    channel_options(&u->limits, &options);
    w->lanes = lanes_create(&u->limits);
    rc = w->lanes ? apiclient_create(&w->loop, u->api, &options, &w->client, e) : -ENOMEM;
    if (rc != 0) {
        lanes_destroy(w->lanes);
        uv_run(&w->loop, UV_RUN_DEFAULT);
        uv_loop_close(&w->loop);
        return rc;
    }
    bridges_init(&w->bridges, &w->loop, w->client, u->kinds.impersonate_group, u->config->bridge_period_ms,
                 u->config->balancing.bridge_ms);
    pthread_mutex_init(&w->lock, NULL);
    rc = mailbox_init(&w->mailbox, &w->loop, MAILBOX_COUNT, (size_t)u->config->queue_bytes, on_message, w);
    assert(rc == 0);
    uv_async_init(&w->loop, &w->stop, on_stop);
    uv_timer_init(&w->loop, &w->tick);
    w->stop.data = w->tick.data = w;
    uv_timer_start(&w->tick, on_tick, 0, TICK_MS);
    return 0;
}

static void *thread_main(void *context)
{
    struct worker *w = context;
    uv_run(&w->loop, UV_RUN_DEFAULT);
    return NULL;
}

int worker_start(struct worker *w)
{
    int rc = pthread_create(&w->thread, NULL, thread_main, w);
    if (rc == 0) {
        w->is_started = true;
        pthread_setname_np(w->thread, "upstream");
    }
    return -rc;
}

void worker_stop(struct worker *w, uint64_t within_ms)
{
    atomic_store(&w->stop_within_ms, within_ms);
    uv_async_send(&w->stop);
}

void worker_join(struct worker *w)
{
    if (w->is_started)
        pthread_join(w->thread, NULL);
    else
        thread_main(w); /* never started: the closing still has to run its course */
    w->is_started = false;
}

void worker_fini(struct worker *w)
{
    int rc = uv_loop_close(&w->loop);
    assert(rc == 0); /* upstream_close() came before */
    pthread_mutex_destroy(&w->lock);
    lanes_destroy(w->lanes);
}
