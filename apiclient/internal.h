/* What the parts of the client know of each other. Everything here: loop thread only.
 *
 *   client.c   the client object; one turn a loop iteration: finish, dispatch, flush
 *   pool.c     channels: which request goes on which connection, and when another one is opened
 *   conn.c     one connection: addresses, TCP, TLS, bytes in and out, dead peers
 *   h2.c       HTTP/2 on it: nghttp2's callbacks
 *   request.c  the life of a request: deadline, retries, the answer
 *   watch.c    list and watch, made of requests
 *
 * A request is on exactly one list: its channel's `waiting`, its connection's `calls`, the client's
 * `sleeping` (until a retry) or `finished` (its callback runs in the next turn). move() in
 * request.c is the only one that moves it. Callbacks of the user run in the turn, never while a
 * connection is being read, except a watch's, and nothing that they may do frees a connection: that
 * happens in uv_close's callback. */
#ifndef APICLIENT_INTERNAL_H
#define APICLIENT_INTERNAL_H

#include "apiclient/backoff.h"
#include "apiclient/config.h"
#include "apiclient/timers.h"
#include "isthmus/apiclient.h"

#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

/* The object that a member, of which we know the address, is part of. */
#define API_CONTAINER(pointer, type, member)                                                       \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define APICONN_MAX_ADDRESSES 8
#define APICONN_OUT_BYTES     16384 /* one TLS record */
#define APICONN_IN_BYTES      16384

struct apiconn;
struct apichannel;

/* ---- requests ---- */

enum apicall_state {
    APICALL_NEW,
    APICALL_WAITING,
    APICALL_ON_CONN,
    APICALL_SLEEPING,
    APICALL_FINISHED
};

/* For who wants the body as it comes (watches): called with status 200 only, first with NULL when
 * the answer begins; other bodies are collected. 0; negative: the request ends with this error;
 * positive: it has been cancelled meanwhile. */
typedef int (*apicall_stream_cb)(void *context, const char *data, size_t size);

struct apicall {
    struct apicall *prev, *next;
    enum apicall_state state;
    struct apiclient *client;
    struct apichannel *channel;
    struct apiconn *conn;  /* ON_CONN */
    int32_t stream_id;     /* ON_CONN */
    struct apitimer timer; /* deadline; SLEEPING: when to go on */
    apiclient_cb done;
    void *context;
    apicall_stream_cb on_data; /* NULL: the body is collected */

    const char *method, *path, *content_type, *impersonate_user, *impersonate_group; /* in `text` */
    size_t path_size;
    const char *body;
    size_t body_size, body_sent;
    uint64_t deadline_ms, retry_until_ms;
    enum apirequest_retry retry;

    unsigned attempts, refusals;               /* refusals: by REFUSED_STREAM */
    uint64_t token_generation, tls_generation; /* of the last attempt */
    bool sent;                                 /* this attempt's headers have left */
    bool may_have_happened;
    bool reloaded; /* a 401 was answered with newer credentials already */

    unsigned status;
    bool is_json, has_retry_after;
    uint64_t retry_after_ms;
    int error; /* why there is no answer */
    char *in;  /* the answer's body */
    size_t in_size, in_room;

    size_t text_room;
    char text[];
};

/* ---- connections ---- */

enum apiconn_state {
    APICONN_RESOLVING,
    APICONN_CONNECTING,
    APICONN_HANDSHAKING,
    APICONN_SETTLING, /* waits for the server's SETTINGS */
    APICONN_ACTIVE,
    APICONN_DRAINING, /* finishes what it has; no new requests */
    APICONN_CLOSED    /* waits for its handles to close */
};

struct apiconn {
    struct apiconn *prev, *next; /* in the channel; CLOSED: none */
    struct apiclient *client;
    struct apichannel *channel;
    enum apiconn_state state;
    struct apitimer timer;
    uint64_t started_ms, last_in_ms, ping_sent_ms; /* ping_sent_ms 0: none under way */

    uv_getaddrinfo_t resolve;
    struct sockaddr_storage addresses[APICONN_MAX_ADDRESSES];
    unsigned address_count, address_at;

    uv_poll_t poll;
    int fd;
    int events;       /* what poll waits for */
    unsigned handles; /* libuv's, not closed yet */
    SSL *ssl;
    uint64_t tls_generation;
    bool is_dirty;   /* there may be something to write */
    bool is_blocked; /* the socket takes no more for now */
    int last_error;
    struct errbuf why; /* words for last_error */

    nghttp2_session *session;
    struct apicall *calls;
    unsigned streams; /* open ones, abandoned ones too */
    unsigned stream_limit;
    bool has_answered;
    const uint8_t *chunk; /* of nghttp2, not yet in `out` */
    size_t chunk_size;
    size_t out_at, out_size;
    uint8_t out[APICONN_OUT_BYTES];
};

/* ---- channels and the client ---- */

struct apichannel {
    struct apiclient *client;
    struct apiclient_channel limits;
    struct apiconn *conns;
    struct apicall *waiting;
    unsigned waiting_count;
    unsigned connect_failures; /* in a row */
    uint64_t connect_after_ms; /* backoff */
    struct apitimer timer;     /* set to connect_after_ms while somebody waits for it */
};

struct apiclient {
    uv_loop_t *loop;
    struct apiconfig *config;
    uv_prepare_t prepare;
    uv_check_t check;
    struct apitimers timers;
    struct apitimer refresh;
    unsigned pending; /* libuv handles of its own, and connections that are not in the graveyard */
    bool is_closing;
    bool is_turning;
    void (*closed)(void *context);
    void *closed_context;

    uint64_t connect_timeout_ms, ping_idle_ms, ping_timeout_ms, retry_min_ms;
    size_t max_response_bytes;
    char *user_agent;
    char *bearer; /* NULL: none */
    uint64_t token_generation;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    struct apichannel channels[API_MAX_CHANNELS];
    unsigned channel_count;
    struct apiconn *graveyard; /* closed, nothing of libuv's left; freed at the next turn */
    struct apicall *sleeping, *finished;
    struct apicall *spare;
    unsigned spare_count;
    struct apiwatch *watches;
    struct apiretry_budget budget;
    uint64_t random;
    struct apiclient_stats stats;
    uint8_t in[APICONN_IN_BYTES];
};

/* client.c */
uint64_t apiclient_now(const struct apiclient *client);
uint64_t apiclient_random(struct apiclient *client);
/* One of `pending` is gone. */
void apiclient_release(struct apiclient *client);

/* pool.c */
int apichannel_init(struct apichannel *channel, struct apiclient *client,
                    const struct apiclient_channel *limits) __attribute__((warn_unused_result));
void apichannel_fini(struct apichannel *channel);
/* Puts waiting requests on connections; opens one if that is called for. */
void apichannel_dispatch(struct apichannel *channel);
/* A connection could not be made, or was lost before it was of use. */
void apichannel_connect_failed(struct apichannel *channel, int error);

/* conn.c */
int apiconn_open(struct apichannel *channel) __attribute__((warn_unused_result));
/* Ends it: `error` is what its requests get to know, `reason` what the log does. */
void apiconn_close(struct apiconn *conn, int error, const char *reason);
void apiconn_drain(struct apiconn *conn, const char *reason);
void apiconn_flush(struct apiconn *conn);
bool apiconn_has_room(const struct apiconn *conn);

/* h2.c */
int apih2_client_init(struct apiclient *client) __attribute__((warn_unused_result));
void apih2_client_fini(struct apiclient *client);
int apih2_start(struct apiconn *conn) __attribute__((warn_unused_result));
/* 0; negative: the request was not submitted (-ENOMEM), or the connection takes no more (-EAGAIN).
 */
int apih2_submit(struct apiconn *conn, struct apicall *call) __attribute__((warn_unused_result));
/* The request has ended for us: its stream is reset, what still comes on it is ignored. */
void apih2_abandon(struct apiconn *conn, const struct apicall *call);

/* request.c */
/* As apiclient_request(), with the body as it comes. */
int apicall_start(struct apiclient *client, const struct apirequest *request,
                  apicall_stream_cb on_data, struct apicall **call)
    __attribute__((warn_unused_result));
/* An attempt begins: the request is on this connection, as this stream. */
void apicall_put_on(struct apicall *call, struct apiconn *conn, int32_t stream_id);
void apicall_finish(struct apicall *call, int error); /* 0: with the answer it has */
void apicall_answered(struct apicall *call);          /* the answer is complete */
void apicall_lost(struct apicall *call, int error);   /* its connection or stream has broken */
void apicall_unprocessed(struct apicall *call);       /* the server provably did nothing with it */
void apicall_refused(struct apicall *call);           /* the same, by REFUSED_STREAM */
void apicall_header(struct apicall *call, const char *name, size_t name_size, const char *value,
                    size_t size);
void apicall_data(struct apicall *call, const char *data, size_t size);
bool apicall_run_finished(struct apiclient *client); /* whether there were any */
void apicall_end_all(struct apiclient *client);
void apicall_free_spares(struct apiclient *client);

/* watch.c */
void apiwatch_end_all(struct apiclient *client);

#endif
