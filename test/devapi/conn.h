/* A TLS connection on the loop: handshake, who the client is, and bytes in and out for the protocol
 * that ALPN chose.
 *
 * Output is pulled: whatever makes some marks the connection (dev_conn_mark), and before the loop
 * sleeps all marked ones are flushed, and broken ones torn down, in one place. So nothing is freed
 * below a protocol's callbacks. Loop thread only. */
#ifndef DEVAPI_CONN_H
#define DEVAPI_CONN_H

#include "test/devapi/exchange.h"
#include "test/devapi/text.h"

#include <openssl/ssl.h>
#include <uv.h>

struct dev_server;

struct dev_protocol {
    int (*start)(struct dev_conn *c);                                 /* 0 or negative errno */
    int (*input)(struct dev_conn *c, const char *bytes, size_t size); /* 0 or negative: broken */
    void (*output)(struct dev_conn *c, struct dev_text *out);         /* adds up to about 64 KiB */
    bool (*is_done)(struct dev_conn *c);                              /* close after the flush */
    void (*stop)(struct dev_conn *c);                                 /* frees everything */
};

struct dev_conn {
    struct dev_server *server;
    const struct dev_protocol *protocol; /* NULL during the handshake */
    void *session;                       /* the protocol's */
    uv_poll_t poll;
    int fd;
    SSL *ssl;
    int events; /* what poll waits for */
    bool is_marked, is_broken, wants_write;
    bool is_lingering; /* all was said; what still comes is read and forgotten */
    uint64_t accepted_ms, lingers_ms;
    struct dev_text out;
    size_t out_sent;
    char *user; /* of the client certificate; NULL: none was shown */
    char *groups[DEV_GROUPS_MAX];
    unsigned group_count;
    struct dev_conn *prev, *next; /* all */
    struct dev_conn *marked_prev, *marked_next;
};

/* Takes `fd`, connected and non-blocking. */
void dev_conn_accept(struct dev_server *server, int fd);
void dev_conn_mark(struct dev_conn *c);
/* Tears it down at the next flush, without further ado. */
void dev_conn_break(struct dev_conn *c);
/* Flushes the marked ones; from the server's prepare handle. */
void dev_conn_flush_marked(struct dev_server *server);
/* Handshakes and farewells that take too long are broken off. */
void dev_conn_sweep(struct dev_server *server, uint64_t now_ms);

extern const struct dev_protocol dev_http1, dev_http2;

#endif
