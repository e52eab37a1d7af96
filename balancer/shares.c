/* Who should hold how many connections.
 *
 * Happy path: the takers are the replicas that serve; the total is everything live and everything
 * in flight; each taker gets its part by weight, rounded by largest remainder so that the parts add
 * up. A taker that cannot hold its part (--max-connections) is filled up and the others share the
 * rest.
 *
 * Failure modes are answered on the side of doing nothing. A replica that missed a beat, speaks a
 * record version we do not know, drains, just started, or shares its id with an older process is
 * counted in the total but given no part, which raises everybody else's part and so lowers their
 * surplus. Equal remainders go to who holds more already: rounding never causes a move.
 *
 * Threading: pure. */
#include "balancer/plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static bool id_is_sane(const char *id)
{
    size_t length = strnlen(id, BALANCER_ID_SIZE);
    if (length == 0 || length == BALANCER_ID_SIZE)
        return false;
    for (size_t i = 0; i < length; i++)
        if (id[i] <= ' ' || id[i] > '~')
            return false;
    return true;
}

bool balancer_record_is_sane(const struct balancer_record *record, const struct balancer_view *view,
                             const struct balancer_config *config)
{
    if (!id_is_sane(record->id) || record->live > BALANCER_LIVE_MAX)
        return false;
    if (record->seen_server_ms > view->server_ms + config->period_ms)
        return false;
    if (record->version != BALANCER_RECORD_VERSION)
        return true; /* the rest may mean something else there */
    return record->weight >= 1 && record->weight <= BALANCER_WEIGHT_MAX &&
           record->room <= BALANCER_LIVE_MAX && record->since_server_ms <= record->seen_server_ms &&
           record->state <= BALANCER_DRAINING && record->mode <= BALANCER_ON;
}

uint32_t balancer_tolerance(const struct balancer_config *config, uint32_t expected)
{
    /* A surplus is a whole number: above 5.5 is above 5. */
    uint64_t share = (uint64_t)(config->tolerance * expected);
    return (uint32_t)(share > config->tolerance_abs ? share : config->tolerance_abs);
}

/* Late: it missed a beat. New: a replica that crashed before this one came may not be late yet, and
 * counting both would find too little for everybody, which a quick restart under a new id would pay
 * for with moves. Once the newcomer is no longer new, the other is late in the same view. */
static bool is_late(const struct balancer_record *r, const struct balancer_view *view,
                    const struct balancer_config *config)
{
    return r->seen_server_ms + balancer_patience_ms(config) < view->server_ms;
}

static bool is_new(const struct balancer_record *r, const struct balancer_view *view,
                   const struct balancer_config *config)
{
    return r->since_server_ms + balancer_patience_ms(config) >= view->server_ms;
}

static bool is_twin(const struct balancer_view *view, size_t i)
{
    return i > 0 && strcmp(view->records[i].id, view->records[i - 1].id) == 0;
}

static bool is_taker(const struct balancer_view *view, size_t i,
                     const struct balancer_config *config)
{
    const struct balancer_record *r = &view->records[i];
    return r->version == BALANCER_RECORD_VERSION && r->state == BALANCER_SERVING &&
           !is_twin(view, i) && !is_late(r, view, config) && !is_new(r, view, config);
}

/* Removes from `open` everybody whose part would exceed its capacity, giving it just that. Each
 * removal raises the part of those that stay, hence the repetition. Returns how many stay. */
static size_t fill_up(struct balancer_shares *s, const struct balancer_view *view, size_t open,
                      uint64_t *rest, uint64_t *weights)
{
    size_t before;
    do {
        before = open;
        for (size_t k = 0; k < open;) {
            uint32_t i = s->order[k];
            const struct balancer_record *r = &view->records[i];
            uint64_t capacity = (uint64_t)r->live + r->room;
            if (*rest * r->weight <= capacity * *weights) {
                k++;
                continue;
            }
            s->expected[i] = (uint32_t)capacity;
            *rest -= capacity;
            *weights -= r->weight;
            s->order[k] = s->order[--open];
        }
    } while (open < before);
    return open;
}

struct ranking {
    const struct balancer_shares *shares;
    const struct balancer_record *records;
};

static int compare_claims(const void *left, const void *right, void *context)
{
    const struct ranking *ranking = context;
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    if (ranking->shares->remainder[a] != ranking->shares->remainder[b])
        return ranking->shares->remainder[a] > ranking->shares->remainder[b] ? -1 : 1;
    if (ranking->records[a].live != ranking->records[b].live)
        return ranking->records[a].live > ranking->records[b].live ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Divides `rest` among the first `open` of s->order by weight. */
static void divide(struct balancer_shares *s, const struct balancer_view *view, size_t open,
                   uint64_t rest, uint64_t weights)
{
    uint64_t left = rest;
    for (size_t k = 0; k < open; k++) {
        uint32_t i = s->order[k];
        uint64_t product = rest * view->records[i].weight;
        s->expected[i] = (uint32_t)(product / weights);
        s->remainder[i] = product % weights;
        left -= s->expected[i];
    }
    if (left == 0)
        return;
    assert(left < open);

    struct ranking ranking = {s, view->records};
    qsort_r(s->order, open, sizeof(s->order[0]), compare_claims, &ranking);
    for (size_t k = 0; k < left; k++)
        s->expected[s->order[k]]++;
}

void balancer_shares_compute(struct balancer_shares *s, const struct balancer_view *view,
                             const struct balancer_config *config)
{
    assert(view->record_count <= BALANCER_REPLICAS_MAX);
    uint64_t total = (uint64_t)view->named_in_flight + view->anonymous_in_flight;
    uint64_t weights = 0, capacity = 0;
    size_t open = 0;
    for (size_t i = 0; i < view->record_count; i++) {
        const struct balancer_record *r = &view->records[i];
        total += r->live;
        s->expected[i] = 0;
        s->is_taker[i] = is_taker(view, i, config);
        if (!s->is_taker[i])
            continue;
        weights += r->weight;
        capacity += (uint64_t)r->live + r->room;
        s->order[open++] = (uint32_t)i;
    }
    assert(total <= UINT32_MAX);
    s->total = (uint32_t)total;
    s->taker_count = (uint32_t)open;
    if (open == 0)
        return;

    /* When the fleet exceeds all the room there is, room cannot guide: by weight alone then. */
    if (capacity >= total)
        open = fill_up(s, view, open, &total, &weights);
    divide(s, view, open, total, weights);
}
