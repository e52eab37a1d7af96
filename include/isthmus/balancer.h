/* The balancer's decisions: how many connections each replica should hold, how many this one lets
 * go now, and which arrivals it sends on to others.
 *
 * Happy path. Every period the owner carries one beat to the group's store (balancer/beat.lua) and
 * gives the answer to balancer_plan_beat(); several times a second it calls balancer_plan_step(),
 * does what the decision says and reports it with balancer_plan_released(). The plan moves through
 *
 *     DETECT --two beats with a surplus--> RELEASE --surplus gone--> OBSERVE --landed--> DETECT
 *                                                                        |
 *                                              80 % or more came back ---+--> BACKOFF --> DETECT
 *
 * and DRAIN, from anywhere. Failure modes: whatever makes the view doubtful (stale, alone, store
 * away or emptied, clock stepped, bad records, own process paused) holds every release and says
 * why; a drain is never held. docs/balancing.md has the whole story.
 *
 * Threading: no I/O, no clock and no globals in here. All state is the caller's, one thread at a
 * time. Times are milliseconds: `now_ms` on a monotonic clock of the caller, names with
 * `server` on the store's clock; the two are never compared. */
#ifndef ISTHMUS_BALANCER_H
#define ISTHMUS_BALANCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BALANCER_RECORD_VERSION 1
#define BALANCER_ID_SIZE        64         /* with the final NUL */
#define BALANCER_REPLICAS_MAX   1024       /* records in one group; beyond it nothing is released */
#define BALANCER_LIVE_MAX       2000000u   /* range check for live and room; sums fit 32 bits */
#define BALANCER_WEIGHT_MAX     1000u      /* range check for weight, which starts at 1 */
#define BALANCER_NEVER          UINT64_MAX /* "milliseconds since" something that did not happen */

/* ---- configuration: one member for each flag, with the type the flag table wants ---- */

enum balancer_mode { BALANCER_OFF, BALANCER_DRY_RUN, BALANCER_ON };

struct balancer_config {
    enum balancer_mode mode;      /* --balance=on|dry-run|off */
    uint64_t weight;              /* --balance-weight */
    uint64_t period_ms;           /* --balance-period */
    uint64_t tolerance_abs;       /* --balance-tolerance-abs, connections */
    double tolerance;             /* --balance-tolerance, share of the expected number */
    uint64_t release_rate;        /* --release-rate, connections a second */
    double release_max_fraction;  /* --release-max-fraction, share of the fleet in flight at once */
    uint64_t moves_per_hour;      /* --moves-per-hour, whole fleet; 0: as many as it has nodes */
    uint64_t observe_ms;          /* --observe-seconds */
    uint64_t inflight_timeout_ms; /* --inflight-timeout */
    uint64_t move_cooldown_ms;    /* --move-cooldown */
    uint64_t release_window_ms;   /* --release-window, after a lease renewal was answered */
    uint64_t max_refusals;        /* --max-refusals, for one node in one flight, fleet-wide */
    uint64_t bridge_ms;           /* --bridge-seconds; 0 turns refusal off too */
    uint64_t drain_timeout_ms;    /* --drain-timeout */
    double futile_fraction;       /* --futile-fraction, of a round that came back */
    uint64_t futile_backoff_ms;   /* --futile-backoff, doubled with each futile round */
    uint64_t futile_backoff_max_ms; /* --futile-backoff-max */
    uint64_t edge_away_ms;          /* --edge-away: an EdgeCore's sleep after a lost connection */
    uint64_t edge_redial_ms;        /* --edge-redial: its pause after a refused dial */
};

/* The defaults of the flags above. */
#define BALANCER_CONFIG_DEFAULT                                                                    \
    {                                                                                              \
        .mode = BALANCER_ON, .weight = 100, .period_ms = 5000, .tolerance_abs = 1,                 \
        .tolerance = 0.05, .release_rate = 50, .release_max_fraction = 0.10, .moves_per_hour = 0,  \
        .observe_ms = 30000, .inflight_timeout_ms = 90000, .move_cooldown_ms = 300000,             \
        .release_window_ms = 2500, .max_refusals = 3, .bridge_ms = 90000,                          \
        .drain_timeout_ms = 300000, .futile_fraction = 0.8, .futile_backoff_ms = 60000,            \
        .futile_backoff_max_ms = 3600000, .edge_away_ms = 30000, .edge_redial_ms = 5000            \
    }

/* NULL when the configuration makes sense, else what does not, naming the flag. Pure. */
const char *balancer_config_check(const struct balancer_config *config);

/* ---- what a beat brings ---- */

enum balancer_state { BALANCER_STARTING, BALANCER_SERVING, BALANCER_DRAINING };

/* What one replica says of itself, as the store returned it. */
struct balancer_record {
    char id[BALANCER_ID_SIZE];
    uint64_t incarnation;     /* random, one for each start of the process */
    uint64_t since_server_ms; /* first beat of this incarnation */
    uint64_t seen_server_ms;  /* last beat */
    uint32_t version;         /* BALANCER_RECORD_VERSION of who wrote it */
    uint32_t live;            /* connections, consistent with what it announced */
    uint32_t weight;
    uint32_t room; /* connections it could take besides */
    enum balancer_state state;
    enum balancer_mode mode;
    bool is_full; /* had its share or more when it wrote this */
};

/* Everything one beat returned. Borrowed by balancer_plan_beat() until it returns. */
struct balancer_view {
    const struct balancer_record
        *records; /* live ones, own included, by id, then since_server_ms */
    size_t record_count;
    uint32_t bad_record_count; /* what could not be read at all */
    uint64_t server_ms;        /* the store's clock */
    uint64_t epoch;            /* changes when the store lost something or its clock stepped */
    uint64_t epoch_since_server_ms;
    uint32_t named_in_flight;     /* released on purpose, not yet seen anywhere */
    uint32_t anonymous_in_flight; /* lost with a replica or a connection, nobody knows which */
    uint32_t own_in_flight;       /* of the named, those this replica released */
    uint32_t grant;               /* releases allowed until the next beat */
    uint64_t landed;              /* named ones seen again, since the epoch, by the whole group */
    uint64_t landed_full;         /* of those, at a replica that was full */
};

/* This replica, at this moment. */
struct balancer_self {
    const char *id;       /* borrowed, stays the same */
    uint64_t incarnation; /* stays the same */
    uint32_t live;
    uint32_t max_connections; /* live + room; 0: no limit */
    uint32_t leaving;         /* of the live ones, those that an order made go already */
    uint32_t bridged;         /* leases it renews for nodes that are away */
    bool is_ready;            /* serves new connections */
    bool is_store_up;         /* the connection to Redis stands; false without --redis */
    bool is_api_ok;           /* the API server answers */
    bool is_draining;
};

/* ---- shares: who should hold how many ---- */

struct balancer_shares {
    uint32_t expected[BALANCER_REPLICAS_MAX]; /* for each record of the view */
    bool is_taker[BALANCER_REPLICAS_MAX];     /* counts by weight; the others should hold none */
    uint32_t total;                           /* all live ones and all in flight; sum of expected */
    uint32_t taker_count;
    uint32_t order[BALANCER_REPLICAS_MAX];     /* scratch */
    uint64_t remainder[BALANCER_REPLICAS_MAX]; /* scratch */
};

/* Fills `shares` from the records, at most BALANCER_REPLICAS_MAX of them, all within range. Pure.
 */
void balancer_shares_compute(struct balancer_shares *shares, const struct balancer_view *view,
                             const struct balancer_config *config);
/* Whether a record's numbers are possible at all. Pure. */
bool balancer_record_is_sane(const struct balancer_record *record, const struct balancer_view *view,
                             const struct balancer_config *config);
/* How far a replica may be off before anything is done about it, in connections. Pure. */
uint32_t balancer_tolerance(const struct balancer_config *config, uint32_t expected);

/* ---- the plan ---- */

enum balancer_phase {
    BALANCER_DETECT,
    BALANCER_RELEASE,
    BALANCER_OBSERVE,
    BALANCER_BACKOFF,
    BALANCER_DRAIN,
    BALANCER_PHASE_COUNT
};

/* Why the plan does what it does; the log, the metric label and the status page use the same name.
 */
enum balancer_why {
    BALANCER_WHY_BALANCED,    /* within tolerance, nobody needs anything */
    BALANCER_WHY_BELOW,       /* has less than its share: others will give */
    BALANCER_WHY_SECOND_BEAT, /* a surplus was seen once */
    BALANCER_WHY_SURPLUS,     /* more than its tolerance above its share */
    BALANCER_WHY_NEEDY_PEER,  /* any surplus, since a peer lacks more than its tolerance */
    BALANCER_WHY_NO_GRANT,    /* as many as allowed are in flight, or moved this hour */
    BALANCER_WHY_IN_FLIGHT,   /* waits for what it released */
    BALANCER_WHY_OBSERVING,   /* waits out the observation period */
    BALANCER_WHY_FUTILE_HOME, /* what was released came back here */
    BALANCER_WHY_NO_VICTIM,   /* nobody here may be moved: moved before, kept, or busy */
    BALANCER_WHY_FUTILE_FULL, /* what the group released landed at replicas that were full */
    BALANCER_WHY_DRAINING,
    BALANCER_WHY_DRAINED,
    BALANCER_WHY_HOLD_OFF, /* from here on: reasons not to release, whatever the surplus */
    BALANCER_WHY_HOLD_NOT_READY,
    BALANCER_WHY_HOLD_STORE_AWAY,
    BALANCER_WHY_HOLD_NO_VIEW,    /* no beat was answered yet */
    BALANCER_WHY_HOLD_STALE,      /* the last answered beat is too old */
    BALANCER_WHY_HOLD_PAUSED,     /* this process did not run for a while: a fresh beat first */
    BALANCER_WHY_HOLD_EPOCH,      /* the store was emptied, failed over or is new */
    BALANCER_WHY_HOLD_CLOCK,      /* the store's clock stepped */
    BALANCER_WHY_HOLD_ALONE,      /* no other live record */
    BALANCER_WHY_HOLD_BAD_RECORD, /* a record out of range: the total cannot be trusted */
    BALANCER_WHY_HOLD_TOO_MANY,   /* more records than BALANCER_REPLICAS_MAX */
    BALANCER_WHY_HOLD_TWIN,       /* another process had this id first */
    BALANCER_WHY_HOLD_NOT_LISTED, /* the store does not return this replica's own record */
    BALANCER_WHY_HOLD_API,        /* the API server is failing */
    BALANCER_WHY_COUNT
};

enum balancer_urgency { BALANCER_CALM, BALANCER_URGENT, BALANCER_AT_ONCE };

struct balancer_decision {
    enum balancer_phase phase;
    enum balancer_why why;
    uint32_t release_now;          /* let go so many now, fewer if there are no fit victims */
    enum balancer_urgency urgency; /* how choosy to be about the victims */
    uint64_t episode_ms; /* the group is uneven, or found no other victims, for so long; 0: even */
    uint32_t would_release; /* what release_now were, was this not a dry run */
    bool is_drained;        /* draining, and nothing is left to do */

    uint32_t want; /* ask the store for so many releases with the next beat */
    bool is_full;  /* goes into the next record */
    bool
        wants_flight_list; /* the next beat should bring the nodes in flight: they may be refused */

    bool is_refusing;      /* ask balancer_should_refuse() about each arrival */
    bool is_accepting;     /* /acceptz */
    uint8_t agent_percent; /* HAProxy agent-check: weight; 0 only in a drain */

    uint32_t live, expected, tolerance, total, in_flight, own_in_flight, peers; /* for people */
    int64_t surplus;
    uint32_t round_released, round_home;
    uint32_t futile_rounds;
    uint64_t until_ms;    /* end of the observation or backoff; 0: not by time */
    uint64_t beat_age_ms; /* BALANCER_NEVER before the first */
};

/* The plan's memory, the caller's to place; the members are the plan's own. */
struct balancer_plan {
    struct balancer_config config;
    enum balancer_phase phase;
    enum balancer_why verdict; /* why it backs off */
    uint64_t last_step_ms;
    uint64_t paused_until_ms; /* only beats sent after this count */
    uint64_t hold_until_ms;   /* after an epoch or clock change */
    enum balancer_why hold_why;

    bool has_view;
    uint64_t view_sent_ms;
    uint64_t clock_low_ms, clock_high_ms; /* bounds of server clock minus ours, modulo 2^64 */
    uint64_t epoch, membership;
    enum balancer_why view_hold; /* what is wrong with the view itself; BALANCED: nothing */
    uint32_t expected, tolerance, total, named, anonymous, own_in_flight, peers;
    uint32_t fair_want;       /* this replica's part of what the fleet may have in flight */
    uint64_t others_room;     /* of those that are not full */
    double score, best_score; /* for the agent's weight */
    bool is_taker;            /* has a share */
    enum balancer_why reason; /* to start a round, by the last beat; BALANCED: none */
    uint32_t streak;          /* beats in a row with a reason */
    bool is_uneven;           /* somebody is beyond tolerance, by the last good view */
    uint64_t uneven_since_ms;
    bool is_home_futile; /* this round, as far as it went */
    bool is_full_futile; /* the group's releases, by the last sample */
    bool is_useful;      /* some of them landed where they were needed, in this sample */
    uint32_t grant;      /* left of the last one */

    double credit; /* releases the rate allows by now */
    uint32_t round_target, round_released, round_home;
    uint64_t last_release_ms;
    uint64_t offered_since_ms; /* a budget found no victim since; 0: it did */
    uint64_t until_ms;
    uint32_t futile_rounds;
    uint64_t landed_mark, full_mark; /* where the group's counters stood when this sample began */
    uint64_t landed, landed_full, sample_since_ms, sample_end_ms;
    bool is_called_off; /* observes the end of a drain that was called off */
};

/* `config` is copied; it must pass balancer_config_check(). */
void balancer_plan_init(struct balancer_plan *plan, const struct balancer_config *config,
                        uint64_t now_ms);

/* A beat is about to be sent. The store replaces the last grant when it runs the script, so what is
 * left of it is void from now on. */
void balancer_plan_beat_sent(struct balancer_plan *plan);

/* A beat sent at `sent_ms` was answered. `shares` is filled from it and stays readable for the
 * status page. A view older than one already seen is ignored. */
void balancer_plan_beat(struct balancer_plan *plan, const struct balancer_self *self,
                        const struct balancer_view *view, struct balancer_shares *shares,
                        uint64_t sent_ms, uint64_t now_ms);

/* Decides. Call it several times a second, before each beat and right after each answer. */
void balancer_plan_step(struct balancer_plan *plan, const struct balancer_self *self,
                        uint64_t now_ms, struct balancer_decision *decision);

/* `count` connections were let go, as the last decision asked. */
void balancer_plan_released(struct balancer_plan *plan, uint32_t count, uint64_t now_ms);

/* `count` nodes that this replica released arrived at it again and were taken. */
void balancer_plan_returned(struct balancer_plan *plan, uint32_t count);

/* Fixed texts: a label ("needy_peer") and a sentence for people. Pure. */
const char *balancer_phase_name(enum balancer_phase phase);
const char *balancer_why_name(enum balancer_why why);
const char *balancer_why_text(enum balancer_why why);

/* ---- arrivals and victims ---- */

/* A node at the door, as far as the list of nodes in flight tells. */
struct balancer_arrival {
    bool is_released;  /* in flight, released on purpose */
    bool is_bridged;   /* its lease is being renewed for it */
    uint32_t refusals; /* known so far, fleet-wide */
    uint64_t since_release_ms;
};

/* Whether to answer 503 so that the node dials again, somewhere else. Pure. */
bool balancer_should_refuse(const struct balancer_config *config,
                            const struct balancer_decision *decision,
                            const struct balancer_arrival *arrival);

/* A connected node that could be let go. */
struct balancer_candidate {
    bool is_busy; /* requests or unacknowledged messages are under way */
    bool is_kept; /* annotated isthmus.io/keep */
    uint64_t since_connect_ms;
    uint64_t since_moved_ms;   /* BALANCER_NEVER: not that anybody knows */
    uint64_t since_renewal_ms; /* since a lease renewal was answered; BALANCER_NEVER: not yet */
};

enum balancer_fitness {
    BALANCER_FIT,
    BALANCER_UNFIT_BUSY,   /* try again soon */
    BALANCER_UNFIT_MOMENT, /* try again after its next renewal */
    BALANCER_UNFIT_NEW,    /* just connected: whether it was moved is known after a beat */
    BALANCER_UNFIT_MOVED,
    BALANCER_UNFIT_KEPT
};

/* Whether the candidate may be released now. In a drain nodes are released whatever happened to
 * them before; otherwise none is that was moved within --move-cooldown or since the group became
 * uneven, however long that lasts. Pure. */
enum balancer_fitness balancer_victim_judge(const struct balancer_config *config,
                                            const struct balancer_decision *decision,
                                            const struct balancer_candidate *candidate);
/* For qsort and the like: negative when `a` is the better victim. Pure. */
int balancer_victim_compare(const struct balancer_candidate *a, const struct balancer_candidate *b);
const char *balancer_fitness_name(enum balancer_fitness fitness);

#endif
