/* The plan's phases: two beats, pace, never below expected, observing, futility, every hold,
 * pauses, drains, dry runs. */
#include "test/lib/fleet.h"
#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct fleet f;

static void begin(size_t count, const uint32_t *live)
{
    fleet_init(&f, count, live);
    fleet_start(&f);
}

/* 200 here, 100 expected; the round begins with the second beat. */
static void begin_round(void)
{
    begin(2, (uint32_t[]){200, 0});
    fleet_beat(&f);
    assert_int_equal(f.decision.why, BALANCER_WHY_SECOND_BEAT);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
    assert_true(f.decision.want > 0);
    fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_RELEASE);
    assert_int_equal(f.decision.why, BALANCER_WHY_SURPLUS);
}

/* Lets go of everything that is ordered until nothing is. */
static uint32_t release_all(void)
{
    uint32_t released = 0;
    for (int i = 0; i < 20 && f.decision.phase == BALANCER_RELEASE; i++) {
        released += f.decision.release_now;
        fleet_release(&f);
        fleet_wait(&f, 500);
        if (i % 10 == 9)
            fleet_beat(&f);
    }
    return released;
}

static void test_even_rests(void **state)
{
    (void)state;
    begin(3, (uint32_t[]){105, 95, 100}); /* tolerance 5 */
    for (int i = 0; i < 20; i++) {
        fleet_beat(&f);
        assert_int_equal(f.decision.phase, BALANCER_DETECT);
        assert_int_equal(f.decision.why, BALANCER_WHY_BALANCED);
    }
    assert_int_equal(f.decision.episode_ms, 0);
}

static void test_whole_surplus_and_no_more(void **state)
{
    (void)state;
    begin_round();
    assert_int_equal(release_all(), 100); /* the tolerance is trigger, not target */
    assert_int_equal(f.self.live, 100);
    assert_int_equal(f.decision.phase, BALANCER_OBSERVE);
}

static void test_pace(void **state)
{
    (void)state;
    begin_round();
    uint32_t in_a_second = 0;
    for (int i = 0; i < 2; i++) {
        fleet_wait(&f, 500);
        in_a_second += f.decision.release_now;
        fleet_release(&f);
    }
    assert_int_equal(in_a_second, f.config.release_rate);
}

static void test_grant_bounds(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){200, 0});
    f.view.grant = 7;
    fleet_beat(&f);
    fleet_beat(&f);
    fleet_wait(&f, 1000);
    assert_int_equal(f.decision.release_now, 7);
    fleet_release(&f);
    fleet_wait(&f, 1000);
    assert_int_equal(f.decision.release_now, 0);
    assert_int_equal(f.decision.why, BALANCER_WHY_NO_GRANT);
    balancer_plan_beat_sent(&f.plan); /* voids what is left */
    assert_int_equal(f.plan.grant, 0);
}

static void test_below_rests(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){0, 200});
    for (int i = 0; i < 4; i++)
        fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
    assert_int_equal(f.decision.why, BALANCER_WHY_BELOW);
    assert_int_equal(f.decision.want, 0);
}

/* With many replicas one empty one puts nobody over the tolerance. */
static void test_needy_peer(void **state)
{
    (void)state;
    begin(8, (uint32_t[]){100, 100, 100, 100, 100, 100, 100, 97});
    f.records[7].live = 0;
    f.config.tolerance = f.plan.config.tolerance = 0.2;
    fleet_beat(&f);
    fleet_beat(&f);
    assert_int_equal(f.decision.why, BALANCER_WHY_NEEDY_PEER);
    assert_int_equal(f.decision.phase, BALANCER_RELEASE);
}

static void test_peer_without_room_is_not_needy(void **state)
{
    (void)state;
    begin(8, (uint32_t[]){100, 100, 100, 100, 100, 100, 100, 0});
    f.plan.config.tolerance = 0.2;
    f.records[7].room = 0;
    fleet_beat(&f);
    fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
}

/* A crashed replica that is back gets its own nodes by itself. */
static void test_flight_fills_the_needy(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){101, 0});
    f.view.anonymous_in_flight = 99;
    for (int i = 0; i < 4; i++)
        fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
    f.view.anonymous_in_flight = 0;
    f.records[1].live = 99;
    for (int i = 0; i < 4; i++)
        fleet_beat(&f);
    assert_int_equal(f.decision.why, BALANCER_WHY_BALANCED);
}

static void test_observes_until_landed(void **state)
{
    (void)state;
    begin_round();
    release_all();
    for (int i = 0; i < 8; i++)
        fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_OBSERVE);
    assert_int_equal(f.decision.why, BALANCER_WHY_IN_FLIGHT);
    f.view.named_in_flight = f.view.own_in_flight = 0;
    f.records[1].live = 100;
    fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
    assert_int_equal(f.decision.futile_rounds, 0);
}

static void test_observing_ends_without_store(void **state)
{
    (void)state;
    begin_round();
    release_all();
    f.self.is_store_up = false;
    fleet_wait(&f, 90000);
    assert_int_equal(f.decision.phase, BALANCER_OBSERVE);
    fleet_wait(&f, 10000);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
    assert_int_equal(f.decision.why, BALANCER_WHY_HOLD_STORE_AWAY);
}

static void come_home(void)
{
    balancer_plan_returned(&f.plan, f.view.own_in_flight);
    f.self.live += f.view.own_in_flight;
    f.view.named_in_flight = f.view.own_in_flight = 0;
}

static void test_futile_home_backs_off_longer_each_time(void **state)
{
    (void)state;
    begin_round();
    uint64_t waited[3];
    for (int round = 0; round < 3; round++) {
        release_all();
        come_home();
        for (int i = 0; i < 20 && f.decision.phase != BALANCER_BACKOFF; i++)
            fleet_beat(&f);
        assert_int_equal(f.decision.phase, BALANCER_BACKOFF);
        assert_int_equal(f.decision.why, BALANCER_WHY_FUTILE_HOME);
        assert_int_equal(f.decision.futile_rounds, round + 1);
        uint64_t since_ms = f.now_ms;
        while (f.decision.phase != BALANCER_RELEASE)
            fleet_beat(&f);
        waited[round] = f.now_ms - since_ms;
        assert_int_equal(f.plan.round_target, 5); /* a twentieth, to see */
    }
    assert_true(waited[0] >= 60000 && waited[1] >= 120000 && waited[2] >= 240000);
}

static void test_newcomer_ends_backoff(void **state)
{
    (void)state;
    begin_round();
    release_all();
    come_home();
    for (int i = 0; i < 20 && f.decision.phase != BALANCER_BACKOFF; i++)
        fleet_beat(&f);
    f.records[1].incarnation++;
    fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
}

/* One full replica's word is not the group's. */
static void test_futile_full_needs_a_whole_sample(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){100, 100});
    fleet_beat(&f);
    f.view.landed = f.view.landed_full = 40;
    fleet_beat(&f);
    assert_false(f.plan.is_full_futile);
    for (int i = 0; i < 4; i++) {
        f.view.landed = ++f.view.landed_full;
        fleet_beat(&f);
    }
    assert_true(f.plan.is_full_futile);
    f.self.live = 300;
    fleet_beat(&f);
    fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_BACKOFF);
    assert_int_equal(f.decision.why, BALANCER_WHY_FUTILE_FULL);
}

static void test_nobody_to_move(void **state)
{
    (void)state;
    begin_round();
    for (int i = 0; i < 8 && f.decision.phase == BALANCER_RELEASE; i++)
        fleet_beat(&f); /* orders, and nobody is fit */
    assert_int_equal(f.decision.phase, BALANCER_BACKOFF);
    assert_int_equal(f.decision.why, BALANCER_WHY_NO_VICTIM);
}

/* ---- holds ---- */

static void expect_hold(enum balancer_why why)
{
    assert_int_equal(f.decision.why, why);
    assert_int_equal(f.decision.release_now, 0);
    assert_int_equal(f.decision.want, 0);
    assert_true(f.decision.phase != BALANCER_RELEASE);
}

static void test_holds_of_this_replica(void **state)
{
    (void)state;
    begin_round();
    f.self.is_api_ok = false;
    fleet_wait(&f, 500);
    expect_hold(BALANCER_WHY_HOLD_API);
    begin_round();
    f.self.is_store_up = false;
    fleet_wait(&f, 500);
    expect_hold(BALANCER_WHY_HOLD_STORE_AWAY);
    begin_round();
    f.self.is_ready = false;
    fleet_wait(&f, 500);
    expect_hold(BALANCER_WHY_HOLD_NOT_READY);
    begin_round();
    fleet_wait(&f, 8000);
    expect_hold(BALANCER_WHY_HOLD_STALE);
    begin(2, (uint32_t[]){200, 0});
    fleet_wait(&f, 500);
    expect_hold(BALANCER_WHY_HOLD_NO_VIEW);
    fleet_init(&f, 2, (uint32_t[]){200, 0});
    f.config.mode = BALANCER_OFF;
    fleet_start(&f);
    fleet_beat(&f);
    expect_hold(BALANCER_WHY_HOLD_OFF);
}

static void test_holds_of_the_view(void **state)
{
    (void)state;
    begin_round();
    f.view.record_count = 1;
    fleet_beat(&f);
    expect_hold(BALANCER_WHY_HOLD_ALONE);
    begin_round();
    f.records[1].weight = 0;
    fleet_beat(&f);
    expect_hold(BALANCER_WHY_HOLD_BAD_RECORD);
    begin_round();
    f.view.bad_record_count = 1;
    fleet_beat(&f);
    expect_hold(BALANCER_WHY_HOLD_BAD_RECORD);
    begin_round();
    f.view.named_in_flight = UINT32_MAX;
    fleet_beat(&f);
    expect_hold(BALANCER_WHY_HOLD_BAD_RECORD);
    begin_round();
    f.self.incarnation++; /* what the store lists is another process */
    fleet_beat(&f);
    expect_hold(BALANCER_WHY_HOLD_NOT_LISTED);
    begin_round();
    strcpy(f.records[1].id, "r0"); /* the same id, and it was first */
    f.records[1].since_server_ms--;
    struct balancer_record own = f.records[0];
    f.records[0] = f.records[1];
    f.records[1] = own;
    fleet_beat(&f);
    expect_hold(BALANCER_WHY_HOLD_TWIN);
}

static void test_too_many_replicas(void **state)
{
    static struct balancer_record records[BALANCER_REPLICAS_MAX + 1];
    (void)state;
    begin_round();
    for (size_t i = 0; i <= BALANCER_REPLICAS_MAX; i++)
        records[i] = f.records[0];
    struct balancer_view view = f.view;
    view.records = records;
    view.record_count = BALANCER_REPLICAS_MAX + 1;
    f.now_ms += 1000;
    balancer_plan_beat(&f.plan, &f.self, &view, &f.shares, f.now_ms, f.now_ms);
    balancer_plan_step(&f.plan, &f.self, f.now_ms, &f.decision);
    expect_hold(BALANCER_WHY_HOLD_TOO_MANY);
}

static void expect_held_for_flight(enum balancer_why why)
{
    uint64_t since_ms = f.now_ms;
    fleet_beat(&f);
    expect_hold(why);
    while (f.decision.phase != BALANCER_RELEASE && f.now_ms < since_ms + 200000)
        fleet_beat(&f);
    assert_true(f.now_ms - since_ms >= f.config.inflight_timeout_ms);
    assert_true(f.now_ms - since_ms < f.config.inflight_timeout_ms + 20000);
}

static void test_new_epoch(void **state)
{
    (void)state;
    begin_round();
    f.view.epoch = 2;
    f.view.epoch_since_server_ms = f.view.server_ms;
    expect_held_for_flight(BALANCER_WHY_HOLD_EPOCH);
}

static void test_young_epoch_holds_newcomers(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){200, 0});
    f.view.epoch_since_server_ms = f.view.server_ms + 4000;
    expect_held_for_flight(BALANCER_WHY_HOLD_EPOCH);
}

static void step_clock(int64_t by_ms)
{
    begin_round();
    f.view.server_ms += (uint64_t)by_ms;
    for (size_t i = 0; i < 2; i++)
        f.records[i].since_server_ms += (uint64_t)by_ms;
    expect_held_for_flight(BALANCER_WHY_HOLD_CLOCK);
}

static void test_clock_steps(void **state)
{
    (void)state;
    step_clock(60000);
    step_clock(-60000);
}

static void test_old_answer_is_ignored(void **state)
{
    (void)state;
    begin_round();
    uint32_t expected = f.plan.expected;
    f.records[1].live = 1000;
    balancer_plan_beat(&f.plan, &f.self, &f.view, &f.shares, f.now_ms, f.now_ms);
    assert_int_equal(f.plan.expected, expected);
}

static void test_unknown_version_is_counted_not_obeyed(void **state)
{
    (void)state;
    begin(3, (uint32_t[]){120, 100, 80});
    f.records[2].version = 9;
    fleet_beat(&f);
    fleet_beat(&f);
    assert_int_equal(f.decision.total, 300);
    assert_int_equal(f.decision.expected, 150); /* more than here: nothing to give */
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
}

static void test_pause_moves_deadlines(void **state)
{
    (void)state;
    begin_round();
    release_all();
    uint64_t until_ms = f.plan.until_ms;
    f.now_ms += 60000;
    balancer_plan_step(&f.plan, &f.self, f.now_ms, &f.decision);
    assert_true(f.plan.until_ms == until_ms + 60000);
    assert_int_equal(f.decision.why, BALANCER_WHY_HOLD_PAUSED);
}

static void test_pause_asks_for_a_fresh_beat(void **state)
{
    (void)state;
    begin_round();
    uint64_t sent_ms = f.now_ms + 500;
    f.now_ms += 3000;
    balancer_plan_step(&f.plan, &f.self, f.now_ms, &f.decision);
    expect_hold(BALANCER_WHY_HOLD_PAUSED);
    /* An answer to a question from before the pause says nothing. */
    balancer_plan_beat(&f.plan, &f.self, &f.view, &f.shares, sent_ms, f.now_ms);
    balancer_plan_step(&f.plan, &f.self, f.now_ms, &f.decision);
    expect_hold(BALANCER_WHY_HOLD_PAUSED);
    fleet_beat(&f);
    assert_int_equal(f.decision.why, BALANCER_WHY_SECOND_BEAT);
}

/* ---- drain ---- */

static void test_drain_fits_the_timeout(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){21000, 0});
    f.config.release_rate = 1;
    fleet_start(&f);
    fleet_beat(&f);
    f.self.is_draining = true;
    f.self.is_store_up = false; /* it needs no store, and no API server */
    f.self.is_api_ok = false;
    uint64_t since_ms = f.now_ms;
    uint32_t most = 0;
    while (f.self.live > 0) {
        fleet_wait(&f, 500);
        assert_int_equal(f.decision.phase, BALANCER_DRAIN);
        assert_int_equal(f.decision.expected, 0);
        if (f.decision.release_now > most)
            most = f.decision.release_now;
        fleet_release(&f);
    }
    uint64_t window_ms = f.config.drain_timeout_ms - f.config.bridge_ms;
    assert_true(f.now_ms - since_ms <= window_ms + 1000);
    assert_true(f.now_ms - since_ms >= window_ms * 8 / 10);
    assert_true(most <= 2 * 21000 / (window_ms / 1000)); /* evenly, not at once */
    f.self.bridged = 1;
    fleet_wait(&f, 500);
    assert_false(f.decision.is_drained);
    f.self.bridged = 0;
    fleet_wait(&f, 500);
    assert_true(f.decision.is_drained);
    assert_int_equal(f.decision.why, BALANCER_WHY_DRAINED);
}

static void test_drain_grows_urgent(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){100, 0});
    f.self.is_draining = true;
    fleet_wait(&f, 500);
    assert_int_equal(f.decision.urgency, BALANCER_URGENT);
    fleet_wait(&f, 200000); /* nobody was fit */
    assert_int_equal(f.decision.urgency, BALANCER_AT_ONCE);
    fleet_wait(&f, 20000);
    assert_int_equal(f.decision.release_now, 100);
}

static void test_pause_does_not_prolong_a_drain(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){100, 0});
    f.self.is_draining = true;
    fleet_wait(&f, 500);
    uint64_t until_ms = f.plan.until_ms;
    f.now_ms += 60000;
    balancer_plan_step(&f.plan, &f.self, f.now_ms, &f.decision);
    assert_true(f.plan.until_ms == until_ms);
}

static void test_called_off_drain_is_no_round(void **state)
{
    (void)state;
    begin(2, (uint32_t[]){100, 100});
    fleet_beat(&f);
    f.self.is_draining = true;
    fleet_wait(&f, 1000);
    fleet_release(&f);
    f.self.is_draining = false;
    fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_OBSERVE);
    come_home();
    for (int i = 0; i < 8; i++)
        fleet_beat(&f);
    assert_int_equal(f.decision.phase, BALANCER_DETECT);
    assert_int_equal(f.decision.futile_rounds, 0);
}

/* ---- modes ---- */

static void test_dry_run_only_says(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){200, 0});
    f.config.mode = BALANCER_DRY_RUN;
    fleet_start(&f);
    fleet_beat(&f);
    uint32_t would = 0;
    for (int i = 0; i < 30; i++) {
        for (int k = 0; k < 9; k++) {
            fleet_wait(&f, 500);
            assert_int_equal(f.decision.release_now, 0);
            assert_int_equal(f.decision.want, 0);
            would += f.decision.would_release;
        }
        fleet_beat(&f);
    }
    assert_true(would >= 100);
}

static void test_needs_no_memory(void **state)
{
    (void)state;
    heap_fail_nth(1);
    begin_round();
    release_all();
    for (int i = 0; i < 30; i++)
        fleet_beat(&f);
    f.self.is_draining = true;
    fleet_wait(&f, 5000);
    assert_false(heap_fail_end());
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < BALANCER_WHY_COUNT; i++) {
        assert_non_null(balancer_why_name((enum balancer_why)i));
        assert_non_null(balancer_why_text((enum balancer_why)i));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(balancer_why_name((enum balancer_why)i),
                                    balancer_why_name((enum balancer_why)k));
    }
    for (int i = 0; i < BALANCER_PHASE_COUNT; i++)
        assert_non_null(balancer_phase_name((enum balancer_phase)i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_rests),
        cmocka_unit_test(test_whole_surplus_and_no_more),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_grant_bounds),
        cmocka_unit_test(test_below_rests),
        cmocka_unit_test(test_needy_peer),
        cmocka_unit_test(test_peer_without_room_is_not_needy),
        cmocka_unit_test(test_flight_fills_the_needy),
        cmocka_unit_test(test_observes_until_landed),
        cmocka_unit_test(test_observing_ends_without_store),
        cmocka_unit_test(test_futile_home_backs_off_longer_each_time),
        cmocka_unit_test(test_newcomer_ends_backoff),
        cmocka_unit_test(test_futile_full_needs_a_whole_sample),
        cmocka_unit_test(test_nobody_to_move),
        cmocka_unit_test(test_holds_of_this_replica),
        cmocka_unit_test(test_holds_of_the_view),
        cmocka_unit_test(test_too_many_replicas),
        cmocka_unit_test(test_new_epoch),
        cmocka_unit_test(test_young_epoch_holds_newcomers),
        cmocka_unit_test(test_clock_steps),
        cmocka_unit_test(test_old_answer_is_ignored),
        cmocka_unit_test(test_unknown_version_is_counted_not_obeyed),
        cmocka_unit_test(test_pause_moves_deadlines),
        cmocka_unit_test(test_pause_asks_for_a_fresh_beat),
        cmocka_unit_test(test_drain_fits_the_timeout),
        cmocka_unit_test(test_drain_grows_urgent),
        cmocka_unit_test(test_pause_does_not_prolong_a_drain),
        cmocka_unit_test(test_called_off_drain_is_no_round),
        cmocka_unit_test(test_dry_run_only_says),
        cmocka_unit_test(test_needs_no_memory),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
