/* What a session is found by and what it may hold: slots and generations, the states, the registry
 * in which the newest connection of a node wins, the reassembly budget, names; with failing
 * allocations. */
#include "hub/hub_metrics.h"
#include "hub/session.h"

#include "test/lib/heap.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- states ---- */

static void test_states(void **state)
{
    (void)state;
    assert_true(session_may_change(SESSION_HANDSHAKE, SESSION_OPEN));
    assert_true(session_may_change(SESSION_HANDSHAKE, SESSION_CLOSED));
    assert_true(session_may_change(SESSION_OPEN, SESSION_CLOSING));
    assert_true(session_may_change(SESSION_CLOSING, SESSION_CLOSED));
    /* nothing opens twice, comes back, or skips the accounting of CLOSING */
    assert_false(session_may_change(SESSION_OPEN, SESSION_CLOSED));
    assert_false(session_may_change(SESSION_CLOSING, SESSION_OPEN));
    assert_false(session_may_change(SESSION_HANDSHAKE, SESSION_CLOSING));
    for (unsigned from = 0; from < SESSION_STATE_COUNT; from++) {
        assert_false(session_may_change(from, from));
        assert_false(session_may_change(SESSION_CLOSED, from));
        assert_false(session_may_change(from, SESSION_HANDSHAKE));
    }
}

/* ---- slots ---- */

static void test_a_slot_is_used_again_with_another_generation(void **state)
{
    struct session_slots slots;
    struct session a = {.loop = NULL}, b = {.loop = NULL};
    (void)state;
    session_slots_init(&slots);
    assert_int_equal(0, session_slots_put(&slots, 3, &a));
    struct session_ref old = a.ref;
    assert_int_equal(3, old.loop);
    assert_ptr_equal(session_slots_find(&slots, old), &a);
    session_slots_remove(&slots, &a);
    assert_null(session_slots_find(&slots, old));
    assert_int_equal(0, session_slots_put(&slots, 3, &b));
    assert_int_equal(old.slot, b.ref.slot);
    assert_null(session_slots_find(&slots, old));
    assert_ptr_equal(session_slots_find(&slots, b.ref), &b);
    session_slots_remove(&slots, &b);
    session_slots_fini(&slots);
}

static void test_slots_grow(void **state)
{
    enum { N = 1000 };
    static struct session sessions[N];
    struct session_slots slots;
    (void)state;
    session_slots_init(&slots);
    assert_null(session_slots_find(&slots, (struct session_ref){0, 0, 1}));
    for (size_t i = 0; i < N; i++)
        assert_int_equal(0, session_slots_put(&slots, 0, &sessions[i]));
    for (size_t i = 0; i < N; i++)
        assert_ptr_equal(session_slots_find(&slots, sessions[i].ref), &sessions[i]);
    assert_int_equal(N, slots.used);
    for (size_t i = 0; i < N; i++)
        session_slots_remove(&slots, &sessions[i]);
    session_slots_fini(&slots);
}

static void test_slots_without_memory(void **state)
{
    struct session_slots slots;
    struct session a = {.loop = NULL};
    (void)state;
    session_slots_init(&slots);
    heap_fail_nth(1);
    assert_int_equal(-ENOMEM, session_slots_put(&slots, 0, &a));
    assert_true(heap_fail_end());
    assert_int_equal(0, session_slots_put(&slots, 0, &a));
    session_slots_remove(&slots, &a);
    session_slots_fini(&slots);
}

/* ---- registry ---- */

static struct node_name *name(const char *text)
{
    struct node_name *n = node_name_create(text, strlen(text), false);
    assert_non_null(n);
    return n;
}

static void test_the_newest_connection_wins(void **state)
{
    struct registry r;
    struct registry_entry first = {.is_listed = false}, second = {.is_listed = false};
    struct session_ref previous = {0, 0, 0}, found;
    struct node_name *a = name("edge-7"), *b = name("edge-7"); /* each session has its own */
    (void)state;
    registry_init(&r);
    assert_int_equal(0, registry_take(&r, &first, a, (struct session_ref){0, 1, 10}, &previous));
    assert_int_equal(1, registry_take(&r, &second, b, (struct session_ref){1, 5, 20}, &previous));
    assert_true(second.order > first.order);
    assert_int_equal(1, previous.slot);
    assert_int_equal(10, previous.generation);
    /* the older one leaves late and takes nothing away */
    registry_leave(&r, &first, a);
    node_name_put(a);
    assert_true(registry_find(&r, "edge-7", &found));
    assert_int_equal(20, found.generation);
    registry_leave(&r, &second, b);
    assert_false(registry_find(&r, "edge-7", &found));
    node_name_put(b);
    registry_fini(&r);
}

/* Each shard begins with an allocation, and so does nearly every first entry: without memory the
 * older one stays listed, so that its end is noticed. */
static void test_without_memory_the_older_one_stays(void **state)
{
    struct registry r;
    struct registry_entry first = {.is_listed = false}, entries[32];
    struct session_ref previous = {0, 0, 0}, found;
    struct node_name *a = name("edge-7");
    (void)state;
    registry_init(&r);
    assert_int_equal(0, registry_take(&r, &first, a, (struct session_ref){0, 1, 10}, &previous));
    memset(entries, 0, sizeof(entries));
    for (unsigned i = 0; i < 32; i++) { /* more of its name: some grow the table, some do not */
        struct node_name *b = name("edge-7");
        heap_fail_nth(1);
        int rc = registry_take(&r, &entries[i], b, (struct session_ref){1, i, 20 + i}, &previous);
        heap_fail_end();
        assert_true(registry_find(&r, "edge-7", &found));
        assert_int_equal(rc == 1 ? 20 + i : 10, found.generation);
        assert_int_equal(rc == 1, entries[i].is_listed);
        if (rc == 1) { /* the first one again */
            assert_int_equal(0, registry_leave(&r, &first, a));
            assert_true(registry_leave(&r, &entries[i], b));
            assert_int_equal(
                0, registry_take(&r, &first, a, (struct session_ref){0, 1, 10}, &previous));
        }
        node_name_put(b);
    }
    assert_true(registry_leave(&r, &first, a));
    node_name_put(a);
    registry_fini(&r);
}

static void test_names_are_whole(void **state)
{
    struct registry r;
    struct registry_entry entry = {.is_listed = false};
    struct session_ref found, previous;
    struct node_name *n = name("edge-1");
    (void)state;
    registry_init(&r);
    assert_int_equal(0, registry_take(&r, &entry, n, (struct session_ref){0, 0, 1}, &previous));
    assert_false(registry_find(&r, "edge-10", &found));
    assert_false(registry_find(&r, "edge-", &found));
    assert_false(registry_find(&r, "", &found));
    registry_leave(&r, &entry, n);
    registry_leave(&r, &entry, n);
    node_name_put(n);
    registry_fini(&r);
}

static void test_registry_without_memory(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct registry r;
        struct registry_entry entry = {.is_listed = false};
        struct session_ref previous;
        struct node_name *node = name("edge-1");
        registry_init(&r);
        heap_fail_nth(n);
        int rc = registry_take(&r, &entry, node, (struct session_ref){0, 0, 1}, &previous);
        bool has_failed = heap_fail_end();
        assert_int_equal(has_failed ? -ENOMEM : 0, rc);
        assert_int_equal(!has_failed, entry.is_listed);
        registry_leave(&r, &entry, node);
        registry_fini(&r);
        node_name_put(node);
        if (!has_failed)
            break;
    }
}

/* Many loops take the same few nodes; every take must either be told of its predecessor or be the
 * first. */
struct contender {
    struct registry *registry;
    uint32_t loop;
    unsigned replaced, left;
};

#define CONTENDERS 4
#define ROUNDS     2000

static void *contend(void *argument)
{
    struct contender *c = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct registry_entry entry = {.is_listed = false};
        struct session_ref previous;
        char text[16];
        snprintf(text, sizeof(text), "edge-%u", i % 3);
        struct node_name *n = node_name_create(text, strlen(text), false);
        if (registry_take(c->registry, &entry, n, (struct session_ref){c->loop, i, i + 1},
                          &previous) == 1)
            c->replaced++;
        registry_leave(c->registry, &entry, n);
        c->left++;
        node_name_put(n);
    }
    return NULL;
}

static void test_registry_from_many_threads(void **state)
{
    struct registry r;
    struct contender contenders[CONTENDERS];
    pthread_t threads[CONTENDERS];
    (void)state;
    registry_init(&r);
    for (uint32_t i = 0; i < CONTENDERS; i++) {
        contenders[i] = (struct contender){.registry = &r, .loop = i};
        assert_int_equal(0, pthread_create(&threads[i], NULL, contend, &contenders[i]));
    }
    for (size_t i = 0; i < CONTENDERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(ROUNDS, contenders[i].left);
    }
    registry_fini(&r); /* asserts that nothing is left */
}

/* ---- names ---- */

static void test_names_are_counted_and_spread(void **state)
{
    unsigned workers[4] = {0};
    (void)state;
    struct node_name *n = name("edge-1");
    assert_ptr_equal(n, node_name_get(n));
    node_name_put(n);
    assert_string_equal("edge-1", n->text);
    node_name_put(n);
    for (unsigned i = 0; i < 4000; i++) {
        char text[16];
        snprintf(text, sizeof(text), "edge-%u", i);
        n = name(text);
        workers[n->hash % 4]++;
        node_name_put(n);
    }
    for (size_t i = 0; i < 4; i++)
        assert_in_range(workers[i], 850, 1150);
}

static void test_messages_without_memory(void **state)
{
    (void)state;
    heap_fail_nth(1);
    assert_null(message_create(100));
    assert_true(heap_fail_end());
    heap_fail_nth(1);
    assert_null(reply_create(100));
    assert_true(heap_fail_end());
    heap_fail_nth(1);
    assert_null(node_name_create("a", 1, false));
    assert_true(heap_fail_end());
    message_destroy(NULL);
    struct message *m = message_create(100);
    assert_true(m->mail.bytes >= sizeof(*m) + 100);
    m->node = name("edge-1"); /* goes with it */
    message_destroy(m);
}

/* ---- reassembly ---- */

static struct session_ref ref(uint32_t slot)
{
    return (struct session_ref){0, slot, slot + 1};
}

static void test_the_largest_must_go(void **state)
{
    struct reassembly r;
    struct reassembly_share shares[3];
    struct session_ref victim = ref(99);
    (void)state;
    memset(shares, 0, sizeof(shares));
    reassembly_init(&r, 1000);
    assert_false(reassembly_hold(&r, &shares[0], ref(0), 600, &victim));
    assert_false(reassembly_hold(&r, &shares[1], ref(1), 300, &victim));
    /* the last one exceeds it, the first one holds most */
    assert_true(reassembly_hold(&r, &shares[2], ref(2), 200, &victim));
    assert_int_equal(0, victim.slot);
    /* and does not count any more, although it has not let go yet */
    assert_false(reassembly_hold(&r, &shares[2], ref(2), 200, &victim));
    assert_false(reassembly_hold(&r, &shares[2], ref(2), 700, &victim));
    for (size_t i = 0; i < 3; i++)
        reassembly_release(&r, &shares[i]);
    reassembly_release(&r, &shares[0]);
    reassembly_fini(&r);
}

static void test_it_may_be_oneself(void **state)
{
    struct reassembly r;
    struct reassembly_share a = {.bytes = 0}, b = {.bytes = 0};
    struct session_ref victim = ref(99);
    (void)state;
    reassembly_init(&r, 1000);
    assert_false(reassembly_hold(&r, &a, ref(0), 400, &victim));
    assert_false(reassembly_hold(&r, &b, ref(1), 500, &victim));
    assert_true(reassembly_hold(&r, &b, ref(1), 900, &victim));
    assert_int_equal(1, victim.slot);
    reassembly_release(&r, &b);
    /* a share that was condemned counts anew when it begins anew */
    assert_false(reassembly_hold(&r, &b, ref(1), 600, &victim));
    assert_true(reassembly_hold(&r, &a, ref(0), 700, &victim));
    assert_int_equal(0, victim.slot);
    reassembly_release(&r, &a);
    reassembly_release(&r, &b);
    reassembly_fini(&r);
}

static void test_as_many_as_it_takes(void **state)
{
    struct reassembly r;
    struct reassembly_share shares[4];
    struct session_ref victim;
    unsigned victims = 0;
    (void)state;
    memset(shares, 0, sizeof(shares));
    reassembly_init(&r, 1000);
    for (uint32_t i = 0; i < 3; i++)
        assert_false(reassembly_hold(&r, &shares[i], ref(i), 300 + i, &victim));
    while (reassembly_hold(&r, &shares[3], ref(3), 700, &victim))
        victims++;
    assert_int_equal(1, victims); /* itself, the largest */
    assert_int_equal(3, victim.slot);
    for (size_t i = 0; i < 4; i++)
        reassembly_release(&r, &shares[i]);
    assert_int_equal(0, metric_value(&hub_metrics[M_REASSEMBLY_BYTES], 0, 0));
    reassembly_fini(&r);
}

static int set_up(void **state)
{
    (void)state;
    return hub_metrics_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_a_slot_is_used_again_with_another_generation),
        cmocka_unit_test(test_slots_grow),
        cmocka_unit_test(test_slots_without_memory),
        cmocka_unit_test(test_the_newest_connection_wins),
        cmocka_unit_test(test_without_memory_the_older_one_stays),
        cmocka_unit_test(test_names_are_whole),
        cmocka_unit_test(test_registry_without_memory),
        cmocka_unit_test(test_registry_from_many_threads),
        cmocka_unit_test(test_names_are_counted_and_spread),
        cmocka_unit_test(test_messages_without_memory),
        cmocka_unit_test(test_the_largest_must_go),
        cmocka_unit_test(test_it_may_be_oneself),
        cmocka_unit_test(test_as_many_as_it_takes),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
