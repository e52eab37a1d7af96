/* Commands to a running fleet through a Unix socket: a line each, answered by one line of JSON.
 * Loop thread only. */
#ifndef EDGE_CONTROL_H
#define EDGE_CONTROL_H

#include "test/edgesim/edge_fleet.h"

#include <jansson.h>

struct edge_control;

/* Listens at `path` (mode 0600; a stale socket there is replaced). 0, or -errno and `e`. */
int edge_control_open(struct edge_control **control, struct edge_fleet *f, const char *path,
                      struct errbuf *e);
/* NULL is fine. Its clients are closed, the socket's name removed; memory goes when the loop has
 * run. */
void edge_control_close(struct edge_control *control);

/* The answer to a command; a new reference. Exposed for the tests. */
json_t *edge_control_answer(struct edge_fleet *f, const char *line);

#endif
