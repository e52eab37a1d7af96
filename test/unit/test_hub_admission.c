/* Who may begin a handshake: rate, number at once, the bounded queue, its time limit; and the token
 * bucket below it. */
#include "hub/admission.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define T0 1000000

static const struct admission_limits roomy = {
    .rate = 0, .burst = 1, .inflight = 100, .waiting = 100, .wait_ms = 5000};

static void push_all(struct admission *a, struct admission_entry *entries, size_t n,
                     uint64_t now_ms)
{
    for (size_t i = 0; i < n; i++)
        assert_null(admission_push(a, &entries[i], now_ms));
}

static void test_first_come_first_served(void **state)
{
    struct admission a;
    struct admission_entry e[3];
    (void)state;
    admission_init(&a, &roomy, T0);
    push_all(&a, e, 3, T0);
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(admission_next(&a, T0), &e[i]);
    assert_null(admission_next(&a, T0));
    assert_int_equal(3, a.inflight);
    assert_int_equal(0, a.waiting);
}

static void test_inflight_is_bounded(void **state)
{
    struct admission_limits limits = roomy;
    struct admission a;
    struct admission_entry e[3];
    (void)state;
    limits.inflight = 2;
    admission_init(&a, &limits, T0);
    push_all(&a, e, 3, T0);
    assert_non_null(admission_next(&a, T0));
    assert_non_null(admission_next(&a, T0));
    assert_null(admission_next(&a, T0));
    assert_true(admission_wait_ms(&a, T0) == UINT64_MAX);
    admission_done(&a);
    assert_true(admission_wait_ms(&a, T0) == 0);
    assert_ptr_equal(admission_next(&a, T0), &e[2]);
}

static void test_rate_is_bounded(void **state)
{
    const struct admission_limits limits = {
        .rate = 100, .burst = 5, .inflight = 1000, .waiting = 1000, .wait_ms = 60000};
    static struct admission_entry e[500];
    struct admission a;
    size_t begun = 0;
    (void)state;
    admission_init(&a, &limits, T0);
    push_all(&a, e, 500, T0);
    for (uint64_t now = T0; now <= T0 + 2000; now++)
        while (admission_next(&a, now)) {
            admission_done(&a);
            begun++;
        }
    /* the burst, and a hundred a second */
    assert_int_equal(205, begun);
}

static void test_waits_say_when(void **state)
{
    const struct admission_limits limits = {
        .rate = 10, .burst = 1, .inflight = 10, .waiting = 10, .wait_ms = 60000};
    struct admission a;
    struct admission_entry e[2];
    (void)state;
    admission_init(&a, &limits, T0);
    assert_true(admission_wait_ms(&a, T0) == UINT64_MAX); /* nobody waits */
    push_all(&a, e, 2, T0);
    assert_non_null(admission_next(&a, T0));
    uint64_t wait_ms = admission_wait_ms(&a, T0);
    assert_int_equal(100, wait_ms);
    assert_null(admission_next(&a, T0 + wait_ms - 1));
    assert_non_null(admission_next(&a, T0 + wait_ms));
}

static void test_oldest_leaves_a_full_queue(void **state)
{
    struct admission_limits limits = roomy;
    struct admission a;
    struct admission_entry e[4];
    (void)state;
    limits.waiting = 2;
    admission_init(&a, &limits, T0);
    push_all(&a, e, 2, T0);
    assert_ptr_equal(admission_push(&a, &e[2], T0), &e[0]);
    assert_ptr_equal(admission_push(&a, &e[3], T0), &e[1]);
    assert_int_equal(2, a.waiting);
    assert_ptr_equal(admission_next(&a, T0), &e[2]);
}

static void test_waiting_too_long(void **state)
{
    struct admission_limits limits = roomy;
    struct admission a;
    struct admission_entry e[2];
    (void)state;
    limits.inflight = 1;
    admission_init(&a, &limits, T0);
    assert_null(admission_push(&a, &e[0], T0));
    assert_null(admission_push(&a, &e[1], T0 + 1000));
    assert_null(admission_expired(&a, T0 + 4999));
    assert_ptr_equal(admission_expired(&a, T0 + 5000), &e[0]);
    assert_null(admission_expired(&a, T0 + 5000));
    assert_ptr_equal(admission_expired(&a, T0 + 6000), &e[1]);
    assert_int_equal(0, a.waiting);
}

static void test_pop_ignores_limits(void **state)
{
    struct admission_limits limits = roomy;
    struct admission a;
    struct admission_entry e[2];
    (void)state;
    limits.inflight = 1;
    admission_init(&a, &limits, T0);
    push_all(&a, e, 2, T0);
    assert_ptr_equal(admission_pop(&a), &e[0]);
    assert_ptr_equal(admission_pop(&a), &e[1]);
    assert_null(admission_pop(&a));
    assert_int_equal(0, a.inflight);
}

/* As many as may begin now. */
static size_t begin_all(struct admission *a)
{
    size_t n = 0;
    while (admission_next(a, T0))
        n++;
    return n;
}

static void turn_with(struct admission *a, size_t steps)
{
    for (size_t i = 0; i < steps; i++)
        admission_stepped(a);
    admission_turned(a);
}

static void test_window_opens_and_closes(void **state)
{
    static struct admission_entry e[1000];
    struct admission_limits limits = roomy;
    struct admission a;
    (void)state;
    limits.waiting = 1000;
    admission_init(&a, &limits, T0);
    push_all(&a, e, 1000, T0);
    assert_int_equal(ADMISSION_WINDOW, begin_all(&a));
    assert_true(admission_wait_ms(&a, T0) == UINT64_MAX);
    /* Each that ends makes room for two, up to the limit. */
    admission_done(&a);
    turn_with(&a, ADMISSION_STEPS_PER_TURN);
    assert_int_equal(2, begin_all(&a));
    for (int i = 0; i < 200; i++) {
        admission_done(&a);
        turn_with(&a, 1);
        begin_all(&a);
    }
    assert_int_equal(limits.inflight, a.inflight);
    /* A turn with too many steps halves it: those in flight go on, none begins. */
    for (int i = 0; i < 10; i++)
        admission_done(&a);
    turn_with(&a, ADMISSION_STEPS_PER_TURN + 1);
    assert_int_equal(limits.inflight / 2, a.window);
    assert_int_equal(0, begin_all(&a));
    for (int i = 0; i < 10; i++)
        turn_with(&a, 1000);
    assert_int_equal(ADMISSION_WINDOW, a.window);
}

static void test_window_that_is_not_used_does_not_open(void **state)
{
    struct admission_entry e[4];
    struct admission_limits limits = roomy;
    struct admission a;
    (void)state;
    admission_init(&a, &limits, T0);
    for (int i = 0; i < 100; i++) {
        push_all(&a, e, 4, T0);
        assert_int_equal(4, begin_all(&a));
        for (int k = 0; k < 4; k++)
            admission_done(&a);
        turn_with(&a, 4);
    }
    assert_int_equal(ADMISSION_WINDOW, a.window);
}

/* Peers that begin a handshake and say nothing more keep nobody out for long. */
static void test_window_opens_for_silent_peers(void **state)
{
    static struct admission_entry e[100];
    struct admission a;
    (void)state;
    admission_init(&a, &roomy, T0);
    push_all(&a, e, 100, T0);
    admission_ticked(&a, T0);
    size_t begun = begin_all(&a);
    for (uint64_t now_ms = T0; now_ms < T0 + 4 * ADMISSION_STALL_MS; now_ms += ADMISSION_STALL_MS) {
        turn_with(&a, 0);
        admission_ticked(&a, now_ms + ADMISSION_STALL_MS - 1);
        assert_int_equal(0, begin_all(&a));
        admission_ticked(&a, now_ms + ADMISSION_STALL_MS);
        begun += begin_all(&a);
    }
    assert_int_equal(roomy.inflight, begun);
}

static void test_window_stays_small_while_some_end(void **state)
{
    static struct admission_entry e[100];
    struct admission a;
    (void)state;
    admission_init(&a, &roomy, T0);
    push_all(&a, e, 100, T0);
    begin_all(&a);
    for (uint64_t now_ms = T0; now_ms < T0 + 50 * ADMISSION_STALL_MS;
         now_ms += ADMISSION_STALL_MS) {
        admission_done(&a);
        turn_with(&a, ADMISSION_STEPS_PER_TURN + 1);
        admission_ticked(&a, now_ms);
        assert_int_equal(1, begin_all(&a));
    }
    /* Without anybody who waits there is no reason to open either. */
    while (admission_pop(&a))
        ;
    admission_ticked(&a, T0 + 1000000);
    assert_int_equal(ADMISSION_WINDOW, a.window);
}

static void test_window_begins_anew_after_a_storm(void **state)
{
    static struct admission_entry e[500];
    struct admission_limits limits = roomy;
    struct admission a;
    (void)state;
    limits.waiting = 500;
    admission_init(&a, &limits, T0);
    push_all(&a, e, 500, T0);
    for (int i = 0; i < 40; i++) {
        assert_true(begin_all(&a) > 0);
        for (int k = 0; k < ADMISSION_WINDOW / 2; k++)
            admission_done(&a);
        turn_with(&a, ADMISSION_WINDOW);
    }
    assert_true(a.window > 4 * ADMISSION_WINDOW);
    while (a.inflight > 0)
        admission_done(&a);
    turn_with(&a, 1);
    assert_int_equal(ADMISSION_WINDOW, a.window);
}

static void test_window_never_opens_beyond_the_limit(void **state)
{
    static struct admission_entry e[100];
    struct admission_limits limits = roomy;
    struct admission a;
    (void)state;
    limits.inflight = 3;
    admission_init(&a, &limits, T0);
    push_all(&a, e, 100, T0);
    for (size_t i = 0; i < 20; i++) {
        begin_all(&a);
        assert_int_equal(3, a.inflight);
        admission_done(&a);
        turn_with(&a, i % 2 * 1000);
    }
}

/* ---- the bucket ---- */

static void test_bucket_begins_full(void **state)
{
    struct bucket b;
    (void)state;
    bucket_init(&b, 3, T0);
    for (int i = 0; i < 3; i++)
        assert_true(bucket_take(&b, 10, 3, T0));
    assert_false(bucket_take(&b, 10, 3, T0));
    assert_int_equal(100, bucket_wait_ms(&b, 10, 3, T0));
    assert_true(bucket_take(&b, 10, 3, T0 + 100));
    assert_false(bucket_take(&b, 10, 3, T0 + 199));
}

static void test_bucket_never_exceeds_its_burst(void **state)
{
    struct bucket b;
    (void)state;
    bucket_init(&b, 2, T0);
    assert_true(bucket_take(&b, 1000, 2, T0));
    int taken = 0;
    while (bucket_take(&b, 1000, 2, T0 + 3600 * 1000))
        taken++;
    assert_int_equal(2, taken);
    /* nor does it overflow */
    assert_true(bucket_take(&b, 1000000, 2, UINT64_MAX / 2));
}

static void test_bucket_debt(void **state)
{
    struct bucket b;
    (void)state;
    bucket_init(&b, 2, T0);
    bucket_spend(&b, 12, 10, 2, T0);
    assert_int_equal(1100, bucket_wait_ms(&b, 10, 2, T0)); /* ten owed, and one to have */
    assert_false(bucket_take(&b, 10, 2, T0 + 1099));
    assert_true(bucket_take(&b, 10, 2, T0 + 1100));
}

static void test_bucket_ignores_a_clock_that_steps_back(void **state)
{
    struct bucket b;
    (void)state;
    bucket_init(&b, 1, T0);
    assert_true(bucket_take(&b, 10, 1, T0));
    assert_false(bucket_take(&b, 10, 1, T0 - 500));
    assert_true(bucket_take(&b, 10, 1, T0 + 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_inflight_is_bounded),
        cmocka_unit_test(test_rate_is_bounded),
        cmocka_unit_test(test_waits_say_when),
        cmocka_unit_test(test_oldest_leaves_a_full_queue),
        cmocka_unit_test(test_waiting_too_long),
        cmocka_unit_test(test_pop_ignores_limits),
        cmocka_unit_test(test_window_opens_and_closes),
        cmocka_unit_test(test_window_that_is_not_used_does_not_open),
        cmocka_unit_test(test_window_opens_for_silent_peers),
        cmocka_unit_test(test_window_stays_small_while_some_end),
        cmocka_unit_test(test_window_begins_anew_after_a_storm),
        cmocka_unit_test(test_window_never_opens_beyond_the_limit),
        cmocka_unit_test(test_bucket_begins_full),
        cmocka_unit_test(test_bucket_never_exceeds_its_burst),
        cmocka_unit_test(test_bucket_debt),
        cmocka_unit_test(test_bucket_ignores_a_clock_that_steps_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
