/* The pure parts of a simulated edge: the rounds of its link, the lease controller, registration
 * and reports, the table of questions, and the histogram. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "test/edgesim/edge_histogram.h"
#include "test/edgesim/edge_lease.h"
#include "test/edgesim/edge_link.h"
#include "test/edgesim/edge_node.h"
#include "test/edgesim/edge_requests.h"

#define MS UINT64_C(1000)
#define S  UINT64_C(1000000)

static const struct edge_link_times link_times = {30 * S, 5 * S, 30 * S, 5};
static const struct edge_lease_times lease_times = {10 * S, 200 * MS, 7 * S};
static const struct edge_node_times node_times = {100 * MS, 7 * S, 60 * MS, 10 * S, 300 * S};

/* --- link --- */

static void test_five_dials_then_sleep(void **state)
{
    (void)state;
    struct edge_link l = {0};
    uint64_t now = 100 * S;
    assert_false(edge_link_wants_dial(&l, &link_times, now));
    edge_link_start(&l, now);
    for (int i = 0; i < 5; i++) {
        assert_true(edge_link_wants_dial(&l, &link_times, now));
        assert_int_equal(l.tries, i + 1);
        assert_false(edge_link_wants_dial(&l, &link_times, now));
        now += 1 * S; /* each takes a second to fail */
        edge_link_dial_failed(&l, &link_times, now);
        assert_int_equal(edge_link_due(&l), now + (i < 4 ? 5 : 35) * S);
        now = edge_link_due(&l);
    }
    assert_int_equal(l.state, EDGE_LINK_SLEEPING);
    assert_false(edge_link_wants_dial(&l, &link_times, now - 1));
    assert_true(edge_link_wants_dial(&l, &link_times, now));
    assert_int_equal(l.tries, 1); /* a new round */
}

static void test_handshake_has_thirty_seconds(void **state)
{
    (void)state;
    struct edge_link l = {0};
    edge_link_start(&l, 0);
    assert_true(edge_link_wants_dial(&l, &link_times, 0));
    assert_false(edge_link_dial_is_late(&l, 30 * S - 1));
    assert_true(edge_link_dial_is_late(&l, 30 * S));
    edge_link_connected(&l);
    assert_false(edge_link_dial_is_late(&l, 31 * S));
}

static void test_closed_link_is_believed_in(void **state)
{
    (void)state;
    struct edge_link l = {0};
    edge_link_start(&l, 0);
    assert_true(edge_link_wants_dial(&l, &link_times, 0));
    edge_link_connected(&l);
    edge_link_closed(&l);
    assert_int_equal(l.state, EDGE_LINK_BROKEN);
    assert_true(edge_link_believes_connected(&l));
    assert_int_equal(edge_link_due(&l), EDGE_NEVER);
    edge_link_noticed(&l, &link_times, 7 * S);
    assert_false(edge_link_believes_connected(&l));
    assert_int_equal(edge_link_due(&l), 37 * S);
    edge_link_closed(&l); /* of no consequence now */
    assert_int_equal(l.state, EDGE_LINK_SLEEPING);
}

/* --- lease --- */

static bool renewed;

static enum edge_lease_ask lease_done(struct edge_lease *l, enum edge_outcome outcome,
                                      bool node_known, uint64_t now)
{
    return edge_lease_done(l, &lease_times, outcome, node_known, 0, now, &renewed);
}

static void start_lease(struct edge_lease *l, bool known)
{
    edge_lease_init(l, 0);
    l->is_known = known;
}

static void test_lease_waits_for_the_node(void **state)
{
    (void)state;
    struct edge_lease l;
    start_lease(&l, false);
    assert_int_equal(edge_lease_tick(&l, &lease_times, 0), EDGE_LEASE_ASK_QUERY);
    assert_int_equal(edge_lease_tick(&l, &lease_times, 0), EDGE_LEASE_ASK_NONE);
    assert_int_equal(lease_done(&l, EDGE_OUTCOME_NOT_FOUND, false, 1), EDGE_LEASE_ASK_NONE);
    assert_int_equal(edge_lease_due(&l), 10 * S + 1);
    assert_int_equal(edge_lease_tick(&l, &lease_times, 10 * S + 1), EDGE_LEASE_ASK_QUERY);
    assert_int_equal(lease_done(&l, EDGE_OUTCOME_NOT_FOUND, true, 11 * S), EDGE_LEASE_ASK_INSERT);
    assert_int_equal(lease_done(&l, EDGE_OUTCOME_OK, true, 12 * S), EDGE_LEASE_ASK_NONE);
    assert_true(renewed);
    assert_int_equal(edge_lease_due(&l), 22 * S);
    assert_int_equal(edge_lease_tick(&l, &lease_times, 22 * S), EDGE_LEASE_ASK_UPDATE);
}

static void test_lease_jitter_is_four_percent(void **state)
{
    (void)state;
    struct edge_lease l;
    start_lease(&l, true);
    assert_int_equal(edge_lease_tick(&l, &lease_times, 0), EDGE_LEASE_ASK_UPDATE);
    edge_lease_done(&l, &lease_times, EDGE_OUTCOME_OK, true, 0.5, 0, &renewed);
    assert_int_equal(edge_lease_due(&l), 10200 * MS);
}

static void test_conflict_reads_again(void **state)
{
    (void)state;
    struct edge_lease l;
    start_lease(&l, true);
    assert_int_equal(edge_lease_tick(&l, &lease_times, 0), EDGE_LEASE_ASK_UPDATE);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(lease_done(&l, EDGE_OUTCOME_CONFLICT, true, 1), EDGE_LEASE_ASK_QUERY);
        assert_int_equal(lease_done(&l, EDGE_OUTCOME_OK, true, 1), EDGE_LEASE_ASK_UPDATE);
    }
    assert_int_equal(lease_done(&l, EDGE_OUTCOME_OK, true, 1), EDGE_LEASE_ASK_NONE);
    assert_true(renewed);
}

/* Five updates, then the lease is read anew once and five more; then the next period. */
static void test_updates_are_tried_five_times_twice(void **state)
{
    (void)state;
    struct edge_lease l;
    start_lease(&l, true);
    assert_int_equal(edge_lease_tick(&l, &lease_times, 0), EDGE_LEASE_ASK_UPDATE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(lease_done(&l, EDGE_OUTCOME_FAILED, true, 1), EDGE_LEASE_ASK_UPDATE);
    assert_int_equal(lease_done(&l, EDGE_OUTCOME_FAILED, true, 1), EDGE_LEASE_ASK_QUERY);
    assert_int_equal(lease_done(&l, EDGE_OUTCOME_OK, true, 1), EDGE_LEASE_ASK_UPDATE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(lease_done(&l, EDGE_OUTCOME_FAILED, true, 1), EDGE_LEASE_ASK_UPDATE);
    assert_int_equal(lease_done(&l, EDGE_OUTCOME_FAILED, true, 1), EDGE_LEASE_ASK_NONE);
    assert_false(renewed);
    assert_int_equal(edge_lease_due(&l), 10 * S + 1);
}

static void test_reading_backs_off_to_seven_seconds(void **state)
{
    (void)state;
    static const uint64_t waits_ms[] = {200, 400, 800, 1600, 3200, 6400, 7000, 7000};
    struct edge_lease l;
    uint64_t now = 0;
    start_lease(&l, false);
    for (size_t i = 0; i < sizeof(waits_ms) / sizeof(waits_ms[0]); i++) {
        assert_int_equal(edge_lease_tick(&l, &lease_times, now), EDGE_LEASE_ASK_QUERY);
        assert_int_equal(lease_done(&l, EDGE_OUTCOME_FAILED, true, now), EDGE_LEASE_ASK_NONE);
        assert_int_equal(edge_lease_due(&l), now + waits_ms[i] * MS);
        now = edge_lease_due(&l);
    }
}

static void test_lease_keeps_a_copy(void **state)
{
    (void)state;
    struct edge_lease l;
    char metadata[] = "{\"name\":\"n\"}";
    edge_lease_init(&l, 0);
    assert_int_equal(edge_lease_store(&l, metadata, sizeof(metadata) - 1, true), 0);
    metadata[0] = 'x';
    assert_memory_equal(l.metadata, "{\"name\":\"n\"}", 12);
    assert_int_equal(edge_lease_store(&l, "{}", 2, false), 0);
    assert_int_equal(l.metadata_size, 2);
    assert_false(l.is_typed);
    edge_lease_fini(&l);
}

/* --- node --- */

static enum edge_node_ask node_done(struct edge_node *n, enum edge_outcome outcome, uint64_t now)
{
    return edge_node_done(n, &node_times, outcome, 0, now);
}

static void test_registration_steps(void **state)
{
    (void)state;
    static const uint64_t waits_ms[] = {200, 400, 800, 1600, 3200, 6400, 7000, 7000};
    struct edge_node n;
    edge_node_init(&n, &node_times, false, false, 0);
    assert_int_equal(edge_node_tick(&n, &node_times, 99 * MS), EDGE_NODE_ASK_NONE);
    uint64_t now = 100 * MS;
    for (size_t i = 0; i < sizeof(waits_ms) / sizeof(waits_ms[0]); i++) {
        assert_int_equal(edge_node_tick(&n, &node_times, now), EDGE_NODE_ASK_INSERT);
        assert_int_equal(node_done(&n, EDGE_OUTCOME_FAILED, now), EDGE_NODE_ASK_NONE);
        assert_int_equal(edge_node_due(&n), now + waits_ms[i] * MS);
        now = edge_node_due(&n);
    }
    assert_int_equal(edge_node_tick(&n, &node_times, now), EDGE_NODE_ASK_INSERT);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_OK, now), EDGE_NODE_ASK_NONE);
    assert_true(n.is_registered && n.was_created);
    assert_int_equal(edge_node_due(&n), now + 60 * MS);
}

/* A wiped edge that finds its Node there hangs until the cloud pushes it. */
static void test_wiped_edge_needs_the_push(void **state)
{
    (void)state;
    struct edge_node n;
    edge_node_init(&n, &node_times, false, false, 0);
    assert_int_equal(edge_node_tick(&n, &node_times, S), EDGE_NODE_ASK_INSERT);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_EXISTS, S), EDGE_NODE_ASK_NONE);
    assert_false(n.is_registered);
    edge_node_learned(&n, "7a94d1cd-62a4-492a-9e81-c144771025e0", 36, true);
    assert_int_equal(edge_node_tick(&n, &node_times, 2 * S), EDGE_NODE_ASK_INSERT);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_EXISTS, 2 * S), EDGE_NODE_ASK_NONE);
    assert_true(n.is_registered);
    assert_false(n.was_created);
    assert_string_equal(n.uid, "7a94d1cd-62a4-492a-9e81-c144771025e0");
}

static void test_old_edge_queries(void **state)
{
    (void)state;
    struct edge_node n;
    edge_node_init(&n, &node_times, true, true, 0);
    assert_int_equal(edge_node_tick(&n, &node_times, S), EDGE_NODE_ASK_INSERT);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_EXISTS, S), EDGE_NODE_ASK_QUERY);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_OK, S), EDGE_NODE_ASK_NONE);
    assert_int_equal(edge_node_tick(&n, &node_times, 2 * S), EDGE_NODE_ASK_QUERY);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_OK, 2 * S), EDGE_NODE_ASK_PATCH);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_OK, 2 * S), EDGE_NODE_ASK_NONE);
    /* Every 10 s a query, and nothing to send. */
    assert_int_equal(edge_node_tick(&n, &node_times, 12 * S), EDGE_NODE_ASK_QUERY);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_OK, 12 * S), EDGE_NODE_ASK_NONE);
    assert_int_equal(edge_node_due(&n), 22 * S);
}

static struct edge_node registered_node(void)
{
    struct edge_node n;
    edge_node_init(&n, &node_times, false, true, 0);
    assert_int_equal(edge_node_tick(&n, &node_times, S), EDGE_NODE_ASK_INSERT);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_EXISTS, S), EDGE_NODE_ASK_NONE);
    assert_int_equal(edge_node_tick(&n, &node_times, 2 * S), EDGE_NODE_ASK_PATCH);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_OK, 2 * S), EDGE_NODE_ASK_NONE);
    return n;
}

static void test_reports_every_five_minutes(void **state)
{
    (void)state;
    struct edge_node n = registered_node();
    unsigned patches = 0;
    for (uint64_t now = 2 * S; now < 602 * S; now += S) {
        if (edge_node_tick(&n, &node_times, now) == EDGE_NODE_ASK_PATCH) {
            patches++;
            assert_true(now % (300 * S) == 2 * S);
            node_done(&n, EDGE_OUTCOME_OK, now);
        }
    }
    assert_int_equal(patches, 1); /* at 302 s; the next would be at 602 s */
}

static void test_change_is_reported_at_the_next_look(void **state)
{
    (void)state;
    struct edge_node n = registered_node();
    edge_node_learned(&n, NULL, 0, false); /* the cloud says NotReady */
    assert_int_equal(edge_node_tick(&n, &node_times, 11 * S), EDGE_NODE_ASK_NONE);
    assert_int_equal(edge_node_tick(&n, &node_times, 12 * S), EDGE_NODE_ASK_PATCH);
    assert_true(n.tells_change);
    edge_node_learned(&n, NULL, 0,
                      false); /* once more, while the report is on its way: not forgotten */
    assert_int_equal(node_done(&n, EDGE_OUTCOME_OK, 12 * S), EDGE_NODE_ASK_NONE);
    assert_int_equal(edge_node_tick(&n, &node_times, 22 * S), EDGE_NODE_ASK_PATCH);
}

static void test_report_is_tried_five_times(void **state)
{
    (void)state;
    struct edge_node n = registered_node();
    edge_node_learned(&n, NULL, 0, false);
    assert_int_equal(edge_node_tick(&n, &node_times, 12 * S), EDGE_NODE_ASK_PATCH);
    for (int i = 0; i < 4; i++)
        assert_int_equal(node_done(&n, EDGE_OUTCOME_FAILED, 12 * S), EDGE_NODE_ASK_PATCH);
    assert_int_equal(node_done(&n, EDGE_OUTCOME_FAILED, 12 * S), EDGE_NODE_ASK_NONE);
    assert_int_equal(edge_node_tick(&n, &node_times, 22 * S), EDGE_NODE_ASK_PATCH);
    assert_true(n.tells_change);
}

/* --- questions --- */

static struct edge_request *ask(struct edge_requests *r, uint64_t deadline)
{
    return edge_requests_open(r, EDGE_KIND_NODEPATCH, EDGE_ASKER_NODE, 0, "text", 4, deadline);
}

static void test_ring_grows_only_for_open_ones(void **state)
{
    (void)state;
    struct edge_requests r;
    edge_requests_init(&r);
    for (uint64_t i = 1; i <= 1000; i++) {
        struct edge_request *q = ask(&r, i);
        assert_non_null(q);
        assert_int_equal(q->sequence, i);
        edge_requests_close(&r, q, EDGE_REQUEST_ANSWERED);
    }
    assert_int_equal(r.capacity, 8);
    assert_int_equal(edge_requests_find(&r, 1000)->state, EDGE_REQUEST_ANSWERED);
    assert_non_null(edge_requests_find(&r, 993));
    assert_null(edge_requests_find(&r, 992)); /* overwritten */
    assert_null(edge_requests_find(&r, 1001));
    struct edge_request *held = ask(&r, S);
    uint64_t held_sequence = held->sequence;
    for (int i = 0; i < 100; i++)
        edge_requests_close(&r, ask(&r, 2 * S), EDGE_REQUEST_ANSWERED);
    assert_int_equal(r.pending, 1);
    assert_int_equal(edge_requests_find(&r, held_sequence)->state, EDGE_REQUEST_WAITING);
    edge_requests_fini(&r);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct edge_requests r;
    edge_requests_init(&r);
    assert_int_equal(edge_requests_due(&r), EDGE_NEVER);
    ask(&r, 60 * S);
    struct edge_request *second = ask(&r, 61 * S);
    assert_null(edge_requests_expired(&r, 60 * S - 1));
    struct edge_request *first = edge_requests_expired(&r, 60 * S);
    assert_int_equal(first->sequence, 1);
    edge_requests_extend(&r, first, 120 * S);
    assert_null(edge_requests_expired(&r, 60 * S));
    assert_int_equal(edge_requests_due(&r), 61 * S);
    edge_requests_close(&r, second, EDGE_REQUEST_ANSWERED);
    assert_null(edge_requests_expired(&r, 119 * S));
    assert_int_equal(edge_requests_expired(&r, 120 * S)->sequence, 1);
    edge_requests_fini(&r);
}

/* --- histogram --- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_quantiles_are_right_to_three_percent(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    static const double quantiles[] = {0, 0.01, 0.5, 0.9, 0.99, 0.999, 1};
    struct edge_histogram *h = calloc(1, sizeof(*h));
    uint64_t random = 42;
    for (size_t i = 0; i < COUNT; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        values[i] = (random >> 33) >> ((random >> 20) % 31); /* all magnitudes */
        edge_histogram_add(h, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), compare);
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        size_t rank = (size_t)(quantiles[i] * COUNT);
        uint64_t exact = values[rank > 0 ? rank - 1 : 0],
                 got = edge_histogram_quantile(h, quantiles[i]);
        assert_true(got >= exact);
        assert_true((double)got <= (double)exact * 1.033 + 1);
    }
    assert_int_equal(h->count, COUNT);
    assert_int_equal(h->min, values[0]);
    assert_int_equal(h->max, values[COUNT - 1]);
    free(h);
}

static void test_histogram_edges(void **state)
{
    (void)state;
    struct edge_histogram *h = calloc(1, sizeof(*h));
    assert_int_equal(edge_histogram_quantile(h, 0.5), 0);
    edge_histogram_add(h, 0);
    assert_int_equal(edge_histogram_quantile(h, 1), 0);
    edge_histogram_add(h, UINT64_MAX);
    assert_int_equal(edge_histogram_quantile(h, 0.5), 0);
    assert_int_equal(h->max, UINT64_MAX);
    assert_int_equal(edge_histogram_count_above(h, 40 * S), 1);
    assert_int_equal(edge_histogram_count_above(h, 0), 1);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_five_dials_then_sleep),
        cmocka_unit_test(test_handshake_has_thirty_seconds),
        cmocka_unit_test(test_closed_link_is_believed_in),
        cmocka_unit_test(test_lease_waits_for_the_node),
        cmocka_unit_test(test_lease_jitter_is_four_percent),
        cmocka_unit_test(test_conflict_reads_again),
        cmocka_unit_test(test_updates_are_tried_five_times_twice),
        cmocka_unit_test(test_reading_backs_off_to_seven_seconds),
        cmocka_unit_test(test_lease_keeps_a_copy),
        cmocka_unit_test(test_registration_steps),
        cmocka_unit_test(test_wiped_edge_needs_the_push),
        cmocka_unit_test(test_old_edge_queries),
        cmocka_unit_test(test_reports_every_five_minutes),
        cmocka_unit_test(test_change_is_reported_at_the_next_look),
        cmocka_unit_test(test_report_is_tried_five_times),
        cmocka_unit_test(test_ring_grows_only_for_open_ones),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_quantiles_are_right_to_three_percent),
        cmocka_unit_test(test_histogram_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
