/* CloudCore's records, read and written. */
#include "hub/syncrecord.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define UID "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"

/* As CloudCore left it in a cluster. */
static const char record[] =
    "{\"apiVersion\":\"reliablesyncs.kubeedge.io/"
    "v1alpha1\",\"kind\":\"ObjectSync\",\"metadata\":{\"creationTimestamp\":"
    "\"2026-08-06T10:00:00Z\",\"generation\":1,\"name\":\"edge.with.dots." UID
    "\",\"namespace\":\"default\","
    "\"resourceVersion\":\"812\",\"uid\":\"11111111-1111-4111-8111-111111111111\"},\"spec\":{"
    "\"objectAPIVersion\":\"v1\","
    "\"objectKind\":\"Pod\",\"objectName\":\"web\"},\"status\":{\"objectResourceVersion\":\"799\"}"
    "}";

static bool is(const struct text_span *s, const char *text)
{
    return text_span_equals(s, text);
}

static void test_reads_cloudcores(void **state)
{
    struct syncrecord r;
    char uid[WANT_UID_TEXT + 1];
    (void)state;
    assert_int_equal(syncrecord_read(record, sizeof(record) - 1, &r), 0);
    assert_true(is(&r.node, "edge.with.dots"));
    assert_int_equal(r.key.kind, RESOURCE_POD);
    assert_true(is(&r.key.ns, "default"));
    assert_true(is(&r.key.name, "web"));
    assert_int_equal(r.version, 799);
    assert_true(r.has_status);
    want_uid_format(&r.uid, uid);
    assert_string_equal(uid, UID);
}

static int read_text(const char *metadata, const char *spec, const char *status,
                     struct syncrecord *r)
{
    char text[1024];
    snprintf(text, sizeof(text), "{\"metadata\":%s,\"spec\":%s%s}", metadata, spec, status);
    return syncrecord_read(text, strlen(text), r);
}

static void test_reads_others(void **state)
{
    static const char cluster[] = "{\"name\":\"e." UID "\"}",
                      named[] = "{\"name\":\"e." UID "\",\"namespace\":\"a\"}";
    static const char node[] =
        "{\"objectAPIVersion\":\"v1\",\"objectKind\":\"Node\",\"objectName\":\"e\"}";
    static const char claim[] = "{\"objectAPIVersion\":\"v1\",\"objectKind\":"
                                "\"PersistentVolumeClaim\",\"objectName\":\"c\"}";
    static const char foreign[] =
        "{\"objectAPIVersion\":\"x/v1\",\"objectKind\":\"Pod\",\"objectName\":\"c\"}";
    struct syncrecord r;
    (void)state;
    assert_int_equal(read_text(cluster, node, "", &r), 0);
    assert_int_equal(r.key.kind, RESOURCE_NODE);
    assert_false(r.has_status);
    assert_int_equal(r.version, 0);
    assert_int_equal(read_text(cluster, node, ",\"status\":{\"objectResourceVersion\":\"0\"}", &r),
                     0);
    assert_true(r.has_status);
    /* Kinds that are not served, and such that cannot be, are only kept to be collected. */
    assert_int_equal(read_text(named, claim, "", &r), 0);
    assert_int_equal(r.key.kind, RESOURCE_NONE);
    assert_int_equal(read_text(named, node, "", &r), 0);
    assert_int_equal(r.key.kind, RESOURCE_NONE);
    assert_int_equal(read_text(named, foreign, "", &r), 0);
    assert_int_equal(r.key.kind, RESOURCE_NONE);
    /* Nor those of names that would lead elsewhere. */
    static const char *const names[] = {"a/b", "..", ".", "a b", "a?b", "a%2Fb"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char spec[128];
        snprintf(spec, sizeof(spec),
                 "{\"objectAPIVersion\":\"v1\",\"objectKind\":\"Pod\",\"objectName\":\"%s\"}",
                 names[i]);
        assert_int_equal(read_text(named, spec, "", &r), 0);
        assert_int_equal(r.key.kind, RESOURCE_NONE);
    }
}

static void test_refuses_what_is_no_record(void **state)
{
    static const char spec[] =
        "{\"objectAPIVersion\":\"v1\",\"objectKind\":\"Pod\",\"objectName\":\"p\"}";
    static const char *const metadata[] = {
        "{\"name\":\"" UID "\"}",
        "{\"name\":\"." UID "\"}",
        "{\"name\":\"e-" UID "\"}",
        "{\"name\":\"e.not-a-uid\"}",
        "{\"name\":7}",
        "{}",
        "null",
    };
    struct syncrecord r;
    (void)state;
    for (size_t i = 0; i < sizeof(metadata) / sizeof(metadata[0]); i++)
        assert_int_not_equal(read_text(metadata[i], spec, "", &r), 0);
    assert_int_not_equal(read_text("{\"name\":\"e." UID "\"}", "{}", "", &r), 0);
    assert_int_not_equal(syncrecord_read("", 0, &r), 0);
}

static struct want_object *object_of(struct want *w, enum resource_kind kind, const char *ns,
                                     const char *name)
{
    const struct want_key key = {kind, {ns, strlen(ns)}, {name, strlen(name)}};
    struct want_object *replaced;
    struct want_uid uid;
    assert_true(want_uid_parse(UID, WANT_UID_TEXT, &uid));
    return want_object_live(w, &key, &uid, &replaced);
}

static void test_writes_as_cloudcore_does(void **state)
{
    struct want *w = want_create();
    struct want_object *pod = object_of(w, RESOURCE_POD, "default", "web");
    char text[SYNCRECORD_BYTES];
    struct syncrecord r;
    (void)state;
    json_t *theirs = json_loads(record, 0, NULL);
    json_t *ours = json_loadb(text, syncrecord_body("edge.with.dots", pod, text), 0, NULL);
    static const char *const same[] = {"apiVersion", "kind", "spec"};
    for (size_t i = 0; i < 3; i++)
        assert_true(json_equal(json_object_get(theirs, same[i]), json_object_get(ours, same[i])));
    json_t *metadata = json_object_get(ours, "metadata");
    assert_int_equal(json_object_size(metadata), 2);
    assert_string_equal(json_string_value(json_object_get(metadata, "name")),
                        "edge.with.dots." UID);
    assert_string_equal(json_string_value(json_object_get(metadata, "namespace")), "default");
    json_decref(theirs);
    json_decref(ours);
    assert_int_equal(syncrecord_read(text, strlen(text), &r), 0);
    assert_int_equal(r.key.kind, RESOURCE_POD);
    syncrecord_status(799, text);
    assert_string_equal(text, "{\"status\":{\"objectResourceVersion\":\"799\"}}");
    want_destroy(w);
}

static void test_paths(void **state)
{
#define API "/apis/reliablesyncs.kubeedge.io/v1alpha1"
    struct want *w = want_create();
    struct want_object *pod = object_of(w, RESOURCE_POD, "default", "web"),
                       *node = object_of(w, RESOURCE_NODE, "", "e");
    char text[SYNCRECORD_BYTES];
    (void)state;
    syncrecord_path(SYNCRECORD_COLLECTION, "e", pod, text);
    assert_string_equal(text, API "/namespaces/default/objectsyncs");
    syncrecord_path(SYNCRECORD_STATUS, "e", pod, text);
    assert_string_equal(text, API "/namespaces/default/objectsyncs/e." UID "/status");
    syncrecord_path(SYNCRECORD_OBJECT, "e", node, text);
    assert_string_equal(text, API "/clusterobjectsyncs/e." UID);
    want_destroy(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_cloudcores),
        cmocka_unit_test(test_reads_others),
        cmocka_unit_test(test_refuses_what_is_no_record),
        cmocka_unit_test(test_writes_as_cloudcore_does),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
