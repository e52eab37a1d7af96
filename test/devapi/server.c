/* See server.h. */
#include "test/devapi/server.h"
#include "isthmus/log.h"
#include "isthmus/options.h"
#include "test/devapi/handler.h"
#include "test/devapi/watch.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define ACCEPTS_PER_TURN 64
#define BACKLOG          1024

/* ---- listening ---- */

static void on_acceptable(uv_poll_t *handle, int status, int events)
{
    struct dev_listener *l = handle->data;
    (void)events;
    for (int i = 0; status == 0 && i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                log_limited(LOG_LEVEL_ERROR, "accept_failed", F_STR("why", strerror(errno)));
            return;
        }
        if (l->server->conn_count >= l->server->conn_max) {
            log_limited(LOG_LEVEL_WARN, "connection_refused", F_U64("max", l->server->conn_max));
            close(fd);
            continue;
        }
        dev_conn_accept(l->server, fd);
    }
}

static int listen_on(struct dev_server *server, const struct addrinfo *a)
{
    int one = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (a->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    struct dev_listener *l = &server->listeners[server->listener_count];
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0 ||
        uv_poll_init_socket(server->loop, &l->poll, fd) != 0) {
        int rc = errno ? -errno : -EINVAL;
        close(fd);
        return rc;
    }
    l->server = server;
    l->fd = fd;
    l->poll.data = l;
    server->listener_count++;
    return uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
}

int dev_server_listen(struct dev_server *server, const char *address, struct errbuf *e)
{
    char host[256], port[8];
    uint16_t number;
    if (options_parse_address(address, host, &number) != 0) {
        errbuf_set(e, "address '%s': want HOST:PORT", address);
        return -EINVAL;
    }
    snprintf(port, sizeof(port), "%u", number);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    int rc = getaddrinfo(host[0] ? host : NULL, port, &hints, &found);
    if (rc != 0) {
        errbuf_set(e, "address '%s': %s", address, gai_strerror(rc));
        return -EADDRNOTAVAIL;
    }
    rc = -EADDRNOTAVAIL;
    for (struct addrinfo *a = found; a && server->listener_count < DEV_LISTENERS_MAX;
         a = a->ai_next)
        rc = listen_on(server, a);
    freeaddrinfo(found);
    if (server->listener_count > 0)
        return 0;
    errbuf_set(e, "address '%s': %s", address, strerror(-rc));
    return rc;
}

/* ---- waiting ---- */

/* One queue for each duration that is in force, so that new ones nearly always go to the end. */
void dev_server_wait(struct dev_exchange *x, int queue, uint64_t delay_ms)
{
    struct dev_server *server = x->server;
    struct dev_exchange **head = &server->waiting[queue];
    x->due_ms = uv_now(server->loop) + delay_ms;
    x->waits_in = queue;
    server->waiting_count[queue]++;
    struct dev_exchange *after = *head ? (*head)->prev : NULL;
    while (after && after->due_ms > x->due_ms && after != *head)
        after = after->prev;
    if (!after)
        DL_APPEND(*head, x);
    else if (after->due_ms > x->due_ms)
        DL_PREPEND(*head, x);
    else
        DL_APPEND_ELEM(*head, after, x);
}

static void leave_queue(struct dev_exchange *x)
{
    struct dev_server *server = x->server;
    DL_DELETE(server->waiting[x->waits_in], x);
    server->waiting_count[x->waits_in]--;
    x->waits_in = -1;
}

void dev_server_abandon(struct dev_exchange *x)
{
    if (x->waits_in < 0)
        return;
    leave_queue(x);
    x->server->abandoned++;
}

static void arm_wait_timer(struct dev_server *server);

static void on_wait_timer(uv_timer_t *timer)
{
    struct dev_server *server = timer->data;
    uint64_t now_ms = uv_now(server->loop);
    for (size_t i = 0; i < DEV_QUEUES; i++) {
        struct dev_exchange *x;
        while ((x = server->waiting[i]) && x->due_ms <= now_ms) {
            leave_queue(x);
            dev_handle_ready(x);
        }
    }
}

static void arm_wait_timer(struct dev_server *server)
{
    uint64_t now_ms = uv_now(server->loop), due_ms = UINT64_MAX;
    for (size_t i = 0; i < DEV_QUEUES; i++) {
        if (server->waiting[i] && server->waiting[i]->due_ms < due_ms)
            due_ms = server->waiting[i]->due_ms;
    }
    if (due_ms == UINT64_MAX) {
        uv_timer_stop(&server->wait_timer);
        return;
    }
    uv_timer_start(&server->wait_timer, on_wait_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* ---- the loop ---- */

static void on_prepare(uv_prepare_t *prepare)
{
    struct dev_server *server = prepare->data;
    dev_conn_flush_marked(server);
    arm_wait_timer(server);
}

static void on_second(uv_timer_t *timer)
{
    struct dev_server *server = timer->data;
    dev_conn_sweep(server, uv_now(server->loop));
    dev_watch_tick(server, uv_now(server->loop));
    if (server->journal)
        fflush(server->journal);
}

int dev_server_start(struct dev_server *server)
{
    server->prepare.data = server->wait_timer.data = server->second_timer.data = server;
    int rc = uv_prepare_init(server->loop, &server->prepare);
    if (rc == 0)
        rc = uv_timer_init(server->loop, &server->wait_timer);
    if (rc == 0)
        rc = uv_timer_init(server->loop, &server->second_timer);
    if (rc == 0)
        rc = uv_prepare_start(&server->prepare, on_prepare);
    if (rc == 0)
        rc = uv_timer_start(&server->second_timer, on_second, 1000, 1000);
    return rc;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct dev_listener *l = handle->data;
    close(l->fd);
}

void dev_server_stop(struct dev_server *server)
{
    struct dev_conn *c;
    for (size_t i = 0; i < server->listener_count; i++)
        uv_close((uv_handle_t *)&server->listeners[i].poll, on_listener_closed);
    DL_FOREACH (server->conns, c)
        dev_conn_break(c);
    dev_conn_flush_marked(server);
    assert(!server->conns);
    uv_close((uv_handle_t *)&server->prepare, NULL);
    uv_close((uv_handle_t *)&server->wait_timer, NULL);
    uv_close((uv_handle_t *)&server->second_timer, NULL);
    dev_snapshots_drop(server);
}
