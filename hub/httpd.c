/* See httpd.h. Besides ws_lws.c the only file that knows libwebsockets, and for the same reasons we
 * accept ourselves and adopt.
 *
 * Happy path: accept, adopt, HTTP (the request's head), HTTP_BODY for each piece of a body, the
 * handler, the head of the answer, then a piece of its body for each WRITEABLE, and the connection
 * waits for its next request. While an answer is waited for, the connection is not read:
 * libwebsockets would report what it does not expect again and again.
 *
 * Failure modes: too many connections, and a request that is too slow or too large, end the
 * connection; so does everything that is no plain request (upgrades, CONNECT). Deadlines are ours:
 * a timer walks the few connections there are, and shuts the late ones' sockets down, which
 * libwebsockets notices by itself. */
#include "hub/httpd.h"

#include "hub/bucket.h"
#include "hub/socket.h"
#include "hub/tls.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <libwebsockets.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define HEADER_BYTES     4096
#define PATH_BYTES       256
#define QUERY_BYTES      512
#define PIECE_BYTES      16384
#define TICK_MS          500
#define ACCEPTS_PER_TURN 16
#define LWS_TIMEOUT_S    600 /* ours are below */

enum phase {
    PHASE_RECEIVING, /* or waiting for a request */
    PHASE_DEFERRED,  /* the handler answers later */
    PHASE_ANSWERING
};

struct httpd_exchange {
    struct httpd_exchange *prev, *next;
    struct httpd *httpd;
    struct lws *wsi;
    struct sockaddr_in6 peer;
    uint64_t deadline_ms;
    enum phase phase;
    bool is_shut;                /* it only has to notice */
    void (*gone)(void *context); /* while deferred */
    void *gone_context;
    char path[PATH_BYTES], query[QUERY_BYTES];
    enum httpd_method method;
    char *body; /* max_body_bytes and a NUL, while one is received */
    size_t body_size;
    bool is_too_large; /* answered before the body is there, which is passed over */
    bool is_body_over;
    bool is_last; /* without a length libwebsockets would wait for the body of a PUT or POST for
                     ever */
    struct httpd_response response;
    bool is_head_sent;
    size_t sent;
};

struct httpd {
    uv_loop_t *loop;
    struct httpd_options options;
    int fd;
    uint16_t port;
    bool has_handles;
    uv_poll_t listener;
    uv_timer_t ticker;
    struct lws_context *context;
    struct lws_vhost *vhost;
    SSL_CTX *tls;
    struct httpd_exchange *connections;
    unsigned count;
    bool was_created; /* libwebsockets took the one that is being adopted */
    struct bucket accepts;
    bool is_listening; /* not while there is no token for another connection */
};

/* ---- answers ---- */

void httpd_answer_text(struct httpd_response *response, unsigned status, const char *text)
{
    response->status = status;
    response->content_type = "text/plain; charset=utf-8";
    response->body = strdup(text);
    response->size = response->body ? strlen(text) : 0;
    if (!response->body)
        response->status = 500;
}

static void drop_exchange(struct httpd_exchange *c)
{
    if (!c->response.is_constant)
        free(c->response.body);
    c->response = (struct httpd_response){0};
    c->is_head_sent = false;
    c->sent = 0;
    free(c->body);
    c->body = NULL;
    c->body_size = 0;
    c->is_too_large = false;
    c->is_body_over = false;
}

static void restart_deadline(struct httpd_exchange *c)
{
    c->deadline_ms = uv_now(c->httpd->loop) + c->httpd->options.timeout_ms;
}

static int add_header(struct lws *wsi, const char *name, const char *value, unsigned char **at,
                      unsigned char *end)
{
    return lws_add_http_header_by_name(wsi, (const unsigned char *)name,
                                       (const unsigned char *)value, (int)strlen(value), at, end);
}

static int send_head(struct httpd_exchange *c)
{
    unsigned char buffer[LWS_PRE + 2048];
    unsigned char *start = buffer + LWS_PRE, *at = start, *end = buffer + sizeof(buffer) - 1;
    const struct httpd_response *r = &c->response;
    const char *policy = r->content_security_policy;
    if (lws_add_http_common_headers(c->wsi, r->status, r->content_type, r->size, &at, end) != 0 ||
        add_header(c->wsi, "cache-control:", "no-store", &at, end) != 0 ||
        add_header(c->wsi, "x-content-type-options:", "nosniff", &at, end) != 0)
        return -1;
    if (policy && add_header(c->wsi, "content-security-policy:", policy, &at, end) != 0)
        return -1;
    return lws_finalize_write_http_header(c->wsi, start, &at, end);
}

static int finish(struct httpd_exchange *c)
{
    drop_exchange(c);
    if (c->is_last)
        return -1;
    c->phase = PHASE_RECEIVING;
    restart_deadline(c);
    return lws_http_transaction_completed(c->wsi) ? -1 : 0;
}

static int begin_answer(struct httpd_exchange *c)
{
    restart_deadline(c);
    c->phase = PHASE_ANSWERING;
    if (send_head(c) != 0)
        return -1;
    c->is_head_sent = true;
    if (c->method == HTTPD_HEAD || c->response.size == 0)
        return finish(c);
    lws_callback_on_writable(c->wsi);
    return 0;
}

/* One piece for each time the socket takes more. */
static int send_more(struct httpd_exchange *c)
{
    unsigned char buffer[LWS_PRE + PIECE_BYTES];
    if (c->phase == PHASE_ANSWERING && !c->is_head_sent)
        return begin_answer(c);
    size_t left = c->response.size - c->sent;
    size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
    if (left == 0)
        return 0;
    memcpy(buffer + LWS_PRE, c->response.body + c->sent, n);
    enum lws_write_protocol form = n == left ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP;
    if (lws_write(c->wsi, buffer + LWS_PRE, n, form) < (int)n)
        return -1;
    restart_deadline(c);
    c->sent += n;
    if (c->sent == c->response.size)
        return finish(c);
    lws_callback_on_writable(c->wsi);
    return 0;
}

/* ---- requests ---- */

/* libwebsockets keeps the headers it knows apart from all others. */
static int copy_header(struct lws *wsi, const char *name, char *text, size_t room)
{
    if (strcmp(name, "authorization:") == 0)
        return lws_hdr_copy_fragment(wsi, text, (int)room, WSI_TOKEN_HTTP_AUTHORIZATION, 0);
    return lws_hdr_custom_copy(wsi, text, (int)room, name, (int)strlen(name));
}

const char *httpd_header(const struct httpd_request *request, const char *name, char *text,
                         size_t room)
{
    int size = copy_header(request->exchange->wsi, name, text, room);
    if (size <= 0)
        return NULL;
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t'))
        text[--size] = '\0';
    text += strspn(text, " \t");
    return *text ? text : NULL;
}

X509 *httpd_client_certificate(const struct httpd_request *request, bool *is_verified)
{
    const SSL *ssl = lws_get_ssl(request->exchange->wsi);
    X509 *certificate = ssl ? SSL_get0_peer_certificate(ssl) : NULL;
    *is_verified = certificate && SSL_get_verify_result(ssl) == X509_V_OK;
    return certificate;
}

struct httpd_exchange *httpd_defer(const struct httpd_request *request, void (*gone)(void *context),
                                   void *context)
{
    struct httpd_exchange *c = request->exchange;
    assert(c->phase == PHASE_RECEIVING);
    c->phase = PHASE_DEFERRED;
    c->gone = gone;
    c->gone_context = context;
    return c;
}

void httpd_answer(struct httpd_exchange *c, const struct httpd_response *response)
{
    assert(c->phase == PHASE_DEFERRED && response->status >= 200 && response->content_type);
    c->response = *response;
    c->phase = PHASE_ANSWERING;
    (void)lws_rx_flow_control(c->wsi, 1);
    lws_callback_on_writable(c->wsi);
}

static void refuse(struct httpd_exchange *c, unsigned status, const char *text)
{
    const struct httpd_options *o = &c->httpd->options;
    if (o->refused)
        o->refused(o->context, status);
    httpd_answer_text(&c->response, status, text);
}

static int handle(struct httpd_exchange *c)
{
    const struct httpd_request request = {.method = c->method,
                                          .path = c->path,
                                          .query = c->query,
                                          .body = c->body ? c->body : "",
                                          .body_size = c->body_size,
                                          .peer = &c->peer,
                                          .exchange = c};
    if (c->is_too_large)
        refuse(c, 413, "body too large\n");
    else if (c->method == HTTPD_OTHER)
        refuse(c, 405, "method not allowed\n");
    else
        c->httpd->options.handler(c->httpd->options.context, &request, &c->response);
    if (c->phase == PHASE_DEFERRED) {
        restart_deadline(c);
        return lws_rx_flow_control(c->wsi, 0) < 0 ? -1 : 0;
    }
    assert(c->response.status >= 200 && c->response.content_type);
    return begin_answer(c);
}

static enum httpd_method method_of(struct lws *wsi)
{
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0)
        return HTTPD_GET;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0)
        return HTTPD_HEAD;
    return lws_hdr_total_length(wsi, WSI_TOKEN_POST_URI) > 0 ? HTTPD_POST : HTTPD_OTHER;
}

/* Whether there is a body; `size` is what its Content-Length says, 0 without one. */
static bool has_body(struct lws *wsi, uint64_t *size)
{
    char length[32];
    int n = lws_hdr_copy(wsi, length, sizeof(length), WSI_TOKEN_HTTP_CONTENT_LENGTH);
    *size = n > 0 ? strtoull(length, NULL, 10) : 0;
    return (n > 0 && strcmp(length, "0") != 0) ||
           lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0;
}

static int on_request(struct httpd_exchange *c, const char *path, size_t size)
{
    uint64_t body_size;
    if (c->phase != PHASE_RECEIVING)
        return -1;
    drop_exchange(c);
    c->method = method_of(c->wsi);
    if (size >= sizeof(c->path) ||
        lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_URI_ARGS) >= QUERY_BYTES)
        return -1;
    memcpy(c->path, path, size);
    c->path[size] = '\0';
    if (lws_hdr_copy(c->wsi, c->query, QUERY_BYTES, WSI_TOKEN_HTTP_URI_ARGS) < 0)
        return -1;
    bool is_with_body = has_body(c->wsi, &body_size);
    c->is_last = c->method != HTTPD_GET && c->method != HTTPD_HEAD &&
                 lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) == 0;
    c->is_too_large = body_size > c->httpd->options.max_body_bytes;
    if (!is_with_body || c->is_too_large)
        return handle(c);
    c->body = malloc(c->httpd->options.max_body_bytes + 1);
    return c->body ? 0 : -1;
}

static int on_body(struct httpd_exchange *c, const char *bytes, size_t size)
{
    if (!c->body || c->is_too_large)
        return 0; /* answered without it */
    if (c->is_body_over || size > c->httpd->options.max_body_bytes - c->body_size)
        return -1;
    memcpy(c->body + c->body_size, bytes, size);
    c->body_size += size;
    return 0;
}

/* libwebsockets announces the empty body of "Content-Length: 0", too, and what comes behind a body
 * before the answer has gone as one more. */
static int on_body_complete(struct httpd_exchange *c)
{
    if (c->is_body_over)
        return -1;
    c->is_body_over = true;
    if (!c->body)
        return 0;
    c->body[c->body_size] = '\0';
    return handle(c);
}

/* ---- connections ---- */

static void forget(struct httpd_exchange *c)
{
    DL_DELETE(c->httpd->connections, c);
    c->httpd->count--;
    if (c->phase == PHASE_DEFERRED)
        c->gone(c->gone_context);
    drop_exchange(c);
    free(c);
}

static int on_connection_event(struct httpd_exchange *c, struct lws *wsi,
                               enum lws_callback_reasons reason, void *in, size_t size)
{
    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        c->wsi = wsi;
        return 0;
    case LWS_CALLBACK_HTTP:
        return on_request(c, in, size);
    case LWS_CALLBACK_HTTP_BODY:
        return on_body(c, in, size);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        return on_body_complete(c);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return send_more(c);
    default: /* WSI_DESTROY */
        lws_set_opaque_user_data(wsi, NULL);
        forget(c);
        return 0;
    }
}

static int set_up_tls(struct httpd *h, SSL_CTX *context)
{
    h->tls = context;
    return tls_context_configure_open(context, h->options.tls);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size)
{
    struct httpd_exchange *c;
    struct httpd *h;
    switch (reason) {
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
        return set_up_tls(lws_context_user(lws_get_context(wsi)), user) == 0 ? 0 : -1;
    case LWS_CALLBACK_OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION: /* 0 would take any certificate */
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return 1;
    case LWS_CALLBACK_WSI_CREATE:
        h = lws_context_user(lws_get_context(wsi));
        h->was_created = true;
        return 0;
    case LWS_CALLBACK_RAW_ADOPT:
    case LWS_CALLBACK_RAW_RX:
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
        return -1;
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
    case LWS_CALLBACK_HTTP:
    case LWS_CALLBACK_HTTP_BODY:
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    case LWS_CALLBACK_HTTP_WRITEABLE:
    case LWS_CALLBACK_WSI_DESTROY:
        c = lws_get_opaque_user_data(wsi);
        return c ? on_connection_event(c, wsi, reason, in, size) : 0;
    default:
        return 0;
    }
}

/* So that nobody can fill all places by connecting and saying nothing. */
static void make_room(struct httpd *h)
{
    struct httpd_exchange *c;
    unsigned spare = h->options.max_connections / 8;
    if (h->count + spare < h->options.max_connections)
        return;
    DL_FOREACH (h->connections, c) { /* the oldest first */
        if (c->wsi && c->phase == PHASE_RECEIVING && !c->is_shut) {
            c->is_shut = true;
            shutdown(lws_get_socket_fd(c->wsi), SHUT_RDWR);
            return;
        }
    }
}

static void adopt(struct httpd *h, int fd, const struct sockaddr_in6 *peer)
{
    make_room(h);
    struct httpd_exchange *c = h->count < h->options.max_connections ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        log_limited(LOG_LEVEL_WARN, "http_connection_refused", F_U64("port", h->port),
                    F_U64("connections", h->count));
        if (h->options.refused)
            h->options.refused(h->options.context, 503);
        close(fd);
        return;
    }
    c->httpd = h;
    c->peer = *peer;
    restart_deadline(c);
    DL_APPEND(h->connections, c);
    h->count++;
    const lws_adopt_desc_t description = {
        .vh = h->vhost,
        .type = (lws_adoption_type)(LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP |
                                    (h->tls ? LWS_ADOPT_ALLOW_SSL : 0)),
        .fd.sockfd = fd,
        .opaque = c,
    };
    /* When it fails the socket is closed. If there was a wsi by then, WSI_DESTROY comes for it,
     * perhaps only in a later turn of the loop. */
    h->was_created = false;
    if (!lws_adopt_descriptor_vhost_via_info(&description) && !h->was_created)
        forget(c);
}

/* The ticker listens again when there are tokens; until then connections wait in the kernel. */
static bool may_accept(struct httpd *h)
{
    unsigned rate = h->options.accept_rate;
    if (rate == 0 || bucket_wait_ms(&h->accepts, rate, rate, uv_now(h->loop)) == 0)
        return true;
    uv_poll_stop(&h->listener);
    h->is_listening = false;
    return false;
}

static void take_in(struct httpd *h, int fd, const struct sockaddr_in6 *peer)
{
    const struct httpd_options *o = &h->options;
    if (o->admit && !o->admit(o->context, peer)) {
        close(fd);
        return;
    }
    if (o->accept_rate > 0)
        bucket_spend(&h->accepts, 1, o->accept_rate, o->accept_rate, uv_now(h->loop));
    adopt(h, fd, peer);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct httpd *h = poll->data;
    struct sockaddr_in6 peer;
    (void)events;
    for (int i = 0; status == 0 && i < ACCEPTS_PER_TURN && may_accept(h); i++) {
        int fd = socket_accept(h->fd, &peer);
        if (fd >= 0)
            take_in(h, fd, &peer);
        else if (fd != -EINTR && fd != -ECONNABORTED)
            break; /* out of descriptors, too: the next turn tries again */
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct httpd *h = timer->data;
    struct httpd_exchange *c;
    uint64_t now_ms = uv_now(h->loop);
    if (!h->is_listening)
        h->is_listening = uv_poll_start(&h->listener, UV_READABLE, on_listener) == 0;
    DL_FOREACH (h->connections, c) {
        if (c->wsi && now_ms >= c->deadline_ms)
            shutdown(lws_get_socket_fd(c->wsi), SHUT_RDWR);
    }
}

/* ---- life ---- */

static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = on_event, .rx_buffer_size = 4096, .tx_packet_size = PIECE_BYTES},
    {.name = NULL},
};

static const lws_retry_bo_t no_validity_checks = {.secs_since_valid_ping = 0};

static void on_log(int level, const char *line)
{
    (void)level;
    log_limited(LOG_LEVEL_DEBUG, "libwebsockets", F_STRN("line", line, strcspn(line, "\n")));
}

static int create_context(struct httpd *h)
{
    lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
    void *loops[] = {h->loop};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
        .foreign_loops = loops,
        .gid = -1,
        .uid = -1,
        .user = h,
        .vhost_name = "http",
        .server_string = "isthmus",
        .alpn = "http/1.1",
        .retry_and_idle_policy = &no_validity_checks,
        .timeout_secs = LWS_TIMEOUT_S,
        .keepalive_timeout = LWS_TIMEOUT_S,
        .max_http_header_pool = (unsigned short)h->options.max_connections,
        .max_http_header_data = HEADER_BYTES,
    };
    if (h->options.tls)
        info.options |=
            LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX;
    h->context = lws_create_context(&info);
    if (h->context)
        h->vhost = lws_create_vhost(h->context, &info);
    return h->vhost && (h->tls || !h->options.tls) ? 0 : -EINVAL;
}

static int create_handles(struct httpd *h)
{
    int rc = uv_poll_init(h->loop, &h->listener, h->fd);
    if (rc != 0)
        return rc;
    rc = uv_timer_init(h->loop, &h->ticker);
    assert(rc == 0);
    h->has_handles = true;
    h->listener.data = h;
    h->ticker.data = h;
    uv_timer_start(&h->ticker, on_tick, TICK_MS, TICK_MS);
    bucket_init(&h->accepts, h->options.accept_rate, uv_now(h->loop));
    h->is_listening = true;
    return uv_poll_start(&h->listener, UV_READABLE, on_listener);
}

static int create_all(struct httpd *h, struct errbuf *e)
{
    h->fd = socket_listen(h->options.address, &h->port, e);
    if (h->fd < 0)
        return h->fd;
    if (create_context(h) != 0) {
        errbuf_set(e, "libwebsockets cannot be set up (is its libuv plugin there, package "
                      "libwebsockets-evlib-uv?)");
        return -EINVAL;
    }
    int rc = create_handles(h);
    if (rc != 0)
        errbuf_set(e, "event loop: %s", uv_strerror(rc));
    return rc;
}

int httpd_create(uv_loop_t *loop, const struct httpd_options *options, struct httpd **out,
                 struct errbuf *e)
{
    struct httpd *h = calloc(1, sizeof(*h));
    if (!h) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    h->loop = loop;
    h->options = *options;
    h->fd = -1;
    int rc = create_all(h, e);
    h->options.address = NULL;
    h->options.tls = NULL;
    if (rc == 0) {
        *out = h;
        return 0;
    }
    httpd_close(h);
    uv_run(loop, UV_RUN_NOWAIT);
    httpd_destroy(h);
    return rc;
}

uint16_t httpd_port(const struct httpd *httpd)
{
    return httpd->port;
}

int httpd_replace_tls(struct httpd *httpd, struct tls_material *tls)
{
    return tls_context_replace(httpd->tls, tls);
}

void httpd_close(struct httpd *h)
{
    if (h->has_handles) {
        uv_close((uv_handle_t *)&h->listener, NULL);
        uv_close((uv_handle_t *)&h->ticker, NULL);
    }
    if (h->fd >= 0)
        close(h->fd);
    if (h->context)
        lws_context_destroy(h->context);
}

/* The first call closed what was open, through the loop; the second frees the context. */
void httpd_destroy(struct httpd *h)
{
    if (!h)
        return;
    if (h->context)
        lws_context_destroy(h->context);
    free(h);
}
