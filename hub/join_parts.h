/* What join.c (material and its upkeep) and join_endpoint.c (HTTPS) know of each other. Control
 * thread, but for the marked part of the chore. */
#ifndef HUB_JOIN_PARTS_H
#define HUB_JOIN_PARTS_H

#include "hub/join.h"
#include "hub/join_cert.h"
#include "hub/join_limit.h"

#include <stdbool.h>

struct httpd;
struct join_lookup;

struct join {
    const struct config *config;
    struct apiconfig *api;
    struct join_pair ca; /* with its key, for life; without one (files) nothing is signed */
    struct tls_material *tls;

    uv_loop_t *loop; /* NULL until join_start() */
    struct hub *hub;
    join_tls_changed changed;
    void *changed_context;
    bool is_closing;

    /* the endpoint */
    struct httpd *httpd;
    struct apiclient *client;      /* for its questions about nodes */
    struct join_limit strangers;   /* requests without a certificate */
    struct join_limit nodes;       /* requests with one */
    struct join_limit connections; /* before TLS */
    struct join_lookup *lookups;

    /* the chore: from time to time, off the loop, the token is seen to and the server certificate
     * looked at */
    uv_timer_t timer;
    struct join_chore {
        uv_work_t work;
        bool is_running, is_wanted_again;
        struct secret_bytes known; /* DER of the server certificate in use */
        /* the pool thread's while it runs */
        int rc;
        struct errbuf error;
        struct join_pair server; /* a new one, if there is one */
    } chore;
};

static inline bool join_can_sign(const struct join *join)
{
    return join->ca.key != NULL;
}

int join_endpoint_open(struct join *join, struct errbuf *e) __attribute__((warn_unused_result));
void join_endpoint_close(struct join *join);

#endif
