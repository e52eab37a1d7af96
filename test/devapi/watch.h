/* Watches and the snapshots that paged lists are served from. Loop thread only. */
#ifndef DEVAPI_WATCH_H
#define DEVAPI_WATCH_H

#include "test/devapi/exchange.h"
#include "test/devapi/selector.h"
#include "test/devapi/store.h"

struct dev_server;

/* Answers with a stream of events. Takes `selector`. */
void dev_handle_watch(struct dev_exchange *x, struct dev_selector *selector);
/* The store's listener: wakes who watches the kind. */
void dev_watch_changed(struct dev_server *server, const struct dev_kind *kind);
/* Once a second: timeouts and bookmarks. */
void dev_watch_tick(struct dev_server *server, uint64_t now_ms);
/* Frees the snapshots of paged lists: those older than a minute, or all (dev_snapshots_drop). */
void dev_snapshots_drop(struct dev_server *server);
void dev_snapshots_expire(struct dev_server *server, uint64_t now_ms);

#endif
