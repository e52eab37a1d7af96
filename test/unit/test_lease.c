/* Times of leases, and moving them ahead. */
#include "hub/lease.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-28T03:15:00.000001Z", 1795835700000001},
        {"2026-11-28T03:15:00.5Z", 1795835700500000},
        {"2026-11-28T03:15:00.123456789Z", 1795835700123456},
        {"2024-02-29T23:59:59.999999Z", 1709251199999999},
    };
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-11-28",
                                      "2026-11-28T03:15:00",
                                      "2026-11-28T03:15:00.Z",
                                      "2026-11-28T03:15:00+01:00",
                                      "2026-13-28T03:15:00Z",
                                      "2026-00-28T03:15:00Z",
                                      "2026-11-32T03:15:00Z",
                                      "2026-11-28T24:15:00Z",
                                      "2026-11-28T03:60:00Z",
                                      "2026-11-28T03:15:61Z",
                                      "1969-12-31T23:59:59Z",
                                      "2026-11-28 03:15:00Z",
                                      "2026-11-28T03:15:00.1234567890Z",
                                      "2026-11-28T03:15:00ZZ",
                                      "x026-11-28T03:15:00Z",
                                      "2026-1-28T03:15:00Z"};
    int64_t us;
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(0, lease_time_parse(good[i].text, &us));
        assert_int_equal(good[i].us, us);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(-EINVAL, lease_time_parse(bad[i], &us));
}

static void test_format_is_parse_backwards(void **state)
{
    char text[LEASE_TIME_BYTES];
    int64_t us;
    (void)state;
    srandom(1);
    for (int i = 0; i < 100000; i++) {
        int64_t wanted = ((int64_t)random() * 8) * 1000000 + random() % 1000000;
        lease_time_format(wanted, text);
        assert_int_equal(27, strlen(text));
        assert_int_equal(0, lease_time_parse(text, &us));
        assert_int_equal(wanted, us);
    }
}

static json_t *lease(const char *renewed)
{
    return json_pack("{s:{s:s}, s:{s:s, s:i}}", "metadata", "resourceVersion", "7", "spec",
                     "renewTime", renewed, "leaseDurationSeconds", 40);
}

static const char *renew_time(const json_t *l)
{
    return json_string_value(json_object_get(json_object_get(l, "spec"), "renewTime"));
}

static void test_advance(void **state)
{
    json_t *l = lease("2026-12-31T23:59:55.250000Z");
    (void)state;
    assert_int_equal(0, lease_advance(l, 10000));
    assert_string_equal("2027-01-01T00:00:05.250000Z", renew_time(l));
    json_decref(l);

    l = lease("yesterday");
    assert_int_equal(-EINVAL, lease_advance(l, 10000));
    assert_string_equal("yesterday", renew_time(l));
    json_decref(l);

    l = json_pack("{s:{}}", "spec");
    assert_int_equal(-EINVAL, lease_advance(l, 1));
    json_decref(l);
    l = json_array();
    assert_int_equal(-EINVAL, lease_advance(l, 1));
    json_decref(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_format_is_parse_backwards),
        cmocka_unit_test(test_advance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
