/* See flights.h. */
#include "balancer/flights.h"

#include <stdlib.h>
#include <string.h>

#define uthash_nonfatal_oom(element) ((element)->is_kept = false)
#define HASH_NONFATAL_OOM            1
#include <uthash.h>

struct flight {
    UT_hash_handle hh;
    uint64_t deadline_ms;
    uint32_t refusals;
    uint32_t pass; /* the last that showed it */
    bool is_bridged, is_kept;
    char node[];
};

void flights_init(struct flights *f)
{
    memset(f, 0, sizeof(*f));
}

static void drop(struct flights *f, struct flight *flight)
{
    HASH_DEL(f->table, flight);
    free(flight);
}

void flights_forget(struct flights *f)
{
    struct flight *flight, *next;
    HASH_ITER (hh, f->table, flight, next) {
        drop(f, flight);
    }
    f->count = 0;
    f->from_ms = f->skip = 0;
}

void flights_fini(struct flights *f)
{
    flights_forget(f);
    free(f->list);
    memset(f, 0, sizeof(*f));
}

void flights_ask(const struct flights *f, struct beat *beat)
{
    beat->wants_list = true;
    beat->list_from_ms = f->from_ms;
    beat->list_skip = f->skip;
}

static struct flight *create(struct flights *f, const char *node)
{
    size_t size = strlen(node) + 1;
    struct flight *flight = calloc(1, sizeof(*flight) + size);
    if (!flight)
        return NULL;
    memcpy(flight->node, node, size);
    flight->is_kept = true;
    HASH_ADD_KEYPTR(hh, f->table, flight->node, size - 1, flight);
    if (flight->is_kept)
        return flight;
    free(flight);
    return NULL;
}

static void note(struct flights *f, const struct beat_flight *seen)
{
    struct flight *flight = NULL;
    HASH_FIND_STR(f->table, seen->node, flight);
    if (!flight)
        flight = create(f, seen->node);
    if (!flight)
        return;
    flight->deadline_ms = seen->deadline_ms;
    flight->refusals = seen->refusals;
    flight->is_bridged = seen->is_bridged;
    flight->pass = f->pass;
}

/* Where the next page begins, or the next pass. */
static void move_on(struct flights *f, const struct beat_answer *answer)
{
    size_t same = 0;
    uint64_t last = answer->last_deadline_ms;
    if (answer->listed_count < BEAT_LIST_MAX || answer->flight_count == 0) {
        f->from_ms = f->skip = 0;
        f->pass++;
        return;
    }
    for (size_t i = 0; i < answer->flight_count; i++)
        same += answer->flights[i].deadline_ms == last;
    f->skip = last == f->from_ms ? f->skip + same : same;
    f->from_ms = last;
}

static bool is_over(const struct flights *f, const struct flight *flight, bool is_pass_over,
                    uint64_t server_ms)
{
    return flight->deadline_ms <= server_ms || (is_pass_over && flight->pass != f->pass);
}

static bool reserve(struct flights *f, size_t count)
{
    if (count <= f->room)
        return true;
    struct balance_flight *list = realloc(f->list, count * sizeof(*list));
    if (!list)
        return false;
    f->list = list;
    f->room = count;
    return true;
}

static void make_list(struct flights *f, uint64_t server_ms, uint64_t timeout_ms)
{
    struct flight *flight, *next;
    size_t most = reserve(f, HASH_COUNT(f->table)) ? HASH_COUNT(f->table) : f->room;
    f->count = 0;
    HASH_ITER (hh, f->table, flight, next) {
        uint64_t left_ms = flight->deadline_ms - server_ms;
        if (f->count == most)
            return;
        f->list[f->count++] = (struct balance_flight){
            .node = flight->node,
            .refusals = flight->refusals,
            .is_bridged = flight->is_bridged,
            .since_release_ms = timeout_ms > left_ms ? timeout_ms - left_ms : 0};
    }
}

void flights_take(struct flights *f, const struct beat_answer *answer, uint64_t timeout_ms)
{
    struct flight *flight, *next;
    uint64_t server_ms = answer->view.server_ms;
    bool is_pass_over = answer->listed_count < BEAT_LIST_MAX || answer->flight_count == 0;
    for (size_t i = 0; i < answer->flight_count; i++)
        note(f, &answer->flights[i]);
    HASH_ITER (hh, f->table, flight, next) {
        if (is_over(f, flight, is_pass_over, server_ms))
            drop(f, flight);
    }
    move_on(f, answer);
    make_list(f, server_ms, timeout_ms);
}
