/* Channels: which waiting request goes on which connection, and when another connection is opened.
 *
 * Happy path: the request goes on the connection with the fewest streams. When all are full,
 * another one is opened, one at a time, up to the channel's limit; meanwhile requests wait in order
 * of arrival, those that a GOAWAY sent back in front. Failure modes: after a failed connect the
 * next one waits, jittered and doubling; requests that may not be repeated in any way are told at
 * once, the others wait until their deadline. A certificate or a protocol that does not fit will
 * not heal by waiting, so everybody is told. Loop thread only. */
#include "apiclient/internal.h"

#include <assert.h>
#include <errno.h>
#include <utlist.h>

#define DEFAULT_MAX_WAITING    1024
#define CONNECT_BACKOFF_MIN_MS 100
#define CONNECT_BACKOFF_MAX_MS 5000

static void on_connect_timer(struct apitimer *timer, uint64_t now_ms)
{
    (void)now_ms;
    apichannel_dispatch(API_CONTAINER(timer, struct apichannel, timer));
}

int apichannel_init(struct apichannel *channel, struct apiclient *client,
                    const struct apiclient_channel *limits)
{
    *channel = (struct apichannel){.client = client, .limits = *limits};
    if (channel->limits.max_waiting == 0)
        channel->limits.max_waiting = DEFAULT_MAX_WAITING;
    return apitimer_init(&client->timers, &channel->timer, on_connect_timer);
}

void apichannel_fini(struct apichannel *channel)
{
    assert(!channel->waiting);
    struct apiconn *conn, *next;
    DL_FOREACH_SAFE (channel->conns, conn, next) {
        apiconn_close(conn, -ECANCELED, "client_closed");
    }
    apitimer_fini(&channel->client->timers, &channel->timer);
}

static bool is_opening(const struct apiconn *conn)
{
    return conn->state < APICONN_ACTIVE;
}

/* New TLS material: what was opened with the old finishes what it has and goes. */
static void retire_outdated(struct apichannel *channel)
{
    uint64_t generation = apiconfig_tls_generation(channel->client->config);
    struct apiconn *conn, *next;
    DL_FOREACH_SAFE (channel->conns, conn, next) {
        if (conn->state == APICONN_ACTIVE && conn->tls_generation != generation)
            apiconn_drain(conn, "credentials_changed");
    }
}

static struct apiconn *choose(struct apichannel *channel)
{
    struct apiconn *conn, *best = NULL;
    DL_FOREACH (channel->conns, conn) {
        if (apiconn_has_room(conn) && (!best || conn->streams < best->streams))
            best = conn;
    }
    return best;
}

/* 0 when the request has left the waiting list, -EAGAIN when another connection must be tried. */
static int place(struct apichannel *channel, struct apiconn *conn)
{
    struct apicall *call = channel->waiting;
    int rc = apih2_submit(conn, call);
    if (rc == -EAGAIN) {
        apiconn_drain(conn, "no_more_streams");
        return rc;
    }
    if (rc != 0)
        apicall_finish(call, rc);
    return 0;
}

static void open_another(struct apichannel *channel)
{
    struct apiclient *client = channel->client;
    struct apiconn *conn;
    unsigned usable = 0;
    DL_FOREACH (channel->conns, conn) {
        if (is_opening(conn))
            return; /* it will do, or tell us that it will not */
        usable += conn->state == APICONN_ACTIVE;
    }
    if (usable >= channel->limits.connections)
        return;
    if (apiclient_now(client) < channel->connect_after_ms) {
        apitimer_set(&client->timers, &channel->timer, channel->connect_after_ms);
        return;
    }
    int rc = apiconn_open(channel);
    if (rc != 0)
        apichannel_connect_failed(channel, rc);
}

void apichannel_dispatch(struct apichannel *channel)
{
    retire_outdated(channel);
    while (channel->waiting) {
        struct apiconn *conn = choose(channel);
        if (!conn)
            break;
        (void)place(channel, conn); /* -EAGAIN: that one is out of the choice now */
    }
    if (channel->waiting)
        open_another(channel);
}

static bool has_active(const struct apichannel *channel)
{
    const struct apiconn *conn;
    DL_FOREACH (channel->conns, conn) {
        if (conn->state == APICONN_ACTIVE)
            return true;
    }
    return false;
}

static bool waits_on(const struct apicall *call, int error, uint64_t now_ms)
{
    if (error == -EACCES || error == -EPROTO || call->retry == API_RETRY_NEVER)
        return false;
    return now_ms < call->retry_until_ms;
}

void apichannel_connect_failed(struct apichannel *channel, int error)
{
    struct apiclient *client = channel->client;
    uint64_t now_ms = apiclient_now(client);
    channel->connect_after_ms =
        now_ms + apibackoff_delay_ms(channel->connect_failures++, CONNECT_BACKOFF_MIN_MS,
                                     CONNECT_BACKOFF_MAX_MS, apiclient_random(client));
    if (has_active(channel))
        return;
    struct apicall *call, *next;
    DL_FOREACH_SAFE (channel->waiting, call, next) {
        if (!waits_on(call, error, now_ms))
            apicall_finish(call, error);
    }
}
