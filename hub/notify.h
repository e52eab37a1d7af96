/* Tells the service manager how this process is: READY=1, RELOADING=1, STOPPING=1 and the
 * watchdog's WATCHDOG=1, as sd_notify(3) describes the datagrams, without its library. Without
 * NOTIFY_SOCKET every call does nothing. A manager that does not take a datagram is never waited
 * for: the next one says the same.
 *
 * Control thread. */
#ifndef HUB_NOTIFY_H
#define HUB_NOTIFY_H

#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody to tell */
    struct sockaddr_un to;
    socklen_t to_size;
    uint64_t watchdog_ms; /* between two signs of life: half of what the manager waits; 0: none */
    uint64_t next_ms;
};

/* What systemd puts into the environment; any may be NULL. */
struct notify_environment {
    const char *socket;       /* NOTIFY_SOCKET: a path, or '@' and an abstract name */
    const char *watchdog_us;  /* WATCHDOG_USEC */
    const char *watchdog_pid; /* WATCHDOG_PID: meant for this process only */
};

/* 0 (also without a socket: `n` then tells nobody), or a negative errno and `e`; `n` may be used
 * and closed in either case. */
int notify_open(struct notify *n, const struct notify_environment *environment, struct errbuf *e)
    __attribute__((warn_unused_result));
/* From this process's environment. */
int notify_open_here(struct notify *n, struct errbuf *e) __attribute__((warn_unused_result));
void notify_close(struct notify *n);

void notify_ready(const struct notify *n, const char *status); /* also after a reload */
void notify_reloading(const struct notify *n);
void notify_stopping(const struct notify *n);

/* Whether a sign of life is due; then the caller finds out how it is, and tells it. A process that
 * is not well stays silent, and the manager starts it anew. */
bool notify_is_due(const struct notify *n, uint64_t now_ms);
void notify_life(struct notify *n, bool is_live, uint64_t now_ms);

#endif
