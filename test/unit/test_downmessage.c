/* Pushes against those that KubeEdge's own library encoded (test/vectors). */
#include "hub/downmessage.h"
#include "hub/frame.h"

#include "test/lib/heap.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static json_t *vector(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "test/vectors/%s.bin", name);
    json_t *message = json_load_file(path, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(message);
    return message;
}

static const char *text_of(json_t *message, const char *part, const char *key)
{
    const char *text = json_string_value(json_object_get(json_object_get(message, part), key));
    return text ? text : "";
}

static struct text_span span(const char *text, size_t size)
{
    return (struct text_span){text, size};
}

/* The same message made by us: the same JSON. */
static void check(const char *name)
{
    json_t *theirs = vector(name);
    char *content = json_dumps(json_object_get(theirs, "content"), JSON_COMPACT);
    const char *resource = text_of(theirs, "route", "resource"),
               *version = text_of(theirs, "header", "resourceversion");
    const char *slash = strchr(resource, '/'), *last = strrchr(resource, '/');
    char type[32];
    snprintf(type, sizeof(type), "%.*s", (int)(last - slash - 1), slash + 1);
    const struct push push = {
        .operation = text_of(theirs, "route", "operation"),
        .ns = span(resource, (size_t)(slash - resource)),
        .name = span(last + 1, strlen(last + 1)),
        .type = type,
        .version = span(version, strlen(version)),
        .content = span(content, strlen(content)),
        .object = 7,
        .object_version = 9,
    };
    const char *id = text_of(theirs, "header", "msg_id");
    int64_t at =
        json_integer_value(json_object_get(json_object_get(theirs, "header"), "timestamp"));
    struct reply *r = downmessage_compose(&push, (struct session_ref){1, 2, 3}, id, at);
    assert_non_null(r);
    json_t *ours = json_loadb(reply_text(r), r->size, 0, NULL);
    assert_true(json_equal(ours, theirs));
    assert_int_equal(reply_text(r)[r->size - 1], '\n');
    assert_int_equal(r->outcome, REPLY_PUSH);
    assert_true(r->push_id == uuid_key(id, strlen(id)) && r->push_id != 0);
    assert_int_equal(r->to.slot, 2);
    reply_destroy(r);
    json_decref(ours);
    json_decref(theirs);
    free(content);
}

static void test_vectors(void **state)
{
    (void)state;
    check("down-30-pod-insert");
    check("down-31-pod-update-terminating");
    check("down-32-pod-delete");
    check("down-34-node-update");
}

static void test_tombstone(void **state)
{
    json_t *theirs = vector("down-33-pod-delete-sync");
    json_t *content = json_object_get(theirs, "content");
    const char *ns = text_of(content, "metadata", "namespace"),
               *name = text_of(content, "metadata", "name");
    struct text_span ns_span = span(ns, strlen(ns)), name_span = span(name, strlen(name)),
                     none = span("null", 4);
    char text[DOWNMESSAGE_TOMBSTONE_BYTES];
    (void)state;
    size_t size =
        downmessage_tombstone(&ns_span, &name_span, text_of(content, "metadata", "uid"), text);
    json_t *ours = json_loadb(text, size, 0, NULL);
    assert_true(json_equal(ours, content));
    json_decref(ours);
    json_decref(theirs);
    size = downmessage_tombstone(&none, &name_span, "u", text);
    ours = json_loadb(text, size, 0, NULL);
    assert_null(json_object_get(json_object_get(ours, "metadata"), "namespace"));
    json_decref(ours);
}

static void test_uuid_keys(void **state)
{
    char id[UUID_BYTES];
    (void)state;
    uuid_make(id);
    assert_true(uuid_key(id, 36) != 0);
    assert_true(uuid_key("00000000-0000-4001-8000-000000000000", 36) == 0x0000000000004001);
    assert_true(uuid_key(id, 35) == 0);
    assert_true(uuid_key("00000000-0000-400x-8000-000000000000", 36) == 0);
}

static void test_failing_allocation(void **state)
{
    const struct push push = {.operation = "delete",
                              .ns = {"a", 1},
                              .type = "pod",
                              .name = {"b", 1},
                              .content = {"{}", 2}};
    (void)state;
    heap_fail_nth(1);
    assert_null(downmessage_compose(&push, (struct session_ref){0}, "x", 1));
    assert_true(heap_fail_end());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_tombstone),
        cmocka_unit_test(test_uuid_keys),
        cmocka_unit_test(test_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
