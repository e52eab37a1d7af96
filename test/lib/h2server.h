/* A scripted HTTP/2 server on the test's own loop: it does exactly what a test tells it, at the
 * frame where it tells it. The client under test runs on the same loop, so nothing races. */
#ifndef TEST_LIB_H2SERVER_H
#define TEST_LIB_H2SERVER_H

#include "test/lib/testcert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct h2server;
struct h2conn;

/* A request that has come in whole. Lives until its stream closes. */
struct h2stream {
    struct h2stream *prev, *next;
    struct h2server *server;
    struct h2conn *conn;
    int32_t id;
    char method[16], path[1024], authority[128], content_type[128], authorization[256],
        impersonate_user[128], impersonate_group[128], user_agent[64];
    char *body;
    size_t size, room;
    void *data; /* the test's */
    /* what goes out */
    char *out;
    size_t out_size, out_at;
    bool is_ended, is_deferred;
};

typedef void (*h2server_request_cb)(void *context, struct h2stream *stream);

struct h2server_options {
    const struct testcert *cert; /* the server's */
    const char *client_ca_pem;   /* clients need a certificate of this CA; NULL: they need none */
    const char *alpn;            /* NULL: "h2"; "": none */
    uint32_t max_streams;        /* 0: 100 */
    bool no_settings;            /* says nothing after the handshake */
    h2server_request_cb on_request; /* runs for each request */
    void *context;
};

struct h2server {
    uv_loop_t *loop;
    struct h2server_options options;
    void *ssl_context;
    uv_tcp_t listener;
    int port;
    bool is_listening;
    struct h2conn *conns;
    unsigned accepted, requests, pings, resets; /* counted */
};

void h2server_start(struct h2server *server, uv_loop_t *loop,
                    const struct h2server_options *options);
/* On a port that was this server's before; the listener was stopped by h2server_stop_listening().
 */
void h2server_listen_again(struct h2server *server);
void h2server_stop_listening(struct h2server *server);
/* Closes everything and runs the loop until that is done. */
void h2server_close(struct h2server *server);

/* An answer in one go; content_type and retry_after may be NULL. */
void h2stream_respond(struct h2stream *stream, int status, const char *content_type,
                      const char *retry_after, const void *body, size_t size);
void h2stream_json(struct h2stream *stream, int status, const char *json);
/* An answer bit by bit; content_length < 0: not announced. */
void h2stream_begin(struct h2stream *stream, int status, const char *content_type,
                    long content_length);
void h2stream_send(struct h2stream *stream, const void *data, size_t size);
void h2stream_end(struct h2stream *stream);
void h2stream_reset(struct h2stream *stream, uint32_t code);

void h2conn_goaway(struct h2conn *conn, int32_t last_id, uint32_t code);
void h2conn_abort(struct h2conn *conn);             /* RST */
void h2conn_mute(struct h2conn *conn, bool silent); /* neither reads nor writes: a dead peer */
void h2conn_max_streams(struct h2conn *conn, uint32_t max);

#endif
