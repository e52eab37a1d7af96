/* devapi's store: objects and their versions, the history that watches resume from, the index of
 * pods, and the Node authorizer on top of them. */
#include "test/devapi/authz.h"
#include "test/devapi/store.h"
#include "test/lib/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct dev_store *new_store(size_t history, size_t events, size_t bytes)
{
    const struct dev_store_limits limits = {
        .event_cap = events, .history_count = history, .history_bytes = bytes};
    struct dev_store *s = dev_store_create(&limits);
    assert_non_null(s);
    return s;
}

static void put_text(struct dev_store *s, enum dev_kind_index kind, const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    struct dev_object *o = dev_object_build(dev_kind(kind), root, dev_store_version(s) + 1);
    assert_non_null(o);
    json_decref(root);
    assert_int_equal(dev_store_set(s, o), 0);
}

static void put_named(struct dev_store *s, enum dev_kind_index kind, const char *ns,
                      const char *name, const char *rest)
{
    char text[2000];
    snprintf(text, sizeof(text), "{\"metadata\":{\"name\":\"%s\",\"uid\":\"u-%s\"%s%s%s}%s}", name,
             name, ns[0] ? ",\"namespace\":\"" : "", ns, ns[0] ? "\"" : "", rest);
    put_text(s, kind, text);
}

static void drop(struct dev_store *s, enum dev_kind_index kind, const char *ns, const char *name)
{
    struct dev_entry *entry = dev_store_find(s, dev_kind(kind), ns, name);
    assert_non_null(entry);
    struct dev_object *last = dev_object_derive(entry->object, dev_store_version(s) + 1, NULL, 0);
    assert_non_null(last);
    assert_int_equal(dev_store_remove(s, entry, last), 0);
}

static void test_object_layout(void **state)
{
    (void)state;
    json_t *root = json_loads(
        "{\"status\":{\"phase\":\"Running\"},\"kind\":\"x\",\"metadata\":{\"name\":\"p\","
        "\"resourceVersion\":\"1\",\"namespace\":\"d\",\"selfLink\":null},\"spec\":{}}",
        0, NULL);
    struct dev_object *o = dev_object_build(dev_kind(DEV_POD), root, 99);
    assert_string_equal(
        o->json,
        "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"99\","
        "\"name\":\"p\",\"namespace\":\"d\"},\"spec\":{},\"status\":{\"phase\":\"Running\"}}");
    assert_string_equal(o->phase, "Running");
    struct dev_object *later = dev_object_derive(o, 100, "{\"phase\":\"Failed\"}", 18);
    assert_string_equal(later->phase, "Failed");
    assert_false(dev_object_same(o, later));
    struct dev_object *back = dev_object_derive(later, 101, "{\"phase\":\"Running\"}", 19);
    assert_true(dev_object_same(o, back));
    struct dev_object *same = dev_object_derive(back, 1000000, NULL, 0);
    assert_true(dev_object_same(o, same));
    assert_non_null(strstr(same->json, "\"resourceVersion\":\"1000000\""));
    assert_ptr_equal(same->facts, o->facts);
    /* A status where there was none. */
    json_object_del(root, "status");
    struct dev_object *bare = dev_object_build(dev_kind(DEV_POD), root, 1);
    struct dev_object *grown = dev_object_derive(bare, 2, "{}", 2);
    json_t *parsed = dev_object_parse(grown);
    assert_int_equal(json_object_size(json_object_get(parsed, "status")), 0);
    assert_int_equal(json_object_size(parsed), 5);
    json_decref(parsed);
    struct dev_object *all[] = {o, later, back, same, bare, grown};
    for (size_t i = 0; i < 6; i++)
        dev_object_put(all[i]);
    json_decref(root);
}

static void test_versions_and_history(void **state)
{
    (void)state;
    struct dev_store *s = new_store(100, 10, 1000000);
    const struct dev_kind *nodes = dev_kind(DEV_NODE);
    uint64_t start = dev_store_version(s);
    put_named(s, DEV_NODE, "", "a", "");
    put_named(s, DEV_POD, "d", "p", "");
    put_named(s, DEV_NODE, "", "a", ",\"spec\":{\"x\":1}");
    drop(s, DEV_NODE, "", "a");
    assert_int_equal(dev_store_version(s), start + 4);

    const struct dev_change *c = dev_history_after(s, nodes, start);
    assert_int_equal(c->type, DEV_ADDED);
    assert_null(c->previous);
    c = dev_history_after(s, nodes, c->object->version);
    assert_int_equal(c->type, DEV_MODIFIED);
    assert_int_equal(c->object->version, start + 3);
    assert_int_equal(c->previous->version, start + 1);
    c = dev_history_after(s, nodes, c->object->version);
    assert_int_equal(c->type, DEV_DELETED);
    assert_int_equal(c->object->version, start + 4);
    assert_null(dev_history_after(s, nodes, start + 4));
    assert_int_equal(dev_history_floor(s, nodes), start);
    assert_null(dev_store_find(s, nodes, "", "a"));
    dev_store_destroy(s);
}

static void test_history_is_bounded(void **state)
{
    (void)state;
    const struct dev_kind *nodes = dev_kind(DEV_NODE);
    struct dev_store *s = new_store(70, 10, 1000000);
    for (int i = 0; i < 200; i++) {
        char spec[40];
        snprintf(spec, sizeof(spec), ",\"spec\":{\"i\":%d}", i);
        put_named(s, DEV_NODE, "", "a", spec);
    }
    uint64_t now = dev_store_version(s);
    assert_int_equal(dev_history_floor(s, nodes), now - 70);
    unsigned seen = 0;
    uint64_t at = now - 70;
    for (const struct dev_change *c; (c = dev_history_after(s, nodes, at)); at = c->object->version)
        seen++;
    assert_int_equal(seen, 70);
    /* Another kind's floor is its own. */
    assert_true(dev_history_floor(s, dev_kind(DEV_POD)) < now - 70);
    dev_store_destroy(s);

    s = new_store(1000, 10, 1000); /* by bytes: one object is some 120 */
    for (int i = 0; i < 50; i++)
        put_named(s, DEV_NODE, "", "a", i % 2 ? "" : ",\"spec\":{}");
    assert_true(dev_store_version(s) - dev_history_floor(s, nodes) < 12);
    dev_store_destroy(s);
}

static void test_events_are_bounded(void **state)
{
    (void)state;
    struct dev_store *s = new_store(1000, 3, 1000000);
    for (int i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof(name), "e%d", i);
        put_named(s, DEV_EVENT, "d", name, "");
    }
    assert_int_equal(dev_store_count(s, dev_kind(DEV_EVENT)), 3);
    assert_null(dev_store_find(s, dev_kind(DEV_EVENT), "d", "e2"));
    assert_non_null(dev_store_find(s, dev_kind(DEV_EVENT), "d", "e3"));
    dev_store_destroy(s);
}

static size_t count_pods(struct dev_store *s, const char *node)
{
    size_t n = 0;
    for (struct dev_entry *e = dev_store_pods_of(s, node); e; e = e->next)
        n++;
    return n;
}

static void test_sorting_and_pod_index(void **state)
{
    (void)state;
    struct dev_store *s = new_store(100, 10, 1000000);
    size_t count;
    put_named(s, DEV_POD, "b", "z", ",\"spec\":{\"nodeName\":\"n1\"}");
    put_named(s, DEV_POD, "a-b", "y", ",\"spec\":{\"nodeName\":\"n1\"}");
    put_named(s, DEV_POD, "b", "a", "");
    struct dev_entry *const *all = dev_store_sorted(s, dev_kind(DEV_POD), &count);
    assert_int_equal(count, 3);
    assert_string_equal(all[0]->key, "a-b/y");
    assert_string_equal(all[1]->key, "b/a");
    assert_string_equal(all[2]->key, "b/z");
    assert_int_equal(count_pods(s, "n1"), 2);
    put_named(s, DEV_POD, "b", "z", ",\"spec\":{\"nodeName\":\"n2\"}");
    put_named(s, DEV_POD, "b", "a", ",\"spec\":{\"nodeName\":\"n2\"}");
    assert_int_equal(count_pods(s, "n1"), 1);
    assert_int_equal(count_pods(s, "n2"), 2);
    drop(s, DEV_POD, "a-b", "y");
    assert_null(dev_store_pods_of(s, "n1"));
    dev_store_sorted(s, dev_kind(DEV_POD), &count);
    assert_int_equal(count, 2);
    dev_store_destroy(s);
}

static void test_lack_of_memory_leaves_the_store_sound(void **state)
{
    (void)state;
    json_t *root = json_loads(
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"d\"},\"spec\":{\"nodeName\":\"n\"}}", 0,
        NULL);
    for (unsigned n = 1;; n++) {
        struct dev_store *s = new_store(10, 10, 100000);
        heap_fail_nth(n);
        struct dev_object *o = dev_object_build(dev_kind(DEV_POD), root, dev_store_version(s) + 1);
        int rc = o ? dev_store_set(s, o) : -ENOMEM;
        bool has_failed = heap_fail_end();
        size_t stored = dev_store_count(s, dev_kind(DEV_POD));
        assert_int_equal(stored, rc == 0);
        assert_int_equal(dev_store_find(s, dev_kind(DEV_POD), "d", "p") != NULL, rc == 0);
        assert_true(rc == 0 || rc == -ENOMEM);
        dev_store_destroy(s);
        if (!has_failed)
            break;
    }
    json_decref(root);
}

/* ---- authorization ---- */

static const char *ask(struct dev_store *s, const char *node, enum dev_verb verb, const char *path,
                       const char *fields)
{
    static struct dev_error e;
    static char user[64];
    struct dev_path p;
    struct dev_selector *selector = NULL;
    struct errbuf why;
    assert_int_equal(dev_path_parse(path, strlen(path), &p), 0);
    assert_int_equal(dev_selector_parse(p.kind, NULL, fields, &selector, &why), 0);
    snprintf(user, sizeof(user), "system:node:%s", node);
    const struct dev_request r = {
        .user = user, .node = node, .verb = verb, .path = &p, .selector = selector};
    bool is_allowed = dev_authorize(s, &r, &e);
    dev_selector_free(selector);
    return is_allowed ? NULL : e.message;
}

#define ALLOWED(node, verb, path) assert_null(ask(s, node, verb, path, NULL))
#define DENIED(node, verb, path)  assert_non_null(ask(s, node, verb, path, NULL))

static void test_node_authorizer(void **state)
{
    (void)state;
    struct dev_store *s = new_store(100, 10, 1000000);
    put_named(s, DEV_POD, "d", "p",
              ",\"spec\":{\"nodeName\":\"a\",\"serviceAccountName\":\"sa\",\"imagePullSecrets\":[{"
              "\"name\":\"pull\"}],"
              "\"initContainers\":[{\"envFrom\":[{\"configMapRef\":{\"name\":\"init\"}}]}],"
              "\"containers\":[{\"env\":[{\"valueFrom\":{\"secretKeyRef\":{\"name\":\"env\"}}}]}],"
              "\"volumes\":[{\"projected\":{\"sources\":[{\"configMap\":{\"name\":\"proj\"}}]}},"
              "{\"csi\":{\"nodePublishSecretRef\":{\"name\":\"csi\"}}},{\"secret\":{\"secretName\":"
              "\"vol\"}}]}");
    put_text(
        s, DEV_POD,
        "{\"metadata\":{\"name\":\"m\",\"namespace\":\"d\",\"annotations\":{\"kubernetes.io/"
        "config.mirror\":\"\"}},"
        "\"spec\":{\"nodeName\":\"a\",\"volumes\":[{\"secret\":{\"secretName\":\"mirrored\"}}]}}");
    static const char *const mentioned[] = {"secrets/pull",    "configmaps/init", "secrets/env",
                                            "configmaps/proj", "secrets/csi",     "secrets/vol"};
    for (size_t i = 0; i < sizeof(mentioned) / sizeof(mentioned[0]); i++) {
        char path[100];
        snprintf(path, sizeof(path), "/api/v1/namespaces/d/%s", mentioned[i]);
        ALLOWED("a", DEV_GET, path);
        DENIED("b", DEV_GET, path);
        DENIED("a", DEV_UPDATE, path);
        snprintf(path, sizeof(path), "/api/v1/namespaces/other/%s", mentioned[i]);
        DENIED("a", DEV_GET, path);
    }
    DENIED("a", DEV_GET, "/api/v1/namespaces/d/secrets/mirrored");
    DENIED("a", DEV_LIST, "/api/v1/namespaces/d/secrets");
    assert_null(ask(s, "a", DEV_WATCH, "/api/v1/namespaces/d/secrets", "metadata.name=env"));
    ALLOWED("a", DEV_CREATE, "/api/v1/namespaces/d/serviceaccounts/sa/token");
    DENIED("a", DEV_CREATE, "/api/v1/namespaces/d/serviceaccounts/other/token");
    DENIED("b", DEV_CREATE, "/api/v1/namespaces/d/serviceaccounts/sa/token");
    ALLOWED("a", DEV_GET, "/api/v1/namespaces/d/pods/p");
    DENIED("b", DEV_GET, "/api/v1/namespaces/d/pods/p");
    assert_null(ask(s, "a", DEV_LIST, "/api/v1/pods", "spec.nodeName=a"));
    assert_non_null(ask(s, "a", DEV_LIST, "/api/v1/pods", "spec.nodeName=b"));
    DENIED("a", DEV_UPDATE, "/api/v1/namespaces/d/pods/p");
    ALLOWED("a", DEV_PATCH, "/api/v1/nodes/a/status");
    ALLOWED("a", DEV_GET, "/api/v1/nodes/a");
    DENIED("a", DEV_GET, "/api/v1/nodes/b");
    DENIED("a", DEV_DELETE, "/api/v1/nodes/a");
    ALLOWED("a", DEV_UPDATE, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a");
    DENIED("a", DEV_UPDATE, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/b");
    DENIED("a", DEV_GET, "/apis/coordination.k8s.io/v1/namespaces/d/leases/a");
    DENIED("a", DEV_GET, "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/d/objectsyncs/a.x");
    DENIED("a", DEV_GET, "/api/v1/namespaces/d");
    assert_string_equal(
        ask(s, "a", DEV_GET, "/api/v1/namespaces/d/configmaps/x", NULL),
        "configmaps \"x\" is forbidden: User \"system:node:a\" cannot get resource "
        "\"configmaps\" in API group \"\" in the namespace \"d\": no relationship found "
        "between node 'a' and this object");
    drop(s, DEV_POD, "d", "p");
    DENIED("a", DEV_GET, "/api/v1/namespaces/d/secrets/env");
    dev_store_destroy(s);
}

static void test_node_names(void **state)
{
    (void)state;
    assert_string_equal(dev_node_of("system:node:a.b", true), "a.b");
    assert_null(dev_node_of("system:node:a", false));
    assert_null(dev_node_of("system:serviceaccount:x:y", true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_object_layout),
        cmocka_unit_test(test_versions_and_history),
        cmocka_unit_test(test_history_is_bounded),
        cmocka_unit_test(test_events_are_bounded),
        cmocka_unit_test(test_sorting_and_pod_index),
        cmocka_unit_test(test_lack_of_memory_leaves_the_store_sound),
        cmocka_unit_test(test_node_authorizer),
        cmocka_unit_test(test_node_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
