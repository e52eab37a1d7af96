/* The names of the invariants, and for each of them a way to see that it notices. See sim.h. */
#include "test/sim/sim.h"

static const char *const invariant_names[INVARIANT_COUNT] = {
    [INVARIANT_DRY] = "dry",           [INVARIANT_EXPECTED] = "expected",
    [INVARIANT_FRESH] = "fresh",       [INVARIANT_API] = "api",
    [INVARIANT_EPOCH] = "epoch",       [INVARIANT_ONCE] = "once",
    [INVARIANT_FRACTION] = "fraction", [INVARIANT_HOUR] = "hour",
    [INVARIANT_VICTIMS] = "victims",   [INVARIANT_REFUSALS] = "refusals",
    [INVARIANT_BRIDGED] = "bridged",   [INVARIANT_ROOM] = "room",
    [INVARIANT_SHARES] = "shares",     [INVARIANT_VERDICT] = "verdict",
    [INVARIANT_DRAIN] = "drain",       [INVARIANT_TWIN] = "twin",
    [INVARIANT_ENDS] = "ends",         [INVARIANT_NEEDLESS] = "needless",
    [INVARIANT_BOUND] = "bound",
};

const char *sim_invariant_name(enum invariant invariant)
{
    return invariant_names[invariant];
}

const struct sim_breakage sim_breakages[SIM_BREAK_COUNT] = {
    [SIM_BREAK_NONE] = {"none", "", INVARIANT_COUNT},
    [SIM_BREAK_DRY] = {"dry", "newcomer-leastconn", INVARIANT_DRY},
    [SIM_BREAK_EXPECTED] = {"expected", "newcomer-leastconn", INVARIANT_EXPECTED},
    [SIM_BREAK_INFLIGHT] = {"inflight", "crash-back-leastconn", INVARIANT_SHARES},
    [SIM_BREAK_STALE] = {"stale", "store-latency", INVARIANT_FRESH},
    [SIM_BREAK_STORE] = {"store", "store-away", INVARIANT_FRESH},
    [SIM_BREAK_API] = {"api", "api", INVARIANT_API},
    [SIM_BREAK_EPOCH] = {"epoch", "store-flushed", INVARIANT_EPOCH},
    [SIM_BREAK_COOLDOWN] = {"cooldown", "newcomer-source", INVARIANT_ONCE},
    [SIM_BREAK_QUOTA] = {"quota", "newcomer-leastconn", INVARIANT_FRACTION},
    [SIM_BREAK_HOUR] = {"hour", "hour-leastconn", INVARIANT_HOUR},
    [SIM_BREAK_VICTIMS] = {"victims", "cut", INVARIANT_VICTIMS},
    [SIM_BREAK_REFUSALS] = {"refusals", "crash-back-rr", INVARIANT_REFUSALS},
    [SIM_BREAK_BRIDGE] = {"bridge", "donor-crash", INVARIANT_BRIDGED},
    [SIM_BREAK_ROOM] = {"room", "drain-tight", INVARIANT_ROOM},
    [SIM_BREAK_WEIGHTS] = {"weights", "weights-leastconn", INVARIANT_SHARES},
    [SIM_BREAK_HASTY] = {"hasty", "newcomer-source", INVARIANT_VERDICT},
    [SIM_BREAK_DRAIN] = {"drain", "drain-large", INVARIANT_DRAIN},
    [SIM_BREAK_TWIN] = {"twin", "twin", INVARIANT_TWIN},
    [SIM_BREAK_FUTILITY] = {"futility", "newcomer-source", INVARIANT_ENDS},
    [SIM_BREAK_TOLERANCE] = {"tolerance", "within", INVARIANT_NEEDLESS},
    [SIM_BREAK_STEERING] = {"steering", "newcomer-rr", INVARIANT_BOUND},
};
