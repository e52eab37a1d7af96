/* The books between the hub and the group's store: which sessions came and went, and what of it the
 * store knows.
 *
 * Entries wait until ledger_freeze() puts them into a batch with a number; the batch goes with a
 * beat, again and again if need be, until it is acknowledged. `live_told` is always the number of
 * connections that is consistent with the batches so far, so that nothing is counted twice or not
 * at all while it is on its way from one replica to another.
 *
 * Failure modes: without memory for a name, or with too many waiting, a node is counted without its
 * name: the sums stay right, only that node cannot be refused elsewhere. A node that comes back
 * here before the store heard that it was let go leaves no trace but its return.
 *
 * Threading: pure, the caller's. */
#ifndef BALANCER_LEDGER_H
#define BALANCER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In one batch at most; in all of a kind. */
#define LEDGER_BATCH_NAMES   4000
#define LEDGER_WAITING_NAMES 100000

/* Names in the order they came; the first `sent` of them are in the batch. */
struct ledger_names {
    char **items;
    uint64_t *at_ms; /* beside them: when each was let go; for others nothing */
    size_t sent, count, room;
};

struct ledger_own; /* a node let go here, for as long as it may come back */

struct ledger {
    uint32_t live;
    int64_t live_told;
    struct ledger_names arrived, bridged, released, refused; /* released: not bridged */
    uint32_t lost, unnamed;                                  /* waiting */
    uint32_t sent_lost, sent_unnamed;                        /* in the batch */
    bool has_moves, sent_moves; /* some were let go to balance, not in a drain: waiting, sent */
    bool has_batch;
    uint64_t seq, acked; /* numbers of the last batch made, and acknowledged; from 1 */
    struct ledger_own *own;
};

void ledger_init(struct ledger *l);
void ledger_fini(struct ledger *l);

/* See the functions of the same names in isthmus/balance.h. Arrived: whether it was let go here
 * before, less than what ledger_prune() keeps. */
bool ledger_arrived(struct ledger *l, const char *node);
void ledger_replaced(struct ledger *l, const char *node);
/* False: more than there are; then as many as there are. */
bool ledger_lost(struct ledger *l, uint32_t count);
/* `is_move`: to balance, not in a drain. False: there was none to let go. */
bool ledger_released(struct ledger *l, const char *node, bool is_bridged, bool is_move,
                     uint64_t now_ms);
void ledger_refused(struct ledger *l, const char *node);

/* Forgets who was let go more than `keep_ms` ago. */
void ledger_prune(struct ledger *l, uint64_t now_ms, uint64_t keep_ms);
/* The store was away for so long that nobody who was lost meanwhile is on its way any more. */
void ledger_forget_lost(struct ledger *l);

/* Makes a batch of what waits, or leaves the one that is not acknowledged yet. With
 * `may_omit_names` (nobody is in flight by name) arrivals beyond the bound go as a number. */
void ledger_freeze(struct ledger *l, bool may_omit_names);
void ledger_acknowledge(struct ledger *l);
/* A last batch, with everything: what is still connected counts as lost. None must be waiting for
 * its acknowledgement. */
void ledger_freeze_all(struct ledger *l);

/* Names that wait or are in the batch. */
size_t ledger_unreported(const struct ledger *l);

#endif
