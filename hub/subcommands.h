/* What `isthmus WORD ...` does instead of being a hub: a small table. A subcommand is a process of
 * its own that talks to a running hub (through its control socket) or to the API server, prints an
 * answer, and ends. */
#ifndef HUB_SUBCOMMANDS_H
#define HUB_SUBCOMMANDS_H

#include <stdio.h>

struct subcommand {
    const char *name; /* NULL ends the table */
    const char *help; /* one sentence */
    /* argv[0] is the subcommand's name. Returns the exit code: 0, 1 (it failed, and said why on
     * standard error), 2 (wrong flags). */
    int (*run)(int argc, char **argv);
};

extern const struct subcommand subcommands[];

/* The one that argv[1] names, or NULL: then this process is to be a hub (or argv[1] is an error
 * that options_parse() will name). */
const struct subcommand *subcommand_find(int argc, char **argv);
/* The end of `isthmus --help`. */
void subcommands_print_help(FILE *out);

/* hub/subcommand_control.c */
int subcommand_status(int argc, char **argv);
int subcommand_drain(int argc, char **argv);
int subcommand_undrain(int argc, char **argv);
int subcommand_explain(int argc, char **argv);
/* `isthmus token`, hub/subcommand_token.c. */
int subcommand_token(int argc, char **argv);

#endif
