/* edgesim: a fleet of simulated EdgeCores. `edgesim --help` and test/edgesim/README.md say what it
 * does.
 *
 * Exit code: 0 it ran its time and stopped in order; 1 it could not be set up; 3 an expectation
 * failed. */
#include "test/edgesim/edge_fleet.h"
#include "test/edgesim/edge_report.h"

#include <stdio.h>
#include <unistd.h>

static int fail(const struct errbuf *e)
{
    fprintf(stderr, "edgesim: %s\n", e->text);
    return 1;
}

static int run(const struct edge_options *o)
{
    static struct edge_fleet fleet; /* its histograms are too much for a stack */
    struct errbuf e = {0};
    if (edge_fleet_init(&fleet, o, &e) != 0)
        return fail(&e);
    edge_fleet_run(&fleet);
    if (!o->json || o->json[0] != '-')
        edge_report_summary(&fleet);
    if (edge_report_write(&fleet) != 0) {
        errbuf_set(&e, "cannot write %s", o->json);
        edge_fleet_fini(&fleet);
        return fail(&e);
    }
    bool holds = edge_report_expectations(&fleet);
    edge_fleet_fini(&fleet);
    return holds ? 0 : 3;
}

int main(int argc, char **argv)
{
    struct edge_options options;
    struct errbuf e = {0};
    bool done;
    if (edge_options_parse(&options, argc, argv, &done, &e) != 0)
        return fail(&e);
    if (done)
        return 0;
    if (isatty(1))
        options.progress = true;
    return run(&options);
}
