/* The kubelet's node lease controller, as a pure state machine.
 *
 * Every 10 s (up to 4 % more, counted from the end of the last renewal) it updates the lease it
 * knows, up to five times at once; a conflict makes it read the lease again in between. When that
 * fails, or it knows none yet, it reads or creates the lease, as often as it takes (200 ms doubling
 * to 7 s), and updates what it read. A lease is created only when the Node is known, for its uid is
 * the owner's. Behaviour: k8s.io/component-helpers/apimachinery/lease and captures of a real one.
 *
 * The caller sends what it is asked to ask and reports the outcome; one question is open at a time.
 * Pure; one thread. */
#ifndef EDGE_LEASE_H
#define EDGE_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What became of a question to the cloud, as EdgeCore's modules tell outcomes apart. */
enum edge_outcome {
    EDGE_OUTCOME_OK,
    EDGE_OUTCOME_NOT_FOUND,
    EDGE_OUTCOME_CONFLICT,
    EDGE_OUTCOME_EXISTS,
    EDGE_OUTCOME_FORBIDDEN,
    EDGE_OUTCOME_FAILED /* any other error, not connected, and no answer */
};

enum edge_lease_ask {
    EDGE_LEASE_ASK_NONE,
    EDGE_LEASE_ASK_QUERY,
    EDGE_LEASE_ASK_INSERT,
    EDGE_LEASE_ASK_UPDATE
};

struct edge_lease_times {
    uint64_t interval_us, backoff_us, backoff_max_us;
};

struct edge_lease {
    enum edge_lease_ask asked; /* what is open, or NONE */
    bool is_known;             /* `metadata` can be updated */
    bool has_fallen_back; /* in this renewal the lease was read anew; there is no second fallback */
    bool after_conflict;  /* the reading under way serves the loop of updates */
    bool is_backing_off;  /* due_us: read again; else due_us: the next renewal */
    bool is_typed; /* the cloud's object carried kind and apiVersion: Go then writes them too */
    unsigned tries;
    uint64_t backoff_us, due_us;
    char *metadata; /* the JSON object as last read; owned */
    size_t metadata_size;
};

void edge_lease_init(struct edge_lease *l, uint64_t first_us);
void edge_lease_fini(struct edge_lease *l);

/* What to ask now, if it is time and nothing is open. */
enum edge_lease_ask edge_lease_tick(struct edge_lease *l, const struct edge_lease_times *times,
                                    uint64_t now_us);

/* The outcome of what was asked; returns what to ask next, at once. `jitter` is random in [0, 1). A
 * lease that was read must have been stored first. `renewed` tells whether a renewal has just
 * succeeded. */
enum edge_lease_ask edge_lease_done(struct edge_lease *l, const struct edge_lease_times *times,
                                    enum edge_outcome outcome, bool node_is_known, double jitter,
                                    uint64_t now_us, bool *renewed);

/* Keeps a copy of the lease's metadata. 0 or -ENOMEM. */
int edge_lease_store(struct edge_lease *l, const char *metadata, size_t size, bool typed);
uint64_t edge_lease_due(const struct edge_lease *l);

#endif
