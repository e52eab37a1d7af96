/* One request and its answer, whatever HTTP version carries it. The transport makes it, hands it to
 * dev_handle() when the request is complete, and frees it when the stream is gone; the handler
 * answers it once, at once or later. Loop thread only. */
#ifndef DEVAPI_EXCHANGE_H
#define DEVAPI_EXCHANGE_H

#include "test/devapi/kinds.h"
#include "test/devapi/status.h"
#include "test/devapi/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct dev_server;
struct dev_conn;
struct dev_exchange;
struct dev_object;

/* Where an answer's body comes from: pulled, so that a slow reader costs no memory. */
struct dev_source {
    /* Writes up to `size` bytes. 0 without *is_end: nothing now; dev_exchange_wake() when there is.
     */
    size_t (*read)(struct dev_source *source, char *to, size_t size, bool *is_end);
    void (*close)(struct dev_source *source);
};

struct dev_transport {
    void (*respond)(struct dev_exchange *x); /* status, content_type, source, length are set */
    void (*wake)(struct dev_exchange *x);
    void (*reset)(struct dev_exchange *x);  /* ends the stream without an answer */
    void (*goaway)(struct dev_exchange *x); /* the connection takes no further requests */
};

/* What stands behind the '?'. Pointers go into `buffer`; NULL where absent. */
struct dev_query {
    char *buffer;
    const char *label_selector, *field_selector, *continue_, *resource_version,
        *resource_version_match, *propagation, *kind, *user, *name, *summary, *dry_run;
    uint64_t limit, timeout_s;
    long grace_s; /* -1: not given */
    bool is_watch, wants_bookmarks, wants_initial_events;
};

#define DEV_GROUPS_MAX 8

struct dev_exchange {
    struct dev_server *server;
    struct dev_conn *conn;
    const struct dev_transport *transport;
    int32_t stream; /* HTTP/2 */
    struct dev_exchange *sibling_prev, *sibling_next;

    /* The request; owned. */
    char *method, *target, *content_type, *accept, *authorization, *impersonate_user;
    char *impersonate_groups[DEV_GROUPS_MAX];
    unsigned impersonate_group_count;
    size_t header_bytes;
    struct dev_text body;
    bool is_body_too_large;

    /* What the handler made of it. */
    struct dev_path path;
    struct dev_query query;
    enum dev_verb verb;
    const char *user, *node; /* borrowed: who acts; the node's name if it is one, else NULL */
    uint64_t started_us;

    /* While it waits (latency, stalls). */
    struct dev_exchange *prev, *next;
    uint64_t due_ms;
    int waits_in;      /* index of the queue, -1: none */
    int outcome;       /* enum dev_outcome */
    bool resets_after; /* instead of the answer */

    /* The answer. */
    bool is_answered;
    unsigned status, retry_after_s;
    const char *reply_type;
    struct dev_source *source; /* owned */
    int64_t length;            /* -1: unknown */
};

struct dev_exchange *dev_exchange_create(struct dev_server *server, struct dev_conn *conn,
                                         const struct dev_transport *transport);
/* Closes what is still open. Called by the transport alone. */
void dev_exchange_destroy(struct dev_exchange *x);
/* One header of the request, for the transport. False: too much, refuse the request. */
bool dev_exchange_header(struct dev_exchange *x, const char *name, size_t name_size,
                         const char *value, size_t value_size);
bool dev_exchange_body(struct dev_exchange *x, const char *bytes, size_t size);

/* Answers. Each takes what it is given; exactly one of them for an exchange. */
void dev_answer_text(struct dev_exchange *x, unsigned status, const char *content_type,
                     struct dev_text *body);
void dev_answer_string(struct dev_exchange *x, unsigned status, const char *body);
void dev_answer_object(struct dev_exchange *x, unsigned status,
                       struct dev_object *o /* borrowed */);
void dev_answer_error(struct dev_exchange *x, const struct dev_error *e);
void dev_answer_source(struct dev_exchange *x, struct dev_source *source);
void dev_exchange_wake(struct dev_exchange *x);

/* Parses the query behind '?' (may be ""). 0, -EINVAL, -ENOMEM. */
int dev_query_parse(struct dev_query *q, const char *text);

#endif
