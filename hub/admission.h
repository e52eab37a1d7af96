/* Who may begin a TLS handshake, and when. Pure: no sockets, no clock. One thread.
 *
 * A fleet that lost its replica arrives in lockstep. A handshake costs half a millisecond of CPU
 * and kilobytes of memory, so they are begun at a bounded rate and a bounded number at once; who
 * has to wait costs a file descriptor only. Those that wait are served first come, first served.
 * When too many wait, the oldest is dropped: it is the one whose client gives up next.
 *
 * Established sessions come before new ones. In one turn of the loop every handshake in flight may
 * have a step to compute, of 0.3 ms, and a lease renewal waits behind all of them. So the number in
 * flight has a window, as TCP has: a turn with too many steps halves it, else it grows with each
 * handshake that ends while it is used up, to `inflight` at most; when nothing is in flight it
 * begins anew. Handshakes that wait for distant peers cost no turn much and open it; a crowd next
 * door keeps it small, and is not served later for that: the CPU is its limit. Peers that say
 * nothing must not keep others out: while none ends, it doubles every ADMISSION_STALL_MS. */
#ifndef HUB_ADMISSION_H
#define HUB_ADMISSION_H

#include "hub/bucket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More steps in one turn are too many: two turns are what a message may have to wait for. */
#define ADMISSION_STEPS_PER_TURN 12
/* The window of a new listener, and the smallest there is. */
#define ADMISSION_WINDOW   8
#define ADMISSION_STALL_MS 200

struct admission_limits {
    uint64_t rate;     /* handshakes begun a second; 0: no limit */
    uint64_t burst;    /* so many at once after a quiet time; > 0 */
    uint64_t inflight; /* handshakes at once; > 0 */
    uint64_t waiting;  /* connections that may wait; > 0 */
    uint64_t wait_ms;  /* how long one may wait */
};

/* Embedded in what waits. */
struct admission_entry {
    struct admission_entry *next, *prev;
    uint64_t arrived_ms;
};

struct admission {
    struct admission_limits limits;
    struct bucket tokens;
    struct admission_entry *queue; /* a utlist: oldest first */
    size_t waiting, inflight;
    size_t window;       /* in flight at once, for now */
    size_t steps, ended; /* in this turn */
    bool has_ended;      /* one has, since the last tick */
    uint64_t moved_ms;   /* when the last one ended, or the window was not used up */
};

void admission_init(struct admission *a, const struct admission_limits *limits, uint64_t now_ms);
/* A connection came. Takes the entry into the queue; returns the one that had to leave for it, or
 * NULL. */
struct admission_entry *admission_push(struct admission *a, struct admission_entry *entry,
                                       uint64_t now_ms);
/* The next one that waited too long, or NULL; it has left the queue. */
struct admission_entry *admission_expired(struct admission *a, uint64_t now_ms);
/* The next one that may begin now, or NULL; it has left the queue and is in flight until
 * admission_done(). */
struct admission_entry *admission_next(struct admission *a, uint64_t now_ms);
/* A handshake that was begun has ended, one way or the other. */
void admission_done(struct admission *a);
/* A handshake in flight has computed a step. */
void admission_stepped(struct admission *a);
/* A turn of the loop is over. */
void admission_turned(struct admission *a);
/* Every ADMISSION_STALL_MS at least: opens the window where nothing moves. */
void admission_ticked(struct admission *a, uint64_t now_ms);
/* Takes the oldest out of the queue whatever the limits say (the listener closes), or NULL. */
struct admission_entry *admission_pop(struct admission *a);
/* Milliseconds until admission_next() may have one for reasons of time alone; UINT64_MAX: only
 * after an event. */
uint64_t admission_wait_ms(struct admission *a, uint64_t now_ms);

#endif
