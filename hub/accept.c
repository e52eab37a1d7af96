/* See accept.h.
 *
 * Failure modes: out of descriptors - accepting is muted for a moment, the kernel's backlog waits;
 * at --max-connections or draining - closed before TLS; too many wait, or one waits too long - the
 * oldest is closed; a PROXY header that is required but missing, malformed or late - closed. Every
 * one of them is counted with its reason. */
#include "hub/accept.h"

#include "hub/hub_metrics.h"
#include "hub/loop.h"
#include "hub/proxyproto.h"
#include "hub/ws.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

/* So many are accepted, and so many handshakes begun, before the loop turns to its sessions again.
 */
#define ACCEPTS_PER_TURN    256
#define HANDSHAKES_PER_TURN 8
#define MUTE_MS             100

/* A connection that waits for its handshake. */
struct arrival {
    struct admission_entry entry; /* first */
    int fd;
    struct sockaddr_in6 remote;
    uint64_t accepted_ms;
};

/* One whose PROXY header is awaited. It counts as a handshake in flight. */
struct proxied {
    struct arrival *arrival;
    struct acceptor *acceptor;
    struct proxied *next, *prev;
    uv_poll_t poll;
    uint64_t deadline_ms;
    bool is_adopted; /* what becomes of the socket when the handle is closed */
};

static void refuse(struct acceptor *a, struct arrival *arrival, enum refuse_reason reason)
{
    char remote[ADDRESS_TEXT_BYTES];
    address_format(&arrival->remote, remote);
    count(EDGE_REFUSED, reason, 1);
    log_limited(LOG_LEVEL_INFO, "edge_refused", F_STR("remote", remote),
                F_STR("reason", refuse_reason_names[reason]), F_STR("detail", "before TLS"),
                F_U64("after_ms", hub_loop_now(a->loop) - arrival->accepted_ms));
    close(arrival->fd);
    free(arrival);
    atomic_fetch_sub_explicit(&a->loop->hub->connections, 1, memory_order_relaxed);
}

/* ---- handshakes ---- */

static void adopt(struct acceptor *a, struct arrival *arrival)
{
    struct hub_loop *loop = a->loop;
    struct session *s = session_create(loop, &arrival->remote, arrival->accepted_ms);
    if (!s) {
        admission_done(&a->admission);
        refuse(a, arrival, REFUSE_NO_MEMORY);
        return;
    }
    int fd = arrival->fd;
    free(arrival);
    /* On every other failure session_on_gone() has seen to the session, or will. */
    if (ws_adopt(loop->ws, fd, s) == -ENOMEM) {
        session_refuse(s, REFUSE_NO_MEMORY, NULL);
        session_on_gone(s);
    }
}

/* ---- PROXY headers ---- */

static void on_proxied_closed(uv_handle_t *handle)
{
    struct proxied *p = handle->data;
    if (p->is_adopted)
        adopt(p->acceptor, p->arrival);
    free(p);
}

static void end_proxied(struct proxied *p, bool is_good)
{
    struct acceptor *a = p->acceptor;
    DL_DELETE(a->proxied, p);
    p->is_adopted = is_good;
    uv_close((uv_handle_t *)&p->poll, on_proxied_closed);
    if (is_good)
        return;
    admission_done(&a->admission);
    refuse(a, p->arrival, REFUSE_PROXY_HEADER);
}

static void take_source(struct arrival *arrival, const struct proxy_header *header)
{
    if (!header->has_source)
        return;
    if (header->source.ss_family == AF_INET6) {
        memcpy(&arrival->remote, &header->source, sizeof(arrival->remote));
        return;
    }
    struct sockaddr_in v4;
    memcpy(&v4, &header->source, sizeof(v4));
    address_map_v4(&v4, &arrival->remote);
}

/* Peeks, and takes only the header off the socket: what follows belongs to TLS. 1: done, 0: more is
 * needed. */
static int read_proxy_header(struct arrival *arrival)
{
    char bytes[PROXYPROTO_MAX];
    struct proxy_header header;
    ssize_t n = recv(arrival->fd, bytes, sizeof(bytes), MSG_PEEK);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    int size = proxyproto_parse(bytes, (size_t)n, &header);
    if (size <= 0)
        return size;
    if (recv(arrival->fd, bytes, (size_t)size, 0) != size)
        return -ECONNRESET;
    take_source(arrival, &header);
    return 1;
}

static void on_proxied_readable(uv_poll_t *poll, int status, int events)
{
    struct proxied *p = poll->data;
    (void)events;
    int rc = status < 0 ? status : read_proxy_header(p->arrival);
    if (rc == 0)
        uv_poll_stop(poll); /* the peeked bytes would wake us for ever: the next tick looks again */
    else
        end_proxied(p, rc > 0);
}

static void await_proxy_header(struct acceptor *a, struct arrival *arrival)
{
    struct proxied *p = calloc(1, sizeof(*p));
    if (!p || uv_poll_init(&a->loop->uv, &p->poll, arrival->fd) != 0) {
        free(p);
        admission_done(&a->admission);
        refuse(a, arrival, REFUSE_NO_MEMORY);
        return;
    }
    p->arrival = arrival;
    p->acceptor = a;
    p->poll.data = p;
    p->deadline_ms = hub_loop_now(a->loop) + a->loop->hub->config->handshake_timeout_ms;
    DL_APPEND(a->proxied, p);
    uv_poll_start(&p->poll, UV_READABLE, on_proxied_readable);
}

static void check_proxied(struct acceptor *a, uint64_t now_ms)
{
    struct proxied *p, *next;
    DL_FOREACH_SAFE (a->proxied, p, next) {
        if (p->deadline_ms <= now_ms)
            end_proxied(p, false);
        else if (!uv_is_active((uv_handle_t *)&p->poll))
            uv_poll_start(&p->poll, UV_READABLE, on_proxied_readable);
    }
}

/* ---- admission ---- */

static void begin(struct acceptor *a, struct arrival *arrival)
{
    const struct address_list *proxies = &a->loop->hub->proxies;
    if (address_list_has(proxies, &arrival->remote.sin6_addr))
        await_proxy_header(a, arrival);
    else
        adopt(a, arrival);
}

static void on_pump(uv_timer_t *timer)
{
    struct acceptor *a = timer->data;
    acceptor_pump(a);
}

/* The entry is the arrival's first member. */
static struct arrival *take_next(struct acceptor *a, uint64_t now_ms)
{
    struct admission_entry *entry = admission_next(&a->admission, now_ms);
    if (entry)
        count(HANDSHAKES_WAITING, 0, -1);
    return (struct arrival *)entry;
}

void acceptor_pump(struct acceptor *a)
{
    uint64_t now_ms = hub_loop_now(a->loop);
    struct arrival *arrival;
    if (!a->is_open || a->admission.waiting == 0)
        return;
    for (int i = 0; i < HANDSHAKES_PER_TURN && (arrival = take_next(a, now_ms)) != NULL; i++)
        begin(a, arrival);
    uint64_t wait_ms = admission_wait_ms(&a->admission, now_ms);
    if (wait_ms != UINT64_MAX)
        uv_timer_start(&a->pump, on_pump, wait_ms ? wait_ms : 1, 0);
}

void acceptor_turn(struct acceptor *a)
{
    admission_turned(&a->admission);
    acceptor_pump(a);
}

void acceptor_handshake_stepped(struct acceptor *a)
{
    admission_stepped(&a->admission);
}

void acceptor_handshake_done(struct acceptor *a)
{
    admission_done(&a->admission);
}

/* ---- accepting ---- */

static void enqueue(struct acceptor *a, struct arrival *arrival)
{
    struct admission_entry *dropped =
        admission_push(&a->admission, &arrival->entry, hub_loop_now(a->loop));
    count(HANDSHAKES_WAITING, 0, 1);
    if (!dropped)
        return;
    count(HANDSHAKES_WAITING, 0, -1);
    refuse(a, (struct arrival *)dropped, REFUSE_QUEUE_FULL);
}

static void take_in(struct acceptor *a, int fd, const struct sockaddr_in6 *peer)
{
    struct hub *hub = a->loop->hub;
    struct arrival *arrival = malloc(sizeof(*arrival));
    uint64_t before = atomic_fetch_add_explicit(&hub->connections, 1, memory_order_relaxed);
    count(EDGE_ACCEPTED, 0, 1);
    if (!arrival) {
        close(fd);
        count(EDGE_REFUSED, REFUSE_NO_MEMORY, 1);
        atomic_fetch_sub_explicit(&hub->connections, 1, memory_order_relaxed);
        return;
    }
    *arrival = (struct arrival){.fd = fd, .remote = *peer, .accepted_ms = hub_loop_now(a->loop)};
    if (hub_is_draining(hub))
        refuse(a, arrival, REFUSE_DRAINING);
    else if (before >= hub->config->max_connections)
        refuse(a, arrival, REFUSE_MAX_CONNECTIONS);
    else
        enqueue(a, arrival);
}

static void mute(struct acceptor *a, int error)
{
    log_limited(LOG_LEVEL_WARN, "accept_failed", F_STR("error", strerror(error)));
    uv_poll_stop(&a->poll);
    a->muted_until_ms = hub_loop_now(a->loop) + MUTE_MS;
}

static bool is_of_the_connection(int error)
{
    return error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN ||
           error == EHOSTUNREACH || error == ENETUNREACH;
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct acceptor *a = poll->data;
    (void)events;
    if (status < 0)
        return;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_in6 peer;
        int fd = socket_accept(a->fd, &peer);
        if (fd >= 0) {
            take_in(a, fd, &peer);
        } else if (fd == -EAGAIN) {
            break;
        } else if (!is_of_the_connection(-fd)) {
            mute(a, -fd);
            break;
        }
    }
    acceptor_pump(a);
}

static void listen_again(struct acceptor *a, uint64_t now_ms)
{
    if (a->muted_until_ms == 0 || now_ms < a->muted_until_ms)
        return;
    a->muted_until_ms = 0;
    uv_poll_start(&a->poll, UV_READABLE, on_listener);
}

void acceptor_tick(struct acceptor *a)
{
    uint64_t now_ms = hub_loop_now(a->loop);
    struct admission_entry *expired;
    if (a->fd >= 0)
        listen_again(a, now_ms);
    while ((expired = admission_expired(&a->admission, now_ms)) != NULL) {
        count(HANDSHAKES_WAITING, 0, -1);
        refuse(a, (struct arrival *)expired, REFUSE_QUEUE_TIMEOUT);
    }
    check_proxied(a, now_ms);
    admission_ticked(&a->admission, now_ms);
    acceptor_pump(a);
}

/* ---- life ---- */

int acceptor_init(struct acceptor *a, struct hub_loop *loop, int fd,
                  const struct admission_limits *limits)
{
    *a = (struct acceptor){.loop = loop, .fd = fd};
    admission_init(&a->admission, limits, uv_now(&loop->uv));
    int rc = uv_poll_init(&loop->uv, &a->poll, fd);
    if (rc != 0)
        return rc;
    rc = uv_timer_init(&loop->uv, &a->pump);
    assert(rc == 0);
    a->poll.data = a;
    a->pump.data = a;
    a->is_open = true;
    return uv_poll_start(&a->poll, UV_READABLE, on_listener);
}

void acceptor_stop(struct acceptor *a)
{
    struct admission_entry *waiting;
    if (a->fd < 0)
        return;
    uv_poll_stop(&a->poll);
    close(a->fd);
    a->fd = -1;
    while ((waiting = admission_pop(&a->admission)) != NULL) {
        count(HANDSHAKES_WAITING, 0, -1);
        refuse(a, (struct arrival *)waiting, REFUSE_DRAINING);
    }
}

void acceptor_close(struct acceptor *a)
{
    struct proxied *p, *next;
    if (!a->is_open)
        return;
    acceptor_stop(a);
    DL_FOREACH_SAFE (a->proxied, p, next)
        end_proxied(p, false);
    a->is_open = false;
    uv_close((uv_handle_t *)&a->poll, NULL);
    uv_close((uv_handle_t *)&a->pump, NULL);
}
