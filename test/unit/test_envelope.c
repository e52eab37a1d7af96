/* The envelope scanner: fields, refusals with their reasons, limits, and generated and mutated
 * messages held against jansson. */
#include "hub/envelope.h"
#include "test/lib/jsongen.h"
#include "test/lib/jsonref.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct envelope scanned(const char *text)
{
    struct envelope e;
    int rc = envelope_scan(text, strlen(text), &e);
    if (rc != 0)
        fail_msg("%s: %s", text, envelope_error_name(rc));
    return e;
}

static void expect_error(const char *text, enum envelope_error expected)
{
    struct envelope e;
    int rc = envelope_scan(text, strlen(text), &e);
    if (rc != -(int)expected)
        fail_msg("%s: %s instead of %s", text, envelope_error_name(rc),
                 envelope_error_names[expected]);
}

static void assert_text(const struct json_span *field, const char *text)
{
    char to[512];
    assert_int_equal(envelope_text(field, to, sizeof(to)), strlen(text));
    assert_string_equal(to, text);
}

static void test_all_fields(void **state)
{
    (void)state;
    struct envelope e = scanned(
        "{\"header\":{\"msg_id\":\"m\",\"parent_msg_id\":\"p\",\"timestamp\":1700000000002,"
        "\"resourceversion\":\"7\",\"sync\":true,\"type\":\"t\"},\"route\":{\"source\":\"s\","
        "\"destination\":\"d\",\"group\":\"g\",\"operation\":\"o\",\"resource\":\"a/b/c\"},"
        "\"content\":{\"x\":[1]}}\n");
    assert_text(&e.msg_id, "m");
    assert_text(&e.parent_msg_id, "p");
    assert_true(e.timestamp == 1700000000002);
    assert_text(&e.resource_version, "7");
    assert_true(e.sync);
    assert_text(&e.type, "t");
    assert_text(&e.source, "s");
    assert_text(&e.destination, "d");
    assert_text(&e.group, "g");
    assert_text(&e.operation, "o");
    assert_text(&e.resource, "a/b/c");
    assert_int_equal(e.content.kind, JSON_KIND_OBJECT);
    assert_int_equal(e.content.size, 9);
    assert_memory_equal(e.content.at, "{\"x\":[1]}", 9);
}

/* As EdgeCore writes one on its way out, and what Go would make of less. */
static void test_what_may_be_missing(void **state)
{
    (void)state;
    struct envelope e =
        scanned("{\"header\":{\"msg_id\":\"\",\"timestamp\":0},\"route\":{},\"content\":null}\n");
    assert_int_equal(e.msg_id.size, 0);
    assert_int_equal(e.operation.size, 0);
    assert_int_equal(e.content.kind, JSON_KIND_NULL);
    assert_int_equal(e.content.size, 4);
    e = scanned("{\"header\":{}}");
    assert_int_equal(e.msg_id.size, 0);
    assert_int_equal(e.content.kind, JSON_KIND_NULL);
    assert_int_equal(e.content.size, 0);
    e = scanned("{\"route\":null,\"header\":{\"msg_id\":null,\"timestamp\":null,\"sync\":null}}");
    assert_int_equal(e.msg_id.size, 0);
    assert_true(e.timestamp == 0);
    assert_false(e.sync);
}

static void test_any_order_and_unknown_keys(void **state)
{
    (void)state;
    struct envelope e =
        scanned(" {\"content\" : \"x\", "
                "\"extra\":{\"a\":1,\"a\":2},\"route\":{\"later\":[{}],\"resource\":\"r\"}"
                ",\"h\\u0065ader\":{\"n\":0,\"msg_id\":\"\\u0069d\"} } \r\n\t");
    assert_text(&e.msg_id, "id");
    assert_text(&e.resource, "r");
    assert_text(&e.content, "x");
}

static void test_nul_only_in_content(void **state)
{
    (void)state;
    struct envelope e = scanned("{\"header\":{},\"content\":{\"log\":\"a\\u0000b\"}}");
    assert_int_equal(e.content.kind, JSON_KIND_OBJECT);
    expect_error("{\"header\":{\"msg_id\":\"\\u0000\"}}", ENVELOPE_NOT_JSON);
    expect_error("{\"header\":{},\"other\":\"\\u0000\"}", ENVELOPE_NOT_JSON);
    expect_error("{\"header\":{},\"content\":1,\"other\":\"\\u0000\"}", ENVELOPE_NOT_JSON);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum envelope_error error;
    } cases[] = {
        {"", ENVELOPE_NOT_JSON},
        {"{", ENVELOPE_NOT_JSON},
        {"{\"header\":{}", ENVELOPE_NOT_JSON},
        {"{\"header\":{}}{}", ENVELOPE_NOT_JSON},
        {"{\"header\":{}} x", ENVELOPE_NOT_JSON},
        {"{\"header\":{},}", ENVELOPE_NOT_JSON},
        {"{\"header\":{\"msg_id\":\"a\",}}", ENVELOPE_NOT_JSON},
        {"{\"header\":{\"msg_id\"}}", ENVELOPE_NOT_JSON},
        {"{\"header\":{},\"content\":{\"a\":}}", ENVELOPE_NOT_JSON},
        {"{\"header\":{},\"content\":\"\xff\"}", ENVELOPE_NOT_JSON},
        {"{\"header\":{},\"content\":1e999}", ENVELOPE_NOT_JSON},
        {"{\"header\":{\"timestamp\":9223372036854775808}}", ENVELOPE_NOT_JSON},
        {"{\"header\":", ENVELOPE_NOT_JSON},
        {"[]", ENVELOPE_NOT_OBJECT},
        {"\"text\"", ENVELOPE_NOT_OBJECT},
        {"[", ENVELOPE_NOT_JSON},
        {"{}", ENVELOPE_NO_HEADER},
        {"{\"route\":{},\"content\":1}", ENVELOPE_NO_HEADER},
        {"{\"header\":null}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":[]}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":{},\"route\":\"x\"}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":{\"msg_id\":1}}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":{\"timestamp\":\"1\"}}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":{\"timestamp\":1.0}}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":{\"sync\":0}}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":{},\"route\":{\"resource\":{}}}", ENVELOPE_WRONG_TYPE},
        {"{\"header\":{},\"header\":{}}", ENVELOPE_DUPLICATE_KEY},
        {"{\"header\":{},\"content\":1,\"content\":1}", ENVELOPE_DUPLICATE_KEY},
        {"{\"header\":{\"msg_id\":\"a\",\"msg\\u005fid\":\"a\"}}", ENVELOPE_DUPLICATE_KEY},
        {"{\"header\":{},\"route\":{\"x\":1,\"\\u0078\":1}}", ENVELOPE_DUPLICATE_KEY},
        {"{\"header\":{},\"route\":{\"source\":null,\"source\":\"a\"}}", ENVELOPE_DUPLICATE_KEY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        expect_error(cases[i].text, cases[i].error);
}

static void with_text(char *to, size_t room, const char *before, size_t count, const char *after)
{
    size_t size = strlen(before);
    assert_true(size + count + strlen(after) < room);
    memcpy(to, before, size);
    memset(to + size, 'a', count);
    memcpy(to + size + count, after, strlen(after) + 1);
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        size_t max;
    } cases[] = {
        {"{\"header\":{\"msg_id\":\"", "\"}}", ENVELOPE_MAX_ID},
        {"{\"header\":{\"parent_msg_id\":\"", "\"}}", ENVELOPE_MAX_ID},
        {"{\"header\":{\"resourceversion\":\"", "\"}}", ENVELOPE_MAX_WORD},
        {"{\"header\":{},\"route\":{\"operation\":\"", "\"}}", ENVELOPE_MAX_WORD},
        {"{\"header\":{},\"route\":{\"resource\":\"", "\"}}", ENVELOPE_MAX_RESOURCE},
    };
    static char text[ENVELOPE_MAX_RESOURCE + 200];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        with_text(text, sizeof(text), cases[i].before, cases[i].max, cases[i].after);
        scanned(text);
        with_text(text, sizeof(text), cases[i].before, cases[i].max + 1, cases[i].after);
        expect_error(text, ENVELOPE_TOO_LONG);
    }
}

static void test_many_keys(void **state)
{
    (void)state;
    for (int count = ENVELOPE_MAX_UNKNOWN_KEYS; count <= ENVELOPE_MAX_UNKNOWN_KEYS + 1; count++) {
        char text[512] = "{\"header\":{";
        size_t size = strlen(text);
        for (int i = 0; i < count; i++)
            size += (size_t)snprintf(text + size, sizeof(text) - size, "\"k%d\":1,", i);
        snprintf(text + size, sizeof(text) - size, "\"msg_id\":\"x\"}}");
        if (count == ENVELOPE_MAX_UNKNOWN_KEYS)
            scanned(text);
        else
            expect_error(text, ENVELOPE_TOO_MANY_KEYS);
    }
}

static void test_depth(void **state)
{
    (void)state;
    for (int depth = JSONSCAN_MAX_DEPTH - 1; depth <= JSONSCAN_MAX_DEPTH; depth++) {
        char text[600] = "{\"header\":{},\"content\":";
        size_t size = strlen(text);
        memset(text + size, '[', (size_t)depth);
        memset(text + size + depth, ']', (size_t)depth);
        memcpy(text + size + 2 * depth, "}", 2);
        expect_error(text, depth < JSONSCAN_MAX_DEPTH ? ENVELOPE_OK : ENVELOPE_NOT_JSON);
    }
}

static void test_text(void **state)
{
    (void)state;
    char to[8];
    struct envelope e =
        scanned("{\"header\":{\"msg_id\":\"1234567\",\"type\":\"12345678\"},\"content\":\"\"}");
    assert_int_equal(envelope_text(&e.msg_id, to, sizeof(to)), 7);
    assert_string_equal(to, "1234567");
    assert_int_equal(envelope_text(&e.type, to, sizeof(to)), -ENOBUFS);
    assert_int_equal(envelope_text(&e.parent_msg_id, to, sizeof(to)), 0);
    assert_string_equal(to, "");
    e = scanned("{\"header\":{\"msg_id\":\"\\u0041\"}}");
    assert_int_equal(envelope_text(&e.msg_id, to, sizeof(to)), 1);
    assert_string_equal(to, "A");
}

static void test_error_names(void **state)
{
    (void)state;
    assert_string_equal(envelope_error_name(0), "ok");
    assert_string_equal(envelope_error_name(-ENVELOPE_TOO_LONG), "too_long");
    assert_string_equal(envelope_error_name(-1000), "unknown");
    assert_string_equal(envelope_error_name(1), "unknown");
}

/* ---- against jansson ---- */

static bool check(uint64_t seed, long round, const struct jsongen *g)
{
    int rc;
    char *copy = malloc(g->size ? g->size : 1); /* ends with the text */
    assert_non_null(copy);
    memcpy(copy, g->to, g->size);
    const char *wrong = jsonref_check_envelope(copy, g->size, &rc);
    free(copy);
    if (wrong)
        fail_msg("ISTHMUS_SEED=%llu round %ld: %s (%s): %.*s", (unsigned long long)seed, round,
                 wrong, envelope_error_name(rc), (int)g->size, g->to);
    return rc == 0;
}

static void test_against_jansson(void **state)
{
    (void)state;
    static char text[8192];
    uint64_t seed = jsongen_seed();
    struct prng prng = {.state = seed};
    long rounds = jsongen_rounds(150000), accepted = 0;
    for (long round = 0; round < rounds; round++) {
        struct jsongen g = {.prng = &prng, .to = text, .room = 3000};
        jsongen_envelope(&g);
        accepted += check(seed, round, &g);
        g.room = sizeof(text);
        jsongen_mutate(&g);
        accepted += check(seed, round, &g);
    }
    assert_in_range(accepted, rounds / 2, rounds * 9 / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_fields),
        cmocka_unit_test(test_what_may_be_missing),
        cmocka_unit_test(test_any_order_and_unknown_keys),
        cmocka_unit_test(test_nul_only_in_content),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_error_names),
        cmocka_unit_test(test_against_jansson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
