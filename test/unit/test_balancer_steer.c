/* Who is refused, what the agent and /acceptz say, whom to let go. */
#include "test/lib/fleet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static struct fleet f;

static const struct balancer_arrival moved = {
    .is_released = true, .is_bridged = true, .refusals = 0, .since_release_ms = 30500};

static bool is_refused(const struct balancer_arrival *arrival)
{
    return balancer_should_refuse(&f.config, &f.decision, arrival);
}

/* This one has its share, the other lacks what is in flight. */
static void begin(void)
{
    fleet_init(&f, 2, (uint32_t[]){100, 80});
    f.view.named_in_flight = 20;
    fleet_start(&f);
    fleet_beat(&f);
}

static void test_moved_nodes_are_sent_on(void **state)
{
    (void)state;
    begin();
    assert_true(f.decision.is_full);
    assert_true(f.decision.is_refusing);
    assert_true(f.decision.wants_flight_list);
    assert_false(f.decision.is_accepting);
    assert_int_equal(f.decision.agent_percent, 1);
    assert_true(is_refused(&moved));
}

static void test_victims_are_taken(void **state)
{
    (void)state;
    begin();
    struct balancer_arrival a = moved;
    a.is_released = false;
    assert_false(is_refused(&a));
    a = moved, a.is_bridged = false;
    assert_false(is_refused(&a));
}

static void test_refusals_are_bounded(void **state)
{
    (void)state;
    begin();
    struct balancer_arrival a = moved;
    a.refusals = 2;
    assert_true(is_refused(&a));
    a.refusals = 3;
    assert_false(is_refused(&a));
    a = moved, a.since_release_ms = 44999; /* counts come late; the time does not */
    assert_true(is_refused(&a));
    a.since_release_ms = 45000;
    assert_false(is_refused(&a));
}

static void test_bridge_leaves_time(void **state)
{
    (void)state;
    begin();
    f.config.bridge_ms = 45000;
    assert_false(is_refused(&moved)); /* 30.5 s and three dials more is too late */
    f.config.bridge_ms = 46000;
    assert_true(is_refused(&moved));
}

static void expect_everybody_is_taken(void)
{
    fleet_beat(&f);
    assert_false(f.decision.is_refusing);
    assert_false(is_refused(&moved));
}

static void test_when_nobody_is_refused(void **state)
{
    (void)state;
    begin();
    f.records[1].is_full = true; /* the others have no room */
    expect_everybody_is_taken();
    begin();
    f.records[1].room = 19;
    expect_everybody_is_taken();
    begin();
    f.view.named_in_flight = 0;
    expect_everybody_is_taken();
    begin();
    f.self.live = 80; /* lacks some itself */
    expect_everybody_is_taken();
    begin();
    f.self.is_api_ok = false; /* nobody bridges */
    expect_everybody_is_taken();
    begin();
    f.self.is_store_up = false;
    expect_everybody_is_taken();
    begin();
    f.view.bad_record_count = 1;
    expect_everybody_is_taken();
    begin();
    f.plan.config.bridge_ms = 0;
    expect_everybody_is_taken();
    begin();
    f.plan.config.max_refusals = 0;
    expect_everybody_is_taken();
    begin();
    f.plan.config.mode = BALANCER_DRY_RUN;
    expect_everybody_is_taken();
    assert_false(f.decision.is_accepting); /* it steers all the same */
}

static void test_agent_weights(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){150, 50});
    fleet_start(&f);
    fleet_beat(&f); /* the other lacks 50 and 5 for its tolerance, this one has only the 5 */
    assert_int_equal(f.decision.agent_percent, 9);
    fleet_init(&f, 2, (uint32_t[]){50, 150});
    fleet_start(&f);
    fleet_beat(&f);
    assert_int_equal(f.decision.agent_percent, 100);
    fleet_init(&f, 2, (uint32_t[]){100, 100});
    f.records[1].weight = 200; /* 66 and 134 */
    fleet_start(&f);
    fleet_beat(&f);
    assert_true(f.decision.agent_percent >= 1 && f.decision.agent_percent < 20);
    f.self.is_store_up = false;
    fleet_beat(&f);
    assert_int_equal(f.decision.agent_percent, 100);
    f.self.is_draining = true;
    fleet_beat(&f);
    assert_int_equal(f.decision.agent_percent, 0);
    assert_false(f.decision.is_accepting);
}

/* As a crash's victims come back in lockstep, a peer's number is a beat old: that this one has a
 * few more is no reason to send all others there. */
static void test_agent_weights_stand_still_while_victims_arrive(void **state)
{
    (void)state;
    static const uint32_t arriving[] = {200, 220, 260, 285};
    for (size_t i = 0; i < sizeof(arriving) / sizeof(arriving[0]); i++) {
        fleet_init(&f, 2, (uint32_t[]){arriving[i], 200});
        f.view.anonymous_in_flight = 400 - arriving[i];
        fleet_start(&f);
        fleet_beat(&f);
        assert_int_equal(300, f.decision.expected);
        assert_int_equal(100, f.decision.agent_percent);
    }
    fleet_init(&f, 2, (uint32_t[]){300, 200}); /* it has its share: the others get the rest */
    f.view.anonymous_in_flight = 100;
    fleet_start(&f);
    fleet_beat(&f);
    assert_true(f.decision.agent_percent < 20);
}

static void test_no_room_accepts_nobody(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){100, 100});
    f.self.max_connections = 100;
    fleet_start(&f);
    fleet_beat(&f);
    assert_false(f.decision.is_accepting);
}

/* ---- victims ---- */

static const struct balancer_candidate fit = {
    .since_connect_ms = 600000, .since_moved_ms = BALANCER_NEVER, .since_renewal_ms = 200};

static enum balancer_fitness judge(const struct balancer_candidate *c,
                                   enum balancer_urgency urgency)
{
    f.decision.urgency = urgency;
    return balancer_victim_judge(&f.config, &f.decision, c);
}

static void test_victims(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){1, 1});
    struct balancer_candidate c = fit;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_FIT);
    c.is_kept = true;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_UNFIT_KEPT);
    assert_int_equal(judge(&c, BALANCER_URGENT), BALANCER_FIT); /* a drain moves all */
    c = fit, c.is_busy = true;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_UNFIT_BUSY);
    assert_int_equal(judge(&c, BALANCER_URGENT), BALANCER_UNFIT_BUSY);
    assert_int_equal(judge(&c, BALANCER_AT_ONCE), BALANCER_FIT);
    c = fit, c.since_renewal_ms = 2501;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_UNFIT_MOMENT);
    c.since_renewal_ms = BALANCER_NEVER;
    assert_int_equal(judge(&c, BALANCER_URGENT), BALANCER_UNFIT_MOMENT);
    c = fit, c.since_connect_ms = 9999;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_UNFIT_NEW);
}

static void test_moved_once_in_an_episode(void **state)
{
    (void)state;
    fleet_init(&f, 2, (uint32_t[]){1, 1});
    struct balancer_candidate c = fit;
    c.since_moved_ms = f.config.move_cooldown_ms - 1;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_UNFIT_MOVED);
    c.since_moved_ms = f.config.move_cooldown_ms;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_FIT);
    f.decision.episode_ms = 900000; /* however long it lasts */
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_UNFIT_MOVED);
    c.since_moved_ms = 900001;
    assert_int_equal(judge(&c, BALANCER_CALM), BALANCER_FIT);
}

static void test_better_victims_first(void **state)
{
    (void)state;
    struct balancer_candidate a = fit, b = fit;
    assert_int_equal(balancer_victim_compare(&a, &b), 0);
    b.since_renewal_ms++;
    assert_true(balancer_victim_compare(&a, &b) < 0 && balancer_victim_compare(&b, &a) > 0);
    b = fit, b.since_moved_ms = 1000;
    assert_true(balancer_victim_compare(&a, &b) < 0 && balancer_victim_compare(&b, &a) > 0);
    b = fit, b.since_connect_ms--;
    assert_true(balancer_victim_compare(&a, &b) < 0 && balancer_victim_compare(&b, &a) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moved_nodes_are_sent_on),
        cmocka_unit_test(test_victims_are_taken),
        cmocka_unit_test(test_refusals_are_bounded),
        cmocka_unit_test(test_bridge_leaves_time),
        cmocka_unit_test(test_when_nobody_is_refused),
        cmocka_unit_test(test_agent_weights),
        cmocka_unit_test(test_agent_weights_stand_still_while_victims_arrive),
        cmocka_unit_test(test_no_room_accepts_nobody),
        cmocka_unit_test(test_victims),
        cmocka_unit_test(test_moved_once_in_an_episode),
        cmocka_unit_test(test_better_victims_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
