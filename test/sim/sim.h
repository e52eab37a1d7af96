/* The simulated world: replicas that run the real plan, edges that behave like EdgeCore, the
 * balancer in front of them and the store, in virtual time.
 *
 * An edge whose connection ends notices it (at once after a release made in the hub's manner, at
 * its next write after a crash), sleeps 30 s, then dials; after a dial that fails it waits 5 s, and
 * after five of them it sleeps 30 s again (EdgeCore: edgehub.go, wsclient/websocket.go).
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

/* What must hold in every run; a failure names one of them. */
enum invariant {
    INVARIANT_DRY,      /* a dry run releases nothing */
    INVARIANT_EXPECTED, /* no release below the expected number of the last beat */
    INVARIANT_FRESH,    /* no release on a view that is old, or while the store is away */
    INVARIANT_API,      /* no release while the API server is failing */
    INVARIANT_EPOCH,    /* no release for a while after the store was upset */
    INVARIANT_ONCE,     /* no node moved twice in one episode or within --move-cooldown */
    INVARIANT_FRACTION, /* no more in flight than --release-max-fraction of the fleet */
    INVARIANT_HOUR,     /* no more moves in any hour than --moves-per-hour */
    INVARIANT_VICTIMS,  /* whom nobody released is never refused */
    INVARIANT_REFUSALS, /* nobody is refused more than --max-refusals times */
    INVARIANT_BRIDGED,  /* nobody is refused whose lease is not bridged */
    INVARIANT_ROOM,     /* the last replica with room for all in flight refuses nobody */
    INVARIANT_SHARES,   /* the expected number is the share by weight, rounded as it should be */
    INVARIANT_VERDICT,  /* who gives up as futile does so because 80 % or more came back */
    INVARIANT_DRAIN,    /* a drain is over within --drain-timeout */
    INVARIANT_TWIN,     /* the younger of two processes with one id releases nothing */
    INVARIANT_ENDS,     /* a run ends even, or futile where it may */
    INVARIANT_NEEDLESS, /* nothing is moved where all becomes even by itself */
    INVARIANT_BOUND,    /* moves over the minimum stay below the bound */
    INVARIANT_COUNT
};
const char *sim_invariant_name(enum invariant invariant);

/* What is switched off on purpose, to see that the invariants notice. */
enum sim_break {
    SIM_BREAK_NONE,
    SIM_BREAK_DRY,       /* a dry run lets go all the same */
    SIM_BREAK_EXPECTED,  /* the executor lets one more go than the plan said */
    SIM_BREAK_INFLIGHT,  /* the plan is told that nothing is in flight */
    SIM_BREAK_STALE,     /* late answers count as fresh, and an old grant goes on */
    SIM_BREAK_STORE,     /* the plan is told that the store is there */
    SIM_BREAK_API,       /* the plan is told that the API server answers */
    SIM_BREAK_EPOCH,     /* the plan does not hear of a new epoch or a clock that stepped */
    SIM_BREAK_COOLDOWN,  /* moved nodes may be moved again */
    SIM_BREAK_QUOTA,     /* the store grants whatever is wanted */
    SIM_BREAK_HOUR,      /* the store does not count the moves of an hour */
    SIM_BREAK_VICTIMS,   /* everybody counts as released on purpose */
    SIM_BREAK_REFUSALS,  /* nobody counts how often a node was refused, or since when it is away */
    SIM_BREAK_BRIDGE,    /* everybody counts as bridged */
    SIM_BREAK_ROOM,      /* the others are believed to have room for any number */
    SIM_BREAK_WEIGHTS,   /* the plan sees equal weights */
    SIM_BREAK_HASTY,     /* a quarter that came back is enough to give up */
    SIM_BREAK_DRAIN,     /* a drain takes its time */
    SIM_BREAK_TWIN,      /* the plan does not see who had its id first */
    SIM_BREAK_FUTILITY,  /* a round is never judged futile */
    SIM_BREAK_TOLERANCE, /* whatever differs is moved */
    SIM_BREAK_STEERING,  /* nobody is refused */
    SIM_BREAK_COUNT
};

/* Where a break must show, and as what. */
struct sim_breakage {
    const char *name, *scenario;
    enum invariant shows_as;
};
extern const struct sim_breakage sim_breakages[SIM_BREAK_COUNT];

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
    FAULT_FORGE_ODD,   /* a possible one: of an unknown version, or long out of date */
    FAULT_FORGE_GHOST, /* a replica that looks empty and does not exist */
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
    uint32_t marked_ms;     /* the replica knows that it was moved; UINT32_MAX: not */
    uint32_t moved_ms;      /* when balancing released it last; UINT32_MAX: never, or forgotten */
    uint32_t bridge_end_ms; /* its lease is renewed for it until then */
    uint32_t donor_life;    /* the replica's generation */
    uint16_t replica;       /* SIM_NOBODY: away */
    uint16_t donor;         /* who released it last */
    uint8_t dials, refusals;
    uint8_t is_released : 1, is_drained : 1, is_bridged : 1, is_needed : 1;
};

struct name_list {
    uint32_t *nodes;
    size_t count, room;
};

/* One beat's report: kept as it was until it is acknowledged. */
struct report {
    struct name_list arrived, released, refused;
    uint32_t lost, unnamed;
    bool has_moves; /* not all of the released were so in a drain */
};

/* Landings since the plan's counters were marked last, and before that. */
struct sample {
    uint64_t mark, mark_needed, seen_needed, landed, needed;
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
    uint32_t *ages_ms;
    size_t age_room;
    struct group_answer answer; /* an answer on its way; the view's records are its own copy */
    struct balancer_record *answer_records;
    uint64_t view_server_ms, view_sent_ms, view_ms; /* of the last one digested, honestly */
    uint32_t view_named;
    uint64_t view_in_flight, view_others_room; /* by that view, as the checks count them */
    uint64_t floor_expected;                   /* what no release may go below, by that view */
    uint64_t episode_ms;                       /* it gave up then, which ended its episode */
    uint64_t gone_ms; /* when it last began to be unreachable, frozen or draining */
    uint64_t first_beat_ms;
    struct sample sample;
    uint64_t answer_needed; /* the world's count when the answer was made */
    uint64_t drain_ms, thawed_ms;
    uint32_t bridged;          /* leases it renews */
    struct name_list bridging; /* in the order of release */
    size_t bridging_head;
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
    uint32_t forged_live;   /* what the store was made to believe besides */
    uint64_t unknown_moves; /* of processes that died before they told of them */
    uint64_t upset_ms;      /* the store was emptied, failed over or stepped; 0: never */
    uint64_t api_down_ms;
    uint64_t episode_ms; /* since then nothing was even */
    bool was_even;
    uint64_t knowledge_ms;   /* a fault may have taken what the replicas knew then */
    uint64_t quiet_after_ms; /* no faults from then on */
    uint64_t needed;         /* of those that the store knows to have landed */
    bool has_ghost, has_store_forgotten;
    uint16_t *moves_by_second;
    uint64_t hour_moves, hour_from_s; /* moves since that second */

    uint32_t away, purposely_away;
    uint32_t calm_watches;
    enum outcome outcome;
    enum invariant violated; /* when there is a failure */
    char failure[256];

    uint64_t moves, drained, taken, away_ms, refusals, worst_away_ms;
    uint64_t minimum; /* a dry run's surplus at its end */
    uint32_t takers, receivers;
    bool needs_no_move; /* at its end */
    uint64_t useful;    /* moves that ended where they were needed */
    double hoped;       /* how many of the moves should have, by chance alone */
    uint32_t futile_rounds;
};

/* ---- world.c ---- */
struct scenario;
void world_init(struct world *w, const struct scenario *scenario, uint64_t seed, bool is_dry,
                enum sim_break broken);
void world_fini(struct world *w);
void world_run(struct world *w); /* until w->outcome is known or something failed */
void world_fail(struct world *w, enum invariant invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void world_tell(const struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void world_schedule(struct world *w, uint64_t at_ms, enum event_kind kind, uint32_t subject,
                    uint32_t generation);
uint32_t world_random(struct world *w, uint32_t below);
uint64_t world_server_us(const struct world *w);

/* ---- truth.c: what really is, whatever the replicas believe ---- */
/* Of two processes with one id, the one that came later. */
bool truth_is_twin(const struct world *w, uint32_t r);
bool truth_is_serving(const struct world *w, uint32_t r);
/* Everybody's share, of those who serve; returns how many do. */
uint32_t truth_shares(const struct world *w, double *expected);
/* The surplus over true shares, and how many replicas have none to give. */
uint64_t truth_surplus(const struct world *w, uint32_t *takers, uint32_t *receivers);
/* Every serving replica within its tolerance, and the one connection that rounding may take. */
bool truth_is_even(const struct world *w);
/* The same without that one: nobody can think that anything must be moved. */
bool truth_needs_no_move(const struct world *w);
/* Whether an arrival is needed there. */
bool truth_is_needy(const struct world *w, uint32_t r);

/* ---- faults.c ---- */
void fault_strike(struct world *w, uint32_t index);

/* ---- check.c: the invariants ---- */
void check_release(struct world *w, uint16_t r, uint32_t node);
void check_refusal(struct world *w, uint16_t r, uint32_t node);
void check_answer(struct world *w, uint16_t r, const struct balancer_view *view);
void check_verdict(struct world *w, uint16_t r, const struct balancer_decision *before);
void check_drain(struct world *w, uint16_t r);
void check_landing(struct world *w, uint32_t node, uint16_t r); /* before it counts as live */
/* The store has booked a new beat. */
void check_booking(struct world *w, const struct group_beat *beat,
                   const struct group_answer *answer);
void check_episode(struct world *w);
/* What a replica can learn late at worst that another is gone. */
uint64_t check_grace_ms(const struct world *w);

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

/* What the moves are measured with. */
enum yardstick {
    BY_DRY_RUN, /* the surplus that is left when a dry run has become quiet: the least to move */
    BY_LANDING, /* moves that ended where they were needed, for runs with many events: what one
                   makes needless was not when it was made */
    BY_VERDICT  /* nothing: the balancer undoes the moves, and giving up is what is asked */
};

struct scenario {
    const char *name, *what;
    void (*lay_out)(struct world *w, struct setup *s);
    enum lb_kind lb;
    uint32_t seeds; /* of an ordinary run */
    enum yardstick yardstick;
    bool expects_futile; /* a futile end is as good as an even one */
    bool is_large;
};
extern const struct scenario sim_scenarios[];
extern const size_t sim_scenario_count;

/* ---- model.c ---- */
int model_serve(FILE *in, FILE *out);

#endif
