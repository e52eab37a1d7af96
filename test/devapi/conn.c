/* See conn.h. */
#include "test/devapi/conn.h"
#include "isthmus/log.h"
#include "test/devapi/server.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define HANDSHAKE_MS   10000
#define LINGER_MS      1000
#define READS_PER_TURN 32

static void on_poll(uv_poll_t *handle, int status, int events);

static void on_closed(uv_handle_t *handle)
{
    struct dev_conn *c = handle->data;
    SSL_free(c->ssl);
    close(c->fd);
    for (unsigned i = 0; i < c->group_count; i++)
        free(c->groups[i]);
    free(c->user);
    dev_text_fini(&c->out);
    free(c);
}

static void teardown(struct dev_conn *c)
{
    if (c->protocol)
        c->protocol->stop(c);
    DL_DELETE(c->server->conns, c);
    c->server->conn_count--;
    uv_poll_stop(&c->poll);
    uv_close((uv_handle_t *)&c->poll, on_closed);
}

void dev_conn_accept(struct dev_server *server, int fd)
{
    struct dev_conn *c = calloc(1, sizeof(*c));
    SSL *ssl = c ? SSL_new(server->tls) : NULL;
    if (!ssl || SSL_set_fd(ssl, fd) != 1 || uv_poll_init_socket(server->loop, &c->poll, fd) != 0) {
        SSL_free(ssl);
        free(c);
        close(fd);
        return;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    SSL_set_accept_state(ssl);
    c->server = server;
    c->fd = fd;
    c->ssl = ssl;
    c->accepted_ms = uv_now(server->loop);
    c->poll.data = c;
    DL_APPEND(server->conns, c);
    server->conn_count++;
    c->events = UV_READABLE;
    if (uv_poll_start(&c->poll, c->events, on_poll) != 0)
        dev_conn_break(c);
}

void dev_conn_mark(struct dev_conn *c)
{
    if (c->is_marked)
        return;
    c->is_marked = true;
    DL_APPEND2(c->server->marked, c, marked_prev, marked_next);
}

void dev_conn_break(struct dev_conn *c)
{
    c->is_broken = true;
    dev_conn_mark(c);
}

static void set_events(struct dev_conn *c)
{
    int events = UV_READABLE | (c->wants_write ? UV_WRITABLE : 0);
    if (events == c->events)
        return;
    c->events = events;
    if (uv_poll_start(&c->poll, events, on_poll) != 0)
        dev_conn_break(c);
}

/* ---- handshake ---- */

static char *name_entry(X509_NAME *name, int nid, int *position)
{
    *position = X509_NAME_get_index_by_NID(name, nid, *position);
    if (*position < 0)
        return NULL;
    unsigned char *utf8 = NULL;
    int size =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, *position)));
    char *text = size > 0 ? strndup((char *)utf8, (size_t)size) : NULL;
    OPENSSL_free(utf8);
    return text;
}

/* As kube-apiserver: the common name is the user, the organizations are the groups. */
static void read_identity(struct dev_conn *c)
{
    X509 *cert = SSL_get1_peer_certificate(c->ssl);
    if (!cert)
        return;
    X509_NAME *name = X509_get_subject_name(cert);
    int position = -1;
    c->user = name_entry(name, NID_commonName, &position);
    for (position = -1; c->group_count < DEV_GROUPS_MAX;) {
        char *group = name_entry(name, NID_organizationName, &position);
        if (!group)
            break;
        c->groups[c->group_count++] = group;
    }
    X509_free(cert);
}

static void handshake(struct dev_conn *c)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(c->ssl);
    if (rc != 1) {
        int why = SSL_get_error(c->ssl, rc);
        c->wants_write = why == SSL_ERROR_WANT_WRITE;
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
            set_events(c);
            return;
        }
        unsigned long error = ERR_peek_last_error();
        const char *text = error ? ERR_reason_error_string(error) : NULL;
        log_limited(LOG_LEVEL_WARN, "tls_handshake_failed", F_STR("why", text ? text : "closed"));
        dev_conn_break(c);
        return;
    }
    const unsigned char *alpn = NULL;
    unsigned size = 0;
    read_identity(c);
    c->wants_write = false;
    SSL_get0_alpn_selected(c->ssl, &alpn, &size);
    c->protocol = size == 2 && memcmp(alpn, "h2", 2) == 0 ? &dev_http2 : &dev_http1;
    if (c->protocol->start(c) != 0) {
        c->protocol = NULL;
        dev_conn_break(c);
        return;
    }
    dev_conn_mark(c);
}

/* ---- bytes ---- */

/* At most so many records a turn; level-triggered polling comes back for the rest, which is still
 * in the kernel. */
static void receive(struct dev_conn *c)
{
    static char buffer[16 * 1024 + 64]; /* larger than a TLS record: nothing stays in OpenSSL */
    for (int i = 0; i < READS_PER_TURN && !c->is_broken; i++) {
        ERR_clear_error();
        int n = SSL_read(c->ssl, buffer, sizeof(buffer));
        if (n <= 0) {
            int why = SSL_get_error(c->ssl, n);
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
                dev_conn_break(c);
            return;
        }
        c->server->bytes_in += (uint64_t)n;
        dev_conn_mark(c);
        if (c->protocol->input(c, buffer, (size_t)n) != 0)
            dev_conn_break(c);
    }
}

/* To close with unread input would reset the connection, and the client might lose what it was sent
 * last. */
static void linger(struct dev_conn *c)
{
    SSL_shutdown(c->ssl);
    shutdown(c->fd, SHUT_WR);
    c->is_lingering = true;
    c->lingers_ms = uv_now(c->server->loop);
}

static void drain(struct dev_conn *c)
{
    char forgotten[4096];
    ssize_t n = 1;
    for (int i = 0; i < READS_PER_TURN && n > 0; i++)
        n = recv(c->fd, forgotten, sizeof(forgotten), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        dev_conn_break(c);
}

static void flush(struct dev_conn *c)
{
    for (;;) {
        if (c->out_sent == c->out.size) {
            dev_text_clear(&c->out);
            c->out_sent = 0;
            c->protocol->output(c, &c->out);
            if (c->out.failed)
                c->is_broken = true;
            if (c->out.size == 0 || c->is_broken)
                break;
        }
        ERR_clear_error();
        int n = SSL_write(c->ssl, c->out.at + c->out_sent, (int)(c->out.size - c->out_sent));
        if (n <= 0) {
            int why = SSL_get_error(c->ssl, n);
            c->wants_write = true;
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
                c->is_broken = true;
            else
                set_events(c);
            return;
        }
        c->server->bytes_out += (uint64_t)n;
        c->out_sent += (size_t)n;
    }
    c->wants_write = false;
    set_events(c);
    if (c->protocol->is_done(c))
        linger(c);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct dev_conn *c = handle->data;
    if (c->is_broken)
        return;
    if (status < 0) {
        dev_conn_break(c);
        return;
    }
    if (!c->protocol) {
        handshake(c);
        return;
    }
    if (c->is_lingering) {
        drain(c);
        return;
    }
    if (events & UV_WRITABLE)
        dev_conn_mark(c);
    if (events & UV_READABLE)
        receive(c);
}

void dev_conn_flush_marked(struct dev_server *server)
{
    struct dev_conn *c;
    while ((c = server->marked)) {
        DL_DELETE2(server->marked, c, marked_prev, marked_next);
        /* Stays marked while it is flushed: what its output provokes is part of the same flush. */
        if (!c->is_broken && !c->is_lingering && c->protocol)
            flush(c);
        c->is_marked = false;
        if (c->is_broken)
            teardown(c);
    }
}

void dev_conn_sweep(struct dev_server *server, uint64_t now_ms)
{
    struct dev_conn *c;
    DL_FOREACH (server->conns, c) {
        bool is_late = !c->protocol && now_ms - c->accepted_ms > HANDSHAKE_MS;
        if (is_late || (c->is_lingering && now_ms - c->lingers_ms > LINGER_MS))
            dev_conn_break(c);
    }
}
