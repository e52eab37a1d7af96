/* What happens in a run. Each scenario draws its fleet, its starting point and its faults from the
 * seed; the same happenings are tried behind each kind of balancer. See sim.h. */
#include "test/sim/sim.h"

#include <assert.h>

static uint32_t between(struct world *w, uint32_t low, uint32_t high)
{
    return low + world_random(w, high - low + 1);
}

static void add_fault(struct setup *s, uint64_t at_ms, enum fault_kind kind, uint32_t replica,
                      int64_t arg)
{
    assert(s->fault_count < SIM_FAULTS_MAX);
    s->faults[s->fault_count++] = (struct fault){at_ms, kind, (uint16_t)replica, arg};
}

static uint32_t weight_of(const struct setup *s, uint32_t r)
{
    return s->weights[r] ? s->weights[r] : (uint32_t)s->config.weight;
}

/* Even by weight over those present; the rest to the first ones. */
static void spread_evenly(struct setup *s)
{
    uint32_t weights = 0, given = 0;
    for (uint32_t r = 0; r < s->replicas; r++)
        weights += s->is_absent[r] ? 0 : weight_of(s, r);
    for (uint32_t r = 0; r < s->replicas; r++) {
        s->initial[r] =
            s->is_absent[r] ? 0 : (uint32_t)((uint64_t)s->edges * weight_of(s, r) / weights);
        given += s->initial[r];
    }
    for (uint32_t r = 0; given < s->edges; r = (r + 1) % s->replicas)
        if (!s->is_absent[r]) {
            s->initial[r]++;
            given++;
        }
}

static void spread_unevenly(struct world *w, struct setup *s)
{
    uint32_t left = s->edges;
    for (uint32_t r = 0; r < s->replicas; r++)
        s->initial[r] = 0;
    for (uint32_t r = 0; r + 1 < s->replicas; r++) {
        s->initial[r] = s->is_absent[r] ? 0 : world_random(w, left + 1);
        left -= s->initial[r];
    }
    s->initial[s->is_absent[s->replicas - 1] ? 0 : s->replicas - 1] += left;
}

static void small_fleet(struct world *w, struct setup *s)
{
    s->replicas = between(w, 2, 6);
    s->edges = between(w, 8, world_random(w, 4) ? 120 : 400);
    s->notice_ms = world_random(w, 2) ? 10000 : world_random(w, 2) ? 500 : 0;
    if (world_random(w, 4) == 0)
        s->config.release_max_fraction = 0.3;
    spread_evenly(s);
}

static void lay_newcomer(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    uint32_t count = s->replicas > 2 ? between(w, 1, 2) : 1;
    for (uint32_t k = 0; k < count; k++) {
        uint32_t r = s->replicas - 1 - k;
        s->is_absent[r] = true;
        add_fault(s, 20000 + world_random(w, 10000), FAULT_START_NEW, r, 0);
    }
    spread_evenly(s);
}

/* Within a minute: most of the time before its edges come back. */
static void lay_crash_back(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    uint32_t r = world_random(w, s->replicas);
    uint64_t at = 20000 + world_random(w, 10000);
    add_fault(s, at, FAULT_CRASH, r, 0);
    add_fault(s, at + 500 + world_random(w, 55000),
              world_random(w, 2) ? FAULT_START : FAULT_START_NEW, r, 0);
}

static void lay_crash_late(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    uint32_t r = world_random(w, s->replicas);
    uint64_t at = 20000 + world_random(w, 10000);
    add_fault(s, at, FAULT_CRASH, r, 0);
    add_fault(s, at + between(w, 60, 400) * SIM_SECOND, FAULT_START, r, 0);
}

static void lay_uneven(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    spread_unevenly(w, s);
}

static void lay_weights(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    for (uint32_t r = 0; r < s->replicas; r++)
        s->weights[r] = between(w, 1, 4) * 50;
    spread_unevenly(w, s);
}

static void lay_drain(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    uint32_t r = world_random(w, s->replicas);
    add_fault(s, 20000, FAULT_DRAIN, r, world_random(w, 2) ? between(w, 1, 60) * SIM_SECOND : 0);
}

static void lay_rolling(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    s->is_rolling = true;
    add_fault(s, 20000, FAULT_DRAIN, 0, 2000);
}

static void lay_drain_in_release(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    spread_unevenly(w, s);
    uint32_t r = world_random(w, s->replicas);
    add_fault(s, between(w, 10, 90) * SIM_SECOND, FAULT_DRAIN, r, 2000);
    if (world_random(w, 3) == 0)
        add_fault(s, s->faults[0].at_ms + between(w, 1, 30) * SIM_SECOND, FAULT_UNDRAIN, r, 0);
}

static void lay_frozen(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    if (world_random(w, 2))
        spread_unevenly(w, s);
    uint32_t r = world_random(w, s->replicas);
    uint64_t at = between(w, 5, 90) * SIM_SECOND;
    add_fault(s, at, FAULT_FREEZE, r, 0);
    add_fault(s, at + between(w, 3, 300) * SIM_SECOND, FAULT_THAW, r, 0);
}

static void lay_store_away(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    uint64_t at = between(w, 5, 120) * SIM_SECOND;
    add_fault(s, at, world_random(w, 2) ? FAULT_STORE_DOWN : FAULT_STORE_PAUSE, 0, 0);
    add_fault(s, at + between(w, 2, 200) * SIM_SECOND, FAULT_STORE_UP, 0, 0);
}

static void lay_store_flushed(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    uint64_t at = between(w, 5, 120) * SIM_SECOND;
    if (world_random(w, 2)) {
        add_fault(s, at, FAULT_STORE_DOWN, 0, 0);
        add_fault(s, at + 50, FAULT_FLUSH, 0, 0);
        add_fault(s, at + between(w, 1, 100) * SIM_SECOND, FAULT_STORE_UP, 0, 0);
        add_fault(s, s->faults[s->fault_count - 1].at_ms, FAULT_FLUSH, 0, 0);
    } else {
        add_fault(s, at, FAULT_FLUSH, 0, 0);
    }
}

static void lay_store_failover(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    uint64_t at = between(w, 5, 120) * SIM_SECOND;
    add_fault(s, at, FAULT_SNAPSHOT, 0, 0);
    add_fault(s, at + between(w, 5000, 15000), FAULT_FAILOVER, 0, 0);
}

static void lay_store_clock(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    int64_t step = (int64_t)between(w, 7, 4000) * 1000;
    add_fault(s, between(w, 5, 120) * SIM_SECOND, FAULT_CLOCK, 0,
              world_random(w, 2) ? step : -step);
}

static void lay_latency(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    if (world_random(w, 2))
        s->config.release_rate = between(w, 1, 10);
    add_fault(s, between(w, 5, 60) * SIM_SECOND, FAULT_LATENCY, 0, between(w, 100, 12000));
    if (world_random(w, 2))
        add_fault(s, 30000, FAULT_LOSSY, 0, between(w, 2, 10));
    add_fault(s, between(w, 120, 600) * SIM_SECOND, FAULT_LATENCY, 0, 0);
    add_fault(s, between(w, 120, 600) * SIM_SECOND, FAULT_LOSSY, 0, 0);
}

static void lay_forged(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    uint64_t at = between(w, 5, 90) * SIM_SECOND;
    for (uint32_t i = between(w, 1, 20); i > 0; i--)
        add_fault(s, at + i * between(w, 1000, 5000),
                  world_random(w, 3) ? FAULT_FORGE_BAD : FAULT_FORGE_ODD, 0, 0);
}

/* Somebody writes a record like that of an empty replica, for minutes. Nothing can tell it from one
 * that its balancer cannot reach. */
static void lay_ghost(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    for (uint32_t i = 0; i < 60; i++)
        add_fault(s, 20000 + i * 5000, FAULT_FORGE_GHOST, 0, 0);
}

static void lay_slow_checks(struct world *w, struct setup *s)
{
    lay_crash_back(w, s);
    s->checks_acceptz = world_random(w, 2);
    s->check_ms = between(w, 5, 10) * SIM_SECOND;
    s->rise = between(w, 1, 3);
    s->fall = between(w, 1, 3);
}

static void lay_limits(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    s->accept_rate = between(w, 2, 20);
    s->max_connections = s->edges / (s->replicas - (s->replicas > 2 ? 2 : 1)) + 20;
}

/* The last ones to have room must take everybody. */
static void lay_tight(struct world *w, struct setup *s)
{
    lay_uneven(w, s);
    s->max_connections = s->edges / s->replicas + between(w, 2, 20);
    uint32_t given = 0;
    for (uint32_t r = 0; r < s->replicas; r++) {
        uint32_t left = s->edges - given;
        s->initial[r] = s->max_connections < left ? s->max_connections : left;
        given += s->initial[r];
    }
}

/* The others cannot take all: those that are left over wait for the one that comes back. */
static void lay_drain_tight(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    s->max_connections = s->edges / s->replicas + 1 + world_random(w, 3);
    if (world_random(w, 2))
        s->weights[world_random(w, s->replicas)] = 50;
    add_fault(s, 20000, FAULT_DRAIN, world_random(w, s->replicas), 2000);
}

/* Off by no more than the tolerance: nothing is to be done. */
static void lay_within(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    for (uint32_t r = 0; r + 1 < s->replicas; r += 2) {
        uint32_t mean = s->edges / s->replicas;
        uint32_t shift = world_random(w, balancer_tolerance(&s->config, mean) + 1);
        s->initial[r] -= shift;
        s->initial[r + 1] += shift;
    }
}

/* Fewer moves an hour than are needed: it takes hours, and becomes even all the same. */
static void lay_hour(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    s->config.moves_per_hour = s->edges / between(w, 2, 5) + 3;
}

static void lay_donor_crash(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    uint64_t at = between(w, 45, 90) * SIM_SECOND;
    add_fault(s, at, FAULT_CRASH, 0, 0);
    add_fault(s, at + between(w, 5, 200) * SIM_SECOND, FAULT_START, 0, 0);
}

/* So many that the pace of --release-rate would not do. */
static void lay_drain_large(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    s->edges = between(w, 5000, 9000);
    s->config.release_rate = between(w, 1, 10);
    s->config.drain_timeout_ms = between(w, 20, 300) * SIM_SECOND;
    if (world_random(w, 2)) {
        add_fault(s, 19000, FAULT_STORE_DOWN, 0, 0);
        add_fault(s, 700000, FAULT_STORE_UP, 0, 0);
    }
    spread_evenly(s);
    add_fault(s, 20000, FAULT_DRAIN, world_random(w, s->replicas), 2000);
}

static void lay_medium(struct world *w, struct setup *s)
{
    s->replicas = between(w, 7, 60);
    s->edges = s->replicas * between(w, 20, 300);
    s->notice_ms = 10000;
    uint32_t r = world_random(w, s->replicas - 1);
    s->is_absent[s->replicas - 1] = true;
    spread_evenly(s);
    add_fault(s, 20000, FAULT_START_NEW, s->replicas - 1, 0);
    uint64_t at = between(w, 20, 200) * SIM_SECOND;
    add_fault(s, at, FAULT_CRASH, r, 0);
    add_fault(s, at + between(w, 1, 100) * SIM_SECOND, FAULT_START, r, 0);
}

static void lay_churn(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    s->churn_per_hour = between(w, 20, 500);
}

static void lay_cut(struct world *w, struct setup *s)
{
    lay_uneven(w, s);
    add_fault(s, between(w, 1, 9) * SIM_SECOND, FAULT_CUT, 0, between(w, 200, 1000));
}

static void lay_api(struct world *w, struct setup *s)
{
    lay_newcomer(w, s);
    uint64_t at = between(w, 5, 120) * SIM_SECOND;
    add_fault(s, at, FAULT_API_DOWN, 0, 0);
    add_fault(s, at + between(w, 2, 200) * SIM_SECOND, FAULT_API_UP, 0, 0);
}

static void lay_twin(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    s->replicas++;
    s->twin_of = (uint16_t)world_random(w, s->replicas - 1);
    spread_unevenly(w, s);
    s->may_stay_uneven = true;
}

/* A little of everything, one after the other. */
static void lay_chaos(struct world *w, struct setup *s)
{
    small_fleet(w, s);
    spread_unevenly(w, s);
    uint64_t at = 10000;
    for (uint32_t i = between(w, 3, 12); i > 0; i--) {
        uint32_t r = world_random(w, s->replicas);
        at += between(w, 1, 90) * SIM_SECOND;
        uint64_t later = at + between(w, 1, 120) * SIM_SECOND;
        switch (world_random(w, 9)) {
        case 0:
            add_fault(s, at, FAULT_CRASH, r, 0);
            add_fault(s, later, FAULT_START, r, 0);
            break;
        case 1:
            add_fault(s, at, FAULT_CRASH, r, 0);
            add_fault(s, later, FAULT_START_NEW, r, 0);
            break;
        case 2:
            add_fault(s, at, FAULT_FREEZE, r, 0);
            add_fault(s, later, FAULT_THAW, r, 0);
            break;
        case 3:
            add_fault(s, at, FAULT_STORE_DOWN, 0, 0);
            add_fault(s, later, FAULT_STORE_UP, 0, 0);
            break;
        case 4:
            add_fault(s, at, FAULT_FLUSH, 0, 0);
            break;
        case 5:
            add_fault(s, at, FAULT_CLOCK, 0, (int64_t)between(w, 0, 600000) - 300000);
            break;
        case 6:
            add_fault(s, at, FAULT_CUT, 0, between(w, 10, 1000));
            break;
        case 7:
            add_fault(s, at, FAULT_DRAIN, r, 2000);
            break;
        default:
            add_fault(s, at, FAULT_FORGE_BAD, 0, 0);
        }
    }
    for (uint32_t r = 0; r < s->replicas; r++) {
        add_fault(s, at + 4 * SIM_MINUTE, FAULT_THAW, r, 0);
        add_fault(s, at + 4 * SIM_MINUTE + 1, FAULT_START, r, 0);
    }
    add_fault(s, at + 4 * SIM_MINUTE, FAULT_STORE_UP, 0, 0);
}

/* ---- large fleets ---- */

static void lay_million(struct world *w, struct setup *s)
{
    s->replicas = 20;
    s->edges = 1000000;
    s->config.release_rate = 500;
    uint32_t r = world_random(w, s->replicas);
    spread_evenly(s);
    add_fault(s, 20000, FAULT_CRASH, r, 0);
    add_fault(s, 20000 + between(w, 5, 55) * SIM_SECOND, FAULT_START_NEW, r, 0);
}

static void lay_thousand(struct world *w, struct setup *s)
{
    s->replicas = 1000;
    s->edges = 200000;
    s->is_absent[999] = true;
    spread_evenly(s);
    add_fault(s, 20000, FAULT_START_NEW, 999, 0);
    (void)w;
}

static void lay_both(struct world *w, struct setup *s)
{
    s->replicas = 1000;
    s->edges = 1000000;
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t r = i * 200 + world_random(w, 200);
        s->is_absent[r] = true;
        add_fault(s, 10000 + world_random(w, 5000), FAULT_START_NEW, r, 0);
    }
    spread_evenly(s);
}

const struct scenario sim_scenarios[] = {
    {"newcomer-leastconn", "one or two replicas come", lay_newcomer, LB_LEASTCONN, 2000, BY_DRY_RUN,
     false, false},
    {"newcomer-agent", "the same, agent-check", lay_newcomer, LB_AGENT, 2000, BY_DRY_RUN, false,
     false},
    {"newcomer-rr", "the same, round robin", lay_newcomer, LB_ROUND_ROBIN, 2000, BY_DRY_RUN, false,
     false},
    {"newcomer-random", "the same, random", lay_newcomer, LB_RANDOM, 2000, BY_DRY_RUN, false,
     false},
    {"newcomer-source", "the same, by source", lay_newcomer, LB_SOURCE, 2000, BY_VERDICT, true,
     false},
    {"crash-back-leastconn", "a crash, back within a minute", lay_crash_back, LB_LEASTCONN, 4000,
     BY_DRY_RUN, false, false},
    {"crash-back-agent", "the same, agent-check", lay_crash_back, LB_AGENT, 2000, BY_DRY_RUN, false,
     false},
    {"crash-back-rr", "the same, round robin", lay_crash_back, LB_ROUND_ROBIN, 2000, BY_DRY_RUN,
     false, false},
    {"crash-back-random", "the same, random", lay_crash_back, LB_RANDOM, 2000, BY_DRY_RUN, false,
     false},
    {"crash-back-source", "the same, by source", lay_crash_back, LB_SOURCE, 2000, BY_VERDICT, true,
     false},
    {"crash-late-leastconn", "a crash, back after minutes", lay_crash_late, LB_LEASTCONN, 1200,
     BY_DRY_RUN, false, false},
    {"crash-late-rr", "the same, round robin", lay_crash_late, LB_ROUND_ROBIN, 1200, BY_DRY_RUN,
     false, false},
    {"uneven-leastconn", "any distribution", lay_uneven, LB_LEASTCONN, 2000, BY_DRY_RUN, false,
     false},
    {"uneven-agent", "the same, agent-check", lay_uneven, LB_AGENT, 1200, BY_DRY_RUN, false, false},
    {"uneven-rr", "the same, round robin", lay_uneven, LB_ROUND_ROBIN, 1200, BY_DRY_RUN, false,
     false},
    {"weights-leastconn", "unequal weights", lay_weights, LB_LEASTCONN, 1200, BY_DRY_RUN, false,
     false},
    {"weights-agent", "the same, agent-check", lay_weights, LB_AGENT, 1200, BY_DRY_RUN, false,
     false},
    {"weights-rr", "the same, round robin", lay_weights, LB_ROUND_ROBIN, 1200, BY_DRY_RUN, false,
     false},
    {"drain-leastconn", "one drains, and may come back", lay_drain, LB_LEASTCONN, 1200, BY_DRY_RUN,
     false, false},
    {"drain-rr", "the same, round robin", lay_drain, LB_ROUND_ROBIN, 1200, BY_DRY_RUN, false,
     false},
    {"rolling-leastconn", "all restart, one by one", lay_rolling, LB_LEASTCONN, 800, BY_LANDING,
     false, false},
    {"rolling-rr", "the same, round robin", lay_rolling, LB_ROUND_ROBIN, 800, BY_LANDING, false,
     false},
    {"drain-in-release", "a drain during releases", lay_drain_in_release, LB_ROUND_ROBIN, 1200,
     BY_LANDING, false, false},
    {"frozen", "a replica stops and wakes", lay_frozen, LB_LEASTCONN, 1200, BY_LANDING, false,
     false},
    {"store-away", "Redis goes away or hangs", lay_store_away, LB_LEASTCONN, 1200, BY_DRY_RUN,
     false, false},
    {"store-flushed", "Redis comes back empty", lay_store_flushed, LB_LEASTCONN, 1200, BY_DRY_RUN,
     false, false},
    {"store-failover", "Redis fails over, to the past", lay_store_failover, LB_LEASTCONN, 1200,
     BY_DRY_RUN, false, false},
    {"store-clock", "the clock of Redis steps", lay_store_clock, LB_LEASTCONN, 1200, BY_DRY_RUN,
     false, false},
    {"store-latency", "answers late or lost", lay_latency, LB_LEASTCONN, 1200, BY_DRY_RUN, false,
     false},
    {"forged", "impossible records", lay_forged, LB_LEASTCONN, 1200, BY_DRY_RUN, false, false},
    {"ghost", "a replica that does not exist", lay_ghost, LB_ROUND_ROBIN, 800, BY_VERDICT, true,
     false},
    {"slow-checks", "slow health checks, by /acceptz too", lay_slow_checks, LB_ROUND_ROBIN, 1200,
     BY_DRY_RUN, false, false},
    {"limits", "admission limits", lay_limits, LB_LEASTCONN, 1200, BY_DRY_RUN, false, false},
    {"churn", "edges that come and go", lay_churn, LB_LEASTCONN, 800, BY_LANDING, false, false},
    {"cut", "connections break in masses", lay_cut, LB_ROUND_ROBIN, 1200, BY_DRY_RUN, false, false},
    {"api", "the API server fails", lay_api, LB_LEASTCONN, 800, BY_DRY_RUN, false, false},
    {"twin", "two processes with one id", lay_twin, LB_LEASTCONN, 800, BY_VERDICT, false, false},
    {"chaos", "everything", lay_chaos, LB_ROUND_ROBIN, 2000, BY_LANDING, false, false},
    {"chaos-source", "everything, by source", lay_chaos, LB_SOURCE, 1200, BY_VERDICT, true, false},
    {"tight-leastconn", "hardly any room left", lay_tight, LB_LEASTCONN, 800, BY_DRY_RUN, false,
     false},
    {"tight-rr", "the same, round robin", lay_tight, LB_ROUND_ROBIN, 800, BY_DRY_RUN, false, false},
    {"drain-tight", "a drain without room elsewhere", lay_drain_tight, LB_ROUND_ROBIN, 800,
     BY_LANDING, false, false},
    {"within", "off by less than the tolerance", lay_within, LB_LEASTCONN, 800, BY_DRY_RUN, false,
     false},
    {"hour-leastconn", "few moves an hour", lay_hour, LB_LEASTCONN, 400, BY_DRY_RUN, false, false},
    {"donor-crash", "who releases, crashes", lay_donor_crash, LB_ROUND_ROBIN, 1200, BY_LANDING,
     false, false},
    {"drain-large", "a drain against the clock, Redis away or not", lay_drain_large, LB_ROUND_ROBIN,
     20, BY_LANDING, false, false},
    {"uneven-source", "any distribution, by source", lay_uneven, LB_SOURCE, 800, BY_VERDICT, true,
     false},
    {"fleet-leastconn", "7 to 60 replicas, thousands of edges", lay_medium, LB_LEASTCONN, 60,
     BY_LANDING, false, false},
    {"fleet-rr", "the same, round robin", lay_medium, LB_ROUND_ROBIN, 60, BY_LANDING, true, false},
    {"fleet-agent", "the same, agent-check", lay_medium, LB_AGENT, 60, BY_LANDING, false, false},
    {"million-leastconn", "20 replicas, 1,000,000 edges", lay_million, LB_LEASTCONN, 1, BY_DRY_RUN,
     false, true},
    {"million-rr", "the same, round robin", lay_million, LB_ROUND_ROBIN, 1, BY_DRY_RUN, false,
     true},
    {"thousand-leastconn", "the 1000th of 1000 comes", lay_thousand, LB_LEASTCONN, 1, BY_DRY_RUN,
     false, true},
    {"thousand-rr", "the same, round robin", lay_thousand, LB_ROUND_ROBIN, 1, BY_VERDICT, true,
     true},
    {"both-leastconn", "1000 replicas, 1,000,000 edges", lay_both, LB_LEASTCONN, 1, BY_DRY_RUN,
     false, true},
};
const size_t sim_scenario_count = sizeof(sim_scenarios) / sizeof(sim_scenarios[0]);
