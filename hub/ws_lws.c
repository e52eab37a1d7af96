/* The websocket layer on libwebsockets; the only file that knows it. See ws.h.
 *
 * Happy path: ws_adopt() gives libwebsockets an accepted socket, it shakes hands in TLS and HTTP,
 * asks in HTTP_CONFIRM_UPGRADE, reports ESTABLISHED, then RECEIVE for each piece of payload, and
 * WSI_DESTROY when the socket is closed. The session travels as the connection's opaque user data.
 *
 * What there is to know about libwebsockets on libuv (4.1 to 4.3), and is why things are done as
 * they are here:
 * - A callback that returns -1 closes without a close frame. So callbacks return 0; closing with a
 * code happens outside of them: lws_close_reason(), then a synchronous kill, which sends the frame
 * and waits for the peer's.
 * - A kill does not kill what has unsent bytes, and a timer of theirs that is set outside an event
 * of theirs does not run on a quiet loop. What must end is shut down at the socket: libwebsockets
 * finds out with its next event.
 * - Reading switched off inside RECEIVE, while TLS has more of the record, makes
 * rops_handle_POLLIN_ws() turn for ever. It is switched outside of callbacks only
 * (session_settle_all); what the record still holds, 16 KiB at most, is taken in.
 * - The same loop turns for ever when bytes come in while it flushes before it closes. So nothing
 * is read while something is unsent (PAUSE_CHOKED), and what has unsent bytes is never closed, but
 * shut down.
 * - Reading that is switched on again may find only with the next event what has come in: one is
 * asked for.
 * - 0 for OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION accepts any certificate. The context is ours
 * (tls.c), it is never asked, and the answer would be no.
 * - Its own validity checks set a timer for each connection in a sorted list: off.
 * - Whatever is no upgrade to a websocket (plain requests, CONNECT, h2c) must be turned away
 * explicitly. */
#include "hub/ws.h"

#include "hub/hub_metrics.h"
#include "hub/identity.h"
#include "hub/loop.h"
#include "hub/socket.h"
#include "hub/tls.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <libwebsockets.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static_assert(REPLY_HEADROOM >= LWS_PRE, "libwebsockets writes its headers before the payload");

/* Payload is handed over in pieces of at most this much, and every connection keeps a buffer of
 * that size. EdgeCore's frames are 4 KiB, most messages smaller than one of these. */
#define RX_BUFFER_BYTES 512
/* What one call may write; ours are smaller (send.c). Without it RX_BUFFER_BYTES would be the
 * limit. */
#define TX_PACKET_BYTES (128 * 1024)
#define HEADER_BYTES    4096
/* A KeyUpdate costs us two key derivations and an answer. */
#define KEY_UPDATE_COST 4096
/* Our own deadlines are far below; theirs are never to fire first. */
#define LWS_TIMEOUT_S 600

struct ws {
    struct hub_loop *loop;
    struct lws_context *context;
    struct lws_vhost *vhost;
    SSL_CTX *tls;                  /* the vhost's */
    struct tls_material *material; /* during creation only */
    SSL_CTX *unused; /* libwebsockets wants one for clients, and leaks those it makes itself */
    struct tls_slimmer slimmer;
    struct session *adopting; /* during ws_adopt() only */
    bool was_created;         /* libwebsockets took the one that is being adopted */
};

/* ---- TLS ---- */

static struct session *session_of_tls(const SSL *ssl)
{
    struct session *s = SSL_get_app_data(ssl);
    if (s)
        return s;
    struct ws *ws = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    return ws ? ws->adopting : NULL;
}

static void on_tls_info(const SSL *ssl, int where, int ret)
{
    struct session *s = session_of_tls(ssl);
    bool peer_left;
    if (!s || s->state != SESSION_HANDSHAKE)
        return;
    if ((where & SSL_CB_ACCEPT_EXIT) == SSL_CB_ACCEPT_EXIT)
        acceptor_handshake_stepped(&s->loop->acceptor);
    if (s->has_tls)
        return;
    if (where & SSL_CB_HANDSHAKE_DONE) {
        s->has_tls = true;
        return;
    }
    const char *failure = tls_failure(ssl, where, ret, &peer_left);
    if (failure && s->refuse_reason == REFUSE_REASON_COUNT) {
        s->refuse_reason = peer_left ? REFUSE_PEER_LEFT : REFUSE_TLS;
        s->detail = failure;
    }
}

/* Sees every record of an established connection: what comes in without being payload is limited.
 */
static void on_tls_message(int is_sent, int version, int type, const void *bytes, size_t size,
                           SSL *ssl, void *session)
{
    (void)version;
    (void)ssl;
    const unsigned char *b = bytes;
    if (is_sent)
        return;
    if (type == SSL3_RT_HEADER && size >= SSL3_RT_HEADER_LENGTH)
        session_on_record(session, SSL3_RT_HEADER_LENGTH + ((size_t)b[3] << 8 | b[4]));
    else if (type == SSL3_RT_HANDSHAKE && size > 0 && b[0] == SSL3_MT_KEY_UPDATE)
        session_on_record(session, KEY_UPDATE_COST);
}

static int set_up_tls(struct lws *wsi, SSL_CTX *context)
{
    struct ws *ws = lws_context_user(lws_get_context(wsi));
    ws->tls = context;
    SSL_CTX_set_app_data(context, ws);
    SSL_CTX_set_info_callback(context, on_tls_info);
    return tls_context_configure(context, ws->material);
}

/* ---- the upgrade ---- */

/* "keep-alive, Upgrade" */
static bool list_has(const char *list, const char *token)
{
    size_t size = strlen(token);
    while (*list) {
        list += strspn(list, " \t,");
        size_t n = strcspn(list, " \t,");
        if (n == size && strncasecmp(list, token, n) == 0)
            return true;
        list += n;
    }
    return false;
}

static bool header_is(struct lws *wsi, enum lws_token_indexes token, const char *value)
{
    char text[128];
    return lws_hdr_copy(wsi, text, sizeof(text), token) > 0 && list_has(text, value);
}

/* A header libwebsockets has no name for, by its name in lower case with the colon. Of a repeated
 * one the first counts. */
static const char *custom_header(struct lws *wsi, const char *name, char *text, int room)
{
    int size = lws_hdr_custom_copy(wsi, text, room, name, (int)strlen(name));
    if (size <= 0)
        return NULL;
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t'))
        text[--size] = '\0';
    return text + strspn(text, " \t");
}

static void refuse_with(struct lws *wsi, unsigned status, const char *text)
{
    char buffer[LWS_PRE + 512];
    int size = snprintf(
        buffer + LWS_PRE, sizeof(buffer) - LWS_PRE,
        "HTTP/1.1 %u %.*s\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Sec-WebSocket-Version: 13\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s\n",
        status, (int)strcspn(text, ":"), text, strlen(text) + 1, text);
    assert(size > 0 && (size_t)size < sizeof(buffer) - LWS_PRE);
    (void)lws_write(wsi, (unsigned char *)buffer + LWS_PRE, (size_t)size, LWS_WRITE_HTTP_HEADERS);
}

/* 0: go on; -1: hang up, the refusal was sent. */
static int confirm_upgrade(struct lws *wsi, struct session *s)
{
    char version[16], node_id[320], use[32];
    struct identity identity;
    struct upgrade_answer answer;
    const int key_size = lws_hdr_total_length(wsi, WSI_TOKEN_KEY);
    const struct upgrade_request request = {
        .is_get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0,
        .wants_upgrade = header_is(wsi, WSI_TOKEN_CONNECTION, "upgrade"),
        .wants_websocket = header_is(wsi, WSI_TOKEN_UPGRADE, "websocket"),
        .has_host = lws_hdr_total_length(wsi, WSI_TOKEN_HOST) > 0,
        .has_key =
            key_size > 0 && key_size<100, .version = lws_hdr_copy(wsi, version, sizeof(version),
                                                                  WSI_TOKEN_VERSION)> 0
                ? version
                : NULL,
        .node_id = custom_header(wsi, "node_id:", node_id, sizeof(node_id)),
        .connection_use = custom_header(wsi, "connectionuse:", use, sizeof(use)),
    };
    identity_read(SSL_get0_peer_certificate(lws_get_ssl(wsi)), &identity);
    session_on_upgrade(s, &request, &identity, &answer);
    if (answer.status == 101)
        return 0;
    s->is_answered = true;
    refuse_with(wsi, answer.status, answer.text);
    return -1;
}

/* A request that asks for no upgrade at all. */
static int refuse_plain(struct lws *wsi, struct session *s)
{
    if (s->refuse_reason == REFUSE_REASON_COUNT) {
        s->refuse_reason = REFUSE_BAD_REQUEST;
        s->detail = "Bad Request: not a websocket handshake";
        s->is_answered = true;
        refuse_with(wsi, 400, s->detail);
    }
    return -1;
}

static void on_established(struct lws *wsi, struct session *s)
{
    struct ws *ws = lws_context_user(lws_get_context(wsi));
    SSL *ssl = lws_get_ssl(wsi);
    SSL_set_msg_callback(ssl, on_tls_message);
    SSL_set_msg_callback_arg(ssl, s);
    if (ws->loop->hub->config->tls_slim)
        tls_slim(&ws->slimmer, ssl);
    session_on_open(s);
}

static bool peer_has_left(struct lws *wsi)
{
    SSL *ssl = lws_get_ssl(wsi);
    return (ssl && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN)) ||
           socket_peer_has_left(lws_get_socket_fd(wsi));
}

/* libwebsockets tears the connection down; its socket is still open. Unless the peer has left, or
 * we have said why, it is because of what the peer sent. */
static void on_closed(struct lws *wsi, struct session *s)
{
    if (!peer_has_left(wsi)) {
        if (s->state == SESSION_HANDSHAKE && s->refuse_reason == REFUSE_REASON_COUNT &&
            s->has_tls) {
            s->refuse_reason = REFUSE_BAD_REQUEST;
            s->detail = "no HTTP request";
        }
        session_close(s, CLOSE_PROTOCOL, "bad frame");
    }
    session_on_dead(s);
}

static void on_receive(struct lws *wsi, struct session *s, const char *bytes, size_t size)
{
    const struct piece piece = {
        .bytes = bytes,
        .size = size,
        .remaining = lws_remaining_packet_payload(wsi),
        .is_binary = lws_frame_is_binary(wsi),
        .is_last = lws_is_final_fragment(wsi),
    };
    session_on_piece(s, &piece);
}

static int on_session_event(struct lws *wsi, struct session *s, enum lws_callback_reasons reason,
                            const void *in, size_t size)
{
    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        s->wsi = wsi;
        SSL_set_app_data(lws_get_ssl(wsi), s);
        return 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return confirm_upgrade(wsi, s);
    case LWS_CALLBACK_FILTER_HTTP_CONNECTION:
        return refuse_plain(wsi, s);
    case LWS_CALLBACK_ESTABLISHED:
        on_established(wsi, s);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        on_receive(wsi, s, in, size);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        session_on_writable(s);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        session_on_peer_close(s);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        s->wsi = NULL;
        lws_set_opaque_user_data(wsi, NULL);
        session_on_gone(s);
        return 0;
    default: /* CLOSED, CLOSED_HTTP */
        on_closed(wsi, s);
        return 0;
    }
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size)
{
    struct session *s;
    switch (reason) {
    /* Before there is a session to ask. */
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
        return set_up_tls(wsi, user) == 0 ? 0 : -1;
    case LWS_CALLBACK_OPENSSL_PERFORM_CLIENT_CERT_VERIFICATION:
        return 1;
    case LWS_CALLBACK_WSI_CREATE:
        ((struct ws *)lws_context_user(lws_get_context(wsi)))->was_created = true;
        return 0;
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
    case LWS_CALLBACK_FILTER_HTTP_CONNECTION:
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_WSI_DESTROY:
        s = lws_get_opaque_user_data(wsi);
        break;
    case LWS_CALLBACK_HTTP:
    case LWS_CALLBACK_RAW_ADOPT:
    case LWS_CALLBACK_RAW_RX:
        return -1;
    default:
        return 0;
    }
    if (!s)
        return 0;
    return on_session_event(wsi, s, reason, in, size);
}

/* ---- contexts ---- */

static const struct lws_protocols protocols[] = {
    {.name = "edge",
     .callback = on_event,
     .rx_buffer_size = RX_BUFFER_BYTES,
     .tx_packet_size = TX_PACKET_BYTES},
    {.name = NULL},
};

static const lws_retry_bo_t no_validity_checks = {.secs_since_valid_ping = 0};

static void on_log(int level, const char *line)
{
    (void)level;
    log_limited(LOG_LEVEL_DEBUG, "libwebsockets", F_STRN("line", line, strcspn(line, "\n")));
}

static struct lws_context *create_context(struct ws *ws, struct lws_context_creation_info *info)
{
    struct lws_context *context = lws_create_context(info);
    if (!context)
        return NULL;
    ws->vhost = lws_create_vhost(context, info);
    if (ws->vhost)
        return context;
    lws_context_destroy(context);
    return NULL;
}

int ws_create(struct hub_loop *loop, uv_loop_t *uv, struct tls_material *material, struct ws **out,
              struct errbuf *e)
{
    void *loops[] = {uv};
    struct ws *ws = calloc(1, sizeof(*ws));
    if (!ws) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    ws->loop = loop;
    ws->material = material;
    ws->unused = SSL_CTX_new(TLS_client_method());
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX |
                   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
        .foreign_loops = loops,
        .gid = -1,
        .uid = -1,
        .user = ws,
        .vhost_name = "edges",
        .alpn = "http/1.1",
        .provided_client_ssl_ctx = ws->unused,
        .retry_and_idle_policy = &no_validity_checks,
        .timeout_secs = LWS_TIMEOUT_S,
        .max_http_header_pool = UINT16_MAX / 2, /* admission limits them */
        .max_http_header_data = HEADER_BYTES,
    };
    lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
    ws->context = ws->unused ? create_context(ws, &info) : NULL;
    ws->material = NULL;
    if (!ws->context || !ws->tls) {
        SSL_CTX_free(ws->unused);
        free(ws);
        errbuf_set(e, "libwebsockets cannot be set up (is its libuv plugin there, package "
                      "libwebsockets-evlib-uv?)");
        return -EINVAL;
    }
    *out = ws;
    return 0;
}

void ws_close_all(struct ws *ws)
{
    lws_context_destroy(ws->context);
}

/* The first call closed what was open, through the loop; the second frees the context. */
void ws_destroy(struct ws *ws)
{
    lws_context_destroy(ws->context);
    tls_slimmer_fini(&ws->slimmer);
    SSL_CTX_free(ws->unused);
    free(ws);
}

int ws_replace_tls(struct ws *ws, struct tls_material *material)
{
    return tls_context_replace(ws->tls, material);
}

/* ---- connections ---- */

int ws_adopt(struct ws *ws, int fd, struct session *s)
{
    const lws_adopt_desc_t description = {
        .vh = ws->vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | LWS_ADOPT_ALLOW_SSL,
        .fd.sockfd = fd,
        .opaque = s,
    };
    ws->adopting = s;
    ws->was_created = false;
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&description);
    ws->adopting = NULL;
    if (wsi)
        return 0;
    return ws->was_created ? -ECONNABORTED : -ENOMEM;
}

int ws_write(struct session *s, char *payload, size_t size, bool is_first, bool is_last)
{
    int form = is_first ? LWS_WRITE_TEXT : LWS_WRITE_CONTINUATION;
    if (!is_last)
        form |= LWS_WRITE_NO_FIN;
    assert(!s->is_dead && size + LWS_PRE <= TX_PACKET_BYTES);
    int rc = lws_write(s->wsi, (unsigned char *)payload, size, (enum lws_write_protocol)form);
    return rc < 0 ? -EPIPE : 0;
}

bool ws_is_choked(const struct session *s)
{
    return lws_partial_buffered(s->wsi) != 0;
}

void ws_want_writable(struct session *s)
{
    lws_callback_on_writable(s->wsi);
}

void ws_set_reading(struct session *s, bool is_reading)
{
    lws_rx_flow_control(s->wsi, is_reading);
    if (is_reading)
        lws_callback_on_writable(s->wsi);
}

uint64_t ws_acked_bytes(const struct session *s)
{
    return socket_acked_bytes(lws_get_socket_fd(s->wsi));
}

void ws_close(struct session *s, unsigned code, const char *text)
{
    lws_rx_flow_control(s->wsi, 1);
    lws_close_reason(s->wsi, (enum lws_close_status)code, (unsigned char *)(uintptr_t)text,
                     strlen(text));
    lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

void ws_kill(struct session *s)
{
    if (s->is_dead || !s->wsi)
        return;
    /* With something unsent the next write fails; else the next read does. */
    if (!ws_is_choked(s))
        lws_rx_flow_control(s->wsi, 1);
    shutdown(lws_get_socket_fd(s->wsi), SHUT_RDWR);
}
