/* isthmus status | drain | undrain | explain NODE: what is asked of a running hub through its
 * control socket, in words for people, or with --json as it came. */
#include "hub/control.h"
#include "hub/subcommands.h"
#include "isthmus/options.h"
#include "isthmus/version.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define WATCH_S 1

struct control_options {
    const char *control_socket;
    bool json, wait;
};

/* clang-format off */
#define SOCKET_FLAG \
    {"control-socket", OPTION_STRING, OPTION(struct control_options, control_socket), "/run/isthmus/control.sock", "PATH", \
     "The hub's Unix socket.", 0, 0}
#define JSON_FLAG \
    {"json", OPTION_BOOL, OPTION(struct control_options, json), "false", NULL, "Print the answer as it came.", 0, 0}

static const struct option_spec ask_specs[] = {SOCKET_FLAG, JSON_FLAG, {.name = NULL}};
static const struct option_spec drain_specs[] = {
    SOCKET_FLAG, JSON_FLAG,
    {"wait", OPTION_BOOL, OPTION(struct control_options, wait), "false", NULL,
     "Come back only when no edge is connected any more and none is on its way.", 0, 0},
    {.name = NULL},
};
/* clang-format on */

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "-";
}

static json_int_t number_of(const json_t *json, const char *key)
{
    return (json_int_t)json_number_value(json_object_get(json, key));
}

static const char *plural(json_int_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- in words ---- */

static void print_replicas(const json_t *replicas)
{
    size_t i;
    const json_t *r;
    printf("\n  %-24s %10s %10s %8s %-9s %s\n", "REPLICA", "LIVE", "EXPECTED", "WEIGHT", "STATE",
           "BEAT");
    json_array_foreach (replicas, i, r)
        printf("%c %-24s %10" JSON_INTEGER_FORMAT " %10" JSON_INTEGER_FORMAT
               " %8" JSON_INTEGER_FORMAT " %-9s %.1f s ago\n",
               json_is_true(json_object_get(r, "is_self")) ? '*' : ' ', text_of(r, "id"),
               number_of(r, "live"), number_of(r, "expected"), number_of(r, "weight"),
               text_of(r, "state"), json_number_value(json_object_get(r, "age_ms")) / 1000);
}

static void print_status(const json_t *status)
{
    const json_t *edges = json_object_get(status, "edges"),
                 *balance = json_object_get(status, "balance");
    printf("%s: %s, version %s, up %" JSON_INTEGER_FORMAT " s, %s\n", text_of(status, "replica"),
           text_of(status, "state"), text_of(status, "version"), number_of(status, "uptime_s"),
           json_is_true(json_object_get(status, "ready")) ? "ready" : "not ready");
    printf("edges: %" JSON_INTEGER_FORMAT " connected of at most %" JSON_INTEGER_FORMAT "\n",
           number_of(edges, "connected"), number_of(edges, "limit"));
    printf("API server: %s, %s\n", text_of(json_object_get(status, "api"), "server"),
           text_of(json_object_get(status, "api"), "text"));
    if (!balance)
        return;
    const json_t *decision = json_object_get(balance, "decision");
    printf("balancing: %s, %s\n", text_of(decision, "phase"), text_of(decision, "text"));
    const json_t *replicas = json_object_get(balance, "replicas");
    if (json_array_size(replicas) > 0)
        print_replicas(replicas);
}

static void print_draining(const json_t *answer)
{
    json_int_t n = number_of(answer, "connected");
    printf("%s, %" JSON_INTEGER_FORMAT " edge%s connected\n",
           json_is_true(json_object_get(answer, "draining")) ? "draining" : "serving", n,
           plural(n));
}

static void print_here(const json_t *a)
{
    printf("%s is here, from %s, since %" JSON_INTEGER_FORMAT
           " s; its last message came %" JSON_INTEGER_FORMAT " s ago\n%" JSON_INTEGER_FORMAT
           " messages in, %" JSON_INTEGER_FORMAT " out, %" JSON_INTEGER_FORMAT " unfinished%s\n",
           text_of(a, "node"), text_of(a, "remote"), number_of(a, "connected_s"),
           number_of(a, "last_message_s"), number_of(a, "messages_in"),
           number_of(a, "messages_out"), number_of(a, "unfinished"),
           json_is_true(json_object_get(a, "reading")) ? "" : "; it is not read at the moment");
}

static void print_released(const json_t *a)
{
    printf("%s was let go from here %" JSON_INTEGER_FORMAT
           " s ago, %s\nwhy: %s (this replica had %" JSON_INTEGER_FORMAT
           " edges, its share was %" JSON_INTEGER_FORMAT ")\n",
           text_of(a, "node"), number_of(a, "released_s"),
           json_is_true(json_object_get(a, "bridged")) ? "its lease was renewed for it"
                                                       : "without bridging its lease",
           text_of(a, "text"), number_of(a, "live"), number_of(a, "expected"));
}

static void print_explained(const json_t *a)
{
    const char *where = text_of(a, "where");
    if (strcmp(where, "here") == 0)
        print_here(a);
    else if (strcmp(where, "released") == 0)
        print_released(a);
    else if (strcmp(where, "elsewhere") == 0)
        printf("%s is not here; it connected last to replica %s (%s): ask there\n",
               text_of(a, "node"), text_of(a, "replica"), text_of(a, "address"));
    else
        printf("%s is not here, and its Node does not say where it connected last\n",
               text_of(a, "node"));
}

/* ---- asking ---- */

static int ask(const char *name, const struct control_options *o, const char *line, json_t **answer)
{
    struct errbuf e = {{0}};
    *answer = control_ask(o->control_socket, line, &e);
    if (*answer)
        return 0;
    fprintf(stderr, "isthmus %s: %s\n", name, e.text);
    return 1;
}

static int show(const char *name, const struct control_options *o, const char *line,
                void (*print)(const json_t *))
{
    json_t *answer;
    int rc = ask(name, o, line, &answer);
    if (rc != 0)
        return rc;
    if (o->json)
        json_dumpf(answer, stdout, JSON_INDENT(2)), printf("\n");
    else
        print(answer);
    json_decref(answer);
    return 0;
}

/* -1: go on; else the exit code. */
static int parse(const char *name, const char *usage, const char *what,
                 const struct option_spec *specs, int argc, char **argv, size_t words,
                 struct control_options *o, struct options_result *result)
{
    struct errbuf e = {{0}};
    int rc = options_parse(specs, "ISTHMUS", argc, argv, o, result, words > 0, &e);
    if (rc == 0 && result->wants_help) {
        options_print_help(stdout, usage, what, specs, "ISTHMUS");
        return 0;
    }
    if (rc == 0 && result->wants_version) {
        printf("isthmus %s\n", isthmus_version());
        return 0;
    }
    if (rc == 0 && result->rest_count != words)
        fprintf(stderr, "isthmus %s: usage: %s\n", name, usage);
    else if (rc != 0)
        fprintf(stderr, "isthmus %s: %s\n", name, e.text);
    else
        return -1;
    return 2;
}

int subcommand_status(int argc, char **argv)
{
    struct control_options o = {0};
    struct options_result result = {0};
    int rc = parse("status", "isthmus status [FLAG ...]",
                   "What this hub is doing, and how it sees the others.", ask_specs, argc, argv, 0,
                   &o, &result);
    return rc >= 0 ? rc : show("status", &o, "status", print_status);
}

int subcommand_explain(int argc, char **argv)
{
    struct control_options o = {0};
    struct options_result result = {0};
    char line[400];
    int rc =
        parse("explain", "isthmus explain [FLAG ...] NODE",
              "Where a node is; or when it was let go from here, and why; or which replica to ask.",
              ask_specs, argc, argv, 1, &o, &result);
    if (rc >= 0)
        return rc;
    snprintf(line, sizeof(line), "explain %.300s", result.rest[0]);
    return show("explain", &o, line, print_explained);
}

static int wait_until_empty(const struct control_options *o)
{
    for (;;) {
        json_t *status;
        int rc = ask("drain", o, "status", &status);
        if (rc != 0)
            return rc;
        json_int_t left = number_of(json_object_get(status, "edges"), "connected") +
                          number_of(json_object_get(status, "edges"), "bridged");
        bool is_draining = strcmp(text_of(status, "state"), "draining") == 0;
        json_decref(status);
        if (!is_draining) {
            fprintf(stderr, "isthmus drain: it was called off\n");
            return 1;
        }
        if (left == 0)
            return 0;
        sleep(WATCH_S);
    }
}

int subcommand_drain(int argc, char **argv)
{
    struct control_options o = {0};
    struct options_result result = {0};
    int rc = parse(
        "drain", "isthmus drain [FLAG ...]",
        "Lets go of every edge, one after another, and takes no new ones; the hub goes on running.",
        drain_specs, argc, argv, 0, &o, &result);
    if (rc >= 0)
        return rc;
    rc = show("drain", &o, "drain", print_draining);
    return rc == 0 && o.wait ? wait_until_empty(&o) : rc;
}

int subcommand_undrain(int argc, char **argv)
{
    struct control_options o = {0};
    struct options_result result = {0};
    int rc = parse("undrain", "isthmus undrain [FLAG ...]", "Calls a drain off.", ask_specs, argc,
                   argv, 0, &o, &result);
    return rc >= 0 ? rc : show("undrain", &o, "undrain", print_draining);
}
