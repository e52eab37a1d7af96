/* See options.h. What was given is set in the order default, environment, command line; the last
 * one wins, and a list given on the command line replaces the environment's. */
#include "isthmus/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 64
#define MS_LIMIT       (366ULL * 86400 * 1000 * 10) /* ten years: nobody means a longer one */

static bool is_end(const struct option_spec *s)
{
    return !s->name && !s->help;
}

static const struct option_spec *find(const struct option_spec *specs, const char *name, size_t n)
{
    for (const struct option_spec *s = specs; !is_end(s); s++) {
        if (s->name && strlen(s->name) == n && memcmp(s->name, name, n) == 0)
            return s;
    }
    return NULL;
}

/* ---- values ---- */

static bool read_unit(const char **at, double *unit_ms)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t n = strlen(units[i].name);
        if (strncmp(*at, units[i].name, n) == 0) {
            *at += n;
            *unit_ms = units[i].ms;
            return true;
        }
    }
    return false;
}

/* Digits with at most one point; no sign, no exponent, whatever the locale. */
static bool read_decimal(const char **at, double *value)
{
    const char *start = *at;
    double scale = 0;
    *value = 0;
    for (; isdigit((unsigned char)**at) || (**at == '.' && scale == 0); (*at)++) {
        if (**at == '.') {
            scale = 1;
            continue;
        }
        *value = *value * 10 + (**at - '0');
        scale *= 10;
    }
    if (scale > 0)
        *value /= scale;
    return isdigit((unsigned char)*start) && (*at)[-1] != '.';
}

int options_parse_duration(const char *text, uint64_t *ms)
{
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return 0;
    }
    double total = 0;
    const char *at = text;
    do {
        double value, unit;
        if (!read_decimal(&at, &value) || !read_unit(&at, &unit))
            return -EINVAL;
        total += value * unit;
        if (total > (double)MS_LIMIT)
            return -EINVAL;
    } while (*at);
    *ms = (uint64_t)llround(total);
    return 0;
}

static int parse_port(const char *text, uint16_t *port)
{
    unsigned value = 0;
    if (!*text || strlen(text) > 5)
        return -EINVAL;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return -EINVAL;
        value = value * 10 + (unsigned)(*text - '0');
    }
    if (value > 65535)
        return -EINVAL;
    *port = (uint16_t)value;
    return 0;
}

int options_parse_address(const char *text, char *host, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    if (!colon)
        return -EINVAL;
    const char *start = text, *end = colon;
    bool has_brackets = *text == '[';
    if (has_brackets) {
        if (colon == text || colon[-1] != ']')
            return -EINVAL;
        start++;
        end--;
    }
    size_t n = (size_t)(end - start);
    if (n >= 256 || memchr(start, '[', n) || memchr(start, ']', n) ||
        (has_brackets ? n == 0 : memchr(start, ':', n) != NULL))
        return -EINVAL;
    if (n == 0) {
        start = "::";
        n = 2;
    }
    memcpy(host, start, n);
    host[n] = '\0';
    struct in6_addr ignored;
    if (has_brackets && inet_pton(AF_INET6, host, &ignored) != 1)
        return -EINVAL;
    return parse_port(colon + 1, port);
}

static int parse_number(const char *text, uint64_t *value)
{
    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || *end)
        return -EINVAL;
    *value = parsed;
    return 0;
}

static int parse_real(const char *text, double *value)
{
    return read_decimal(&text, value) && !*text ? 0 : -EINVAL;
}

static int parse_bool(const char *text, bool *value)
{
    bool is_true = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!is_true && strcmp(text, "false") != 0 && strcmp(text, "0") != 0)
        return -EINVAL;
    *value = is_true;
    return 0;
}

static int check_range(const struct option_spec *s, double value, const char *text,
                       struct errbuf *e)
{
    if (value >= s->min && (s->max == 0 || value <= s->max))
        return 0;
    if (s->max == 0)
        errbuf_set(e, "%s: must be at least %.15g", text, s->min);
    else
        errbuf_set(e, "%s: must be from %.15g to %.15g", text, s->min, s->max);
    return -EINVAL;
}

static int refuse(struct errbuf *e, const char *text, const char *expected)
{
    errbuf_set(e, "'%.100s' is not %s", text, expected);
    return -EINVAL;
}

static int set_number(const struct option_spec *s, uint64_t *field, const char *text,
                      struct errbuf *e)
{
    uint64_t value;
    if (parse_number(text, &value) != 0)
        return refuse(e, text, "a number");
    int rc = check_range(s, (double)value, text, e);
    if (rc == 0)
        *field = value;
    return rc;
}

static int set_real(const struct option_spec *s, double *field, const char *text, struct errbuf *e)
{
    double value;
    if (parse_real(text, &value) != 0)
        return refuse(e, text, "a number");
    int rc = check_range(s, value, text, e);
    if (rc == 0)
        *field = value;
    return rc;
}

static int add_to_list(struct option_list *list, const char *text, struct errbuf *e)
{
    if (list->count == OPTION_LIST_MAX) {
        errbuf_set(e, "given more than %d times", OPTION_LIST_MAX);
        return -EINVAL;
    }
    list->items[list->count++] = text;
    return 0;
}

static int set_value(const struct option_spec *s, void *config, const char *text, struct errbuf *e)
{
    void *field = (char *)config + s->offset;
    switch (s->type) {
    case OPTION_STRING:
        *(const char **)field = text;
        return 0;
    case OPTION_BOOL:
        return parse_bool(text, field) == 0 ? 0 : refuse(e, text, "true or false");
    case OPTION_NUMBER:
        return set_number(s, field, text, e);
    case OPTION_REAL:
        return set_real(s, field, text, e);
    case OPTION_DURATION:
        return options_parse_duration(text, field) == 0
                   ? 0
                   : refuse(e, text, "a duration like 300ms, 30s or 1h30m");
    case OPTION_LIST:
        return add_to_list(field, text, e);
    }
    return -EINVAL;
}

/* ---- defaults and environment ---- */

/* A list from the environment is cut at its commas in a copy. Copies live as long as the process,
 * as the environment does. */
struct kept_copy {
    struct kept_copy *next;
    char text[];
};
static struct kept_copy *kept_copies;

static int set_list(const struct option_spec *s, void *config, const char *text, struct errbuf *e)
{
    size_t size = strlen(text) + 1;
    struct kept_copy *copy = malloc(sizeof(*copy) + size);
    if (!copy) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    memcpy(copy->text, text, size);
    copy->next = kept_copies;
    kept_copies = copy;

    char *rest = copy->text, *item;
    while ((item = strsep(&rest, ",")) != NULL) {
        int rc = *item ? set_value(s, config, item, e) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int set_text(const struct option_spec *s, void *config, const char *text, struct errbuf *e)
{
    return s->type == OPTION_LIST ? set_list(s, config, text, e) : set_value(s, config, text, e);
}

static void env_name(const char *prefix, const char *option, char *name, size_t room)
{
    int n = snprintf(name, room, "%s_%s", prefix, option);
    for (int i = 0; i < n && name[i]; i++)
        name[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
}

static int apply_defaults(const struct option_spec *specs, void *config, struct errbuf *e)
{
    for (const struct option_spec *s = specs; !is_end(s); s++) {
        if (!s->name || !s->fallback)
            continue;
        int rc = set_text(s, config, s->fallback, e);
        if (rc != 0) {
            errbuf_wrap(e, "default of --%s", s->name);
            return rc;
        }
    }
    return 0;
}

static void clear_list(const struct option_spec *s, void *config)
{
    if (s->type == OPTION_LIST)
        ((struct option_list *)(void *)((char *)config + s->offset))->count = 0;
}

static int apply_environment(const struct option_spec *specs, const char *prefix, void *config,
                             struct errbuf *e)
{
    for (const struct option_spec *s = specs; prefix && !is_end(s); s++) {
        if (!s->name)
            continue;
        char name[2 * NAME_MAX_BYTES];
        env_name(prefix, s->name, name, sizeof(name));
        const char *text = getenv(name);
        if (!text)
            continue;
        clear_list(s, config);
        int rc = set_text(s, config, text, e);
        if (rc != 0) {
            errbuf_wrap(e, "%s in the environment", name);
            return rc;
        }
    }
    return 0;
}

/* ---- command line ---- */

static size_t edit_distance(const char *a, size_t an, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1], bn = strlen(b);
    if (an > NAME_MAX_BYTES || bn > NAME_MAX_BYTES)
        return NAME_MAX_BYTES;
    for (size_t j = 0; j <= bn; j++)
        row[j] = j;
    for (size_t i = 1; i <= an; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= bn; j++) {
            size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[bn];
}

static int refuse_unknown(const struct option_spec *specs, const char *name, size_t n,
                          struct errbuf *e)
{
    const char *nearest = NULL;
    size_t distance = 1 + n / 4;
    for (const struct option_spec *s = specs; !is_end(s); s++) {
        size_t d = s->name ? edit_distance(name, n, s->name) : NAME_MAX_BYTES;
        if (d <= distance) {
            distance = d;
            nearest = s->name;
        }
    }
    int shown = n > 100 ? 100 : (int)n;
    if (nearest)
        errbuf_set(e, "unknown flag --%.*s (did you mean --%s?)", shown, name, nearest);
    else
        errbuf_set(e, "unknown flag --%.*s", shown, name);
    return -EINVAL;
}

struct parser {
    const struct option_spec *specs;
    int argc, at;
    char **argv;
    void *config;
    const struct option_spec *seen_lists[OPTION_LIST_MAX]; /* no longer the environment's */
    size_t seen_count;
    struct options_result *result;
    bool allow_rest;
};

static void begin_list(struct parser *p, const struct option_spec *s)
{
    for (size_t i = 0; i < p->seen_count; i++) {
        if (p->seen_lists[i] == s)
            return;
    }
    if (s->type == OPTION_LIST && p->seen_count < OPTION_LIST_MAX) {
        clear_list(s, p->config);
        p->seen_lists[p->seen_count++] = s;
    }
}

static int parse_flag(struct parser *p, const char *flag, struct errbuf *e)
{
    const char *equals = strchr(flag, '=');
    size_t n = equals ? (size_t)(equals - flag) : strlen(flag);
    const struct option_spec *s = find(p->specs, flag, n);
    if (!s)
        return refuse_unknown(p->specs, flag, n, e);

    const char *value = equals ? equals + 1 : NULL;
    if (!value && s->type == OPTION_BOOL)
        value = "true";
    if (!value && p->at + 1 < p->argc)
        value = p->argv[++p->at];
    if (!value) {
        errbuf_set(e, "--%s: needs a value", s->name);
        return -EINVAL;
    }
    begin_list(p, s);
    int rc = set_value(s, p->config, value, e);
    if (rc != 0)
        errbuf_wrap(e, "--%s", s->name);
    return rc;
}

static int parse_positional(struct parser *p, const char *arg, struct errbuf *e)
{
    struct options_result *r = p->result;
    if (!p->allow_rest) {
        errbuf_set(e, "unexpected argument '%.100s'", arg);
        return -EINVAL;
    }
    if (r->rest_count == sizeof(r->rest) / sizeof(r->rest[0])) {
        errbuf_set(e, "too many arguments");
        return -EINVAL;
    }
    r->rest[r->rest_count++] = arg;
    return 0;
}

static int parse_argument(struct parser *p, const char *arg, bool *only_rest, struct errbuf *e)
{
    if (*only_rest || arg[0] != '-' || !arg[1])
        return parse_positional(p, arg, e);
    if (strcmp(arg, "--") == 0) {
        *only_rest = true;
        return 0;
    }
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
        p->result->wants_help = true;
        return 0;
    }
    if (strcmp(arg, "--version") == 0) {
        p->result->wants_version = true;
        return 0;
    }
    if (arg[1] != '-') {
        errbuf_set(e, "unknown flag %.100s (flags begin with two dashes)", arg);
        return -EINVAL;
    }
    return parse_flag(p, arg + 2, e);
}

int options_parse(const struct option_spec *specs, const char *env_prefix, int argc, char **argv,
                  void *config, struct options_result *result, bool allow_rest, struct errbuf *e)
{
    *result = (struct options_result){0};
    int rc = apply_defaults(specs, config, e);
    if (rc == 0)
        rc = apply_environment(specs, env_prefix, config, e);

    struct parser p = {.specs = specs,
                       .argc = argc,
                       .argv = argv,
                       .config = config,
                       .result = result,
                       .allow_rest = allow_rest};
    bool only_rest = false;
    for (p.at = 1; rc == 0 && p.at < argc; p.at++)
        rc = parse_argument(&p, argv[p.at], &only_rest, e);
    return rc;
}

/* ---- what people read ---- */

#define HELP_WIDTH  100
#define HELP_COLUMN 38

static void print_wrapped(FILE *out, const char *text, size_t column)
{
    size_t at = column;
    for (const char *word = text; *word;) {
        size_t n = strcspn(word, " ");
        if (at > column && at + 1 + n > HELP_WIDTH) {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", (int)n, word);
        at += n;
        word += n;
        word += strspn(word, " ");
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct option_spec *s)
{
    char left[HELP_COLUMN + NAME_MAX_BYTES], text[1024];
    if (s->type == OPTION_BOOL)
        snprintf(left, sizeof(left), "  --%s[=true|false]", s->name);
    else
        snprintf(left, sizeof(left), "  --%s %s", s->name, s->metavar ? s->metavar : "VALUE");
    if (s->fallback)
        snprintf(text, sizeof(text), "%s (default %s)", s->help, s->fallback);
    else
        snprintf(text, sizeof(text), "%s", s->help);

    int used = fprintf(out, "%s", left);
    if (used < HELP_COLUMN - 1)
        fprintf(out, "%*s", HELP_COLUMN - used, "");
    else
        fprintf(out, "\n%*s", HELP_COLUMN, "");
    print_wrapped(out, text, HELP_COLUMN);
}

void options_print_help(FILE *out, const char *usage, const char *what,
                        const struct option_spec *specs, const char *env_prefix)
{
    fprintf(out, "Usage: %s\n\n", usage);
    print_wrapped(out, what, 0);
    const struct option_spec *first = NULL;
    for (const struct option_spec *s = specs; !is_end(s); s++) {
        if (!s->name) {
            fprintf(out, "\n%s:\n", s->help);
            continue;
        }
        if (!first)
            first = s;
        if (s == specs)
            fprintf(out, "\nFlags:\n");
        print_option(out, s);
    }
    if (!env_prefix || !first)
        return;
    char name[2 * NAME_MAX_BYTES];
    env_name(env_prefix, first->name, name, sizeof(name));
    fprintf(out, "\nEvery flag can also come from the environment, --%s as %s; the flag wins.\n",
            first->name, name);
}

static void print_markdown_text(FILE *out, const char *text)
{
    for (; *text; text++)
        fprintf(out, *text == '|' ? "\\|" : "%c", *text);
}

void options_print_markdown(FILE *out, const struct option_spec *specs)
{
    static const char header[] = "| Flag | Default | Meaning |\n|---|---|---|\n";
    for (const struct option_spec *s = specs; !is_end(s); s++) {
        if (!s->name) {
            fprintf(out, "%s### %s\n\n%s", s == specs ? "" : "\n", s->help, header);
            continue;
        }
        if (s == specs)
            fputs(header, out);
        fprintf(out, "| `--%s` | ", s->name);
        if (s->fallback)
            fprintf(out, "`%s`", s->fallback);
        fputs(" | ", out);
        print_markdown_text(out, s->help);
        fputs(" |\n", out);
    }
}
