/* See httpd.h. Besides ws_lws.c the only file that knows libwebsockets, and for the same reasons we
 * accept ourselves and adopt.
 *
 * Happy path: accept, adopt, HTTP (the request's head), HTTP_BODY for each piece of a body, the
 * handler, the head of the answer, then a piece of its body for each WRITEABLE, and the connection
 * waits for its next request.
 *
 * Failure modes: too many connections, and a request that is too slow or too large, end the
 * connection; so does everything that is no plain request (upgrades, CONNECT). Deadlines are ours:
 * a timer walks the few connections there are, and shuts the late ones' sockets down, which
 * libwebsockets notices by itself. */
#include "hub/httpd.h"

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

struct connection {
    struct connection *prev, *next;
    struct httpd *httpd;
    struct lws *wsi;
    uint64_t deadline_ms;
    char path[PATH_BYTES], query[QUERY_BYTES];
    enum httpd_method method;
    char *body; /* max_body_bytes and a NUL, while one is received */
    size_t body_size;
    bool is_too_large;
    struct httpd_response response;
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
    struct connection *connections;
    struct connection *adopting;
    unsigned count;
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

static void drop_exchange(struct connection *c)
{
    if (!c->response.is_constant)
        free(c->response.body);
    c->response = (struct httpd_response){0};
    c->sent = 0;
    free(c->body);
    c->body = NULL;
    c->body_size = 0;
    c->is_too_large = false;
}

static void restart_deadline(struct connection *c)
{
    c->deadline_ms = uv_now(c->httpd->loop) + c->httpd->options.timeout_ms;
}

static int add_header(struct lws *wsi, const char *name, const char *value, unsigned char **at,
                      unsigned char *end)
{
    return lws_add_http_header_by_name(wsi, (const unsigned char *)name,
                                       (const unsigned char *)value, (int)strlen(value), at, end);
}

static int send_head(struct connection *c)
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

static int finish(struct connection *c)
{
    drop_exchange(c);
    restart_deadline(c);
    return lws_http_transaction_completed(c->wsi) ? -1 : 0;
}

static int begin_answer(struct connection *c)
{
    restart_deadline(c);
    if (send_head(c) != 0)
        return -1;
    if (c->method == HTTPD_HEAD || c->response.size == 0)
        return finish(c);
    lws_callback_on_writable(c->wsi);
    return 0;
}

/* One piece for each time the socket takes more. */
static int send_more(struct connection *c)
{
    unsigned char buffer[LWS_PRE + PIECE_BYTES];
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

const char *httpd_header(const struct httpd_request *request, const char *name, char *text,
                         size_t room)
{
    int size = lws_hdr_custom_copy(request->wsi, text, (int)room, name, (int)strlen(name));
    return size > 0 ? text : NULL;
}

static int handle(struct connection *c)
{
    const struct httpd_request request = {.method = c->method,
                                          .path = c->path,
                                          .query = c->query,
                                          .body = c->body ? c->body : "",
                                          .body_size = c->body_size,
                                          .wsi = c->wsi};
    if (c->is_too_large)
        httpd_answer_text(&c->response, 413, "body too large\n");
    else if (c->method == HTTPD_OTHER)
        httpd_answer_text(&c->response, 405, "method not allowed\n");
    else
        c->httpd->options.handler(c->httpd->options.context, &request, &c->response);
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

static bool has_body(struct lws *wsi)
{
    char length[32];
    int n = lws_hdr_copy(wsi, length, sizeof(length), WSI_TOKEN_HTTP_CONTENT_LENGTH);
    return (n > 0 && strcmp(length, "0") != 0) ||
           lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0;
}

static int on_request(struct connection *c, const char *path, size_t size)
{
    drop_exchange(c);
    c->method = method_of(c->wsi);
    if (size >= sizeof(c->path) ||
        lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_URI_ARGS) >= QUERY_BYTES)
        return -1;
    memcpy(c->path, path, size);
    c->path[size] = '\0';
    if (lws_hdr_copy(c->wsi, c->query, QUERY_BYTES, WSI_TOKEN_HTTP_URI_ARGS) < 0)
        return -1;
    if (!has_body(c->wsi))
        return handle(c);
    c->body = malloc(c->httpd->options.max_body_bytes + 1);
    return c->body ? 0 : -1;
}

static void on_body(struct connection *c, const char *bytes, size_t size)
{
    if (!c->body)
        return; /* answered without it: lws announces the body of "Content-Length: 0" too */
    if (size > c->httpd->options.max_body_bytes - c->body_size) {
        c->is_too_large = true;
        return;
    }
    memcpy(c->body + c->body_size, bytes, size);
    c->body_size += size;
}

static int on_body_complete(struct connection *c)
{
    if (!c->body)
        return 0;
    c->body[c->body_size] = '\0';
    return handle(c);
}

/* ---- connections ---- */

static void forget(struct connection *c)
{
    DL_DELETE(c->httpd->connections, c);
    c->httpd->count--;
    drop_exchange(c);
    free(c);
}

static int on_connection_event(struct connection *c, struct lws *wsi,
                               enum lws_callback_reasons reason, void *in, size_t size)
{
    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        c->wsi = wsi;
        return 0;
    case LWS_CALLBACK_HTTP:
        return on_request(c, in, size);
    case LWS_CALLBACK_HTTP_BODY:
        on_body(c, in, size);
        return 0;
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

/* Who shows a certificate must show one of ours; who shows none is anybody. */
static int set_up_tls(struct httpd *h, SSL_CTX *context)
{
    h->tls = context;
    int rc = tls_context_configure(context, h->options.tls);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return rc;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size)
{
    struct connection *c;
    switch (reason) {
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
        return set_up_tls(lws_context_user(lws_get_context(wsi)), user) == 0 ? 0 : -1;
    case LWS_CALLBACK_OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION: /* 0 would take any certificate */
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return 1;
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

static void adopt(struct httpd *h, int fd)
{
    struct connection *c = h->count < h->options.max_connections ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        log_limited(LOG_LEVEL_WARN, "http_connection_refused", F_U64("port", h->port),
                    F_U64("connections", h->count));
        close(fd);
        return;
    }
    c->httpd = h;
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
    /* When it fails, the socket is closed, and WSI_DESTROY has run if there was a wsi. */
    unsigned before = h->count;
    if (!lws_adopt_descriptor_vhost_via_info(&description) && h->count == before && !c->wsi)
        forget(c);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct httpd *h = poll->data;
    struct sockaddr_in6 peer;
    (void)events;
    for (int i = 0; status == 0 && i < ACCEPTS_PER_TURN; i++) {
        int fd = socket_accept(h->fd, &peer);
        if (fd >= 0)
            adopt(h, fd);
        else if (fd != -EINTR && fd != -ECONNABORTED)
            break; /* out of descriptors, too: the next turn tries again */
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct httpd *h = timer->data;
    struct connection *c;
    uint64_t now_ms = uv_now(h->loop);
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
