/* The index of who wants what: states of objects, links, lists, growth, and allocations that fail.
 */
#include "hub/want.h"

#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct want_key key_of(enum resource_kind kind, const char *ns, const char *name)
{
    return (struct want_key){kind, {ns, strlen(ns)}, {name, strlen(name)}};
}

static struct want_uid uid_of(unsigned n)
{
    struct want_uid uid = {{0}};
    uid.bytes[0] = 1;
    memcpy(uid.bytes + 4, &n, sizeof(n));
    return uid;
}

static struct want_object *live(struct want *w, const struct want_key *key, unsigned uid)
{
    struct want_object *replaced;
    struct want_uid u = uid_of(uid);
    struct want_object *o = want_object_live(w, key, &u, &replaced);
    assert_non_null(o);
    assert_null(replaced);
    return o;
}

static void test_uids(void **state)
{
    const char text[] = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    char back[WANT_UID_TEXT + 1];
    struct want_uid uid;
    (void)state;
    assert_true(want_uid_parse(text, strlen(text), &uid));
    want_uid_format(&uid, back);
    assert_string_equal(text, back);
    assert_false(want_uid_parse(text, strlen(text) - 1, &uid));
    assert_false(want_uid_parse("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8fG", 36, &uid));
    assert_false(want_uid_parse("0A1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", 36, &uid));
    assert_false(want_uid_parse("0a1b2c3d04e5f-6071-8293-a4b5c6d7e8f9", 36, &uid));
}

static void test_awaited_becomes_live(void **state)
{
    struct want *w = want_create();
    const struct want_key key = key_of(RESOURCE_CONFIGMAP, "default", "settings");
    struct want_node *n = want_node_get(w, "edge-1", 6);
    struct want_object *awaited = want_object_await(w, &key);
    struct want_link *l = want_link_get(w, n, awaited);
    (void)state;
    assert_int_equal(awaited->state, WANT_AWAITED);
    assert_ptr_equal(want_object_await(w, &key), awaited);
    assert_ptr_equal(live(w, &key, 7), awaited);
    assert_int_equal(awaited->state, WANT_LIVE);
    assert_ptr_equal(awaited->links, l);
    assert_ptr_equal(want_object_await(w, &key), awaited);
    want_destroy(w);
}

static void test_a_name_is_used_again(void **state)
{
    struct want *w = want_create();
    const struct want_key key = key_of(RESOURCE_POD, "default", "web-0");
    struct want_node *n = want_node_get(w, "edge-1", 6);
    struct want_object *replaced, *first = live(w, &key, 1);
    struct want_uid second_uid = uid_of(2), first_uid = uid_of(1);
    (void)state;
    want_link_get(w, n, first);
    struct want_object *second = want_object_live(w, &key, &second_uid, &replaced);
    assert_ptr_equal(replaced, first);
    assert_ptr_not_equal(second, first);
    assert_int_equal(first->state, WANT_GONE);
    assert_ptr_equal(want_object_current(w, &key), second);
    assert_ptr_equal(want_object_find(w, &key, &first_uid), first);
    /* Its last link takes what is gone along. */
    want_link_remove(w, want_link_find(n, first));
    assert_null(want_object_find(w, &key, &first_uid));
    assert_true(want_object_gone(w, second));
    assert_null(want_object_current(w, &key));
    want_destroy(w);
}

static void test_a_record_of_something_gone(void **state)
{
    struct want *w = want_create();
    const struct want_key key = key_of(RESOURCE_SECRET, "default", "key");
    struct want_uid uid = uid_of(3);
    struct want_node *n = want_node_get(w, "edge-1", 6);
    struct want_object *o = want_object_recorded(w, &key, &uid);
    (void)state;
    assert_int_equal(o->state, WANT_GONE);
    want_link_get(w, n, o);
    assert_null(want_object_current(w, &key));
    assert_ptr_equal(live(w, &key, 3), o); /* the list of Secrets came behind that of the records */
    assert_int_equal(o->state, WANT_LIVE);
    assert_ptr_equal(want_object_recorded(w, &key, &uid), o);
    want_destroy(w);
}

static void test_kinds_and_namespaces_are_apart(void **state)
{
    struct want *w = want_create();
    const struct want_key keys[] = {
        key_of(RESOURCE_CONFIGMAP, "a", "x"),  key_of(RESOURCE_SECRET, "a", "x"),
        key_of(RESOURCE_CONFIGMAP, "b", "x"),  key_of(RESOURCE_CONFIGMAP, "a", "y"),
        key_of(RESOURCE_CONFIGMAP, "ax", "y"), key_of(RESOURCE_NODE, "", "x"),
        key_of(RESOURCE_NONE, "a", "x"),
    };
    struct want_object *objects[7];
    (void)state;
    for (size_t i = 0; i < 7; i++)
        objects[i] = want_object_await(w, &keys[i]);
    for (size_t i = 0; i < 7; i++) {
        assert_ptr_equal(want_object_current(w, &keys[i]), objects[i]);
        struct want_key key = want_object_key(objects[i]);
        assert_int_equal(key.kind, keys[i].kind);
        assert_memory_equal(key.name.at, keys[i].name.at, key.name.size);
        assert_int_equal(key.ns.size, keys[i].ns.size);
    }
    want_destroy(w);
}

struct collector {
    struct want *w;
    char names[256];
};

static void on_missing(void *context, struct want_object *o)
{
    struct collector *c = context;
    strncat(c->names, o->text + o->ns_size, o->name_size);
    want_object_gone(c->w, o);
}

static void test_a_list_shows_what_is_gone(void **state)
{
    struct want *w = want_create();
    struct collector c = {.w = w};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        const struct want_key key = key_of(RESOURCE_POD, "default", name);
        live(w, &key, i);
    }
    const struct want_key secret = key_of(RESOURCE_SECRET, "default", "s"),
                          b = key_of(RESOURCE_POD, "default", "b"),
                          d = key_of(RESOURCE_POD, "default", "d");
    live(w, &secret, 9);
    want_list_begin(w, RESOURCE_POD);
    live(w, &b, 1);
    live(w, &d, 3);
    want_list_end(w, RESOURCE_POD, on_missing, &c);
    assert_int_equal(strlen(c.names), 2);
    assert_non_null(strchr(c.names, 'a'));
    assert_non_null(strchr(c.names, 'c'));
    assert_non_null(want_object_current(w, &secret));
    want_destroy(w);
}

static void test_what_is_awaited_in_vain_is_forgotten(void **state)
{
    struct want *w = want_create();
    const struct want_key keys[] = {
        key_of(RESOURCE_SECRET, "default", "soon"), key_of(RESOURCE_SECRET, "default", "later"),
        key_of(RESOURCE_SECRET, "default", "ever"), key_of(RESOURCE_SECRET, "default", "came")};
    struct want_node *a = want_node_get(w, "a", 1), *b = want_node_get(w, "b", 1);
    struct want_object *o[4];
    struct want_stats stats;
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        o[i] = want_object_await(w, &keys[i]);
        want_link_get(w, a, o[i]);
        want_link_get(w, b, o[i]);
    }
    o[0]->digest = 100;
    o[1]->digest = 200;
    o[3]->digest = 100;
    live(w, &keys[3], 5);
    want_expire(w, 99);
    assert_non_null(want_object_current(w, &keys[0]));
    want_expire(w, 100);
    assert_null(want_object_current(w, &keys[0]));
    for (size_t i = 1; i < 4; i++) {
        assert_ptr_equal(want_object_current(w, &keys[i]), o[i]);
        assert_non_null(want_link_find(a, o[i]));
    }
    want_stats(w, &stats);
    assert_int_equal(stats.links, 6);
    want_destroy(w);
}

static void test_many(void **state)
{
    struct want *w = want_create();
    struct want_stats stats, empty;
    char name[32];
    (void)state;
    want_stats(w, &empty);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "edge-%u", i % 1000);
        struct want_node *n = want_node_get(w, name, strlen(name));
        snprintf(name, sizeof(name), "pod-%u", i);
        const struct want_key key = key_of(RESOURCE_POD, "default", name);
        struct want_object *o = live(w, &key, i);
        struct want_link *l = want_link_get(w, n, o);
        assert_ptr_equal(l, want_link_find(n, o));
        assert_ptr_equal(l, o->links);
        assert_ptr_equal(l, want_link_get(w, n, o));
    }
    want_stats(w, &stats);
    assert_int_equal(stats.objects, 5000);
    assert_int_equal(stats.links, 5000);
    assert_int_equal(stats.nodes, 1000);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "pod-%u", i);
        const struct want_key key = key_of(RESOURCE_POD, "default", name);
        struct want_object *o = want_object_current(w, &key);
        struct want_node *n = o->links->node;
        assert_false(want_object_gone(w, o));
        want_link_remove(w, o->links);
        want_node_release(w, n);
    }
    want_stats(w, &stats);
    assert_int_equal(stats.objects + stats.links + stats.nodes, 0);
    want_destroy(w);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        const struct want_key key = key_of(RESOURCE_POD, "default", "web"),
                              other = key_of(RESOURCE_SECRET, "default", "s");
        struct want_uid uid = uid_of(1);
        struct want_object *replaced, *o = NULL;
        struct want_link *l = NULL;
        heap_fail_nth(nth);
        struct want *w = want_create();
        struct want_node *n = w ? want_node_get(w, "edge", 4) : NULL;
        if (n)
            o = want_object_live(w, &key, &uid, &replaced);
        if (o)
            l = want_link_get(w, n, o);
        struct want_object *awaited = l ? want_object_await(w, &other) : NULL;
        bool has_failed = heap_fail_end();
        assert_int_equal(has_failed, awaited == NULL);
        if (w)
            want_destroy(w);
        if (!has_failed)
            break;
    }
}

/* A table that cannot grow goes on. */
static void test_growth_may_fail(void **state)
{
    struct want *w = want_create();
    char name[32];
    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "cm-%u", i);
        const struct want_key key = key_of(RESOURCE_CONFIGMAP, "default", name);
        live(w, &key, i);
    }
    const struct want_key last = key_of(RESOURCE_CONFIGMAP, "default", "last");
    heap_fail_nth(2);
    live(w, &last, 1000);
    assert_true(heap_fail_end());
    assert_non_null(want_object_current(w, &last));
    want_destroy(w);
}

struct successors {
    struct want *w;
    unsigned missing, awaited;
};

static void await_two(void *context, struct want_object *o)
{
    struct successors *s = context;
    char name[32];
    s->missing++;
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "next-%u", s->awaited++);
        const struct want_key next = key_of(RESOURCE_SECRET, "default", name);
        assert_non_null(want_object_await(s->w, &next));
    }
    assert_true(want_object_gone(s->w, o));
}

/* Who awaits others while a list ends fills the table, at any moment: each object that is missing
 * is found all the same. */
static void test_the_table_fills_while_a_list_ends(void **state)
{
    (void)state;
    for (unsigned count = 768; count < 1024; count += 2) {
        struct want *w = want_create();
        struct successors s = {.w = w};
        char name[32];
        for (unsigned i = 0; i < count; i++) {
            snprintf(name, sizeof(name), "cm-%u", i);
            const struct want_key key = key_of(RESOURCE_CONFIGMAP, "default", name);
            live(w, &key, i);
        }
        want_list_begin(w, RESOURCE_CONFIGMAP);
        want_list_end(w, RESOURCE_CONFIGMAP, await_two, &s);
        assert_int_equal(s.missing, count);
        want_destroy(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uids),
        cmocka_unit_test(test_awaited_becomes_live),
        cmocka_unit_test(test_a_name_is_used_again),
        cmocka_unit_test(test_a_record_of_something_gone),
        cmocka_unit_test(test_kinds_and_namespaces_are_apart),
        cmocka_unit_test(test_a_list_shows_what_is_gone),
        cmocka_unit_test(test_what_is_awaited_in_vain_is_forgotten),
        cmocka_unit_test(test_the_table_fills_while_a_list_ends),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_growth_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
