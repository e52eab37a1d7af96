/* The plan's step: what to do now. See isthmus/balancer.h for the phases.
 *
 * Happy path: DETECT sees the same reason on two beats, fixes the round's target (the surplus of
 * that moment) and enters RELEASE, which hands out a budget: no more than the surplus by the last
 * beat, than what the store granted, than the rate allows. When the surplus is gone OBSERVE waits
 * until everything has landed, judges the round, and DETECT begins again.
 *
 * Failure modes: any hold breaks a round off into OBSERVE, so that after the trouble everything is
 * detected anew; a pause of this process moves the deadlines by its length and asks for a fresh
 * beat; a round that came back or found nobody leads to BACKOFF, twice as long each time, and then
 * to a small probe instead of a full round. DRAIN knows no holds.
 *
 * Threading: pure, on the caller's plan. */
#include "balancer/plan.h"

#include <assert.h>
#include <string.h>

/* After a futile round: try with a twentieth of the surplus, at least two. */
#define PROBE_PART 20
#define PROBE_MIN  2u

/* In the last tenth of a drain every connection is as good a victim as any other. */
#define AT_ONCE_PART 10

static bool can_follow(enum balancer_phase from, enum balancer_phase to)
{
    switch (to) {
    case BALANCER_DETECT:
        return true;
    case BALANCER_RELEASE:
        return from == BALANCER_DETECT;
    case BALANCER_OBSERVE:
        return from == BALANCER_RELEASE || from == BALANCER_DRAIN;
    case BALANCER_BACKOFF:
        return from != BALANCER_BACKOFF && from != BALANCER_DRAIN;
    case BALANCER_DRAIN:
        return from != BALANCER_DRAIN;
    case BALANCER_PHASE_COUNT:
        break;
    }
    return false;
}

/* The only writer of plan->phase. */
static void enter(struct balancer_plan *plan, enum balancer_phase phase, uint64_t until_ms)
{
    assert(can_follow(plan->phase, phase));
    plan->phase = phase;
    plan->until_ms = until_ms;
    plan->credit = 0;
}

void balancer_plan_init(struct balancer_plan *plan, const struct balancer_config *config,
                        uint64_t now_ms)
{
    assert(!balancer_config_check(config));
    memset(plan, 0, sizeof(*plan));
    plan->config = *config;
    plan->last_step_ms = now_ms;
}

/* ---- reasons not to release ---- */

enum balancer_why balancer_plan_view_hold(const struct balancer_plan *plan,
                                          const struct balancer_self *self, uint64_t now_ms)
{
    if (!self->is_store_up)
        return BALANCER_WHY_HOLD_STORE_AWAY;
    if (!plan->has_view)
        return BALANCER_WHY_HOLD_NO_VIEW;
    if (plan->view_sent_ms < plan->paused_until_ms)
        return BALANCER_WHY_HOLD_PAUSED;
    if (now_ms - plan->view_sent_ms > balancer_patience_ms(&plan->config))
        return BALANCER_WHY_HOLD_STALE;
    return plan->view_hold;
}

enum balancer_why balancer_plan_hold(const struct balancer_plan *plan,
                                     const struct balancer_self *self, uint64_t now_ms)
{
    if (plan->config.mode == BALANCER_OFF)
        return BALANCER_WHY_HOLD_OFF;
    if (!self->is_ready)
        return BALANCER_WHY_HOLD_NOT_READY;
    enum balancer_why why = balancer_plan_view_hold(plan, self, now_ms);
    if (why != BALANCER_WHY_BALANCED)
        return why;
    if (now_ms < plan->hold_until_ms)
        return plan->hold_why;
    if (!self->is_api_ok)
        return BALANCER_WHY_HOLD_API;
    return BALANCER_WHY_BALANCED;
}

/* The process was stopped, or its machine was: what seemed due in between is not, and whatever was
 * known is old. Half a period without a step is no scheduling delay. */
static void note_pause(struct balancer_plan *plan, uint64_t now_ms)
{
    uint64_t gap = now_ms - plan->last_step_ms;
    plan->last_step_ms = now_ms;
    if (gap <= plan->config.period_ms / 2)
        return;
    if (plan->until_ms && plan->phase != BALANCER_DRAIN) /* who sent the SIGTERM does not wait */
        plan->until_ms += gap;
    if (plan->offered_since_ms)
        plan->offered_since_ms += gap;
    if (plan->hold_until_ms)
        plan->hold_until_ms += gap;
    plan->last_release_ms += gap;
    plan->paused_until_ms = now_ms;
    plan->streak = 0;
    plan->grant = 0;
    plan->credit = 0;
}

/* ---- rounds ---- */

static int64_t surplus_now(const struct balancer_plan *plan, const struct balancer_self *self)
{
    return (int64_t)self->live - plan->expected;
}

static uint32_t round_left(const struct balancer_plan *plan)
{
    return plan->round_target - balancer_min_u32(plan->round_released, plan->round_target);
}

static void start_round(struct balancer_plan *plan, uint32_t surplus)
{
    plan->round_target = surplus;
    if (plan->futile_rounds > 0) {
        uint32_t probe = surplus / PROBE_PART;
        plan->round_target = balancer_min_u32(surplus, probe > PROBE_MIN ? probe : PROBE_MIN);
    }
    plan->round_released = plan->round_home = 0;
    plan->is_home_futile = plan->is_called_off = false;
    plan->offered_since_ms = 0;
    enter(plan, BALANCER_RELEASE, 0);
}

/* All that was released here has been seen somewhere, by a beat that knew of all of it; or can no
 * longer be in flight, which is all one can say without the store. */
static bool has_settled(const struct balancer_plan *plan, uint64_t now_ms)
{
    if (plan->view_sent_ms >= plan->last_release_ms && plan->own_in_flight == 0)
        return true;
    return now_ms >=
           plan->last_release_ms + plan->config.inflight_timeout_ms + plan->config.period_ms;
}

static uint64_t backoff_ms(const struct balancer_plan *plan)
{
    uint64_t wait = plan->config.futile_backoff_ms, most = plan->config.futile_backoff_max_ms;
    for (uint32_t i = 1; i < plan->futile_rounds && wait < most; i++)
        wait *= 2;
    return wait < most ? wait : most;
}

static void back_off(struct balancer_plan *plan, enum balancer_why verdict, uint64_t now_ms)
{
    plan->futile_rounds++;
    plan->verdict = verdict;
    plan->streak = 0;
    enter(plan, BALANCER_BACKOFF, now_ms + backoff_ms(plan));
}

static void judge_round(struct balancer_plan *plan, uint64_t now_ms)
{
    plan->streak = 0;
    if (plan->is_called_off) {
        enter(plan, BALANCER_DETECT, 0);
        return;
    }
    bool is_home = plan->round_home >= plan->config.futile_fraction * plan->round_released;
    if (!is_home && !plan->is_full_futile) {
        /* That few landed is no proof that they landed well. */
        if (plan->is_useful || plan->verdict != BALANCER_WHY_FUTILE_FULL)
            plan->futile_rounds = 0;
        enter(plan, BALANCER_DETECT, 0);
        return;
    }
    back_off(plan, is_home ? BALANCER_WHY_FUTILE_HOME : BALANCER_WHY_FUTILE_FULL, now_ms);
}

/* Nobody could be found for so long that every node had several renewals. */
static bool is_out_of_victims(const struct balancer_plan *plan, uint64_t now_ms)
{
    return plan->offered_since_ms && now_ms - plan->offered_since_ms >= plan->config.observe_ms;
}

static bool is_release_over(const struct balancer_plan *plan, int64_t surplus,
                            enum balancer_why hold, uint64_t now_ms)
{
    return hold != BALANCER_WHY_BALANCED || surplus <= 0 || round_left(plan) == 0 ||
           plan->is_home_futile || plan->is_full_futile || is_out_of_victims(plan, now_ms);
}

static void end_release(struct balancer_plan *plan, enum balancer_why hold, uint64_t now_ms,
                        struct balancer_decision *d)
{
    plan->streak = 0;
    d->why = hold != BALANCER_WHY_BALANCED ? hold : BALANCER_WHY_OBSERVING;
    if (plan->round_released > 0) {
        enter(plan, BALANCER_OBSERVE, plan->last_release_ms + plan->config.observe_ms);
        return;
    }
    if (hold != BALANCER_WHY_BALANCED || !is_out_of_victims(plan, now_ms)) {
        enter(plan, BALANCER_DETECT, 0);
        return;
    }
    d->why = BALANCER_WHY_NO_VICTIM;
    plan->uneven_since_ms = now_ms; /* the next try is a new episode */
    back_off(plan, BALANCER_WHY_NO_VICTIM, now_ms);
}

/* ---- budgets ---- */

static void earn_credit(struct balancer_plan *plan, double rate, uint64_t elapsed_ms)
{
    double most = rate < 1 ? 1 : rate;
    plan->credit += rate * (double)elapsed_ms / 1000;
    if (plan->credit > most)
        plan->credit = most;
}

static uint32_t release_budget(const struct balancer_plan *plan, uint32_t surplus)
{
    uint32_t budget = balancer_min_u32(surplus, round_left(plan));
    return balancer_min_u32(balancer_min_u32(budget, plan->grant), (uint32_t)plan->credit);
}

/* What the next beat should ask for: this replica's part of the fleet's allowance, and no more than
 * it could use until the beat after. Asked for from the first beat with a reason on, so that the
 * grant is there when the second confirms it. */
static uint32_t wanted_grant(const struct balancer_plan *plan, uint32_t surplus)
{
    if (plan->config.mode != BALANCER_ON)
        return 0;
    uint32_t want = balancer_min_u32(surplus, plan->fair_want);
    if (plan->phase == BALANCER_RELEASE)
        want = balancer_min_u32(want, round_left(plan));
    else if (plan->phase != BALANCER_DETECT || plan->streak == 0)
        return 0;
    uint64_t rate = (plan->config.release_rate * plan->config.period_ms + 999) / 1000;
    return want < rate ? want : (uint32_t)rate;
}

/* ---- the phases ---- */

static enum balancer_why idle_why(const struct balancer_plan *plan, int64_t surplus)
{
    if (plan->streak > 0)
        return BALANCER_WHY_SECOND_BEAT;
    return -surplus > (int64_t)plan->tolerance ? BALANCER_WHY_BELOW : BALANCER_WHY_BALANCED;
}

static void step_release(struct balancer_plan *plan, uint32_t surplus, uint64_t elapsed_ms,
                         uint64_t now_ms, struct balancer_decision *d)
{
    earn_credit(plan, (double)plan->config.release_rate, elapsed_ms);
    uint32_t budget = release_budget(plan, surplus);
    if (budget > 0 && !plan->offered_since_ms)
        plan->offered_since_ms = now_ms;
    d->why = plan->grant == 0                          ? BALANCER_WHY_NO_GRANT
             : plan->reason == BALANCER_WHY_NEEDY_PEER ? BALANCER_WHY_NEEDY_PEER
                                                       : BALANCER_WHY_SURPLUS;
    if (plan->config.mode == BALANCER_ON) {
        d->release_now = budget;
        return;
    }
    /* The dry run goes through the same phases as if it had released. */
    d->would_release = budget;
    if (budget > 0)
        balancer_plan_released(plan, budget, now_ms);
}

static void step_detect(struct balancer_plan *plan, int64_t surplus, enum balancer_why hold,
                        uint64_t now_ms, struct balancer_decision *d)
{
    d->why = hold != BALANCER_WHY_BALANCED ? hold : idle_why(plan, surplus);
    if (hold != BALANCER_WHY_BALANCED || plan->streak < BALANCER_STREAK || surplus <= 0)
        return;
    if (plan->is_full_futile) { /* what others released tells enough */
        d->why = BALANCER_WHY_FUTILE_FULL;
        back_off(plan, BALANCER_WHY_FUTILE_FULL, now_ms);
        return;
    }
    start_round(plan, (uint32_t)surplus);
    step_release(plan, (uint32_t)surplus, 0, now_ms, d);
}

static void step_observe(struct balancer_plan *plan, enum balancer_why hold, uint64_t now_ms,
                         struct balancer_decision *d)
{
    d->why = hold;
    if (now_ms < plan->until_ms) {
        if (hold == BALANCER_WHY_BALANCED)
            d->why = BALANCER_WHY_OBSERVING;
        return;
    }
    if (has_settled(plan, now_ms))
        judge_round(plan, now_ms);
    else if (hold == BALANCER_WHY_BALANCED)
        d->why = BALANCER_WHY_IN_FLIGHT;
}

/* Not everybody has to try again: what others found out meanwhile is as good for as long as the
 * shortest backoff. */
static void step_backoff(struct balancer_plan *plan, uint64_t now_ms, struct balancer_decision *d)
{
    d->why = plan->verdict;
    if (now_ms < plan->until_ms)
        return;
    if (now_ms - plan->sample_end_ms > plan->config.futile_backoff_ms)
        balancer_plan_start_sample(plan);
    enter(plan, BALANCER_DETECT, 0);
}

static void step_balance(struct balancer_plan *plan, const struct balancer_self *self,
                         uint64_t elapsed_ms, uint64_t now_ms, struct balancer_decision *d)
{
    enum balancer_why hold = balancer_plan_hold(plan, self, now_ms);
    int64_t surplus = surplus_now(plan, self);
    switch (plan->phase) {
    case BALANCER_DRAIN: /* it was called off: what it let go comes home, which says nothing */
        plan->is_called_off = true;
        plan->streak = 0;
        enter(plan, BALANCER_OBSERVE, plan->last_release_ms + plan->config.observe_ms);
        /* fall through */
    case BALANCER_OBSERVE:
        step_observe(plan, hold, now_ms, d);
        break;
    case BALANCER_DETECT:
        step_detect(plan, surplus, hold, now_ms, d);
        break;
    case BALANCER_RELEASE:
        if (is_release_over(plan, surplus, hold, now_ms))
            end_release(plan, hold, now_ms, d);
        else
            step_release(plan, (uint32_t)surplus, elapsed_ms, now_ms, d);
        break;
    case BALANCER_BACKOFF:
        step_backoff(plan, now_ms, d);
        break;
    case BALANCER_PHASE_COUNT:
        assert(!"a phase");
    }
    if (hold == BALANCER_WHY_BALANCED && surplus > 0)
        d->want = wanted_grant(plan, (uint32_t)surplus);
}

/* The time to let go of everything: what is left of --drain-timeout when the last node's lease has
 * been bridged, or half of it if it is too short for both. */
static uint64_t drain_window_ms(const struct balancer_config *config)
{
    if (config->drain_timeout_ms > 2 * config->bridge_ms)
        return config->drain_timeout_ms - config->bridge_ms;
    return config->drain_timeout_ms / 2;
}

static void step_drain(struct balancer_plan *plan, const struct balancer_self *self,
                       uint64_t elapsed_ms, uint64_t now_ms, struct balancer_decision *d)
{
    if (plan->phase != BALANCER_DRAIN) {
        enter(plan, BALANCER_DRAIN, now_ms + drain_window_ms(&plan->config));
        plan->round_released = plan->round_home = 0;
    }
    plan->expected = 0;
    d->is_drained = self->live == 0 && self->bridged == 0;
    d->why = d->is_drained ? BALANCER_WHY_DRAINED : BALANCER_WHY_DRAINING;
    uint64_t left = plan->until_ms > now_ms ? plan->until_ms - now_ms : 0;
    if (left < drain_window_ms(&plan->config) / AT_ONCE_PART)
        d->urgency = BALANCER_AT_ONCE;
    else
        d->urgency = BALANCER_URGENT;
    if (left == 0) {
        d->release_now = self->live;
        return;
    }
    double rate = (double)plan->config.release_rate, needed = self->live * 1000.0 / (double)left;
    earn_credit(plan, needed > rate ? needed : rate, elapsed_ms);
    d->release_now = balancer_min_u32(self->live, (uint32_t)plan->credit);
}

static void tell_numbers(const struct balancer_plan *plan, const struct balancer_self *self,
                         uint64_t now_ms, struct balancer_decision *d)
{
    d->phase = plan->phase;
    d->episode_ms = plan->is_uneven ? now_ms - plan->uneven_since_ms : 0;
    d->live = self->live;
    d->expected = plan->expected;
    d->tolerance = plan->tolerance;
    d->total = plan->total;
    d->surplus = surplus_now(plan, self);
    d->in_flight = plan->named + plan->anonymous;
    d->own_in_flight = plan->own_in_flight;
    d->peers = plan->peers;
    d->round_released = plan->round_released;
    d->round_home = plan->round_home;
    d->futile_rounds = plan->futile_rounds;
    d->until_ms = plan->until_ms;
    d->beat_age_ms = plan->has_view ? now_ms - plan->view_sent_ms : BALANCER_NEVER;
}

void balancer_plan_step(struct balancer_plan *plan, const struct balancer_self *self,
                        uint64_t now_ms, struct balancer_decision *decision)
{
    assert(now_ms >= plan->last_step_ms);
    uint64_t elapsed_ms = now_ms - plan->last_step_ms;
    memset(decision, 0, sizeof(*decision));
    note_pause(plan, now_ms);
    if (self->is_draining)
        step_drain(plan, self, elapsed_ms, now_ms, decision);
    else
        step_balance(plan, self, elapsed_ms, now_ms, decision);
    tell_numbers(plan, self, now_ms, decision);
    balancer_plan_steer(plan, self, now_ms, decision);
}

void balancer_plan_beat_sent(struct balancer_plan *plan)
{
    plan->grant = 0;
}

void balancer_plan_released(struct balancer_plan *plan, uint32_t count, uint64_t now_ms)
{
    if (count == 0)
        return;
    plan->round_released += count;
    plan->last_release_ms = now_ms;
    plan->offered_since_ms = 0;
    plan->credit -= count;
    plan->grant -= balancer_min_u32(count, plan->grant);
}

void balancer_plan_returned(struct balancer_plan *plan, uint32_t count)
{
    plan->round_home += count;
}
