/* devapi's selectors, paths and queries: what is understood and what is refused. */
#include "test/devapi/exchange.h"
#include "test/devapi/faults.h"
#include "test/devapi/selector.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct dev_object *object(enum dev_kind_index kind, const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    struct dev_object *o = dev_object_build(dev_kind(kind), root, 7);
    assert_non_null(o);
    json_decref(root);
    return o;
}

static bool matches(const struct dev_object *o, const char *labels, const char *fields)
{
    struct dev_selector *s;
    struct errbuf e = {{0}};
    if (dev_selector_parse(o->kind, labels, fields, &s, &e) != 0)
        fail_msg("%s %s: %s", labels ? labels : "", fields ? fields : "", e.text);
    bool is_match = dev_selector_matches(s, o);
    dev_selector_free(s);
    return is_match;
}

static void test_labels(void **state)
{
    (void)state;
    struct dev_object *o = object(DEV_NODE, "{\"metadata\":{\"name\":\"n\",\"labels\":{"
                                            "\"node-role.kubernetes.io/edge\":\"\",\"a\":\"1\"}}}");
    static const char *const yes[] = {"",
                                      "a",
                                      "a=1",
                                      "a==1",
                                      "a = 1",
                                      "a!=2",
                                      "b!=2",
                                      "!b",
                                      "a in (1)",
                                      "a in (2, 1)",
                                      "a notin (2)",
                                      "b notin (1)",
                                      "node-role.kubernetes.io/edge=",
                                      "node-role.kubernetes.io/edge",
                                      "a=1,!b",
                                      "node-role.kubernetes.io/edge in ()",
                                      "in!=x",
                                      " a , !b "};
    static const char *const no[] = {
        "a=2",      "b",           "!a",    "a!=1",
        "a in (2)", "a notin (1)", "a=1,b", "node-role.kubernetes.io/edge=x"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (!matches(o, yes[i], NULL))
            fail_msg("'%s' should match", yes[i]);
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        if (matches(o, no[i], NULL))
            fail_msg("'%s' should not match", no[i]);
    }
    dev_object_put(o);
}

static void test_fields(void **state)
{
    (void)state;
    struct dev_object *o = object(
        DEV_POD, "{\"metadata\":{\"name\":\"p\",\"namespace\":\"d\"},\"spec\":{\"nodeName\":\"n\","
                 "\"restartPolicy\":\"Always\"},\"status\":{\"phase\":\"Running\"}}");
    assert_true(matches(o, NULL, "spec.nodeName=n"));
    assert_true(matches(o, NULL, "spec.nodeName==n,status.phase!=Failed,metadata.namespace=d"));
    assert_true(matches(o, NULL, "spec.restartPolicy=Always"));
    assert_false(matches(o, NULL, "spec.nodeName="));
    assert_false(matches(o, NULL, "metadata.name=q"));
    assert_false(matches(o, NULL, "status.phase!=Running"));
    dev_object_put(o);
}

static void test_refused_selectors(void **state)
{
    (void)state;
    static const char *const labels[] = {"a in b", "a in (b", "=1", "a=1 b",
                                         "a,,b",   "!",       "(",  "a=1,"};
    static const char *const fields[] = {"spec.podIP=1", "metadata.name", "=x"};
    struct dev_selector *s;
    struct errbuf e;
    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        if (dev_selector_parse(dev_kind(DEV_POD), labels[i], NULL, &s, &e) != -EINVAL)
            fail_msg("'%s' was taken", labels[i]);
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (dev_selector_parse(dev_kind(DEV_POD), NULL, fields[i], &s, &e) != -EINVAL)
            fail_msg("'%s' was taken", fields[i]);
    }
}

static void expect_path(const char *text, enum dev_kind_index kind, const char *ns,
                        const char *name, const char *subresource)
{
    struct dev_path p;
    if (dev_path_parse(text, strlen(text), &p) != 0)
        fail_msg("%s was refused", text);
    assert_int_equal(p.kind->index, kind);
    assert_string_equal(p.namespace_, ns);
    assert_string_equal(p.name, name);
    assert_string_equal(p.subresource, subresource);
}

static void test_paths(void **state)
{
    (void)state;
    expect_path("/api/v1/nodes", DEV_NODE, "", "", "");
    expect_path("/api/v1/nodes/n/status", DEV_NODE, "", "n", "status");
    expect_path("/api/v1/pods", DEV_POD, "", "", "");
    expect_path("/api/v1/namespaces/d/pods/p", DEV_POD, "d", "p", "");
    expect_path("/api/v1/namespaces/d/events/a%3Ab", DEV_EVENT, "d", "a:b", "");
    expect_path("/api/v1/namespaces/d", DEV_NAMESPACE, "", "d", "");
    expect_path("/api/v1/namespaces", DEV_NAMESPACE, "", "", "");
    expect_path("/api/v1/namespaces/d/status", DEV_NAMESPACE, "", "d", "status");
    expect_path("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n", DEV_LEASE,
                "kube-node-lease", "n", "");
    expect_path("/api/v1/namespaces/d/serviceaccounts/s/token", DEV_SERVICEACCOUNT, "d", "s",
                "token");
    static const char *const no[] = {"/",
                                     "/api",
                                     "/api/v2/nodes",
                                     "/api/v1/leases",
                                     "/api/v1/pods/p",
                                     "/api/v1/namespaces/d/nodes",
                                     "/api/v1/nodes/n/status/more",
                                     "/apis/apps/v1/deployments",
                                     "/api/v1/nodes/%zz",
                                     "/api/v1/nodes/%00",
                                     "/other/v1/nodes"};
    struct dev_path p;
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        if (dev_path_parse(no[i], strlen(no[i]), &p) == 0)
            fail_msg("%s was taken", no[i]);
    }
}

static void test_query(void **state)
{
    (void)state;
    struct dev_query q = {.grace_s = -1};
    assert_int_equal(dev_query_parse(&q, "watch=true&labelSelector=a%3Db%2Cc&limit=5&continue=&x=y&"
                                         "timeoutSeconds=9&gracePeriodSeconds=0"),
                     0);
    assert_true(q.is_watch);
    assert_string_equal(q.label_selector, "a=b,c");
    assert_int_equal(q.limit, 5);
    assert_int_equal(q.timeout_s, 9);
    assert_int_equal(q.grace_s, 0);
    assert_null(q.continue_);
    free(q.buffer);
    static const char *const no[] = {"limit=x", "limit=-1", "labelSelector=%g0",
                                     "limit=99999999999999999999"};
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        q = (struct dev_query){0};
        assert_int_equal(dev_query_parse(&q, no[i]), -EINVAL);
        free(q.buffer);
    }
}

static void test_faults(void **state)
{
    (void)state;
    struct dev_faults f = {0};
    struct errbuf e;
    uint64_t random = 1;
    assert_int_equal(dev_faults_set_stall(&f, "event=8s", &e), 0);
    assert_int_equal(dev_faults_set_stall(&f, "nodes=20ms", &e), 0);
    assert_int_equal(dev_faults_set_stall(&f, "event", &e), -EINVAL);
    assert_int_equal(dev_faults_set_stall(&f, "sheep=8s", &e), -EINVAL);
    assert_int_equal(dev_faults_set_stall(&f, "event=soon", &e), -EINVAL);
    assert_int_equal(dev_faults_decide(&f, dev_kind(DEV_EVENT), DEV_CREATE, &random).delay_ms,
                     8000);
    assert_int_equal(dev_faults_decide(&f, dev_kind(DEV_EVENT), DEV_LIST, &random).delay_ms, 0);
    assert_int_equal(dev_faults_decide(&f, dev_kind(DEV_LEASE), DEV_UPDATE, &random).delay_ms, 0);
    assert_int_equal(dev_faults_decide(&f, dev_kind(DEV_NODE), DEV_PATCH, &random).delay_ms, 20);

    f = (struct dev_faults){.error_rate = 0.25, .throttle_rate = 0.1};
    unsigned counts[DEV_RESET_AFTER + 1] = {0};
    for (int i = 0; i < 10000; i++)
        counts[dev_faults_decide(&f, dev_kind(DEV_NODE), DEV_GET, &random).outcome]++;
    assert_in_range(counts[DEV_THROTTLE], 850, 1150);
    assert_in_range(counts[DEV_FAIL], 2050, 2450);
    assert_int_equal(counts[DEV_RESET_BEFORE] + counts[DEV_RESET_AFTER], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_refused_selectors),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
