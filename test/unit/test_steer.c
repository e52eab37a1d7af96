/* Who is sent on to another replica, and how often. */
#include "hub/steer.h"

#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct balancer_config config = BALANCER_CONFIG_DEFAULT;
static const struct balancer_decision refusing = {.is_refusing = true};
static const struct balance_flight flights[] = {
    {.node = "edge-1", .refusals = 1, .is_bridged = true, .since_release_ms = 31000},
    {.node = "edge-2", .refusals = 0, .is_bridged = false, .since_release_ms = 31000},
    {.node = "edge-3", .refusals = 3, .is_bridged = true, .since_release_ms = 31000},
};

static bool refuses(struct steer *s, const char *node, uint64_t now_ms)
{
    struct node_name *n = node_name_create(node, strlen(node), false);
    bool is = steer_refuses(s, n, now_ms);
    node_name_put(n);
    return is;
}

static void test_only_bridged_ones_in_flight_and_not_too_often(void **state)
{
    struct steer *s = steer_create(&config, &refusing, flights, 3, 1000);
    (void)state;
    assert_non_null(s);
    assert_true(refuses(s, "edge-1", 1000)); /* the second of three */
    assert_true(refuses(s, "edge-1", 6000));
    assert_false(refuses(s, "edge-1", 11000));
    assert_false(refuses(s, "edge-2", 1000));
    assert_false(refuses(s, "edge-3", 1000));
    assert_false(refuses(s, "edge-4", 1000)); /* not in flight: the victim of a crash, or new */
    steer_put(s);
}

static void test_time_goes_on(void **state)
{
    struct steer *s = steer_create(&config, &refusing, flights, 1, 1000);
    (void)state;
    /* 31 s on its way at 1 s: by 45 s no refusal is left in the time that three of them take */
    assert_false(refuses(s, "edge-1", 1000 + 14000));
    assert_true(refuses(s, "edge-1", 1000 + 13999));
    steer_put(s);
}

static void test_not_when_the_decision_says_no(void **state)
{
    const struct balancer_decision calm = {.is_refusing = false};
    struct steer *s = steer_create(&config, &calm, flights, 3, 0);
    (void)state;
    assert_false(refuses(s, "edge-1", 0));
    steer_put(steer_get(s));
    steer_put(s);
    steer_put(NULL);
}

static void test_without_memory(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        heap_fail_nth(n);
        struct steer *s = steer_create(&config, &refusing, flights, 3, 0);
        bool has_failed = heap_fail_end();
        assert_true(has_failed == !s);
        steer_put(s);
        if (!has_failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_bridged_ones_in_flight_and_not_too_often),
        cmocka_unit_test(test_time_goes_on),
        cmocka_unit_test(test_not_when_the_decision_says_no),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
