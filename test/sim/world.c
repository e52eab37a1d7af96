/* The clock, the events and how a run ends. See sim.h. */
#include "test/sim/sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* The store's clock at the start of a run. */
#define SERVER_START_MS 1700000000000u

#define STEP_MS  1000
#define AGENT_MS 2000
#define WATCH_MS 5000

/* So many looks in a row must find it even; a run that is neither even nor futile by then failed.
 */
#define CALM_WATCHES 3
#define LIMIT_MS     (4 * 3600 * 1000u)

static void *allocate(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) {
        perror("sim");
        exit(2);
    }
    return p;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint32_t world_random(struct world *w, uint32_t below)
{
    return below ? (uint32_t)(next_random(&w->random) % below) : 0;
}

uint64_t world_server_us(const struct world *w)
{
    return (SERVER_START_MS + w->now_ms + (uint64_t)w->store_offset_ms) * 1000;
}

void world_tell(const struct world *w, const char *format, ...)
{
    if (!w->is_verbose || w->is_dry)
        return;
    va_list args;
    va_start(args, format);
    printf("%8.1f  ", (double)w->now_ms / 1000);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void world_fail(struct world *w, enum invariant invariant, const char *format, ...)
{
    if (w->failure[0])
        return;
    w->violated = invariant;
    va_list args;
    va_start(args, format);
    int used =
        snprintf(w->failure, sizeof(w->failure), "[%s] at %.1f s: ", sim_invariant_name(invariant),
                 (double)w->now_ms / 1000);
    vsnprintf(w->failure + used, sizeof(w->failure) - (size_t)used, format, args);
    va_end(args);
    world_tell(w, "FAILED %s", w->failure);
}

/* ---- events ---- */

static bool is_earlier(const struct event *a, const struct event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

void world_schedule(struct world *w, uint64_t at_ms, enum event_kind kind, uint32_t subject,
                    uint32_t generation)
{
    if (w->heap_size == w->heap_room) {
        w->heap_room = w->heap_room ? w->heap_room * 2 : 256;
        w->heap = realloc(w->heap, w->heap_room * sizeof(*w->heap));
        if (!w->heap) {
            perror("sim");
            exit(2);
        }
    }
    struct event event = {at_ms, w->event_order++, subject, generation, kind};
    size_t i = w->heap_size++;
    for (; i > 0 && is_earlier(&event, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = event;
}

static struct event pop(struct world *w)
{
    assert(w->heap_size > 0);
    struct event first = w->heap[0], last = w->heap[--w->heap_size];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_size)
            break;
        if (child + 1 < w->heap_size && is_earlier(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!is_earlier(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

/* ---- the verdict ---- */

/* Two verdicts in a row by the same replica that what it released came back, or that all lands at
 * full ones, and nobody still at work. */
static bool is_futile(const struct world *w)
{
    bool has_futile = false;
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        const struct replica *p = &w->replicas[r];
        if (!p->is_alive)
            continue;
        if (p->plan.phase == BALANCER_RELEASE || p->plan.phase == BALANCER_OBSERVE)
            return false;
        has_futile |= p->plan.phase == BALANCER_BACKOFF && p->plan.futile_rounds >= 2 &&
                      p->plan.verdict != BALANCER_WHY_NO_VICTIM;
    }
    return has_futile;
}

static bool is_releasing(const struct world *w)
{
    for (uint32_t r = 0; r < w->setup.replicas; r++)
        if (w->replicas[r].is_alive && w->replicas[r].plan.phase == BALANCER_RELEASE)
            return true;
    return false;
}

static bool is_draining(const struct world *w)
{
    for (uint32_t r = 0; r < w->setup.replicas; r++)
        if (w->replicas[r].is_draining)
            return true;
    return false;
}

static void show(const struct world *w)
{
    if (w->is_verbose && !w->is_dry) {
        char line[512];
        size_t used = 0;
        for (uint32_t r = 0; r < w->setup.replicas && r < 10; r++) {
            const struct replica *p = &w->replicas[r];
            used += (size_t)snprintf(line + used, sizeof(line) - used, " %zu(%u)%s", p->live,
                                     p->decision.expected,
                                     p->is_alive ? balancer_why_name(p->decision.why) : "dead");
        }
        world_tell(w, "away %u |%s", w->away, line);
    }
}

static void watch(struct world *w)
{
    show(w);
    check_episode(w);
    if (w->now_ms < w->quiet_after_ms || is_draining(w))
        return;
    bool is_calm = w->away <= w->setup.edges * w->setup.churn_per_hour / 20000 &&
                   w->now_ms > w->quiet_after_ms + 4 * w->setup.config.period_ms;
    if (w->is_dry || w->setup.may_stay_uneven) {
        w->calm_watches = is_calm ? w->calm_watches + 1 : 0;
        if (w->is_dry ? w->calm_watches >= CALM_WATCHES
                      : w->now_ms > w->quiet_after_ms + 20 * SIM_MINUTE)
            w->outcome = OUTCOME_HELD;
        return;
    }
    w->calm_watches = is_calm && truth_is_even(w) && !is_releasing(w) ? w->calm_watches + 1 : 0;
    if (w->calm_watches >= CALM_WATCHES)
        w->outcome = OUTCOME_CONVERGED;
    else if (w->scenario->expects_futile && is_calm && is_futile(w))
        w->outcome = OUTCOME_FUTILE;
}

/* ---- the run ---- */

static void churn(struct world *w)
{
    uint32_t node = world_random(w, w->setup.edges);
    if (w->edges[node].replica != SIM_NOBODY)
        edge_lose(w, node, w->setup.notice_ms);
    uint64_t mean_ms = 3600000u * 1000u / ((uint64_t)w->setup.churn_per_hour * w->setup.edges);
    world_schedule(w, w->now_ms + 1 + world_random(w, 2 * (uint32_t)mean_ms + 1), EVENT_CHURN, 0,
                   0);
}

static void handle(struct world *w, const struct event *event)
{
    uint16_t r = (uint16_t)event->subject;
    struct replica *p = &w->replicas[r];
    switch (event->kind) {
    case EVENT_DIAL:
        edge_dial(w, event->subject);
        break;
    case EVENT_STEP:
        if (event->generation != p->generation)
            return;
        world_schedule(w, w->now_ms + STEP_MS, EVENT_STEP, r, event->generation);
        if (!p->is_frozen)
            replica_step(w, r);
        break;
    case EVENT_BEAT:
        if (event->generation != p->generation)
            return;
        world_schedule(w, w->now_ms + w->setup.config.period_ms, EVENT_BEAT, r, p->generation);
        if (!p->is_frozen)
            replica_beat(w, r);
        break;
    case EVENT_EXECUTE:
        if (event->generation == p->request && w->is_store_paused)
            world_schedule(w, w->now_ms + 500, EVENT_EXECUTE, r, event->generation);
        else if (event->generation == p->request)
            replica_execute(w, r);
        break;
    case EVENT_ANSWER:
        if (event->generation != p->request)
            return;
        if (p->is_frozen)
            world_schedule(w, w->now_ms + STEP_MS, EVENT_ANSWER, r, event->generation);
        else
            replica_answer(w, r);
        break;
    case EVENT_FAULT:
        fault_strike(w, event->subject);
        break;
    case EVENT_CHECK:
        lb_check(w);
        world_schedule(w, w->now_ms + w->lb.check_ms, EVENT_CHECK, 0, 0);
        break;
    case EVENT_AGENT:
        lb_poll_agents(w);
        world_schedule(w, w->now_ms + AGENT_MS, EVENT_AGENT, 0, 0);
        break;
    case EVENT_CHURN:
        churn(w);
        break;
    case EVENT_WATCH:
        watch(w);
        world_schedule(w, w->now_ms + WATCH_MS, EVENT_WATCH, 0, 0);
        break;
    }
}

static void populate(struct world *w)
{
    uint32_t node = 0;
    for (uint16_t r = 0; r < (uint16_t)w->setup.replicas; r++) {
        char id[BALANCER_ID_SIZE];
        snprintf(id, sizeof(id), "isthmus-%u", r);
        if (w->setup.twin_of != SIM_NOBODY && r + 1u == w->setup.replicas)
            snprintf(id, sizeof(id), "isthmus-%u", w->setup.twin_of);
        if (w->setup.is_absent[r])
            continue;
        replica_start(w, r, id);
        w->replicas[r].is_ready = true;
        w->replicas[r].ready_at_ms = 0;
        for (uint32_t i = 0; i < w->setup.initial[r] && node < w->setup.edges; i++)
            edge_connect(w, node++, r);
        w->replicas[r].pending.unnamed = 0; /* they have long been there */
    }
    assert(node == w->setup.edges);
}

void world_init(struct world *w, const struct scenario *scenario, uint64_t seed, bool is_dry,
                enum sim_break broken)
{
    memset(w, 0, sizeof(*w));
    w->scenario = scenario;
    w->seed = seed;
    w->is_dry = is_dry;
    w->broken = broken;
    w->random = seed * 0x2545F4914F6CDD1Du;
    for (const char *c = scenario->name; *c; c++)
        w->random = (w->random ^ (uint64_t)*c) * 0x100000001B3u;

    w->setup = (struct setup){.lb = scenario->lb,
                              .check_ms = 2000,
                              .rise = 2,
                              .fall = 3,
                              .twin_of = SIM_NOBODY,
                              .notice_ms = 10000,
                              .late_per_mille = 20,
                              .config = BALANCER_CONFIG_DEFAULT};
    scenario->lay_out(w, &w->setup);
    if (is_dry && broken != SIM_BREAK_DRY)
        w->setup.config.mode = BALANCER_DRY_RUN;

    w->edges = allocate(w->setup.edges, sizeof(*w->edges));
    for (uint32_t i = 0; i < w->setup.edges; i++)
        w->edges[i] = (struct edge){.replica = SIM_NOBODY,
                                    .donor = SIM_NOBODY,
                                    .marked_ms = UINT32_MAX,
                                    .moved_ms = UINT32_MAX};
    w->moves_by_second = allocate(LIMIT_MS / 1000 + 3600, sizeof(*w->moves_by_second));
    w->replicas = allocate(w->setup.replicas, sizeof(*w->replicas));
    w->is_store_up = w->is_api_ok = true;
    w->away = w->setup.edges;
    group_init(&w->group, &w->setup.config, w->setup.edges);
    if (broken == SIM_BREAK_QUOTA)
        w->group.cap_ppm = 100 * 1000000;
    if (broken == SIM_BREAK_HOUR)
        w->group.moves_per_hour = UINT32_MAX;
    w->group.epoch = 1;
    w->group.epoch_since_ms = SERVER_START_MS - 10 * SIM_MINUTE;
    lb_init(w);
    populate(w);

    for (uint32_t i = 0; i < w->setup.fault_count; i++) {
        world_schedule(w, w->setup.faults[i].at_ms, EVENT_FAULT, i, 0);
        if (w->setup.faults[i].at_ms > w->quiet_after_ms)
            w->quiet_after_ms = w->setup.faults[i].at_ms;
    }
    world_schedule(w, world_random(w, w->lb.check_ms), EVENT_CHECK, 0, 0);
    if (w->lb.kind == LB_AGENT)
        world_schedule(w, world_random(w, AGENT_MS), EVENT_AGENT, 0, 0);
    if (w->setup.churn_per_hour > 0)
        world_schedule(w, 1000, EVENT_CHURN, 0, 0);
    world_schedule(w, WATCH_MS, EVENT_WATCH, 0, 0);
}

void world_fini(struct world *w)
{
    for (uint32_t r = 0; r < w->setup.replicas; r++) {
        struct replica *p = &w->replicas[r];
        struct report *reports[] = {&p->pending, &p->sent};
        for (size_t i = 0; i < 2; i++) {
            free(reports[i]->arrived.nodes);
            free(reports[i]->released.nodes);
            free(reports[i]->refused.nodes);
        }
        free(p->bridging.nodes);
        free(p->ages_ms);
        free(p->nodes);
        free(p->answer.moved);
        free(p->answer_records);
    }
    free(w->replicas);
    free(w->edges);
    free(w->moves_by_second);
    free(w->heap);
    group_fini(&w->group);
    if (w->has_snapshot)
        group_fini(&w->snapshot);
}

void world_run(struct world *w)
{
    while (w->outcome == OUTCOME_RUNNING && !w->failure[0]) {
        struct event event = pop(w);
        w->now_ms = event.at_ms;
        handle(w, &event);
        if (w->now_ms <= LIMIT_MS)
            continue;
        w->outcome = OUTCOME_STUCK;
        world_fail(w, INVARIANT_ENDS, "neither even nor futile after four hours");
    }
    w->needs_no_move = truth_needs_no_move(w);
    w->minimum = truth_surplus(w, &w->takers, &w->receivers);
}
