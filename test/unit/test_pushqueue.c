/* The delivery rules of one node, each by itself, and a random walk with a model of the session and
 * the edge: whatever is lost, delayed, refused or answered in between, no push is older than what
 * the edge has, and in the end it has everything. */
#include "hub/pushqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- single rules ---- */

static void test_one_message_at_a_time(void **state)
{
    struct pushqueue q;
    struct push_item a = {0}, b = {0};
    enum push_op op;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_set(&q, &b, 6);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
    assert_null(pushqueue_take(&q, 0));
    pushqueue_sent(&q, 11, 5, 0);
    assert_null(pushqueue_take(&q, 0));
    assert_null(pushqueue_ack(&q, 12, &op));
    assert_ptr_equal(pushqueue_ack(&q, 11, &op), &a);
    assert_int_equal(op, PUSH_SET);
    assert_int_equal(a.acked, 5);
    assert_null(pushqueue_ack(&q, 11, &op));
    assert_ptr_equal(pushqueue_take(&q, 0), &b);
}

static void test_only_the_newest_of_an_object(void **state)
{
    struct pushqueue q;
    struct push_item a = {0};
    enum push_op op;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_set(&q, &a, 7);
    pushqueue_set(&q, &a, 6);
    assert_int_equal(q.count, 1);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
    assert_int_equal(pushqueue_floor(&a), 7);
    pushqueue_sent(&q, 1, 8, 0); /* what was read was newer still */
    pushqueue_set(&q, &a, 8);
    assert_ptr_equal(pushqueue_ack(&q, 1, &op), &a);
    assert_null(pushqueue_take(&q, 0));
    pushqueue_set(&q, &a, 8);
    assert_null(pushqueue_take(&q, 0));
    pushqueue_set(&q, &a, 9);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
}

static void test_a_change_in_flight_follows(void **state)
{
    struct pushqueue q;
    struct push_item a = {0};
    enum push_op op;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_take(&q, 0);
    pushqueue_sent(&q, 1, 5, 0);
    pushqueue_set(&q, &a, 6);
    assert_int_equal(q.count, 0);
    pushqueue_ack(&q, 1, &op);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
    assert_int_equal(pushqueue_floor(&a), 6);
}

static void test_nothing_follows_a_deletion(void **state)
{
    struct pushqueue q;
    struct push_item a = {0};
    enum push_op op;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_delete(&q, &a);
    pushqueue_set(&q, &a, 6);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
    assert_int_equal(q.op, PUSH_DELETE);
    pushqueue_sent(&q, 1, 0, 0);
    assert_ptr_equal(pushqueue_ack(&q, 1, &op), &a);
    assert_int_equal(op, PUSH_DELETE);
    assert_null(pushqueue_take(&q, 0));
}

static void test_a_deletion_waits_for_the_message_in_flight(void **state)
{
    struct pushqueue q;
    struct push_item a = {0};
    enum push_op op;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_take(&q, 0);
    pushqueue_sent(&q, 1, 5, 0);
    pushqueue_delete(&q, &a);
    assert_ptr_equal(pushqueue_ack(&q, 1, &op), &a);
    assert_int_equal(op, PUSH_SET);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
    assert_int_equal(q.op, PUSH_DELETE);
}

static void test_resent_as_cloudcore_does(void **state)
{
    struct pushqueue q;
    struct push_item a = {0}, b = {0};
    uint64_t now = 1000;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_take(&q, now);
    pushqueue_sent(&q, 1, 5, now);
    pushqueue_set(&q, &b, 6);
    for (int i = 1; i < PUSH_WRITES; i++) {
        assert_int_equal(pushqueue_deadline(&q, now), now + PUSH_RETRY_MS);
        assert_int_equal(pushqueue_tick(&q, now + PUSH_RETRY_MS - 1), PUSH_ACTION_NONE);
        now += PUSH_RETRY_MS;
        assert_int_equal(pushqueue_tick(&q, now), PUSH_ACTION_RESEND);
        assert_int_equal(q.id, 1);
    }
    now += PUSH_RETRY_MS;
    assert_int_equal(pushqueue_tick(&q, now), PUSH_ACTION_GIVEN_UP);
    assert_int_equal(now, 1000 + 5 * PUSH_RETRY_MS);
    /* The others take their turn while it waits. */
    assert_ptr_equal(pushqueue_take(&q, now), &b);
    pushqueue_skip(&q);
    assert_null(pushqueue_take(&q, now));
    assert_int_equal(pushqueue_deadline(&q, now), now + PUSH_BACKOFF_MS);
    assert_ptr_equal(pushqueue_take(&q, now + PUSH_BACKOFF_MS), &a);
}

static void test_backoff_doubles_to_its_end(void **state)
{
    struct pushqueue q;
    struct push_item a = {0};
    uint64_t now = UINT32_MAX - 5000; /* the half that is kept wraps on the way */
    uint64_t expected = PUSH_BACKOFF_MS;
    enum push_op op;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    for (int i = 0; i < 12; i++) {
        assert_ptr_equal(pushqueue_take(&q, now), &a);
        pushqueue_back(&q, now);
        assert_null(pushqueue_take(&q, now + expected - 1));
        now += expected;
        expected = expected * 2 < PUSH_BACKOFF_MAX_MS ? expected * 2 : PUSH_BACKOFF_MAX_MS;
    }
    pushqueue_take(&q, now);
    pushqueue_sent(&q, 1, 5, now);
    pushqueue_ack(&q, 1, &op);
    assert_int_equal(a.failures, 0);
}

static void test_answers_count(void **state)
{
    struct pushqueue q;
    struct push_item a = {0}, pod = {0};
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_answered(&q, &a, 6, true);
    assert_null(pushqueue_take(&q, 0));
    /* kubelet hears of a pod by pushes only; but none may be older than the answer. */
    pushqueue_set(&q, &pod, 5);
    pushqueue_answered(&q, &pod, 6, false);
    assert_ptr_equal(pushqueue_take(&q, 0), &pod);
    assert_int_equal(pushqueue_floor(&pod), 6);
}

static void test_an_older_answer_puts_back(void **state)
{
    struct pushqueue q;
    struct push_item a = {0};
    enum push_op op;
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_take(&q, 0);
    pushqueue_sent(&q, 1, 5, 0);
    pushqueue_answered(&q, &a, 4,
                       true); /* behind the push: the edge has 4 now, and will acknowledge 5 */
    assert_ptr_equal(pushqueue_ack(&q, 1, &op), &a);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
    assert_int_equal(pushqueue_floor(&a), 5);
}

static void test_a_refused_push_is_made_anew(void **state)
{
    struct pushqueue q;
    struct push_item a = {0};
    (void)state;
    pushqueue_init(&q);
    pushqueue_set(&q, &a, 5);
    pushqueue_take(&q, 0);
    pushqueue_sent(&q, 1, 5, 0);
    pushqueue_refused(&q, 2, 9);
    assert_int_equal(q.state, PUSH_WAITING);
    pushqueue_refused(&q, 1, 9);
    assert_ptr_equal(pushqueue_take(&q, 0), &a);
    assert_int_equal(pushqueue_floor(&a), 9);
}

static void test_forget_takes_it_out(void **state)
{
    struct pushqueue q;
    struct push_item items[3] = {{0}};
    (void)state;
    pushqueue_init(&q);
    for (int i = 0; i < 3; i++)
        pushqueue_set(&q, &items[i], 1);
    pushqueue_forget(&q, &items[2]);
    pushqueue_forget(&q, &items[0]);
    pushqueue_set(&q, &items[2], 2);
    assert_ptr_equal(pushqueue_take(&q, 0), &items[1]);
    pushqueue_skip(&q);
    assert_ptr_equal(pushqueue_take(&q, 0), &items[2]);
    pushqueue_skip(&q);
    assert_null(pushqueue_take(&q, 0));
    assert_int_equal(q.count, 0);
}

/* ---- the walk ---- */

#define OBJECTS 6
#define WIRE    64

struct packet {
    int object;
    enum push_op op;
    uint64_t id, version;
};

struct model {
    unsigned seed;
    struct pushqueue q;
    struct push_item items[OBJECTS];
    /* the API server */
    uint64_t version;
    uint64_t live[OBJECTS]; /* 0: gone */
    bool is_gone[OBJECTS];
    uint64_t read[OBJECTS]; /* PREPARING: what was read, and is used a while later */
    /* the session: what was answered, in the order of its sequence */
    uint64_t answered[OBJECTS], pushed[OBJECTS];
    struct packet wire[WIRE]; /* what is written and still to arrive, in order */
    size_t count;
    uint64_t acks[WIRE];
    size_t ack_count;
    uint64_t answer_in_worker[OBJECTS]; /* read by a worker, not handed to the session yet */
    /* the edge */
    uint64_t has[OBJECTS], kubelet[OBJECTS];
    uint64_t now, last_id;
    struct packet current;
    bool is_lossy;
};

static unsigned pick(struct model *m, unsigned below)
{
    m->seed = m->seed * 1103515245u + 12345u;
    return (m->seed >> 8) % below;
}

static bool is_pod(int object)
{
    return object % 2 == 0;
}

/* The session: refuses what is older than an answer (hub/send.c). */
static void session_push(struct model *m, struct packet p)
{
    if (p.op == PUSH_SET && m->answered[p.object] > p.version) {
        struct push_item *item = m->q.current;
        pushqueue_refused(&m->q, p.id, m->answered[p.object]);
        if (!is_pod(p.object) && item)
            pushqueue_answered(&m->q, item, m->answered[p.object], true);
        return;
    }
    if (p.op == PUSH_SET)
        m->pushed[p.object] = p.version;
    if (m->count < WIRE && !(m->is_lossy && pick(m, 5) == 0))
        m->wire[m->count++] = p;
}

static void session_answer(struct model *m, int object)
{
    uint64_t version = m->answer_in_worker[object];
    m->answer_in_worker[object] = 0;
    if (version == 0 || m->count == WIRE)
        return;
    if (m->pushed[object] > version)
        pushqueue_answered(&m->q, &m->items[object], version, !is_pod(object));
    if (version > m->answered[object])
        m->answered[object] = version;
    m->wire[m->count++] = (struct packet){object, PUSH_NOTHING, 0, version};
}

static void edge_takes(struct model *m)
{
    struct packet p = m->wire[0];
    if (m->count == 0)
        return;
    memmove(m->wire, m->wire + 1, --m->count * sizeof(m->wire[0]));
    if (p.op == PUSH_DELETE) {
        m->has[p.object] = m->kubelet[p.object] = 0;
    } else {
        /* An answer may set it back: that is what pushqueue_answered() is told. A push never does.
         */
        if (p.op == PUSH_SET) {
            assert_true(p.version >= m->has[p.object]);
            m->kubelet[p.object] = p.version;
        }
        m->has[p.object] = p.version;
    }
    if (p.op != PUSH_NOTHING && m->ack_count < WIRE && !(m->is_lossy && pick(m, 5) == 0))
        m->acks[m->ack_count++] = p.id;
}

static void hub_takes_ack(struct model *m)
{
    enum push_op op;
    uint64_t id = m->acks[0];
    if (m->ack_count == 0)
        return;
    memmove(m->acks, m->acks + 1, --m->ack_count * sizeof(m->acks[0]));
    pushqueue_ack(&m->q, id, &op);
}

static int object_of(struct model *m, const struct push_item *item)
{
    return (int)(item - m->items);
}

static void hub_prepares(struct model *m)
{
    struct push_item *item = pushqueue_take(&m->q, m->now);
    if (item)
        m->read[object_of(m, item)] =
            m->live[object_of(m, item)]; /* what is sent may be older than what there is by then */
}

static void hub_sends(struct model *m)
{
    struct push_item *item = m->q.current;
    if (m->q.state != PUSH_PREPARING)
        return;
    int object = object_of(m, item);
    if (m->is_lossy && pick(m, 8) == 0) {
        pushqueue_back(&m->q, m->now);
        return;
    }
    if (item->op != m->q.op || (m->q.op == PUSH_SET && m->is_gone[object])) {
        pushqueue_skip(&m->q);
        return;
    }
    struct packet p = {object, (enum push_op)m->q.op, ++m->last_id, 0};
    if (p.op == PUSH_SET) {
        p.version = m->read[object] >= pushqueue_floor(item) ? m->read[object] : m->live[object];
        if (p.version < pushqueue_floor(item)) {
            pushqueue_back(&m->q, m->now);
            return;
        }
    }
    pushqueue_sent(&m->q, p.id, p.version, m->now);
    m->current = p;
    session_push(m, p);
}

static void server_changes(struct model *m)
{
    int object = (int)pick(m, OBJECTS);
    if (m->is_gone[object])
        return;
    if (m->live[object] != 0 && pick(m, 12) == 0) {
        m->is_gone[object] = true;
        m->live[object] = 0;
        pushqueue_delete(&m->q, &m->items[object]);
        return;
    }
    m->live[object] = ++m->version;
    pushqueue_set(&m->q, &m->items[object], m->live[object]);
}

static void time_passes(struct model *m)
{
    m->now += pick(m, 4000);
    if (pushqueue_tick(&m->q, m->now) == PUSH_ACTION_RESEND)
        session_push(m, m->current);
}

static void walk(struct model *m)
{
    int object = (int)pick(m, OBJECTS);
    switch (pick(m, 9)) {
    case 0:
        server_changes(m);
        break;
    case 1:
        time_passes(m);
        break;
    case 2:
        if (m->answer_in_worker[object] == 0 && !m->is_gone[object])
            m->answer_in_worker[object] = m->live[object];
        break;
    case 3:
        if (!m->is_gone[object])
            session_answer(m, object);
        break;
    case 4:
        hub_takes_ack(m);
        break;
    case 5:
        hub_prepares(m);
        break;
    case 6:
        hub_sends(m);
        break;
    default:
        edge_takes(m);
    }
}

static void settle(struct model *m)
{
    m->is_lossy = false;
    for (int object = 0; object < OBJECTS; object++)
        session_answer(m, object);
    for (int i = 0; i < 5000; i++) {
        hub_prepares(m);
        hub_sends(m);
        edge_takes(m);
        hub_takes_ack(m);
        time_passes(m);
    }
}

static void test_random_walk(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 3000; seed++) {
        struct model m = {.seed = seed, .is_lossy = seed % 4 != 0};
        pushqueue_init(&m.q);
        for (int i = 0; i < 400; i++)
            walk(&m);
        settle(&m);
        assert_int_equal(m.q.state, PUSH_IDLE);
        for (int object = 0; object < OBJECTS; object++) {
            /* An answer that a worker was late with can leave a row of an object that is gone: the
             * edge asked for it. */
            bool was_answered_late = m.is_gone[object] && m.has[object] != 0;
            if (m.has[object] != m.live[object] && !was_answered_late)
                fail_msg("seed %u: object %d is at %llu, the edge has %llu", seed, object,
                         (unsigned long long)m.live[object], (unsigned long long)m.has[object]);
            if (is_pod(object) && !m.is_gone[object] && m.kubelet[object] != m.live[object])
                fail_msg("seed %u: kubelet was not told of pod %d", seed, object);
            assert_true(!is_pod(object) || !m.is_gone[object] || m.kubelet[object] == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_message_at_a_time),
        cmocka_unit_test(test_only_the_newest_of_an_object),
        cmocka_unit_test(test_a_change_in_flight_follows),
        cmocka_unit_test(test_nothing_follows_a_deletion),
        cmocka_unit_test(test_a_deletion_waits_for_the_message_in_flight),
        cmocka_unit_test(test_resent_as_cloudcore_does),
        cmocka_unit_test(test_backoff_doubles_to_its_end),
        cmocka_unit_test(test_answers_count),
        cmocka_unit_test(test_an_older_answer_puts_back),
        cmocka_unit_test(test_a_refused_push_is_made_anew),
        cmocka_unit_test(test_forget_takes_it_out),
        cmocka_unit_test(test_random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
