/* The way a connection begins, writes and ends. See edge_conn.h; what comes in is in
 * edge_conn_read.c. */
#include "test/edgesim/edge_conn_parts.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "isthmus/log.h"

#define FRAGMENT_BYTES    4096
#define READ_BUFFER_BYTES 65536
#define READS_PER_TURN    16

/* --- ending --- */

static void free_conn(uv_handle_t *handle)
{
    struct edge_conn *c = handle->data;
    c->net->live--;
    edge_text_fini(&c->out);
    edge_text_fini(&c->in);
    free(c);
}

static void shut(struct edge_conn *c)
{
    assert(c->state != EDGE_CONN_CLOSED);
    c->state = EDGE_CONN_CLOSED;
    uv_poll_stop(&c->poll);
    uv_close((uv_handle_t *)&c->poll, free_conn);
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
    edge_conn_decoder_free(c);
}

void edge_conn_close(struct edge_conn *c, bool gentle)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (gentle && c->state >= EDGE_CONN_UPGRADING)
        SSL_shutdown(c->ssl);
    if (!gentle)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    ERR_clear_error();
    shut(c);
}

void edge_conn_fail(struct edge_conn *c, enum edge_dial_failure why)
{
    shut(c);
    c->net->events->on_failed(c->owner, why);
}

void edge_conn_end(struct edge_conn *c, enum edge_end why)
{
    shut(c);
    c->net->events->on_end(c->owner, why);
}

/* --- TLS --- */

static void log_tls_error(const struct edge_conn *c, const char *where)
{
    char text[200] = "closed";
    unsigned long code = ERR_peek_error();
    long verified = SSL_get_verify_result(c->ssl);
    if (code)
        ERR_error_string_n(code, text, sizeof(text));
    log_limited(LOG_LEVEL_DEBUG, "tls_error", F_STR("where", where), F_STR("error", text),
                F_STR("verify", X509_verify_cert_error_string(verified)));
    ERR_clear_error();
}

static void tls_failed(struct edge_conn *c, int error)
{
    bool reset = error == SSL_ERROR_SYSCALL && errno == ECONNRESET;
    bool closed = error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_SYSCALL;
    log_tls_error(c, c->state == EDGE_CONN_OPEN ? "read" : "dial");
    if (c->state == EDGE_CONN_OPEN)
        edge_conn_end(c, reset ? EDGE_END_RESET : closed ? EDGE_END_EOF : EDGE_END_TLS);
    else
        edge_conn_fail(c, reset ? EDGE_DIAL_RESET : closed ? EDGE_DIAL_CLOSED : EDGE_DIAL_TLS);
}

/* What libuv shall watch for, by what is wanted now. */
static int wanted_events(const struct edge_conn *c)
{
    if (c->state == EDGE_CONN_CONNECTING)
        return UV_WRITABLE;
    bool has_output = c->state >= EDGE_CONN_UPGRADING && edge_conn_is_blocked(c);
    return (c->is_deaf ? 0 : UV_READABLE) | (c->wants_write || has_output ? UV_WRITABLE : 0);
}

static void on_poll(uv_poll_t *poll, int status, int events);

void edge_conn_poll(struct edge_conn *c)
{
    if (c->state == EDGE_CONN_CLOSED)
        return;
    int wanted = wanted_events(c);
    if (wanted == c->polled)
        return;
    c->polled = wanted;
    if (wanted)
        uv_poll_start(&c->poll, wanted, on_poll);
    else
        uv_poll_stop(&c->poll);
}

static void handshake(struct edge_conn *c)
{
    c->wants_write = false;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_connect(c->ssl);
    if (rc == 1) {
        SSL_certs_clear(c->ssl); /* its work is done */
        if (SSL_version(c->ssl) == TLS1_3_VERSION)
            c->net->stats->tls13++;
        else
            c->net->stats->tls12++;
        c->state = EDGE_CONN_UPGRADING;
        edge_conn_flush(c);
        return;
    }
    int error = SSL_get_error(c->ssl, rc);
    if (error == SSL_ERROR_WANT_WRITE)
        c->wants_write = true;
    else if (error != SSL_ERROR_WANT_READ)
        tls_failed(c, error);
}

static void connected(struct edge_conn *c)
{
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        edge_conn_fail(c, error == ECONNREFUSED ? EDGE_DIAL_REFUSED
                          : error == ECONNRESET ? EDGE_DIAL_RESET
                                                : EDGE_DIAL_SOCKET);
        return;
    }
    c->state = c->is_stalled_dial ? EDGE_CONN_STALLING : EDGE_CONN_HANDSHAKING;
    if (c->state == EDGE_CONN_HANDSHAKING)
        handshake(c);
}

/* --- reading --- */

static void got_bytes(struct edge_conn *c, const char *bytes, size_t size)
{
    if (c->state == EDGE_CONN_UPGRADING)
        edge_conn_upgrade_feed(c, bytes, size);
    else
        edge_conn_feed(c, bytes, size);
}

static void read_some(struct edge_conn *c)
{
    for (int i = 0; i < READS_PER_TURN && c->state != EDGE_CONN_CLOSED && !c->is_deaf; i++) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(c->ssl, c->net->read_buffer, READ_BUFFER_BYTES);
        if (n > 0) {
            got_bytes(c, c->net->read_buffer, (size_t)n);
            continue;
        }
        int error = SSL_get_error(c->ssl, n);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            tls_failed(c, error);
        return;
    }
}

/* A stalled handshake: whatever comes, it can only be the end. */
static void read_stalled(struct edge_conn *c)
{
    char byte[64];
    ssize_t n = recv(c->fd, byte, sizeof(byte), 0);
    if (n < 0 && errno == EAGAIN)
        return;
    edge_conn_fail(c, n < 0 ? EDGE_DIAL_RESET : EDGE_DIAL_CLOSED);
}

static void writable(struct edge_conn *c)
{
    bool was_blocked = edge_conn_is_blocked(c);
    if (!edge_conn_flush(c)) {
        edge_conn_end(c, EDGE_END_WRITE_ERROR);
        return;
    }
    if (was_blocked && !edge_conn_is_blocked(c) && c->state == EDGE_CONN_OPEN)
        c->net->events->on_drained(c->owner);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct edge_conn *c = poll->data;
    (void)status; /* an error shows in what follows */
    if (c->state == EDGE_CONN_CONNECTING)
        connected(c);
    else if (c->state == EDGE_CONN_STALLING)
        read_stalled(c);
    else if (c->state == EDGE_CONN_HANDSHAKING)
        handshake(c);
    else if ((events & UV_WRITABLE) && c->state != EDGE_CONN_CLOSED)
        writable(c);
    /* Data may have come with the handshake's last record, and the kernel will not tell again. */
    bool can_read = c->state == EDGE_CONN_UPGRADING || c->state == EDGE_CONN_OPEN;
    if (can_read && !c->is_deaf)
        read_some(c);
    edge_conn_poll(c);
}

/* --- writing --- */

bool edge_conn_is_blocked(const struct edge_conn *c)
{
    return c->out.size > c->out_done;
}

bool edge_conn_is_stuck(const struct edge_conn *c, uint64_t now_us)
{
    return edge_conn_is_blocked(c) && now_us > c->out_since_us + c->net->write_deadline_us;
}

size_t edge_conn_unsent(const struct edge_conn *c)
{
    return c->out.size - c->out_done;
}

/* How much TLS took; negative when the connection is broken. */
static ssize_t tls_write(struct edge_conn *c, const char *bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ERR_clear_error();
        int n = SSL_write(c->ssl, bytes + done, (int)(size - done));
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        int error = SSL_get_error(c->ssl, n);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
            break;
        log_tls_error(c, "write");
        return -1;
    }
    return (ssize_t)done;
}

bool edge_conn_flush(struct edge_conn *c)
{
    if (!edge_conn_is_blocked(c))
        return true;
    ssize_t n = tls_write(c, c->out.at + c->out_done, edge_conn_unsent(c));
    if (n < 0)
        return false;
    c->out_done += (size_t)n;
    if (!edge_conn_is_blocked(c)) {
        edge_text_fini(&c->out);
        c->out_done = 0;
    }
    return true;
}

static bool keep_unsent(struct edge_conn *c, const char *bytes, size_t size, uint64_t now_us)
{
    if (!edge_conn_is_blocked(c))
        c->out_since_us = now_us;
    edge_text_append(&c->out, bytes, size);
    edge_conn_poll(c);
    return edge_text_ok(&c->out);
}

bool edge_conn_send_raw(struct edge_conn *c, const char *bytes, size_t size, uint64_t now_us)
{
    if (c->state == EDGE_CONN_CLOSED)
        return false;
    if (edge_conn_is_blocked(c))
        return !edge_conn_is_stuck(c, now_us) && keep_unsent(c, bytes, size, now_us);
    ssize_t n = tls_write(c, bytes, size);
    if (n < 0)
        return false;
    if ((size_t)n == size)
        return true;
    return keep_unsent(c, bytes + n, size - (size_t)n, now_us);
}

bool edge_conn_send_frame(struct edge_conn *c, const struct edge_frame *frame, uint64_t now_us)
{
    struct edge_net *net = c->net;
    struct wslay_frame_iocb iocb = {.fin = frame->fin,
                                    .opcode = frame->opcode,
                                    .payload_length =
                                        frame->claimed_size ? frame->claimed_size : frame->size,
                                    .mask = 1,
                                    .data = (const uint8_t *)frame->payload,
                                    .data_length = frame->size};
    edge_text_clear(&net->wire);
    if (!net->encoder || wslay_frame_send(net->encoder, &iocb) != (ssize_t)frame->size)
        return false;
    if (frame->claimed_size && edge_net_new_encoder(net) != 0)
        return false;
    return edge_conn_send_raw(c, net->wire.at, net->wire.size, now_us);
}

bool edge_conn_send(struct edge_conn *c, const char *text, size_t size, uint64_t now_us)
{
    bool ok = true;
    for (size_t at = 0; ok && at < size; at += FRAGMENT_BYTES) {
        size_t n = size - at < FRAGMENT_BYTES ? size - at : FRAGMENT_BYTES;
        const struct edge_frame frame = {.opcode =
                                             at == 0 ? WSLAY_TEXT_FRAME : WSLAY_CONTINUATION_FRAME,
                                         .fin = at + n == size,
                                         .payload = text + at,
                                         .size = n};
        ok = edge_conn_send_frame(c, &frame, now_us);
    }
    return ok;
}

bool edge_conn_send_control(struct edge_conn *c, uint8_t opcode, const char *payload, size_t size)
{
    const struct edge_frame frame = {
        .opcode = opcode, .fin = true, .payload = payload, .size = size};
    return edge_conn_send_frame(c, &frame, edge_clock_us());
}

void edge_conn_set_reading(struct edge_conn *c, bool reading)
{
    c->is_deaf = !reading;
    edge_conn_poll(c);
}

bool edge_conn_trickle(struct edge_conn *c)
{
    if (c->state == EDGE_CONN_CLOSED)
        return false;
    if (c->state != EDGE_CONN_STALLING || c->out_done == c->out.size)
        return true;
    if (send(c->fd, c->out.at + c->out_done, 1, MSG_NOSIGNAL) == 1)
        c->out_done++;
    return true;
}

/* --- dialing --- */

static bool bind_source(int fd, uint32_t source)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    int on = 1;
    /* The port is chosen at connect(), by the whole pair of addresses. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return bind(fd, (const struct sockaddr *)&from, sizeof(from)) == 0;
}

static int open_socket(const struct edge_dial *dial)
{
    const struct edge_target *t = dial->target;
    int on = 1;
    int fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bool bound =
        dial->source == 0 || t->address.ss_family != AF_INET || bind_source(fd, dial->source);
    if (bound && (connect(fd, (const struct sockaddr *)&t->address, t->address_size) == 0 ||
                  errno == EINPROGRESS))
        return fd;
    close(fd);
    return -1;
}

static bool expect_host(SSL *ssl, const struct edge_target *target)
{
    if (target->is_name)
        return SSL_set1_host(ssl, target->host) == 1 &&
               SSL_set_tlsext_host_name(ssl, target->host) == 1;
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), target->host) == 1;
}

/* The first flight goes to memory, to leave byte by byte. */
static bool prepare_stall(struct edge_conn *c)
{
    BIO *flight = BIO_new(BIO_s_mem());
    char *bytes;
    if (!flight)
        return false;
    SSL_set0_wbio(c->ssl, flight);
    SSL_connect(c->ssl);
    long size = BIO_get_mem_data(flight, &bytes);
    edge_text_clear(&c->out);
    edge_text_append(&c->out, bytes, size > 0 ? (size_t)size : 0);
    ERR_clear_error();
    return edge_text_ok(&c->out);
}

static bool prepare(struct edge_conn *c, const struct edge_dial *dial, enum edge_dial_failure *why)
{
    *why = EDGE_DIAL_SOCKET;
    if (c->fd < 0 || !c->ssl || SSL_set_fd(c->ssl, c->fd) != 1 ||
        !expect_host(c->ssl, dial->target))
        return false;
    *why = EDGE_DIAL_CERTIFICATE;
    if (dial->cert_node && edge_certs_use(dial->certs, c->ssl, dial->cert_node, dial->cert) != 0)
        return false;
    *why = EDGE_DIAL_SOCKET;
    SSL_set_connect_state(c->ssl);
    if (!edge_conn_upgrade_request(c, dial))
        return false;
    c->is_stalled_dial = dial->stalls_handshake;
    if (c->is_stalled_dial && !prepare_stall(c))
        return false;
    return uv_poll_init(c->net->loop, &c->poll, c->fd) == 0;
}

struct edge_conn *edge_conn_dial(struct edge_net *net, const struct edge_dial *dial, void *owner,
                                 enum edge_dial_failure *why)
{
    struct edge_conn *c = calloc(1, sizeof(*c));
    *why = EDGE_DIAL_SOCKET;
    if (!c)
        return NULL;
    c->net = net;
    c->owner = owner;
    c->state = EDGE_CONN_CONNECTING;
    c->fd = open_socket(dial);
    c->ssl = SSL_new(net->tls);
    if (!prepare(c, dial, why)) {
        SSL_free(c->ssl);
        edge_text_fini(&c->out);
        if (c->fd >= 0)
            close(c->fd);
        free(c);
        return NULL;
    }
    c->poll.data = c;
    net->live++;
    edge_conn_poll(c);
    return c;
}
