/* One edge of a fleet with its socket and its timer. See edge_fleet.h. Loop thread only. */
#ifndef EDGE_PEER_H
#define EDGE_PEER_H

#include "test/edgesim/edge_fleet.h"

extern const struct edge_conn_events edge_peer_events;

/* Borrows the fleet; 0 or -ENOMEM. */
int edge_peer_init(struct edge_peer *p, struct edge_fleet *f, const char *name, uint32_t index);
void edge_peer_fini(struct edge_peer *p); /* after the loop has let its timer go */

/* Lets the edge do what is due, and sets its timer. */
void edge_peer_step(struct edge_peer *p);
void edge_peer_drop(struct edge_peer *p);
/* As if the process were stopped: neither reads nor writes nor keeps time. */
void edge_peer_pause(struct edge_peer *p, bool paused);
void edge_peer_stop(struct edge_peer *p);

#endif
