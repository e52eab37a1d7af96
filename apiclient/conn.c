/* One connection to the API server: addresses, TCP, TLS, bytes in and out, and whether the other
 * side still lives.
 *
 * Happy path: RESOLVING (skipped for a literal address) > CONNECTING (each address in turn) >
 * HANDSHAKING > SETTLING > ACTIVE > DRAINING > CLOSED. Reading takes all there is, because OpenSSL
 * may hold what poll cannot see. Writing gathers frames of many streams into one TLS record.
 * Failure modes: whatever breaks ends in apiconn_close(), the only way out, with an error for the
 * requests and a reason for the log. A peer that sends nothing while it owes us something is asked
 * by PING and given up after ping_timeout_ms; the kernel does the same for what is not acknowledged
 * (TCP_USER_TIMEOUT). Threading: loop thread only. The memory lives until libuv has let go of it
 * and the next turn has begun, so that closing is allowed anywhere. */
#include "apiclient/internal.h"

#include "apiclient/tls.h"
#include "isthmus/log.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#define IDLE_PINGS_APART 6 /* without requests, a PING only after so many times ping_idle_ms */

static bool is_opening(const struct apiconn *conn)
{
    return conn->state < APICONN_ACTIVE;
}

static bool speaks_h2(const struct apiconn *conn)
{
    return conn->state >= APICONN_SETTLING && conn->state < APICONN_CLOSED;
}

/* ---- the end ---- */

static void bury(struct apiconn *conn)
{
    struct apiclient *client = conn->client;
    SSL_free(conn->ssl);
    conn->ssl = NULL;
    nghttp2_session_del(conn->session);
    conn->session = NULL;
    conn->next = client->graveyard;
    client->graveyard = conn;
    apiclient_release(client);
}

static void on_poll_closed(uv_handle_t *handle);

static void close_socket(struct apiconn *conn)
{
    if (conn->fd < 0)
        return;
    uv_close((uv_handle_t *)&conn->poll, on_poll_closed);
    close(conn->fd);
    conn->fd = -1;
}

static void log_close(const struct apiconn *conn, int error, const char *reason)
{
    const char *server = apiconfig_server(conn->client->config);
    if (error == 0 || error == -ECANCELED)
        log_debug("api_connection_closed", F_STR("server", server), F_STR("reason", reason));
    else
        log_limited(LOG_LEVEL_WARN, is_opening(conn) ? "api_connect_failed" : "api_connection_lost",
                    F_STR("server", server), F_STR("reason", reason),
                    F_STR("error", conn->why.text[0] ? conn->why.text : strerror(-error)),
                    F_U64("streams", conn->streams));
}

void apiconn_close(struct apiconn *conn, int error, const char *reason)
{
    if (conn->state == APICONN_CLOSED)
        return;
    struct apiclient *client = conn->client;
    struct apichannel *channel = conn->channel;
    log_close(conn, error, reason);
    bool was_of_no_use = is_opening(conn) || (error != 0 && !conn->has_answered);
    bool was_resolving = conn->state == APICONN_RESOLVING;
    client->stats.connect_failures += is_opening(conn) && error != -ECANCELED;
    bool was_established = speaks_h2(conn);
    conn->state = APICONN_CLOSED;
    DL_DELETE(channel->conns, conn);
    apitimer_fini(&client->timers, &conn->timer);

    struct apicall *call, *next;
    DL_FOREACH_SAFE (conn->calls, call, next) {
        apicall_lost(call, error ? error : -ECONNRESET);
    }
    if (was_established && error == 0) {
        ERR_clear_error();
        SSL_shutdown(conn->ssl); /* tells the peer, if the socket takes it */
    }
    close_socket(conn);
    if (was_resolving)
        uv_cancel((uv_req_t *)&conn->resolve);
    if (was_of_no_use && !client->is_closing)
        apichannel_connect_failed(channel, error);
    if (conn->handles == 0)
        bury(conn);
}

void apiconn_drain(struct apiconn *conn, const char *reason)
{
    if (conn->state != APICONN_ACTIVE)
        return;
    log_debug("api_connection_draining", F_STR("server", apiconfig_server(conn->client->config)),
              F_STR("reason", reason), F_U64("streams", conn->streams));
    conn->state = APICONN_DRAINING;
    conn->is_dirty = true; /* the flush closes it once it has no streams */
}

/* What a failure to connect is for requests: few kinds, by what one can do about them. */
static int connect_error(int error)
{
    switch (error) {
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -EACCES:
    case -EPROTO:
    case -ENOMEM:
        return error;
    default:
        return -EHOSTUNREACH;
    }
}

static void close_broken(struct apiconn *conn, int error)
{
    apiconn_close(conn, is_opening(conn) ? connect_error(error) : -ECONNRESET, "io_error");
}

/* ---- bytes ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

static void set_events(struct apiconn *conn, int events)
{
    if (conn->events == events)
        return;
    conn->events = events;
    int rc = uv_poll_start(&conn->poll, events, on_poll);
    assert(rc == 0); /* fails for closing handles only */
}

/* Moves what nghttp2 has to say into `out`. 0 or negative. */
static int gather(struct apiconn *conn)
{
    while (conn->out_size < sizeof(conn->out)) {
        if (conn->chunk_size == 0) {
            ssize_t size = nghttp2_session_mem_send(conn->session, &conn->chunk);
            if (size < 0)
                return size == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
            if (size == 0)
                return 0;
            conn->chunk_size = (size_t)size;
        }
        size_t room = sizeof(conn->out) - conn->out_size;
        size_t part = conn->chunk_size < room ? conn->chunk_size : room;
        memcpy(conn->out + conn->out_size, conn->chunk, part);
        conn->out_size += part;
        conn->chunk += part;
        conn->chunk_size -= part;
    }
    return 0;
}

/* 1: written, 0: the socket is full, negative: broken. */
static int write_out(struct apiconn *conn)
{
    while (conn->out_at < conn->out_size) {
        ERR_clear_error();
        errno = 0;
        int size =
            SSL_write(conn->ssl, conn->out + conn->out_at, (int)(conn->out_size - conn->out_at));
        if (size > 0) {
            conn->out_at += (size_t)size;
            conn->client->stats.bytes_out += (uint64_t)size;
            continue;
        }
        int error = SSL_get_error(conn->ssl, size);
        if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) {
            conn->is_blocked = true;
            set_events(conn,
                       error == SSL_ERROR_WANT_WRITE ? UV_READABLE | UV_WRITABLE : UV_READABLE);
            return 0;
        }
        return apitls_error(conn->ssl, error, errno, &conn->why);
    }
    conn->out_at = conn->out_size = 0;
    return 1;
}

void apiconn_flush(struct apiconn *conn)
{
    if (!speaks_h2(conn) || conn->is_blocked)
        return;
    conn->is_dirty = false;
    for (;;) {
        int rc = gather(conn);
        if (rc == 0 && conn->out_size == 0)
            break;
        if (rc == 0)
            rc = write_out(conn);
        if (rc == 0)
            return;
        if (rc < 0) {
            close_broken(conn, rc);
            return;
        }
    }
    set_events(conn, UV_READABLE);
    if (conn->state == APICONN_DRAINING && conn->streams == 0)
        apiconn_close(conn, 0, "drained");
    else if (!nghttp2_session_want_read(conn->session) &&
             !nghttp2_session_want_write(conn->session))
        close_broken(conn, -EPROTO); /* nghttp2 has ended it, and told on_error() why */
}

/* Hands over what has been read. False: the connection is closed now. */
static bool take_in(struct apiconn *conn, const uint8_t *data, size_t size)
{
    conn->client->stats.bytes_in += size;
    conn->last_in_ms = apiclient_now(conn->client);
    conn->is_dirty = true; /* acknowledgements, window updates */
    ssize_t rc = nghttp2_session_mem_recv(conn->session, data, size);
    if (conn->state == APICONN_CLOSED)
        return false;
    if (rc >= 0)
        return true;
    errbuf_set(&conn->why, "HTTP/2: %s", nghttp2_strerror((int)rc));
    close_broken(conn, rc == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO);
    return false;
}

/* Reads until nothing is left, in OpenSSL's buffer too. What comes without end is bounded by the
 * windows: they are widened by the flush only, after this. */
static void read_all(struct apiconn *conn)
{
    uint8_t *in = conn->client->in;
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int size = SSL_read(conn->ssl, in, sizeof(conn->client->in));
        if (size <= 0) {
            int error = SSL_get_error(conn->ssl, size);
            if (error == SSL_ERROR_WANT_READ)
                return;
            if (error == SSL_ERROR_WANT_WRITE) {
                conn->is_blocked = true;
                set_events(conn, UV_READABLE | UV_WRITABLE);
                return;
            }
            int rc = apitls_error(conn->ssl, error, errno, &conn->why);
            close_broken(conn, rc);
            return;
        }
        if (!take_in(conn, in, (size_t)size))
            return;
        if (!SSL_has_pending(conn->ssl))
            return; /* saves the read that says EAGAIN; poll tells when there is more */
    }
}

/* ---- is there anybody? ---- */

/* Input that has come meanwhile counts, even if this process slept through it. */
static bool is_dead(struct apiconn *conn, uint64_t now_ms)
{
    if (now_ms - conn->ping_sent_ms < conn->client->ping_timeout_ms)
        return false;
    uint64_t bytes_before = conn->client->stats.bytes_in;
    read_all(conn);
    return conn->state != APICONN_CLOSED && conn->client->stats.bytes_in == bytes_before;
}

static void ping(struct apiconn *conn, uint64_t now_ms)
{
    if (nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL) != 0)
        return; /* out of memory: the next check tries again */
    conn->ping_sent_ms = now_ms;
    conn->is_dirty = true;
}

static void check_alive(struct apiconn *conn, uint64_t now_ms)
{
    struct apiclient *client = conn->client;
    if (conn->ping_sent_ms != 0 && conn->last_in_ms > conn->ping_sent_ms)
        conn->ping_sent_ms = 0;
    if (conn->ping_sent_ms != 0 && is_dead(conn, now_ms)) {
        client->stats.dead_peers++;
        errbuf_set(&conn->why, "no answer to a PING within %llu ms",
                   (unsigned long long)client->ping_timeout_ms);
        apiconn_close(conn, -ECONNRESET, "dead_peer");
        return;
    }
    if (conn->state == APICONN_CLOSED)
        return;
    uint64_t patience_ms = client->ping_idle_ms * (conn->streams > 0 ? 1 : IDLE_PINGS_APART);
    if (conn->ping_sent_ms == 0 && now_ms - conn->last_in_ms >= patience_ms)
        ping(conn, now_ms);
    uint64_t next_ms = conn->ping_sent_ms != 0 ? conn->ping_sent_ms + client->ping_timeout_ms
                                               : now_ms + client->ping_idle_ms / 2 + 1;
    apitimer_set(&client->timers, &conn->timer, next_ms);
}

static void on_conn_timer(struct apitimer *timer, uint64_t now_ms)
{
    struct apiconn *conn = API_CONTAINER(timer, struct apiconn, timer);
    if (!is_opening(conn)) {
        check_alive(conn, now_ms);
        return;
    }
    uint64_t until_ms = conn->started_ms + conn->client->connect_timeout_ms;
    if (now_ms >= until_ms) {
        errbuf_set(&conn->why, "no connection within %llu ms",
                   (unsigned long long)conn->client->connect_timeout_ms);
        apiconn_close(conn, -EHOSTUNREACH, "connect_timeout");
    } else {
        apitimer_set(&conn->client->timers, timer, until_ms);
    }
}

/* ---- the beginning ---- */

static bool alpn_is_h2(const struct apiconn *conn)
{
    const unsigned char *name;
    unsigned size;
    SSL_get0_alpn_selected(conn->ssl, &name, &size);
    return size == 2 && memcmp(name, "h2", 2) == 0;
}

static void on_handshaken(struct apiconn *conn)
{
    if (!alpn_is_h2(conn)) {
        errbuf_set(&conn->why,
                   "the server, or a proxy in front of it, speaks only HTTP/1.1; HTTP/2 is needed");
        apiconn_close(conn, -EPROTO, "not_http2");
        return;
    }
    int rc = apih2_start(conn);
    if (rc != 0) {
        apiconn_close(conn, rc, "http2_start");
        return;
    }
    conn->state = APICONN_SETTLING;
    conn->is_dirty = true;
    set_events(conn, UV_READABLE);
    read_all(conn); /* OpenSSL may have read on behind the handshake */
}

static void shake_hands(struct apiconn *conn)
{
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(conn->ssl);
    if (rc == 1) {
        on_handshaken(conn);
        return;
    }
    int error = SSL_get_error(conn->ssl, rc);
    if (error == SSL_ERROR_WANT_READ)
        set_events(conn, UV_READABLE);
    else if (error == SSL_ERROR_WANT_WRITE)
        set_events(conn, UV_WRITABLE);
    else
        apiconn_close(conn, connect_error(apitls_error(conn->ssl, error, errno, &conn->why)),
                      "tls_handshake");
}

static void on_connected(struct apiconn *conn)
{
    conn->ssl = apiconfig_ssl(conn->client->config, &conn->tls_generation);
    if (!conn->ssl || apitls_set_socket(conn->ssl, conn->fd) != 0) {
        apiconn_close(conn, -ENOMEM, "tls_start");
        return;
    }
    conn->state = APICONN_HANDSHAKING;
    shake_hands(conn);
}

/* What became of a connect(); also any error that poll reports. */
static int socket_error(const struct apiconn *conn)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return -errno;
    return -error;
}

static int open_socket(struct apiconn *conn, const struct sockaddr_storage *address)
{
    const struct apiclient *client = conn->client;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    unsigned patience_ms = (unsigned)(client->ping_idle_ms + client->ping_timeout_ms);
    socklen_t size =
        address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof(patience_ms)) != 0 ||
        (connect(fd, (const struct sockaddr *)address, size) != 0 && errno != EINPROGRESS)) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    int rc = uv_poll_init(client->loop, &conn->poll, fd);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    conn->poll.data = conn;
    conn->fd = fd;
    conn->handles++;
    conn->events = 0;
    set_events(conn, UV_WRITABLE);
    return 0;
}

/* Tries the addresses from the next one on; the last failure counts. */
static void connect_next(struct apiconn *conn)
{
    while (conn->address_at < conn->address_count) {
        int rc = open_socket(conn, &conn->addresses[conn->address_at++]);
        if (rc == 0)
            return;
        conn->last_error = rc;
    }
    apiconn_close(conn, connect_error(conn->last_error), "connect");
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct apiconn *conn = handle->data;
    conn->handles--;
    if (conn->state != APICONN_CLOSED)
        connect_next(conn); /* this address has failed */
    else if (conn->handles == 0)
        bury(conn);
}

static void on_connect_event(struct apiconn *conn)
{
    int rc = socket_error(conn);
    if (rc == 0) {
        on_connected(conn);
        return;
    }
    conn->last_error = rc;
    close_socket(conn); /* goes on in on_poll_closed() */
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct apiconn *conn = poll->data;
    if (conn->state == APICONN_CONNECTING) {
        on_connect_event(conn);
        return;
    }
    if (conn->state == APICONN_HANDSHAKING) {
        shake_hands(conn);
    } else {
        if (conn->is_blocked) {
            conn->is_blocked = false;
            conn->is_dirty = true;
        }
        /* An error of the socket shows in reading, behind what came before it. */
        if (status < 0 || (events & UV_READABLE))
            read_all(conn);
    }
    if (status < 0 && conn->state != APICONN_CLOSED) /* libuv has stopped polling */
        close_broken(conn, -ECONNRESET);
}

static void add_address(struct apiconn *conn, const void *address, size_t size)
{
    if (conn->address_count < APICONN_MAX_ADDRESSES)
        memcpy(&conn->addresses[conn->address_count++], address, size);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct apiconn *conn = request->data;
    conn->handles--;
    if (conn->state == APICONN_CLOSED) {
        uv_freeaddrinfo(found);
        if (conn->handles == 0)
            bury(conn);
        return;
    }
    for (const struct addrinfo *a = found; a; a = a->ai_next) {
        if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
            add_address(conn, a->ai_addr, a->ai_addrlen);
    }
    uv_freeaddrinfo(found);
    conn->state = APICONN_CONNECTING;
    conn->last_error = -EHOSTUNREACH;
    if (status != 0)
        errbuf_set(&conn->why, "%s: %s", apiconfig_host(conn->client->config), uv_strerror(status));
    connect_next(conn);
}

/* A literal needs no resolver, which is a thread of libuv's pool. */
static bool add_literal(struct apiconn *conn, const char *host, const char *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    v4.sin_port = v6.sin6_port = htons((uint16_t)atoi(port));
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        add_address(conn, &v4, sizeof(v4));
    else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1)
        add_address(conn, &v6, sizeof(v6));
    return conn->address_count > 0;
}

static void start_connecting(struct apiconn *conn)
{
    const char *host = apiconfig_host(conn->client->config);
    const char *port = apiconfig_port(conn->client->config);
    if (add_literal(conn, host, port)) {
        conn->state = APICONN_CONNECTING;
        connect_next(conn);
        return;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    conn->resolve.data = conn;
    int rc = uv_getaddrinfo(conn->client->loop, &conn->resolve, on_resolved, host, port, &hints);
    if (rc == 0) {
        conn->handles++;
        return;
    }
    conn->state = APICONN_CONNECTING;
    errbuf_set(&conn->why, "%s: %s", host, uv_strerror(rc));
    apiconn_close(conn, connect_error(rc), "resolve");
}

int apiconn_open(struct apichannel *channel)
{
    struct apiclient *client = channel->client;
    struct apiconn *conn = calloc(1, sizeof(*conn));
    if (!conn)
        return -ENOMEM;
    if (apitimer_init(&client->timers, &conn->timer, on_conn_timer) != 0) {
        free(conn);
        return -ENOMEM;
    }
    conn->client = client;
    conn->channel = channel;
    conn->fd = -1;
    conn->state = APICONN_RESOLVING;
    conn->started_ms = conn->last_in_ms = apiclient_now(client);
    DL_APPEND(channel->conns, conn);
    client->pending++;
    apitimer_set(&client->timers, &conn->timer, conn->started_ms + client->connect_timeout_ms);
    start_connecting(conn);
    return 0;
}

bool apiconn_has_room(const struct apiconn *conn)
{
    return conn->state == APICONN_ACTIVE && conn->streams < conn->stream_limit &&
           nghttp2_session_check_request_allowed(conn->session);
}
