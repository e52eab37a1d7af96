/* The way in: our own listening socket, the queue of those that wait for a handshake, and the PROXY
 * header of those that come through a balancer. What waits here is a file descriptor and a few
 * bytes; TLS begins when admission lets it. One loop's thread.
 *
 *     accept4 -> queue -> (PROXY header) -> session, TLS handshake
 */
#ifndef HUB_ACCEPT_H
#define HUB_ACCEPT_H

#include "hub/admission.h"
#include "hub/reasons.h"
#include "hub/socket.h"

#include <stdbool.h>
#include <uv.h>

struct hub_loop;
struct proxied;

struct acceptor {
    struct hub_loop *loop;
    int fd; /* -1: closed */
    uv_poll_t poll;
    uv_timer_t pump;
    bool is_open;            /* the two handles live */
    uint64_t muted_until_ms; /* after running out of descriptors; 0: not */
    struct admission admission;
    struct proxied *proxied; /* those whose PROXY header is awaited */
};

/* Before the loop runs. Takes the listening socket. */
int acceptor_init(struct acceptor *a, struct hub_loop *loop, int fd,
                  const struct admission_limits *limits) __attribute__((warn_unused_result));
/* Begins what may begin now. Outside libwebsockets' callbacks. */
void acceptor_pump(struct acceptor *a);
/* A turn of the loop has ended: begins what may begin now. */
void acceptor_turn(struct acceptor *a);
/* A handshake that was begun has computed a step of TLS. */
void acceptor_handshake_stepped(struct acceptor *a);
/* A handshake that was begun has ended; the next one begins with the next acceptor_pump(). */
void acceptor_handshake_done(struct acceptor *a);
/* Each tick: time limits. */
void acceptor_tick(struct acceptor *a);
/* Refuses what waits and closes the socket. Handshakes under way go on. */
void acceptor_stop(struct acceptor *a);
/* After stop: closes the handles. */
void acceptor_close(struct acceptor *a);

#endif
