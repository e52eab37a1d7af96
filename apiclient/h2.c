/* HTTP/2 on a connection: nghttp2's callbacks, and how a request becomes a stream.
 *
 * Every submitted stream is counted in conn->streams until on_stream_close, which nghttp2 calls
 * exactly once for each, with REFUSED_STREAM when the peer provably did nothing: it refused, or its
 * GOAWAY lies below the stream, or our HEADERS never left. A stream's user data is its request, and
 * NULL once nobody waits for it any more.
 *
 * Header compression: what is the same in every request (authority, user agent, accept, content
 * type, group) goes into the dynamic table; what differs for each node must not, or it would push
 * those out. nghttp2 itself never indexes paths, and never authorization. Loop thread only. */
#include "apiclient/internal.h"

#include "apiclient/settings.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#define STREAM_WINDOW     (1024 * 1024)
#define CONNECTION_WINDOW (8 * 1024 * 1024)
#define MAX_HEADER_LIST   (64 * 1024)
#define MAX_HEADERS       12

/* ---- what comes ---- */

/* A watch's callback may have closed the client, and its connections, under nghttp2's feet. */
static bool is_closed(const struct apiconn *conn)
{
    return conn->state == APICONN_CLOSED;
}

static int go_on(const struct apiconn *conn)
{
    return is_closed(conn) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static struct apicall *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t size, uint8_t flags,
                     void *user_data)
{
    (void)flags;
    if (is_closed(user_data))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct apicall *call = call_of(session, frame->hd.stream_id);
    if (call)
        apicall_header(call, (const char *)name, name_size, (const char *)value, size);
    return go_on(user_data);
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t size, void *user_data)
{
    (void)flags;
    if (is_closed(user_data))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct apicall *call = call_of(session, stream_id);
    if (call)
        apicall_data(call, (const char *)data, size);
    return go_on(user_data);
}

/* What nghttp2 does not like about the peer, in its words. */
static int on_error(nghttp2_session *session, int code, const char *text, size_t size,
                    void *user_data)
{
    (void)session, (void)code;
    struct apiconn *conn = user_data;
    errbuf_set(&conn->why, "HTTP/2: %.*s", (int)size, text);
    return 0;
}

static void on_settings(struct apiconn *conn)
{
    uint32_t theirs =
        nghttp2_session_get_remote_settings(conn->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    unsigned ours = conn->channel->limits.max_streams;
    conn->stream_limit = theirs < ours ? theirs : ours;
    if (conn->state != APICONN_SETTLING)
        return;
    conn->state = APICONN_ACTIVE;
    conn->client->stats.connects++;
    apitimer_set(&conn->client->timers, &conn->timer,
                 apiclient_now(conn->client) + conn->client->ping_idle_ms);
    log_info("api_connected", F_STR("server", apiconfig_server(conn->client->config)),
             F_U64("streams", conn->stream_limit));
}

static void on_goaway(struct apiconn *conn, const nghttp2_goaway *goaway)
{
    conn->client->stats.goaways++;
    log_debug("api_goaway", F_STR("server", apiconfig_server(conn->client->config)),
              F_U64("last_stream", goaway->last_stream_id), F_U64("code", goaway->error_code));
    apiconn_drain(conn, "goaway");
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    (void)session;
    struct apiconn *conn = user_data;
    if (is_closed(conn))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            on_settings(conn);
        break;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            conn->ping_sent_ms = 0;
        break;
    case NGHTTP2_GOAWAY:
        on_goaway(conn, &frame->goaway);
        break;
    case NGHTTP2_RST_STREAM:
        conn->client->stats.resets++;
        break;
    default:
        break;
    }
    return go_on(conn);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    (void)user_data;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct apicall *call = call_of(session, frame->hd.stream_id);
    if (call)
        call->sent = true;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *user_data)
{
    struct apiconn *conn = user_data;
    if (is_closed(conn))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    assert(conn->streams > 0);
    conn->streams--;
    conn->is_dirty = true; /* a draining connection may be done */
    struct apicall *call = call_of(session, stream_id);
    if (!call)
        return go_on(conn);

    if (error_code == NGHTTP2_NO_ERROR && call->status != 0) {
        conn->has_answered = true;
        conn->channel->connect_failures = 0;
        apicall_answered(call);
    } else if (error_code == NGHTTP2_REFUSED_STREAM && call->status == 0) {
        if (conn->state == APICONN_DRAINING)
            apicall_unprocessed(call);
        else
            apicall_refused(call);
    } else {
        apicall_lost(call, -ECONNRESET);
    }
    return go_on(conn);
}

/* ---- what goes ---- */

static ssize_t on_read_body(nghttp2_session *session, int32_t stream_id, uint8_t *to, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
    (void)source, (void)user_data;
    struct apicall *call = call_of(session, stream_id);
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* abandoned: the stream is being reset */
    size_t left = call->body_size - call->body_sent;
    size_t part = left < room ? left : room;
    memcpy(to, call->body + call->body_sent, part);
    call->body_sent += part;
    if (call->body_sent == call->body_size)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)part;
}

/* nghttp2 copies names and values into one block of its own. */
static void add(nghttp2_nv *nv, size_t *count, const char *name, size_t name_size,
                const char *value, size_t size, uint8_t flags)
{
    assert(*count < MAX_HEADERS);
    nv[(*count)++] = (nghttp2_nv){.name = (uint8_t *)name,
                                  .namelen = name_size,
                                  .value = (uint8_t *)value,
                                  .valuelen = size,
                                  .flags = (uint8_t)(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME)};
}

#define ADD(name, value, flags)                                                                    \
    do {                                                                                           \
        const char *value_ = (value);                                                              \
        if (value_)                                                                                \
            add(nv, &count, (name), sizeof(name) - 1, value_, strlen(value_), (flags));            \
    } while (0)

static size_t make_headers(const struct apicall *call, nghttp2_nv *nv, char *length,
                           size_t length_size)
{
    const struct apiclient *client = call->client;
    size_t count = 0;
    ADD(":method", call->method, 0);
    ADD(":scheme", "https", NGHTTP2_NV_FLAG_NO_COPY_VALUE);
    ADD(":authority", apiconfig_authority(client->config), NGHTTP2_NV_FLAG_NO_COPY_VALUE);
    add(nv, &count, ":path", 5, call->path, call->path_size, 0);
    ADD("user-agent", client->user_agent, NGHTTP2_NV_FLAG_NO_COPY_VALUE);
    ADD("accept", "application/json", NGHTTP2_NV_FLAG_NO_COPY_VALUE);
    ADD("content-type", call->content_type, 0);
    ADD("impersonate-group", call->impersonate_group, 0);
    ADD("impersonate-user", call->impersonate_user, NGHTTP2_NV_FLAG_NO_INDEX);
    ADD("authorization", client->bearer, 0);
    if (call->body_size > 0) {
        int size = snprintf(length, length_size, "%zu", call->body_size);
        add(nv, &count, "content-length", 14, length, (size_t)size, 0);
    }
    return count;
}

/* A token that has been read anew since. Without memory the old one goes on being used. */
static void refresh_bearer(struct apiclient *client)
{
    char *bearer;
    uint64_t generation;
    if (apiconfig_token_generation(client->config) == client->token_generation ||
        apiconfig_bearer(client->config, &bearer, &generation) != 0)
        return;
    apisettings_free_secret(client->bearer);
    client->bearer = bearer;
    client->token_generation = generation;
    client->stats.token_reloads++;
}

int apih2_submit(struct apiconn *conn, struct apicall *call)
{
    refresh_bearer(conn->client);
    nghttp2_nv nv[MAX_HEADERS];
    char length[24];
    size_t count = make_headers(call, nv, length, sizeof(length));
    nghttp2_data_provider body = {.read_callback = on_read_body};

    int32_t id = nghttp2_submit_request(conn->session, NULL, nv, count,
                                        call->body_size > 0 ? &body : NULL, call);
    if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
        return -EAGAIN;
    if (id < 0)
        return -ENOMEM;
    conn->streams++;
    conn->is_dirty = true;
    apicall_put_on(call, conn, id);
    return 0;
}

void apih2_abandon(struct apiconn *conn, const struct apicall *call)
{
    /* Fails only when the stream has just closed. */
    (void)nghttp2_session_set_stream_user_data(conn->session, call->stream_id, NULL);
    int rc = nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                       NGHTTP2_CANCEL);
    conn->is_dirty = true;
    if (rc != 0)
        apiconn_drain(conn, "out_of_memory"); /* the stream goes on until the server ends it */
}

/* ---- sessions ---- */

int apih2_start(struct apiconn *conn)
{
    int rc = nghttp2_session_client_new2(&conn->session, conn->client->callbacks, conn,
                                         conn->client->option);
    if (rc != 0)
        return -ENOMEM;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST},
    };
    rc = nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
                                 sizeof(settings) / sizeof(settings[0]));
    if (rc == 0)
        rc = nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
                                                   CONNECTION_WINDOW);
    return rc == 0 ? 0 : -ENOMEM;
}

int apih2_client_init(struct apiclient *client)
{
    if (nghttp2_session_callbacks_new(&client->callbacks) != 0 ||
        nghttp2_option_new(&client->option) != 0)
        return -ENOMEM;
    nghttp2_session_callbacks *c = client->callbacks;
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
    nghttp2_session_callbacks_set_error_callback2(c, on_error);
    /* Until the server says otherwise; it is asked to before the first request goes. */
    nghttp2_option_set_peer_max_concurrent_streams(client->option, 100);
    return 0;
}

void apih2_client_fini(struct apiclient *client)
{
    nghttp2_session_callbacks_del(client->callbacks);
    nghttp2_option_del(client->option);
}
