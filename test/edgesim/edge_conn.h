/* A connection as EdgeHub makes it: TCP, TLS without ALPN and without resumption, the websocket
 * upgrade, frames.
 *
 * Happy path: edge_conn_dial(), on_open, on_message for each whole message, edge_conn_send(),
 * edge_conn_close(). Failure modes: on_failed before it is open, on_end after; the connection is
 * then closed already, and freed once libuv has let its handle go. No call calls back before it
 * returns. Idle connections keep no buffers: frames are parsed in a context that exists only while
 * a frame is incomplete. Everything belongs to the loop's thread. */
#ifndef EDGE_CONN_H
#define EDGE_CONN_H

#include "test/edgesim/edge_certs.h"
#include "test/edgesim/edge_stats.h"
#include "test/edgesim/edge_text.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <uv.h>
#include <wslay/wslay.h>

struct edge_conn;

struct edge_conn_events {
    void (*on_open)(void *owner);
    void (*on_failed)(void *owner, enum edge_dial_failure why);
    void (*on_message)(void *owner, const char *text, size_t size);
    void (*on_drained)(void *owner); /* what had been held up has left */
    void (*on_end)(void *owner, enum edge_end why);
};

/* What the connections of a process share. */
struct edge_net {
    uv_loop_t *loop;
    SSL_CTX *tls;
    struct edge_stats *stats;
    const struct edge_conn_events *events;
    uint64_t write_deadline_us;
    struct edge_text wire;           /* frames on their way to TLS */
    wslay_frame_context_ptr encoder; /* writes to `wire` */
    char *read_buffer;
    uint64_t mask_state;
    uint32_t live; /* connections not freed yet */
};

/* Borrows what it is given until fini. 0, or -errno and `e`. max_tls: 0 or TLS1_2_VERSION. */
int edge_net_init(struct edge_net *net, uv_loop_t *loop, const char *ca_file, int max_tls,
                  struct errbuf *e);
/* One more authority that servers' certificates may come from; ca_file may be NULL then. 0,
 * -ENOMEM. */
int edge_net_trust(struct edge_net *net, X509 *ca);
void edge_net_fini(struct edge_net *net); /* after the last connection was freed */

struct edge_target {
    struct sockaddr_storage address;
    socklen_t address_size;
    char host[256];      /* as the server's certificate must have it */
    bool is_name;        /* a DNS name, not an address */
    char authority[280]; /* host and port for the Host header */
};
/* Resolves HOST:PORT (blocks). 0, or -errno and `e`. */
int edge_target_resolve(struct edge_target *target, const char *text, struct errbuf *e);

struct edge_dial {
    const struct edge_target *target;
    const char *node;         /* for the path and the header */
    const char *cert_node;    /* whose certificate; NULL: none */
    struct edge_certs *certs; /* where it comes from */
    struct edge_cert *cert;   /* the cache for it */
    unsigned tries;           /* Connectionuse is repeated as often */
    uint32_t source;          /* local address, host order; 0: the system's choice */
    bool stalls_handshake;    /* the first flight leaves byte by byte, by edge_conn_trickle() */
};

/* Borrows `dial` until return, its cert until the end. NULL with `why` when not even a socket was
 * to be had. */
struct edge_conn *edge_conn_dial(struct edge_net *net, const struct edge_dial *dial, void *owner,
                                 enum edge_dial_failure *why);
/* Ends it without a callback: `gentle` says goodbye as a process that ends (TLS close_notify), else
 * the peer gets a reset. The owner is not called again. */
void edge_conn_close(struct edge_conn *c, bool gentle);

/* One message in frames of 4096 bytes. False: the link is gone or stuck (the write deadline); the
 * caller closes it. */
bool edge_conn_send(struct edge_conn *c, const char *text, size_t size, uint64_t now_us);
bool edge_conn_is_blocked(const struct edge_conn *c);
/* Whether that has lasted longer than a write may take. */
bool edge_conn_is_stuck(const struct edge_conn *c, uint64_t now_us);
size_t edge_conn_unsent(const struct edge_conn *c);

/* For ill-behaved peers: a frame of any kind (claimed_size 0: as long as the payload), or raw
 * bytes. */
struct edge_frame {
    uint8_t opcode;
    bool fin;
    const char *payload;
    size_t size;
    uint64_t claimed_size;
};
bool edge_conn_send_frame(struct edge_conn *c, const struct edge_frame *frame, uint64_t now_us);
bool edge_conn_send_raw(struct edge_conn *c, const char *bytes, size_t size, uint64_t now_us);
/* The next byte of a stalled handshake; false when the connection is gone. */
bool edge_conn_trickle(struct edge_conn *c);
/* Stops or resumes reading. */
void edge_conn_set_reading(struct edge_conn *c, bool reading);

/* The steady clock, in microseconds. */
uint64_t edge_clock_us(void);

#endif
