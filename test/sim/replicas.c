/* Replicas: what the hub does around the plan, and the checks of what the plan makes it do. See
 * sim.h. */
#include "test/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RENEWAL_MS     10000 /* every node renews its lease this often, each at its own moment */
#define BUSY_PER_MILLE 20

void name_list_add(struct name_list *list, uint32_t node)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 16;
        list->nodes = realloc(list->nodes, list->room * sizeof(*list->nodes));
        if (!list->nodes) {
            perror("sim");
            exit(2);
        }
    }
    list->nodes[list->count++] = node;
}

static void report_clear(struct report *report)
{
    report->arrived.count = report->released.count = report->refused.count = 0;
    report->lost = report->unnamed = 0;
    report->has_moves = false;
}

void replica_start(struct world *w, uint16_t r, const char *id)
{
    struct replica *p = &w->replicas[r];
    snprintf(p->id, sizeof(p->id), "%s", id);
    p->incarnation = ((uint64_t)world_random(w, UINT32_MAX) << 32) | (uint64_t)(p->generation + 1);
    p->member = group_join(&w->group, id, p->incarnation);
    if (w->has_snapshot) {
        uint32_t same = group_join(&w->snapshot, id, p->incarnation);
        assert(same == p->member);
        (void)same;
    }
    p->is_alive = true;
    p->is_frozen = p->is_ready = p->is_draining = false;
    p->ready_at_ms = w->now_ms + 500 + world_random(w, 3000);
    p->generation++;
    p->request++;
    p->seq = p->acked = p->acked_sent_ms = p->view_sent_ms = p->view_server_ms = 0;
    p->is_waiting = false;
    p->first_beat_ms = 0;
    p->accept_ms = w->now_ms;
    p->accept_credit = 0;
    report_clear(&p->pending);
    report_clear(&p->sent);

    struct balancer_config config = w->setup.config;
    if (w->setup.weights[r])
        config.weight = w->setup.weights[r];
    balancer_plan_init(&p->plan, &config, w->now_ms);
    if (w->broken == SIM_BREAK_FUTILITY)
        p->plan.config.futile_fraction = 2;
    if (w->broken == SIM_BREAK_COOLDOWN)
        p->plan.config.move_cooldown_ms = 0;
    if (w->broken == SIM_BREAK_QUOTA)
        p->plan.config.release_max_fraction = 1;
    if (w->broken == SIM_BREAK_HASTY)
        p->plan.config.futile_fraction = 0.25;
    if (w->broken == SIM_BREAK_DRAIN)
        p->plan.config.drain_timeout_ms *= 3;
    if (w->broken == SIM_BREAK_TOLERANCE)
        p->plan.config.tolerance = (double)(p->plan.config.tolerance_abs = 0);
    if (w->broken == SIM_BREAK_STEERING)
        p->plan.config.max_refusals = 0;
    memset(&p->decision, 0, sizeof(p->decision));
    p->decision.is_accepting = true;
    p->decision.agent_percent = 100;
    world_schedule(w, w->now_ms + 1 + world_random(w, 1000), EVENT_STEP, r, p->generation);
    world_schedule(w, w->now_ms + 1 + world_random(w, (uint32_t)config.period_ms), EVENT_BEAT, r,
                   p->generation);
}

void replica_stop(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    p->is_alive = p->is_frozen = p->is_draining = false;
    p->gone_ms = w->now_ms;
    w->unknown_moves += p->pending.has_moves ? p->pending.released.count : 0;
    w->unknown_moves += p->is_waiting && p->sent.has_moves ? p->sent.released.count : 0;
    for (size_t i = p->bridging_head; i < p->bridging.count; i++) {
        struct edge *e = &w->edges[p->bridging.nodes[i]];
        if (e->is_bridged && e->donor == r && e->donor_life == p->generation) {
            e->is_bridged = 0;
            e->bridge_end_ms = (uint32_t)(w->now_ms + check_grace_ms(w));
        }
    }
    p->bridging.count = p->bridging_head = p->bridged = 0;
    p->generation++;
    p->request++;
    while (p->live > 0)
        edge_lose(w, p->nodes[p->live - 1], w->setup.notice_ms);
}

void replica_self(const struct world *w, uint16_t r, struct balancer_self *self)
{
    const struct replica *p = &w->replicas[r];
    *self = (struct balancer_self){.id = p->id,
                                   .incarnation = p->incarnation,
                                   .live = (uint32_t)p->live,
                                   .max_connections = w->setup.max_connections,
                                   .bridged = p->bridged,
                                   .is_ready = p->is_ready,
                                   .is_store_up = w->is_store_up,
                                   .is_api_ok = w->is_api_ok,
                                   .is_draining = p->is_draining};
}

/* ---- releasing ---- */

static bool is_fit(struct world *w, uint32_t node, const struct replica *p)
{
    const struct edge *e = &w->edges[node];
    uint64_t phase = (node * 2654435761u) % RENEWAL_MS;
    uint64_t since_renewal = (w->now_ms + RENEWAL_MS - phase) % RENEWAL_MS;
    struct balancer_candidate candidate = {
        .is_busy = world_random(w, 1000) < BUSY_PER_MILLE,
        .since_connect_ms = w->now_ms - e->connected_ms,
        .since_moved_ms = e->marked_ms == UINT32_MAX ? BALANCER_NEVER : w->now_ms - e->marked_ms,
        .since_renewal_ms = since_renewal};
    if (candidate.since_connect_ms < since_renewal)
        candidate.since_renewal_ms = BALANCER_NEVER;
    return balancer_victim_judge(&p->plan.config, &p->decision, &candidate) == BALANCER_FIT;
}

static void release_some(struct world *w, uint16_t r, uint32_t count)
{
    struct replica *p = &w->replicas[r];
    bool is_drain = p->decision.phase == BALANCER_DRAIN;
    uint32_t released = 0;
    size_t looks = (size_t)count * 16 + 64;
    if (is_drain || looks > p->live)
        looks = p->live;
    for (; looks > 0 && released < count && p->live > 0; looks--) {
        if (p->cursor >= p->live)
            p->cursor = 0;
        uint32_t node = p->nodes[p->cursor];
        if (!is_fit(w, node, p)) {
            p->cursor++;
            continue;
        }
        if (!is_drain) {
            check_release(w, r, node);
            w->edges[node].moved_ms = (uint32_t)w->now_ms;
            p->pending.has_moves = true;
        }
        edge_release(w, node, is_drain);
        released++;
    }
    if (released > 0 && p->plan.round_released == 0)
        p->round_released = p->round_home = 0;
    p->round_released += released;
    balancer_plan_released(&p->plan, released, w->now_ms);
}

static void depart(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    world_tell(w, "     replica %u leaves", r);
    struct group_beat beat = {.member = p->member,
                              .seq = p->seq + 1,
                              .acked = p->acked,
                              .quiet_ms = w->now_ms - p->acked_sent_ms,
                              .is_leaving = true,
                              .nonce = p->incarnation,
                              .counts_as_moves = p->pending.has_moves,
                              .released = p->pending.released.nodes,
                              .released_count = p->pending.released.count};
    struct group_answer answer = {0};
    if (w->is_store_up && !w->is_store_paused)
        group_beat(&w->group, &beat, world_server_us(w), &answer);
    replica_stop(w, r);
    if (p->restart_ms <= 0)
        return;
    w->quiet_after_ms = w->now_ms + (uint64_t)p->restart_ms + 1;
    assert(w->setup.fault_count < SIM_FAULTS_MAX);
    uint32_t next = (uint32_t)w->setup.fault_count++;
    w->setup.faults[next] = (struct fault){w->now_ms + (uint64_t)p->restart_ms, FAULT_START, r, 0};
    world_schedule(w, w->setup.faults[next].at_ms, EVENT_FAULT, next, 0);
}

/* Leases are renewed for so long; whose node is back before has ended with its arrival. */
static void end_bridges(struct world *w, struct replica *p, uint16_t r)
{
    const struct name_list *list = &p->bridging;
    for (; p->bridging_head < list->count; p->bridging_head++) {
        struct edge *e = &w->edges[list->nodes[p->bridging_head]];
        bool is_ours = e->is_bridged && e->donor == r && e->donor_life == p->generation;
        if (is_ours && e->bridge_end_ms > w->now_ms)
            return;
        if (!is_ours)
            continue;
        e->is_bridged = 0;
        p->bridged--;
    }
    p->bridging.count = p->bridging_head = 0;
}

void replica_step(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    p->is_ready |= w->now_ms >= p->ready_at_ms;
    end_bridges(w, p, r);
    check_drain(w, r);
    struct balancer_self self;
    replica_self(w, r, &self);
    if (w->broken == SIM_BREAK_API)
        self.is_api_ok = true;
    if (w->broken == SIM_BREAK_STORE)
        self.is_store_up = true;
    struct balancer_decision before = p->decision;
    balancer_plan_step(&p->plan, &self, w->now_ms, &p->decision);
    if (w->is_verbose && before.phase != p->decision.phase)
        world_tell(w, "     replica %u: %s -> %s (%s), live %u expected %u, in flight %u", r,
                   balancer_phase_name(before.phase), balancer_phase_name(p->decision.phase),
                   balancer_why_name(p->decision.why), p->decision.live, p->decision.expected,
                   p->decision.in_flight);
    check_verdict(w, r, &before);
    uint32_t count = p->decision.release_now;
    if (w->broken == SIM_BREAK_EXPECTED && count > 0)
        count++;
    if (count > 0)
        release_some(w, r, count);
    if (p->decision.is_drained)
        depart(w, r);
}

/* ---- beats ---- */

static void prepare(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    struct report empty = p->sent;
    report_clear(&empty);
    p->sent = p->pending;
    p->pending = empty;
    p->seq++;
    uint32_t room = BALANCER_LIVE_MAX;
    if (w->setup.max_connections > 0)
        room = w->setup.max_connections - (uint32_t)p->live;
    p->beat = (struct group_beat){.member = p->member,
                                  .seq = p->seq,
                                  .acked = p->acked,
                                  .self = {.version = BALANCER_RECORD_VERSION,
                                           .live = (uint32_t)p->live,
                                           .weight = (uint32_t)p->plan.config.weight,
                                           .room = room,
                                           .state = p->is_draining ? BALANCER_DRAINING
                                                    : p->is_ready  ? BALANCER_SERVING
                                                                   : BALANCER_STARTING,
                                           .mode = p->plan.config.mode,
                                           .is_full = p->decision.is_full},
                                  .want = p->decision.want,
                                  .counts_as_moves = p->sent.has_moves,
                                  .lost = p->sent.lost,
                                  .unnamed = p->sent.unnamed,
                                  .arrived = p->sent.arrived.nodes,
                                  .arrived_count = p->sent.arrived.count,
                                  .released = p->sent.released.nodes,
                                  .released_count = p->sent.released.count,
                                  .refused = p->sent.refused.nodes,
                                  .refused_count = p->sent.refused.count,
                                  .bridged_count = p->sent.released.count};
}

static void tell_ages(const struct world *w, struct replica *p)
{
    size_t count = p->sent.released.count;
    if (count > p->age_room) {
        p->age_room = 2 * count;
        p->ages_ms = realloc(p->ages_ms, p->age_room * sizeof(*p->ages_ms));
        if (!p->ages_ms) {
            perror("sim");
            exit(2);
        }
    }
    for (size_t i = 0; i < count; i++)
        p->ages_ms[i] = (uint32_t)(w->now_ms - w->edges[p->sent.released.nodes[i]].released_ms);
    p->beat.ages_ms = p->ages_ms;
}

void replica_beat(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    if (!w->is_store_up)
        return;
    if (p->is_waiting && w->now_ms - p->sent_ms < w->setup.config.period_ms)
        return;
    uint32_t generation = p->generation;
    replica_step(w, r);
    if (generation != p->generation)
        return; /* it left */
    if (!p->is_waiting)
        prepare(w, r);
    tell_ages(w, p);
    p->beat.nonce = p->incarnation + p->seq + w->now_ms;
    p->beat.quiet_ms = w->now_ms - p->acked_sent_ms;
    p->is_waiting = true;
    p->sent_ms = w->now_ms;
    p->request++;
    if (w->broken != SIM_BREAK_STALE)
        balancer_plan_beat_sent(&p->plan);
    if (w->latency_ms == 0 && !w->is_store_paused)
        replica_execute(w, r);
    else
        world_schedule(w, w->now_ms + world_random(w, w->latency_ms / 2 + 1), EVENT_EXECUTE, r,
                       p->request);
}

void replica_execute(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    if (!w->is_store_up)
        return;
    if (p->beat.arrived_count > 0) {
        p->answer.moved = realloc(p->answer.moved, p->beat.arrived_count);
        if (!p->answer.moved) {
            perror("sim");
            exit(2);
        }
    }
    if (p->first_beat_ms == 0)
        p->first_beat_ms = w->now_ms;
    uint64_t landed = w->group.landed;
    group_beat(&w->group, &p->beat, world_server_us(w), &p->answer);
    if (w->group.landed > landed)
        check_booking(w, &p->beat, &p->answer);
    p->answer_needed = w->needed;
    if (w->lossy > 0 && world_random(w, w->lossy) == 0)
        return;
    if (w->latency_ms == 0) {
        replica_answer(w, r);
        return;
    }
    size_t count = p->answer.view.record_count;
    p->answer_records = realloc(p->answer_records, (count + 1) * sizeof(*p->answer_records));
    if (!p->answer_records) {
        perror("sim");
        exit(2);
    }
    memcpy(p->answer_records, p->answer.view.records, count * sizeof(*p->answer_records));
    p->answer.view.records = p->answer_records;
    world_schedule(w, w->now_ms + world_random(w, w->latency_ms / 2 + 1), EVENT_ANSWER, r,
                   p->request);
}

static void mark_moved(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    for (size_t i = 0; p->answer.moved_count > 0 && i < p->sent.arrived.count; i++) {
        struct edge *e = &w->edges[p->sent.arrived.nodes[i]];
        if (p->answer.moved[i] && e->replica == r)
            e->marked_ms = (uint32_t)w->now_ms;
    }
}

/* What the plan is shown in place of what the store said. */
static void disguise(struct world *w, struct balancer_view *view, const struct replica *p)
{
    static struct balancer_record records[SIM_REPLICAS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < view->record_count && count < SIM_REPLICAS_MAX; i++) {
        records[count] = view->records[i];
        if (w->broken == SIM_BREAK_WEIGHTS)
            records[count].weight = 100;
        bool is_namesake = strcmp(view->records[i].id, p->id) == 0 &&
                           view->records[i].incarnation != p->incarnation;
        count += !(w->broken == SIM_BREAK_TWIN && is_namesake);
    }
    view->records = records;
    view->record_count = count;
}

void replica_answer(struct world *w, uint16_t r)
{
    struct replica *p = &w->replicas[r];
    struct balancer_view view = p->answer.view;
    mark_moved(w, r);
    report_clear(&p->sent);
    p->is_waiting = false;
    p->acked = p->seq;
    p->acked_sent_ms = p->view_sent_ms = p->sent_ms;
    p->view_server_ms = view.server_ms;
    p->view_ms = w->now_ms;
    p->view_named = view.named_in_flight;

    uint64_t sent_ms = p->sent_ms;
    if (w->broken == SIM_BREAK_INFLIGHT)
        view.named_in_flight = view.anonymous_in_flight = view.own_in_flight = 0;
    if (w->broken == SIM_BREAK_STALE)
        sent_ms = w->now_ms;
    if (w->broken == SIM_BREAK_EPOCH) {
        view.epoch = 1;
        view.epoch_since_server_ms = 0;
        p->plan.has_view = false;
    }
    if (w->broken == SIM_BREAK_WEIGHTS || w->broken == SIM_BREAK_TWIN)
        disguise(w, &view, p);
    struct balancer_self self;
    replica_self(w, r, &self);
    balancer_plan_beat(&p->plan, &self, &view, &w->shares, sent_ms, w->now_ms);
    check_answer(w, r, &p->answer.view);
    if (w->broken == SIM_BREAK_FUTILITY) {
        p->plan.landed_mark = p->plan.landed;
        p->plan.full_mark = p->plan.landed_full;
        p->plan.is_full_futile = false;
    }
    if (w->broken == SIM_BREAK_ROOM)
        p->plan.others_room = UINT64_MAX;
    if (w->broken == SIM_BREAK_VICTIMS)
        p->plan.named++;
    if (w->broken == SIM_BREAK_STALE)
        p->plan.hold_until_ms = 0; /* it takes that for a clock that steps */
    replica_step(w, r);
}
