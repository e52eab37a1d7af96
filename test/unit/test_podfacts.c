/* What is read of pods and nodes: what they mention, whether they changed. */
#include "hub/podfacts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const char pod[] =
    "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\",\"resourceVersion\":\"5\",\"labels\":{\"a\":"
    "\"b\"}},"
    "\"spec\":{\"nodeName\":\"edge-1\",\"volumes\":["
    "{\"name\":\"v1\",\"configMap\":{\"name\":\"cm-volume\"}},"
    "{\"name\":\"v2\",\"secret\":{\"secretName\":\"s-volume\"}},"
    "{\"name\":\"v3\",\"projected\":{\"sources\":[{\"serviceAccountToken\":{\"path\":\"token\"}},"
    "{\"configMap\":{\"name\":\"kube-root-ca.crt\"}},{\"secret\":{\"name\":\"s-projected\"}}]}},"
    "{\"name\":\"v4\",\"emptyDir\":{}}],"
    "\"imagePullSecrets\":[{\"name\":\"s-pull\"}],"
    "\"initContainers\":[{\"name\":\"i\",\"envFrom\":[{\"configMapRef\":{\"name\":\"cm-init\"}}]}],"
    "\"ephemeralContainers\":[{\"name\":\"e\",\"env\":[{\"name\":\"X\",\"valueFrom\":"
    "{\"secretKeyRef\":{\"name\":\"s-ephemeral\",\"key\":\"k\"}}}]}],"
    "\"containers\":[{\"name\":\"c\",\"envFrom\":[{\"secretRef\":{\"name\":\"s-from\"}}],"
    "\"env\":[{\"name\":\"A\",\"value\":\"x\"},{\"name\":\"B\",\"valueFrom\":{\"configMapKeyRef\":"
    "{\"name\":\"cm-key\",\"key\":\"k\"}}},{\"name\":\"C\",\"valueFrom\":{\"fieldRef\":{"
    "\"fieldPath\":\"x\"}}}]}]},"
    "\"status\":{\"phase\":\"Running\"}}";

static void on_mention(void *context, enum resource_kind kind, const struct json_span *name)
{
    char *to = context;
    sprintf(to + strlen(to), "%s%.*s ", kind == RESOURCE_SECRET ? "secret/" : "configmap/",
            (int)name->size, name->at);
}

static void test_mentions(void **state)
{
    static const char *const expected[] = {
        "configmap/cm-volume ", "configmap/kube-root-ca.crt ",
        "configmap/cm-init ",   "configmap/cm-key ",
        "secret/s-volume ",     "secret/s-projected ",
        "secret/s-pull ",       "secret/s-ephemeral ",
        "secret/s-from ",
    };
    char found[1024] = "";
    size_t size = 0;
    (void)state;
    podfacts_mentions(pod, sizeof(pod) - 1, on_mention, found);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_non_null(strstr(found, expected[i]));
        size += strlen(expected[i]);
    }
    assert_int_equal(size, strlen(found));
}

static void test_odd_pods_mention_nothing(void **state)
{
    static const char *const odd[] = {
        "",
        "null",
        "{\"spec\":null}",
        "{\"spec\":{\"volumes\":{\"configMap\":{\"name\":\"x\"}}}}",
        "{\"spec\":{\"volumes\":[null,7,\"x\",{\"configMap\":null},{\"configMap\":{\"name\":null}}]"
        "}}",
        "{\"spec\":{\"containers\":[{\"env\":[{\"valueFrom\":[]}]}]}}",
        "{\"spec\":{\"volumes\":[{\"configMap\":{\"name\":\"\"}}]}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        char found[64] = "";
        podfacts_mentions(odd[i], strlen(odd[i]), on_mention, found);
        assert_string_equal(found, "");
    }
}

static uint64_t digest(const char *json)
{
    uint64_t d = 0;
    assert_int_equal(podfacts_digest(json, strlen(json), &d), 0);
    return d;
}

static void test_digest(void **state)
{
    static const char before[] = "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\","
                                 "\"generation\":1},\"spec\":{\"x\":1},"
                                 "\"status\":{\"phase\":\"Pending\"}}";
    static const char *const same[] = {
        "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"9\",\"generation\":4,"
        "\"managedFields\":[{}]},\"spec\":{\"x\":1},"
        "\"status\":{\"phase\":\"Running\"}}",
        "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"x\":1}}",
    };
    static const char *const other[] = {
        "{\"metadata\":{\"name\":\"a\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},\"spec\":{"
        "\"x\":1}}",
        "{\"metadata\":{\"name\":\"a\",\"labels\":{}},\"spec\":{\"x\":1}}",
        "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"x\":2}}",
        "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"x\":1},\"status\":{\"volumesAttached\":[{"
        "\"name\":\"v\"}]}}",
    };
    uint64_t d;
    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        assert_true(digest(same[i]) == digest(before));
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        assert_true(digest(other[i]) != digest(before));
    assert_true(podfacts_digest("{\"metadata\":", 12, &d) != 0);
}

static void test_single_values(void **state)
{
    static const char unbound[] = "{\"spec\":{\"nodeName\":\"\"}}",
                      odd[] = "{\"spec\":{\"nodeName\":7}}";
    static const char going[] = "{\"metadata\":{\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"}}";
    struct json_span node = podfacts_node(pod, sizeof(pod) - 1);
    (void)state;
    assert_int_equal(node.size, 6);
    assert_memory_equal(node.at, "edge-1", 6);
    assert_int_equal(podfacts_node(unbound, sizeof(unbound) - 1).size, 0);
    assert_int_equal(podfacts_node(odd, sizeof(odd) - 1).size, 0);
    assert_true(podfacts_is_terminating(going, sizeof(going) - 1));
    assert_false(podfacts_is_terminating(pod, sizeof(pod) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mentions),
        cmocka_unit_test(test_odd_pods_mention_nothing),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_single_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
