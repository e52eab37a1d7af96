/* A hub loop: one thread, one libuv loop, one websocket context, one listening socket, its own
 * sessions. Private to the edge side of the hub. */
#ifndef HUB_LOOP_H
#define HUB_LOOP_H

#include "hub/accept.h"
#include "hub/hub.h"
#include "hub/reassembly.h"
#include "hub/registry.h"
#include "hub/release.h"
#include "hub/session.h"
#include "hub/wheel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

struct steer;
struct denylist;
struct tls_material;
struct ws;

struct hub_loop {
    struct hub *hub;
    uint32_t index;
    uv_loop_t uv;
    pthread_t thread;
    bool is_started;

    struct mailbox replies, commands;
    uv_timer_t ticker;   /* the wheel's, each WHEEL_TICK_MS */
    uv_check_t after_io; /* what may not be done inside libwebsockets' callbacks */
    struct ws *ws;
    struct acceptor acceptor;

    struct session_slots slots;
    struct wheel wheel;
    struct session *noted;
    struct steer *steer;            /* whom to send on to other replicas; NULL: nobody */
    _Atomic uint32_t session_count; /* open ones; written by this loop */
    uint64_t ticked_ms;
    uint64_t patient_until_ms; /* after a gap in our own running nobody is called silent */

    /* closing */
    bool is_closing;
    uint64_t close_deadline_ms;
    uint32_t close_cursor;

    bool has_uv, has_replies, has_commands, has_handles; /* how far hub_loop_init() came */
};

struct hub {
    const struct config *config;
    struct upstream *upstream;
    struct downstream *downstream; /* NULL: off */
    struct tls_material *tls;      /* control thread */
    struct hub_loop *loops;
    size_t loop_count;
    uint16_t port;
    struct registry registry;
    pthread_rwlock_t denied_lock;
    struct denylist *denied; /* under denied_lock; NULL: nobody */
    struct reassembly reassembly;
    struct address_list proxies;
    _Atomic uint64_t connections; /* sockets, waiting ones included */
    _Atomic uint64_t sessions;    /* open ones */
    _Atomic bool is_draining;
    struct trimmer *trimmer;
    struct mailbox *events; /* of the control thread; NULL: nobody wants to know */
};

static inline bool hub_is_draining(const struct hub *hub)
{
    return atomic_load_explicit(&hub->is_draining, memory_order_relaxed);
}
/* Any thread: tells the control thread. */
void hub_post_event(struct hub *hub, enum hub_event_kind kind, struct node_name *node,
                    bool is_bridged);
void hub_post_count(struct hub *hub, enum hub_event_kind kind, uint32_t count);

/* What one thread asks of a loop. */
enum command_kind {
    COMMAND_CLOSE_SESSION,
    COMMAND_STOP_LISTENING,
    COMMAND_REPLACE_TLS,
    COMMAND_EXPLAIN,
    COMMAND_RELEASE,
    COMMAND_MARK_MOVED,
    COMMAND_STEER,
    COMMAND_CLOSE
};

struct command {
    struct mail mail;
    enum command_kind kind;
    struct session_ref session;
    enum close_reason reason;
    struct tls_material *tls; /* a ref of its own */
    uint64_t deadline_ms;
    struct explain *explain;    /* a ref of its own */
    struct release_order order; /* COMMAND_RELEASE */
    struct steer *steer;        /* a ref of its own, or NULL */
};

/* A question from another thread, which may stop waiting. */
struct explain {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    unsigned refs;             /* under lock */
    bool is_answered;          /* under lock */
    struct hub_node_info info; /* under lock */
};
void explain_put(struct explain *x);

/* Control thread. */
int hub_loop_init(struct hub_loop *loop, struct hub *hub, uint32_t index, struct errbuf *e)
    __attribute__((warn_unused_result));
int hub_loop_start(struct hub_loop *loop) __attribute__((warn_unused_result));
void hub_loop_join(struct hub_loop *loop);
void hub_loop_fini(struct hub_loop *loop);
/* Any thread. Takes the command; on failure it is freed. */
int hub_loop_command(struct hub_loop *loop, const struct command *command);

/* This loop's thread. */
static inline uint64_t hub_loop_now(const struct hub_loop *loop)
{
    return uv_now(&loop->uv);
}
void hub_loop_assert_thread(const struct hub_loop *loop);

#endif
