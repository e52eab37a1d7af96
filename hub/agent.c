/* See agent.h. Nothing is read: what the checker sends is none of our business, and its line fits
 * into any socket buffer. So a connection is answered and closed at once, and none is ever kept. */
#include "hub/agent.h"

#include "hub/socket.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64

struct agent {
    int fd;
    uv_poll_t poll;
    unsigned (*percent)(void *context);
    void *context;
};

void agent_line(unsigned percent, char line[AGENT_LINE_BYTES])
{
    if (percent == 0)
        snprintf(line, AGENT_LINE_BYTES, "up drain\n");
    else
        snprintf(line, AGENT_LINE_BYTES, "up ready %u%%\n", percent > 100 ? 100 : percent);
}

static void answer(const struct agent *a, int fd)
{
    char line[AGENT_LINE_BYTES];
    agent_line(a->percent(a->context), line);
    /* A new connection's buffer is empty: it is taken whole, or the checker has left already. */
    ssize_t n = write(fd, line, strlen(line));
    (void)n;
    close(fd);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct agent *a = poll->data;
    struct sockaddr_in6 peer;
    (void)events;
    for (int i = 0; status == 0 && i < ACCEPTS_PER_TURN; i++) {
        int fd = socket_accept(a->fd, &peer);
        if (fd >= 0)
            answer(a, fd);
        else if (fd != -EINTR && fd != -ECONNABORTED)
            break; /* out of descriptors, too: the next turn tries again */
    }
}

int agent_create(uv_loop_t *loop, const char *address, unsigned (*percent)(void *context),
                 void *context, struct agent **out, struct errbuf *e)
{
    uint16_t port;
    struct agent *a = calloc(1, sizeof(*a));
    if (!a) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    *a = (struct agent){.percent = percent, .context = context};
    a->fd = socket_listen(address, &port, e);
    if (a->fd < 0) {
        int rc = a->fd;
        errbuf_wrap(e, "--agent-address");
        free(a);
        return rc;
    }
    int rc = uv_poll_init(loop, &a->poll, a->fd);
    assert(rc == 0); /* a socket of ours */
    a->poll.data = a;
    uv_poll_start(&a->poll, UV_READABLE, on_listener);
    *out = a;
    return 0;
}

void agent_close(struct agent *a)
{
    if (!a)
        return;
    uv_close((uv_handle_t *)&a->poll, NULL);
    close(a->fd);
    a->fd = -1;
}

void agent_destroy(struct agent *a)
{
    free(a);
}
