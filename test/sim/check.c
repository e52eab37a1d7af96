/* What must hold, whatever happens. Each check says with its own, simple arithmetic what the plan
 * may do, from what a replica was told and from what really is. See sim.h.
 *
 * What a replica cannot know yet is no fault of its: it learns of a death when a record has not
 * been renewed for three periods, with its next beat. */
#include "test/sim/sim.h"

#include <string.h>

/* When a replica says that the group's releases are futile, no larger part of the landings it
 * judges by may have been needed. */
#define FUTILE_NEEDED 0.2

uint64_t check_grace_ms(const struct world *w)
{
    return 4 * w->setup.config.period_ms + w->latency_ms;
}

/* ---- a release ---- */

static uint64_t patience_ms(const struct world *w)
{
    return w->setup.config.period_ms + w->setup.config.period_ms / 2;
}

static void check_view(struct world *w, uint16_t r)
{
    const struct replica *p = &w->replicas[r];
    if (p->live <= p->floor_expected)
        world_fail(w, INVARIANT_EXPECTED, "replica %u goes below its expected %llu", r,
                   (unsigned long long)p->floor_expected);
    if (w->now_ms - p->view_sent_ms > patience_ms(w) || p->acked == 0)
        world_fail(w, INVARIANT_FRESH, "replica %u releases on a view %llu ms old", r,
                   (unsigned long long)(w->now_ms - p->view_sent_ms));
    if (!w->is_store_up)
        world_fail(w, INVARIANT_FRESH, "replica %u releases while the store is away", r);
    if (!w->is_api_ok)
        world_fail(w, INVARIANT_API, "replica %u releases while the API server fails", r);
    if (w->upset_ms && w->now_ms > w->upset_ms + patience_ms(w) + 2 * (uint64_t)w->latency_ms &&
        w->now_ms < w->upset_ms + w->setup.config.inflight_timeout_ms)
        world_fail(w, INVARIANT_EPOCH, "replica %u releases %llu ms after the store was upset", r,
                   (unsigned long long)(w->now_ms - w->upset_ms));
    if (truth_is_twin(w, r))
        world_fail(w, INVARIANT_TWIN, "replica %u releases, though its id is another's", r);
}

static void check_node(struct world *w, uint16_t r, uint32_t node)
{
    const struct edge *e = &w->edges[node];
    if (e->moved_ms == UINT32_MAX || e->moved_ms < w->knowledge_ms)
        return;
    if (e->moved_ms >= w->episode_ms && e->moved_ms >= w->replicas[r].episode_ms)
        world_fail(w, INVARIANT_ONCE, "node %u is moved twice in one episode", node);
    if (w->now_ms - e->moved_ms < w->setup.config.move_cooldown_ms)
        world_fail(w, INVARIANT_ONCE, "node %u is moved again after %llu ms", node,
                   (unsigned long long)(w->now_ms - e->moved_ms));
}

/* Whoever is away for longer than that is given up. */
static uint32_t count_in_flight(const struct world *w)
{
    uint32_t count = 0;
    for (uint32_t node = 0; node < w->setup.edges; node++) {
        const struct edge *e = &w->edges[node];
        count += e->is_released && !e->is_drained &&
                 w->now_ms - e->released_ms < w->setup.config.inflight_timeout_ms;
    }
    return count;
}

static void check_fraction(struct world *w)
{
    double cap = w->setup.config.release_max_fraction * (w->setup.edges + w->forged_live);
    if (w->purposely_away + 1 <= (cap < 1 ? 1 : cap))
        return;
    uint32_t in_flight = count_in_flight(w) + 1;
    if (in_flight > (cap < 1 ? 1 : cap))
        world_fail(w, INVARIANT_FRACTION, "%u nodes in flight, allowed are %.0f", in_flight, cap);
}

static void check_hour(struct world *w)
{
    uint64_t second = w->now_ms / 1000;
    w->moves_by_second[second]++;
    w->hour_moves++;
    for (; w->hour_from_s + 3600 <= second; w->hour_from_s++)
        w->hour_moves -= w->moves_by_second[w->hour_from_s];
    uint64_t most = w->setup.config.moves_per_hour, fleet = w->setup.edges + w->forged_live;
    if (most == 0)
        most = fleet > 100 ? fleet : 100;
    most += w->unknown_moves;
    if (w->hour_moves > most && !w->has_store_forgotten)
        world_fail(w, INVARIANT_HOUR, "%llu moves in an hour, allowed are %llu",
                   (unsigned long long)w->hour_moves, (unsigned long long)most);
}

/* How many of the moves end where they are needed if each dial meets any replica alike and is sent
 * on as often as may be. */
static void hope(struct world *w)
{
    enum lb_kind kind = w->setup.lb;
    uint32_t takers, receivers;
    truth_surplus(w, &takers, &receivers);
    double missed = 1, miss = takers ? 1 - (double)receivers / takers : 0;
    for (uint64_t i = 0; i <= w->setup.config.max_refusals; i++)
        missed *= miss;
    bool is_blind = kind == LB_ROUND_ROBIN || kind == LB_RANDOM;
    w->hoped += is_blind && receivers > 0 ? 1 - missed : 1;
}

void check_release(struct world *w, uint16_t r, uint32_t node)
{
    if (w->is_dry)
        world_fail(w, INVARIANT_DRY, "replica %u released a node in a dry run", r);
    check_view(w, r);
    check_node(w, r, node);
    check_fraction(w);
    check_hour(w);
    hope(w);
}

/* ---- a refusal ---- */

void check_refusal(struct world *w, uint16_t r, uint32_t node)
{
    struct edge *e = &w->edges[node];
    const struct replica *p = &w->replicas[r];
    if (!e->is_released)
        world_fail(w, INVARIANT_VICTIMS, "replica %u refused node %u, which nobody had released", r,
                   node);
    if (++e->refusals > w->setup.config.max_refusals)
        world_fail(w, INVARIANT_REFUSALS, "node %u was refused %u times", node, e->refusals);
    if (w->now_ms > e->bridge_end_ms)
        world_fail(w, INVARIANT_BRIDGED, "replica %u refused node %u, whose lease nobody renews", r,
                   node);
    if (p->view_others_room < p->view_in_flight)
        world_fail(w, INVARIANT_ROOM,
                   "replica %u refused, though others have room for %llu of %llu", r,
                   (unsigned long long)p->view_others_room, (unsigned long long)p->view_in_flight);
    for (uint32_t i = 0; i < w->setup.replicas; i++) {
        const struct replica *q = &w->replicas[i];
        bool is_there = truth_is_serving(w, i) && !q->is_frozen;
        if (i != r && (is_there || w->now_ms - q->gone_ms <= check_grace_ms(w)))
            return;
    }
    world_fail(w, INVARIANT_ROOM, "replica %u refused, though no other one serves", r);
}

/* ---- what a beat says ---- */

/* A replica whose record needs no judgement: counted by weight, without ifs. */
static bool is_plain(const struct balancer_record *record, const struct balancer_view *view,
                     uint64_t patience)
{
    return record->version == BALANCER_RECORD_VERSION &&
           record->seen_server_ms + patience >= view->server_ms &&
           (record->state != BALANCER_SERVING ||
            record->since_server_ms + patience < view->server_ms);
}

/* The least that this view can mean for the replica: as if everybody who serves at all had a part.
 * Whatever the plan leaves out, others get more. */
static uint64_t least_expected(const struct balancer_view *view, uint64_t weight, uint64_t *total,
                               uint64_t *weights)
{
    *total = (uint64_t)view->named_in_flight + view->anonymous_in_flight;
    *weights = 0;
    for (size_t i = 0; i < view->record_count; i++) {
        const struct balancer_record *record = &view->records[i];
        *total += record->live;
        if (record->version == BALANCER_RECORD_VERSION && record->state == BALANCER_SERVING)
            *weights += record->weight;
    }
    return *weights ? *total * weight / *weights : *total;
}

/* The share with its rounding, when all records are plain and room limits nobody; else false. */
static bool exact_expected(const struct world *w, const struct replica *p,
                           const struct balancer_view *view, uint64_t total, uint64_t weights,
                           uint64_t *expected)
{
    uint64_t left = total;
    size_t own = view->record_count;
    for (size_t i = 0; i < view->record_count; i++) {
        const struct balancer_record *record = &view->records[i];
        bool is_namesake = i > 0 && strcmp(record->id, view->records[i - 1].id) == 0;
        if (!is_plain(record, view, patience_ms(w)) || is_namesake)
            return false;
        if (record->state != BALANCER_SERVING)
            continue;
        uint64_t share = total * record->weight / weights;
        if (share + 1 > (uint64_t)record->live + record->room)
            return false;
        left -= share;
        if (record->incarnation == p->incarnation)
            own = i;
    }
    if (own == view->record_count)
        return false;
    const struct balancer_record *mine = &view->records[own];
    uint64_t remainder = total * mine->weight % weights, before = 0;
    for (size_t i = 0; i < view->record_count; i++) {
        const struct balancer_record *record = &view->records[i];
        if (i == own || record->state != BALANCER_SERVING)
            continue;
        uint64_t other = total * record->weight % weights;
        bool is_tie = other == remainder;
        before += other > remainder || (is_tie && record->live > mine->live) ||
                  (is_tie && record->live == mine->live && i < own);
    }
    *expected = total * mine->weight / weights + (before < left);
    return true;
}

/* Keeps apart what the plan takes for one sample of landings. */
static void note_sample(struct replica *p, const struct balancer_view *view)
{
    struct sample *s = &p->sample;
    uint64_t mark = p->plan.landed_mark;
    if (mark != s->mark) { /* it is where this view or the one before stood */
        uint64_t needed = mark == view->landed ? p->answer_needed : s->seen_needed;
        s->landed = mark - s->mark;
        s->needed = needed - s->mark_needed;
        s->mark = mark;
        s->mark_needed = needed;
    }
    s->seen_needed = p->answer_needed;
}

void check_answer(struct world *w, uint16_t r, const struct balancer_view *view)
{
    struct replica *p = &w->replicas[r];
    uint64_t total, weights, exact;
    note_sample(p, view);
    p->view_in_flight = (uint64_t)view->named_in_flight + view->anonymous_in_flight;
    p->view_others_room = 0;
    for (size_t i = 0; i < view->record_count; i++) {
        const struct balancer_record *record = &view->records[i];
        if (record->version == BALANCER_RECORD_VERSION && record->state == BALANCER_SERVING &&
            record->incarnation != p->incarnation && !record->is_full)
            p->view_others_room += record->room;
    }
    p->floor_expected = least_expected(view, p->plan.config.weight, &total, &weights);
    if (p->plan.view_hold != BALANCER_WHY_BALANCED || view->bad_record_count > 0 || p->is_draining)
        return;
    if (!exact_expected(w, p, view, total, weights, &exact))
        return;
    p->floor_expected = exact;
    if (p->plan.view_sent_ms == p->view_sent_ms && p->plan.expected != exact)
        world_fail(w, INVARIANT_SHARES, "replica %u expects %u, its share is %llu", r,
                   p->plan.expected, (unsigned long long)exact);
}

/* ---- ends of rounds, drains and episodes ---- */

/* A verdict must be true: what is said to have come back did. */
void check_verdict(struct world *w, uint16_t r, const struct balancer_decision *before)
{
    struct replica *p = &w->replicas[r];
    if (p->decision.futile_rounds <= before->futile_rounds)
        return;
    w->futile_rounds++;
    world_tell(w, "     replica %u: %s, %u of %u came back", r, balancer_why_name(p->plan.verdict),
               p->round_home, p->round_released);
    if (p->plan.verdict == BALANCER_WHY_NO_VICTIM)
        p->episode_ms = w->now_ms;
    if (p->plan.verdict == BALANCER_WHY_FUTILE_HOME &&
        p->round_home < w->setup.config.futile_fraction * p->round_released)
        world_fail(w, INVARIANT_VERDICT, "replica %u gave up though only %u of %u came back", r,
                   p->round_home, p->round_released);
    if (p->plan.verdict == BALANCER_WHY_FUTILE_FULL && !w->has_ghost &&
        (double)p->sample.needed > FUTILE_NEEDED * (double)p->sample.landed)
        world_fail(w, INVARIANT_VERDICT, "replica %u gave up though %llu of %llu were needed", r,
                   (unsigned long long)p->sample.needed, (unsigned long long)p->sample.landed);
}

void check_drain(struct world *w, uint16_t r)
{
    const struct replica *p = &w->replicas[r];
    const struct balancer_config *config = &w->setup.config;
    bool was_frozen = p->thawed_ms >= p->drain_ms && p->thawed_ms > 0;
    uint64_t most = config->drain_timeout_ms;
    if (most < 2 * config->bridge_ms) /* too short for both: half of it to let go */
        most = most / 2 + config->bridge_ms;
    if (p->is_draining && !was_frozen && w->now_ms > p->drain_ms + most + 2 * SIM_SECOND)
        world_fail(w, INVARIANT_DRAIN, "replica %u still drains, %zu connections, %u bridged", r,
                   p->live, p->bridged);
}

void check_landing(struct world *w, uint32_t node, uint16_t r)
{
    struct edge *e = &w->edges[node];
    bool is_needed = truth_is_needy(w, r);
    w->useful += is_needed && !e->is_drained;
    e->is_needed = is_needed && w->now_ms > w->knowledge_ms + check_grace_ms(w);
    if (w->now_ms - e->released_ms >= w->setup.config.inflight_timeout_ms)
        e->moved_ms = UINT32_MAX; /* the store has forgotten it */
}

void check_booking(struct world *w, const struct group_beat *beat,
                   const struct group_answer *answer)
{
    for (size_t i = 0; i < beat->arrived_count; i++)
        w->needed += answer->moved[i] && w->edges[beat->arrived[i]].is_needed;
}

/* An episode is over when all is even and nobody whom the balancer released is away. */
void check_episode(struct world *w)
{
    if (w->purposely_away > 0 || !truth_is_even(w)) {
        if (w->was_even)
            w->episode_ms = w->now_ms;
        w->was_even = false;
        return;
    }
    w->was_even = true;
    w->episode_ms = w->now_ms;
}
