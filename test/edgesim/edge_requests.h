/* The questions an edge has asked: open ones, and the last few closed ones, so that a second answer
 * is known for one.
 *
 * A ring by sequence number that starts with eight places and doubles when a place is wanted that
 * is still open. Pure; one thread. */
#ifndef EDGE_REQUESTS_H
#define EDGE_REQUESTS_H

#include "test/edgesim/edge_stats.h"

enum edge_request_state {
    EDGE_REQUEST_FREE,
    EDGE_REQUEST_WAITING, /* not written yet */
    EDGE_REQUEST_OPEN,    /* written, no answer yet */
    EDGE_REQUEST_LOST, /* the link it was written to broke; its asker does not know and waits on */
    EDGE_REQUEST_ANSWERED,
    EDGE_REQUEST_NEVER,   /* the asker gave up; it was not lost */
    EDGE_REQUEST_GIVEN_UP /* the asker gave up; it was lost, or never written */
};

/* Which part of the edge asked, to be told. */
enum edge_asker { EDGE_ASKER_LEASE, EDGE_ASKER_NODE, EDGE_ASKER_POD, EDGE_ASKER_LOAD };

struct edge_request {
    uint64_t sequence, sent_us, deadline_us;
    char *text; /* the message, while it is pending; owned */
    uint32_t size;
    uint32_t tag; /* the asker's own */
    uint8_t kind, state, asker;
    bool is_repetition;
    uint8_t sends, answers;
};

struct edge_requests {
    struct edge_request *ring;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t pending;
    uint64_t next;     /* the sequence to come, from 1 */
    uint64_t check_us; /* no deadline passes before */
};

void edge_requests_init(struct edge_requests *r);
void edge_requests_fini(struct edge_requests *r);

/* Opens the next one (state WAITING) with a copy of its text; NULL when there is no memory, or no
 * place within the limit. */
struct edge_request *edge_requests_open(struct edge_requests *r, enum edge_kind kind,
                                        enum edge_asker asker, uint32_t tag, const char *text,
                                        size_t size, uint64_t deadline_us);
/* NULL when the ring has no place for it any more. The pointer is good until the next open. */
struct edge_request *edge_requests_find(struct edge_requests *r, uint64_t sequence);

bool edge_request_is_pending(const struct edge_request *q);
/* Ends the asker's waiting: the text is let go. */
void edge_requests_close(struct edge_requests *r, struct edge_request *q,
                         enum edge_request_state state);
/* Pending again, until a new deadline (repetitions under the same id). */
void edge_requests_extend(struct edge_requests *r, struct edge_request *q, uint64_t deadline_us);

/* Counts what is open into statistics that begin anew. */
void edge_requests_recount(const struct edge_requests *r, struct edge_stats *stats);

/* One whose deadline has passed, or NULL. */
struct edge_request *edge_requests_expired(struct edge_requests *r, uint64_t now_us);
uint64_t edge_requests_due(const struct edge_requests *r);

#endif
