/* The client object, and its turn.
 *
 * Happy path: once a loop iteration, after everything that was to be read has been read (uv_check;
 * uv_prepare for what timers and others did), callbacks of finished requests run, waiting requests
 * go onto connections, and each connection writes what it has gathered in one go. So a burst of
 * requests or of answers costs one system call and not one each. Closing: requests end with
 * -ECANCELED, connections close, and when libuv has let go of the last handle the memory is freed.
 */
#include "apiclient/internal.h"

#include "apiclient/settings.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define DEFAULT_CONNECT_TIMEOUT_MS 10000
#define DEFAULT_PING_IDLE_MS       5000
#define DEFAULT_PING_TIMEOUT_MS    5000
#define DEFAULT_RETRY_MIN_MS       200
#define DEFAULT_RETRY_PERCENT      10
#define DEFAULT_MAX_RESPONSE       ((size_t)64 * 1024 * 1024)
#define REFRESH_MS                 60000

uint64_t apiclient_now(const struct apiclient *client)
{
    return uv_now(client->loop);
}

uint64_t apiclient_random(struct apiclient *client)
{
    return apirandom_next(&client->random);
}

/* ---- the turn ---- */

static void flush_all(struct apiclient *client)
{
    for (unsigned i = 0; i < client->channel_count; i++) {
        struct apiconn *conn, *next;
        DL_FOREACH_SAFE (client->channels[i].conns, conn, next) {
            if (conn->is_dirty)
                apiconn_flush(conn);
        }
    }
}

static void free_graveyard(struct apiclient *client)
{
    while (client->graveyard) {
        struct apiconn *next = client->graveyard->next;
        free(client->graveyard);
        client->graveyard = next;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct apiclient *client = timer->data;
    apitimers_fire(&client->timers, apiclient_now(client));
}

static void turn(struct apiclient *client)
{
    if (client->is_closing || client->is_turning)
        return;
    client->is_turning = true;
    free_graveyard(client);
    do {
        for (unsigned i = 0; i < client->channel_count; i++) {
            if (client->channels[i].waiting)
                apichannel_dispatch(&client->channels[i]);
        }
        flush_all(client);
    } while (apicall_run_finished(client) && !client->is_closing);
    client->is_turning = false;
    if (!client->is_closing)
        apitimers_arm(&client->timers, apiclient_now(client), on_timer);
}

static void on_prepare(uv_prepare_t *prepare)
{
    turn(prepare->data);
}

static void on_check(uv_check_t *check)
{
    turn(check->data);
}

static void on_refresh(struct apitimer *timer, uint64_t now_ms)
{
    struct apiclient *client = API_CONTAINER(timer, struct apiclient, refresh);
    apiconfig_refresh(client->config, REFRESH_MS / 2); /* of several clients one does it */
    apitimer_set(&client->timers, timer, now_ms + REFRESH_MS);
}

/* ---- life ---- */

static void client_free(struct apiclient *client)
{
    free_graveyard(client);
    apicall_free_spares(client);
    apih2_client_fini(client);
    apitimers_fini(&client->timers);
    apiconfig_put(client->config);
    free(client->user_agent);
    apisettings_free_secret(client->bearer);
    free(client);
}

void apiclient_release(struct apiclient *client)
{
    assert(client->pending > 0);
    if (--client->pending > 0 || !client->is_closing)
        return;
    void (*closed)(void *) = client->closed;
    void *context = client->closed_context;
    client_free(client);
    if (closed)
        closed(context);
}

static void on_handle_closed(uv_handle_t *handle)
{
    apiclient_release(handle->data);
}

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value ? value : otherwise;
}

static void set_options(struct apiclient *client, const struct apiclient_options *o)
{
    client->connect_timeout_ms = or_default(o->connect_timeout_ms, DEFAULT_CONNECT_TIMEOUT_MS);
    client->ping_idle_ms = or_default(o->ping_idle_ms, DEFAULT_PING_IDLE_MS);
    client->ping_timeout_ms = or_default(o->ping_timeout_ms, DEFAULT_PING_TIMEOUT_MS);
    client->retry_min_ms = or_default(o->retry_min_ms, DEFAULT_RETRY_MIN_MS);
    client->max_response_bytes =
        o->max_response_bytes ? o->max_response_bytes : DEFAULT_MAX_RESPONSE;
    unsigned percent = o->retry_budget_percent ? o->retry_budget_percent : DEFAULT_RETRY_PERCENT;
    apiretry_budget_init(&client->budget, percent);
}

static int check_options(const struct apiclient_options *o, struct errbuf *e)
{
    if (o->channel_count == 0 || o->channel_count > API_MAX_CHANNELS) {
        errbuf_set(e, "API client: %u channels, it must be 1 to %d", o->channel_count,
                   API_MAX_CHANNELS);
        return -EINVAL;
    }
    for (unsigned i = 0; i < o->channel_count; i++) {
        if (o->channels[i].connections == 0 || o->channels[i].max_streams == 0) {
            errbuf_set(e, "API client: channel %u has no connections or no streams", i);
            return -EINVAL;
        }
    }
    return 0;
}

/* What can fail, before libuv knows of anything but the timer. */
static int client_init(struct apiclient *client, const struct apiclient_options *o)
{
    int rc = uv_random(NULL, NULL, &client->random, sizeof(client->random), 0, NULL);
    if (rc != 0)
        return rc;
    client->user_agent = strdup(o->user_agent ? o->user_agent : "isthmus");
    if (!client->user_agent)
        return -ENOMEM;
    rc = apiconfig_bearer(client->config, &client->bearer, &client->token_generation);
    if (rc == 0)
        rc = apih2_client_init(client);
    if (rc == 0)
        rc = apitimer_init(&client->timers, &client->refresh, on_refresh);
    for (unsigned i = 0; rc == 0 && i < o->channel_count; i++) {
        rc = apichannel_init(&client->channels[i], client, &o->channels[i]);
        if (rc == 0)
            client->channel_count++;
    }
    return rc;
}

static void start_handles(struct apiclient *client)
{
    int rc = uv_prepare_init(client->loop, &client->prepare);
    assert(rc == 0); /* these do not fail */
    rc = uv_check_init(client->loop, &client->check);
    assert(rc == 0);
    client->prepare.data = client->check.data = client;
    client->pending += 2;
    uv_prepare_start(&client->prepare, on_prepare);
    uv_check_start(&client->check, on_check);
    apitimer_set(&client->timers, &client->refresh, apiclient_now(client) + REFRESH_MS);
}

static void stop_handles(struct apiclient *client)
{
    for (unsigned i = 0; i < client->channel_count; i++)
        apichannel_fini(&client->channels[i]);
    if (client->refresh.fire)
        apitimer_fini(&client->timers, &client->refresh);
    uv_close((uv_handle_t *)&client->timers.uv, on_handle_closed);
}

int apiclient_create(uv_loop_t *loop, struct apiconfig *config,
                     const struct apiclient_options *options, struct apiclient **out,
                     struct errbuf *e)
{
    int rc = check_options(options, e);
    if (rc != 0)
        return rc;
    struct apiclient *client = calloc(1, sizeof(*client));
    if (!client || apitimers_init(&client->timers, loop, client) != 0) {
        free(client);
        errbuf_set(e, "API client: out of memory");
        return -ENOMEM;
    }
    client->loop = loop;
    client->config = config;
    apiconfig_get(config);
    client->pending = 1;
    set_options(client, options);
    rc = client_init(client, options);
    if (rc != 0) {
        errbuf_set(e, "API client: %s", strerror(-rc));
        client->is_closing = true; /* the timer's handle takes the memory along, a little later */
        stop_handles(client);
        return rc;
    }
    start_handles(client);
    *out = client;
    return 0;
}

void apiclient_close(struct apiclient *client, void (*closed)(void *context), void *context)
{
    assert(!client->is_closing);
    client->is_closing = true;
    client->closed = closed;
    client->closed_context = context;
    apiwatch_end_all(client);
    apicall_end_all(client);
    stop_handles(client);
    uv_close((uv_handle_t *)&client->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&client->check, on_handle_closed);
}

void apiclient_stats(const struct apiclient *client, struct apiclient_stats *stats)
{
    *stats = client->stats;
    for (unsigned i = 0; i < client->channel_count; i++) {
        const struct apichannel *channel = &client->channels[i];
        const struct apiconn *conn;
        stats->waiting += channel->waiting_count;
        DL_FOREACH (channel->conns, conn) {
            stats->connections += conn->state == APICONN_ACTIVE || conn->state == APICONN_DRAINING;
            stats->streams += conn->streams;
        }
    }
}

const char *apiclient_error_text(int error)
{
    switch (error) {
    case 0:
        return "no error";
    case -ETIMEDOUT:
        return "no answer from the API server before the deadline";
    case -ECONNREFUSED:
        return "the API server refuses connections";
    case -ECONNRESET:
        return "the connection to the API server was lost";
    case -EPROTO:
        return "what answers at the API server's address does not speak HTTP/2 over TLS";
    case -EHOSTUNREACH:
        return "the API server cannot be reached";
    case -ENOBUFS:
        return "too many requests are waiting for the API server";
    case -ECANCELED:
        return "canceled";
    case -EMSGSIZE:
        return "the API server's answer is too large";
    case -EACCES:
        return "the TLS certificates were not accepted";
    case -ENOMEM:
        return "out of memory";
    default:
        return "the request to the API server failed";
    }
}
