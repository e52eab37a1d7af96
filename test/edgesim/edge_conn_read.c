/* What comes in on a connection: the upgrade's answer, then frames that become messages. See
 * edge_conn.h. */
#include "test/edgesim/edge_conn_parts.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PROJECT_ID        "e632aba927ea4ac2b575ec1603d56f10"
#define UPGRADE_MAX_BYTES 16384
#define MESSAGE_MAX_BYTES (64u << 20)
#define CONTROL_MAX_BYTES 125

/* --- the upgrade --- */

static bool make_key(char key[32], char accept[32])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char nonce[16], digest[20];
    char joined[80];
    if (RAND_bytes(nonce, sizeof(nonce)) != 1)
        return false;
    EVP_EncodeBlock((unsigned char *)key, nonce, sizeof(nonce));
    stpcpy(stpcpy(joined, key), guid);
    if (EVP_Digest(joined, strlen(joined), digest, NULL, EVP_sha1(), NULL) != 1)
        return false;
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest));
    return true;
}

/* In the order in which Go writes them. */
bool edge_conn_upgrade_request(struct edge_conn *c, const struct edge_dial *dial)
{
    char key[32];
    if (!make_key(key, c->accept))
        return false;
    edge_text_printf(&c->out,
                     "GET /" PROJECT_ID
                     "/%s/events HTTP/1.1\r\nHost: %s\r\nUser-Agent: Go-http-client/1.1\r\n"
                     "Connection: Upgrade\r\n",
                     dial->node, dial->target->authority);
    for (unsigned i = 0; i < (dial->tries ? dial->tries : 1); i++)
        edge_text_str(&c->out, "Connectionuse: msg\r\n");
    edge_text_printf(&c->out,
                     "Node_id: %s\r\nProject_id: " PROJECT_ID "\r\nSec-WebSocket-Key: %s\r\n"
                     "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n",
                     dial->node, key);
    return edge_text_ok(&c->out);
}

static enum edge_dial_failure failure_of_status(const char *head, size_t size)
{
    if (size < 12 || memcmp(head, "HTTP/1.", 7) != 0)
        return EDGE_DIAL_UPGRADE;
    if (memcmp(head + 9, "503", 3) == 0)
        return EDGE_DIAL_HTTP_503;
    if (memcmp(head + 9, "403", 3) == 0)
        return EDGE_DIAL_HTTP_403;
    return memcmp(head + 9, "101", 3) == 0 ? EDGE_DIAL_FAILURES : EDGE_DIAL_HTTP_OTHER;
}

static bool accepts(const struct edge_conn *c, const char *head, size_t size)
{
    static const char name[] = "\r\nsec-websocket-accept:";
    for (const char *p = head; p + sizeof(name) < head + size; p++) {
        if (*p != '\r' || strncasecmp(p, name, sizeof(name) - 1) != 0)
            continue;
        p += sizeof(name) - 1;
        while (*p == ' ')
            p++;
        size_t n = strlen(c->accept);
        return (size_t)(head + size - p) >= n && memcmp(p, c->accept, n) == 0;
    }
    return false;
}

void edge_conn_upgrade_feed(struct edge_conn *c, const char *bytes, size_t size)
{
    edge_text_append(&c->in, bytes, size);
    const char *stop = edge_text_ok(&c->in) ? memmem(c->in.at, c->in.size, "\r\n\r\n", 4) : NULL;
    if (!stop) {
        if (!edge_text_ok(&c->in) || c->in.size > UPGRADE_MAX_BYTES)
            edge_conn_fail(c, EDGE_DIAL_UPGRADE);
        return;
    }
    size_t head_size = (size_t)(stop - c->in.at) + 4;
    enum edge_dial_failure failure = failure_of_status(c->in.at, head_size);
    if (failure == EDGE_DIAL_FAILURES && !accepts(c, c->in.at, head_size))
        failure = EDGE_DIAL_UPGRADE;
    if (failure != EDGE_DIAL_FAILURES) {
        edge_conn_fail(c, failure);
        return;
    }
    struct edge_text head = c->in;
    edge_text_init(&c->in);
    c->state = EDGE_CONN_OPEN;
    c->net->events->on_open(c->owner);
    if (c->state == EDGE_CONN_OPEN && head.size > head_size)
        edge_conn_feed(c, head.at + head_size, head.size - head_size);
    edge_text_fini(&head);
}

/* --- frames --- */

struct edge_conn_decoder {
    wslay_frame_context_ptr context;
    const char *at; /* what the context has not taken yet */
    size_t size;
    uint64_t taken,
        used;      /* by the context; by complete pieces of frames: equal at a frame's boundary */
    uint64_t left; /* of the frame's payload */
    bool fin;
    uint8_t opcode;
    size_t control_size;
    char control[CONTROL_MAX_BYTES];
};

static ssize_t give_bytes(uint8_t *buf, size_t len, int flags, void *user_data)
{
    struct edge_conn_decoder *d = user_data;
    size_t n = d->size < len ? d->size : len;
    (void)flags;
    memcpy(buf, d->at, n);
    d->at += n;
    d->size -= n;
    d->taken += n;
    return n > 0 ? (ssize_t)n : -1; /* nothing more now: wslay says WANT_READ */
}

static struct edge_conn_decoder *new_decoder(void)
{
    const struct wslay_frame_callbacks callbacks = {.recv_callback = give_bytes};
    struct edge_conn_decoder *d = calloc(1, sizeof(*d));
    if (d && wslay_frame_context_init(&d->context, &callbacks, d) == 0)
        return d;
    free(d);
    return NULL;
}

void edge_conn_decoder_free(struct edge_conn *c)
{
    if (!c->decoder)
        return;
    wslay_frame_context_free(c->decoder->context);
    free(c->decoder);
    c->decoder = NULL;
}

static bool is_control(uint8_t opcode)
{
    return (opcode & 8) != 0;
}

static size_t header_size(const struct wslay_frame_iocb *f)
{
    return 2u +
           (f->payload_length < 126     ? 0u
            : f->payload_length < 65536 ? 2u
                                        : 8u) +
           (f->mask ? 4u : 0u);
}

/* What gorilla's reader insists on. */
static bool begins_well(const struct edge_conn *c, const struct wslay_frame_iocb *f)
{
    if (f->rsv || f->mask ||
        (is_control(f->opcode) && (!f->fin || f->payload_length > CONTROL_MAX_BYTES)))
        return false;
    if (f->opcode == WSLAY_CONTINUATION_FRAME)
        return c->opcode != 0;
    if (f->opcode == WSLAY_TEXT_FRAME || f->opcode == WSLAY_BINARY_FRAME)
        return c->opcode == 0;
    return f->opcode == WSLAY_CONNECTION_CLOSE || f->opcode == WSLAY_PING ||
           f->opcode == WSLAY_PONG;
}

static void count_close_code(struct edge_conn *c, const struct edge_conn_decoder *d)
{
    struct edge_stats *s = c->net->stats;
    unsigned code = d->control_size >= 2
                        ? (unsigned)(uint8_t)d->control[0] << 8 | (uint8_t)d->control[1]
                        : 1005;
    if (code >= 1000 && code <= 1015)
        s->close_codes_1000_1015[code - 1000]++;
    else
        s->close_codes_other++;
}

static void control_done(struct edge_conn *c, const struct edge_conn_decoder *d)
{
    if (d->opcode == WSLAY_PING) {
        edge_conn_send_control(c, WSLAY_PONG, d->control, d->control_size);
    } else if (d->opcode == WSLAY_CONNECTION_CLOSE) {
        count_close_code(c, d);
        edge_conn_send_control(c, WSLAY_CONNECTION_CLOSE, d->control, d->control_size < 2 ? 0 : 2);
        edge_conn_end(c, EDGE_END_CLOSE_FRAME);
    }
}

static void message_done(struct edge_conn *c)
{
    struct edge_text message = c->in;
    edge_text_init(&c->in);
    c->opcode = 0;
    c->net->events->on_message(c->owner, message.size ? message.at : "", message.size);
    edge_text_fini(&message);
}

static bool take_payload(struct edge_conn *c, struct edge_conn_decoder *d,
                         const struct wslay_frame_iocb *f)
{
    if (is_control(d->opcode)) {
        if (d->control_size + f->data_length > CONTROL_MAX_BYTES)
            return false;
        if (f->data_length)
            memcpy(d->control + d->control_size, f->data, f->data_length);
        d->control_size += f->data_length;
        return true;
    }
    edge_text_append(&c->in, (const char *)f->data, f->data_length);
    return edge_text_ok(&c->in) && c->in.size <= MESSAGE_MAX_BYTES;
}

static bool begin_frame(struct edge_conn *c, struct edge_conn_decoder *d,
                        const struct wslay_frame_iocb *f)
{
    if (!begins_well(c, f))
        return false;
    d->opcode = f->opcode;
    d->fin = f->fin;
    d->left = f->payload_length;
    d->control_size = 0;
    d->used += header_size(f);
    if (f->opcode == WSLAY_TEXT_FRAME || f->opcode == WSLAY_BINARY_FRAME)
        c->opcode = f->opcode;
    return true;
}

/* One piece of a frame; false: not websocket any more. */
static bool take_piece(struct edge_conn *c, struct edge_conn_decoder *d,
                       const struct wslay_frame_iocb *f, bool *in_frame)
{
    if (!*in_frame && !begin_frame(c, d, f))
        return false;
    if (!take_payload(c, d, f))
        return false;
    d->used += f->data_length;
    d->left -= f->data_length;
    *in_frame = d->left > 0;
    if (*in_frame)
        return true;
    if (is_control(d->opcode))
        control_done(c, d);
    else if (d->fin)
        message_done(c);
    return true;
}

void edge_conn_feed(struct edge_conn *c, const char *bytes, size_t size)
{
    struct edge_conn_decoder *d = c->decoder ? c->decoder : (c->decoder = new_decoder());
    if (!d) {
        edge_conn_end(c, EDGE_END_PROTOCOL);
        return;
    }
    d->at = bytes;
    d->size = size;
    bool in_frame = d->left > 0;
    for (;;) {
        struct wslay_frame_iocb frame = {0};
        ssize_t n = wslay_frame_recv(d->context, &frame);
        if (n == WSLAY_ERR_WANT_READ)
            break;
        if (n < 0 || !take_piece(c, d, &frame, &in_frame)) {
            edge_conn_end(c, EDGE_END_PROTOCOL);
            return;
        }
        if (c->state != EDGE_CONN_OPEN)
            return; /* and the decoder is gone */
    }
    if (d->taken == d->used && !in_frame)
        edge_conn_decoder_free(c);
}
