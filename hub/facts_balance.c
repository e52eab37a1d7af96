/* See facts_balance.h. jansson's "o" in a pack steals, and a NULL anywhere makes the whole NULL:
 * allocation failures need no other care. */
#include "hub/facts_balance.h"

#include <math.h>

void facts_balance_gather(struct facts_balance *f, const struct balancer *b)
{
    balancer_read(b, &f->view);
    f->peer_count =
        f->view.peer_count < FACTS_BALANCE_PEERS ? f->view.peer_count : FACTS_BALANCE_PEERS;
    for (size_t i = 0; i < f->peer_count; i++)
        balancer_read_peer(b, i, &f->peers[i]);
    f->change_count =
        f->view.change_count < FACTS_BALANCE_CHANGES ? f->view.change_count : FACTS_BALANCE_CHANGES;
    for (size_t i = 0; i < f->change_count; i++)
        f->changes[i] = *balancer_read_change(b, i);
}

/* Our own number is known at every moment, not only at each beat. */
static uint32_t live_of(const struct facts_balance *f, const struct balance_peer *p)
{
    return p->is_self ? f->view.decision.live : p->record->live;
}

void facts_balance_remember(struct balance_past *past, const struct facts_balance *f)
{
    struct balance_past_sample samples[FACTS_BALANCE_PEERS];
    for (size_t i = 0; i < f->peer_count; i++)
        samples[i] = (struct balance_past_sample){f->peers[i].record->id, live_of(f, &f->peers[i])};
    balance_past_add(past, samples, f->peer_count);
}

/* ---- /status ---- */

static json_t *seconds(uint64_t ms)
{
    return ms == BALANCER_NEVER ? json_null() : json_real(round((double)ms / 100) / 10);
}

static json_t *seconds_since(uint64_t now_ms, uint64_t at_ms)
{
    return seconds(at_ms == 0 ? BALANCER_NEVER : now_ms - at_ms);
}

static const char *mode_name(enum balancer_mode mode)
{
    return mode == BALANCER_ON ? "on" : mode == BALANCER_DRY_RUN ? "dry-run" : "off";
}

static const char *state_name(enum balancer_state state)
{
    return state == BALANCER_SERVING    ? "serving"
           : state == BALANCER_DRAINING ? "draining"
                                        : "starting";
}

static json_t *redis(const struct balance_view *v)
{
    if (!v->redis_url)
        return json_null();
    return json_pack("{s:s, s:b, s:o, s:s, s:o, s:o}", "url", v->redis_url, "connected",
                     v->is_store_up, "since_s", seconds_since(v->now_ms, v->store_since_ms),
                     "error", v->store_error ? v->store_error : "", "answered_s",
                     seconds_since(v->now_ms, v->answered_ms), "round_trip_ms",
                     v->round_trip_us ? json_real((double)v->round_trip_us / 1000) : json_null());
}

static json_t *decision(const struct balancer_decision *d)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o}",
                     "phase", balancer_phase_name(d->phase), "why", balancer_why_name(d->why),
                     "text", balancer_why_text(d->why), "live", (json_int_t)d->live, "expected",
                     (json_int_t)d->expected, "surplus", (json_int_t)d->surplus, "tolerance",
                     (json_int_t)d->tolerance, "total", (json_int_t)d->total, "in_flight",
                     (json_int_t)d->in_flight, "own_in_flight", (json_int_t)d->own_in_flight,
                     "would_release", (json_int_t)d->would_release, "futile_rounds",
                     (json_int_t)d->futile_rounds, "agent_percent", (json_int_t)d->agent_percent,
                     "refusing", d->is_refusing, "beat_age_s", seconds(d->beat_age_ms));
}

static json_t *counters(const struct balance_counters *c)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "arrived", (json_int_t)c->arrived,
                     "lost", (json_int_t)c->lost, "released", (json_int_t)c->released, "returned",
                     (json_int_t)c->returned, "refused", (json_int_t)c->refused, "moved",
                     (json_int_t)c->moved, "rounds", (json_int_t)c->rounds, "futile_rounds",
                     (json_int_t)c->futile_rounds);
}

/* As many values as /status' history has: a difference of two samples less than samples. */
static json_t *connections(const struct balance_past *past, const char *id)
{
    const struct balance_past_replica *r = balance_past_find(past, id);
    if (!r)
        return json_null();
    json_t *array = json_array();
    for (size_t i = 1; i < past->count; i++) {
        uint32_t live = balance_past_at(past, r, i);
        json_array_append_new(array,
                              live == BALANCE_PAST_ABSENT ? json_null() : json_integer(live));
    }
    return array;
}

static json_t *replica(const struct facts_balance *f, const struct balance_peer *p,
                       const struct balance_past *past)
{
    const struct balancer_record *r = p->record;
    return json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "id", r->id,
                     "is_self", p->is_self, "state", state_name(r->state), "mode",
                     mode_name(r->mode), "live", (json_int_t)live_of(f, p), "expected",
                     (json_int_t)p->expected, "weight", (json_int_t)r->weight, "room",
                     (json_int_t)r->room, "version", (json_int_t)r->version, "age_ms",
                     (json_int_t)p->age_ms, "connections", connections(past, r->id));
}

static json_t *replicas(const struct facts_balance *f, const struct balance_past *past)
{
    json_t *array = json_array();
    for (size_t i = 0; i < f->peer_count; i++)
        json_array_append_new(array, replica(f, &f->peers[i], past));
    return array;
}

static json_t *change(const struct balance_view *v, const struct balance_change *c)
{
    const struct balancer_decision *d = &c->decision;
    return json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "ago_s",
                     seconds(v->now_ms - c->at_ms), "phase", balancer_phase_name(d->phase), "why",
                     balancer_why_name(d->why), "text", balancer_why_text(d->why), "live",
                     (json_int_t)d->live, "expected", (json_int_t)d->expected, "in_flight",
                     (json_int_t)d->in_flight, "released", (json_int_t)d->round_released);
}

static json_t *changes(const struct facts_balance *f)
{
    json_t *array = json_array();
    for (size_t i = 0; i < f->change_count; i++)
        json_array_append_new(array, change(&f->view, &f->changes[i]));
    return array;
}

json_t *facts_balance_json(const struct facts_balance *f, const struct balance_past *past)
{
    const struct balance_view *v = &f->view;
    return json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o}", "mode", mode_name(v->config->mode),
                     "group", v->group, "replica_count", (json_int_t)v->peer_count, "redis",
                     redis(v), "decision", decision(&v->decision), "counters",
                     counters(&v->counters), "replicas", replicas(f, past), "changes", changes(f));
}

/* ---- metrics ---- */

static double beat_age_s(const struct facts_balance *f)
{
    uint64_t age_ms = f->view.decision.beat_age_ms;
    if (age_ms == BALANCER_NEVER) /* on its own there is none to wait for */
        age_ms = f->view.redis_url ? f->view.now_ms - f->view.store_since_ms : 0;
    return (double)age_ms / 1000;
}

/* X(name, type, help, value) */
/* clang-format off */
#define METRICS(X) \
    X("isthmus_balance_redis_up", "gauge", "1 while the connection to Redis stands.", f->view.is_store_up) \
    X("isthmus_balance_replicas", "gauge", "Live replicas, this one included, by the last beat.", f->view.peer_count) \
    X("isthmus_balance_unknown_versions", "gauge", "Of the replicas, those whose records have a version this one does not know: counted, not obeyed.", f->view.unknown_versions) \
    X("isthmus_balance_bad_records", "gauge", "Records in the last beat that could not be read: nothing is released on them.", f->view.bad_records) \
    X("isthmus_balance_redis_disconnects_total", "counter", "Connections to Redis that were lost or given up.", f->view.counters.disconnects) \
    X("isthmus_balance_beat_age_seconds", "gauge", "Since the last beat that was answered; before the first, since Redis is away; 0 without Redis.", beat_age_s(f)) \
    X("isthmus_balance_expected_connections", "gauge", "This replica's share.", f->view.decision.expected) \
    X("isthmus_balance_surplus_connections", "gauge", "Connections above the share; negative: below it.", f->view.decision.surplus) \
    X("isthmus_balance_tolerance_connections", "gauge", "How far from the share it may be before anything is done.", f->view.decision.tolerance) \
    X("isthmus_balance_in_flight", "gauge", "Nodes of the whole fleet that are on their way to a replica.", f->view.decision.in_flight) \
    X("isthmus_balance_own_in_flight", "gauge", "Of these, released here.", f->view.decision.own_in_flight) \
    X("isthmus_balance_would_release", "gauge", "What a dry run would release now.", f->view.decision.would_release) \
    X("isthmus_balance_released_total", "counter", "Nodes released.", f->view.counters.released) \
    X("isthmus_balance_returned_total", "counter", "Of these, those that came back to this replica.", f->view.counters.returned) \
    X("isthmus_balance_refused_total", "counter", "Arrivals sent on to other replicas (503).", f->view.counters.refused) \
    X("isthmus_balance_moved_total", "counter", "Nodes that arrived here after they had been released somewhere.", f->view.counters.moved) \
    X("isthmus_balance_lost_total", "counter", "Sessions that ended without having been released.", f->view.counters.lost) \
    X("isthmus_balance_rounds_total", "counter", "Rounds of releasing and observing.", f->view.counters.rounds) \
    X("isthmus_balance_futile_rounds_total", "counter", "Of these, those whose nodes came back or landed where nobody needed them.", f->view.counters.futile_rounds)
/* clang-format on */

#define PHASE_HELP "1 for the phase the plan is in."

void facts_balance_render(struct metric_text *out, const struct facts_balance *f)
{
#define RENDER(name, type, help, value)                                                            \
    metric_text_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type,      \
                       name, (double)(value));
    METRICS(RENDER)
#undef RENDER
    metric_text_printf(out, "# HELP isthmus_balance_phase %s\n# TYPE isthmus_balance_phase gauge\n",
                       PHASE_HELP);
    for (enum balancer_phase p = 0; p < BALANCER_PHASE_COUNT; p++)
        metric_text_printf(out, "isthmus_balance_phase{phase=\"%s\"} %d\n", balancer_phase_name(p),
                           f->view.decision.phase == p);
}

void facts_balance_markdown(struct metric_text *out)
{
#define ROW(name, type, help, value)                                                               \
    metric_text_printf(out, "| `%s` | %s |  | %s |\n", name, type, help);
    METRICS(ROW)
#undef ROW
    metric_text_printf(out, "| `isthmus_balance_phase` | gauge | `phase` | %s |\n", PHASE_HELP);
}
