/* A session: one connection of an edge, from the moment its TLS handshake may begin to the moment
 * its socket is gone. It belongs to one hub loop; every function here is called on that loop's
 * thread.
 *
 *     HANDSHAKE ---------------> OPEN ----------> CLOSING ---------> CLOSED
 *     TLS and upgrade            messages         close frame sent   socket gone, freed
 *          '---- refused, failed, left ---------------------------------^
 *
 * Other threads know a session only by its session_ref: (loop, slot, generation) finds it, or finds
 * that it is gone.
 *
 * Why a session is not read, each a bit of `pauses`: its node has too much unfinished upstream, it
 * sends too fast, the upstream pool is full, or the hub is closing. While we do not read, silence
 * is not the edge's fault: the keepalive and message timeouts stand still. */
#ifndef HUB_SESSION_H
#define HUB_SESSION_H

#include "hub/bucket.h"
#include "hub/message.h"
#include "hub/reasons.h"
#include "hub/reassembly.h"
#include "hub/registry.h"
#include "hub/wheel.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hub_loop;
struct upgrade_request;
struct upgrade_answer;
struct identity;
struct lws;

enum session_state {
    SESSION_HANDSHAKE,
    SESSION_OPEN,
    SESSION_CLOSING,
    SESSION_CLOSED,
    SESSION_STATE_COUNT
};

/* On its way to another replica, see release.h. */
enum session_leaving {
    LEAVING_NOT,
    LEAVING_ASKED, /* its farewell is being prepared */
    LEAVING_READY  /* goes when nothing of it is unfinished any more */
};

enum session_pause {
    PAUSE_BUDGET = 1,   /* --node-queue, --node-queue-bytes: until replies come */
    PAUSE_RATE = 2,     /* --node-rate: until a token is there */
    PAUSE_UPSTREAM = 4, /* upstream_submit() was full: `deferred` waits */
    PAUSE_RETIRING = 8, /* the hub closes: only replies are waited for */
    PAUSE_CHOKED = 16   /* it does not take what is sent to it; see ws_lws.c for why this must be */
};

/* An answer and a push of the same object overtake each other by milliseconds: a few answers are
 * enough. */
#define SESSION_ANSWERED 4

struct session {
    struct hub_loop *loop;
    struct session_ref ref;
    enum session_state state; /* written by set_state() in session.c only */
    struct lws *wsi;  /* hub/ws_lws.c alone looks into it; NULL when libwebsockets has let go */
    bool is_dead;     /* libwebsockets is closing it: nothing may be asked of the wsi any more */
    bool is_noted;    /* on the loop's list of those that session_settle_all() has to see */
    bool is_reading;  /* what libwebsockets was told */
    bool has_tls;     /* the TLS handshake is done */
    bool is_answered; /* the upgrade was refused with a status */

    struct node_name *node; /* from the accepted upgrade on; a ref of its own */
    struct sockaddr_in6 remote;
    uint64_t accepted_ms, connected_ms;

    /* how it ends */
    enum close_reason close_reason;
    unsigned close_code;              /* 0: that of the reason */
    enum refuse_reason refuse_reason; /* REFUSE_REASON_COUNT: not known yet */
    const char *detail;               /* for the log: constant, or NULL */
    struct session *next_noted;

    struct wheel_timer timer; /* the earliest of the deadlines below, or earlier */
    uint64_t handshake_deadline_ms, keepalive_deadline_ms, message_deadline_ms, write_deadline_ms,
        resume_ms, close_deadline_ms; /* 0: none */

    struct registry_entry entry;

    /* receiving */
    struct message *partial; /* begun, not ended */
    struct mail *deferred;   /* whole messages, refused by upstream_submit() for now; nearly always
                                one at most */
    struct reassembly_share share;
    struct bucket tokens;
    unsigned pauses;
    size_t unfinished, unfinished_bytes; /* messages taken upstream and not replied to */
    int64_t overhead_bytes;              /* received, but no payload: see receive.c */
    uint64_t overhead_ms;
    uint64_t last_received_ms, last_keepalive_ms;

    /* leaving */
    enum session_leaving leaving;
    bool must_leave;        /* in a drain: whatever the farewell says */
    bool is_bridged;        /* its lease is renewed once it has left */
    struct reply *farewell; /* LEAVING_READY: the last thing it is sent, or NULL */
    uint64_t renewed_ms;    /* when a renewal of its lease was answered last; 0: not yet */
    uint64_t moved_ms;      /* arrived as one that had been let go before; 0: not known to have */
    uint64_t kept_until_ms; /* annotated isthmus.io/keep: not asked again until then */

    /* sending */
    struct reply *out_head, *out_tail; /* linked by mail.next */
    size_t out_offset;                 /* of the head, written already */
    size_t out_bytes;
    uint64_t acked_mark; /* TCP's count of acknowledged bytes when the write deadline was set */

    /* The order of versions: no push of an object follows an answer that had a newer version of it,
     * see send.c. */
    struct {
        uint64_t object, version;
    } answered[SESSION_ANSWERED], pushed; /* the latest ones; object 0: none */
    unsigned answered_at;                 /* in turn */
    uint64_t awaited_push;                /* whose acknowledgement is passed on; 0: none */

    uint64_t messages_in, messages_out, bytes_in, bytes_out;
};

/* ---- slots: session_ref to session ---- */

struct session_slots {
    struct session_slot {
        struct session *session; /* NULL: free */
        uint32_t next_free;
    } * slots;
    uint32_t room, first_free, used;
    uint64_t generation;
};

void session_slots_init(struct session_slots *s);
void session_slots_fini(struct session_slots *s);
/* Gives the session its slot and generation. 0 or -ENOMEM. */
int session_slots_put(struct session_slots *s, uint32_t loop, struct session *session)
    __attribute__((warn_unused_result));
void session_slots_remove(struct session_slots *s, struct session *session);
struct session *session_slots_find(const struct session_slots *s, struct session_ref ref);

/* ---- life ---- */

bool session_may_change(enum session_state from, enum session_state to);

/* In state HANDSHAKE, not yet adopted by libwebsockets; NULL: no memory. */
struct session *session_create(struct hub_loop *loop, const struct sockaddr_in6 *remote,
                               uint64_t accepted_ms);
/* The deadlines changed: the timer is set so that session_check() runs in time. */
void session_arm(struct session *s);
/* A deadline may have passed. */
void session_check(struct session *s);
/* Ends an open session with a close frame; any other state than OPEN is left alone. Everything it
 * holds is let go at once; the close frame is sent by session_settle_all(). */
void session_close(struct session *s, enum close_reason reason, const char *detail);
/* The same, but waits until what was taken upstream is replied to; nothing more is read. */
void session_retire(struct session *s);
/* Refuses a connection that is in its handshake: the socket is shut down. */
void session_refuse(struct session *s, enum refuse_reason reason, const char *detail);
/* Something about it has to be told to libwebsockets, by session_settle_all(). */
void session_note(struct session *s);
/* Closes, and switches reading on and off, for the sessions noted. Outside libwebsockets'
 * callbacks. */
void session_settle_all(struct hub_loop *loop);

/* ---- what libwebsockets reports (ws_lws.c calls these) ---- */

/* The upgrade request: fills `answer`, and keeps the node's name if it is 101. */
void session_on_upgrade(struct session *s, const struct upgrade_request *request,
                        const struct identity *identity, struct upgrade_answer *answer);
void session_on_open(struct session *s);
/* A piece of a message; `remaining` of its frame are still to come. */
struct piece {
    const char *bytes;
    size_t size, remaining;
    bool is_binary;
    bool is_last; /* with it the message is whole */
};
void session_on_piece(struct session *s, const struct piece *piece);
/* A TLS record came in: `size` bytes on the wire. */
void session_on_record(struct session *s, size_t size);
void session_on_writable(struct session *s);
void session_on_peer_close(struct session *s);
/* libwebsockets begins to tear the connection down; the wsi is not to be used any more. */
void session_on_dead(struct session *s);
/* The socket is closed. Frees the session. */
void session_on_gone(struct session *s);

/* ---- receive.c ---- */

void session_pause(struct session *s, enum session_pause why);
void session_resume(struct session *s, enum session_pause why);
/* Something that a paused session waits for may have happened (time, a reply). */
void session_retry(struct session *s);
/* Lets go of the messages it holds. */
void session_drop_received(struct session *s);

/* ---- send.c ---- */

/* A reply came: accounts for it, and sends what there is to send. Takes it. */
void session_deliver(struct session *s, struct reply *reply);
/* The write deadline has passed: progress, or a slow reader. */
void session_check_writing(struct session *s);
void session_drop_unsent(struct session *s);
/* A reply that reaches nobody: counted and freed. Any thread. */
void reply_discard(struct reply *reply, enum drop_reason reason);

#endif
