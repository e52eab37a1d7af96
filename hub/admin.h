/* The admin endpoint: what people, probes and scrapers read. It changes nothing and names no node.
 * Control thread, on its loop. */
#ifndef HUB_ADMIN_H
#define HUB_ADMIN_H

#include "hub/facts.h"
#include "isthmus/errbuf.h"

#include <uv.h>

struct admin;

/* Listens where --admin-address says (empty: not at all). `sources` is borrowed
 * until admin_destroy(). 0, or a negative errno and `e`. */
int admin_create(uv_loop_t *loop, const struct facts_sources *sources, struct admin **admin,
                 struct errbuf *e) __attribute__((warn_unused_result));
/* The document of /status. New reference, or NULL without memory. */
json_t *admin_status(struct admin *admin);
/* Whether every loop turns: the watchdog's question. */
bool admin_is_live(struct admin *admin);
/* The port of the admin endpoint; 0 when it is off. */
uint16_t admin_port(const struct admin *admin);

/* Stops listening. The loop has to run until nothing of it is alive, then admin_destroy(). */
void admin_close(struct admin *admin);
void admin_destroy(struct admin *admin);

#endif
