/* Who should hold how many: sums, largest remainders, room, who has no share, extreme records. */
#include "test/lib/fleet.h"
#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct fleet f;

static void compute(void)
{
    balancer_shares_compute(&f.shares, &f.view, &f.config);
}

static uint64_t sum_expected(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < f.view.record_count; i++)
        sum += f.shares.expected[i];
    return sum;
}

static void test_even(void **state)
{
    (void)state;
    fleet_init(&f, 3, (uint32_t[]){300, 0, 0});
    f.view.named_in_flight = 20;
    f.view.anonymous_in_flight = 10;
    compute();
    assert_int_equal(f.shares.total, 330);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(f.shares.expected[i], 110);
}

static void test_by_weight(void **state)
{
    (void)state;
    fleet_init(&f, 3, (uint32_t[]){400, 0, 0});
    f.records[1].weight = 200;
    compute();
    assert_int_equal(f.shares.expected[0], 100);
    assert_int_equal(f.shares.expected[1], 200);
    assert_int_equal(f.shares.expected[2], 100);
}

static void test_largest_remainder(void **state)
{
    (void)state;
    /* 10 by 1:1:4 is 1.67, 1.67, 6.67: equal remainders go to who holds more already. */
    fleet_init(&f, 3, (uint32_t[]){0, 3, 7});
    f.records[2].weight = 400;
    compute();
    assert_int_equal(f.shares.expected[0], 1);
    assert_int_equal(f.shares.expected[1], 2);
    assert_int_equal(f.shares.expected[2], 7);
}

static void test_rounding_moves_nobody(void **state)
{
    (void)state;
    fleet_init(&f, 4, (uint32_t[]){5, 6, 5, 6});
    compute();
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(f.shares.expected[i], f.records[i].live);
}

static void test_sums_always_add_up(void **state)
{
    (void)state;
    srand(4);
    for (int run = 0; run < 20000; run++) {
        uint32_t live[FLEET_MAX];
        size_t count = 1 + (size_t)rand() % FLEET_MAX;
        for (size_t i = 0; i < FLEET_MAX; i++)
            live[i] = (uint32_t)rand() % (rand() % 2 ? 7 : BALANCER_LIVE_MAX);
        fleet_init(&f, count, live);
        for (size_t i = 0; i < count; i++) {
            f.records[i].weight = 1 + (uint32_t)rand() % BALANCER_WEIGHT_MAX;
            f.records[i].room = (uint32_t)rand() % (rand() % 2 ? 5 : BALANCER_LIVE_MAX);
        }
        f.view.named_in_flight = (uint32_t)rand() % 1000;
        compute();
        assert_true(sum_expected() == f.shares.total);
    }
}

static void test_full_replica_is_filled_up(void **state)
{
    (void)state;
    fleet_init(&f, 3, (uint32_t[]){300, 10, 0});
    f.records[1].room = 10;
    compute();
    assert_int_equal(f.shares.expected[1], 20);
    assert_int_equal(f.shares.expected[0], 145);
    assert_int_equal(f.shares.expected[2], 145);
}

static void test_no_room_anywhere(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){10, 10});
    f.records[0].room = f.records[1].room = 0;
    f.view.named_in_flight = 10;
    compute();
    assert_int_equal(f.shares.expected[0], 15);
    assert_int_equal(f.shares.expected[1], 15);
}

/* Counted, but without a share. */
static void expect_no_taker(size_t i)
{
    compute();
    assert_false(f.shares.is_taker[i]);
    assert_int_equal(f.shares.expected[i], 0);
    assert_true(sum_expected() == f.shares.total);
    assert_int_equal(f.shares.total, 300);
}

static void test_without_share(void **state)
{
    (void)state;
    uint32_t live[] = {100, 100, 100};
    fleet_init(&f, 3, live);
    f.records[1].state = BALANCER_DRAINING;
    expect_no_taker(1);
    fleet_init(&f, 3, live);
    f.records[1].state = BALANCER_STARTING;
    expect_no_taker(1);
    fleet_init(&f, 3, live);
    f.records[1].version = BALANCER_RECORD_VERSION + 1;
    expect_no_taker(1);
    fleet_init(&f, 3, live);
    f.records[1].seen_server_ms -= 8000; /* missed a beat */
    expect_no_taker(1);
    fleet_init(&f, 3, live);
    f.records[1].since_server_ms = f.view.server_ms - 1000; /* just came */
    expect_no_taker(1);
    fleet_init(&f, 3, live);
    strcpy(f.records[2].id, "r1"); /* the younger of two with one id */
    expect_no_taker(2);
}

static void test_nobody_takes(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){5, 6});
    f.records[0].state = f.records[1].state = BALANCER_DRAINING;
    compute();
    assert_int_equal(f.shares.taker_count, 0);
    assert_int_equal(f.shares.total, 11);
    assert_int_equal(sum_expected(), 0);
}

static void test_extremes_do_not_overflow(void **state)
{
    static struct balancer_record records[BALANCER_REPLICAS_MAX];
    (void)state;
    fleet_init(&f, 1, (uint32_t[]){BALANCER_LIVE_MAX});
    for (size_t i = 0; i < BALANCER_REPLICAS_MAX; i++) {
        records[i] = f.records[0];
        records[i].weight = i % 2 ? BALANCER_WEIGHT_MAX : 1;
        records[i].id[0] = (char)('A' + i / 64);
        records[i].id[1] = (char)('0' + i % 64);
    }
    f.view.records = records;
    f.view.record_count = BALANCER_REPLICAS_MAX;
    f.view.named_in_flight = f.view.anonymous_in_flight = 1000000000;
    compute();
    assert_true(sum_expected() == f.shares.total);
    assert_true(f.shares.total ==
                2000000000u + BALANCER_REPLICAS_MAX * (uint64_t)BALANCER_LIVE_MAX);
}

static bool is_sane(const struct balancer_record *r)
{
    return balancer_record_is_sane(r, &f.view, &f.config);
}

static void test_forged_records(void **state)
{
    (void)state;
    fleet_init(&f, 1, (uint32_t[]){5});
    struct balancer_record good = f.records[0], r = good;
    assert_true(is_sane(&r));
    r.live = BALANCER_LIVE_MAX + 1;
    assert_false(is_sane(&r));
    r = good, r.weight = 0;
    assert_false(is_sane(&r));
    r = good, r.weight = BALANCER_WEIGHT_MAX + 1;
    assert_false(is_sane(&r));
    r = good, r.room = UINT32_MAX;
    assert_false(is_sane(&r));
    r = good, r.since_server_ms = r.seen_server_ms + 1;
    assert_false(is_sane(&r));
    r = good, r.seen_server_ms += f.config.period_ms + 1;
    assert_false(is_sane(&r));
    r = good, r.seen_server_ms = UINT64_MAX;
    assert_false(is_sane(&r));
    r = good, r.state = (enum balancer_state)7;
    assert_false(is_sane(&r));
    r = good, r.mode = (enum balancer_mode)7;
    assert_false(is_sane(&r));
    r = good, r.id[0] = '\0';
    assert_false(is_sane(&r));
    r = good, r.id[1] = ' ';
    assert_false(is_sane(&r));
    r = good, memset(r.id, 'x', sizeof(r.id)); /* no end */
    assert_false(is_sane(&r));
    r = good, r.version = 9, r.weight = 0; /* means who knows what in another version */
    assert_true(is_sane(&r));
    r.live = BALANCER_LIVE_MAX + 1;
    assert_false(is_sane(&r));
}

static void test_tolerance(void **state)
{
    (void)state;
    fleet_init(&f, 1, (uint32_t[]){5});
    assert_int_equal(balancer_tolerance(&f.config, 0), 1);
    assert_int_equal(balancer_tolerance(&f.config, 39), 1);
    assert_int_equal(balancer_tolerance(&f.config, 40), 2);
    assert_int_equal(balancer_tolerance(&f.config, 1000), 50);
    assert_int_equal(balancer_tolerance(&f.config, UINT32_MAX), UINT32_MAX / 20);
}

static void test_needs_no_memory(void **state)
{
    (void)state;
    fleet_init(&f, 8, (uint32_t[]){1, 2, 3, 4, 5, 6, 7, 80});
    heap_fail_nth(1);
    compute();
    assert_false(heap_fail_end());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even),
        cmocka_unit_test(test_by_weight),
        cmocka_unit_test(test_largest_remainder),
        cmocka_unit_test(test_rounding_moves_nobody),
        cmocka_unit_test(test_sums_always_add_up),
        cmocka_unit_test(test_full_replica_is_filled_up),
        cmocka_unit_test(test_no_room_anywhere),
        cmocka_unit_test(test_without_share),
        cmocka_unit_test(test_nobody_takes),
        cmocka_unit_test(test_extremes_do_not_overflow),
        cmocka_unit_test(test_forged_records),
        cmocka_unit_test(test_tolerance),
        cmocka_unit_test(test_needs_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
