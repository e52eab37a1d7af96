/* What devapi's parts share: the one loop, the store, the faults in force, the connections. Loop
 * thread only. */
#ifndef DEVAPI_SERVER_H
#define DEVAPI_SERVER_H

#include "test/devapi/conn.h"
#include "test/devapi/exchange.h"
#include "test/devapi/faults.h"
#include "test/devapi/store.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <uv.h>

struct dev_certs;
struct dev_leases;
struct dev_stats;
struct dev_tokens;
struct dev_watcher;
struct dev_snapshot;

#define DEV_LISTENERS_MAX 8
#define DEV_QUEUES        (DEV_KIND_COUNT + 1) /* stalls by kind, and plain latency */

struct dev_listener {
    struct dev_server *server;
    uv_poll_t poll;
    int fd;
};

struct dev_server {
    uv_loop_t *loop;
    SSL_CTX *tls;
    struct dev_store *store;
    struct dev_faults faults;
    struct dev_stats *stats;
    struct dev_leases *leases;
    struct dev_tokens *tokens; /* NULL: none */
    const char *ca_pem;        /* borrowed from the certificates */
    unsigned char token_key[32];
    FILE *journal; /* NULL: none */
    uint64_t random_state;
    uint64_t started_ms, bytes_in, bytes_out, abandoned;

    struct dev_listener listeners[DEV_LISTENERS_MAX];
    size_t listener_count;
    struct dev_conn *conns, *marked;
    size_t conn_count, conn_max;
    uv_prepare_t prepare;
    uv_timer_t wait_timer, second_timer;

    struct dev_exchange *waiting[DEV_QUEUES];
    size_t waiting_count[DEV_QUEUES];
    struct dev_watcher *watchers[DEV_KIND_COUNT];
    size_t watcher_count[DEV_KIND_COUNT];
    struct dev_snapshot *snapshots;
};

/* Starts to listen on HOST:PORT (all addresses of it). 0 or negative errno and `e`. */
int dev_server_listen(struct dev_server *server, const char *address, struct errbuf *e);
/* Handles on the loop, before listening. 0 or negative errno. */
int dev_server_start(struct dev_server *server);
/* Closes listeners, connections and handles; the loop then runs out. */
void dev_server_stop(struct dev_server *server);

/* Lets an exchange wait; dev_handle_ready() is called when its time has come. */
void dev_server_wait(struct dev_exchange *x, int queue, uint64_t delay_ms);
/* The exchange goes away: it waits no more (counted, if it did). */
void dev_server_abandon(struct dev_exchange *x);

#endif
