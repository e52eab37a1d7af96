/* What one beat's answer means for this replica: is the view to be trusted, what is expected here,
 * who else lacks or has too much, and is there a reason to start a round.
 *
 * Happy path: balancer_plan_beat() checks epoch and clock, checks every record, computes the shares
 * and keeps a handful of numbers; the view itself is not kept.
 *
 * Failure modes each become a hold with a name (enum balancer_why). One impossible record spoils
 * the whole view: the total would be wrong, and waiting until it has gone costs nothing.
 *
 * Threading: pure, on the caller's plan. */
#include "balancer/plan.h"

#include <assert.h>
#include <string.h>

/* In the bounds of server minus own clock: below it a step hurts nobody. */
#define CLOCK_SLACK_MS 500

/* When of at least so many nodes that the group released not one in LANDED_USEFUL landed where it
 * was needed, nobody goes on. */
#define LANDED_SAMPLE 20
#define LANDED_USEFUL 20
/* So many beats long, that everybody has told of arrivals: one replica's alone say nothing. */
#define SAMPLE_BEATS 3

/* Released nodes that must have come back before a round is broken off for it. */
#define HOME_SAMPLE 10

#define IN_FLIGHT_MAX 1000000000u

static void hold_for_flight(struct balancer_plan *plan, enum balancer_why why, uint64_t until_ms)
{
    if (until_ms > plan->hold_until_ms)
        plan->hold_until_ms = until_ms;
    plan->hold_why = why;
    plan->streak = 0;
}

/* The store ran the script at a moment of our clock between `sent` and `now`, which bounds the
 * difference of the clocks; when two beats' bounds do not meet, the store's clock stepped. */
static void note_clock(struct balancer_plan *plan, const struct balancer_view *view,
                       uint64_t sent_ms, uint64_t now_ms)
{
    uint64_t low = view->server_ms - now_ms, high = view->server_ms - sent_ms;
    bool is_apart = (int64_t)(low - plan->clock_high_ms) > CLOCK_SLACK_MS ||
                    (int64_t)(plan->clock_low_ms - high) > CLOCK_SLACK_MS;
    if (plan->has_view && is_apart)
        hold_for_flight(plan, BALANCER_WHY_HOLD_CLOCK, now_ms + plan->config.inflight_timeout_ms);
    plan->clock_low_ms = low;
    plan->clock_high_ms = high;
}

/* A young epoch holds a newcomer too, who cannot know what was lost when it began. */
static void note_epoch(struct balancer_plan *plan, const struct balancer_view *view,
                       uint64_t now_ms)
{
    uint64_t timeout = plan->config.inflight_timeout_ms;
    uint64_t age = view->server_ms - view->epoch_since_server_ms;
    if (view->epoch_since_server_ms > view->server_ms)
        age = 0;
    if (plan->has_view && view->epoch != plan->epoch)
        age = 0;
    if (age < timeout)
        hold_for_flight(plan, BALANCER_WHY_HOLD_EPOCH, now_ms + timeout - age);
    if (!plan->has_view || view->epoch != plan->epoch) {
        plan->landed = view->landed;
        plan->landed_full = view->landed_full;
        balancer_plan_start_sample(plan);
    }
    plan->epoch = view->epoch;
}

static size_t find_own(const struct balancer_view *view, const struct balancer_self *self)
{
    size_t i = 0;
    while (i < view->record_count && (view->records[i].incarnation != self->incarnation ||
                                      strcmp(view->records[i].id, self->id) != 0))
        i++;
    return i;
}

static enum balancer_why examine(const struct balancer_plan *plan, const struct balancer_self *self,
                                 const struct balancer_view *view)
{
    if (view->record_count > BALANCER_REPLICAS_MAX)
        return BALANCER_WHY_HOLD_TOO_MANY;
    if (view->bad_record_count > 0 || view->named_in_flight > IN_FLIGHT_MAX ||
        view->anonymous_in_flight > IN_FLIGHT_MAX)
        return BALANCER_WHY_HOLD_BAD_RECORD;
    for (size_t i = 0; i < view->record_count; i++)
        if (!balancer_record_is_sane(&view->records[i], view, &plan->config))
            return BALANCER_WHY_HOLD_BAD_RECORD;

    size_t own = find_own(view, self);
    if (own == view->record_count)
        return BALANCER_WHY_HOLD_NOT_LISTED;
    if (own > 0 && strcmp(view->records[own - 1].id, self->id) == 0)
        return BALANCER_WHY_HOLD_TWIN;
    return BALANCER_WHY_BALANCED;
}

/* When replicas come or go the balancer in front places connections anew, so what was futile is
 * worth another try. A sum, since it must not depend on the order. */
static void note_membership(struct balancer_plan *plan, const struct balancer_view *view)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < view->record_count; i++)
        sum += (view->records[i].incarnation ^ (view->records[i].incarnation >> 29)) *
               0x9E3779B97F4A7C15u;
    if (sum == plan->membership)
        return;
    if (plan->phase == BALANCER_BACKOFF)
        plan->until_ms = 0;
    balancer_plan_start_sample(plan);
    plan->membership = sum;
}

/* The weight for newly arriving connections: what is missing to the share, plus a little by share,
 * so that small differences do not swing it about. */
static double agent_score(uint32_t expected, uint32_t live, uint32_t tolerance)
{
    return (expected > live ? expected - live : 0) + (double)tolerance;
}

static bool is_beyond(uint32_t live, uint32_t expected, uint32_t tolerance)
{
    return (uint64_t)live > (uint64_t)expected + tolerance || (uint64_t)live + tolerance < expected;
}

/* What the peers have and lack. Returns the fleet's surplus, own part included. */
static uint64_t survey(struct balancer_plan *plan, const struct balancer_view *view,
                       const struct balancer_shares *shares, size_t own, bool *has_needy)
{
    uint64_t fleet_surplus = 0;
    for (size_t i = 0; i < view->record_count; i++) {
        const struct balancer_record *r = &view->records[i];
        if (!shares->is_taker[i])
            continue;
        uint32_t expected = shares->expected[i];
        uint32_t tolerance = balancer_tolerance(&plan->config, expected);
        double score = agent_score(expected, r->live, tolerance);
        if (score > plan->best_score)
            plan->best_score = score;
        if (r->live > expected)
            fleet_surplus += r->live - expected;
        plan->is_uneven |= is_beyond(r->live, expected, tolerance);
        if (i == own) {
            plan->score = score;
            continue;
        }
        plan->peers++;
        if (!r->is_full)
            plan->others_room += r->room;
        /* What is in flight may land there by itself. */
        uint64_t in_flight = (uint64_t)plan->named + plan->anonymous;
        if (r->room > 0 && r->live + in_flight + tolerance < expected)
            *has_needy = true;
    }
    return fleet_surplus;
}

/* What the whole fleet may have in flight, divided by need, so that the first to ask does not get
 * everything. Rounded up: with a handful of nodes the store's cap alone decides. */
static uint32_t fair_part(const struct balancer_plan *plan, uint32_t surplus,
                          uint64_t fleet_surplus)
{
    double cap = plan->config.release_max_fraction * plan->total;
    double part = (cap < 1 ? 1 : cap) * surplus / (double)fleet_surplus;
    uint64_t whole = (uint64_t)part;
    whole += (double)whole < part;
    return whole < surplus ? (uint32_t)whole : surplus;
}

/* An episode lasts from the first view in which somebody is beyond tolerance until nobody is,
 * nothing released is in flight and the own round is over. All replicas see about the same one. */
static void note_episode(struct balancer_plan *plan, bool was_uneven, uint64_t now_ms)
{
    bool is_in_round = plan->phase == BALANCER_RELEASE || plan->phase == BALANCER_OBSERVE;
    plan->is_uneven |= was_uneven && (plan->named > 0 || is_in_round);
    if (plan->is_uneven && !was_uneven)
        plan->uneven_since_ms = now_ms;
}

static void digest(struct balancer_plan *plan, const struct balancer_self *self,
                   const struct balancer_view *view, struct balancer_shares *shares,
                   uint64_t now_ms)
{
    balancer_shares_compute(shares, view, &plan->config);
    size_t own = find_own(view, self);
    plan->total = shares->total;
    plan->expected = shares->expected[own];
    plan->tolerance = balancer_tolerance(&plan->config, plan->expected);
    plan->peers = 0;
    plan->others_room = 0;
    plan->is_taker = shares->is_taker[own];
    plan->score = plan->best_score = 0;
    bool has_needy = false, was_uneven = plan->is_uneven;
    plan->is_uneven = false;
    uint64_t fleet_surplus = survey(plan, view, shares, own, &has_needy);
    note_episode(plan, was_uneven, now_ms);
    if (plan->peers == 0)
        plan->view_hold = BALANCER_WHY_HOLD_ALONE;

    plan->reason = BALANCER_WHY_BALANCED;
    plan->fair_want = 0;
    uint32_t live = view->records[own].live;
    if (live <= plan->expected || !plan->is_taker)
        return;
    uint32_t surplus = live - plan->expected;
    plan->fair_want = fair_part(plan, surplus, fleet_surplus);
    if (surplus > plan->tolerance)
        plan->reason = BALANCER_WHY_SURPLUS;
    else if (has_needy)
        plan->reason = BALANCER_WHY_NEEDY_PEER;
}

void balancer_plan_start_sample(struct balancer_plan *plan)
{
    plan->is_full_futile = plan->is_useful = false;
    plan->sample_since_ms = 0; /* from the next beat on */
    plan->landed_mark = plan->landed;
    plan->full_mark = plan->landed_full;
}

/* Where released nodes landed: ours (known by name) and everybody's (counted by the store). */
static void note_landings(struct balancer_plan *plan, const struct balancer_view *view,
                          uint64_t now_ms)
{
    plan->landed = view->landed;
    plan->landed_full = view->landed_full;
    uint64_t landed = plan->landed - plan->landed_mark;
    uint64_t useful = landed - (plan->landed_full - plan->full_mark);
    bool is_reset = view->landed < plan->landed_mark || view->landed_full < plan->full_mark;
    if (is_reset)
        balancer_plan_start_sample(plan);
    if (landed == 0 || plan->sample_since_ms == 0)
        plan->sample_since_ms = now_ms;
    plan->is_useful |= landed > 0 && useful * LANDED_USEFUL >= landed;
    bool is_long = now_ms - plan->sample_since_ms >= SAMPLE_BEATS * plan->config.period_ms;
    if (landed >= LANDED_SAMPLE && is_long && !is_reset) {
        plan->is_full_futile = useful * LANDED_USEFUL < landed;
        plan->is_useful = !plan->is_full_futile;
        plan->landed_mark = plan->landed;
        plan->full_mark = plan->landed_full;
        plan->sample_since_ms = plan->sample_end_ms = now_ms;
    }
    uint32_t away = balancer_min_u32(view->own_in_flight, plan->round_released);
    uint32_t back = plan->round_released - away;
    plan->is_home_futile =
        plan->round_home >= HOME_SAMPLE && plan->round_home >= plan->config.futile_fraction * back;
}

void balancer_plan_beat(struct balancer_plan *plan, const struct balancer_self *self,
                        const struct balancer_view *view, struct balancer_shares *shares,
                        uint64_t sent_ms, uint64_t now_ms)
{
    assert(sent_ms <= now_ms);
    if (plan->has_view && sent_ms <= plan->view_sent_ms)
        return;
    note_clock(plan, view, sent_ms, now_ms);
    note_epoch(plan, view, now_ms);
    note_membership(plan, view);
    note_landings(plan, view, now_ms);
    plan->has_view = true;
    plan->view_sent_ms = sent_ms;
    plan->named = view->named_in_flight;
    plan->anonymous = view->anonymous_in_flight;
    plan->own_in_flight = view->own_in_flight;
    plan->grant = 0;
    plan->view_hold = examine(plan, self, view);
    plan->reason = BALANCER_WHY_BALANCED;
    plan->is_taker = false;
    if (plan->view_hold == BALANCER_WHY_BALANCED)
        digest(plan, self, view, shares, now_ms);

    if (balancer_plan_hold(plan, self, now_ms) != BALANCER_WHY_BALANCED) {
        plan->streak = 0;
        return;
    }
    plan->streak = plan->reason == BALANCER_WHY_BALANCED ? 0 : plan->streak + 1;
    plan->grant = plan->config.mode == BALANCER_DRY_RUN ? plan->fair_want : view->grant;
}
