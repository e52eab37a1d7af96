/* See h2server.h. OpenSSL works on memory, libuv carries the bytes. Memory comes from OpenSSL, so
 * that a test that makes our allocations fail (test/lib/heap.h) hits the client and not its server.
 */
#include "test/lib/h2server.h"

#include <assert.h>
#include <nghttp2/nghttp2.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct h2conn {
    struct h2conn *prev, *next;
    struct h2server *server;
    uv_tcp_t tcp;
    SSL *ssl;
    BIO *in, *out;
    nghttp2_session *session;
    struct h2stream *streams;
    bool is_muted, is_closing;
    bool is_receiving; /* in nghttp2's callbacks, where nothing may be sent */
};

struct write {
    uv_write_t request;
    char data[];
};

/* ---- bytes ---- */

static void on_conn_closed(uv_handle_t *handle)
{
    struct h2conn *conn = handle->data;
    struct h2stream *stream, *next;
    DL_FOREACH_SAFE (conn->streams, stream, next) {
        OPENSSL_free(stream->body);
        OPENSSL_free(stream->out);
        OPENSSL_free(stream);
    }
    nghttp2_session_del(conn->session);
    SSL_free(conn->ssl);
    OPENSSL_free(conn);
}

static void conn_close(struct h2conn *conn)
{
    if (conn->is_closing)
        return;
    conn->is_closing = true;
    DL_DELETE(conn->server->conns, conn);
    uv_close((uv_handle_t *)&conn->tcp, on_conn_closed);
}

static void on_written(uv_write_t *request, int status)
{
    (void)status;
    OPENSSL_free(request);
}

static void write_bytes(struct h2conn *conn)
{
    size_t size = BIO_ctrl_pending(conn->out);
    if (size == 0 || conn->is_closing || conn->is_muted)
        return;
    struct write *w = OPENSSL_malloc(sizeof(*w) + size);
    assert(w);
    int got = BIO_read(conn->out, w->data, (int)size);
    assert(got == (int)size);
    uv_buf_t buffer = uv_buf_init(w->data, (unsigned)size);
    if (uv_write(&w->request, (uv_stream_t *)&conn->tcp, &buffer, 1, on_written) != 0)
        OPENSSL_free(w);
}

static void flush(struct h2conn *conn)
{
    if (conn->is_receiving)
        return; /* on_read() does it */
    while (conn->session && !conn->is_closing && !conn->is_muted) {
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(conn->session, &data);
        if (size <= 0)
            break;
        SSL_write(conn->ssl, data, (int)size);
    }
    write_bytes(conn);
    if (conn->session && !conn->is_muted && !nghttp2_session_want_read(conn->session) &&
        !nghttp2_session_want_write(conn->session))
        conn_close(conn);
}

/* ---- HTTP/2 ---- */

static struct h2stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct h2conn *conn = user_data;
    struct h2stream *stream = OPENSSL_zalloc(sizeof(*stream));
    assert(stream);
    stream->server = conn->server;
    stream->conn = conn;
    stream->id = frame->hd.stream_id;
    DL_APPEND(conn->streams, stream);
    nghttp2_session_set_stream_user_data(session, stream->id, stream);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t size, uint8_t flags,
                     void *user_data)
{
    (void)flags, (void)user_data, (void)name_size;
    struct h2stream *s = stream_of(session, frame->hd.stream_id);
    const struct {
        const char *name;
        char *to;
        size_t room;
    } fields[] = {
        {":method", s->method, sizeof(s->method)},
        {":path", s->path, sizeof(s->path)},
        {":authority", s->authority, sizeof(s->authority)},
        {"content-type", s->content_type, sizeof(s->content_type)},
        {"authorization", s->authorization, sizeof(s->authorization)},
        {"impersonate-user", s->impersonate_user, sizeof(s->impersonate_user)},
        {"impersonate-group", s->impersonate_group, sizeof(s->impersonate_group)},
        {"user-agent", s->user_agent, sizeof(s->user_agent)},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp((const char *)name, fields[i].name) == 0)
            snprintf(fields[i].to, fields[i].room, "%.*s", (int)size, (const char *)value);
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t size, void *user_data)
{
    (void)flags, (void)user_data;
    struct h2stream *stream = stream_of(session, id);
    if (stream->size + size >= stream->room) {
        stream->room = 2 * (stream->size + size + 1);
        stream->body = OPENSSL_realloc(stream->body, stream->room);
        assert(stream->body);
    }
    memcpy(stream->body + stream->size, data, size);
    stream->size += size;
    stream->body[stream->size] = '\0';
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct h2conn *conn = user_data;
    struct h2server *server = conn->server;
    if (frame->hd.type == NGHTTP2_PING)
        server->pings++;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        server->resets++;
    bool is_end = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                  (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    struct h2stream *stream = is_end ? stream_of(session, frame->hd.stream_id) : NULL;
    if (stream) {
        server->requests++;
        server->options.on_request(server->options.context, stream);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user_data)
{
    (void)code;
    struct h2conn *conn = user_data;
    struct h2stream *stream = stream_of(session, id);
    if (!stream)
        return 0;
    DL_DELETE(conn->streams, stream);
    OPENSSL_free(stream->body);
    OPENSSL_free(stream->out);
    OPENSSL_free(stream);
    return 0;
}

static void start_session(struct h2conn *conn)
{
    nghttp2_session_callbacks *c;
    nghttp2_session_callbacks_new(&c);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
    nghttp2_session_server_new(&conn->session, c, conn);
    nghttp2_session_callbacks_del(c);
    h2conn_max_streams(conn,
                       conn->server->options.max_streams ? conn->server->options.max_streams : 100);
}

void h2conn_max_streams(struct h2conn *conn, uint32_t max)
{
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max};
    nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, &entry, 1);
}

/* ---- connections ---- */

static void take_in(struct h2conn *conn)
{
    if (!SSL_is_init_finished(conn->ssl)) {
        int rc = SSL_do_handshake(conn->ssl);
        if (rc != 1 && SSL_get_error(conn->ssl, rc) == SSL_ERROR_SSL) {
            ERR_clear_error();
            write_bytes(conn);
            conn_close(conn);
            return;
        }
        if (rc != 1)
            return;
        if (conn->server->options.no_settings) {
            conn->is_muted = true;
            uv_read_stop((uv_stream_t *)&conn->tcp);
            return;
        }
        start_session(conn);
    }
    uint8_t data[16384];
    int size;
    while (!conn->is_closing && (size = SSL_read(conn->ssl, data, sizeof(data))) > 0) {
        conn->is_receiving = true;
        ssize_t rc = nghttp2_session_mem_recv(conn->session, data, (size_t)size);
        conn->is_receiving = false;
        if (rc < 0)
            conn_close(conn);
    }
}

static void on_read(uv_stream_t *tcp, ssize_t size, const uv_buf_t *buffer)
{
    struct h2conn *conn = tcp->data;
    if (size < 0) {
        conn_close(conn);
    } else if (size > 0) {
        BIO_write(conn->in, buffer->base, (int)size);
        take_in(conn);
        if (!conn->is_closing)
            flush(conn);
    }
    OPENSSL_free(buffer->base);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)handle;
    buffer->base = OPENSSL_malloc(size);
    buffer->len = size;
}

static void on_connection(uv_stream_t *listener, int status)
{
    assert(status == 0);
    struct h2server *server = listener->data;
    struct h2conn *conn = OPENSSL_zalloc(sizeof(*conn));
    assert(conn);
    conn->server = server;
    uv_tcp_init(server->loop, &conn->tcp);
    conn->tcp.data = conn;
    uv_accept(listener, (uv_stream_t *)&conn->tcp);
    uv_tcp_nodelay(&conn->tcp, 1);
    conn->ssl = SSL_new(server->ssl_context);
    conn->in = BIO_new(BIO_s_mem());
    conn->out = BIO_new(BIO_s_mem());
    SSL_set_bio(conn->ssl, conn->in, conn->out);
    SSL_set_accept_state(conn->ssl);
    DL_APPEND(server->conns, conn);
    server->accepted++;
    uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read);
}

static void do_nothing(uv_handle_t *handle)
{
    (void)handle;
}

void h2conn_goaway(struct h2conn *conn, int32_t last_id, uint32_t code)
{
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, last_id, code, NULL, 0);
    flush(conn);
}

void h2conn_abort(struct h2conn *conn)
{
    if (conn->is_closing)
        return;
    conn->is_closing = true;
    DL_DELETE(conn->server->conns, conn);
    if (uv_tcp_close_reset(&conn->tcp, on_conn_closed) != 0)
        uv_close((uv_handle_t *)&conn->tcp, on_conn_closed);
}

void h2conn_mute(struct h2conn *conn, bool silent)
{
    conn->is_muted = silent;
    if (silent) {
        uv_read_stop((uv_stream_t *)&conn->tcp);
    } else {
        uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read);
        flush(conn);
    }
}

/* ---- answers ---- */

static ssize_t on_read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
    (void)session, (void)id, (void)user_data;
    struct h2stream *stream = source->ptr;
    size_t left = stream->out_size - stream->out_at;
    size_t part = left < room ? left : room;
    if (part == 0 && !stream->is_ended) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (part > 0)
        memcpy(to, stream->out + stream->out_at, part);
    stream->out_at += part;
    if (stream->out_at == stream->out_size && stream->is_ended)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)part;
}

static void add(nghttp2_nv *nv, size_t *count, const char *name, const char *value)
{
    if (value)
        nv[(*count)++] =
            (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0};
}

static void submit(struct h2stream *stream, int status, const char *content_type,
                   const char *retry_after, long content_length)
{
    char status_text[16], length_text[32];
    snprintf(status_text, sizeof(status_text), "%d", status);
    snprintf(length_text, sizeof(length_text), "%ld", content_length);
    nghttp2_nv nv[4];
    size_t count = 0;
    add(nv, &count, ":status", status_text);
    add(nv, &count, "content-type", content_type);
    add(nv, &count, "retry-after", retry_after);
    add(nv, &count, "content-length", content_length >= 0 ? length_text : NULL);
    nghttp2_data_provider body = {.source.ptr = stream, .read_callback = on_read_body};
    nghttp2_submit_response(stream->conn->session, stream->id, nv, count, &body);
    flush(stream->conn);
}

static void append(struct h2stream *stream, const void *data, size_t size)
{
    if (size == 0)
        return;
    stream->out = OPENSSL_realloc(stream->out, stream->out_size + size);
    assert(stream->out);
    memcpy(stream->out + stream->out_size, data, size);
    stream->out_size += size;
}

/* May be called within a callback of the session, where sending is not allowed: then on_read()
 * flushes. */
static void resume(struct h2stream *stream)
{
    if (stream->is_deferred) {
        stream->is_deferred = false;
        nghttp2_session_resume_data(stream->conn->session, stream->id);
        flush(stream->conn);
    }
}

void h2stream_respond(struct h2stream *stream, int status, const char *content_type,
                      const char *retry_after, const void *body, size_t size)
{
    append(stream, body, size);
    stream->is_ended = true;
    submit(stream, status, content_type, retry_after, (long)size);
}

void h2stream_json(struct h2stream *stream, int status, const char *json)
{
    h2stream_respond(stream, status, "application/json", NULL, json, strlen(json));
}

void h2stream_begin(struct h2stream *stream, int status, const char *content_type,
                    long content_length)
{
    submit(stream, status, content_type, NULL, content_length);
}

void h2stream_send(struct h2stream *stream, const void *data, size_t size)
{
    append(stream, data, size);
    resume(stream);
}

void h2stream_end(struct h2stream *stream)
{
    stream->is_ended = true;
    resume(stream);
}

void h2stream_reset(struct h2stream *stream, uint32_t code)
{
    struct h2conn *conn = stream->conn;
    nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream->id, code);
    flush(conn);
}

/* ---- life ---- */

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                       const unsigned char *in, unsigned in_size, void *context)
{
    (void)ssl;
    const char *wanted = ((const struct h2server *)context)->options.alpn;
    if (!wanted)
        wanted = "h2";
    for (unsigned i = 0; i < in_size; i += 1u + in[i]) {
        if (in[i] == strlen(wanted) && memcmp(in + i + 1, wanted, in[i]) == 0) {
            *out = in + i + 1;
            *out_size = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static SSL_CTX *make_context(struct h2server *server)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    BIO *bio = BIO_new_mem_buf(server->options.cert->cert_pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(server->options.cert->key_pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    int ok =
        SSL_CTX_use_certificate(context, cert) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1;
    assert(ok);
    X509_free(cert);
    EVP_PKEY_free(key);
    SSL_CTX_set_num_tickets(context, 0);
    if (server->options.alpn == NULL || *server->options.alpn)
        SSL_CTX_set_alpn_select_cb(context, choose_alpn, server);
    if (server->options.client_ca_pem) {
        bio = BIO_new_mem_buf(server->options.client_ca_pem, -1);
        cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        BIO_free(bio);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), cert);
        X509_free(cert);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return context;
}

static void listen_on(struct h2server *server, int port)
{
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", port, &address);
    uv_tcp_init(server->loop, &server->listener);
    server->listener.data = server;
    int rc = uv_tcp_bind(&server->listener, (const struct sockaddr *)&address, 0);
    assert(rc == 0);
    rc = uv_listen((uv_stream_t *)&server->listener, 128, on_connection);
    assert(rc == 0);
    int size = sizeof(address);
    rc = uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &size);
    assert(rc == 0);
    server->port = ntohs(address.sin_port);
    server->is_listening = true;
}

void h2server_start(struct h2server *server, uv_loop_t *loop,
                    const struct h2server_options *options)
{
    *server = (struct h2server){.loop = loop, .options = *options};
    server->ssl_context = make_context(server);
    listen_on(server, 0);
}

void h2server_listen_again(struct h2server *server)
{
    listen_on(server, server->port);
}

void h2server_stop_listening(struct h2server *server)
{
    if (!server->is_listening)
        return;
    server->is_listening = false;
    uv_close((uv_handle_t *)&server->listener, do_nothing);
    while (uv_is_active((uv_handle_t *)&server->listener))
        uv_run(server->loop, UV_RUN_NOWAIT);
    uv_run(server->loop, UV_RUN_NOWAIT);
}

void h2server_close(struct h2server *server)
{
    struct h2conn *conn, *next;
    DL_FOREACH_SAFE (server->conns, conn, next) {
        conn_close(conn);
    }
    h2server_stop_listening(server);
    SSL_CTX_free(server->ssl_context);
}
