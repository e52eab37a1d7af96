/* The order of the upstream pool: limits, turns, per-object order, coalescing, eviction, deadlines, and a random walk that holds
 * all of it against the rules at once. */
#include "hub/lanes.h"

#include "test/lib/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct fixture {
    struct lanes *lanes;
    struct lane_work works[64];
    unsigned used;
};

static const struct lanes_limits roomy = {
    .lane_inflight = {8, 8, 8, 8, 8}, .node_inflight = 4, .node_events = 3};

static void open_lanes(struct fixture *f, const struct lanes_limits *limits)
{
    memset(f, 0, sizeof(*f));
    f->lanes = lanes_create(limits);
    assert_non_null(f->lanes);
}

static void close_lanes(struct fixture *f)
{
    struct lane_work *w;
    while ((w = lanes_expire(f->lanes, UINT64_MAX)))
        continue;
    lanes_destroy(f->lanes);
}

static struct lane_work *add(struct fixture *f, const char *node, enum lane lane, unsigned kind, const char *object,
                             struct lane_work **evicted)
{
    struct lane_work *w = &f->works[f->used++];
    struct lane_work *gone = NULL;
    *w = (struct lane_work){.lane = lane, .kind = kind, .is_coalesced = kind == 1, .deadline_ms = 1000 + f->used};
    assert_int_equal(0, lanes_add(f->lanes, w, node, strlen(node), object, strlen(object), &gone));
    if (evicted)
        *evicted = gone;
    else
        assert_null(gone);
    return w;
}

static void finish(struct fixture *f, struct lane_work *w)
{
    lanes_done(f->lanes, w);
    assert_int_equal(WORK_OUT, w->state);
}

static void test_one_object_one_at_a_time(void **state)
{
    struct fixture f;
    (void)state;
    open_lanes(&f, &roomy);
    struct lane_work *a = add(&f, "n", LANE_STATUS, 0, "pod/x", NULL);
    struct lane_work *b = add(&f, "n", LANE_STATUS, 2, "pod/x", NULL);
    struct lane_work *c = add(&f, "n", LANE_STATUS, 0, "pod/y", NULL);
    assert_ptr_equal(a, lanes_next(f.lanes));
    assert_ptr_equal(c, lanes_next(f.lanes));
    assert_null(lanes_next(f.lanes));
    finish(&f, a);
    assert_ptr_equal(b, lanes_next(f.lanes));
    finish(&f, b);
    finish(&f, c);
    close_lanes(&f);
}

/* nodepatch (liveness) and own work about the same object keep their order across lanes. */
static void test_object_order_crosses_lanes(void **state)
{
    struct fixture f;
    (void)state;
    open_lanes(&f, &roomy);
    struct lane_work *own = add(&f, "n", LANE_OWN, 0, "node", NULL);
    struct lane_work *patch = add(&f, "n", LANE_LIVENESS, 2, "node", NULL);
    assert_ptr_equal(own, lanes_next(f.lanes));
    assert_null(lanes_next(f.lanes));
    finish(&f, own);
    assert_ptr_equal(patch, lanes_next(f.lanes));
    finish(&f, patch);
    close_lanes(&f);
}

static void test_same_object_of_another_node_is_another(void **state)
{
    struct fixture f;
    (void)state;
    open_lanes(&f, &roomy);
    struct lane_work *a = add(&f, "n", LANE_STATUS, 0, "pod/x", NULL);
    struct lane_work *b = add(&f, "m", LANE_STATUS, 0, "pod/x", NULL);
    assert_ptr_equal(a, lanes_next(f.lanes));
    assert_ptr_equal(b, lanes_next(f.lanes));
    finish(&f, a);
    finish(&f, b);
    close_lanes(&f);
}

static void test_without_object_nothing_waits(void **state)
{
    struct fixture f;
    (void)state;
    open_lanes(&f, &roomy);
    struct lane_work *a = add(&f, "n", LANE_OWN, 0, "", NULL);
    struct lane_work *b = add(&f, "n", LANE_OWN, 0, "", NULL);
    assert_ptr_equal(a, lanes_next(f.lanes));
    assert_ptr_equal(b, lanes_next(f.lanes));
    finish(&f, b);
    finish(&f, a);
    close_lanes(&f);
}

static void test_a_full_lane_does_not_hold_another(void **state)
{
    struct fixture f;
    (void)state;
    struct lanes_limits limits = roomy;
    limits.lane_inflight[LANE_EVENT] = 1;
    open_lanes(&f, &limits);
    struct lane_work *e1 = add(&f, "n", LANE_EVENT, 0, "e1", NULL);
    struct lane_work *e2 = add(&f, "m", LANE_EVENT, 0, "e2", NULL);
    assert_ptr_equal(e1, lanes_next(f.lanes));
    assert_null(lanes_next(f.lanes));
    struct lane_work *lease = add(&f, "n", LANE_LIVENESS, 1, "lease", NULL);
    assert_ptr_equal(lease, lanes_next(f.lanes));
    assert_int_equal(1, lanes_running(f.lanes, LANE_EVENT));
    assert_int_equal(1, lanes_waiting(f.lanes, LANE_EVENT));
    finish(&f, lease);
    finish(&f, e1);
    assert_ptr_equal(e2, lanes_next(f.lanes));
    finish(&f, e2);
    close_lanes(&f);
}

static void test_nodes_take_turns(void **state)
{
    struct fixture f;
    (void)state;
    struct lanes_limits limits = roomy;
    limits.lane_inflight[LANE_QUERY] = 1;
    open_lanes(&f, &limits);
    struct lane_work *a[3], *b;
    char name[3][8] = {"q1", "q2", "q3"};
    for (int i = 0; i < 3; i++)
        a[i] = add(&f, "greedy", LANE_QUERY, 0, name[i], NULL);
    b = add(&f, "modest", LANE_QUERY, 0, "q", NULL);
    struct lane_work *expected[] = {a[0], b, a[1], a[2]};
    for (int i = 0; i < 4; i++) {
        struct lane_work *w = lanes_next(f.lanes);
        assert_ptr_equal(expected[i], w);
        assert_null(lanes_next(f.lanes));
        finish(&f, w);
    }
    close_lanes(&f);
}

static void test_a_node_has_a_limit_of_its_own(void **state)
{
    struct fixture f;
    (void)state;
    struct lanes_limits limits = roomy;
    limits.node_inflight = 1;
    open_lanes(&f, &limits);
    struct lane_work *a = add(&f, "n", LANE_QUERY, 0, "q1", NULL);
    struct lane_work *b = add(&f, "n", LANE_QUERY, 0, "q2", NULL);
    assert_ptr_equal(a, lanes_next(f.lanes));
    assert_null(lanes_next(f.lanes));
    finish(&f, a);
    assert_ptr_equal(b, lanes_next(f.lanes));
    finish(&f, b);
    close_lanes(&f);
}

static void test_newer_replaces_older_that_waits(void **state)
{
    struct fixture f;
    (void)state;
    open_lanes(&f, &roomy);
    struct lane_work *running = add(&f, "n", LANE_LIVENESS, 1, "lease", NULL);
    assert_ptr_equal(running, lanes_next(f.lanes));
    struct lane_work *old = add(&f, "n", LANE_LIVENESS, 1, "lease", NULL);
    struct lane_work *newer = add(&f, "n", LANE_LIVENESS, 1, "lease", NULL);
    struct lane_work *newest = add(&f, "n", LANE_LIVENESS, 1, "lease", NULL);
    assert_int_equal(1, lanes_waiting(f.lanes, LANE_LIVENESS));
    assert_int_equal(WORK_OUT, old->state);
    finish(&f, running);
    assert_ptr_equal(newest, lanes_next(f.lanes));
    assert_ptr_equal(newer, newest->followers);
    assert_ptr_equal(old, newer->next);
    assert_null(old->next);
    finish(&f, newest);
    close_lanes(&f);
}

/* A ready one that nobody has begun is replaced where it stands. */
static void test_newer_replaces_a_ready_one(void **state)
{
    struct fixture f;
    (void)state;
    open_lanes(&f, &roomy);
    struct lane_work *old = add(&f, "n", LANE_LIVENESS, 1, "lease", NULL);
    struct lane_work *newer = add(&f, "n", LANE_LIVENESS, 1, "lease", NULL);
    assert_ptr_equal(newer, lanes_next(f.lanes));
    assert_ptr_equal(old, newer->followers);
    assert_null(lanes_next(f.lanes));
    finish(&f, newer);
    close_lanes(&f);
}

static void test_nothing_is_coalesced_over_another_kind(void **state)
{
    struct fixture f;
    (void)state;
    open_lanes(&f, &roomy);
    struct lane_work *a = add(&f, "n", LANE_LIVENESS, 1, "node", NULL);
    struct lane_work *b = add(&f, "n", LANE_LIVENESS, 2, "node", NULL);
    struct lane_work *c = add(&f, "n", LANE_LIVENESS, 1, "node", NULL);
    struct lane_work *expected[] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        struct lane_work *w = lanes_next(f.lanes);
        assert_ptr_equal(expected[i], w);
        assert_null(w->followers);
        finish(&f, w);
    }
    close_lanes(&f);
}

static void test_oldest_event_goes(void **state)
{
    struct fixture f;
    (void)state;
    struct lanes_limits limits = roomy;
    limits.lane_inflight[LANE_EVENT] = 0;
    open_lanes(&f, &limits);
    struct lane_work *gone, *first = add(&f, "n", LANE_EVENT, 0, "e0", NULL);
    add(&f, "n", LANE_EVENT, 0, "e1", NULL);
    add(&f, "n", LANE_EVENT, 0, "e1", NULL); /* blocked behind the one before */
    add(&f, "m", LANE_EVENT, 0, "e", NULL);  /* another node's do not count */
    add(&f, "n", LANE_EVENT, 0, "e3", &gone);
    assert_ptr_equal(first, gone);
    assert_int_equal(WORK_OUT, first->state);
    assert_int_equal(4, lanes_waiting(f.lanes, LANE_EVENT));
    close_lanes(&f);
}

static void test_expiry_frees_what_is_behind(void **state)
{
    struct fixture f;
    (void)state;
    struct lanes_limits limits = roomy;
    limits.lane_inflight[LANE_STATUS] = 0;
    open_lanes(&f, &limits);
    struct lane_work *a = add(&f, "n", LANE_STATUS, 0, "pod/x", NULL);
    struct lane_work *b = add(&f, "n", LANE_STATUS, 0, "pod/x", NULL);
    assert_null(lanes_expire(f.lanes, a->deadline_ms - 1));
    assert_ptr_equal(a, lanes_expire(f.lanes, a->deadline_ms));
    assert_null(lanes_expire(f.lanes, a->deadline_ms));
    assert_int_equal(WORK_READY, b->state);
    close_lanes(&f);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    unsigned failures = 0;
    for (unsigned n = 1;; n++) {
        struct fixture f;
        open_lanes(&f, &roomy);
        struct lane_work w = {.lane = LANE_STATUS, .deadline_ms = 1};
        struct lane_work *evicted;
        heap_fail_nth(n);
        int rc = lanes_add(f.lanes, &w, "n", 1, "pod/x", 5, &evicted);
        bool failed = heap_fail_end();
        assert_int_equal(failed ? -ENOMEM : 0, rc);
        assert_int_equal(failed ? 0 : 1, lanes_waiting(f.lanes, LANE_STATUS));
        close_lanes(&f);
        if (!failed)
            break;
        failures++;
    }
    assert_true(failures >= 2);
}

/* ---- a random walk ---- */

#define WALK_NODES   4
#define WALK_OBJECTS 3

struct walker {
    struct lane_work work; /* first */
    unsigned node, object, order;
};

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

struct walk {
    struct lanes *lanes;
    uint64_t seed;
    unsigned order, alive;
    struct walker *running[256];
    unsigned running_count;
    unsigned last_done[WALK_NODES][WALK_OBJECTS];
};

static void forget(struct walk *k, struct lane_work *w)
{
    while (w->followers) {
        struct lane_work *f = w->followers;
        w->followers = f->next;
        free(f);
        k->alive--;
    }
    free(w);
    k->alive--;
}

static void walk_add(struct walk *k)
{
    struct walker *v = calloc(1, sizeof(*v));
    assert_non_null(v);
    struct lane_work *evicted;
    char node[8], object[8];
    v->node = next_random(&k->seed) % WALK_NODES;
    v->object = next_random(&k->seed) % WALK_OBJECTS;
    v->order = ++k->order;
    v->work.lane = (enum lane)(next_random(&k->seed) % LANE_COUNT);
    v->work.kind = next_random(&k->seed) % 3;
    v->work.is_coalesced = v->work.kind == 1;
    v->work.deadline_ms = k->order + 40;
    snprintf(node, sizeof(node), "n%u", v->node);
    snprintf(object, sizeof(object), "o%u", v->object);
    assert_int_equal(0, lanes_add(k->lanes, &v->work, node, strlen(node), object, strlen(object), &evicted));
    k->alive++;
    if (evicted) {
        assert_int_equal(LANE_EVENT, evicted->lane);
        forget(k, evicted);
    }
}

static void walk_start(struct walk *k)
{
    struct walker *v = (struct walker *)(void *)lanes_next(k->lanes);
    if (!v)
        return;
    for (unsigned i = 0; i < k->running_count; i++) {
        struct walker *other = k->running[i];
        assert_false(other->node == v->node && other->object == v->object);
    }
    assert_true(v->order > k->last_done[v->node][v->object]);
    k->running[k->running_count++] = v;
}

static void walk_finish(struct walk *k)
{
    if (k->running_count == 0)
        return;
    unsigned i = next_random(&k->seed) % k->running_count;
    struct walker *v = k->running[i];
    k->running[i] = k->running[--k->running_count];
    k->last_done[v->node][v->object] = v->order;
    lanes_done(k->lanes, &v->work);
    forget(k, &v->work);
}

static void walk_check(const struct walk *k, const struct lanes_limits *limits)
{
    unsigned lanes[LANE_COUNT] = {0}, nodes[WALK_NODES][LANE_COUNT] = {{0}};
    for (unsigned i = 0; i < k->running_count; i++) {
        const struct walker *v = k->running[i];
        assert_true(++lanes[v->work.lane] <= limits->lane_inflight[v->work.lane]);
        assert_true(++nodes[v->node][v->work.lane] <= limits->node_inflight);
    }
    for (int lane = 0; lane < LANE_COUNT; lane++)
        assert_int_equal(lanes[lane], lanes_running(k->lanes, (enum lane)lane));
}

static void test_random_walk(void **state)
{
    (void)state;
    static const struct lanes_limits limits = {
        .lane_inflight = {3, 2, 2, 1, 2}, .node_inflight = 2, .node_events = 4};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct walk k = {.lanes = lanes_create(&limits), .seed = seed};
        for (int step = 0; step < 600; step++) {
            uint32_t choice = next_random(&k.seed) % 10;
            if (choice < 4)
                walk_add(&k);
            else if (choice < 7)
                walk_start(&k);
            else
                walk_finish(&k);
            struct lane_work *late = next_random(&k.seed) % 8 == 0 ? lanes_expire(k.lanes, k.order) : NULL;
            if (late)
                forget(&k, late);
            walk_check(&k, &limits);
        }
        struct lane_work *w;
        while ((w = lanes_expire(k.lanes, UINT64_MAX)))
            forget(&k, w);
        while (k.running_count > 0)
            walk_finish(&k);
        assert_int_equal(0, k.alive);
        lanes_destroy(k.lanes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_object_one_at_a_time),
        cmocka_unit_test(test_object_order_crosses_lanes),
        cmocka_unit_test(test_same_object_of_another_node_is_another),
        cmocka_unit_test(test_without_object_nothing_waits),
        cmocka_unit_test(test_a_full_lane_does_not_hold_another),
        cmocka_unit_test(test_nodes_take_turns),
        cmocka_unit_test(test_a_node_has_a_limit_of_its_own),
        cmocka_unit_test(test_newer_replaces_older_that_waits),
        cmocka_unit_test(test_newer_replaces_a_ready_one),
        cmocka_unit_test(test_nothing_is_coalesced_over_another_kind),
        cmocka_unit_test(test_oldest_event_goes),
        cmocka_unit_test(test_expiry_frees_what_is_behind),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
