/* Command-line flags from one table, which also makes --help, the man page and the README's table.
 *
 * Flags are --kebab-case=VALUE or --kebab-case VALUE; booleans also --flag and --flag=false. Each can come from the
 * environment, PREFIX_KEBAB_CASE; the command line wins. An unknown flag, a bad value or a stray argument is an error
 * that names it. Start-up only, one thread. */
#ifndef ISTHMUS_OPTIONS_H
#define ISTHMUS_OPTIONS_H

#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {
    OPTION_STRING,   /* const char *: points into argv, the environment or the table */
    OPTION_BOOL,     /* bool */
    OPTION_NUMBER,   /* uint64_t, within [min, max] */
    OPTION_REAL,     /* double, within [min, max] */
    OPTION_DURATION, /* uint64_t milliseconds: 300ms, 5s, 2m, 1h30m; a bare 0 is allowed */
    OPTION_LIST      /* struct option_list: may be given more than once; in the environment split at commas */
};

#define OPTION_LIST_MAX 64
struct option_list {
    const char *items[OPTION_LIST_MAX];
    size_t count;
};

struct option_spec {
    const char *name;     /* "websocket-address"; NULL ends the table; with type 0 and help: a heading */
    enum option_type type;
    size_t offset;        /* into the configuration struct */
    const char *fallback; /* the default, as one would write it; NULL: none (zero) */
    const char *metavar;  /* "HOST:PORT" */
    const char *help;     /* one sentence; the default is added */
    double min, max;      /* NUMBER, REAL; max 0: no limit */
};

#define OPTION(config_type, member) offsetof(config_type, member)

/* Fills `config` (zeroed by the caller). 0, or -EINVAL and `e`. When it meets --help or --version it says so and the caller
 * prints. Positional arguments are collected in `rest` (argv order) if it is not NULL, else refused. */
struct options_result {
    bool wants_help, wants_version;
    const char *rest[16];
    size_t rest_count;
};
int options_parse(const struct option_spec *specs, const char *env_prefix, int argc, char **argv, void *config,
                  struct options_result *result, bool allow_rest, struct errbuf *e) __attribute__((warn_unused_result));

/* --help in the manner of the field: usage, then each flag with its default; wraps at 100 columns. */
void options_print_help(FILE *out, const char *usage, const char *what, const struct option_spec *specs,
                        const char *env_prefix);
/* The same table as Markdown, for the docs. */
void options_print_markdown(FILE *out, const struct option_spec *specs);

/* "300ms", "1h30m" to milliseconds; 0 or -EINVAL. Pure. */
int options_parse_duration(const char *text, uint64_t *ms);

/* HOST:PORT, [V6]:PORT or :PORT (every address) to its parts; 0 or -EINVAL. `host` has room for 256 bytes. Pure. */
int options_parse_address(const char *text, char *host, uint16_t *port);

#endif
