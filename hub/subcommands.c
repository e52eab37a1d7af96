/* See subcommands.h. */
#include "hub/subcommands.h"

#include <string.h>

const struct subcommand subcommands[] = {
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
