/* devapi's patches: the directives kubelets and kubectl use, and the text version of a status patch
 * against the tree version. */
#include "test/devapi/patch.h"
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

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &error);
    if (!value)
        fail_msg("%s: %s", text, error.text);
    return value;
}

static void expect_equal(json_t *got, const char *wanted)
{
    json_t *expected = parse(wanted);
    if (!json_equal(got, expected)) {
        char *text = json_dumps(got, JSON_COMPACT);
        fail_msg("got %s, wanted %s", text, wanted);
    }
    json_decref(expected);
}

static void strategic(enum dev_kind_index kind, const char *document, const char *patch,
                      const char *wanted)
{
    struct errbuf e = {{0}};
    json_t *d = parse(document), *p = parse(patch);
    assert_int_equal(dev_patch_strategic(dev_kind(kind), d, p, &e), 0);
    expect_equal(d, wanted);
    json_decref(d);
    json_decref(p);
}

static void test_maps_merge(void **state)
{
    (void)state;
    strategic(
        DEV_NODE, "{\"metadata\":{\"labels\":{\"a\":\"1\",\"b\":\"2\"}}}",
        "{\"metadata\":{\"labels\":{\"b\":null,\"c\":\"3\"},\"annotations\":{\"x\":null,\"y\":"
        "\"z\"}}}",
        "{\"metadata\":{\"labels\":{\"a\":\"1\",\"c\":\"3\"},\"annotations\":{\"y\":\"z\"}}}");
    strategic(DEV_NODE, "{\"spec\":{\"a\":1,\"b\":2}}",
              "{\"spec\":{\"$patch\":\"replace\",\"c\":3}}", "{\"spec\":{\"c\":3}}");
    strategic(DEV_NODE, "{\"spec\":{\"a\":1},\"x\":1}", "{\"spec\":{\"$patch\":\"delete\"}}",
              "{\"x\":1}");
    strategic(DEV_POD, "{\"spec\":{\"strategy\":{\"type\":\"A\",\"rolling\":1}}}",
              "{\"spec\":{\"strategy\":{\"$retainKeys\":[\"type\"],\"type\":\"B\"}}}",
              "{\"spec\":{\"strategy\":{\"type\":\"B\"}}}");
}

static void test_conditions_merge_by_type(void **state)
{
    (void)state;
    strategic(DEV_NODE,
              "{\"status\":{\"conditions\":[{\"type\":\"A\",\"status\":\"x\",\"h\":1},{\"type\":"
              "\"B\",\"h\":1}]}}",
              "{\"status\":{\"conditions\":[{\"type\":\"B\",\"h\":2},{\"type\":\"C\"}]}}",
              "{\"status\":{\"conditions\":[{\"type\":\"A\",\"status\":\"x\",\"h\":1},{\"type\":"
              "\"B\",\"h\":2},"
              "{\"type\":\"C\"}]}}");
    strategic(DEV_POD, "{\"status\":{\"conditions\":[{\"type\":\"A\"},{\"type\":\"B\"}]}}",
              "{\"status\":{\"conditions\":[{\"$patch\":\"delete\",\"type\":\"A\"}]}}",
              "{\"status\":{\"conditions\":[{\"type\":\"B\"}]}}");
    strategic(DEV_POD, "{\"status\":{\"conditions\":[{\"type\":\"A\"},{\"type\":\"B\"}]}}",
              "{\"status\":{\"conditions\":[{\"$patch\":\"replace\"},{\"type\":\"C\"}]}}",
              "{\"status\":{\"conditions\":[{\"type\":\"C\"}]}}");
}

static void test_order_is_set(void **state)
{
    (void)state;
    strategic(DEV_NODE, "{\"status\":{\"conditions\":[{\"type\":\"A\"},{\"type\":\"B\"}]}}",
              "{\"status\":{\"$setElementOrder/"
              "conditions\":[{\"type\":\"C\"},{\"type\":\"B\"},{\"type\":\"A\"}],"
              "\"conditions\":[{\"type\":\"C\"}]}}",
              "{\"status\":{\"conditions\":[{\"type\":\"C\"},{\"type\":\"B\"},{\"type\":\"A\"}]}}");
    /* What the order does not name keeps its place among those it names. */
    strategic(DEV_NODE,
              "{\"status\":{\"addresses\":[{\"type\":\"A\"},{\"type\":\"S\"},{\"type\":\"B\"}]}}",
              "{\"status\":{\"$setElementOrder/addresses\":[{\"type\":\"A\"},{\"type\":\"B\"}]}}",
              "{\"status\":{\"addresses\":[{\"type\":\"A\"},{\"type\":\"S\"},{\"type\":\"B\"}]}}");
}

static void test_other_lists(void **state)
{
    (void)state;
    /* No merge key: replaced. */
    strategic(DEV_POD, "{\"status\":{\"containerStatuses\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}",
              "{\"status\":{\"containerStatuses\":[{\"name\":\"b\",\"ready\":true}]}}",
              "{\"status\":{\"containerStatuses\":[{\"name\":\"b\",\"ready\":true}]}}");
    strategic(DEV_NODE, "{\"spec\":{\"taints\":[{\"key\":\"a\"}]}}",
              "{\"spec\":{\"taints\":[{\"key\":\"b\"}]}}",
              "{\"spec\":{\"taints\":[{\"key\":\"b\"}]}}");
    /* Primitives with the merge strategy. */
    strategic(DEV_POD, "{\"metadata\":{\"finalizers\":[\"a\",\"b\"]}}",
              "{\"metadata\":{\"finalizers\":[\"c\",\"b\"],\"$deleteFromPrimitiveList/"
              "finalizers\":[\"a\"]}}",
              "{\"metadata\":{\"finalizers\":[\"b\",\"c\"]}}");
    /* A nested list by its own key. */
    strategic(
        DEV_POD,
        "{\"spec\":{\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"X\",\"value\":\"1\"}]}]}}",
        "{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"env\":[{\"name\":\"Y\","
        "\"value\":\"2\"}]}]}}",
        "{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"env\":[{\"name\":\"X\","
        "\"value\":\"1\"},"
        "{\"name\":\"Y\",\"value\":\"2\"}]}]}}");
}

static void test_times_without_omitempty_stay_null(void **state)
{
    (void)state;
    strategic(
        DEV_POD,
        "{\"status\":{\"conditions\":[{\"type\":\"A\",\"lastProbeTime\":\"t\",\"reason\":\"r\"}]}}",
        "{\"status\":{\"conditions\":[{\"type\":\"A\",\"lastProbeTime\":null,\"reason\":null}]}}",
        "{\"status\":{\"conditions\":[{\"type\":\"A\",\"lastProbeTime\":null}]}}");
}

static void test_bad_patches_are_refused(void **state)
{
    (void)state;
    struct errbuf e = {{0}};
    json_t *d = parse("{\"status\":{\"conditions\":[{\"type\":\"A\"}]}}");
    json_t *p = parse("{\"status\":{\"conditions\":[{\"status\":\"x\"}]}}");
    assert_int_equal(dev_patch_strategic(dev_kind(DEV_NODE), d, p, &e), -EINVAL);
    assert_non_null(strstr(e.text, "merge key: type"));
    json_decref(p);
    p = parse("[1]");
    assert_int_equal(dev_patch_strategic(dev_kind(DEV_NODE), d, p, &e), -EINVAL);
    json_decref(p);
    json_decref(d);
}

static void test_merge_patch(void **state)
{
    (void)state;
    json_t *d = parse("{\"a\":{\"b\":1,\"c\":[1,2]},\"d\":1}");
    json_t *p = parse("{\"a\":{\"b\":null,\"c\":[3],\"e\":{\"f\":null,\"g\":1}},\"d\":{\"h\":1}}");
    assert_int_equal(dev_patch_merge(d, p), 0);
    expect_equal(d, "{\"a\":{\"c\":[3],\"e\":{\"g\":1}},\"d\":{\"h\":1}}");
    json_decref(d);
    json_decref(p);
}

static void json_patch(const char *document, const char *patch, int wanted_rc, const char *wanted)
{
    struct errbuf e = {{0}};
    json_t *d = parse(document), *p = parse(patch);
    int rc = dev_patch_json(&d, p, &e);
    if (rc != wanted_rc)
        fail_msg("%s on %s: %d", patch, document, rc);
    if (wanted)
        expect_equal(d, wanted);
    json_decref(d);
    json_decref(p);
}

static void test_json_patch(void **state)
{
    (void)state;
    json_patch("{\"a\":[1,2]}", "[{\"op\":\"add\",\"path\":\"/a/1\",\"value\":9}]", 0,
               "{\"a\":[1,9,2]}");
    json_patch("{\"a\":[1,2]}", "[{\"op\":\"add\",\"path\":\"/a/-\",\"value\":9}]", 0,
               "{\"a\":[1,2,9]}");
    json_patch("{\"a\":[1,2]}", "[{\"op\":\"replace\",\"path\":\"/a/0\",\"value\":9}]", 0,
               "{\"a\":[9,2]}");
    json_patch("{\"a/b\":1,\"m~n\":2}",
               "[{\"op\":\"remove\",\"path\":\"/a~1b\"},{\"op\":\"remove\",\"path\":\"/m~0n\"}]", 0,
               "{}");
    json_patch("{\"a\":1}",
               "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"},"
               "{\"op\":\"copy\",\"from\":\"/b\",\"path\":\"/c\"}]",
               0, "{\"b\":1,\"c\":1}");
    json_patch("{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":2}]", -ENOENT, NULL);
    json_patch("{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/b\"}]", -ENOENT, NULL);
    json_patch("{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b/c\",\"value\":1}]", -ENOENT, NULL);
    json_patch("{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/7\",\"value\":1}]", -ENOENT, NULL);
    json_patch("{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/01\",\"value\":1}]", -ENOENT, NULL);
    json_patch("{\"a\":1}", "[{\"op\":\"nonsense\",\"path\":\"/a\",\"value\":1}]", -EINVAL, NULL);
    json_patch("{\"a\":1}", "{}", -EINVAL, NULL);
    json_patch("{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{\"b\":2}}]", 0,
               "{\"b\":2}");
}

/* ---- text against trees ---- */

static unsigned pick(uint64_t *random, unsigned n)
{
    *random = *random * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(*random >> 33) % n;
}

static json_t *random_condition(uint64_t *r, bool is_patch)
{
    static const char *const types[] = {"Ready", "Memory", "Disk", "PID", "x", "Nul\"l"};
    json_t *c = json_object();
    json_object_set_new(c, "type", json_string(types[pick(r, 30) == 0 ? 5 : pick(r, 5)]));
    if (pick(r, 2))
        json_object_set_new(c, "status", json_string(pick(r, 2) ? "True" : "False"));
    if (pick(r, 2))
        json_object_set_new(c, "lastHeartbeatTime", json_integer(pick(r, 5)));
    if (pick(r, 12) == 0)
        json_object_set_new(c, "lastProbeTime", json_null());
    if (is_patch && pick(r, 12) == 0)
        json_object_set_new(c, "reason", json_null());
    if (is_patch && pick(r, 40) == 0)
        json_object_set_new(c, "$patch", json_string("delete"));
    return c;
}

static json_t *random_keyed_list(uint64_t *r, bool is_patch)
{
    json_t *list = json_array();
    for (unsigned n = pick(r, 5); n > 0; n--) {
        json_t *c = random_condition(r, is_patch);
        size_t i;
        json_t *have;
        bool is_double = false;
        json_array_foreach (list, i, have)
            is_double =
                is_double || json_equal(json_object_get(have, "type"), json_object_get(c, "type"));
        if (!is_double)
            json_array_append(list, c);
        json_decref(c);
    }
    return list;
}

static json_t *random_order(uint64_t *r)
{
    json_t *list = random_keyed_list(r, false), *order = json_array();
    size_t i;
    json_t *c;
    json_array_foreach (list, i, c)
        json_array_append_new(order, json_pack("{s:O}", "type", json_object_get(c, "type")));
    json_decref(list);
    return order;
}

static json_t *random_status(uint64_t *r, bool is_patch)
{
    json_t *s = json_object();
    if (pick(r, 4))
        json_object_set_new(s, "conditions", random_keyed_list(r, is_patch));
    if (is_patch && (json_object_get(s, "conditions") ? pick(r, 2) : pick(r, 8) == 0))
        json_object_set_new(s, "$setElementOrder/conditions", random_order(r));
    if (pick(r, 3) == 0)
        json_object_set_new(s, "addresses", random_keyed_list(r, is_patch));
    if (pick(r, 2))
        json_object_set_new(s, "phase", pick(r, 3) ? json_string("Run\\ning") : json_integer(7));
    if (pick(r, 2))
        json_object_set_new(s, "images", json_pack("[s,{s:i}]", "a", "b", (int)pick(r, 3)));
    if (pick(r, 2))
        json_object_set_new(s, "nodeInfo",
                            json_pack("{s:i,s:{s:i}}", pick(r, 2) ? "x" : "y", (int)pick(r, 3),
                                      "deep", pick(r, 2) ? "p" : "q", (int)pick(r, 3)));
    if (is_patch && pick(r, 5) == 0)
        json_object_set_new(s, pick(r, 2) ? "phase" : "nodeInfo", json_null());
    if (is_patch && pick(r, 30) == 0)
        json_object_set_new(s, "$patch", json_string("replace"));
    return s;
}

/* Both ways; false if the text version left it to the other. */
static bool compare(const json_t *status, const json_t *patch, bool has_status)
{
    struct dev_text out = {0};
    struct errbuf e;
    char *status_text = json_dumps(status, JSON_COMPACT),
         *patch_text = json_dumps(patch, JSON_INDENT(1));
    int rc = dev_patch_status(dev_kind(DEV_NODE), status_text, has_status ? strlen(status_text) : 0,
                              patch_text, strlen(patch_text), &out);
    if (rc == 0) {
        json_t *document = json_object(), *whole = json_pack("{s:O}", "status", patch);
        json_object_set_new(document, "status",
                            has_status ? json_deep_copy(status) : json_object());
        assert_int_equal(dev_patch_strategic(dev_kind(DEV_NODE), document, whole, &e), 0);
        json_t *got = json_loadb(out.at, out.size, 0, NULL);
        if (!got || !json_equal(got, json_object_get(document, "status")))
            fail_msg("status %s, patch %s: text %.*s, tree %s", status_text, patch_text,
                     (int)out.size, out.at,
                     json_dumps(json_object_get(document, "status"), JSON_COMPACT));
        json_decref(got);
        json_decref(document);
        json_decref(whole);
    } else {
        assert_int_equal(rc, -ENOTSUP);
    }
    free(status_text);
    free(patch_text);
    dev_text_fini(&out);
    return rc == 0;
}

static void test_text_gives_what_trees_give(void **state)
{
    (void)state;
    enum { ROUNDS = 30000 };
    unsigned done = 0;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        uint64_t r = seed * 77;
        json_t *status = random_status(&r, false), *patch = random_status(&r, true);
        done += compare(status, patch, pick(&r, 8) != 0);
        json_decref(status);
        json_decref(patch);
    }
    if (done < ROUNDS / 3)
        fail_msg("the text version took only %u of %u", done, ROUNDS);
}

/* What kubelets send all day must not go the long way. */
static void test_common_patches_take_the_short_way(void **state)
{
    (void)state;
    json_t *status = parse(
        "{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"lastHeartbeatTime\":\"a\"}],"
        "\"images\":[],\"containerStatuses\":[{\"name\":\"c\",\"message\":\"null\"}]}");
    json_t *patch = parse("{\"$setElementOrder/conditions\":[{\"type\":\"Ready\"}],"
                          "\"conditions\":[{\"lastHeartbeatTime\":\"b\",\"type\":\"Ready\"}],"
                          "\"containerStatuses\":[{\"name\":\"c\",\"state\":{\"running\":{}}}]}");
    assert_true(compare(status, patch, true));
    json_decref(status);
    json_decref(patch);
}

static void test_text_version_survives_lack_of_memory(void **state)
{
    (void)state;
    static const char status[] = "{\"a\":1,\"conditions\":[{\"type\":\"A\",\"x\":\"y\"}]}";
    static const char patch[] = "{\"b\":2,\"conditions\":[{\"type\":\"A\",\"x\":\"z\"}]}";
    for (unsigned n = 1;; n++) {
        struct dev_text out = {0};
        heap_fail_nth(n);
        int rc = dev_patch_status(dev_kind(DEV_NODE), status, sizeof(status) - 1, patch,
                                  sizeof(patch) - 1, &out);
        bool has_failed = heap_fail_end();
        assert_int_equal(rc, has_failed ? -ENOMEM : 0);
        dev_text_fini(&out);
        if (!has_failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maps_merge),
        cmocka_unit_test(test_conditions_merge_by_type),
        cmocka_unit_test(test_order_is_set),
        cmocka_unit_test(test_other_lists),
        cmocka_unit_test(test_times_without_omitempty_stay_null),
        cmocka_unit_test(test_bad_patches_are_refused),
        cmocka_unit_test(test_merge_patch),
        cmocka_unit_test(test_json_patch),
        cmocka_unit_test(test_text_gives_what_trees_give),
        cmocka_unit_test(test_common_patches_take_the_short_way),
        cmocka_unit_test(test_text_version_survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
