/* The mailbox: order, bounds, closing, and many producers at once with nothing lost and nothing
 * twice. */
#include "isthmus/mailbox.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

struct item {
    struct mail mail;
    unsigned producer, number;
};

struct consumer {
    uv_loop_t loop;
    struct mailbox box;
    unsigned got, next[8];
    bool in_order, has_closed;
    unsigned close_after;
};

static void on_closed(uv_handle_t *handle)
{
    struct mailbox *box = handle->data;
    ((struct consumer *)box->context)->has_closed = true;
}

static void on_item(void *context, struct mail *mail)
{
    struct consumer *c = context;
    struct item *item = (struct item *)mail;
    if (item->number != c->next[item->producer])
        c->in_order = false;
    c->next[item->producer] = item->number + 1;
    free(item);
    if (++c->got == c->close_after)
        mailbox_close(&c->box, on_closed);
}

static struct item *make_item(unsigned producer, unsigned number, size_t bytes)
{
    struct item *item = calloc(1, sizeof(*item));
    assert_non_null(item);
    *item = (struct item){.mail.bytes = bytes, .producer = producer, .number = number};
    return item;
}

static void open_box(struct consumer *c, size_t max_count, size_t max_bytes)
{
    *c = (struct consumer){.in_order = true};
    assert_int_equal(uv_loop_init(&c->loop), 0);
    assert_int_equal(mailbox_init(&c->box, &c->loop, max_count, max_bytes, on_item, c), 0);
}

static void end_box(struct consumer *c)
{
    uv_run(&c->loop, UV_RUN_DEFAULT);
    assert_true(c->has_closed);
    assert_int_equal(uv_loop_close(&c->loop), 0);
}

static void test_order(void **state)
{
    (void)state;
    struct consumer c;
    open_box(&c, 100, 1000);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(mailbox_post(&c.box, &make_item(0, i, 1)->mail), 0);
    size_t count, bytes;
    mailbox_depth(&c.box, &count, &bytes);
    assert_int_equal(count, 50);
    assert_int_equal(bytes, 50);
    uv_run(&c.loop, UV_RUN_NOWAIT);
    assert_int_equal(c.got, 50);
    assert_true(c.in_order);
    mailbox_depth(&c.box, &count, &bytes);
    assert_int_equal(count + bytes, 0);
    mailbox_close(&c.box, on_closed);
    end_box(&c);
}

static void test_bounds(void **state)
{
    (void)state;
    struct consumer c;
    open_box(&c, 3, 100);
    assert_int_equal(mailbox_post(&c.box, &make_item(0, 0, 40)->mail), 0);
    assert_int_equal(mailbox_post(&c.box, &make_item(0, 1, 60)->mail), 0);
    struct item *item = make_item(0, 2, 1);
    assert_int_equal(mailbox_post(&c.box, &item->mail), -ENOBUFS); /* bytes */
    item->mail.bytes = 0;
    assert_int_equal(mailbox_post(&c.box, &item->mail), 0);
    item = make_item(0, 3, 0);
    assert_int_equal(mailbox_post(&c.box, &item->mail), -ENOBUFS); /* count */
    assert_int_equal(mailbox_post_always(&c.box, &item->mail), 0);
    uv_run(&c.loop, UV_RUN_NOWAIT);
    assert_int_equal(c.got, 4);
    /* What was delivered makes room. */
    assert_int_equal(mailbox_post(&c.box, &make_item(0, 4, 100)->mail), 0);
    mailbox_close(&c.box, on_closed);
    assert_int_equal(c.got, 5);
    item = make_item(0, 5, 0);
    assert_int_equal(mailbox_post(&c.box, &item->mail), -EPIPE);
    assert_int_equal(mailbox_post_always(&c.box, &item->mail), -EPIPE);
    free(item);
    end_box(&c);
    assert_int_equal(c.got, 5);
    assert_true(c.in_order);
}

#define PRODUCERS 4
#define EACH      5000u

struct producer {
    struct consumer *to;
    unsigned id, posted, refused;
    bool until_closed;
};

static void *produce(void *context)
{
    struct producer *p = context;
    unsigned i = 0;
    while (p->until_closed || i < EACH) {
        struct item *item = make_item(p->id, i, sizeof(*item));
        int rc = mailbox_post(&p->to->box, &item->mail);
        if (rc == 0) {
            i++;
            continue;
        }
        free(item);
        p->refused++;
        if (rc == -EPIPE)
            break;
    }
    p->posted = i;
    return NULL;
}

static void run_producers(struct consumer *c, bool until_closed)
{
    pthread_t threads[PRODUCERS];
    struct producer producers[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.to = c, .id = i, .until_closed = until_closed};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    uv_run(&c->loop, UV_RUN_DEFAULT);
    unsigned posted = 0;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
        posted += producers[i].posted;
    }
    assert_int_equal(c->got, posted);
    assert_true(c->in_order);
    end_box(c);
}

/* A bound so small that it is met all the time: refused items are offered again, none is lost. */
static void test_many_producers(void **state)
{
    (void)state;
    struct consumer c;
    open_box(&c, 64, 1 << 20);
    c.close_after = PRODUCERS * EACH;
    run_producers(&c, false);
    assert_int_equal(c.got, PRODUCERS * EACH);
}

/* Closed in the midst of it: everything that was taken is delivered, everything later is refused.
 */
static void test_close_under_load(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct consumer c;
        open_box(&c, 64, 1 << 20);
        c.close_after = 500;
        run_producers(&c, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_many_producers),
        cmocka_unit_test(test_close_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
