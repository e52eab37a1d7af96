/* The JSON scanner: what it accepts and refuses, what it hands out, and 300,000 generated and
 * mutated texts held against jansson (millions with ISTHMUS_LONG=1). */
#include "isthmus/jsonscan.h"
#include "test/lib/jsongen.h"
#include "test/lib/jsonref.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* In memory that ends with the text: reading on is caught by the sanitizers. */
static int scan(const char *text, struct json_span *span, bool accept_nul)
{
    size_t size = strlen(text);
    char *copy = malloc(size + 1);
    struct jsonscan s;
    assert_non_null(copy);
    memcpy(copy, text, size);
    jsonscan_init(&s, copy, size);
    s.accept_nul = accept_nul;
    int rc = jsonscan_value(&s, span);
    if (rc == 0)
        rc = jsonscan_end(&s);
    span->at = text + (rc == 0 ? span->at - copy : 0);
    free(copy);
    return rc;
}

static void expect(const char *text, bool accepted)
{
    struct json_span span;
    int rc = scan(text, &span, false);
    if (rc != (accepted ? 0 : -EBADMSG))
        fail_msg("%s: %d", text, rc);
    if (jsonref_accepts(text, strlen(text), false) != accepted)
        fail_msg("%s: jansson does not agree", text);
}

static void test_accepts(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        " 1 ",
        "\r\n\t\"\"\n",
        "{}",
        "[]",
        "[ ]",
        "{ }",
        "[[],[[]],{}]",
        "{\"\":{\"\":[1,2,3]}}",
        "-0",
        "0",
        "-0.0e-0",
        "9223372036854775807",
        "-9223372036854775808",
        "1.7976931348623157e308",
        "1.797693134862315807e+308",
        "1e-99999999",
        "0e99999999999999999999999",
        "0.000000000001e319",
        "123456789012345678901234567890.5",
        "\"\\u00e9\\uD83D\\uDE00\"",
        "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f"
        "\xbf\xbf\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\x7f\"",
        "{\"a\":1,\"a\":2}",
        "\"12345678\\\"12345678\\n1234567\xc3\xa9 eight by eight and some more\""};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        expect(texts[i], true);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "nul",
                                        "nulll",
                                        "True",
                                        "'a'",
                                        "[1,]",
                                        "[,1]",
                                        "[1 2]",
                                        "[1",
                                        "]",
                                        "{",
                                        "}",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{1:1}",
                                        "{\"a\" 1}",
                                        "[}",
                                        "{]",
                                        "[1}",
                                        "{\"a\":1]",
                                        "1 2",
                                        "\xef\xbb\xbf{}",
                                        "01",
                                        "-",
                                        "+1",
                                        "1.",
                                        ".5",
                                        "1.e5",
                                        "1e",
                                        "1e+",
                                        "--1",
                                        "0x10",
                                        "1_0",
                                        "NaN",
                                        "Infinity",
                                        "-01",
                                        "00",
                                        "9223372036854775808",
                                        "-9223372036854775809",
                                        "99999999999999999999",
                                        "1e309",
                                        "-1e309",
                                        "1.7976931348623159e308",
                                        "1.797693134862315808e308",
                                        "1e99999999999999999999",
                                        "0.00000000001e320",
                                        "\"",
                                        "\"\\",
                                        "\"\\\"",
                                        "\"\\x\"",
                                        "\"\\u\"",
                                        "\"\\u123\"",
                                        "\"\\u123g\"",
                                        "\"\n\"",
                                        "\"\t\"",
                                        "\"\x1f\"",
                                        "\"\\u0000\"",
                                        "{\"\\u0000\":1}",
                                        "\"\\ud800\"",
                                        "\"\\udc00\"",
                                        "\"\\ud800x\"",
                                        "\"\\ud800\\n\"",
                                        "\"\\ud800\\u0041\"",
                                        "\"\\ud800\\ud800\"",
                                        "\"\x80\"",
                                        "\"\xc0\xaf\"",
                                        "\"\xc1\xbf\"",
                                        "\"\xc3\"",
                                        "\"\xc3\xc3\"",
                                        "\"\xe0\x9f\xbf\"",
                                        "\"\xed\xa0\x80\"",
                                        "\"\xe4\xb8\"",
                                        "\"\xf0\x8f\xbf\xbf\"",
                                        "\"\xf4\x90\x80\x80\"",
                                        "\"\xf5\x80\x80\x80\"",
                                        "\"\xff\"",
                                        "/* */ 1",
                                        "[1] x"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        expect(texts[i], false);
}

/* The least real that overflows, digit by digit: 2^1024 - 2^970, which a tie rounds up from
 * DBL_MAX. */
static void test_least_overflow(void **state)
{
    (void)state;
    static const char digits[] =
        "17976931348623158079372897140530341507993413271003782693617377898044496829276475"
        "09466490179775872070963302864166928879109465555478519404026306574886715058206819"
        "08902000708383676273854845817711531764475730270069855571366959622842914819860834"
        "936475292719074168444365510704342711559699508093042880177904174497792";
    char text[400];
    snprintf(text, sizeof(text), "%s.0", digits);
    expect(text, false);
    snprintf(text, sizeof(text), "%se0", digits);
    expect(text, false);
    snprintf(text, sizeof(text), "-0.000%se+3", digits);
    expect(text, true); /* three powers of ten less */
    snprintf(text, sizeof(text), "-0.%se309", digits);
    expect(text, false);
    snprintf(text, sizeof(text), "%s.0", digits);
    text[308] = '1';
    expect(text, true);
    snprintf(text, sizeof(text), "%.308s1.999999e0", digits);
    expect(text, true);
    snprintf(text, sizeof(text), "%.*sE9", 300, digits);
    expect(text, true); /* cut off: zeros in place of the last nine */
}

/* Every byte at every place of a word and behind it: the arithmetic that looks at eight bytes at
 * once has no blind spot. */
static void test_every_byte_everywhere(void **state)
{
    (void)state;
    for (unsigned byte = 1; byte < 256; byte++)
        for (size_t at = 0; at < 20; at++) {
            char text[32];
            memset(text, 'a', sizeof(text));
            text[0] = text[24] = '"';
            text[25] = '\0';
            text[1 + at] = (char)byte;
            struct json_span span;
            bool accepted = scan(text, &span, false) == 0;
            if (accepted != jsonref_accepts(text, 25, false))
                fail_msg("byte 0x%02x at %zu", byte, at);
        }
}

static void test_raw_nul_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"1\0", "\0", "\"\0\"", "[1\0]", "[true\0]", "{}\0"};
    static const size_t sizes[] = {2, 1, 3, 4, 7, 3};
    for (int i = 0; i < 6; i++) {
        struct jsonscan s;
        struct json_span span;
        jsonscan_init(&s, texts[i], sizes[i]);
        assert_true(jsonscan_value(&s, &span) != 0 || jsonscan_end(&s) != 0);
    }
}

static void test_accept_nul(void **state)
{
    (void)state;
    struct json_span span;
    assert_int_equal(scan("{\"a\":[\"x\\u0000y\"]}", &span, true), 0);
    assert_int_equal(scan("{\"a\\u0000\":1}", &span, true), -EBADMSG);
    assert_int_equal(scan("{\"a\":\"\\ud800\"}", &span, true), -EBADMSG);
    assert_int_equal(scan("\"x\\u0000y\"", &span, true), 0);
    char plain[16];
    assert_int_equal(jsonscan_unescape(&span, plain), 3);
    assert_memory_equal(plain, "x\0y", 3);
}

static void nest(char *text, unsigned depth, char open, const char *inner, char close)
{
    char *p = text;
    for (unsigned i = 0; i < depth; i++)
        *p++ = open;
    p = stpcpy(p, inner);
    for (unsigned i = 0; i < depth; i++)
        *p++ = close;
    *p = '\0';
}

static void test_depth(void **state)
{
    (void)state;
    char text[2 * JSONSCAN_MAX_DEPTH + 16];
    nest(text, JSONSCAN_MAX_DEPTH, '[', "1", ']');
    expect(text, true);
    nest(text, JSONSCAN_MAX_DEPTH + 1, '[', "1", ']');
    expect(text, false);
    nest(text, JSONSCAN_MAX_DEPTH, '[', "{}", ']');
    expect(text, false);
    nest(text, JSONSCAN_MAX_DEPTH - 1, '[', "{\"a\":1}", ']');
    expect(text, true);
}

/* What was entered counts: a value inside may be only so much deeper. */
static void test_depth_of_steps(void **state)
{
    (void)state;
    char text[2 * JSONSCAN_MAX_DEPTH + 16];
    struct jsonscan s;
    struct json_span span;
    nest(text, JSONSCAN_MAX_DEPTH + 1, '[', "", ']');
    jsonscan_init(&s, text, strlen(text));
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(jsonscan_enter_array(&s), 0);
        assert_int_equal(jsonscan_next_element(&s), 1);
    }
    struct jsonscan here = s;
    assert_int_equal(jsonscan_value(&s, &span), -EBADMSG);
    s = here;
    for (unsigned i = 100; i < JSONSCAN_MAX_DEPTH; i++) {
        assert_int_equal(jsonscan_enter_array(&s), 0);
        assert_int_equal(jsonscan_next_element(&s), 1);
    }
    assert_int_equal(jsonscan_enter_array(&s), -EBADMSG);
}

static void test_spans(void **state)
{
    (void)state;
    static const struct {
        const char *text, *span;
        enum json_kind kind;
        bool has_escapes;
    } cases[] = {
        {" null ", "null", JSON_KIND_NULL, false},
        {"\ttrue", "true", JSON_KIND_TRUE, false},
        {"false\n", "false", JSON_KIND_FALSE, false},
        {" -12 ", "-12", JSON_KIND_INTEGER, false},
        {" -1.5e3 ", "-1.5e3", JSON_KIND_REAL, false},
        {" \"\" ", "", JSON_KIND_STRING, false},
        {" \"a b\" ", "a b", JSON_KIND_STRING, false},
        {"\"a\\nb\"", "a\\nb", JSON_KIND_STRING, true},
        {" [ 1 ] ", "[ 1 ]", JSON_KIND_ARRAY, false},
        {" {\"a\": {}} ", "{\"a\": {}}", JSON_KIND_OBJECT, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct json_span span;
        assert_int_equal(scan(cases[i].text, &span, false), 0);
        assert_int_equal(span.kind, cases[i].kind);
        assert_int_equal(span.has_escapes, cases[i].has_escapes);
        assert_int_equal(span.size, strlen(cases[i].span));
        assert_memory_equal(span.at, cases[i].span, span.size);
    }
}

static void test_steps(void **state)
{
    (void)state;
    static const char text[] = " { \"a\" : [ 1 , [ ] , { } ] , \"b\":{},\"c\":\"x\" } ";
    struct jsonscan s;
    struct json_span key, value;
    int elements = 0;
    jsonscan_init(&s, text, sizeof(text) - 1);
    assert_int_equal(jsonscan_enter_object(&s), 0);
    assert_int_equal(jsonscan_next_member(&s, &key), 1);
    assert_true(jsonscan_equals(&key, "a"));
    assert_int_equal(jsonscan_enter_array(&s), 0);
    for (; jsonscan_next_element(&s) == 1; elements++)
        assert_int_equal(jsonscan_value(&s, &value), 0);
    assert_int_equal(elements, 3);
    assert_int_equal(jsonscan_next_member(&s, &key), 1);
    assert_int_equal(jsonscan_enter_object(&s), 0);
    assert_int_equal(jsonscan_next_member(&s, &value), 0);
    assert_int_equal(jsonscan_next_member(&s, &key), 1);
    assert_int_equal(jsonscan_value(&s, &value), 0);
    assert_true(jsonscan_equals(&value, "x"));
    assert_int_equal(jsonscan_next_member(&s, &key), 0);
    assert_int_equal(s.depth, 0);
    assert_int_equal(jsonscan_end(&s), 0);
}

static void test_steps_refuse(void **state)
{
    (void)state;
    static const char *const objects[] = {"",           "[",     "{",     "{,", "{\"a\":1 \"b\":2}",
                                          "{\"a\":1,}", "{1:2}", "{\"a\""};
    static const char *const arrays[] = {"", "{", "[1 2]", "[1,]", "[1"};
    struct json_span span;
    struct jsonscan s;
    for (size_t i = 0; i < sizeof(objects) / sizeof(*objects); i++) {
        jsonscan_init(&s, objects[i], strlen(objects[i]));
        int rc = jsonscan_enter_object(&s);
        while (rc == 0 && (rc = jsonscan_next_member(&s, &span)) == 1)
            rc = jsonscan_value(&s, &span);
        assert_int_equal(rc, -EBADMSG);
    }
    for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++) {
        jsonscan_init(&s, arrays[i], strlen(arrays[i]));
        int rc = jsonscan_enter_array(&s);
        while (rc == 0 && (rc = jsonscan_next_element(&s)) == 1)
            rc = jsonscan_value(&s, &span);
        assert_int_equal(rc, -EBADMSG);
    }
}

static void expect_text(const char *text, const char *plain)
{
    struct json_span span;
    char to[128];
    assert_int_equal(scan(text, &span, false), 0);
    assert_int_equal(jsonscan_unescape(&span, to), strlen(plain));
    assert_memory_equal(to, plain, strlen(plain));
    assert_true(jsonscan_equals(&span, plain));
    /* In place. */
    snprintf(to, sizeof(to), "%s", text);
    span.at = to + (span.at - text);
    size_t size = jsonscan_unescape(&span, to + 1);
    assert_int_equal(size, strlen(plain));
    assert_memory_equal(to + 1, plain, size);
}

static void test_unescape(void **state)
{
    (void)state;
    expect_text("\"\"", "");
    expect_text("\"plain\"", "plain");
    expect_text("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
    expect_text("\"\\u0041\\u00e9\\u4e16\\ud83d\\ude00\\uDBFF\\uDFFF\"",
                "A\xc3\xa9\xe4\xb8\x96\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf");
    expect_text("\"a\\u003cb\\u003e\xc3\xa9\"", "a<b>\xc3\xa9");
}

static void test_equals(void **state)
{
    (void)state;
    struct json_span a, b;
    assert_int_equal(scan("\"abc\"", &a, false), 0);
    assert_false(jsonscan_equals(&a, "ab"));
    assert_false(jsonscan_equals(&a, "abcd"));
    assert_int_equal(scan("\"a\\u0062c\"", &b, false), 0);
    assert_true(jsonscan_equals(&b, "abc"));
    assert_false(jsonscan_equals(&b, "ab"));
    assert_false(jsonscan_equals(&b, "abcd"));
    assert_false(jsonscan_equals(&b, "xbc"));
    assert_true(jsonscan_same_text(&a, &b));
    assert_true(jsonscan_same_text(&b, &a));
    assert_int_equal(scan("\"\\ud83d\\ude00\"", &b, false), 0);
    assert_int_equal(scan("\"\xf0\x9f\x98\x80\"", &a, false), 0);
    assert_true(jsonscan_same_text(&a, &b));
    assert_int_equal(scan("\"\xf0\x9f\x98\x80!\"", &a, false), 0);
    assert_false(jsonscan_same_text(&a, &b));
    assert_false(jsonscan_same_text(&b, &a));
    assert_int_equal(scan("1", &a, false), 0);
    assert_false(jsonscan_equals(&a, "1"));
    assert_false(jsonscan_same_text(&a, &a));
}

static void test_integer(void **state)
{
    (void)state;
    struct json_span span;
    int64_t value;
    assert_int_equal(scan("-9223372036854775808", &span, false), 0);
    assert_int_equal(jsonscan_integer(&span, &value), 0);
    assert_true(value == INT64_MIN);
    assert_int_equal(scan("9223372036854775807", &span, false), 0);
    assert_int_equal(jsonscan_integer(&span, &value), 0);
    assert_true(value == INT64_MAX);
    assert_int_equal(scan("-0", &span, false), 0);
    assert_int_equal(jsonscan_integer(&span, &value), 0);
    assert_true(value == 0);
    assert_int_equal(scan("1.0", &span, false), 0);
    assert_int_equal(jsonscan_integer(&span, &value), -EINVAL);
}

static int find(const char *text, const char *first, const char *second, struct json_span *value)
{
    const char *path[] = {first, second, NULL};
    return jsonscan_find(text, strlen(text), path, value);
}

static void test_find(void **state)
{
    (void)state;
    static const char object[] =
        "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\",\"uid\":\"u\"},\"n\":null,"
        "\"log\":\"\\u0000\"}\n";
    struct json_span value;
    assert_int_equal(find(object, "metadata", "uid", &value), 0);
    assert_true(jsonscan_equals(&value, "u"));
    assert_int_equal(find(object, "kind", NULL, &value), 0);
    assert_true(jsonscan_equals(&value, "Pod"));
    assert_int_equal(find(object, "metadata", "nothing", &value), -ENOENT);
    assert_int_equal(find(object, "spec", "x", &value), -ENOENT);
    assert_int_equal(find(object, "kind", "x", &value), -ENOENT);
    assert_int_equal(find(object, "n", "x", &value), -ENOENT);
    assert_int_equal(find("[]", "a", NULL, &value), -EBADMSG);
    assert_int_equal(find("{\"a\":1} x", "a", NULL, &value), -EBADMSG);
    assert_int_equal(find("{\"a\":1,\"b\":}", "a", NULL, &value), -EBADMSG);
    assert_int_equal(find("{\"a\":1,\"\\u0061\":2}", "a", NULL, &value), -EBADMSG);
    assert_int_equal(find("{\"a\":{\"b\":1},\"a\":{}}", "a", "b", &value), -EBADMSG);
    assert_int_equal(find("{\"a\":1,\"b\":2,\"b\":2}", "a", NULL, &value), 0);
}

/* ---- against jansson ---- */

static void check(uint64_t seed, long round, const struct jsongen *g)
{
    char *copy = malloc(g->size ? g->size : 1); /* ends with the text */
    assert_non_null(copy);
    memcpy(copy, g->to, g->size);
    const char *wrong = jsonref_check_value(copy, g->size);
    free(copy);
    if (wrong)
        fail_msg("ISTHMUS_SEED=%llu round %ld: %s: %.*s", (unsigned long long)seed, round, wrong,
                 (int)g->size, g->to);
}

static void test_against_jansson(void **state)
{
    (void)state;
    static char text[4096];
    uint64_t seed = jsongen_seed();
    struct prng prng = {.state = seed};
    long rounds = jsongen_rounds(300000), accepted = 0;
    for (long round = 0; round < rounds; round++) {
        /* Room decides how long texts become: most are short, so that a mutation hits something. */
        struct jsongen g = {.prng = &prng, .to = text, .room = 1100 + prng_below(&prng, 300)};
        jsongen_value(&g, 1 + prng_below(&prng, 5));
        if (round % 2)
            jsongen_mutate(&g);
        check(seed, round, &g);
        accepted += jsonref_accepts(text, g.size, true);
    }
    /* Neither only valid texts nor only broken ones. */
    assert_in_range(accepted, rounds / 4, rounds * 9 / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_least_overflow),
        cmocka_unit_test(test_every_byte_everywhere),
        cmocka_unit_test(test_raw_nul_is_refused),
        cmocka_unit_test(test_accept_nul),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_depth_of_steps),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_steps_refuse),
        cmocka_unit_test(test_unescape),
        cmocka_unit_test(test_equals),
        cmocka_unit_test(test_integer),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_against_jansson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
