/* A redis-server of the test's own, a blocking connection to it, a proxy in front that loses or
 * falsifies what it is told to, and replicas of the balancer on one loop that hold nodes. */
#ifndef TEST_LIB_REDISTEST_H
#define TEST_LIB_REDISTEST_H

#include "isthmus/balance.h"

#include <sys/types.h>

/* ---- the server ---- */

struct redis_server {
    char folder[64], socket[96], url[128], log[96];
    pid_t pid; /* 0: not running */
};

/* `options` are further words of its command line, ended by NULL; may be NULL. Fails the test when
 * it does not answer within ten seconds. */
void redis_server_start(struct redis_server *s, const char *const *options);
/* SIGTERM or SIGKILL, waits; the folder stays for another start. */
void redis_server_stop(struct redis_server *s, int signal);
void redis_server_fini(struct redis_server *s);
/* One command, words ended by NULL; its reply as text in a buffer of the library's (arrays joined
 * by blanks, errors with "-" in front). `password` may be NULL. */
const char *redis_server_ask(struct redis_server *s, const char *password,
                             const char *const *words);
#define ASK(server, ...) redis_server_ask((server), NULL, (const char *const[]){__VA_ARGS__, NULL})

/* ---- the proxy ---- */

enum proxy_mode {
    PROXY_PASS,
    PROXY_LOSE,    /* requests reach the server, the answer ends the connection */
    PROXY_GARBAGE, /* as the answer: bytes that are none */
    PROXY_EXTRA,   /* a reply nobody asked for behind the answer */
    PROXY_ENDLESS, /* an answer that never ends */
    PROXY_ODD      /* a reply of another shape */
};

struct proxy {
    uv_loop_t *loop;
    uv_pipe_t listener;
    char server[96], socket[96], url[128];
    enum proxy_mode mode;
    unsigned after; /* answers passed before the mode is in force, for each connection */
    size_t open;
    void *connections;
};

/* `p` stays until the loop has run empty after proxy_close(), which does nothing for one that was
 * not started. */
void proxy_start(struct proxy *p, uv_loop_t *loop, const struct redis_server *s);
void proxy_close(struct proxy *p);

/* ---- replicas ---- */

#define TEST_NODES 400

struct test_replica {
    struct balancer *b;
    bool is_ready, is_api_ok, is_draining, is_lazy; /* lazy: orders are not carried out */
    uint32_t max_connections, leaving;
    const char *nodes[TEST_NODES];
    size_t count;
    struct balancer_decision decision;
    unsigned decisions, ordered, released, moved, flight_calls;
    unsigned beats[BALANCE_BEAT_COUNT];
    size_t flight_count;
    struct balance_flight flight; /* the first one, name not kept */
    char moved_last[64];
    const char *released_last;
    bool is_closed;
    unsigned after_close; /* callbacks that came after balancer_close() */
    struct test_world *world;
};

struct test_world {
    uv_loop_t loop;
    uv_timer_t tick;
    struct balancer_config config;
    struct test_replica replicas[8];
    size_t count;
    char names[TEST_NODES][16];
    const char *away[TEST_NODES]; /* released, not arrived anywhere */
    size_t away_count;
    int total_expected; /* -1: not checked; else every fresh view must show so many nodes */
};

/* Period 100 ms, everything else to match; the names are "node-0" and on. */
void test_world_init(struct test_world *w);
void test_world_fini(struct test_world *w);
/* Joins; the options' replica_id and URL as given. Returns its position. */
size_t test_world_join(struct test_world *w, const char *id, const char *url, const char *group,
                       const char *password);
void test_world_leave(struct test_world *w, size_t i); /* close, wait, destroy */
/* `count` nodes from the i-th on connect there. */
void test_world_arrive(struct test_world *w, size_t replica, size_t from, size_t count);
/* Everything that is away arrives there. */
void test_world_land(struct test_world *w, size_t replica);
/* Turns the loop until `is_true(w)`; fails with `what` when it is not within ten seconds. */
void test_world_wait(struct test_world *w, bool (*is_true)(struct test_world *w), const char *what);
/* Turns the loop for so long. */
void test_world_run(struct test_world *w, uint64_t ms);

/* ---- what tests wait for, and how they begin ---- */

struct balance_view test_view_of(struct test_world *w, size_t i);
bool test_see_each_other(struct test_world *w);
/* All are balanced, nothing is in flight, everything is reported. */
bool test_have_calmed_down(struct test_world *w);
/* The same, after what the first one released was let land at the last one: not before the store
 * has heard of it, since an edge is away for several periods. */
bool test_are_even(struct test_world *w);
bool test_first_is_up(struct test_world *w);                         /* and had a beat answered */
bool test_first_is_down(struct test_world *w);                       /* and says why */
void test_wait_for_why(struct test_world *w, enum balancer_why why); /* the first one's */
/* Replicas a and b, `count` nodes at a, which does not carry its orders out yet. */
void test_set_the_scene(struct test_world *w, const char *url, size_t count);

/* For cmocka: `*state` is one. */
struct test_store {
    struct redis_server server;
    struct test_world world;
    struct proxy proxy; /* to be started */
};
int test_store_set_up(void **state);
int test_store_tear_down(void **state);

#endif
