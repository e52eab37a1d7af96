/* Raw-bytes content: patches as strings and in base64, and the three forms of a pod's deletion. */
#include "hub/content.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/evp.h>

typedef int (*decode_cb)(const struct json_span *content, char *to, size_t *size);

/* Decodes a JSON value into a buffer of exactly the promised room, so that the sanitizers see a
 * byte too many. */
static int decode(decode_cb cb, const char *json, size_t extra, char *result)
{
    struct jsonscan s;
    struct json_span content;
    size_t size;
    jsonscan_init(&s, json, strlen(json));
    s.accept_nul = true;
    assert_int_equal(jsonscan_value(&s, &content), 0);
    char *to = malloc(content.size + extra ? content.size + extra : 1);
    assert_non_null(to);
    int rc = cb(&content, to, &size);
    if (rc == 0) {
        memcpy(result, to, size);
        result[size] = '\0';
    }
    free(to);
    return rc;
}

static void expect(decode_cb cb, size_t extra, const char *json, const char *expected)
{
    char result[512];
    int rc = decode(cb, json, extra, result);
    if (rc != 0)
        fail_msg("%s: %s", json, content_error_names[-rc]);
    assert_string_equal(result, expected);
}

static void expect_error(decode_cb cb, size_t extra, const char *json, enum content_error expected)
{
    char result[512];
    int rc = decode(cb, json, extra, result);
    if (rc != -(int)expected)
        fail_msg("%s: %d instead of %s", json, rc, content_error_names[expected]);
}

static void expect_patch(const char *json, const char *expected)
{
    expect(content_patch, 0, json, expected);
}

static void expect_delete(const char *json, const char *expected)
{
    expect(content_delete_options, CONTENT_DELETE_EXTRA, json, expected);
}

static void test_patch(void **state)
{
    (void)state;
    expect_patch("\"{}\"", "{}");
    expect_patch("\"{\\\"status\\\":{\\\"a\\\":\\\"\\u003c\\\\n\\\"}}\"",
                 "{\"status\":{\"a\":\"<\\n\"}}");
    expect_patch("\"eyJzdGF0dXMiOnsicGhhc2UiOiJSdW5uaW5nIn19\"",
                 "{\"status\":{\"phase\":\"Running\"}}");
    expect_patch("\"e30=\"", "{}");
    expect_patch("\"\\u007b}\"", "{}");
    expect_patch("{\"status\":{}}", "{\"status\":{}}");
}

static void test_patch_errors(void **state)
{
    (void)state;
    expect_error(content_patch, 0, "null", CONTENT_EMPTY);
    expect_error(content_patch, 0, "\"\"", CONTENT_EMPTY);
    expect_error(content_patch, 0, "[]", CONTENT_WRONG_TYPE);
    expect_error(content_patch, 0, "1", CONTENT_WRONG_TYPE);
    expect_error(content_patch, 0, "true", CONTENT_WRONG_TYPE);
    expect_error(content_patch, 0, "\"OK\"", CONTENT_NOT_BASE64);
    expect_error(content_patch, 0, "\" {}\"", CONTENT_NOT_BASE64);
    expect_error(content_patch, 0, "\"e30\"", CONTENT_NOT_BASE64);
    expect_error(content_patch, 0, "\"T0s=\"", CONTENT_NOT_OBJECT);
    expect_error(content_patch, 0, "\"\\n\"", CONTENT_NOT_BASE64);
}

static void test_patch_in_place(void **state)
{
    (void)state;
    static const char *const texts[] = {"\"{\\\"a\\\":1}\"", "\"{\\u0022a\\u0022:1}\"",
                                        "\"eyJhIjoxfQ==\"", "{\"a\":1}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        char text[64];
        struct jsonscan s;
        struct json_span content;
        size_t size;
        snprintf(text, sizeof(text), "%s", texts[i]);
        jsonscan_init(&s, text, strlen(text));
        assert_int_equal(jsonscan_value(&s, &content), 0);
        assert_int_equal(content_patch(&content, text + (content.at - text), &size), 0);
        assert_int_equal(size, 7);
        assert_memory_equal(content.at, "{\"a\":1}", 7);
    }
}

static void test_delete(void **state)
{
    (void)state;
    expect_delete("{\"gracePeriodSeconds\":0}", "{\"gracePeriodSeconds\":0}");
    expect_delete("\"{\\\"gracePeriodSeconds\\\":0}\"", "{\"gracePeriodSeconds\":0}");
    expect_delete("\"eyJncmFjZVBlcmlvZFNlY29uZHMiOjB9\"", "{\"gracePeriodSeconds\":0}");
    expect_delete("\"e30=\"", "{}");
    expect_delete("\"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\"",
                  "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"aaaaaaaa-bbbb-4ccc-8ddd-"
                  "eeeeeeeeeeee\"}}");
    /* A static pod's: all hexadecimal digits, which base64 knows too. */
    expect_delete("\"0123456789abcdef0123456789abcdef\"",
                  "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":"
                  "\"0123456789abcdef0123456789abcdef\"}}");
}

static void test_delete_errors(void **state)
{
    (void)state;
    const size_t extra = CONTENT_DELETE_EXTRA;
    expect_error(content_delete_options, extra, "null", CONTENT_EMPTY);
    expect_error(content_delete_options, extra, "\"\"", CONTENT_EMPTY);
    expect_error(content_delete_options, extra, "[1]", CONTENT_WRONG_TYPE);
    expect_error(content_delete_options, extra, "\"OK\"", CONTENT_BAD_UID);
    expect_error(content_delete_options, extra, "\"T0tPSw==\"", CONTENT_BAD_UID);
    expect_error(content_delete_options, extra, "\"aaaaaaaa-bbbb\\\",\\\"x\\\":\\\"\"",
                 CONTENT_BAD_UID);
    expect_error(content_delete_options, extra, "\"web-0/../../nodes/n\"", CONTENT_BAD_UID);
    expect_error(content_delete_options, extra, "\"\\u0000aaaaaaa\"", CONTENT_BAD_UID);
}

static void test_base64_refuses(void **state)
{
    (void)state;
    static const char *const texts[] = {"A",
                                        "AA",
                                        "AAA",
                                        "A===",
                                        "AA=A",
                                        "=AAA",
                                        "====",
                                        "AAAA=",
                                        "AB==",
                                        "AAB=",
                                        "AA==AAAA",
                                        "AA A",
                                        "AA-_",
                                        "AAA\n",
                                        "AAAA\n\n\n\n",
                                        "\xc3\xa9"
                                        "AA"};
    char to[64];
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (content_base64(texts[i], strlen(texts[i]), to) != -EBADMSG)
            fail_msg("%s was accepted", texts[i]);
    assert_int_equal(content_base64("", 0, to), 0);
}

/* Every length, against OpenSSL's encoder. */
static void test_base64(void **state)
{
    (void)state;
    unsigned char bytes[96];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 37 + 200);
    for (size_t size = 0; size <= sizeof(bytes); size++) {
        unsigned char text[160];
        int text_size = EVP_EncodeBlock(text, bytes, (int)size);
        char *to = malloc(size ? size : 1); /* what is decoded, not a byte more */
        assert_non_null(to);
        assert_int_equal(content_base64((char *)text, (size_t)text_size, to), size);
        assert_memory_equal(to, bytes, size);
        free(to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patch),          cmocka_unit_test(test_patch_errors),
        cmocka_unit_test(test_patch_in_place), cmocka_unit_test(test_delete),
        cmocka_unit_test(test_delete_errors),  cmocka_unit_test(test_base64_refuses),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
