/* Letting go of nodes so that other replicas take them: which, and how.
 *
 * An EdgeCore notices a closed connection only at its next write, and what it writes then is lost:
 * closed at a bad moment, its lease grows 70 s old (kubeedge-protocol 1.7). So a node is let go
 * right after a renewal of its lease was answered, when nothing of it is under way, and it is made
 * to write at once:
 *
 *     OPEN --chosen--> ASKED --farewell--> READY --nothing unfinished--> Node, close frame -->
 * CLOSING
 *
 * ASKED: an upstream worker renews its lease for it (bridge.h) and reads its Node
 * (kinds_release.c). READY: it is not read any more, what was taken is still answered. Then the
 * Node goes out as an update, which must be acknowledged, and the close frame right behind it: the
 * acknowledgement is the write that fails.
 *
 * Failure modes: a Node that is kept by annotation or cannot be read stays. In a drain it goes all
 * the same: the one that is kept like any other, the other as it is, without a last message. All on
 * the loop's thread. The choice is balancer_victim_judge(), pure. */
#ifndef HUB_RELEASE_H
#define HUB_RELEASE_H

#include "isthmus/balancer.h"

#include <stdbool.h>
#include <stdint.h>

struct hub_loop;
struct reply;
struct session;

struct release_order {
    uint32_t count;
    struct balancer_decision decision; /* how choosy to be */
};

/* Chooses as many as asked for, or as there are; says how many were not found. */
void release_some(struct hub_loop *loop, const struct release_order *order);
/* A reply to an open session: one that renewed its lease is remembered. */
void release_note_renewal(struct session *s, const struct reply *reply);
/* Takes the reply. */
void release_on_farewell(struct session *s, struct reply *reply);
/* READY, and nothing is unfinished. */
void release_go(struct session *s);
/* An open session closes, for whatever reason: the control thread hears of it, unless a newer
 * session has taken its place. */
void release_on_close(struct session *s, bool is_last);

#endif
