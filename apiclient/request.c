/* The life of a request.
 *
 * Happy path: NEW > WAITING (for a stream) > ON_CONN > FINISHED, and in the next turn its callback.
 * All in one block of memory, which is kept for the next request, with the buffer for the answer.
 * Failure modes: an answer that says "later" (429, 5xx), a lost connection or a refused stream make
 * it SLEEPING for a while and then WAITING again, if its retry class, its time, and the budget of
 * retries allow; else it ends with what it has. What a server provably did not process goes back to
 * the front of the queue and costs nothing. The deadline ends it anywhere. Loop thread only. */
#include "apiclient/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#define MIN_TEXT          512
#define MAX_SPARE_TEXT    1024
#define MAX_SPARE_IN      ((size_t)16 * 1024)
#define MAX_SPARES        64
#define MAX_PREALLOCATION ((size_t)1024 * 1024) /* on the word of a content-length */
#define MIN_IN            2048
#define RETRY_MAX_MS      10000
#define REFUSED_MIN_MS    20
#define REFUSED_MAX_MS    1000
#define RELOAD_APART_MS   200 /* between reads of the credentials because of 401s */

/* ---- memory ---- */

static size_t text_size(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static struct apicall *call_new(struct apiclient *client, size_t size)
{
    struct apicall *call = client->spare;
    if (call && call->text_room >= size) {
        client->spare = call->next;
        client->spare_count--;
        char *in = call->in;
        size_t in_room = call->in_room, text_room = call->text_room;
        memset(call, 0, sizeof(*call));
        call->in = in;
        call->in_room = in_room;
        call->text_room = text_room;
        return call;
    }
    size_t room = size < MIN_TEXT ? MIN_TEXT : size;
    call = malloc(sizeof(*call) + room);
    if (!call)
        return NULL;
    memset(call, 0, sizeof(*call));
    call->text_room = room;
    return call;
}

static void call_free(struct apicall *call)
{
    struct apiclient *client = call->client;
    apitimer_fini(&client->timers, &call->timer);
    if (call->in_room > MAX_SPARE_IN) {
        free(call->in);
        call->in = NULL;
        call->in_room = 0;
    }
    if (client->spare_count >= MAX_SPARES || call->text_room > MAX_SPARE_TEXT) {
        free(call->in);
        free(call);
        return;
    }
    call->next = client->spare;
    client->spare = call;
    client->spare_count++;
}

void apicall_free_spares(struct apiclient *client)
{
    while (client->spare) {
        struct apicall *next = client->spare->next;
        free(client->spare->in);
        free(client->spare);
        client->spare = next;
    }
}

/* ---- where it is ---- */

static struct apicall **list_of(struct apicall *call)
{
    switch (call->state) {
    case APICALL_WAITING:
        return &call->channel->waiting;
    case APICALL_ON_CONN:
        return &call->conn->calls;
    case APICALL_SLEEPING:
        return &call->client->sleeping;
    case APICALL_FINISHED:
        return &call->client->finished;
    default:
        return NULL;
    }
}

static void unlist(struct apicall *call)
{
    struct apicall **list = list_of(call);
    if (list)
        DL_DELETE(*list, call);
    if (call->state == APICALL_WAITING)
        call->channel->waiting_count--;
}

/* `conn` for ON_CONN, else NULL. */
static void move(struct apicall *call, enum apicall_state state, struct apiconn *conn,
                 bool in_front)
{
    assert(call->state != APICALL_FINISHED);
    assert((conn != NULL) == (state == APICALL_ON_CONN));
    unlist(call);
    call->state = state;
    call->conn = conn;
    struct apicall **list = list_of(call);
    if (in_front)
        DL_PREPEND(*list, call);
    else
        DL_APPEND(*list, call);
    if (state == APICALL_WAITING)
        call->channel->waiting_count++;
}

/* Nobody waits for its stream any more; what became of it we shall not know. */
static void leave_stream(struct apicall *call)
{
    if (call->state != APICALL_ON_CONN)
        return;
    call->may_have_happened |= call->sent;
    apih2_abandon(call->conn, call);
}

void apicall_put_on(struct apicall *call, struct apiconn *conn, int32_t stream_id)
{
    move(call, APICALL_ON_CONN, conn, false);
    call->stream_id = stream_id;
    call->attempts++;
    call->token_generation = call->client->token_generation;
    call->tls_generation = conn->tls_generation;
    call->sent = call->is_json = call->has_retry_after = false;
    call->body_sent = 0;
    call->status = 0;
    call->in_size = 0;
}

void apicall_finish(struct apicall *call, int error)
{
    if (call->state == APICALL_FINISHED)
        return;
    apitimer_stop(&call->client->timers, &call->timer);
    call->error = error;
    move(call, APICALL_FINISHED, NULL, false);
}

/* Ends it in the middle. */
static void abort_call(struct apicall *call, int error)
{
    leave_stream(call);
    apicall_finish(call, error);
}

static void wait_for_stream(struct apicall *call, bool in_front)
{
    apitimer_set(&call->client->timers, &call->timer, call->deadline_ms);
    move(call, APICALL_WAITING, NULL, in_front);
}

static void sleep_until(struct apicall *call, uint64_t when_ms)
{
    uint64_t due_ms = when_ms < call->deadline_ms ? when_ms : call->deadline_ms;
    apitimer_set(&call->client->timers, &call->timer, due_ms);
    move(call, APICALL_SLEEPING, NULL, false);
}

static void on_call_timer(struct apitimer *timer, uint64_t now_ms)
{
    struct apicall *call = API_CONTAINER(timer, struct apicall, timer);
    if (now_ms >= call->deadline_ms) {
        abort_call(call, -ETIMEDOUT);
    } else {
        wait_for_stream(call, false);
    }
}

/* ---- again? ---- */

/* False: it must end with what it has. */
static bool sleep_before_retry(struct apicall *call)
{
    struct apiclient *client = call->client;
    uint64_t random = apiclient_random(client), now_ms = apiclient_now(client);
    uint64_t delay_ms =
        call->has_retry_after
            ? call->retry_after_ms + random % (call->retry_after_ms / 4 + 100)
            : apibackoff_delay_ms(call->attempts - 1, client->retry_min_ms, RETRY_MAX_MS, random);
    if (now_ms + delay_ms >= call->retry_until_ms)
        return false;
    if (!apiretry_budget_take(&client->budget)) {
        client->stats.retries_denied++;
        return false;
    }
    client->stats.retries++;
    sleep_until(call, now_ms + delay_ms);
    return true;
}

static bool is_retried(const struct apicall *call)
{
    switch (call->status) {
    case 429:
        return call->retry != API_RETRY_NEVER;
    case 500:
    case 502:
    case 503:
    case 504:
        return call->retry == API_RETRY_REPEATABLE;
    default:
        return false;
    }
}

/* A 401 with credentials that are outdated by now was not carried out, and goes again once,
 * whatever its class. */
static bool has_newer_credentials(const struct apicall *call)
{
    struct apiconfig *config = call->client->config;
    apiconfig_refresh(config, RELOAD_APART_MS);
    return apiconfig_token_generation(config) != call->token_generation ||
           apiconfig_tls_generation(config) != call->tls_generation;
}

void apicall_answered(struct apicall *call)
{
    call->client->stats.responses++;
    if (call->status == 401 && !call->reloaded && has_newer_credentials(call)) {
        call->reloaded = true;
        call->client->stats.resent++;
        wait_for_stream(call, true);
        return;
    }
    if (is_retried(call) && sleep_before_retry(call)) {
        call->may_have_happened |= call->status != 429;
        return;
    }
    apicall_finish(call, 0);
}

void apicall_unprocessed(struct apicall *call)
{
    call->client->stats.resent++;
    wait_for_stream(call, true);
}

void apicall_refused(struct apicall *call)
{
    struct apiclient *client = call->client;
    uint64_t delay_ms = apibackoff_delay_ms(call->refusals++, REFUSED_MIN_MS, REFUSED_MAX_MS,
                                            apiclient_random(client));
    client->stats.resent++;
    sleep_until(call, apiclient_now(client) + delay_ms);
}

void apicall_lost(struct apicall *call, int error)
{
    if (!call->sent && !call->client->is_closing) {
        apicall_unprocessed(call);
        return;
    }
    call->may_have_happened |= call->sent;
    bool is_repeatable = call->retry == API_RETRY_REPEATABLE && !call->client->is_closing;
    call->has_retry_after = false;
    if (!is_repeatable || !sleep_before_retry(call))
        apicall_finish(call, error);
}

/* ---- the answer ---- */

static bool is_named(const char *name, size_t size, const char *expected)
{
    return size == strlen(expected) && memcmp(name, expected, size) == 0;
}

/* Room for `size` bytes and a NUL. */
static bool reserve(struct apicall *call, size_t size)
{
    if (size < call->in_room)
        return true;
    size_t room = call->in_room ? call->in_room : MIN_IN;
    while (room <= size)
        room *= 2;
    char *in = realloc(call->in, room);
    if (!in)
        return false;
    call->in = in;
    call->in_room = room;
    return true;
}

static void on_content_length(struct apicall *call, const char *value, size_t size)
{
    size_t length = 0;
    for (size_t i = 0; i < size && length <= SIZE_MAX / 20; i++)
        length = length * 10 + (size_t)(value[i] - '0'); /* nghttp2 has checked the digits */
    if (call->on_data && call->status == 200)
        return;
    if (length > call->client->max_response_bytes)
        abort_call(call, -EMSGSIZE);
    else if (!reserve(call, length < MAX_PREALLOCATION ? length : MAX_PREALLOCATION))
        abort_call(call, -ENOMEM);
}

static void on_content_type(struct apicall *call, const char *value, size_t size)
{
    static const char json[] = "application/json";
    size_t json_size = sizeof(json) - 1;
    call->is_json = size >= json_size && strncasecmp(value, json, json_size) == 0 &&
                    (size == json_size || value[json_size] == ';' || value[json_size] == ' ');
}

/* What the reader of a stream made of it. */
static void after_on_data(struct apicall *call, int rc)
{
    if (rc < 0)
        abort_call(call, rc);
}

static void on_status(struct apicall *call, const char *value)
{
    unsigned status = 0;
    for (size_t i = 0; i < 3; i++)
        status = status * 10 + (unsigned)(value[i] - '0'); /* nghttp2 has checked that */
    call->status = status >= 200 ? status : 0;             /* 1xx is only a beginning */
    call->is_json = call->has_retry_after = false;
    if (call->on_data && status == 200)
        after_on_data(call, call->on_data(call->context, NULL, 0));
}

void apicall_header(struct apicall *call, const char *name, size_t name_size, const char *value,
                    size_t size)
{
    if (is_named(name, name_size, ":status")) {
        on_status(call, value);
    } else if (is_named(name, name_size, "content-type")) {
        on_content_type(call, value, size);
    } else if (is_named(name, name_size, "content-length")) {
        on_content_length(call, value, size);
    } else if (is_named(name, name_size, "retry-after")) {
        call->has_retry_after =
            apiretry_after_parse(value, size, (int64_t)time(NULL), &call->retry_after_ms) == 0;
    }
}

void apicall_data(struct apicall *call, const char *data, size_t size)
{
    if (call->on_data && call->status == 200) {
        after_on_data(call, call->on_data(call->context, data, size));
        return;
    }
    if (size > call->client->max_response_bytes - call->in_size) {
        abort_call(call, -EMSGSIZE);
        return;
    }
    if (!reserve(call, call->in_size + size)) {
        abort_call(call, -ENOMEM);
        return;
    }
    memcpy(call->in + call->in_size, data, size);
    call->in_size += size;
}

static void deliver(struct apicall *call)
{
    struct apiresponse response = {.error = call->error,
                                   .attempts = call->attempts,
                                   .may_have_happened = call->error != 0 && call->may_have_happened,
                                   .body = ""};
    if (call->error == 0) {
        response.status = call->status;
        response.is_json = call->is_json;
        response.retry_after_ms = call->has_retry_after ? call->retry_after_ms : 0;
        response.size = call->in_size;
        if (call->in) {
            call->in[call->in_size] = '\0';
            response.body = call->in;
        }
    }
    call->done(call->context, &response);
}

bool apicall_run_finished(struct apiclient *client)
{
    bool any = false;
    struct apicall *call;
    while ((call = client->finished) != NULL) {
        DL_DELETE(client->finished, call);
        call->state = APICALL_NEW;
        deliver(call);
        call_free(call);
        any = true;
    }
    return any;
}

/* ---- from and to the user ---- */

static bool is_header_value(const char *text)
{
    return !text || nghttp2_check_header_value((const uint8_t *)text, strlen(text));
}

static bool is_path(const char *path)
{
    if (*path != '/')
        return false;
    for (; *path; path++) {
        if (*path <= ' ' || *path > '~')
            return false;
    }
    return true;
}

static bool is_valid(const struct apiclient *client, const struct apirequest *r)
{
    return r->method && r->path && r->done && r->deadline_ms != 0 &&
           r->channel < client->channel_count && is_path(r->path) && *r->method &&
           is_header_value(r->method) && is_header_value(r->content_type) &&
           is_header_value(r->impersonate_user) && is_header_value(r->impersonate_group) &&
           (r->body_size == 0 || r->body);
}

static const char *put_text(char **at, const char *text)
{
    if (!text)
        return NULL;
    char *copy = *at;
    size_t size = text_size(text);
    memcpy(copy, text, size);
    *at += size;
    return copy;
}

static void fill(struct apicall *call, const struct apirequest *r, const char *base_path)
{
    char *at = call->text;
    call->path = at;
    memcpy(at, base_path, strlen(base_path));
    at += strlen(base_path);
    put_text(&at, r->path);
    call->path_size = (size_t)(at - call->path) - 1;
    call->method = put_text(&at, r->method);
    call->content_type = put_text(&at, r->content_type);
    call->impersonate_user = put_text(&at, r->impersonate_user);
    call->impersonate_group = put_text(&at, r->impersonate_group);
    call->body = r->body;
    call->body_size = r->body_size;
    call->deadline_ms = r->deadline_ms;
    call->retry_until_ms = r->retry_until_ms && r->retry_until_ms < r->deadline_ms
                               ? r->retry_until_ms
                               : r->deadline_ms;
    call->retry = r->retry;
    call->done = r->done;
    call->context = r->context;
}

int apicall_start(struct apiclient *client, const struct apirequest *r, apicall_stream_cb on_data,
                  struct apicall **out)
{
    if (client->is_closing)
        return -ECANCELED;
    if (!is_valid(client, r))
        return -EINVAL;
    const char *base_path = apiconfig_base_path(client->config);
    size_t size = strlen(base_path) + text_size(r->path) + text_size(r->method) +
                  text_size(r->content_type) + text_size(r->impersonate_user) +
                  text_size(r->impersonate_group);
    struct apicall *call = call_new(client, size);
    if (!call)
        return -ENOMEM;
    call->client = client;
    call->channel = &client->channels[r->channel];
    if (apitimer_init(&client->timers, &call->timer, on_call_timer) != 0) {
        free(call->in);
        free(call);
        return -ENOMEM;
    }
    fill(call, r, base_path);
    call->on_data = on_data;
    wait_for_stream(call, false);
    apichannel_dispatch(call->channel);
    if (call->state == APICALL_WAITING &&
        call->channel->waiting_count > call->channel->limits.max_waiting) {
        unlist(call);
        call_free(call);
        return -ENOBUFS;
    }
    client->stats.requests++;
    apiretry_budget_earn(&client->budget);
    if (out)
        *out = call;
    return 0;
}

int apiclient_request(struct apiclient *client, const struct apirequest *request,
                      struct apicall **call)
{
    return apicall_start(client, request, NULL, call);
}

void apiclient_cancel(struct apicall *call)
{
    leave_stream(call);
    unlist(call);
    call_free(call);
}

static void cancel_list(struct apicall *list)
{
    struct apicall *call, *next;
    DL_FOREACH_SAFE (list, call, next) {
        abort_call(call, -ECANCELED);
    }
}

void apicall_end_all(struct apiclient *client)
{
    for (unsigned i = 0; i < client->channel_count; i++) {
        struct apichannel *channel = &client->channels[i];
        cancel_list(channel->waiting);
        struct apiconn *conn;
        DL_FOREACH (channel->conns, conn) {
            cancel_list(conn->calls);
        }
    }
    cancel_list(client->sleeping);
    apicall_run_finished(client);
}
