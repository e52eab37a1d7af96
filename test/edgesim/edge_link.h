/* The connection loop of EdgeHub, as a pure state machine: when an edge dials, gives up, sleeps,
 * and notices.
 *
 * A round is up to 5 dials with 5 s behind each failed one (the last too), then 30 s of sleep,
 * without jitter. A connection that the other side closes is noticed only by the next write
 * (EdgeHub's reader blocks on, its socket is closed); then 30 s of sleep and a new round.
 * Behaviour: kubeedge edge/pkg/edgehub/edgehub.go, clients/wsclient/websocket.go and captures of a
 * real one. Times are microseconds on any steady clock, passed in. Pure; one thread. */
#ifndef EDGE_LINK_H
#define EDGE_LINK_H

#include <stdbool.h>
#include <stdint.h>

#define EDGE_NEVER UINT64_MAX

enum edge_link_state {
    EDGE_LINK_STOPPED, /* not to dial */
    EDGE_LINK_DIALING, /* due: the time limit of the handshake */
    EDGE_LINK_PAUSING, /* between two dials of a round; due: the next one */
    EDGE_LINK_UP,
    EDGE_LINK_BROKEN, /* the socket is closed, but nobody has written since: the edge believes it is
                         connected */
    EDGE_LINK_SLEEPING /* due: the next round */
};

struct edge_link_times {
    uint64_t handshake_us, pause_us, sleep_us;
    unsigned tries;
};

struct edge_link {
    enum edge_link_state state;
    unsigned tries; /* dials begun in this round */
    uint64_t due_us;
};

/* Begins the first round: the next edge_link_wants_dial() says yes. From STOPPED only. */
void edge_link_start(struct edge_link *l, uint64_t now_us);
void edge_link_stop(struct edge_link *l);

/* True once for each dial to begin; the state is then DIALING. */
bool edge_link_wants_dial(struct edge_link *l, const struct edge_link_times *times,
                          uint64_t now_us);
/* Whether the dial under way has run out of time; the caller ends it and reports
 * edge_link_dial_failed(). */
bool edge_link_dial_is_late(const struct edge_link *l, uint64_t now_us);

void edge_link_connected(struct edge_link *l);
void edge_link_dial_failed(struct edge_link *l, const struct edge_link_times *times,
                           uint64_t now_us);
/* The other side closed, or the stream is of no use any more. */
void edge_link_closed(struct edge_link *l);
/* A write failed. */
void edge_link_noticed(struct edge_link *l, const struct edge_link_times *times, uint64_t now_us);

/* What the edge itself believes (kubeedge: "cloud_connected"). */
bool edge_link_believes_connected(const struct edge_link *l);
uint64_t edge_link_due(const struct edge_link *l);
const char *edge_link_state_name(enum edge_link_state state);

#endif
