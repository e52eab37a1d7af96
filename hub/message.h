/* What travels between the threads of the hub. A message is owned by exactly one thread at a time; a mailbox moves it.
 *
 *   session (hub loop) --struct message--> upstream worker --struct reply--> the loop of that session
 *
 * Every message gets exactly one reply, whatever became of it: that is how a session knows what is still in flight, and how
 * nothing is dropped silently. */
#ifndef HUB_MESSAGE_H
#define HUB_MESSAGE_H

#include "hub/envelope.h"
#include "hub/route.h"
#include "isthmus/mailbox.h"

#include <stdatomic.h>
#include <stdint.h>

/* A connected node's name, shared by its session and its messages. Immutable but for the count; any thread. */
struct node_name {
    _Atomic uint32_t refs;
    uint32_t hash; /* chooses the upstream worker */
    bool is_legacy; /* the certificate does not name it: never impersonate */
    size_t size;
    char text[]; /* NUL-terminated */
};

struct node_name *node_name_create(const char *text, size_t size, bool is_legacy); /* one ref; NULL: no memory */
struct node_name *node_name_get(struct node_name *n);
void node_name_put(struct node_name *n);

/* Finds a session again, or notices that it is gone: a slot is used again with another generation. */
struct session_ref {
    uint32_t loop, slot;
    uint64_t generation;
};

struct message {
    struct mail mail; /* mail.bytes: the whole allocation */
    struct session_ref from;
    struct node_name *node; /* a ref of its own */
    uint64_t received_ms;   /* uv_hrtime() / 1e6, the same clock on every thread */
    struct envelope envelope; /* spans into text */
    struct route route;
    bool must_leave; /* UPSTREAM_NODE_RELEASE: in a drain, whatever its Node says */
    size_t size, room;
    char text[];
};

struct message *message_create(size_t room); /* NULL: no memory */
void message_destroy(struct message *m);     /* puts its node; NULL is fine */

/* Where a reply's payload starts: room for what the websocket layer writes in front of it. */
#define REPLY_HEADROOM 32

enum reply_outcome {
    REPLY_ANSWERED,    /* the payload is the answer */
    REPLY_CARRIED_OUT, /* of a kind that has no answer */
    REPLY_COALESCED,   /* a newer one took its place: no answer is owed (its answer, where owed, is ANSWERED) */
    REPLY_DROPPED,     /* counted with a reason by who dropped it */
    REPLY_PUSH         /* not an answer: the cloud speaks first */
};

/* How the preparation of a release ended (see release.h). */
enum farewell {
    FAREWELL_NONE,    /* an ordinary reply */
    FAREWELL_GO,      /* close behind it */
    FAREWELL_KEPT,    /* the Node is annotated isthmus.io/keep */
    FAREWELL_FAILED   /* the API server did not answer, or there is no such Node */
};

struct reply {
    struct mail mail;
    struct session_ref to;
    enum reply_outcome outcome;
    enum lane lane;            /* of the message it answers */
    enum upstream_kind kind;
    enum farewell farewell;
    bool is_bridged;           /* with FAREWELL_GO: the node's lease is renewed from here on */
    bool succeeded;            /* the API call did what was asked (lease renewals count by it) */
    uint64_t received_ms;      /* of the message: the latency is measured where the answer is written */
    size_t message_bytes;      /* what the session reserved for it */
    uint64_t object, object_version; /* which object it carries, and its version; 0: none, or none that is stored */
    uint64_t push_id;          /* of a push whose acknowledgement is waited for; 0: nobody waits */
    size_t size;               /* of the payload; 0: nothing to send */
    char buffer[];             /* REPLY_HEADROOM, then the payload */
};

static inline char *reply_text(struct reply *r)
{
    return r->buffer + REPLY_HEADROOM;
}

struct reply *reply_create(size_t room); /* NULL: no memory */
void reply_destroy(struct reply *r);

#endif
