/* HAProxy's agent-check (HAProxy configuration manual, "agent-check"): whoever connects gets one
 * line, the state and the weight this replica wants, and the connection is closed. Control thread,
 * on its loop. */
#ifndef HUB_AGENT_H
#define HUB_AGENT_H

#include "isthmus/errbuf.h"

#include <stddef.h>
#include <uv.h>

#define AGENT_LINE_BYTES 32

struct agent;

/* The line: "up ready 60%", or "drain" for 0 per cent. Pure. */
void agent_line(unsigned percent, char line[AGENT_LINE_BYTES]);

/* Listens at `address` (HOST:PORT, --agent-address) and answers what `percent` says. 0, or a
 * negative errno and `e`. */
int agent_create(uv_loop_t *loop, const char *address, unsigned (*percent)(void *context),
                 void *context, struct agent **agent, struct errbuf *e)
    __attribute__((warn_unused_result));
/* Stops listening. The loop has to run until nothing of it is alive, then agent_destroy(). NULL is
 * fine. */
void agent_close(struct agent *agent);
void agent_destroy(struct agent *agent);

#endif
