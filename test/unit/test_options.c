/* Flags: precedence, types, ranges, errors that name what is wrong, and what people read. */
#include "isthmus/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "test/lib/heap.h"

struct sample {
    const char *name;
    bool verbose, quiet;
    uint64_t count, wait_ms;
    double ratio;
    struct option_list from;
};

static const struct option_spec specs[] = {
    {.help = "First"},
    {"name", OPTION_STRING, OPTION(struct sample, name), "joe", "NAME", "Who | what.", 0, 0},
    {"verbose", OPTION_BOOL, OPTION(struct sample, verbose), "true", NULL, "Talk.", 0, 0},
    {"quiet", OPTION_BOOL, OPTION(struct sample, quiet), NULL, NULL, "Do not.", 0, 0},
    {.help = "Second"},
    {"max-count", OPTION_NUMBER, OPTION(struct sample, count), "7", "N", "How many.", 1, 64},
    {"wait", OPTION_DURATION, OPTION(struct sample, wait_ms), "5s", "D", "How long.", 0, 0},
    {"ratio", OPTION_REAL, OPTION(struct sample, ratio), "0.5", "F", "How much.", 0, 1},
    {"from", OPTION_LIST, OPTION(struct sample, from), NULL, "CIDR", "Whence.", 0, 0},
    {.name = NULL},
};

static struct errbuf error;

static int parse(struct sample *s, struct options_result *r, bool allow_rest, char **words)
{
    int argc = 0;
    while (words[argc])
        argc++;
    *s = (struct sample){0};
    return options_parse(specs, "TESTOPT", argc, words, s, r, allow_rest, &error);
}

#define PARSE(s, ...)                                                                              \
    parse((s), &(struct options_result){0}, false, (char *[]){"prog", ##__VA_ARGS__, NULL})

static void expect_refused(const char *text, int rc)
{
    assert_int_equal(rc, -EINVAL);
    if (!strstr(error.text, text))
        fail_msg("'%s' does not say '%s'", error.text, text);
}

static void test_defaults(void **state)
{
    (void)state;
    struct sample s;
    assert_int_equal(PARSE(&s), 0);
    assert_string_equal(s.name, "joe");
    assert_true(s.verbose);
    assert_false(s.quiet);
    assert_int_equal(s.count, 7);
    assert_int_equal(s.wait_ms, 5000);
    assert_true(s.ratio == 0.5);
    assert_int_equal(s.from.count, 0);
}

static void test_both_forms(void **state)
{
    (void)state;
    struct sample s;
    assert_int_equal(PARSE(&s, "--name=ann", "--max-count", "64", "--quiet", "--verbose=false",
                           "--wait", "1h30m", "--ratio=.5e") != 0,
                     1);
    assert_int_equal(PARSE(&s, "--name=ann", "--max-count", "64", "--quiet", "--verbose=false",
                           "--wait", "1h30m", "--ratio=0.25", "--from", "a", "--from=b"),
                     0);
    assert_string_equal(s.name, "ann");
    assert_int_equal(s.count, 64);
    assert_true(s.quiet);
    assert_false(s.verbose);
    assert_int_equal(s.wait_ms, 5400000);
    assert_true(s.ratio == 0.25);
    assert_int_equal(s.from.count, 2);
    assert_string_equal(s.from.items[1], "b");
    assert_int_equal(PARSE(&s, "--name="), 0);
    assert_string_equal(s.name, "");
}

static void test_environment(void **state)
{
    (void)state;
    struct sample s;
    setenv("TESTOPT_NAME", "env", 1);
    setenv("TESTOPT_MAX_COUNT", "9", 1);
    setenv("TESTOPT_FROM", "x,,y", 1);
    assert_int_equal(PARSE(&s, "--max-count=3"), 0);
    assert_string_equal(s.name, "env");
    assert_int_equal(s.count, 3);
    assert_int_equal(s.from.count, 2);
    assert_string_equal(s.from.items[0], "x");
    assert_string_equal(s.from.items[1], "y");

    /* A list on the command line replaces the environment's. */
    assert_int_equal(PARSE(&s, "--from=z", "--from=w"), 0);
    assert_int_equal(s.from.count, 2);
    assert_string_equal(s.from.items[0], "z");

    setenv("TESTOPT_MAX_COUNT", "many", 1);
    expect_refused("TESTOPT_MAX_COUNT in the environment: 'many' is not a number", PARSE(&s));
    unsetenv("TESTOPT_NAME");
    unsetenv("TESTOPT_MAX_COUNT");

    struct options_result r;
    char *words[] = {"prog", NULL};
    heap_fail_nth(1);
    int rc = parse(&s, &r, false, words);
    assert_true(heap_fail_end());
    assert_int_equal(rc, -ENOMEM);
    unsetenv("TESTOPT_FROM");
}

static void test_refusals(void **state)
{
    (void)state;
    struct sample s;
    expect_refused("unknown flag --frobnicate", PARSE(&s, "--frobnicate"));
    assert_null(strstr(error.text, "did you mean"));
    expect_refused("did you mean --max-count?", PARSE(&s, "--max-cuont=3"));
    expect_refused("unknown flag -v", PARSE(&s, "-v"));
    expect_refused("unexpected argument 'stray'", PARSE(&s, "stray"));
    expect_refused("unexpected argument 'false'", PARSE(&s, "--quiet", "false"));
    expect_refused("--name: needs a value", PARSE(&s, "--name"));
    expect_refused("--quiet: 'maybe' is not true or false", PARSE(&s, "--quiet=maybe"));
    expect_refused("--max-count: 65: must be from 1 to 64", PARSE(&s, "--max-count=65"));
    expect_refused("--max-count: 0: must be from 1 to 64", PARSE(&s, "--max-count=0"));
    expect_refused("is not a number", PARSE(&s, "--max-count=-1"));
    expect_refused("is not a number", PARSE(&s, "--max-count=12x"));
    expect_refused("is not a number", PARSE(&s, "--max-count=99999999999999999999"));
    expect_refused("is not a number", PARSE(&s, "--ratio=nan"));
    expect_refused("is not a number", PARSE(&s, "--ratio=1e-3"));
    expect_refused("must be from 0 to 1", PARSE(&s, "--ratio=1.5"));
    expect_refused("--wait: '5' is not a duration", PARSE(&s, "--wait=5"));

    char *many[2 * OPTION_LIST_MAX + 4] = {"prog"};
    for (int i = 0; i <= OPTION_LIST_MAX; i++)
        many[1 + i] = "--from=a";
    struct options_result r;
    expect_refused("--from: given more than 64 times", parse(&s, &r, false, many));
}

static void test_rest(void **state)
{
    (void)state;
    struct sample s;
    struct options_result r;
    char *words[] = {"prog", "one", "--quiet", "--", "--two", "-", NULL};
    assert_int_equal(parse(&s, &r, true, words), 0);
    assert_true(s.quiet);
    assert_int_equal(r.rest_count, 3);
    assert_string_equal(r.rest[0], "one");
    assert_string_equal(r.rest[1], "--two");
    assert_string_equal(r.rest[2], "-");

    char *many[19] = {"prog"};
    for (int i = 1; i < 18; i++)
        many[i] = "x";
    expect_refused("too many arguments", parse(&s, &r, true, many));

    char *help[] = {"prog", "-h", "--version", NULL};
    assert_int_equal(parse(&s, &r, false, help), 0);
    assert_true(r.wants_help && r.wants_version);
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0},        {"300ms", 300},     {"5s", 5000},  {"2m", 120000},
                {"1h", 3600000}, {"1m30s", 90000},   {"0.5s", 500}, {"1.25h", 4500000},
                {"0s", 0},       {"1h0m1s", 3601000}};
    static const char *const bad[] = {"",       "5",    "s",   "-1s",         "+1s",
                                      "1 s",    "1s ",  "1d",  "1.s",         ".5s",
                                      "1.2.3s", "1e3s", "1s5", "9999999999h", "5S"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(options_parse_duration(good[i].text, &ms), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (options_parse_duration(bad[i], &ms) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
    }
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {{"127.0.0.1:0", "127.0.0.1", 0},
                {"[::]:10000", "::", 10000},
                {"[fe80::1]:65535", "fe80::1", 65535},
                {"localhost:80", "localhost", 80},
                {":9440", "::", 9440}};
    static const char *const bad[] = {
        "",        "host", "host:", "::1:80",       "[::1]",  "[::1:80", "[]:80",
        "h:65536", "h:-1", "h:8o",  "[1.2.3.4]:80", "[x]:80", "h:000080"};
    char host[256];
    uint16_t port;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(options_parse_address(good[i].text, host, &port), 0);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (options_parse_address(bad[i], host, &port) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
    }
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    memcpy(longest + 255, ":1", 3);
    assert_int_equal(options_parse_address(longest, host, &port), 0);
    memcpy(longest + 255, "a:1", 4);
    assert_int_equal(options_parse_address(longest, host, &port), -EINVAL);
}

static char *capture(bool is_markdown)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    if (is_markdown)
        options_print_markdown(out, specs);
    else
        options_print_help(out, "prog [FLAGS]", "Does a thing.", specs, "TESTOPT");
    fclose(out);
    return text;
}

static void test_help(void **state)
{
    (void)state;
    char *text = capture(false);
    assert_non_null(strstr(text, "Usage: prog [FLAGS]\n\nDoes a thing.\n\nFirst:\n"));
    assert_non_null(strstr(text, "\n  --name NAME "));
    assert_non_null(strstr(text, "Who | what. (default joe)\n"));
    assert_non_null(strstr(text, "\n  --quiet[=true|false] "));
    assert_non_null(strstr(text, "\n\nSecond:\n"));
    assert_non_null(strstr(text, "--name as TESTOPT_NAME"));
    free(text);
}

static void test_markdown(void **state)
{
    (void)state;
    char *text = capture(true);
    assert_non_null(strstr(text, "### First\n\n| Flag | Default | Meaning |\n|---|---|---|\n"
                                 "| `--name` | `joe` | Who \\| what. |\n"));
    assert_non_null(strstr(text, "| `--quiet` |  | Do not. |\n\n### Second\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_both_forms),
        cmocka_unit_test(test_environment), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_rest),        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_addresses),   cmocka_unit_test(test_help),
        cmocka_unit_test(test_markdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
