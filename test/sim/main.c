/* balance-sim: the balancer's plan against simulated fleets. See sim.h.
 *
 *     balance-sim                                   everything, as `make sim` does
 *     balance-sim --long                            ten times the seeds, more of the large fleets
 *     balance-sim --markdown                        the table of docs/balancing.md
 *     balance-sim --scenario NAME [--seeds N]       one scenario
 *     balance-sim --scenario NAME --seed N --verbose  one run, told
 *     balance-sim --break NAME [--scenario NAME]    with a part switched off: fails
 *     balance-sim --breaks                          whether each break is noticed, and as what
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
    bool has_seed, is_verbose, is_long, is_markdown, is_self_test;
    enum sim_break broken;
};

/* Moves over the least that would have done may be so much more than chance alone asks for. */
#define SLACK 1.1

#define SELF_TEST_SEEDS 200

struct tally {
    uint64_t runs, converged, futile, held, failed;
    uint64_t moves, drained, minimum, taken, away_ms, worst_away_ms, refusals;
    double allowed; /* the bound times the minimum, summed */
    uint64_t violations[INVARIANT_COUNT];
};

/* What one needed move may cost behind this kind of balancer: with round robin a node that dials
 * meets a replica that has its share with the probability of such replicas, and may be sent on
 * max_refusals times before it is taken there all the same. */
static double price(const struct scenario *scenario, const struct world *dry)
{
    bool is_blind = scenario->lb == LB_ROUND_ROBIN || scenario->lb == LB_RANDOM;
    if (!is_blind || dry->receivers == 0)
        return SLACK;
    double miss = 1 - (double)dry->receivers / dry->takers, missed = 1;
    for (uint64_t i = 0; i <= dry->setup.config.max_refusals; i++)
        missed *= miss;
    return SLACK / (1 - missed);
}

static void report_failure(const struct scenario *scenario, uint64_t seed, const char *what,
                           enum sim_break broken, bool is_self_test)
{
    if (is_self_test)
        return;
    printf("FAIL %s seed %llu: %s\n", scenario->name, (unsigned long long)seed, what);
    printf("     again: balance-sim --scenario %s --seed %llu --verbose", scenario->name,
           (unsigned long long)seed);
    if (broken != SIM_BREAK_NONE)
        printf(" --break %s", sim_breakages[broken].name);
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
    if (w->worst_away_ms > t->worst_away_ms)
        t->worst_away_ms = w->worst_away_ms;
    if (w->scenario->yardstick != BY_LANDING)
        return;
    t->minimum += w->useful;
    if (w->hoped > 0)
        t->allowed += SLACK * (double)w->moves / w->hoped * (double)w->useful;
}

static void note_failure(struct tally *t, const struct world *w, const struct options *options)
{
    if (!w->failure[0])
        return;
    t->failed++;
    t->violations[w->violated]++;
    report_failure(w->scenario, w->seed, w->failure, options->broken, options->is_self_test);
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
    if (scenario->yardstick == BY_DRY_RUN) {
        t->minimum += w->minimum;
        t->allowed += price(scenario, w) * (double)w->minimum;
    }
    bool is_needless = scenario->yardstick == BY_DRY_RUN && w->needs_no_move;
    uint64_t failed = t->failed;
    note_failure(t, w, options);
    world_fini(w);
    if (t->failed > failed) {
        t->runs++;
        free(w);
        return;
    }

    world_init(w, scenario, seed, false, options->broken);
    w->is_verbose = options->is_verbose;
    world_run(w);
    add_outcome(t, w);
    if (is_needless && w->moves > 0)
        world_fail(w, INVARIANT_NEEDLESS, "%llu moves, though it becomes even without any",
                   (unsigned long long)w->moves);
    note_failure(t, w, options);
    world_fini(w);
    free(w);
}

static void print_tally(const struct scenario *scenario, const struct tally *t, double seconds,
                        bool is_markdown)
{
    char ratio[32] = "-", bound[32] = "-";
    double minimum = (double)t->minimum;
    bool is_judged = t->minimum > 0 && scenario->yardstick != BY_VERDICT;
    if (is_judged) {
        snprintf(ratio, sizeof(ratio), "%.2f", (double)t->moves / minimum);
        snprintf(bound, sizeof(bound), "%.2f", t->allowed / minimum);
    }
    double away = t->taken ? (double)t->away_ms / (double)t->taken / 1000 : 0;
    const char *cell = is_markdown ? " | " : " ";
    printf("%s%-21s%s%5llu%s%5llu%s%6llu%s%7llu%s%7llu%s%6s%s%6s%s%7llu%s%6.1f%s%6.1f%s%7.2f%s",
           is_markdown ? "| " : "", scenario->name, cell, (unsigned long long)t->runs, cell,
           (unsigned long long)t->converged, cell, (unsigned long long)t->futile, cell,
           (unsigned long long)t->minimum, cell, (unsigned long long)t->moves, cell, ratio, cell,
           bound, cell, (unsigned long long)t->drained, cell, away, cell,
           (double)t->worst_away_ms / 1000, cell,
           t->taken ? (double)t->refusals / (double)t->taken : 0, cell);
    if (is_markdown)
        printf("%s |\n", scenario->what);
    else
        printf("%5.1f  %s\n", seconds, scenario->what);
    fflush(stdout);
}

static void print_heading(bool is_markdown)
{
    if (is_markdown) {
        printf("| scenario | runs | even | futile | least moves | moves | ratio | bound | drained |"
               " away, mean s | away, worst s | refusals each | what happens |\n"
               "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
        return;
    }
    printf("%-21s %5s %5s %6s %7s %7s %6s %6s %7s %6s %6s %7s %5s\n", "scenario", "runs", "even",
           "futile", "minimum", "moves", "ratio", "bound", "drained", "away s", "worst", "refused",
           "cpu s");
}

static double cpu_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static uint64_t seeds_of(const struct scenario *scenario, const struct options *options)
{
    if (options->seeds)
        return options->seeds;
    if (options->has_seed)
        return 1;
    if (scenario->is_large)
        return options->is_long ? 5 * scenario->seeds : scenario->seeds;
    return options->is_long ? 10 * scenario->seeds : scenario->seeds;
}

/* A few runs say nothing about a mean, unless they are large ones. */
static bool is_above_bound(const struct scenario *scenario, const struct tally *t)
{
    return scenario->yardstick != BY_VERDICT && (t->runs >= 50 || scenario->is_large) &&
           (double)t->moves > t->allowed;
}

/* The number of runs that failed; the bound counts as one more. */
static uint64_t run_scenario(const struct scenario *scenario, const struct options *options,
                             uint64_t *passed)
{
    struct tally t = {0};
    double started = cpu_seconds();
    uint64_t first = options->has_seed ? options->seed : 1, seeds = seeds_of(scenario, options);
    for (uint64_t seed = first; seed < first + seeds; seed++)
        run_seed(scenario, seed, options, &t);
    print_tally(scenario, &t, cpu_seconds() - started, options->is_markdown);
    *passed += t.runs - t.failed;
    if (is_above_bound(scenario, &t)) {
        printf("FAIL %s: [%s] %llu moves, %.0f allowed\n", scenario->name,
               sim_invariant_name(INVARIANT_BOUND), (unsigned long long)t.moves, t.allowed);
        t.failed++;
    }
    return t.failed;
}

static const struct scenario *find_scenario(const char *name)
{
    for (size_t i = 0; i < sim_scenario_count; i++)
        if (strcmp(name, sim_scenarios[i].name) == 0)
            return &sim_scenarios[i];
    fprintf(stderr, "balance-sim: no scenario is called %s; see --list\n", name);
    exit(2);
}

/* Whether the break is noticed by the invariant that is there for it, within a hundred seeds. */
static bool is_noticed(enum sim_break broken)
{
    const struct sim_breakage *breakage = &sim_breakages[broken];
    const struct scenario *scenario = find_scenario(breakage->scenario);
    struct options options = {.broken = broken, .is_self_test = true};
    struct tally t = {0};
    for (uint64_t seed = 1; seed <= SELF_TEST_SEEDS && !t.violations[breakage->shows_as]; seed++)
        run_seed(scenario, seed, &options, &t);
    t.violations[INVARIANT_BOUND] = is_above_bound(scenario, &t);
    bool is_right = t.violations[breakage->shows_as] > 0;
    printf("%s without %-10s in %-21s %s by '%s' after %llu runs\n", is_right ? "ok  " : "FAIL",
           breakage->name, breakage->scenario, is_right ? "noticed" : "NOT NOTICED",
           sim_invariant_name(breakage->shows_as), (unsigned long long)t.runs);
    return is_right;
}

/* The simulator must be able to fail: each part of the balancer switched off shows, and each
 * invariant shows something. */
static uint64_t run_breaks(uint64_t *passed)
{
    uint64_t failed = 0;
    bool is_seen[INVARIANT_COUNT] = {0};
    for (int i = SIM_BREAK_NONE + 1; i < SIM_BREAK_COUNT; i++) {
        bool is_right = is_noticed((enum sim_break)i);
        is_seen[sim_breakages[i].shows_as] |= is_right;
        failed += !is_right;
        *passed += is_right;
    }
    for (int i = 0; i < INVARIANT_COUNT; i++)
        if (!is_seen[i]) {
            printf("FAIL no break shows as %s\n", sim_invariant_name((enum invariant)i));
            failed++;
        }
    return failed;
}

static uint64_t run_all(const struct options *options, uint64_t *passed)
{
    const char *only = options->scenario;
    if (!only && options->broken != SIM_BREAK_NONE)
        only = sim_breakages[options->broken].scenario;
    print_heading(options->is_markdown);
    if (only)
        return run_scenario(find_scenario(only), options, passed);
    uint64_t failed = 0;
    for (size_t i = 0; i < sim_scenario_count; i++)
        failed += run_scenario(&sim_scenarios[i], options, passed);
    return options->is_markdown ? failed : failed + run_breaks(passed);
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
        if (strcmp(name, sim_breakages[i].name) == 0)
            return (enum sim_break)i;
    fprintf(stderr, "balance-sim: nothing to break is called %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option flags[] = {
        {"scenario", required_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'n'},
        {"seeds", required_argument, NULL, 'c'},
        {"verbose", no_argument, NULL, 'v'},
        {"break", required_argument, NULL, 'b'},
        {"model", no_argument, NULL, 'm'},
        {"list", no_argument, NULL, 'l'},
        {"long", no_argument, NULL, 'L'},
        {"markdown", no_argument, NULL, 't'},
        {"breaks", no_argument, NULL, 'B'},
        {0},
    };
    struct options options = {0};
    bool only_breaks = false;
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
        case 'L':
            options.is_long = true;
            break;
        case 't':
            options.is_markdown = true;
            break;
        case 'B':
            only_breaks = true;
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
    uint64_t failed = only_breaks ? run_breaks(&passed) : run_all(&options, &passed);
    printf("sim: %llu passed, %llu failed\n", (unsigned long long)passed,
           (unsigned long long)failed);
    return failed > 0;
}
