/* The simulated world: replicas that run the real plan, edges that behave like EdgeCore, the
 * balancer in front of them and the store, in virtual time.
 *
 * An edge whose connection ends notices it (at once after a release made in the hub's manner, at
 * its next write after a crash), sleeps 30 s, then dials; a dial that fails is repeated after 5 s,
 * four times, then it sleeps 30 s again.
 *
 * One thread; a run depends on nothing but its scenario and seed. */
#ifndef TEST_SIM_SIM_H
#define TEST_SIM_SIM_H

#include "test/sim/group.h"

#include <stdio.h>

#define SIM_REPLICAS_MAX BALANCER_REPLICAS_MAX
#define SIM_FAULTS_MAX   64
#define SIM_NOBODY       UINT16_MAX
#define SIM_SECOND       1000u
#define SIM_MINUTE       60000u

/* What is switched off on purpose, to see that the invariants notice. */
enum sim_break {
    SIM_BREAK_NONE,
    SIM_BREAK_INFLIGHT, /* the plan is told that nothing is in flight */
    SIM_BREAK_FUTILITY, /* a round is never judged futile */
    SIM_BREAK_STALE,    /* late answers count as fresh */
    SIM_BREAK_COOLDOWN, /* moved nodes may be moved again */
    SIM_BREAK_EXPECTED, /* the executor lets one more go than the plan said */
    SIM_BREAK_QUOTA,    /* the store grants whatever is wanted */
    SIM_BREAK_REFUSALS, /* arrivals are refused whatever happened to them before */
    SIM_BREAK_EPOCH,    /* the plan does not hear of a new epoch or a clock that stepped */
    SIM_BREAK_COUNT
};
const char *sim_break_name(enum sim_break what);

enum lb_kind { LB_ROUND_ROBIN, LB_LEASTCONN, LB_RANDOM, LB_SOURCE, LB_AGENT };

struct lb {
    enum lb_kind kind;
    bool checks_acceptz;           /* its health check asks /acceptz, not /readyz */
    uint32_t check_ms, rise, fall; /* health checks */
    bool is_up[SIM_REPLICAS_MAX];
    uint8_t agreeing[SIM_REPLICAS_MAX]; /* checks in a row against is_up */
    uint8_t percent[SIM_REPLICAS_MAX];  /* agent-check */
    int64_t current[SIM_REPLICAS_MAX];  /* smooth weighted round robin */
    uint32_t next;
};

enum fault_kind {
    FAULT_CRASH,
    FAULT_START,     /* same id */
    FAULT_START_NEW, /* another id, in the same place */
    FAULT_DRAIN,     /* and leave; a FAULT_START may follow */
    FAULT_UNDRAIN,
    FAULT_FREEZE,
    FAULT_THAW,
    FAULT_STORE_DOWN,
    FAULT_STORE_UP,
    FAULT_STORE_PAUSE, /* until FAULT_STORE_UP */
    FAULT_FLUSH,
    FAULT_FAILOVER,    /* to the state of `arg` ms ago, clock off by a little */
    FAULT_CLOCK,       /* the store's clock steps by `arg` */
    FAULT_LATENCY,     /* answers take up to `arg` ms; 0: none */
    FAULT_LOSSY,       /* one in `arg` answers gets lost; 0: none */
    FAULT_FORGE_BAD,   /* an impossible record */
    FAULT_FORGE_GHOST, /* a replica that looks empty and does not exist, for `arg` ms */
    FAULT_API_DOWN,
    FAULT_API_UP,
    FAULT_CUT, /* every connection breaks with `arg` per mille */
    FAULT_SNAPSHOT
};

struct fault {
    uint64_t at_ms;
    enum fault_kind kind;
    uint16_t replica;
    int64_t arg;
};

/* How a run is laid out; scenarios fill it in. */
struct setup {
    uint32_t replicas, edges;
    enum lb_kind lb;
    bool checks_acceptz;
    uint32_t check_ms, rise, fall;
    uint32_t weights[SIM_REPLICAS_MAX]; /* 0: the default */
    uint32_t initial[SIM_REPLICAS_MAX]; /* connections at the start, adding up to edges */
    bool is_absent[SIM_REPLICAS_MAX];   /* not started yet */
    uint16_t twin_of; /* the last replica has this one's id; SIM_NOBODY: no twin */
    uint32_t max_connections, accept_rate; /* for each replica; 0: no limit */
    uint32_t churn_per_hour; /* of a thousand edges, how many reconnect by themselves */
    uint32_t notice_ms;      /* a crash is noticed within this */
    uint32_t late_per_mille; /* released ones that notice late all the same */
    struct balancer_config config;
    struct fault faults[SIM_FAULTS_MAX];
    size_t fault_count;
    bool is_rolling;      /* a replica that came back from a drain sends the next */
    bool may_stay_uneven; /* no verdict on the end: only the other invariants */
};

struct edge {
    uint32_t slot;         /* in its replica's list */
    uint32_t connected_ms; /* since the start of the run, as all times here */
    uint32_t released_ms;
    uint32_t marked_ms;              /* the replica knows that it was moved; UINT32_MAX: not */
    uint16_t replica;                /* SIM_NOBODY: away */
    uint16_t donor;                  /* who released it last */
    uint16_t episode, faults_struck; /* when balancing moved it last */
    uint8_t dials, refusals;
    uint8_t is_released : 1, is_drained : 1;
};

struct name_list {
    uint32_t *nodes;
    size_t count, room;
};

/* One beat's report: kept as it was until it is acknowledged. */
struct report {
    struct name_list arrived, released, refused;
    uint32_t lost, unnamed;
};

struct replica {
    char id[BALANCER_ID_SIZE];
    uint64_t incarnation;
    uint32_t member; /* in the group */
    bool is_alive, is_frozen, is_ready, is_draining;
    uint64_t ready_at_ms;
    struct balancer_plan plan;
    struct balancer_decision decision;
    uint32_t *nodes; /* connected */
    size_t live, room, cursor;
    struct report pending, sent;
    bool is_waiting;     /* for an answer */
    uint32_t generation; /* of this life, for the events that refer to it */
    uint32_t request;    /* the same for its beats */
    int64_t restart_ms;  /* after a drain; 0: stays away */
    uint64_t seq, acked, acked_sent_ms, sent_ms;
    struct group_beat beat;
    struct group_answer answer; /* an answer on its way; the view's records are its own copy */
    struct balancer_record *answer_records;
    uint64_t view_server_ms, view_sent_ms; /* of the last one digested, honestly */
    uint32_t view_named;
    uint64_t floor_expected; /* what no release may go below, by that view */
    double accept_credit;
    uint64_t accept_ms;
    uint32_t round_released, round_home; /* as the world saw it */
};

enum event_kind {
    EVENT_DIAL,
    EVENT_STEP,
    EVENT_BEAT,
    EVENT_EXECUTE,
    EVENT_ANSWER,
    EVENT_FAULT,
    EVENT_CHECK,
    EVENT_AGENT,
    EVENT_CHURN,
    EVENT_WATCH
};

struct event {
    uint64_t at_ms;
    uint64_t order; /* among equals: first in, first out */
    uint32_t subject;
    uint32_t generation;
    enum event_kind kind;
};

enum outcome { OUTCOME_RUNNING, OUTCOME_CONVERGED, OUTCOME_FUTILE, OUTCOME_HELD, OUTCOME_STUCK };

struct world {
    struct setup setup;
    const struct scenario *scenario;
    uint64_t seed, random;
    bool is_verbose, is_dry; /* dry: everybody in dry-run, to see what there is to move */
    enum sim_break broken;

    uint64_t now_ms;
    struct event *heap;
    size_t heap_size, heap_room;
    uint64_t event_order;

    struct edge *edges;
    struct replica *replicas;
    struct lb lb;
    struct group group, snapshot;
    bool has_snapshot;
    struct balancer_shares shares;

    bool is_store_up, is_store_paused, is_api_ok;
    int64_t store_offset_ms;
    uint32_t latency_ms, lossy;
    uint64_t ghost_until_ms;
    uint64_t upset_ms; /* the store was emptied, failed over or stepped; 0: never */
    uint64_t api_down_ms;
    uint16_t episode, faults_struck;
    uint64_t quiet_after_ms; /* no faults from then on */

    uint32_t away, purposely_away;
    uint32_t calm_watches;
    enum outcome outcome;
    char failure[256];

    uint64_t moves, drained, taken, away_ms, refusals, worst_away_ms;
    uint64_t minimum; /* a dry run's surplus at its end */
    uint32_t takers, receivers;
    bool is_even_at_last;
    uint32_t futile_rounds;
};

/* ---- world.c ---- */
struct scenario;
void world_init(struct world *w, const struct scenario *scenario, uint64_t seed, bool is_dry,
                enum sim_break broken);
void world_fini(struct world *w);
void world_run(struct world *w); /* until w->outcome is known or something failed */
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_tell(const struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void world_schedule(struct world *w, uint64_t at_ms, enum event_kind kind, uint32_t subject,
                    uint32_t generation);
uint32_t world_random(struct world *w, uint32_t below);
uint64_t world_server_us(const struct world *w);
/* Everybody's true share, from what really is; returns how many replicas serve. */
uint32_t world_true_shares(const struct world *w, double *expected);
/* The surplus over true shares, and how many replicas have none to give. */
uint64_t world_surplus(const struct world *w, uint32_t *takers, uint32_t *receivers);

/* ---- edges.c ---- */
void edge_dial(struct world *w, uint32_t node);
void edge_connect(struct world *w, uint32_t node, uint16_t replica);
void edge_release(struct world *w, uint32_t node, bool is_drain);
void edge_lose(struct world *w, uint32_t node, uint32_t notice_ms);

/* ---- replicas.c ---- */
void replica_start(struct world *w, uint16_t r, const char *id);
void replica_stop(struct world *w, uint16_t r);
void replica_self(const struct world *w, uint16_t r, struct balancer_self *self);
void replica_step(struct world *w, uint16_t r);
void replica_beat(struct world *w, uint16_t r);
void replica_execute(struct world *w, uint16_t r);
void replica_answer(struct world *w, uint16_t r);
void name_list_add(struct name_list *list, uint32_t node);

/* ---- lb.c ---- */
void lb_init(struct world *w);
uint16_t lb_pick(struct world *w, uint32_t node);
void lb_check(struct world *w);
void lb_poll_agents(struct world *w);

/* ---- scenarios.c ---- */
struct scenario {
    const char *name, *what;
    void (*lay_out)(struct world *w, struct setup *s);
    enum lb_kind lb;
    uint32_t seeds; /* of a full run */
    double slack;   /* the bound is this times what the kind of balancer costs; 0: not judged */
    bool expects_futile; /* a futile end is as good as an even one */
};
extern const struct scenario sim_scenarios[];
extern const size_t sim_scenario_count;

/* ---- model.c ---- */
int model_serve(FILE *in, FILE *out);

#endif
