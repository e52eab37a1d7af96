/* What befalls the fleet. See sim.h. */
#include "test/sim/sim.h"

#include <assert.h>
#include <stdlib.h>

/* Out of range in one of many ways. */
static void spoil(struct world *w, struct balancer_record *record)
{
    switch (world_random(w, 6)) {
    case 0:
        record->live = BALANCER_LIVE_MAX + 1 + world_random(w, 1u << 30);
        break;
    case 1:
        record->weight = world_random(w, 2) ? 0 : BALANCER_WEIGHT_MAX + 1;
        break;
    case 2:
        record->id[world_random(w, 6)] = '\n';
        break;
    case 3:
        record->room = UINT32_MAX;
        break;
    case 4:
        record->since_server_ms = record->seen_server_ms + 1;
        break;
    default:
        record->seen_server_ms += SIM_MINUTE;
    }
}

static void forge(struct world *w, enum fault_kind kind)
{
    uint64_t server_ms = world_server_us(w) / 1000;
    struct balancer_record record = {.incarnation = 0xF0A6ED,
                                     .since_server_ms = server_ms - SIM_MINUTE,
                                     .seen_server_ms = server_ms,
                                     .version = BALANCER_RECORD_VERSION,
                                     .weight = (uint32_t)w->setup.config.weight,
                                     .room = 1000,
                                     .state = BALANCER_SERVING,
                                     .mode = BALANCER_ON};
    snprintf(record.id, sizeof(record.id), "forged");
    if (kind == FAULT_FORGE_BAD)
        spoil(w, &record);
    if (kind == FAULT_FORGE_ODD) {
        record.live = world_random(w, w->setup.edges);
        if (record.live > w->forged_live)
            w->forged_live = record.live;
        if (world_random(w, 2))
            record.version = BALANCER_RECORD_VERSION + 1 + world_random(w, 5);
        else
            record.seen_server_ms -= w->setup.config.period_ms * 8 / 5;
    }
    group_forge(&w->group, &record);
}

static void drop_store(struct world *w)
{
    w->is_store_up = false;
    for (uint32_t r = 0; r < w->setup.replicas; r++)
        w->replicas[r].request++; /* what was under way is lost */
}

static void cut(struct world *w, uint32_t per_mille)
{
    for (uint32_t node = 0; node < w->setup.edges; node++)
        if (w->edges[node].replica != SIM_NOBODY && world_random(w, 1000) < per_mille)
            edge_lose(w, node, w->setup.notice_ms);
}

static void fail_over(struct world *w)
{
    if (!w->has_snapshot)
        return;
    group_fini(&w->group);
    w->group = w->snapshot;
    w->has_snapshot = false;
}

static const char *const fault_names[] = {
    [FAULT_CRASH] = "crash",
    [FAULT_START] = "start",
    [FAULT_START_NEW] = "start as new",
    [FAULT_DRAIN] = "drain",
    [FAULT_UNDRAIN] = "undrain",
    [FAULT_FREEZE] = "freeze",
    [FAULT_THAW] = "thaw",
    [FAULT_STORE_DOWN] = "store down",
    [FAULT_STORE_UP] = "store up",
    [FAULT_STORE_PAUSE] = "store paused",
    [FAULT_FLUSH] = "store flushed",
    [FAULT_FAILOVER] = "store failed over",
    [FAULT_CLOCK] = "store's clock stepped",
    [FAULT_LATENCY] = "latency",
    [FAULT_LOSSY] = "answers get lost",
    [FAULT_FORGE_BAD] = "forged record",
    [FAULT_FORGE_ODD] = "odd record",
    [FAULT_FORGE_GHOST] = "forged replica",
    [FAULT_API_DOWN] = "API down",
    [FAULT_API_UP] = "API up",
    [FAULT_CUT] = "connections cut",
    [FAULT_SNAPSHOT] = "snapshot",
};

static void start(struct world *w, uint16_t r, bool is_new)
{
    char id[BALANCER_ID_SIZE];
    if (is_new)
        snprintf(id, sizeof(id), "isthmus-%05x", world_random(w, 1u << 20));
    else
        snprintf(id, sizeof(id), "isthmus-%u", r);
    if (!w->replicas[r].is_alive)
        replica_start(w, r, id);
    if (w->setup.is_rolling && r + 1u < w->setup.replicas) {
        assert(w->setup.fault_count < SIM_FAULTS_MAX);
        uint32_t next = (uint32_t)w->setup.fault_count++;
        w->setup.faults[next] = (struct fault){w->now_ms + 5000 + world_random(w, 30000),
                                               FAULT_DRAIN, (uint16_t)(r + 1), 2000};
        world_schedule(w, w->setup.faults[next].at_ms, EVENT_FAULT, next, 0);
        w->quiet_after_ms = w->setup.faults[next].at_ms + 1;
    }
}

/* Who was moved is known to the replica that holds the node and, while it is in flight, to the
 * store. */
static bool takes_knowledge(enum fault_kind kind)
{
    switch (kind) {
    case FAULT_CRASH:
    case FAULT_START:
    case FAULT_START_NEW:
    case FAULT_FREEZE:
    case FAULT_THAW:
    case FAULT_STORE_DOWN:
    case FAULT_STORE_UP:
    case FAULT_STORE_PAUSE:
    case FAULT_FLUSH:
    case FAULT_FAILOVER:
    case FAULT_CLOCK:
        return true;
    default:
        return false;
    }
}

/* Who starts afterwards cannot know, and does not have to: the script begins a new epoch if it
 * must. */
static void upset(struct world *w)
{
    for (uint32_t r = 0; r < w->setup.replicas; r++)
        if (w->replicas[r].is_alive && w->replicas[r].acked > 0)
            w->upset_ms = w->now_ms;
}

void fault_strike(struct world *w, uint32_t index)
{
    const struct fault fault = w->setup.faults[index];
    uint16_t r = fault.replica;
    struct replica *p = &w->replicas[r];
    if (fault.kind != FAULT_SNAPSHOT && fault.kind != FAULT_FORGE_GHOST)
        world_tell(w, "---- %s, replica %u, %lld", fault_names[fault.kind], r,
                   (long long)fault.arg);
    w->has_ghost |= fault.kind == FAULT_FORGE_GHOST;
    w->has_store_forgotten |=
        fault.kind == FAULT_FLUSH || fault.kind == FAULT_FAILOVER || fault.kind == FAULT_CLOCK;
    if (takes_knowledge(fault.kind))
        w->knowledge_ms = w->now_ms;
    if (w->now_ms > w->quiet_after_ms)
        w->quiet_after_ms = w->now_ms;
    switch (fault.kind) {
    case FAULT_CRASH:
        if (p->is_alive)
            replica_stop(w, r);
        break;
    case FAULT_START:
    case FAULT_START_NEW:
        start(w, r, fault.kind == FAULT_START_NEW);
        break;
    case FAULT_DRAIN:
        p->is_draining = p->is_alive;
        p->restart_ms = fault.arg;
        p->drain_ms = p->gone_ms = w->now_ms;
        break;
    case FAULT_UNDRAIN:
        p->is_draining = false;
        break;
    case FAULT_FREEZE:
        p->is_frozen = p->is_alive;
        p->gone_ms = w->now_ms;
        break;
    case FAULT_THAW:
        p->is_frozen = false;
        p->thawed_ms = w->now_ms;
        break;
    case FAULT_STORE_DOWN:
        drop_store(w);
        break;
    case FAULT_STORE_UP:
        w->is_store_up = true;
        w->is_store_paused = false;
        break;
    case FAULT_STORE_PAUSE:
        w->is_store_paused = true;
        break;
    case FAULT_FLUSH:
        group_flush(&w->group);
        upset(w);
        break;
    case FAULT_SNAPSHOT:
        if (w->has_snapshot)
            group_fini(&w->snapshot);
        group_copy(&w->snapshot, &w->group);
        w->has_snapshot = true;
        break;
    case FAULT_FAILOVER:
        fail_over(w);
        w->store_offset_ms += (int64_t)world_random(w, 400) - 200;
        upset(w);
        break;
    case FAULT_CLOCK:
        w->store_offset_ms += fault.arg;
        if (llabs(fault.arg) > 2 * (int64_t)SIM_SECOND) /* less hurts nobody */
            upset(w);
        break;
    case FAULT_LATENCY:
        w->latency_ms = (uint32_t)fault.arg;
        break;
    case FAULT_LOSSY:
        w->lossy = (uint32_t)fault.arg;
        break;
    case FAULT_FORGE_BAD:
    case FAULT_FORGE_ODD:
    case FAULT_FORGE_GHOST:
        forge(w, fault.kind);
        break;
    case FAULT_API_DOWN:
        w->is_api_ok = false;
        w->api_down_ms = w->now_ms;
        break;
    case FAULT_API_UP:
        w->is_api_ok = true;
        break;
    case FAULT_CUT:
        cut(w, (uint32_t)fault.arg);
        break;
    }
}
