/* The nodes in flight, as far as this replica wants to know them: to refuse them at its door.
 *
 * A beat brings a page of BEAT_LIST_MAX, in the order of deadlines, so usually all. When there are
 * more, the next beats bring the next pages, and after the last one it starts over; what a whole
 * pass did not show has landed and is forgotten. Without memory a node stays unknown, and is taken
 * in when it comes.
 *
 * Threading: pure, the caller's. */
#ifndef BALANCER_FLIGHTS_H
#define BALANCER_FLIGHTS_H

#include "balancer/beat.h"
#include "isthmus/balance.h"

struct flight;

struct flights {
    struct flight *table;
    struct balance_flight *list; /* made of the table after each page */
    size_t count, room;
    uint64_t from_ms; /* where the next page begins */
    size_t skip;
    uint32_t pass;
};

void flights_init(struct flights *f);
void flights_fini(struct flights *f);
/* Nobody asks any more. */
void flights_forget(struct flights *f);

/* Fills the beat's list request. */
void flights_ask(const struct flights *f, struct beat *beat);
/* Takes the page in. Nodes were let go `timeout_ms` before their deadlines. */
void flights_take(struct flights *f, const struct beat_answer *answer, uint64_t timeout_ms);

#endif
