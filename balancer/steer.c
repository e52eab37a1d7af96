/* Which arrivals a replica leaves to others, and which connections it lets go.
 *
 * Happy path: while nodes released on purpose are in flight, every replica that has its share, not
 * only the one that released them, steers them to those that lack: by HAProxy's agent-check, by
 * /acceptz, and by refusing the node itself, which dials again after five seconds.
 *
 * Failure modes: with a view in doubt, or when the others have no room for all in flight, everybody
 * is taken. All replicas may judge alike on slightly different views; a node still gets in, since
 * the number of its refusals is bounded.
 *
 * That bound holds without asking anybody: an EdgeCore dials first after edge_away_ms and then
 * every edge_redial_ms, so only max_refusals dials fit into the time in which refusing is allowed.
 * The count that the store keeps comes late by up to a beat; it bounds the nodes that dial faster.
 *
 * Threading: pure. */
#include "balancer/plan.h"

/* After the last refusal the node must get in and renew its lease before the bridge ends. */
#define BRIDGE_RESERVE_REDIALS 3

/* Who needs at least so many per cent of what the neediest one needs is as welcome to arrivals. */
#define AGENT_MATTERS_BELOW 25

static bool is_view_good(const struct balancer_plan *plan, const struct balancer_self *self,
                         uint64_t now_ms)
{
    return balancer_plan_view_hold(plan, self, now_ms) == BALANCER_WHY_BALANCED;
}

static bool has_room(const struct balancer_self *self)
{
    return self->max_connections == 0 || self->live < self->max_connections;
}

/* The more to whom lacks more; never zero, for when everybody else is gone. Only great differences
 * count: what comes, comes in lockstep, and a peer's number may be a beat old. With leastconn,
 * moreover, the weight is the share of all connections that a server is filled up to, not of the
 * new ones: reacting to small differences would make them large. */
static uint8_t agent_percent(const struct balancer_plan *plan)
{
    if (plan->best_score <= 0)
        return 100;
    double percent = 100 * plan->score / plan->best_score;
    if (percent >= AGENT_MATTERS_BELOW)
        return 100;
    return percent < 1 ? 1 : (uint8_t)percent;
}

void balancer_plan_steer(const struct balancer_plan *plan, const struct balancer_self *self,
                         uint64_t now_ms, struct balancer_decision *d)
{
    const struct balancer_config *config = &plan->config;
    bool is_good = is_view_good(plan, self, now_ms);
    d->is_accepting = self->is_ready && !self->is_draining && has_room(self);
    d->agent_percent = self->is_ready && !self->is_draining ? 100 : 0;
    if (!is_good || !self->is_ready)
        return;

    d->is_full = self->is_draining || (plan->is_taker && d->surplus >= 0);
    if (config->mode == BALANCER_OFF && !self->is_draining)
        return;
    bool is_steering = d->is_full && plan->named > 0 && plan->others_room >= d->in_flight;
    bool may_refuse = config->mode == BALANCER_ON || self->is_draining;
    d->is_refusing = is_steering && may_refuse && self->is_api_ok && config->max_refusals > 0 &&
                     config->bridge_ms > 0;
    d->wants_flight_list = d->is_refusing;
    if (self->is_draining)
        return;
    if (is_steering)
        d->is_accepting = false;
    if (plan->is_taker)
        d->agent_percent = is_steering ? 1 : agent_percent(plan);
}

bool balancer_should_refuse(const struct balancer_config *config,
                            const struct balancer_decision *decision,
                            const struct balancer_arrival *arrival)
{
    if (!decision->is_refusing || !arrival->is_released || !arrival->is_bridged)
        return false;
    if (arrival->refusals >= config->max_refusals)
        return false;
    if (arrival->since_release_ms + BRIDGE_RESERVE_REDIALS * config->edge_redial_ms >
        config->bridge_ms)
        return false;
    return arrival->since_release_ms <
           config->edge_away_ms + config->max_refusals * config->edge_redial_ms;
}

enum balancer_fitness balancer_victim_judge(const struct balancer_config *config,
                                            const struct balancer_decision *d,
                                            const struct balancer_candidate *c)
{
    if (d->urgency == BALANCER_AT_ONCE)
        return BALANCER_FIT;
    if (d->urgency == BALANCER_CALM) {
        if (c->is_kept)
            return BALANCER_UNFIT_KEPT;
        if (c->since_moved_ms < config->move_cooldown_ms || c->since_moved_ms <= d->episode_ms)
            return BALANCER_UNFIT_MOVED;
        /* That it was moved from elsewhere is learnt by the beat after it came. */
        if (c->since_connect_ms < 2 * config->period_ms)
            return BALANCER_UNFIT_NEW;
    }
    if (c->is_busy)
        return BALANCER_UNFIT_BUSY;
    return c->since_renewal_ms <= config->release_window_ms ? BALANCER_FIT : BALANCER_UNFIT_MOMENT;
}

int balancer_victim_compare(const struct balancer_candidate *a, const struct balancer_candidate *b)
{
    if (a->since_renewal_ms != b->since_renewal_ms)
        return a->since_renewal_ms < b->since_renewal_ms ? -1 : 1;
    if (a->since_moved_ms != b->since_moved_ms)
        return a->since_moved_ms > b->since_moved_ms ? -1 : 1;
    if (a->since_connect_ms != b->since_connect_ms)
        return a->since_connect_ms > b->since_connect_ms ? -1 : 1;
    return 0;
}
