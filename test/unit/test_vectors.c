/* Golden data: messages as KubeEdge's own library encodes them (test/vectors), and a session of a
 * real EdgeCore (test/captures). Runs in the source's top directory. */
#include "hub/content.h"
#include "hub/envelope.h"
#include "hub/route.h"
#include "test/lib/jsonref.h"

#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wslay/wslay.h>

/* Takes the whole file. The caller frees. */
static char *read_file(const char *name, size_t *size)
{
    char path[512];
    snprintf(path, sizeof(path), "test/%s", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s is not there: run from the top directory", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long end = ftell(f);
    assert_true(end >= 0);
    *size = (size_t)end;
    rewind(f);
    char *text = malloc(*size ? *size : 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *size, f), *size);
    fclose(f);
    return text;
}

static char *read_vector(const char *name, const char *extension, size_t *size)
{
    char path[300];
    snprintf(path, sizeof(path), "vectors/%s%s", name, extension);
    return read_file(path, size);
}

static void expect_field(const json_t *object, const char *key, const struct json_span *field)
{
    const char *value = json_string_value(json_object_get(object, key));
    char text[ENVELOPE_MAX_RESOURCE + 1];
    assert_true(envelope_text(field, text, sizeof(text)) >= 0);
    assert_string_equal(text, value ? value : "");
}

static void expect_content(const json_t *expected, const struct json_span *content)
{
    if (json_is_string(expected)) {
        char *text = malloc(content->size + 1);
        assert_non_null(text);
        size_t size = jsonscan_unescape(content, text);
        assert_int_equal(content->kind, JSON_KIND_STRING);
        assert_int_equal(size, json_string_length(expected));
        assert_memory_equal(text, json_string_value(expected), size);
        free(text);
        return;
    }
    json_t *read = json_loadb(content->at, content->size, JSON_DECODE_ANY, NULL);
    assert_true(json_equal(read, expected));
    json_decref(read);
}

static void expect_as_described(const struct envelope *e, const json_t *described)
{
    const json_t *header = json_object_get(described, "header"),
                 *route = json_object_get(described, "route");
    assert_true(json_is_object(header) && json_is_object(route));
    expect_field(header, "msg_id", &e->msg_id);
    expect_field(header, "parent_msg_id", &e->parent_msg_id);
    expect_field(header, "resourceversion", &e->resource_version);
    expect_field(header, "type", &e->type);
    assert_true(e->timestamp == json_integer_value(json_object_get(header, "timestamp")));
    expect_field(route, "source", &e->source);
    expect_field(route, "destination", &e->destination);
    expect_field(route, "group", &e->group);
    expect_field(route, "operation", &e->operation);
    expect_field(route, "resource", &e->resource);
    expect_content(json_object_get(described, "content"), &e->content);
}

static void check_vector(const char *name)
{
    size_t size, description_size;
    int rc;
    char *text = read_vector(name, ".bin", &size);
    char *description = read_vector(name, ".json", &description_size);
    struct envelope e;
    const char *wrong = jsonref_check_envelope(text, size, &rc);
    if (wrong || envelope_scan(text, size, &e) != 0)
        fail_msg("%s: %s (%s)", name, wrong ? wrong : "refused", envelope_error_name(rc));
    json_t *described = json_loadb(description, description_size, 0, NULL);
    assert_non_null(described);
    expect_as_described(&e, described);
    json_decref(described);
    free(description);
    free(text);
}

static void test_every_vector(void **state)
{
    (void)state;
    DIR *dir = opendir("test/vectors");
    const struct dirent *entry;
    int count = 0;
    if (!dir)
        fail_msg("test/vectors is not there: run from the top directory");
    while ((entry = readdir(dir))) {
        char name[256];
        snprintf(name, sizeof(name), "%s", entry->d_name);
        char *extension = strstr(name, ".bin");
        if (!extension || (strncmp(name, "up-", 3) != 0 && strncmp(name, "down-", 5) != 0))
            continue;
        *extension = '\0';
        check_vector(name);
        count++;
    }
    closedir(dir);
    assert_int_equal(count, 42);
}

/* ---- where they go ---- */

#define UP(kind)             ROUTE_UPSTREAM, UPSTREAM_##kind, ROUTE_REASON_NONE
#define OTHER(class, reason) ROUTE_##class, UPSTREAM_KIND_COUNT, ROUTE_REASON_##reason

static const struct {
    const char *name;
    enum route_class class;
    enum upstream_kind kind;
    enum route_reason reason;
} routes[] = {
    {"up-01-keepalive", OTHER(KEEPALIVE, KEEPALIVE)},
    {"up-02-node-insert", UP(NODE_INSERT)},
    {"up-03-nodepatch", UP(NODEPATCH)},
    {"up-04-lease-query", UP(LEASE_QUERY)},
    {"up-05-lease-insert", UP(LEASE_INSERT)},
    {"up-06-lease-update", UP(LEASE_UPDATE)},
    {"up-07-podpatch", UP(PODPATCH)},
    {"up-08-pod-delete", UP(POD_DELETE)},
    {"up-09-pod-delete-legacy", UP(POD_DELETE)},
    {"up-10-event-insert", UP(EVENT_INSERT)},
    {"up-11-event-patch", UP(EVENT_PATCH)},
    {"up-12-configmap-query", UP(CONFIGMAP_QUERY)},
    {"up-13-satoken-query", UP(SERVICEACCOUNTTOKEN_QUERY)},
    {"up-14-k8sca-query", UP(K8S_CA_QUERY)},
    {"up-15-csr-insert", UP(CSR_INSERT)},
    {"up-16-ack", OTHER(ACK, ACK)},
    {"up-17-error", OTHER(EDGE_ERROR, EDGE_ERROR)},
    {"up-18-podstatus-update", UP(PODSTATUS_UPDATE)},
    {"up-19-nodestatus-update", UP(NODESTATUS_UPDATE)},
    {"up-20-upload-bytes", OTHER(IGNORED, UPLOAD)},
    {"up-21-metaserver-list", OTHER(IGNORED, METASERVER)},
    {"up-22-membership-get", OTHER(IGNORED, TWIN)},
    {"up-23-unicode", UP(PODPATCH)},
    {"up-24-empty-content", UP(CONFIGMAP_QUERY)},
    {"up-25-nodepatch-v1120", UP(NODEPATCH)},
};

static void test_routes(void **state)
{
    (void)state;
    static const char node[] = "edge-node-1";
    for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
        size_t size;
        struct envelope e;
        struct route route;
        char *text = read_vector(routes[i].name, ".bin", &size);
        assert_int_equal(envelope_scan(text, size, &e), 0);
        route_classify(&e, node, sizeof(node) - 1, &route);
        if (route.class != routes[i].class || route.kind != routes[i].kind ||
            route.reason != routes[i].reason)
            fail_msg("%s: class %d, reason %s", routes[i].name, (int)route.class,
                     route_reason_names[route.reason]);
        free(text);
    }
}

/* ---- what is in them ---- */

static void expect_bytes(const char *name,
                         int (*decode)(const struct json_span *, char *, size_t *),
                         const char *expected)
{
    size_t size, decoded;
    struct envelope e;
    char *text = read_vector(name, ".bin", &size), to[1024];
    assert_int_equal(envelope_scan(text, size, &e), 0);
    assert_true(e.content.size + CONTENT_DELETE_EXTRA <= sizeof(to));
    assert_int_equal(decode(&e.content, to, &decoded), 0);
    assert_int_equal(decoded, strlen(expected));
    assert_memory_equal(to, expected, decoded);
    free(text);
}

static void test_raw_bytes(void **state)
{
    (void)state;
    expect_bytes("up-07-podpatch", content_patch,
                 "{\"metadata\":{\"uid\":\"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\"},\"status\":{"
                 "\"phase\":\"Running\","
                 "\"podIP\":\"10.0.0.5\"}}");
    expect_bytes("up-25-nodepatch-v1120", content_patch, "{\"status\":{\"phase\":\"Running\"}}");
    expect_bytes("up-23-unicode", content_patch,
                 "{\"status\":{\"message\":\"h\xc3\xa9llo \xe4\xb8\x96\xe7\x95\x8c "
                 "\xf0\x9f\x98\x80 <a&b> \xe2\x80\xa8 tab\\t "
                 "nul\\u0000 quote\\\"\"}}");
    expect_bytes("up-08-pod-delete", content_delete_options,
                 "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"aaaaaaaa-bbbb-4ccc-8ddd-"
                 "eeeeeeeeeeee\"}}");
    expect_bytes("up-09-pod-delete-legacy", content_delete_options,
                 "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"aaaaaaaa-bbbb-4ccc-8ddd-"
                 "eeeeeeeeeeee\"}}");
}

/* ---- websocket frames ---- */

struct frames {
    const uint8_t *at;
    size_t left;
    char message[16384];
    size_t size;
    int messages;
};

static ssize_t take_bytes(wslay_event_context_ptr ctx, uint8_t *buf, size_t room, int flags,
                          void *user_data)
{
    (void)flags;
    struct frames *f = user_data;
    size_t size = f->left < room ? f->left : room;
    if (size == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(buf, f->at, size);
    f->at += size;
    f->left -= size;
    return (ssize_t)size;
}

static void take_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
                         void *user_data)
{
    (void)ctx;
    struct frames *f = user_data;
    assert_int_equal(arg->opcode, WSLAY_TEXT_FRAME);
    assert_true(arg->msg_length <= sizeof(f->message));
    memcpy(f->message, arg->msg, arg->msg_length);
    f->size = arg->msg_length;
    f->messages++;
}

static void unframe(const char *name, bool from_edge, struct frames *f)
{
    static const struct wslay_event_callbacks callbacks = {.recv_callback = take_bytes,
                                                           .on_msg_recv_callback = take_message};
    wslay_event_context_ptr ctx;
    size_t size;
    char *bytes = read_file(name, &size);
    *f = (struct frames){.at = (uint8_t *)bytes, .left = size};
    assert_int_equal(from_edge ? wslay_event_context_server_init(&ctx, &callbacks, f)
                               : wslay_event_context_client_init(&ctx, &callbacks, f),
                     0);
    assert_int_equal(wslay_event_recv(ctx), 0);
    wslay_event_context_free(ctx);
    free(bytes);
}

/* The edge's in masked fragments of 4096 bytes, the cloud's with an empty last one. */
static void test_frames(void **state)
{
    (void)state;
    static struct frames edge, cloud;
    struct envelope e;
    int rc;
    unframe("vectors/frames-edge-9k.bin", true, &edge);
    unframe("vectors/frames-cloud-9k.bin", false, &cloud);
    assert_int_equal(edge.messages, 1);
    assert_int_equal(cloud.messages, 1);
    assert_int_equal(edge.left, 0);
    assert_null(jsonref_check_envelope(edge.message, edge.size, &rc));
    assert_int_equal(rc, 0);
    assert_null(jsonref_check_envelope(cloud.message, cloud.size, &rc));
    assert_int_equal(rc, 0);
    assert_int_equal(envelope_scan(edge.message, edge.size, &e), 0);
    assert_true(e.content.size > 8192);
}

/* ---- sessions ---- */

struct session_count {
    int lines, upstream, keepalives, acks, ignored;
};

static void check_line(const char *line, size_t size, const char *node, const char *up,
                       struct session_count *count)
{
    static const char *const msg_path[] = {"msg", NULL}, *const dir_path[] = {"dir", NULL};
    struct json_span msg, dir;
    struct envelope e;
    struct route route;
    int rc;
    assert_int_equal(jsonscan_find(line, size, msg_path, &msg), 0);
    assert_int_equal(jsonscan_find(line, size, dir_path, &dir), 0);
    const char *wrong = jsonref_check_envelope(msg.at, msg.size, &rc);
    if (wrong || envelope_scan(msg.at, msg.size, &e) != 0)
        fail_msg("%.*s: %s (%s)", (int)size, line, wrong ? wrong : "refused",
                 envelope_error_name(rc));
    count->lines++;
    if (!jsonscan_equals(&dir, up))
        return;
    route_classify(&e, node, strlen(node), &route);
    count->upstream += route.class == ROUTE_UPSTREAM;
    count->keepalives += route.class == ROUTE_KEEPALIVE;
    count->acks += route.class == ROUTE_ACK;
    count->ignored += route.class == ROUTE_IGNORED;
    if (route.class == ROUTE_REFUSED ||
        (route.class == ROUTE_IGNORED && route.reason != ROUTE_REASON_EMPTY))
        fail_msg("%.*s: %s", (int)size, line, route_reason_names[route.reason]);
}

static struct session_count check_session(const char *name, const char *node, const char *up)
{
    struct session_count count = {.lines = 0};
    size_t size;
    char *text = read_file(name, &size), *line = text;
    for (char *lf; (lf = memchr(line, '\n', size - (size_t)(line - text))); line = lf + 1)
        check_line(line, (size_t)(lf - line), node, up, &count);
    assert_ptr_equal(line, text + size);
    free(text);
    return count;
}

static void test_sessions(void **state)
{
    (void)state;
    struct session_count count =
        check_session("captures/edgecore-session.jsonl", "hollow-2", "send");
    assert_int_equal(count.lines, 161);
    assert_int_equal(count.upstream, 38);
    assert_int_equal(count.keepalives, 16);
    assert_int_equal(count.acks, 48);
    assert_int_equal(count.ignored, 1);
    count = check_session("vectors/session-edgemark.jsonl", "edge-node-1", "up");
    assert_true(count.upstream >= 10);
    assert_int_equal(count.ignored, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_vector), cmocka_unit_test(test_routes),
        cmocka_unit_test(test_raw_bytes),    cmocka_unit_test(test_frames),
        cmocka_unit_test(test_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
