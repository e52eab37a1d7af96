/* Log lines: both formats, nothing a peer sends forges a line, long lines stay well-formed,
 * repetition is limited. */
#include "isthmus/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

static int pipe_ends[2];
static char got[65536];

static int set_up(void **state)
{
    (void)state;
    return pipe2(pipe_ends, O_NONBLOCK);
}

static int tear_down(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, STDERR_FILENO);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return 0;
}

static const char *lines(void)
{
    ssize_t n = read(pipe_ends[0], got, sizeof(got) - 1);
    got[n > 0 ? n : 0] = '\0';
    return got;
}

/* The line without its time, which must look like one. */
static const char *after_time(const char *line)
{
    static const char pattern[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    for (size_t i = 0; i < sizeof(pattern) - 1; i++) {
        if (pattern[i] == 'd')
            assert_in_range(line[i], '0', '9');
        else
            assert_int_equal(line[i], pattern[i]);
    }
    return line + sizeof(pattern) - 1;
}

static void test_text(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, pipe_ends[1]);
    log_info("edge_closed", F_STR("node", "edge-7"), F_U64("connected_s", 812), F_I64("delta", -3),
             F_F64("load", 0.25), F_BOOL("clean", true), F_STRN("part", "abcdef", 3));
    assert_string_equal(after_time(lines()), "INFO edge_closed node=edge-7 connected_s=812 "
                                             "delta=-3 load=0.25 clean=true part=abc\n");
}

static void test_no_forgery(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, pipe_ends[1]);
    log_warn("refused", F_STR("name", "x\n2026 INFO fake \033[31m\"\\"), F_STR("empty", ""),
             F_STR("absent", NULL), F_STR("eq", "a=b"), F_STR("utf8", "\xc3\xa9"));
    assert_string_equal(after_time(lines()),
                        "WARN refused name=\"x\\u000a2026 INFO fake \\u001b[31m\\\"\\\\\" "
                        "empty=\"\" absent=\"\" eq=\"a=b\" utf8=\"\\u00c3\\u00a9\"\n");
}

static void test_json(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_JSON, LOG_LEVEL_DEBUG, pipe_ends[1]);
    log_debug("event", F_STR("s", "a\"\n\x01"), F_U64("n", UINT64_C(9007199254740993)),
              F_BOOL("b", false));
    json_t *line = json_loads(lines(), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "level")), "DEBUG");
    assert_string_equal(json_string_value(json_object_get(line, "event")), "event");
    assert_string_equal(json_string_value(json_object_get(line, "s")), "a\"\n\x01");
    assert_int_equal(json_integer_value(json_object_get(line, "n")), 9007199254740993);
    assert_true(json_is_false(json_object_get(line, "b")));
    json_decref(line);
}

static void test_long_lines(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_JSON, LOG_LEVEL_INFO, pipe_ends[1]);
    char large[6000];
    memset(large, '\n', sizeof(large)); /* six bytes each when escaped */
    for (size_t n = 0; n < sizeof(large); n += 7) {
        log_info("long", F_U64("first", 1), F_STRN("second", large, n), F_U64("third", 3));
        const char *text = lines();
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
        json_t *line = json_loads(text, 0, NULL);
        assert_non_null(line);
        assert_int_equal(json_integer_value(json_object_get(line, "first")), 1);
        json_decref(line);
    }
}

static void test_levels(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_WARN, pipe_ends[1]);
    log_debug("no", F_U64("n", 1));
    log_info("no", F_U64("n", 1));
    assert_string_equal(lines(), "");
    log_error("yes", F_U64("n", 1));
    assert_string_equal(after_time(lines()), "ERROR yes n=1\n");

    enum log_level level;
    enum log_format format;
    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_int_equal(log_level_parse("error", &level), 0);
    assert_int_equal(level, LOG_LEVEL_ERROR);
    assert_int_equal(log_level_parse("INFO", &level), -EINVAL);
    assert_int_equal(log_format_parse("json", &format), 0);
    assert_int_equal(format, LOG_FORMAT_JSON);
    assert_int_equal(log_format_parse("text", &format), 0);
    assert_int_equal(format, LOG_FORMAT_TEXT);
    assert_int_equal(log_format_parse("xml", &format), -EINVAL);
}

static size_t count_lines(const char *text)
{
    size_t n = 0;
    while ((text = strchr(text, '\n')) != NULL) {
        text++;
        n++;
    }
    return n;
}

static void provoke(unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        log_limited(LOG_LEVEL_INFO, "provoked", F_U64("i", i));
}

/* The first says nothing of it. A thousand in a row fall into at most two seconds; what was left
 * out is told with the next line.
 */
static void test_limited(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, pipe_ends[1]);
    provoke(1);
    assert_null(strstr(lines(), "suppressed"));
    provoke(1000);
    size_t written = count_lines(lines());
    assert_in_range(written, 4, 10);
    struct timespec wait = {.tv_sec = 1, .tv_nsec = 10000000};
    nanosleep(&wait, NULL);
    provoke(1);
    const char *suppressed = strstr(lines(), "suppressed=");
    assert_non_null(suppressed);
    assert_in_range(strtoul(suppressed + 11, NULL, 10), 1, 996);
}

static void test_lost_lines_do_not_stop(void **state)
{
    (void)state;
    int full[2];
    assert_int_equal(pipe2(full, O_NONBLOCK), 0);
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, full[1]);
    for (int i = 0; i < 5000; i++)
        log_info("filling", F_U64("i", i));
    close(full[0]);
    close(full[1]);
    log_info("closed", F_U64("i", 1));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_text),
        TEST(test_no_forgery),
        TEST(test_json),
        TEST(test_levels),
        TEST(test_long_lines),
        TEST(test_limited),
        TEST(test_lost_lines_do_not_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
