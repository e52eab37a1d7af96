/* See notify.h. */
#include "hub/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fail(struct errbuf *e, const char *name, const char *value)
{
    errbuf_set(e, "%s: '%.100s' is not what systemd writes", name, value);
    return -EINVAL;
}

static int read_number(const char *name, const char *text, uint64_t *value, struct errbuf *e)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return fail(e, name, text);
    return 0;
}

static int read_watchdog(struct notify *n, const struct notify_environment *v, struct errbuf *e)
{
    uint64_t pid = (uint64_t)getpid(), us;
    if (!v->watchdog_us)
        return 0;
    if (v->watchdog_pid && read_number("WATCHDOG_PID", v->watchdog_pid, &pid, e) != 0)
        return -EINVAL;
    if (read_number("WATCHDOG_USEC", v->watchdog_us, &us, e) != 0)
        return -EINVAL;
    if (pid == (uint64_t)getpid() && us > 0)
        n->watchdog_ms = us / 2000 > 0 ? us / 2000 : 1;
    return 0;
}

/* An abstract name has no NUL at its end: what counts is the size. */
static int read_address(struct notify *n, const char *text, struct errbuf *e)
{
    size_t size = strlen(text);
    if ((*text != '/' && *text != '@') || size < 2 || size >= sizeof(n->to.sun_path))
        return fail(e, "NOTIFY_SOCKET", text);
    n->to.sun_family = AF_UNIX;
    memcpy(n->to.sun_path, text, size);
    if (*text == '@')
        n->to.sun_path[0] = '\0';
    n->to_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return 0;
}

int notify_open(struct notify *n, const struct notify_environment *v, struct errbuf *e)
{
    *n = (struct notify){.fd = -1};
    if (!v->socket)
        return 0;
    int rc = read_address(n, v->socket, e);
    if (rc == 0)
        rc = read_watchdog(n, v, e);
    if (rc != 0)
        return rc;
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd >= 0)
        return 0;
    errbuf_set(e, "NOTIFY_SOCKET: %s", strerror(errno));
    return -errno;
}

int notify_open_here(struct notify *n, struct errbuf *e)
{
    const struct notify_environment here = {.socket = getenv("NOTIFY_SOCKET"),
                                            .watchdog_us = getenv("WATCHDOG_USEC"),
                                            .watchdog_pid = getenv("WATCHDOG_PID")};
    return notify_open(n, &here, e);
}

void notify_close(struct notify *n)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

static void tell(const struct notify *n, const char *text)
{
    if (n->fd >= 0)
        (void)sendto(n->fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&n->to,
                     n->to_size);
}

void notify_ready(const struct notify *n, const char *status)
{
    char text[256];
    snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
    tell(n, text);
}

/* Type=notify-reload wants to know when the reload began, on CLOCK_MONOTONIC. */
void notify_reloading(const struct notify *n)
{
    char text[64];
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000);
    tell(n, text);
}

void notify_stopping(const struct notify *n)
{
    tell(n, "STOPPING=1\nSTATUS=Stopping");
}

bool notify_is_due(const struct notify *n, uint64_t now_ms)
{
    return n->fd >= 0 && n->watchdog_ms > 0 && now_ms >= n->next_ms;
}

void notify_life(struct notify *n, bool is_live, uint64_t now_ms)
{
    n->next_ms = now_ms + n->watchdog_ms;
    if (is_live)
        tell(n, "WATCHDOG=1");
}
