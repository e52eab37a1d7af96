/* The timer wheel: never early, at most a tick late, in any round; and callbacks that arm, disarm
 * and free. */
#include "hub/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define T0 7777777

struct probe {
    struct wheel_timer timer; /* first */
    uint64_t fired_ms;
    unsigned times;
};

struct world {
    struct wheel wheel;
    uint64_t now_ms;
    struct wheel_timer *to_disarm;
    bool rearms;
};

static void on_fire(void *context, struct wheel_timer *timer)
{
    struct world *w = context;
    struct probe *p = (struct probe *)timer;
    assert_false(wheel_is_armed(timer));
    p->fired_ms = w->now_ms;
    p->times++;
    if (w->to_disarm)
        wheel_disarm(w->to_disarm);
    if (w->rearms)
        wheel_arm(&w->wheel, timer, w->now_ms);
}

static void advance(struct world *w, uint64_t to_ms, uint64_t step_ms)
{
    while (w->now_ms < to_ms) {
        w->now_ms = w->now_ms + step_ms < to_ms ? w->now_ms + step_ms : to_ms;
        wheel_advance(&w->wheel, w->now_ms, on_fire, w);
    }
}

static void begin(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->now_ms = T0;
    wheel_init(&w->wheel, T0);
}

static void test_never_early_hardly_late(void **state)
{
    static const uint64_t delays[] = {0,    1,     49,    50,    51,    100,    999,
                                      1000, 30000, 51199, 51200, 51201, 200000, 3600000};
    struct world w;
    (void)state;
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        struct probe p = {.times = 0};
        begin(&w);
        wheel_arm(&w.wheel, &p.timer, T0 + delays[i]);
        advance(&w, T0 + delays[i] + 2 * WHEEL_TICK_MS, 10);
        assert_int_equal(1, p.times);
        assert_true(p.fired_ms >= T0 + delays[i]);
        assert_true(p.fired_ms <= T0 + delays[i] + WHEEL_TICK_MS + 10);
    }
}

static void test_disarmed_is_silent(void **state)
{
    struct world w;
    struct probe p = {.times = 0};
    (void)state;
    begin(&w);
    wheel_arm(&w.wheel, &p.timer, T0 + 100);
    wheel_arm(&w.wheel, &p.timer, T0 + 500); /* again: only the last counts */
    advance(&w, T0 + 400, 50);
    assert_int_equal(0, p.times);
    wheel_disarm(&p.timer);
    wheel_disarm(&p.timer);
    advance(&w, T0 + 60000, 50);
    assert_int_equal(0, p.times);
}

static void test_callback_disarms_a_neighbour(void **state)
{
    struct world w;
    struct probe a = {.times = 0}, b = {.times = 0};
    (void)state;
    begin(&w);
    wheel_arm(&w.wheel, &a.timer, T0 + 100);
    wheel_arm(&w.wheel, &b.timer, T0 + 100); /* the same slot; runs first */
    w.to_disarm = &a.timer;
    advance(&w, T0 + 300, 50);
    assert_int_equal(1, b.times);
    assert_int_equal(0, a.times);
}

static void test_rearmed_for_now_waits_a_tick(void **state)
{
    struct world w;
    struct probe p = {.times = 0};
    (void)state;
    begin(&w);
    w.rearms = true;
    wheel_arm(&w.wheel, &p.timer, T0);
    advance(&w, T0 + 10 * WHEEL_TICK_MS, WHEEL_TICK_MS);
    assert_in_range(p.times, 9, 10); /* not endlessly within one */
}

static void test_a_long_gap(void **state)
{
    struct world w;
    struct probe near = {.times = 0}, far = {.times = 0};
    (void)state;
    begin(&w);
    wheel_arm(&w.wheel, &near.timer, T0 + 100);
    wheel_arm(&w.wheel, &far.timer, T0 + 3 * WHEEL_SLOTS * WHEEL_TICK_MS);
    w.now_ms = T0 + 2 * WHEEL_SLOTS * WHEEL_TICK_MS; /* the process was stopped */
    wheel_advance(&w.wheel, w.now_ms, on_fire, &w);
    assert_int_equal(1, near.times);
    assert_int_equal(0, far.times);
    advance(&w, T0 + 3 * WHEEL_SLOTS * WHEEL_TICK_MS + 100, 50);
    assert_int_equal(1, far.times);
}

static void test_thousands_at_random(void **state)
{
    enum { N = 5000 };
    static struct probe probes[N];
    struct world w;
    (void)state;
    begin(&w);
    srand(1);
    for (size_t i = 0; i < N; i++) {
        memset(&probes[i], 0, sizeof(probes[i]));
        wheel_arm(&w.wheel, &probes[i].timer, T0 + (uint64_t)(rand() % 120000));
    }
    for (size_t i = 0; i < N; i += 3)
        wheel_disarm(&probes[i].timer);
    advance(&w, T0 + 121000, 37);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(i % 3 == 0 ? 0 : 1, probes[i].times);
        if (probes[i].times > 0) {
            assert_true(probes[i].fired_ms >= probes[i].timer.deadline_ms);
            assert_true(probes[i].fired_ms <= probes[i].timer.deadline_ms + WHEEL_TICK_MS + 37);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_early_hardly_late),
        cmocka_unit_test(test_disarmed_is_silent),
        cmocka_unit_test(test_callback_disarms_a_neighbour),
        cmocka_unit_test(test_rearmed_for_now_waits_a_tick),
        cmocka_unit_test(test_a_long_gap),
        cmocka_unit_test(test_thousands_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
