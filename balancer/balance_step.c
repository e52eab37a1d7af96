/* Steps the plan, passes its decisions on and remembers them.
 *
 * An order to release is given once: while the owner carries it out, and has not said so, the
 * plan's budget is withheld. One slow node holds up others for BALANCE_ORDER_MS only; after that
 * what is still leaving is taken off the budget, since the plan, which counts the nodes that are
 * connected, cannot know of it. */
#include "balancer/balance.h"
#include "isthmus/log.h"

#include <assert.h>

static void read_self(struct balancer *b)
{
    b->self.id = b->id;
    b->self.incarnation = b->incarnation;
    b->self.live = b->ledger.live;
    b->self.is_store_up = b->redis && redis_is_up(b->redis);
    b->owner.read_self(b->owner.context, &b->self);
    assert(b->self.live == b->ledger.live);
}

/* ---- the log and the memory of decisions ---- */

static bool is_alarming(enum balancer_why why)
{
    switch (why) {
    case BALANCER_WHY_FUTILE_HOME:
    case BALANCER_WHY_FUTILE_FULL:
    case BALANCER_WHY_NO_VICTIM:
    case BALANCER_WHY_HOLD_STALE:
    case BALANCER_WHY_HOLD_PAUSED:
    case BALANCER_WHY_HOLD_CLOCK:
    case BALANCER_WHY_HOLD_BAD_RECORD:
    case BALANCER_WHY_HOLD_TOO_MANY:
    case BALANCER_WHY_HOLD_TWIN:
    case BALANCER_WHY_HOLD_NOT_LISTED:
        return true;
    default:
        return false;
    }
}

static void log_decision(const struct balancer *b, const struct balancer_decision *d,
                         uint64_t now_ms)
{
    uint64_t left_ms = d->until_ms > now_ms ? d->until_ms - now_ms : 0;
    LOG_EMIT(is_alarming(d->why) ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "balance",
             F_STR("phase", balancer_phase_name(d->phase)), F_STR("why", balancer_why_name(d->why)),
             F_STR("text", balancer_why_text(d->why)), F_U64("live", d->live),
             F_U64("expected", d->expected), F_I64("surplus", d->surplus),
             F_U64("tolerance", d->tolerance), F_U64("total", d->total), F_U64("peers", d->peers),
             F_U64("in_flight", d->in_flight), F_U64("own_in_flight", d->own_in_flight),
             F_U64("release", d->release_now), F_U64("would_release", d->would_release),
             F_U64("round_released", d->round_released), F_U64("round_home", d->round_home),
             F_U64("futile_rounds", d->futile_rounds), F_U64("left_ms", left_ms),
             F_BOOL("dry_run", b->config.mode == BALANCER_DRY_RUN));
}

/* While it releases, the plan waits for a grant and goes on with every beat: that is said once a
 * round. */
static bool is_news(struct balancer *b, const struct balancer_decision *before,
                    const struct balancer_decision *d)
{
    uint64_t bit = 1ull << d->why;
    if (b->change_count > 0 && d->phase == before->phase) {
        if (d->why == before->why || (d->phase == BALANCER_RELEASE && (b->said & bit)))
            return false;
    } else {
        b->said = 0;
    }
    b->said |= bit;
    return true;
}

static void remember(struct balancer *b, const struct balancer_decision *d, uint64_t now_ms)
{
    b->changes[b->change_next] = (struct balance_change){.at_ms = now_ms, .decision = *d};
    b->change_next = (b->change_next + 1) % BALANCE_CHANGES;
    if (b->change_count < BALANCE_CHANGES)
        b->change_count++;
    /* A replica on its own has said so once; that there is no store is no news. */
    if (b->redis || d->why != BALANCER_WHY_HOLD_STORE_AWAY)
        log_decision(b, d, now_ms);
}

static void note(struct balancer *b, const struct balancer_decision *before, uint64_t now_ms)
{
    const struct balancer_decision *d = &b->decision;
    if (d->phase == BALANCER_RELEASE && before->phase != BALANCER_RELEASE)
        b->counters.rounds++;
    if (d->futile_rounds > before->futile_rounds)
        b->counters.futile_rounds++;
    if (is_news(b, before, d))
        remember(b, d, now_ms);
}

/* ---- steps ---- */

static void withhold_order(struct balancer *b, uint64_t now_ms)
{
    if (b->decision.release_now == 0)
        return;
    if (b->order_ms != 0 && now_ms - b->order_ms < BALANCE_ORDER_MS) {
        b->decision.release_now = 0;
        return;
    }
    if (b->order_ms != 0) {
        uint32_t *order = &b->decision.release_now;
        *order -= *order < b->self.leaving ? *order : b->self.leaving;
        if (*order == 0)
            return;
    }
    b->order_ms = now_ms;
}

static void forget_flights(struct balancer *b)
{
    b->has_list = false;
    flights_forget(&b->flights);
    b->owner.flights(b->owner.context, NULL, 0);
}

void balance_step(struct balancer *b)
{
    uint64_t now_ms = balance_now_ms();
    struct balancer_decision before = b->decision;
    read_self(b);
    ledger_prune(&b->ledger, now_ms, b->config.inflight_timeout_ms);
    balancer_plan_step(&b->plan, &b->self, now_ms, &b->decision);
    withhold_order(b, now_ms);
    note(b, &before, now_ms);
    if (b->has_list && !b->decision.wants_flight_list)
        forget_flights(b);
    struct balancer_decision decision = b->decision; /* the owner may report at once */
    b->owner.decided(b->owner.context, &decision);
}

/* ---- what the owner reports ---- */

/* The owner's count and ours differ, which is a bug, or an event that found no memory. */
static void say_books_differ(const char *what)
{
    log_limited(LOG_LEVEL_ERROR, "balance_books_differ", F_STR("what", what));
}

void balancer_arrived(struct balancer *b, const char *node)
{
    b->counters.arrived++;
    if (!ledger_arrived(&b->ledger, node))
        return;
    b->counters.returned++;
    balancer_plan_returned(&b->plan, 1);
    b->owner.moved(b->owner.context, &node, 1);
}

void balancer_replaced(struct balancer *b, const char *node)
{
    b->counters.arrived++;
    b->counters.lost++;
    ledger_replaced(&b->ledger, node);
}

void balancer_lost(struct balancer *b, uint32_t count)
{
    b->counters.lost += count;
    if (!ledger_lost(&b->ledger, count))
        say_books_differ("lost");
}

void balancer_released(struct balancer *b, const char *node, bool is_bridged)
{
    uint64_t now_ms = balance_now_ms();
    b->counters.released++;
    bool is_move = b->decision.phase != BALANCER_DRAIN;
    if (!ledger_released(&b->ledger, node, is_bridged, is_move, now_ms))
        say_books_differ("released");
    balancer_plan_released(&b->plan, 1, now_ms);
}

void balancer_order_done(struct balancer *b)
{
    b->order_ms = 0;
}

void balancer_refused(struct balancer *b, const char *node)
{
    b->counters.refused++;
    ledger_refused(&b->ledger, node);
}
