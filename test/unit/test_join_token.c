/* Join tokens: made byte for byte as CloudCore makes them (the expected texts come from Python's
 * hmac over what golang-jwt signs), and judged. */
#include "hub/join_token.h"
#include "test/lib/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define EXPIRES 1767225600
#define HASH    "22048d04fc6ebdfce430fd772ef147c6a89000dd5b6a230c618f787a07006eb4"
#define HS256   "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
#define CLAIMS  "eyJleHAiOjE3NjcyMjU2MDB9"
#define JWT     HS256 "." CLAIMS ".Yl7QN_g0_TjgLF9GTJovScQh7RhHPM6uBemoIMMTagE"
/* With HS512, a fraction, and nbf 1767220000. */
#define JWT_512                                                                                    \
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3NjcyMjU2MDAuNSwibmJmIjoxNzY3MjIwMDAwfQ."     \
    "b92ihzkeH5ONKvVS-_yH1tiTfw8dNvf3VkUy1KrEbfICj4CnCQKeBDpsPm9dQviS9VeujOvnyYhmO2TvQm_nIA"
#define JWT_384                                                                                    \
    "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9." CLAIMS                                                 \
    ".vT1GBCmt4sYMNADWupQdquR8anqvwPRKh47ucDfAkavhzIdvWKpHqLLQgufVQBzJ"

static unsigned char key_bytes[121];
static unsigned char ca_bytes[] = "not a certificate, but bytes";
static const struct secret_bytes key = {key_bytes, sizeof(key_bytes)};
static const struct secret_bytes ca = {ca_bytes, sizeof(ca_bytes) - 1};

static int fill_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(key_bytes); i++)
        key_bytes[i] = (unsigned char)(i + 1);
    return 0;
}

static enum join_token_verdict verify(const char *jwt, int64_t now_s)
{
    /* Without a NUL behind it, so that a sanitizer sees every byte too many. */
    size_t size = strlen(jwt);
    char *exact = malloc(size ? size : 1);
    memcpy(exact, jwt, size);
    enum join_token_verdict verdict = join_token_verify(exact, size, &key, now_s);
    free(exact);
    return verdict;
}

static void test_made_as_cloudcore_does(void **state)
{
    char *token;
    (void)state;
    assert_int_equal(0, join_token_create(&ca, &key, EXPIRES, &token));
    assert_string_equal(HASH "." JWT, token);
    secret_text_free(token);
}

static void test_algorithms_and_times(void **state)
{
    (void)state;
    assert_int_equal(TOKEN_VALID, verify(JWT, EXPIRES - 1));
    assert_int_equal(TOKEN_EXPIRED, verify(JWT, EXPIRES));
    assert_int_equal(TOKEN_VALID, verify(JWT_384, EXPIRES - 1));
    assert_int_equal(TOKEN_VALID, verify(JWT_512, EXPIRES));
    assert_int_equal(TOKEN_EXPIRED, verify(JWT_512, EXPIRES + 1));
    assert_int_equal(TOKEN_EXPIRED, verify(JWT_512, 1767219999));
}

static void test_malformed(void **state)
{
    static const char *const malformed[] = {
        "",
        ".",
        "..",
        "...",
        "abc",
        HS256 "." CLAIMS,                                                /* unsigned */
        JWT ".",                                                         /* four parts */
        JWT "=",                                                         /* padded */
        HS256 "." CLAIMS ".Yl7QN/g0/TjgLF9GTJovScQh7RhHPM6uBemoIMMTagE", /* not the URL alphabet */
        HS256 ".e30.\xff\xff",
        /* Signed, but: no exp, exp as a text, a claim twice, claims that are an array. */
        HS256 ".e30.avILm05_ovUNP84yuIhl5jmFQEs_x3G49eeX1wUYpL4",
        HS256 ".eyJleHAiOiIxNzY3MjI1NjAwIn0.NO7B4M1Wdd2brEhAk5PBUWbA8K42ELaepKq_Tx3tChU",
        HS256 ".eyJleHAiOjE3NjcyMjU2MDAsImV4cCI6MX0.vysJAHqKgvtR51Z7Tzld7uvXF4KTw7twD54UwpyZGAw",
        HS256 ".WzFd.ffRa6jApzgX1qXmgrbKwWM0EzMMUfDRFvVHIhryc2dM",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        enum join_token_verdict verdict = verify(malformed[i], 0);
        if (verdict != TOKEN_MALFORMED)
            fail_msg("'%s' gave %d", malformed[i], verdict);
    }
    char *huge = malloc(JOIN_TOKEN_MAX_BYTES + 2);
    memset(huge, 'A', JOIN_TOKEN_MAX_BYTES + 1);
    huge[1] = huge[3] = '.';
    assert_int_equal(TOKEN_MALFORMED, join_token_verify(huge, JOIN_TOKEN_MAX_BYTES + 1, &key, 0));
    free(huge);
}

static void test_algorithms_that_are_none(void **state)
{
    (void)state;
    assert_int_equal(TOKEN_ALGORITHM, verify("eyJhbGciOiJub25lIn0." CLAIMS ".AAAA", 0));
    assert_int_equal(TOKEN_ALGORITHM, verify("e30." CLAIMS ".AAAA", 0));
    /* {"alg":"HS256","crit":["x"]}, signed */
    assert_int_equal(TOKEN_ALGORITHM, verify("eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieCJdfQ." CLAIMS
                                             ".pWxO8gJnvJDGG72-p17bEIcJwZzslB2aeDhJi-fRk1s",
                                             0));
}

static void test_wrong_signatures(void **state)
{
    (void)state;
    /* One bit of the last byte; the claims of another; a signature cut short; the right one of
     * another hash. */
    assert_int_equal(TOKEN_SIGNATURE,
                     verify(HS256 "." CLAIMS ".Yl7QN_g0_TjgLF9GTJovScQh7RhHPM6uBemoIMMTagA", 0));
    assert_int_equal(
        TOKEN_SIGNATURE,
        verify(HS256 ".eyJleHAiOjE5NjcyMjU2MDB9.Yl7QN_g0_TjgLF9GTJovScQh7RhHPM6uBemoIMMTagE", 0));
    assert_int_equal(TOKEN_SIGNATURE, verify(HS256 "." CLAIMS ".Yl7Q", 0));
    assert_int_equal(
        TOKEN_SIGNATURE,
        verify(HS256 "." CLAIMS ".vT1GBCmt4sYMNADWupQdquR8anqvwPRKh47ucDfAkavhzIdvWKpHqLLQgufVQBzJ",
               0));
    key_bytes[0]++;
    assert_int_equal(TOKEN_SIGNATURE, verify(JWT, 0));
    key_bytes[0]--;
}

static bool is_good(const char *token, int64_t now_s, int64_t margin_s)
{
    return join_token_is_good(token, strlen(token), &ca, &key, now_s, margin_s);
}

static void test_stored_tokens(void **state)
{
    int64_t expires_s;
    (void)state;
    assert_true(is_good(HASH "." JWT, EXPIRES - 101, 100));
    assert_false(is_good(HASH "." JWT, EXPIRES - 100, 100));
    assert_false(
        is_good("32048d04fc6ebdfce430fd772ef147c6a89000dd5b6a230c618f787a07006eb4." JWT, 0, 0));
    assert_false(is_good(JWT, 0, 0));
    assert_false(is_good(HASH, 0, 0));
    assert_false(is_good("", 0, 0));

    assert_int_equal(0, join_token_expiry(HASH "." JWT, strlen(HASH "." JWT), &expires_s));
    assert_int_equal(EXPIRES, expires_s);
    assert_int_equal(-EBADMSG, join_token_expiry("no token", 8, &expires_s));
    assert_int_equal(-EBADMSG, join_token_expiry("a.b.c.d", 7, &expires_s));
}

static void test_without_memory(void **state)
{
    char *token;
    (void)state;
    for (unsigned n = 1;; n++) {
        heap_fail_nth(n);
        int rc = join_token_create(&ca, &key, EXPIRES, &token);
        if (!heap_fail_end()) {
            assert_int_equal(0, rc);
            secret_text_free(token);
            break;
        }
        assert_int_equal(-ENOMEM, rc);
    }
    for (unsigned n = 1;; n++) {
        heap_fail_nth(n);
        enum join_token_verdict verdict = join_token_verify(JWT, strlen(JWT), &key, 0);
        if (!heap_fail_end()) {
            assert_int_equal(TOKEN_VALID, verdict);
            break;
        }
        assert_int_equal(TOKEN_NO_MEMORY, verdict);
    }
}

static void test_bytes(void **state)
{
    struct secret_bytes bytes = {0};
    (void)state;
    assert_int_equal(0, secret_bytes_from_base64(&bytes, "AAEC/w==", 8));
    assert_int_equal(4, bytes.size);
    assert_memory_equal("\x00\x01\x02\xff", bytes.at, 4);
    char *text = secret_base64(bytes.at, bytes.size);
    assert_string_equal("AAEC/w==", text);
    secret_text_free(text);
    secret_bytes_free(&bytes);
    assert_null(bytes.at);
    secret_bytes_free(&bytes);
    assert_int_equal(-EBADMSG, secret_bytes_from_base64(&bytes, "", 0));
    assert_int_equal(-EBADMSG, secret_bytes_from_base64(&bytes, "AAE", 3));
    assert_int_equal(-EBADMSG, secret_bytes_from_base64(&bytes, "AA\nC", 4));
    text = secret_text_printf("%s-%d", "x", 7);
    assert_string_equal("x-7", text);
    secret_text_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_as_cloudcore_does),
        cmocka_unit_test(test_algorithms_and_times),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_algorithms_that_are_none),
        cmocka_unit_test(test_wrong_signatures),
        cmocka_unit_test(test_stored_tokens),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, fill_key, NULL);
}
