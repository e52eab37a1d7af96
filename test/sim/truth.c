/* What really is, whatever the replicas believe of each other. See sim.h. */
#include "test/sim/sim.h"

#include <math.h>

bool truth_is_twin(const struct world *w, uint32_t r)
{
    uint32_t last = w->setup.replicas - 1, other = w->setup.twin_of;
    if (other == SIM_NOBODY || (r != last && r != other))
        return false;
    const struct replica *own = &w->replicas[r], *its = &w->replicas[r == last ? other : last];
    return its->is_alive && its->first_beat_ms > 0 &&
           (own->first_beat_ms == 0 || own->first_beat_ms > its->first_beat_ms);
}

bool truth_is_serving(const struct world *w, uint32_t r)
{
    const struct replica *p = &w->replicas[r];
    return p->is_alive && p->is_ready && !p->is_draining && !truth_is_twin(w, r);
}

/* Who cannot hold its share is filled up, and the others share the rest. */
static uint32_t fill_up(const struct world *w, double *expected, double *total, double *weights)
{
    static bool is_filled[SIM_REPLICAS_MAX];
    double most = w->setup.max_connections;
    uint32_t open = 0, count = 0;
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        is_filled[r] = !truth_is_serving(w, r);
        count += !is_filled[r];
    }
    if (w->setup.max_connections == 0 || count * most < *total)
        return count;
    do {
        open = 0;
        for (uint32_t r = 0; r < w->setup.replicas; r++) {
            double weight = (double)w->replicas[r].plan.config.weight;
            if (is_filled[r] || *total * weight / *weights <= most)
                continue;
            is_filled[r] = true;
            expected[r] = most;
            *total -= most;
            *weights -= weight;
            open++;
        }
    } while (open > 0);
    return count;
}

uint32_t truth_shares(const struct world *w, double *expected)
{
    double total = w->away, weights = 0;
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        total += (double)w->replicas[r].live;
        expected[r] = -1;
        if (truth_is_serving(w, r))
            weights += (double)w->replicas[r].plan.config.weight;
    }
    uint32_t count = fill_up(w, expected, &total, &weights);
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        if (expected[r] >= 0)
            continue;
        double weight = (double)w->replicas[r].plan.config.weight;
        expected[r] = truth_is_serving(w, r) ? total * weight / weights : 0;
    }
    return count;
}

uint64_t truth_surplus(const struct world *w, uint32_t *takers, uint32_t *receivers)
{
    static double expected[SIM_REPLICAS_MAX];
    *takers = truth_shares(w, expected);
    *receivers = 0;
    double surplus = 0;
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        if (!truth_is_serving(w, r))
            continue;
        double over = (double)w->replicas[r].live - expected[r];
        *receivers += over <= -1;
        surplus += over > 0 ? floor(over) : 0;
    }
    return (uint64_t)surplus;
}

bool truth_is_even(const struct world *w)
{
    static double expected[SIM_REPLICAS_MAX];
    truth_shares(w, expected);
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        if (!truth_is_serving(w, r))
            continue;
        double tolerance = balancer_tolerance(&w->setup.config, (uint32_t)ceil(expected[r]));
        if (fabs((double)w->replicas[r].live - expected[r]) >= tolerance + 1)
            return false;
    }
    return true;
}

bool truth_needs_no_move(const struct world *w)
{
    static double expected[SIM_REPLICAS_MAX];
    truth_shares(w, expected);
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        if (!truth_is_serving(w, r))
            continue;
        double share = floor(expected[r]), live = (double)w->replicas[r].live;
        double tolerance = balancer_tolerance(&w->setup.config, (uint32_t)share);
        if (live > share + tolerance || live + tolerance < ceil(expected[r]))
            return false;
    }
    return true;
}

bool truth_is_needy(const struct world *w, uint32_t r)
{
    static double expected[SIM_REPLICAS_MAX];
    truth_shares(w, expected);
    return truth_is_serving(w, r) && (double)w->replicas[r].live + 1 <= expected[r];
}
