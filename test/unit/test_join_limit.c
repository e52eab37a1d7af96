/* How often may be asked without a certificate. */
#include "hub/join_limit.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct join_limit limit;

static struct in6_addr address(const char *text)
{
    struct in6_addr a;
    assert_int_equal(1, inet_pton(AF_INET6, text, &a));
    return a;
}

static enum join_limit_verdict take(const char *text, uint64_t now_ms)
{
    const struct in6_addr a = address(text);
    return join_limit_take(&limit, &a, now_ms);
}

static unsigned taken(const char *text, uint64_t now_ms)
{
    unsigned n = 0;
    while (take(text, now_ms) == JOIN_LIMIT_PASSES)
        n++;
    return n;
}

static void test_each_address_has_its_own(void **state)
{
    (void)state;
    join_limit_init(&limit, 1000, 5, 2, 7, 0);
    assert_int_equal(10, taken("::ffff:192.0.2.1", 0));
    assert_int_equal(JOIN_LIMIT_ADDRESS, take("::ffff:192.0.2.1", 0));
    assert_int_equal(10, taken("::ffff:192.0.2.2", 0));
    assert_int_equal(5, taken("::ffff:192.0.2.1", 1000));
    assert_int_equal(10, taken("::ffff:192.0.2.1", 60000));
}

/* Whoever has one IPv6 address has 2^64 of them. */
static void test_a_network_is_one_address(void **state)
{
    (void)state;
    join_limit_init(&limit, 1000, 5, 2, 7, 0);
    assert_int_equal(10, taken("2001:db8::1", 0));
    assert_int_equal(JOIN_LIMIT_ADDRESS, take("2001:db8::ffff:2", 0));
    assert_int_equal(10, taken("2001:db8:0:1::1", 0));
}

static void test_all_together(void **state)
{
    (void)state;
    join_limit_init(&limit, 6, 5, 2, 7, 0);
    assert_int_equal(10, taken("::ffff:192.0.2.1", 0));
    assert_int_equal(2, taken("::ffff:192.0.2.2", 0));
    assert_int_equal(JOIN_LIMIT_ALL, take("::ffff:192.0.2.2", 0));
    /* What its own limit refuses costs the others nothing. */
    assert_int_equal(JOIN_LIMIT_ADDRESS, take("::ffff:192.0.2.1", 0));
    assert_int_equal(6, taken("::ffff:192.0.2.3", 1000));
}

static void test_no_limit(void **state)
{
    (void)state;
    join_limit_init(&limit, 0, 0, 4, 7, 0);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(JOIN_LIMIT_PASSES, take("::ffff:192.0.2.1", 0));
}

/* More addresses than there is room for: the limit of all holds, and one that asks all the time is
 * not forgotten. */
static void test_many_addresses(void **state)
{
    unsigned passed = 0, busy = 0;
    (void)state;
    join_limit_init(&limit, 100, 1, 1, 7, 0);
    for (unsigned i = 0; i < 20000; i++) {
        char text[64];
        uint64_t now_ms = i / 20;
        snprintf(text, sizeof(text), "2001:db8:%x:%x::1", i >> 8, i & 255);
        passed += take(text, now_ms) == JOIN_LIMIT_PASSES;
        if (i % 20 == 0)
            busy += take("::ffff:192.0.2.1", now_ms) != JOIN_LIMIT_ADDRESS;
    }
    assert_in_range(passed + busy, 190, 210);
    assert_in_range(busy, 1, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_address_has_its_own),
        cmocka_unit_test(test_a_network_is_one_address),
        cmocka_unit_test(test_all_together),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_many_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
