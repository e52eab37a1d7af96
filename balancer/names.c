/* The names that logs, metrics and the status page share, and what is wrong with a configuration.
 *
 * Threading: pure. */
#include "isthmus/balancer.h"

#include <assert.h>
#include <stddef.h>

struct name {
    const char *label, *text;
};

static const char *const phase_names[BALANCER_PHASE_COUNT] = {
    [BALANCER_DETECT] = "detect",   [BALANCER_RELEASE] = "release", [BALANCER_OBSERVE] = "observe",
    [BALANCER_BACKOFF] = "backoff", [BALANCER_DRAIN] = "drain",
};

static const struct name why_names[BALANCER_WHY_COUNT] = {
    [BALANCER_WHY_BALANCED] = {"balanced", "the load is even"},
    [BALANCER_WHY_BELOW] = {"below", "this replica lacks connections; others will give"},
    [BALANCER_WHY_SECOND_BEAT] = {"second_beat", "a surplus was seen; the next beat must agree"},
    [BALANCER_WHY_SURPLUS] = {"surplus", "more connections than the share and the tolerance"},
    [BALANCER_WHY_NEEDY_PEER] = {"needy_peer", "a peer lacks more than its tolerance"},
    [BALANCER_WHY_NO_GRANT] = {"no_grant", "as many as allowed are in flight, or moved this hour"},
    [BALANCER_WHY_IN_FLIGHT] = {"in_flight", "waiting for released nodes to arrive somewhere"},
    [BALANCER_WHY_OBSERVING] = {"observing", "observing where released nodes arrive"},
    [BALANCER_WHY_FUTILE_HOME] = {"futile_home", "released nodes came back here: the balancer in "
                                                 "front of the replicas binds them to this one"},
    [BALANCER_WHY_FUTILE_FULL] = {"futile_full", "released nodes arrive at replicas that have "
                                                 "enough: see docs/balancing.md about agent-check"},
    [BALANCER_WHY_NO_VICTIM] = {"no_victim", "every node here was moved before, is kept or busy"},
    [BALANCER_WHY_DRAINING] = {"draining", "every connection is being let go"},
    [BALANCER_WHY_DRAINED] = {"drained", "no connection is left and no lease is bridged"},
    [BALANCER_WHY_HOLD_OFF] = {"off", "balancing is turned off"},
    [BALANCER_WHY_HOLD_NOT_READY] = {"not_ready", "this replica does not serve yet"},
    [BALANCER_WHY_HOLD_STORE_AWAY] = {"store_away", "no connection to Redis"},
    [BALANCER_WHY_HOLD_NO_VIEW] = {"no_view", "no beat was answered yet"},
    [BALANCER_WHY_HOLD_STALE] = {"stale", "the last answered beat is too old"},
    [BALANCER_WHY_HOLD_PAUSED] = {"paused", "this process did not run for a while"},
    [BALANCER_WHY_HOLD_EPOCH] = {"epoch", "Redis is new, was emptied or failed over"},
    [BALANCER_WHY_HOLD_CLOCK] = {"clock", "the clock of Redis stepped"},
    [BALANCER_WHY_HOLD_ALONE] = {"alone", "no other replica is live"},
    [BALANCER_WHY_HOLD_BAD_RECORD] = {"bad_record", "a record in Redis is out of range"},
    [BALANCER_WHY_HOLD_TOO_MANY] = {"too_many", "more replicas than one group may have"},
    [BALANCER_WHY_HOLD_TWIN] = {"twin", "another process had this replica's id first"},
    [BALANCER_WHY_HOLD_NOT_LISTED] = {"not_listed", "Redis does not list this replica"},
    [BALANCER_WHY_HOLD_API] = {"api", "the API server is failing"},
};

static const char *const fitness_names[] = {
    [BALANCER_FIT] = "fit",
    [BALANCER_UNFIT_BUSY] = "busy",
    [BALANCER_UNFIT_MOMENT] = "moment",
    [BALANCER_UNFIT_NEW] = "new",
    [BALANCER_UNFIT_MOVED] = "moved",
    [BALANCER_UNFIT_KEPT] = "kept",
};

const char *balancer_phase_name(enum balancer_phase phase)
{
    assert(phase < BALANCER_PHASE_COUNT);
    return phase_names[phase];
}

const char *balancer_why_name(enum balancer_why why)
{
    assert(why < BALANCER_WHY_COUNT);
    return why_names[why].label;
}

const char *balancer_why_text(enum balancer_why why)
{
    assert(why < BALANCER_WHY_COUNT);
    return why_names[why].text;
}

const char *balancer_fitness_name(enum balancer_fitness fitness)
{
    assert(fitness <= BALANCER_UNFIT_KEPT);
    return fitness_names[fitness];
}

const char *balancer_config_check(const struct balancer_config *c)
{
    if (c->weight < 1 || c->weight > BALANCER_WEIGHT_MAX)
        return "--balance-weight must be 1 to 1000";
    if (c->period_ms < 100 || c->period_ms > 60000)
        return "--balance-period must be 100ms to 60s";
    if (!(c->tolerance >= 0 && c->tolerance <= 1))
        return "--balance-tolerance must be 0 to 1";
    if (c->tolerance_abs < 1 || c->tolerance_abs > BALANCER_LIVE_MAX)
        return "--balance-tolerance-abs must be at least 1: shares are rounded";
    if (c->release_rate < 1 || c->release_rate > 100000)
        return "--release-rate must be 1 to 100000 a second";
    if (!(c->release_max_fraction > 0 && c->release_max_fraction <= 1))
        return "--release-max-fraction must be above 0, at most 1";
    if (c->inflight_timeout_ms < 3 * c->period_ms)
        return "--inflight-timeout must be at least three times --balance-period";
    if (c->inflight_timeout_ms < c->edge_away_ms + c->max_refusals * c->edge_redial_ms)
        return "--inflight-timeout must be longer than a refused node is away";
    if (c->max_refusals > 4)
        return "--max-refusals must be at most 4: an edge dials five times, then sleeps again";
    if (c->drain_timeout_ms == 0)
        return "--drain-timeout must not be 0";
    if (!(c->futile_fraction > 0 && c->futile_fraction <= 1))
        return "--futile-fraction must be above 0, at most 1";
    if (c->futile_backoff_ms == 0 || c->futile_backoff_max_ms < c->futile_backoff_ms)
        return "--futile-backoff must be above 0 and at most --futile-backoff-max";
    return NULL;
}
