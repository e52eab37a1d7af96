/* What becomes of each message an edge may send, and of those it may not. */
#include "hub/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define NODE "edge-1"

static char message[8192]; /* the route's spans point into it */

static struct route route_of(const char *source, const char *group, const char *operation,
                             const char *resource)
{
    struct envelope e;
    struct route route;
    snprintf(message, sizeof(message),
             "{\"header\":{\"msg_id\":\"m\"},\"route\":{\"source\":\"%s\",\"group\":\"%s\","
             "\"operation\":\"%s\","
             "\"resource\":\"%s\"},\"content\":null}",
             source, group, operation, resource);
    assert_int_equal(envelope_scan(message, strlen(message), &e), 0);
    route_classify(&e, NODE, strlen(NODE), &route);
    return route;
}

static void expect_upstream(const char *operation, const char *resource, enum upstream_kind kind)
{
    struct route route = route_of("edged", "meta", operation, resource);
    if (route.class != ROUTE_UPSTREAM || route.kind != kind)
        fail_msg("%s %s: class %d, reason %s", operation, resource, (int)route.class,
                 route_reason_names[route.reason]);
    assert_int_equal(route.reason, ROUTE_REASON_NONE);
}

static void expect_other(const char *source, const char *group, const char *operation,
                         const char *resource, enum route_class class, enum route_reason reason)
{
    struct route route = route_of(source, group, operation, resource);
    if (route.class != class || route.reason != reason)
        fail_msg("%s %s %s: class %d, reason %s", source, operation, resource, (int)route.class,
                 route_reason_names[route.reason]);
    assert_int_equal(route.kind, UPSTREAM_KIND_COUNT);
}

static void expect_refused(const char *operation, const char *resource, enum route_reason reason)
{
    expect_other("edged", "meta", operation, resource, ROUTE_REFUSED, reason);
}

static void test_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *operation, *resource;
    } messages[UPSTREAM_KIND_COUNT] = {
        [UPSTREAM_NODE_INSERT] = {"insert", "null/node/" NODE},
        [UPSTREAM_NODE_QUERY] = {"query", "default/node/" NODE},
        [UPSTREAM_NODE_UPDATE] = {"update", "default/node/" NODE},
        [UPSTREAM_NODESTATUS_INSERT] = {"insert", "default/nodestatus/" NODE},
        [UPSTREAM_NODESTATUS_UPDATE] = {"update", "default/nodestatus/" NODE},
        [UPSTREAM_NODEPATCH] = {"patch", "null/nodepatch/" NODE},
        [UPSTREAM_LEASE_QUERY] = {"query", "kube-node-lease/lease/" NODE},
        [UPSTREAM_LEASE_INSERT] = {"insert", "kube-node-lease/lease/" NODE},
        [UPSTREAM_LEASE_UPDATE] = {"update", "kube-node-lease/lease/" NODE},
        [UPSTREAM_PODSTATUS_UPDATE] = {"update", "default/podstatus/web-0"},
        [UPSTREAM_PODPATCH] = {"patch", "default/podpatch/web-0"},
        [UPSTREAM_POD_INSERT] = {"insert", "default/pod/web-0"},
        [UPSTREAM_POD_DELETE] = {"delete", "default/pod/web-0"},
        [UPSTREAM_EVENT_INSERT] = {"insert", "default/event/web-0.17"},
        [UPSTREAM_EVENT_UPDATE] = {"update", "default/event/web-0.17"},
        [UPSTREAM_EVENT_PATCH] = {"patch", "default/event/web-0.17"},
        [UPSTREAM_CONFIGMAP_QUERY] = {"query", "default/configmap/c"},
        [UPSTREAM_SECRET_QUERY] = {"query", "default/secret/s"},
        [UPSTREAM_SERVICEACCOUNTTOKEN_QUERY] = {"query", "default/serviceaccounttoken/default"},
        [UPSTREAM_PERSISTENTVOLUME_QUERY] = {"query", "null/persistentvolume/pv"},
        [UPSTREAM_PERSISTENTVOLUMECLAIM_QUERY] = {"query", "default/persistentvolumeclaim/pvc"},
        [UPSTREAM_VOLUMEATTACHMENT_QUERY] = {"query", "default/volumeattachment/va"},
        [UPSTREAM_CSR_INSERT] = {"insert", "default/certificatesigningrequest/csr-x"},
        [UPSTREAM_CSR_QUERY] = {"query", "default/certificatesigningrequest/csr-x"},
        [UPSTREAM_K8S_CA_QUERY] = {"query", "k8s/ca.crt"},
    };
    for (int kind = 0; kind < UPSTREAM_KIND_COUNT; kind++) {
        if (!messages[kind].operation) {
            /* What the hub does of its own accord comes with no message. */
            assert_int_equal(upstream_kinds[kind].lane, LANE_OWN);
            continue;
        }
        expect_upstream(messages[kind].operation, messages[kind].resource,
                        (enum upstream_kind)kind);
    }
}

static void test_parts(void **state)
{
    (void)state;
    struct route route = route_of("edged", "meta", "patch", "default/podpatch/web-0");
    assert_true(text_span_equals(&route.ns, "default"));
    assert_true(text_span_equals(&route.type, "podpatch"));
    assert_true(text_span_equals(&route.name, "web-0"));
    assert_true(route.ns.at >= message && route.ns.at < message + sizeof(message));
    route = route_of("metamanager", "meta", "query", "k8s/ca.crt");
    assert_true(text_span_equals(&route.type, "ca.crt"));
}

static void test_kinds_table(void **state)
{
    (void)state;
    for (int kind = 0; kind < UPSTREAM_KIND_COUNT; kind++) {
        const struct upstream_kind_info *k = &upstream_kinds[kind];
        assert_string_equal(k->name, upstream_kind_names[kind]);
        if (!k->type)
            continue;
        /* A name is a label: made of type and operation, where the type does not imply the
         * operation. */
        assert_memory_equal(k->name,
                            strcmp(k->type, "certificatesigningrequest") == 0 ? "csr" : k->type, 3);
        assert_true(k->object != RESOURCE_NONE);
        assert_true(k->operation != NULL);
        /* Nobody waits for events, somebody for everything else. */
        assert_int_equal(k->answer == ANSWER_NONE, k->lane == LANE_EVENT);
    }
    assert_string_equal(lane_names[LANE_LIVENESS], "liveness");
    assert_string_equal(lane_names[LANE_OWN], "own");
    assert_int_equal(upstream_kinds[UPSTREAM_NODEPATCH].object,
                     upstream_kinds[UPSTREAM_NODESTATUS_UPDATE].object);
    assert_int_equal(upstream_kinds[UPSTREAM_PODPATCH].object,
                     upstream_kinds[UPSTREAM_POD_DELETE].object);
    assert_true(upstream_kinds[UPSTREAM_LEASE_UPDATE].is_coalesced);
    assert_false(upstream_kinds[UPSTREAM_NODEPATCH].is_coalesced);
}

static void test_ends_at_the_session(void **state)
{
    (void)state;
    expect_other("websocket", "resource", "keepalive", "node", ROUTE_KEEPALIVE,
                 ROUTE_REASON_KEEPALIVE);
    expect_other("edgecontroller", "resource", "response", "default/pod/web-0", ROUTE_ACK,
                 ROUTE_REASON_ACK);
    expect_other("metamanager", "resource", "error", "default/pod/web-0", ROUTE_EDGE_ERROR,
                 ROUTE_REASON_EDGE_ERROR);
    expect_other("x", "", "ping", "", ROUTE_CONTROL, ROUTE_REASON_CONTROL);
    expect_other("x", "", "pong", "", ROUTE_CONTROL, ROUTE_REASON_CONTROL);
    expect_other("x", "", "config", "", ROUTE_CONTROL, ROUTE_REASON_CONTROL);
}

static void test_ignored(void **state)
{
    (void)state;
    expect_other("", "", "", "", ROUTE_IGNORED, ROUTE_REASON_EMPTY);
    expect_other("x", "y", "response", "default/volume/pv-1", ROUTE_IGNORED, ROUTE_REASON_VOLUME);
    expect_other("servicebus", "user", "upload", "/a/b?c=d", ROUTE_IGNORED, ROUTE_REASON_UPLOAD);
    expect_other("websocket", "hub", "UpdateNodeActionStatus",
                 "operations.kubeedge.io/v1alpha2/t/j/node/n", ROUTE_IGNORED,
                 ROUTE_REASON_NODE_TASK);
    expect_other("websocket", "x", "upgrade", "task/1/node/n", ROUTE_IGNORED,
                 ROUTE_REASON_NODE_TASK);
    expect_other("websocket", "x", "prepull", "task/1/node/n", ROUTE_IGNORED,
                 ROUTE_REASON_NODE_TASK);
    expect_other("metaserver", "dynamiccontroller", "null", "null", ROUTE_IGNORED,
                 ROUTE_REASON_METASERVER);
    expect_other("twin", "resource", "get", "membership/detail", ROUTE_IGNORED, ROUTE_REASON_TWIN);
    expect_other("twin", "resource", "update", "device/ns/d/twin/edge_updated", ROUTE_IGNORED,
                 ROUTE_REASON_DEVICE);
    expect_other("edged", "meta", "query", "default/service/s", ROUTE_IGNORED,
                 ROUTE_REASON_UNKNOWN_KIND);
    expect_other("edged", "meta", "query", "default/pod/web-0", ROUTE_IGNORED,
                 ROUTE_REASON_BAD_OPERATION);
    expect_other("edged", "meta", "delete", "default/volumeattachment/v", ROUTE_IGNORED,
                 ROUTE_REASON_BAD_OPERATION);
    expect_other("edged", "meta", "", "default/pod/web-0", ROUTE_IGNORED,
                 ROUTE_REASON_BAD_OPERATION);
    expect_other("edged", "meta", "QUERY", "default/secret/s", ROUTE_IGNORED,
                 ROUTE_REASON_BAD_OPERATION);
}

static void test_reserved_sources(void **state)
{
    (void)state;
    static const char *const sources[] = {"cloudhub", "cloudStream", "devicecontroller",
                                          "edgecontroller", "synccontroller"};
    for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++)
        expect_other(sources[i], "meta", "query", "default/secret/s", ROUTE_REFUSED,
                     ROUTE_REASON_RESERVED_SOURCE);
}

static void test_foreign_nodes(void **state)
{
    (void)state;
    static const char *const names[] = {"edge-2", "edge-",   "edge-11",
                                        "Edge-1", "edge-1.", "edge-1:x"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char resource[64];
        snprintf(resource, sizeof(resource), "null/node/%s", names[i]);
        expect_refused("insert", resource, ROUTE_REASON_FOREIGN_NODE);
        snprintf(resource, sizeof(resource), "null/nodepatch/%s", names[i]);
        expect_refused("patch", resource, ROUTE_REASON_FOREIGN_NODE);
        snprintf(resource, sizeof(resource), "default/nodestatus/%s", names[i]);
        expect_refused("update", resource, ROUTE_REASON_FOREIGN_NODE);
        snprintf(resource, sizeof(resource), "kube-node-lease/lease/%s", names[i]);
        expect_refused("update", resource, ROUTE_REASON_FOREIGN_NODE);
    }
    expect_refused("update", "kube-system/lease/" NODE, ROUTE_REASON_BAD_NAMESPACE);
    expect_refused("update", "kube-system/lease/kube-scheduler", ROUTE_REASON_FOREIGN_NODE);
}

static void test_bad_resources(void **state)
{
    (void)state;
    static const char *const resources[] = {"default",
                                            "/",
                                            "default/pod/..",
                                            "default/pod/x/y",
                                            "../pod/x",
                                            "default/secret/a%2f",
                                            "default/secret/a?x",
                                            "default//x",
                                            "default/secret/\\u0061",
                                            "default/secret/a\\/b",
                                            "DEFAULT/secret/a",
                                            "default/secret/a\\n",
                                            "default/secret/\xc3\xa9"};
    for (size_t i = 0; i < sizeof(resources) / sizeof(*resources); i++)
        expect_refused("query", resources[i], ROUTE_REASON_BAD_RESOURCE);
}

static void test_bad_names(void **state)
{
    (void)state;
    expect_refused("query", "default/secret", ROUTE_REASON_BAD_NAME);
    expect_refused("query", "default/secret/Upper", ROUTE_REASON_BAD_NAME);
    expect_refused("query", "default/secret/a:b", ROUTE_REASON_BAD_NAME);
    expect_refused("patch", "default/podpatch", ROUTE_REASON_BAD_NAME);
    expect_refused("insert", "null/node", ROUTE_REASON_BAD_NAME);
    expect_refused("update", "kube-node-lease/lease", ROUTE_REASON_BAD_NAME);
    expect_refused("insert", "default/event", ROUTE_REASON_BAD_NAME);
    expect_refused("update", "default/podstatus/Upper", ROUTE_REASON_BAD_NAME);
    expect_upstream("update", "default/podstatus", UPSTREAM_PODSTATUS_UPDATE);
    expect_upstream("insert", "default/event/Some_Object:1.17", UPSTREAM_EVENT_INSERT);
}

/* A field's value counts, not how it is escaped. */
static void test_escaped_fields(void **state)
{
    (void)state;
    expect_other("\\u0065dgecontroller", "meta", "query", "default/secret/s", ROUTE_REFUSED,
                 ROUTE_REASON_RESERVED_SOURCE);
    expect_other("x", "", "keep\\u0061live", "node", ROUTE_KEEPALIVE, ROUTE_REASON_KEEPALIVE);
    expect_upstream("\\u0071uery", "default/secret/s", UPSTREAM_SECRET_QUERY);
    expect_upstream("query", "k8s\\/ca.crt", UPSTREAM_K8S_CA_QUERY);
}

static void test_order_of_questions(void **state)
{
    (void)state;
    /* Each fits several rules; the first in CloudHub's order counts. */
    expect_other("edgecontroller", "user", "keepalive", "default/volume/x", ROUTE_KEEPALIVE,
                 ROUTE_REASON_KEEPALIVE);
    expect_other("twin", "resource", "response", "k8s/ca.crt", ROUTE_ACK, ROUTE_REASON_ACK);
    expect_other("metaserver", "user", "upload", "k8s/ca.crt", ROUTE_IGNORED, ROUTE_REASON_UPLOAD);
    expect_other("edged", "meta", "upload", "default/secret/s", ROUTE_IGNORED,
                 ROUTE_REASON_BAD_OPERATION);
    assert_int_equal(route_of("edgecontroller", "meta", "query", "k8s/ca.crt").class,
                     ROUTE_UPSTREAM);
    expect_other("metaserver", "x", "query", "../..", ROUTE_IGNORED, ROUTE_REASON_METASERVER);
    expect_other("x", "x", "query", "/volume/x", ROUTE_REFUSED, ROUTE_REASON_BAD_RESOURCE);
    expect_other("x", "x", "query", "default/volume/", ROUTE_REFUSED, ROUTE_REASON_BAD_RESOURCE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_kinds_table),
        cmocka_unit_test(test_ends_at_the_session),
        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_reserved_sources),
        cmocka_unit_test(test_foreign_nodes),
        cmocka_unit_test(test_bad_resources),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_escaped_fields),
        cmocka_unit_test(test_order_of_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
