/* Balancers as fleets have them in front: they place new connections and nothing else. See sim.h.
 */
#include "test/sim/sim.h"

#include <string.h>

void lb_init(struct world *w)
{
    struct lb *lb = &w->lb;
    lb->kind = w->setup.lb;
    lb->checks_acceptz = w->setup.checks_acceptz;
    lb->check_ms = w->setup.check_ms;
    lb->rise = w->setup.rise;
    lb->fall = w->setup.fall;
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        lb->is_up[r] = !w->setup.is_absent[r];
        lb->percent[r] = 100;
    }
}

void lb_check(struct world *w)
{
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        const struct replica *p = &w->replicas[r];
        bool is_well = p->is_alive && !p->is_frozen && p->is_ready && !p->is_draining;
        if (is_well && w->lb.checks_acceptz)
            is_well = p->decision.is_accepting;
        if (is_well == w->lb.is_up[r]) {
            w->lb.agreeing[r] = 0;
            continue;
        }
        if (++w->lb.agreeing[r] < (is_well ? w->lb.rise : w->lb.fall))
            continue;
        w->lb.is_up[r] = is_well;
        w->lb.agreeing[r] = 0;
        w->lb.current[r] = 0;
    }
}

void lb_poll_agents(struct world *w)
{
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        const struct replica *p = &w->replicas[r];
        if (p->is_alive && !p->is_frozen) /* else the last answer stays */
            w->lb.percent[r] = p->decision.agent_percent;
    }
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static int64_t weight_of(const struct world *w, uint32_t r)
{
    if (!w->lb.is_up[r])
        return 0;
    if (w->lb.kind == LB_AGENT)
        return w->lb.percent[r];
    return w->setup.weights[r] ? w->setup.weights[r] : (int64_t)w->setup.config.weight;
}

/* Smooth weighted round robin. */
static uint16_t pick_round_robin(struct world *w)
{
    int64_t sum = 0;
    uint16_t best = SIM_NOBODY;
    for (uint32_t k = 0; k < w->setup.replicas; k++) {
        uint32_t r = (w->lb.next + k) % w->setup.replicas;
        int64_t weight = weight_of(w, r);
        if (weight == 0)
            continue;
        sum += weight;
        w->lb.current[r] += weight;
        if (best == SIM_NOBODY || w->lb.current[r] > w->lb.current[best])
            best = (uint16_t)r;
    }
    if (best != SIM_NOBODY)
        w->lb.current[best] -= sum;
    return best;
}

static uint16_t pick_leastconn(struct world *w)
{
    uint16_t best = SIM_NOBODY;
    for (uint32_t k = 0; k < w->setup.replicas; k++) {
        uint32_t r = (w->lb.next + k) % w->setup.replicas;
        int64_t weight = weight_of(w, r);
        if (weight == 0)
            continue;
        int64_t live = (int64_t)w->replicas[r].live;
        if (best == SIM_NOBODY ||
            live * weight_of(w, best) < (int64_t)w->replicas[best].live * weight)
            best = (uint16_t)r;
    }
    w->lb.next++;
    return best;
}

static uint16_t pick_random(struct world *w)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < w->setup.replicas; r++)
        count += w->lb.is_up[r];
    uint32_t n = world_random(w, count);
    for (uint32_t r = 0; r < w->setup.replicas; r++)
        if (w->lb.is_up[r] && n-- == 0)
            return (uint16_t)r;
    return SIM_NOBODY;
}

/* Rendezvous hashing: a replica that comes back gets its own nodes again. */
static uint16_t pick_source(const struct world *w, uint32_t node)
{
    uint16_t best = SIM_NOBODY;
    uint64_t best_hash = 0;
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        uint64_t hash = mix(((uint64_t)node << 16 | r) * 0x9E3779B97F4A7C15u + 1);
        if (w->lb.is_up[r] && hash >= best_hash) {
            best = (uint16_t)r;
            best_hash = hash;
        }
    }
    return best;
}

uint16_t lb_pick(struct world *w, uint32_t node)
{
    switch (w->lb.kind) {
    case LB_LEASTCONN:
        return pick_leastconn(w);
    case LB_RANDOM:
        return pick_random(w);
    case LB_SOURCE:
        return pick_source(w, node);
    case LB_ROUND_ROBIN:
    case LB_AGENT:
        break;
    }
    return pick_round_robin(w);
}
