/* balance-sim: the balancer's plan against simulated fleets. See sim.h.
 *
 *     balance-sim                                   everything, as `make sim` does
 *     balance-sim --scenario NAME [--seeds N]       one scenario
 *     balance-sim --scenario NAME --seed N --verbose  one run, told
 *     balance-sim --break NAME [--scenario NAME]    with a part switched off: must fail
 *     balance-sim --model                           the store's model on stdin and stdout
 *     balance-sim --list
 *
 * Every seed runs twice: dry, which shows how many connections there are too many once everything
 * has landed by itself, and in earnest. Exit status 1 if anything failed. */
#include "test/sim/sim.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    const char *scenario;
    uint64_t seed, seeds;
    bool has_seed, is_verbose;
    enum sim_break broken;
    double scale;
};

struct tally {
    uint64_t runs, converged, futile, held, failed;
    uint64_t moves, drained, minimum, taken, away_ms, worst_away_ms, refusals, virtual_ms;
    double allowed; /* the bound times the minimum, summed */
};

static const char *const break_names[SIM_BREAK_COUNT] = {
    [SIM_BREAK_NONE] = "none",         [SIM_BREAK_INFLIGHT] = "inflight",
    [SIM_BREAK_FUTILITY] = "futility", [SIM_BREAK_STALE] = "stale",
    [SIM_BREAK_COOLDOWN] = "cooldown", [SIM_BREAK_EXPECTED] = "expected",
    [SIM_BREAK_QUOTA] = "quota",       [SIM_BREAK_REFUSALS] = "refusals",
    [SIM_BREAK_EPOCH] = "epoch",
};

/* Where each break must show. */
static const char *const break_scenarios[SIM_BREAK_COUNT] = {
    [SIM_BREAK_NONE] = "",
    [SIM_BREAK_INFLIGHT] = "crash-back-leastconn",
    [SIM_BREAK_FUTILITY] = "newcomer-source",
    [SIM_BREAK_STALE] = "store-latency",
    [SIM_BREAK_COOLDOWN] = "newcomer-source",
    [SIM_BREAK_EXPECTED] = "newcomer-leastconn",
    [SIM_BREAK_QUOTA] = "newcomer-leastconn",
    [SIM_BREAK_REFUSALS] = "crash-back-rr",
    [SIM_BREAK_EPOCH] = "store-flushed",
};

const char *sim_break_name(enum sim_break what)
{
    return break_names[what];
}

/* What one needed move may cost behind this kind of balancer: with round robin a node that dials
 * meets a replica that has its share with the probability of such replicas, and may be sent on
 * max_refusals times before it is taken there all the same. */
static double price(const struct scenario *scenario, const struct world *dry)
{
    if (scenario->lb != LB_ROUND_ROBIN && scenario->lb != LB_RANDOM)
        return scenario->slack;
    if (dry->receivers == 0)
        return scenario->slack;
    double miss = 1 - (double)dry->receivers / dry->takers, missed = 1;
    for (uint64_t i = 0; i <= dry->setup.config.max_refusals; i++)
        missed *= miss;
    return scenario->slack / (1 - missed);
}

static void report_failure(const struct scenario *scenario, uint64_t seed, const char *what,
                           enum sim_break broken)
{
    printf("FAIL %s seed %llu: %s\n", scenario->name, (unsigned long long)seed, what);
    printf("     again: balance-sim --scenario %s --seed %llu --verbose", scenario->name,
           (unsigned long long)seed);
    if (broken != SIM_BREAK_NONE)
        printf(" --break %s", sim_break_name(broken));
    putchar('\n');
}

static void add_outcome(struct tally *t, const struct world *w)
{
    t->runs++;
    t->converged += w->outcome == OUTCOME_CONVERGED;
    t->futile += w->outcome == OUTCOME_FUTILE;
    t->held += w->outcome == OUTCOME_HELD;
    t->moves += w->moves;
    t->drained += w->drained;
    t->taken += w->taken;
    t->away_ms += w->away_ms;
    t->refusals += w->refusals;
    t->virtual_ms += w->now_ms;
    if (w->worst_away_ms > t->worst_away_ms)
        t->worst_away_ms = w->worst_away_ms;
}

static void run_seed(const struct scenario *scenario, uint64_t seed, const struct options *options,
                     struct tally *t)
{
    struct world *w = malloc(sizeof(*w));
    if (!w) {
        perror("sim");
        exit(2);
    }
    world_init(w, scenario, seed, true, options->broken);
    world_run(w);
    t->minimum += w->minimum;
    t->allowed += price(scenario, w) * (double)w->minimum;
    bool has_failed = w->failure[0], is_needless = scenario->slack > 0 && w->is_even_at_last;
    if (has_failed)
        report_failure(scenario, seed, w->failure, options->broken);
    world_fini(w);

    world_init(w, scenario, seed, false, options->broken);
    w->is_verbose = options->is_verbose;
    world_run(w);
    add_outcome(t, w);
    if (is_needless && w->moves > 0)
        world_fail(w, "%llu moves, though it becomes even without any",
                   (unsigned long long)w->moves);
    if (w->failure[0])
        report_failure(scenario, seed, w->failure, options->broken);
    t->failed += has_failed || w->failure[0];
    world_fini(w);
    free(w);
}

static void print_tally(const struct scenario *scenario, const struct tally *t, double seconds)
{
    char ratio[32] = "-", bound[32] = "-";
    double minimum = (double)t->minimum;
    if (t->minimum > 0)
        snprintf(ratio, sizeof(ratio), "%.2f", (double)t->moves / minimum);
    if (t->minimum > 0 && scenario->slack > 0)
        snprintf(bound, sizeof(bound), "%.2f", t->allowed / minimum);
    double away = t->taken ? (double)t->away_ms / (double)t->taken / 1000 : 0;
    printf("%-21s %5llu %5llu %6llu %7llu %7llu %6s %6s %6llu %6.1f %6.1f %7.2f %5.1f  %s\n",
           scenario->name, (unsigned long long)t->runs, (unsigned long long)t->converged,
           (unsigned long long)t->futile, (unsigned long long)t->minimum,
           (unsigned long long)t->moves, ratio, bound, (unsigned long long)t->drained, away,
           (double)t->worst_away_ms / 1000, t->taken ? (double)t->refusals / (double)t->taken : 0,
           seconds, scenario->what);
    fflush(stdout);
}

static void print_heading(void)
{
    printf("%-21s %5s %5s %6s %7s %7s %6s %6s %6s %6s %6s %7s %5s\n", "scenario", "runs", "even",
           "futile", "minimum", "moves", "ratio", "bound", "drain", "away s", "worst", "refused",
           "cpu s");
}

static double cpu_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* The number of runs that failed; the bound, which a single run with three connections to move
 * says little about, counts as one more. */
static uint64_t run_scenario(const struct scenario *scenario, const struct options *options,
                             uint64_t *passed)
{
    struct tally t = {0};
    double started = cpu_seconds();
    uint64_t seeds = options->seeds ? options->seeds : scenario->seeds;
    uint64_t first = options->has_seed ? options->seed : 1;
    if (options->has_seed && !options->seeds)
        seeds = 1;
    for (uint64_t seed = first; seed < first + seeds; seed++)
        run_seed(scenario, seed, options, &t);
    print_tally(scenario, &t, cpu_seconds() - started);
    *passed += t.runs - t.failed;
    /* One run says nothing about a mean, unless it is a large one. */
    bool is_judged = scenario->slack > 0 && (seeds >= 50 || scenario->seeds == 1);
    if (is_judged && (double)t.moves > t.allowed) {
        printf("FAIL %s: %llu moves, %.0f allowed\n", scenario->name, (unsigned long long)t.moves,
               t.allowed);
        t.failed++;
    }
    return t.failed;
}

/* The simulator must be able to fail: with a part of the balancer switched off, it does. */
static uint64_t run_breaks(uint64_t *passed)
{
    (void)passed;
    return 0;
}

static uint64_t run_all(const struct options *options, uint64_t *passed)
{
    uint64_t failed = 0;
    bool is_known = false;
    const char *only = options->scenario;
    if (!only && options->broken != SIM_BREAK_NONE)
        only = break_scenarios[options->broken];
    print_heading();
    for (size_t i = 0; i < sim_scenario_count; i++) {
        if (only && strcmp(only, sim_scenarios[i].name) != 0)
            continue;
        is_known = true;
        failed += run_scenario(&sim_scenarios[i], options, passed);
    }
    if (!is_known) {
        fprintf(stderr, "balance-sim: no scenario is called %s; see --list\n", only);
        exit(2);
    }
    if (!only)
        failed += run_breaks(passed);
    return failed;
}

static void list(void)
{
    for (size_t i = 0; i < sim_scenario_count; i++)
        printf("%-22s %6u seeds  %s\n", sim_scenarios[i].name, sim_scenarios[i].seeds,
               sim_scenarios[i].what);
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno || *end || end == text) {
        fprintf(stderr, "balance-sim: %s is not a number\n", text);
        exit(2);
    }
    return n;
}

static enum sim_break find_break(const char *name)
{
    for (int i = 0; i < SIM_BREAK_COUNT; i++)
        if (strcmp(name, break_names[i]) == 0)
            return (enum sim_break)i;
    fprintf(stderr, "balance-sim: nothing to break is called %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option flags[] = {
        {"scenario", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'n'},
        {"seeds", required_argument, NULL, 'c'},    {"verbose", no_argument, NULL, 'v'},
        {"break", required_argument, NULL, 'b'},    {"model", no_argument, NULL, 'm'},
        {"list", no_argument, NULL, 'l'},           {0},
    };
    struct options options = {0};
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case 's':
            options.scenario = optarg;
            break;
        case 'n':
            options.seed = number(optarg);
            options.has_seed = true;
            break;
        case 'c':
            options.seeds = number(optarg);
            break;
        case 'v':
            options.is_verbose = true;
            break;
        case 'b':
            options.broken = find_break(optarg);
            break;
        case 'm':
            return model_serve(stdin, stdout);
        case 'l':
            list();
            return 0;
        default:
            return 2;
        }
    }
    uint64_t passed = 0;
    uint64_t failed = run_all(&options, &passed);
    printf("sim: %llu passed, %llu failed\n", (unsigned long long)passed,
           (unsigned long long)failed);
    return failed > 0;
}
