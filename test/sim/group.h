/* balancer/beat.lua said in C: the group's store as the simulator uses it. test/sim/lua_agree.py
 * runs random sequences through both and compares every answer.
 *
 * Nodes are numbers below node_count, replicas ("id/incarnation" in the script) are handles from
 * group_join(). Times are milliseconds on the store's clock, microseconds where the name says so.
 * One thread. Allocation failures end the simulator. */
#ifndef TEST_SIM_GROUP_H
#define TEST_SIM_GROUP_H

#include "isthmus/balancer.h"

struct group_member {
    char id[BALANCER_ID_SIZE];
    uint64_t incarnation;
    bool is_listed;
    uint32_t away; /* nodes it released that are in flight */
};

/* Beside each listed record: what the plan does not see. */
struct group_entry {
    uint32_t member;
    uint32_t grant;
    uint64_t seq;
};

struct group_flight {
    uint64_t deadline_ms; /* 0: not in flight */
    uint32_t donor;
    uint16_t refusals;
    bool is_bridged;
};

/* A heap by deadline; one whose deadline is no longer its node's is void. */
struct group_overdue {
    uint64_t deadline_ms;
    uint32_t node;
};

/* Nodes nobody can name: those of an expired member, or of one period's broken connections. */
struct group_batch {
    uint64_t deadline_ms;
    uint32_t member; /* GROUP_NOBODY: broken connections */
    uint32_t count;
};
#define GROUP_NOBODY UINT32_MAX

/* Moves in one part of an hour. */
#define GROUP_HOUR_PARTS 12
struct group_part {
    uint64_t part, moves;
};

struct group {
    uint64_t period_ms, timeout_ms, cap_ppm, moves_per_hour;
    struct group_member *members;
    size_t member_count, member_room;
    struct balancer_record *records; /* by id, then since: a view borrows them */
    struct group_entry *entries;     /* beside the records */
    size_t record_count, record_room;
    struct group_flight *flights; /* by node */
    uint32_t node_count;
    struct group_overdue *queue;
    size_t queue_count, queue_room;
    uint32_t named;
    struct group_batch *batches; /* in the order of the script's sorted set */
    size_t batch_count, batch_room;
    struct group_part parts[GROUP_HOUR_PARTS + 1];
    uint64_t clock_ms, landed, landed_full;
    uint64_t epoch, epoch_since_ms; /* epoch 0: none */
};

struct group_beat {
    uint32_t member;
    uint64_t seq, acked, quiet_ms;
    struct balancer_record self; /* live, weight, room, state, mode, is_full, version are read */
    bool is_leaving;
    uint32_t want;
    bool counts_as_moves;
    uint32_t lost, unnamed;
    uint64_t nonce;
    const uint32_t *arrived, *released, *refused;
    const uint32_t *ages_ms; /* since each of the released was let go; NULL: now */
    size_t arrived_count, released_count, refused_count;
    size_t bridged_count; /* of the released, the first ones */
};

struct group_answer {
    struct balancer_view view; /* borrows the group's records until its next change */
    uint8_t *moved; /* caller's, one for each arrived: 1 where it had been released; or NULL */
    size_t moved_count;
};

void group_init(struct group *g, const struct balancer_config *config, uint32_t node_count);
void group_fini(struct group *g);
uint32_t group_join(struct group *g, const char *id, uint64_t incarnation);
void group_beat(struct group *g, const struct group_beat *beat, uint64_t now_us,
                struct group_answer *answer);

/* FLUSHALL. */
void group_flush(struct group *g);
/* A record as somebody else might write it, in place of one of the same name. */
void group_forge(struct group *g, const struct balancer_record *record);
/* A copy for a failover to an older state; the caller frees it with group_fini(). */
void group_copy(struct group *to, const struct group *from);

uint32_t group_anonymous(const struct group *g);

#endif
