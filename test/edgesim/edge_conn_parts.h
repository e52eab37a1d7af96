/* What the files of a connection share. See edge_conn.h. */
#ifndef EDGE_CONN_PARTS_H
#define EDGE_CONN_PARTS_H

#include "test/edgesim/edge_conn.h"

enum edge_conn_state {
    EDGE_CONN_CONNECTING, /* TCP */
    EDGE_CONN_STALLING,   /* a handshake held back on purpose */
    EDGE_CONN_HANDSHAKING,
    EDGE_CONN_UPGRADING,
    EDGE_CONN_OPEN,
    EDGE_CONN_CLOSED
};

struct edge_conn_decoder; /* exists while a frame is incomplete */

struct edge_conn {
    uv_poll_t poll;
    struct edge_net *net;
    void *owner;
    SSL *ssl;
    int fd;
    enum edge_conn_state state;
    int polled; /* the events asked of libuv */
    bool wants_write, is_deaf, is_stalled_dial;
    uint8_t opcode;       /* of the message being assembled */
    char accept[32];      /* what Sec-WebSocket-Accept must say */
    struct edge_text out; /* not taken by TLS yet */
    size_t out_done;
    uint64_t out_since_us;
    struct edge_text in; /* the upgrade's answer, then messages in several pieces */
    struct edge_conn_decoder *decoder;
};

/* Ends it from our side and tells the owner. */
void edge_conn_fail(struct edge_conn *c, enum edge_dial_failure why);
void edge_conn_end(struct edge_conn *c, enum edge_end why);
void edge_conn_poll(struct edge_conn *c);
bool edge_conn_flush(struct edge_conn *c);
bool edge_conn_send_control(struct edge_conn *c, uint8_t opcode, const char *payload, size_t size);

/* A frame that claims more than it has leaves the encoder in the middle of it: the next frame needs
 * a new one. 0 or -ENOMEM. */
int edge_net_new_encoder(struct edge_net *net);

/* Bytes of the websocket stream. Afterwards the connection may be closed. */
void edge_conn_feed(struct edge_conn *c, const char *bytes, size_t size);
void edge_conn_decoder_free(struct edge_conn *c);

/* The upgrade. */
bool edge_conn_upgrade_request(struct edge_conn *c, const struct edge_dial *dial);
void edge_conn_upgrade_feed(struct edge_conn *c, const char *bytes, size_t size);

#endif
