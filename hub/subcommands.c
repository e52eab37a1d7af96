/* See subcommands.h. */
#include "hub/subcommands.h"

#include <string.h>

const struct subcommand subcommands[] = {
    {"status", "Print what a running hub is doing, and how it sees the other replicas.",
     subcommand_status},
    {"drain", "Let go of every edge of a running hub, so that others take them.", subcommand_drain},
    {"undrain", "Call a drain off.", subcommand_undrain},
    {"explain", "Print where a node is, or why it was let go.", subcommand_explain},
    {"token", "Print the token with which a new edge joins, as `keadm gettoken` does.",
     subcommand_token},
    {.name = NULL},
};

const struct subcommand *subcommand_find(int argc, char **argv)
{
    for (const struct subcommand *s = subcommands; argc > 1 && s->name; s++) {
        if (strcmp(argv[1], s->name) == 0)
            return s;
    }
    return NULL;
}

void subcommands_print_help(FILE *out)
{
    fprintf(out, "\nSubcommands (each has a --help of its own):\n");
    for (const struct subcommand *s = subcommands; s->name; s++)
        fprintf(out, "  %-10s %s\n", s->name, s->help);
}
