/* The balancer's books: what is told in which batch, that live_told always fits what was told, and
 * that nothing is lost without memory. */
#include "balancer/ledger.h"

#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct ledger l;

static int set_up(void **state)
{
    (void)state;
    ledger_init(&l);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ledger_fini(&l);
    return 0;
}

static void expect_batch(size_t arrived, size_t bridged, size_t released, uint32_t lost,
                         int64_t live_told)
{
    assert_int_equal(l.arrived.sent, arrived);
    assert_int_equal(l.bridged.sent, bridged);
    assert_int_equal(l.released.sent, released);
    assert_int_equal(l.sent_lost, lost);
    assert_int_equal(l.live_told, live_told);
}

static void test_batches(void **state)
{
    (void)state;
    ledger_freeze(&l, false);
    assert_int_equal(l.seq, 1);
    expect_batch(0, 0, 0, 0, 0);
    ledger_acknowledge(&l);
    assert_false(ledger_arrived(&l, "a"));
    assert_false(ledger_arrived(&l, "b"));
    assert_int_equal(l.live, 2);
    assert_int_equal(l.live_told, 0);
    ledger_freeze(&l, false);
    expect_batch(2, 0, 0, 0, 2);
    assert_string_equal(l.arrived.items[0], "a");
    /* Not acknowledged: what comes now waits, and the same batch goes again. */
    ledger_released(&l, "a", true, true, 10);
    ledger_lost(&l, 1);
    ledger_freeze(&l, false);
    assert_int_equal(l.seq, 2);
    assert_int_equal(l.acked, 1);
    assert_int_equal(l.live, 0);
    expect_batch(2, 0, 0, 0, 2);
    ledger_acknowledge(&l);
    ledger_freeze(&l, false);
    expect_batch(0, 1, 0, 1, 0);
    assert_string_equal(l.bridged.items[0], "a");
    assert_int_equal(l.bridged.at_ms[0], 10);
    assert_true(l.sent_moves);
    ledger_acknowledge(&l);
    assert_int_equal(ledger_unreported(&l), 0);
}

static void test_own_returns(void **state)
{
    (void)state;
    ledger_arrived(&l, "a");
    ledger_arrived(&l, "b");
    ledger_arrived(&l, "c");
    ledger_freeze(&l, false);
    ledger_acknowledge(&l);
    ledger_released(&l, "a", true, true, 1000);
    ledger_released(&l, "b", false, true, 2000);
    ledger_released(&l, "c", false, true, 3000);
    assert_true(ledger_arrived(&l, "b")); /* before anybody heard of it */
    ledger_freeze(&l, false);
    expect_batch(0, 1, 1, 0, 1);
    ledger_acknowledge(&l);
    ledger_prune(&l, 91001, 90000);
    assert_false(ledger_arrived(&l, "a")); /* too long ago */
    assert_true(ledger_arrived(&l, "c"));
    ledger_freeze(&l, false);
    expect_batch(2, 0, 0, 0, 3);
    ledger_acknowledge(&l);
    assert_false(ledger_arrived(&l, "c")); /* once */
}

/* What does not add up is said, and does no harm. */
static void test_more_than_there_are(void **state)
{
    (void)state;
    ledger_arrived(&l, "a");
    assert_false(ledger_lost(&l, 3));
    assert_int_equal(l.live, 0);
    assert_false(ledger_released(&l, "a", true, true, 1));
    ledger_freeze(&l, false);
    expect_batch(1, 0, 0, 1, 0);
}

/* Whether any was let go to balance goes with the batch that names them, and with what is left. */
static void test_moves(void **state)
{
    (void)state;
    char name[32];
    for (size_t i = 0; i < LEDGER_BATCH_NAMES + 1; i++) {
        snprintf(name, sizeof(name), "n%zu", i);
        ledger_arrived(&l, name);
        ledger_released(&l, name, true, i == 0, 1);
    }
    ledger_freeze(&l, false);
    assert_true(l.sent_moves);
    ledger_acknowledge(&l);
    ledger_freeze(&l, false);
    assert_true(l.sent_moves);
    ledger_acknowledge(&l);
    ledger_freeze(&l, false);
    assert_false(l.sent_moves);
    ledger_acknowledge(&l);
    ledger_arrived(&l, "a");
    ledger_released(&l, "a", true, false, 1);
    ledger_freeze(&l, false);
    assert_false(l.sent_moves);
}

static void test_replaced(void **state)
{
    (void)state;
    ledger_arrived(&l, "a");
    ledger_replaced(&l, "a");
    assert_int_equal(l.live, 1);
    ledger_freeze(&l, false);
    expect_batch(2, 0, 0, 1, 1);
}

static void arrive_many(size_t count)
{
    char name[32];
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "n%zu", i);
        ledger_arrived(&l, name);
    }
}

/* A batch is bounded; the rest goes with the next, and live_told with it. */
static void test_bounds(void **state)
{
    (void)state;
    char name[32];
    arrive_many(LEDGER_BATCH_NAMES + 10);
    ledger_freeze(&l, false);
    expect_batch(LEDGER_BATCH_NAMES, 0, 0, 0, LEDGER_BATCH_NAMES);
    ledger_acknowledge(&l);
    ledger_freeze(&l, false);
    expect_batch(10, 0, 0, 0, LEDGER_BATCH_NAMES + 10);
    assert_string_equal(l.arrived.items[0], "n4000");
    ledger_acknowledge(&l);
    for (size_t i = 0; i < LEDGER_BATCH_NAMES; i++) {
        snprintf(name, sizeof(name), "n%zu", i);
        ledger_released(&l, name, i % 2 == 0, true, 1);
    }
    ledger_freeze(&l, false);
    expect_batch(0, LEDGER_BATCH_NAMES / 2, LEDGER_BATCH_NAMES / 2, 0, 10);
}

static void test_omitted_names(void **state)
{
    (void)state;
    arrive_many(LEDGER_BATCH_NAMES + 10);
    ledger_freeze(&l, true);
    expect_batch(LEDGER_BATCH_NAMES, 0, 0, 0, LEDGER_BATCH_NAMES + 10);
    assert_int_equal(l.sent_unnamed, 10);
    ledger_acknowledge(&l);
    assert_int_equal(ledger_unreported(&l), 0);
}

/* While the store is away nothing grows beyond its bound; beyond it nodes are numbers. */
static void test_waiting_is_bounded(void **state)
{
    (void)state;
    arrive_many(LEDGER_WAITING_NAMES + 5);
    assert_int_equal(l.arrived.count, LEDGER_WAITING_NAMES);
    assert_int_equal(l.unnamed, 5);
    assert_int_equal(l.live, LEDGER_WAITING_NAMES + 5);
}

static void test_old_losses(void **state)
{
    (void)state;
    arrive_many(10);
    ledger_freeze(&l, false);
    ledger_acknowledge(&l);
    ledger_lost(&l, 4);
    ledger_forget_lost(&l);
    ledger_freeze(&l, false);
    expect_batch(0, 0, 0, 0, 6);
}

static void test_leaving(void **state)
{
    (void)state;
    arrive_many(LEDGER_BATCH_NAMES + 100);
    ledger_released(&l, "n1", true, true, 1);
    ledger_freeze_all(&l);
    expect_batch(LEDGER_BATCH_NAMES, 1, 0, LEDGER_BATCH_NAMES + 99, 0);
    assert_int_equal(l.sent_unnamed, 100);
    assert_int_equal(l.live, 0);
    ledger_acknowledge(&l);
    assert_int_equal(ledger_unreported(&l), 0);
}

/* Whatever allocation fails, the sums in the batch are the same. */
static void test_no_memory(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        ledger_init(&l);
        heap_fail_nth(n);
        ledger_arrived(&l, "a");
        ledger_arrived(&l, "b");
        ledger_released(&l, "a", true, true, 1);
        ledger_refused(&l, "x");
        ledger_arrived(&l, "a");
        ledger_released(&l, "b", false, true, 2);
        ledger_freeze(&l, false);
        bool has_failed = heap_fail_end();
        assert_int_equal(l.live, 1);
        assert_int_equal(l.live_told, 1);
        int64_t sum = (int64_t)l.arrived.sent + l.sent_unnamed - l.sent_lost;
        sum -= (int64_t)(l.bridged.sent + l.released.sent);
        assert_int_equal(sum, 1);
        ledger_fini(&l);
        if (!has_failed)
            break;
    }
}

/* Random life: the store's sums, built from batches that may be repeated, always come out even. */
static void test_random_life(void **state)
{
    (void)state;
    int64_t store_live = 0;
    char name[32];
    srandom(7);
    for (int step = 0; step < 20000; step++) {
        snprintf(name, sizeof(name), "n%ld", random() % 50);
        switch (random() % 6) {
        case 0:
        case 1:
            ledger_arrived(&l, name);
            break;
        case 2:
            if (l.live > 0)
                ledger_released(&l, name, random() % 2, true, (uint64_t)step);
            break;
        case 3:
            if (l.live > 0)
                ledger_lost(&l, 1);
            break;
        case 4:
            ledger_freeze(&l, random() % 2);
            break;
        case 5:
            if (!l.has_batch)
                break;
            store_live += (int64_t)l.arrived.sent + l.sent_unnamed - l.sent_lost;
            store_live -= (int64_t)(l.bridged.sent + l.released.sent);
            assert_int_equal(store_live, l.live_told);
            ledger_acknowledge(&l);
        }
        ledger_prune(&l, (uint64_t)step, 300);
    }
    if (!l.has_batch)
        ledger_freeze(&l, false);
    ledger_acknowledge(&l);
    ledger_freeze(&l, false);
    assert_int_equal(l.live_told, l.live);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_batches),     TEST(test_own_returns),   TEST(test_replaced),
        TEST(test_bounds),      TEST(test_omitted_names), TEST(test_waiting_is_bounded),
        TEST(test_old_losses),  TEST(test_leaving),       TEST(test_no_memory),
        TEST(test_random_life), TEST(test_moves),         TEST(test_more_than_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
