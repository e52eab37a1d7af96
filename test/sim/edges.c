/* Edges: losing, dialling, being refused and taken. See sim.h. */
#include "test/sim/sim.h"

#include <assert.h>
#include <stdlib.h>

#define DIALS          5
#define HANDSHAKE_MS   30000 /* an EdgeCore's patience with a handshake */
#define NOTICE_MIN_MS  100   /* after a release in the hub's manner */
#define NOTICE_MAX_MS  600
#define NOTICE_LATE_MS 10000

static void leave(struct world *w, uint32_t node)
{
    struct edge *e = &w->edges[node];
    struct replica *p = &w->replicas[e->replica];
    uint32_t last = p->nodes[--p->live];
    p->nodes[e->slot] = last;
    w->edges[last].slot = e->slot;
    e->replica = SIM_NOBODY;
    e->marked_ms = UINT32_MAX;
    e->dials = 0;
    e->refusals = 0;
    w->away++;
}

static void sleep_then_dial(struct world *w, uint32_t node, uint64_t notice_ms)
{
    world_schedule(w, w->now_ms + notice_ms + w->setup.config.edge_away_ms, EVENT_DIAL, node, 0);
}

void edge_lose(struct world *w, uint32_t node, uint32_t notice_ms)
{
    struct edge *e = &w->edges[node];
    struct replica *p = &w->replicas[e->replica];
    if (p->is_alive)
        p->pending.lost++;
    leave(w, node);
    e->is_released = 0;
    e->donor = SIM_NOBODY;
    e->moved_ms = UINT32_MAX; /* it comes back by itself: nobody can know what it was before */
    sleep_then_dial(w, node, world_random(w, notice_ms + 1));
}

void edge_release(struct world *w, uint32_t node, bool is_drain)
{
    struct edge *e = &w->edges[node];
    struct replica *donor = &w->replicas[e->replica];
    e->donor = e->replica;
    e->donor_life = donor->generation;
    e->is_bridged = 1;
    e->bridge_end_ms = (uint32_t)(w->now_ms + w->setup.config.bridge_ms);
    donor->bridged++;
    name_list_add(&donor->bridging, node);
    name_list_add(&donor->pending.released, node);
    leave(w, node);
    e->is_released = 1;
    e->is_drained = is_drain;
    e->released_ms = (uint32_t)w->now_ms;
    uint32_t notice = NOTICE_MIN_MS + world_random(w, NOTICE_MAX_MS - NOTICE_MIN_MS);
    if (world_random(w, 1000) < w->setup.late_per_mille)
        notice = world_random(w, NOTICE_LATE_MS);
    sleep_then_dial(w, node, notice);
    if (is_drain) {
        w->drained++;
        return;
    }
    w->moves++;
    w->purposely_away++;
}

void edge_connect(struct world *w, uint32_t node, uint16_t replica)
{
    struct edge *e = &w->edges[node];
    struct replica *p = &w->replicas[replica];
    if (p->live == p->room) {
        p->room = p->room ? p->room * 2 : 64;
        p->nodes = realloc(p->nodes, p->room * sizeof(*p->nodes));
        if (!p->nodes) {
            perror("sim");
            exit(2);
        }
    }
    e->replica = replica;
    e->slot = (uint32_t)p->live;
    e->connected_ms = (uint32_t)w->now_ms;
    p->nodes[p->live++] = node;
    w->away--;
}

/* What the hub reports of an arrival: its name only if anybody was released at all. */
static void report_arrival(struct world *w, struct replica *p, uint32_t node)
{
    bool is_view_fresh = w->now_ms - p->view_sent_ms <= 2 * w->setup.config.period_ms;
    bool is_none_away = p->acked > 0 && is_view_fresh && p->view_named == 0 &&
                        p->pending.released.count == 0 && p->sent.released.count == 0;
    if (is_none_away)
        p->pending.unnamed++;
    else
        name_list_add(&p->pending.arrived, node);
}

/* A process knows whom it let go; the next one in its place does not. */
static bool is_own_release(const struct world *w, const struct edge *e, uint16_t replica)
{
    return e->is_released && e->donor == replica &&
           e->donor_life == w->replicas[replica].generation;
}

static void take(struct world *w, uint32_t node, uint16_t replica)
{
    struct edge *e = &w->edges[node];
    struct replica *p = &w->replicas[replica];
    if (e->is_released)
        check_landing(w, node, replica);
    edge_connect(w, node, replica);
    report_arrival(w, p, node);
    if (!e->is_released)
        return;
    bool is_home = is_own_release(w, e, replica);
    e->is_released = 0;
    if (e->is_bridged) {
        w->replicas[e->donor].bridged--;
        e->is_bridged = 0;
    }
    uint64_t away_ms = w->now_ms - e->released_ms;
    w->taken++;
    w->away_ms += away_ms;
    if (away_ms > w->worst_away_ms)
        w->worst_away_ms = away_ms;
    if (!e->is_drained)
        w->purposely_away--;
    if (!is_home)
        return;
    e->marked_ms = (uint32_t)w->now_ms; /* it remembers whom it let go */
    p->round_home++;
    balancer_plan_returned(&p->plan, 1);
}

/* The replica knows who is in flight from its last beat, and whom it released itself. Bridged are
 * those of a donor that is still listed. */
static bool is_refused(struct world *w, uint32_t node, uint16_t replica)
{
    const struct edge *e = &w->edges[node];
    struct replica *p = &w->replicas[replica];
    const struct group_flight *f = &w->group.flights[node];
    uint64_t released_ms = f->deadline_ms - w->setup.config.inflight_timeout_ms;
    bool is_listed = f->deadline_ms != 0 && released_ms <= p->view_server_ms;
    bool is_own = is_own_release(w, e, replica);
    bool is_donor_listed = is_listed && w->group.members[f->donor].is_listed;
    struct balancer_arrival arrival = {
        .is_released = is_listed || is_own,
        .is_bridged = is_own ? e->is_bridged : is_donor_listed && f->is_bridged,
        .refusals = is_listed ? f->refusals : 0,
        .since_release_ms = is_own ? w->now_ms - e->released_ms
                                   : p->view_server_ms - released_ms + w->now_ms - p->view_ms};
    if (w->broken == SIM_BREAK_VICTIMS)
        arrival.is_released = arrival.is_bridged = true;
    if (w->broken == SIM_BREAK_BRIDGE)
        arrival.is_bridged = true;
    if (w->broken == SIM_BREAK_REFUSALS)
        arrival.refusals = 0;
    if (w->broken == SIM_BREAK_REFUSALS || w->broken == SIM_BREAK_VICTIMS)
        arrival.since_release_ms = 0;
    if (!balancer_should_refuse(&w->setup.config, &p->decision, &arrival))
        return false;
    check_refusal(w, replica, node);
    w->refusals++;
    name_list_add(&p->pending.refused, node);
    return true;
}

static bool is_admitted(struct world *w, struct replica *p)
{
    const struct setup *s = &w->setup;
    if (s->max_connections > 0 && p->live >= s->max_connections)
        return false;
    if (s->accept_rate == 0)
        return true;
    p->accept_credit += (double)(w->now_ms - p->accept_ms) * s->accept_rate / 1000;
    p->accept_ms = w->now_ms;
    if (p->accept_credit > s->accept_rate)
        p->accept_credit = s->accept_rate;
    if (p->accept_credit < 1)
        return false;
    p->accept_credit--;
    return true;
}

void edge_dial(struct world *w, uint32_t node)
{
    struct edge *e = &w->edges[node];
    assert(e->replica == SIM_NOBODY);
    uint16_t r = lb_pick(w, node);
    struct replica *p = r == SIM_NOBODY ? NULL : &w->replicas[r];
    uint64_t lost_ms = 0;
    if (p && p->is_alive && p->is_frozen) {
        lost_ms = HANDSHAKE_MS; /* the kernel takes it, nobody answers */
    } else if (p && p->is_alive && p->is_ready && is_admitted(w, p) && !is_refused(w, node, r)) {
        take(w, node, r);
        return;
    }
    uint64_t pause_ms = w->setup.config.edge_redial_ms;
    if (++e->dials == DIALS) {
        e->dials = 0;
        pause_ms += w->setup.config.edge_away_ms;
    }
    world_schedule(w, w->now_ms + lost_ms + pause_ms, EVENT_DIAL, node, 0);
}
