/* The simulated edges' messages against those of a real EdgeCore: byte for byte, but for times and
 * for what the template leaves out on purpose (named in each test). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/edgesim/edge_answer.h"
#include "test/edgesim/edge_message.h"

#define CAPTURE "test/captures/edgecore-session.jsonl"
#define WALL_US UINT64_C(1795463897329000)

static struct edge_text text;

static int setup(void **state)
{
    (void)state;
    edge_text_init(&text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    edge_text_fini(&text);
    return 0;
}

/* The n-th message (from 0) of the captured session as it travelled, with its LF. Caller frees. */
static char *captured(int n)
{
    FILE *file = fopen(CAPTURE, "r");
    char *line = NULL;
    size_t room = 0;
    assert_non_null(file);
    for (int i = 0; i <= n; i++)
        assert_true(getline(&line, &room, file) > 0);
    fclose(file);
    char *message = strstr(line, "\"msg\":");
    assert_non_null(message);
    message = strdup(message + 6);
    size_t size = strlen(message);
    assert_true(size > 2 && strcmp(message + size - 2, "}\n") == 0);
    strcpy(message + size - 2, "\n"); /* the brace of the line's own object */
    free(line);
    return message;
}

static char *vector(const char *name)
{
    char path[128];
    char *bytes = calloc(1, 65536);
    snprintf(path, sizeof(path), "test/vectors/%s", name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(bytes, 1, 65535, file) > 0);
    fclose(file);
    return bytes;
}

/* The value of the first `"key":"..."`, to be given to our own template. Caller frees. */
static char *value_of(const char *message, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof(quoted), "\"%s\":\"", key);
    const char *at = strstr(message, quoted);
    assert_non_null(at);
    at += strlen(quoted);
    return strndup(at, strcspn(at, "\""));
}

static uint64_t wall_of(const char *message)
{
    const char *at = strstr(message, "\"timestamp\":");
    assert_non_null(at);
    return strtoull(at + 12, NULL, 10) * 1000;
}

/* Times of objects become a fixed one: a message is composed at one moment, the real one looked at
 * the clock several times. */
static void flatten_times(char *message)
{
    for (char *p = message; (p = strstr(p, "\"20")) != NULL; p++) {
        size_t n = strspn(p + 1, "0123456789-T:.");
        if (n < 19 || p[n + 1] != 'Z')
            continue;
        memmove(p + 2, p + n + 1, strlen(p + n + 1) + 1);
        p[1] = 'T';
    }
    for (char *p = message; (p = strstr(p, "\\\"20")) != NULL; p++) {
        size_t n = strspn(p + 2, "0123456789-T:.");
        if (n < 19 || p[n + 2] != 'Z')
            continue;
        memmove(p + 3, p + n + 2, strlen(p + n + 2) + 1);
        p[2] = 'T';
    }
}

static void replace(char *message, const char *from, const char *to)
{
    char *at;
    assert_true(strlen(to) <= strlen(from));
    while ((at = strstr(message, from)) != NULL && strcmp(from, to) != 0) {
        memcpy(at, to, strlen(to));
        memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
    }
}

/* Cuts from `from` up to and including `to`, wherever it stands. */
static void cut(char *message, const char *from, const char *to)
{
    char *at, *stop;
    while ((at = strstr(message, from)) != NULL && (stop = strstr(at, to)) != NULL)
        memmove(at, stop + strlen(to), strlen(stop + strlen(to)) + 1);
}

static void assert_message(const char *expected)
{
    char *ours = strndup(text.at, text.size), *theirs = strdup(expected);
    assert_true(edge_text_ok(&text));
    flatten_times(ours);
    flatten_times(theirs);
    assert_string_equal(ours, theirs);
    free(ours);
    free(theirs);
}

static struct edge_author author_of(const char *node, const char *message)
{
    return (struct edge_author){
        .node = node, .dialect = EDGE_DIALECT_1_23, .wall_us = wall_of(message)};
}

static void test_keepalive(void **state)
{
    (void)state;
    char *real = captured(0), *id = value_of(real, "msg_id");
    struct edge_author a = author_of("hollow-2", real);
    edge_message_keepalive(&text, &a, id);
    assert_message(real);
    free(id);
    free(real);
    real = vector("up-01-keepalive.bin");
    edge_text_clear(&text);
    a = author_of("edge-node-1", real);
    edge_message_keepalive(&text, &a, "00000000-0000-4000-8000-000000000001");
    assert_message(real);
    free(real);
}

static void test_ack(void **state)
{
    (void)state;
    char *real = vector("up-16-ack.bin");
    struct edge_author a = author_of("x", real);
    const struct edge_ack ack = {"edgecontroller",
                                 "resource",
                                 "default/pod/web-0",
                                 "00000000-0000-4000-8000-000000000030",
                                 14,
                                 8,
                                 17,
                                 36};
    edge_message_ack(&text, &a, "00000000-0000-4000-8000-000000000016", &ack);
    assert_message(real);
    free(real);
}

static void test_node_insert(void **state)
{
    (void)state;
    char *real = captured(4), *id = value_of(real, "msg_id");
    struct edge_author a = author_of("hollow-2", real);
    /* An unreleased build's own versions. */
    replace(real, "v1.32.10-kubeedge-v0.0.0-master+$Format:%h$", "v1.32.10-kubeedge-v1.23.1");
    replace(real, "v0.0.0-master+$Format:%H$", "v0.0.0");
    edge_message_node_insert(&text, &a, id);
    assert_message(real);
    free(id);
    free(real);
}

static void test_nodepatch(void **state)
{
    (void)state;
    static const struct {
        int line;
        enum edge_report report;
    } patches[] = {{9, EDGE_REPORT_EMPTY}, {132, EDGE_REPORT_FULL}};
    for (size_t i = 0; i < 2; i++) {
        char *real = captured(patches[i].line), *id = value_of(real, "msg_id");
        struct edge_author a = author_of("hollow-2", real);
        edge_text_clear(&text);
        edge_message_nodepatch(&text, &a, id, patches[i].report);
        assert_message(real);
        free(id);
        free(real);
    }
}

static void test_nodepatch_is_base64_in_1_12_0(void **state)
{
    (void)state;
    struct edge_author a = {.node = "n", .dialect = EDGE_DIALECT_1_12_0, .wall_us = WALL_US};
    edge_message_nodepatch(&text, &a, "id", EDGE_REPORT_EMPTY);
    edge_text_append(&text, "", 1);
    assert_non_null(
        strstr(text.at, "\"resource\":\"default/nodepatch/n\"},\"content\":\"e30=\"}\n"));
}

static void test_leases(void **state)
{
    (void)state;
    char *query = captured(1), *insert = captured(16), *update = captured(20);
    char *id = value_of(query, "msg_id");
    struct edge_author a = author_of("hollow-2", query);
    edge_message_lease_query(&text, &a, id);
    assert_message(query);
    free(id);

    id = value_of(insert, "msg_id");
    a = author_of("hollow-2", insert);
    edge_text_clear(&text);
    edge_message_lease_insert(&text, &a, id, "7a94d1cd-62a4-492a-9e81-c144771025e0");
    assert_message(insert);
    free(id);

    id = value_of(update, "msg_id");
    a = author_of("hollow-2", update);
    const char *metadata = strstr(update, "\"metadata\":") + 11,
               *stop = strstr(metadata, ",\"spec\":");
    edge_text_clear(&text);
    edge_message_lease_update(&text, &a, id, metadata, (size_t)(stop - metadata), false);
    assert_message(update);
    free(id);
    free(query);
    free(insert);
    free(update);
}

static void test_queries(void **state)
{
    (void)state;
    char *real = vector("up-12-configmap-query.bin");
    struct edge_author a = author_of("x", real);
    const struct edge_pod_names pod = {.space = "default",
                                       .name = "web-0",
                                       .uid = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
                                       .account = "default"};
    edge_message_query(&text, &a, "00000000-0000-4000-8000-000000000012",
                       "default/configmap/greet");
    assert_message(real);
    free(real);

    real = vector("up-13-satoken-query.bin");
    a = author_of("x", real);
    edge_text_clear(&text);
    edge_message_token_query(&text, &a, "00000000-0000-4000-8000-000000000013", &pod);
    assert_message(real);
    free(real);

    real = vector("up-08-pod-delete.bin");
    a = author_of("x", real);
    edge_text_clear(&text);
    edge_message_pod_delete(&text, &a, "00000000-0000-4000-8000-000000000008", &pod);
    assert_message(real);
    free(real);
}

static void test_podpatches(void **state)
{
    (void)state;
    static const struct {
        int line;
        enum edge_pod_phase phase;
    } patches[] = {{25, EDGE_POD_PENDING}, {44, EDGE_POD_RUNNING}, {80, EDGE_POD_SUCCEEDED}};
    const struct edge_pod_names pod = {.space = "default",
                                       .name = "cache-f7c66c65c-hx28j",
                                       .uid = "8995ded6-4434-4214-9d99-b3cb1dcd84ad",
                                       .container = "nginx",
                                       .image = "nginx:1.25"};
    for (size_t i = 0; i < 3; i++) {
        char *real = captured(patches[i].line), *id = value_of(real, "msg_id");
        struct edge_author a = author_of("hollow-2", real);
        cut(real, ",\\\"volumeMounts\\\":", "]"); /* what is mounted where is left out */
        edge_text_clear(&text);
        edge_message_podpatch(&text, &a, id, &pod, patches[i].phase);
        assert_message(real);
        free(id);
        free(real);
    }
}

static void test_event_has_the_real_one_s_fields(void **state)
{
    (void)state;
    char *real = vector("up-10-event-insert.bin"), *ours;
    struct edge_author a = author_of("edge-node-1", real);
    edge_message_event(&text, &a, "00000000-0000-4000-8000-000000000010", 7, 100);
    edge_text_append(&text, "", 1);
    ours = text.at;
    /* The same keys in the same order; events of ours are about the Node, which has no namespace.
     */
    for (char *r = real, *o = ours; (r = strstr(r, "\":")) != NULL; r += 2) {
        char *start = r;
        while (start[-1] != '"')
            start--;
        char key[64];
        snprintf(key, sizeof(key), "\"%.*s\":", (int)(r - start), start);
        if (strcmp(key, "\"namespace\":") == 0 && strstr(o, key) == NULL)
            continue;
        char *found = strstr(o, key);
        if (!found && strcmp(key, "\"namespace\":") != 0)
            fail_msg("no %s in %s", key, o);
        o = strcmp(key, "\"namespace\":") == 0 ? o : found;
    }
    free(real);
}

static void test_escapes_as_go_does(void **state)
{
    (void)state;
    char *real = vector("up-23-unicode.bin");
    static const char raw[] =
        "{\"status\":{\"message\":\"h\xc3\xa9llo \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x98\x80 <a&b> "
        "\xe2\x80\xa8 tab\\t nul\\u0000 quote\\\"\"}}";
    edge_text_escape(&text, raw, strlen(raw));
    edge_text_append(&text, "", 1);
    assert_non_null(strstr(real, text.at));
    free(real);
    edge_text_clear(&text);
    edge_text_escape(&text, "\x01\r\n\xe2\x80\xa9\xe2\x80\xaa", 9);
    edge_text_append(&text, "", 1);
    assert_string_equal(text.at, "\\u0001\\r\\n\\u2029\xe2\x80\xaa");
}

static void test_ids_come_back(void **state)
{
    (void)state;
    char out[EDGE_ID_SIZE];
    const struct edge_id id = {.nonce = 0xabcdef01234,
                               .edge = 0xfedcba,
                               .expects_answer = true,
                               .sequence = 0x123456789abc};
    struct edge_id back;
    edge_id_format(&id, out);
    assert_string_equal(out, "abcdef01-fedc-4ba1-a234-123456789abc");
    assert_int_equal(edge_id_parse(out, 36, id.nonce, &back), 0);
    assert_int_equal(back.edge, id.edge);
    assert_true(back.expects_answer);
    assert_int_equal(back.sequence, id.sequence);
    assert_int_equal(edge_id_parse(out, 36, 1, &back), -ENOENT);
    assert_int_equal(edge_id_parse(out, 35, id.nonce, &back), -EINVAL);
    assert_int_equal(edge_id_parse("6065965c-52e7-4cf5-9794-9a8c84dd9f31", 36, 1, &back), -EINVAL);
    assert_int_equal(edge_id_parse("abcdef01-fedc-4ba1-a234-12345678zabc", 36, id.nonce, &back),
                     -EINVAL);
}

/* A repetition is made by writing a new id over the old one. */
static void test_id_stands_where_it_is_expected(void **state)
{
    (void)state;
    static const char id[] = "abcdef01-fedc-4ba1-a234-123456789abc";
    struct edge_author a = {.node = "n", .dialect = EDGE_DIALECT_1_23, .wall_us = WALL_US};
    edge_message_node_insert(&text, &a, id);
    assert_memory_equal(text.at + EDGE_ID_OFFSET, id, 36);
    edge_text_clear(&text);
    edge_message_query(&text, &a, id, "a/b/c");
    assert_memory_equal(text.at + EDGE_ID_OFFSET, id, 36);
}

static void test_padding_lengthens_nodes(void **state)
{
    (void)state;
    struct edge_author a = {.node = "n", .dialect = EDGE_DIALECT_1_22, .wall_us = WALL_US};
    struct edge_answer parsed;
    edge_message_nodepatch(&text, &a, "i", EDGE_REPORT_HEARTBEAT);
    size_t short_size = text.size;
    a.padding_bytes = 50000;
    edge_text_clear(&text);
    edge_message_node_insert(&text, &a, "i");
    assert_true(text.size > 50000 && text.size < 54000);
    assert_int_equal(edge_answer_parse(text.at, text.size, &parsed), 0);
    edge_text_clear(&text);
    edge_message_nodepatch(&text, &a, "i", EDGE_REPORT_HEARTBEAT);
    assert_true(text.size > short_size + 50000);
    assert_int_equal(edge_answer_parse(text.at, text.size, &parsed), 0);
}

/* --- answers --- */

static enum edge_outcome outcome_of_line(int line, bool is_object)
{
    char *real = captured(line);
    struct edge_answer a;
    struct json_span object;
    assert_int_equal(edge_answer_parse(real, strlen(real), &a), 0);
    enum edge_outcome outcome = is_object ? edge_answer_object(&a, &object) : edge_answer_plain(&a);
    free(real);
    return outcome;
}

static enum edge_outcome outcome_of_vector(const char *name, bool is_object)
{
    char *real = vector(name);
    struct edge_answer a;
    struct json_span object;
    assert_int_equal(edge_answer_parse(real, strlen(real), &a), 0);
    enum edge_outcome outcome = is_object ? edge_answer_object(&a, &object) : edge_answer_plain(&a);
    free(real);
    return outcome;
}

static void test_answers(void **state)
{
    (void)state;
    assert_int_equal(outcome_of_line(2, true), EDGE_OUTCOME_NOT_FOUND);
    assert_int_equal(outcome_of_line(6, true), EDGE_OUTCOME_OK);
    assert_int_equal(outcome_of_line(30, false), EDGE_OUTCOME_OK);
    assert_int_equal(outcome_of_line(86, false), EDGE_OUTCOME_OK);
    assert_int_equal(outcome_of_vector("down-39-node-insert-exists.bin", true),
                     EDGE_OUTCOME_EXISTS);
    assert_int_equal(outcome_of_vector("down-36-configmap-notfound.bin", false),
                     EDGE_OUTCOME_FAILED);
    assert_int_equal(outcome_of_vector("down-37-plain-error.bin", false), EDGE_OUTCOME_FAILED);
    assert_int_equal(outcome_of_vector("down-42-pod-delete-ok.bin", false), EDGE_OUTCOME_OK);
}

/* What would end a real EdgeCore, or leave it without a lease, is no success. */
static void test_object_needs_object_or_error(void **state)
{
    (void)state;
    static const char *const contents[] = {"{\"Object\":null,\"Err\":null}",
                                           "{\"Object\":{}}",
                                           "{\"Err\":null}",
                                           "\"OK\"",
                                           "{\"Object\":null,\"Err\":{}}",
                                           "[]"};
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        struct edge_answer a = {
            .content = {.at = contents[i], .size = strlen(contents[i]), .kind = JSON_KIND_OBJECT}};
        struct json_span object;
        a.content.kind = contents[i][0] == '{' ? JSON_KIND_OBJECT : JSON_KIND_STRING;
        assert_int_equal(edge_answer_object(&a, &object), EDGE_OUTCOME_FAILED);
        assert_null(object.at);
    }
}

static void test_readiness_of_a_node(void **state)
{
    (void)state;
    for (int line = 127; line <= 135; line += 8) {
        char *real = captured(line);
        struct edge_answer a;
        if (line == 135)
            free(real), real = captured(133);
        assert_int_equal(edge_answer_parse(real, strlen(real), &a), 0);
        /* The first push is what turned it NotReady, the other what its own patch made of it. */
        assert_int_equal(edge_answer_says_ready(&a.content), line == 135);
        free(real);
    }
}

static void test_versions_and_types(void **state)
{
    (void)state;
    struct json_span version = {.at = "5150", .size = 4}, bad = {.at = "51x", .size = 3},
                     none = {0};
    struct json_span pod = {.at = "default/pod/web", .size = 15},
                     short_one = {.at = "null/node", .size = 9};
    assert_int_equal(edge_answer_version(&version), 5150);
    assert_int_equal(edge_answer_version(&bad), 0);
    assert_int_equal(edge_answer_version(&none), 0);
    assert_memory_equal(edge_answer_type(&pod).at, "pod", 3);
    assert_int_equal(edge_answer_type(&pod).size, 3);
    assert_int_equal(edge_answer_type(&short_one).size, 4);
    assert_int_equal(edge_answer_type(&version).size, 0);
}

static void test_malformed_messages_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "[]", "{\"header\":{}", "{\"header\":1,\"route\":{},\"content\":1}", "nul"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct edge_answer a;
        assert_int_equal(edge_answer_parse(bad[i], strlen(bad[i]), &a), -EBADMSG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keepalive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ack, setup, teardown),
        cmocka_unit_test_setup_teardown(test_node_insert, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nodepatch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nodepatch_is_base64_in_1_12_0, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_podpatches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_event_has_the_real_one_s_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_escapes_as_go_does, setup, teardown),
        cmocka_unit_test(test_ids_come_back),
        cmocka_unit_test_setup_teardown(test_id_stands_where_it_is_expected, setup, teardown),
        cmocka_unit_test_setup_teardown(test_padding_lengthens_nodes, setup, teardown),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_object_needs_object_or_error),
        cmocka_unit_test(test_readiness_of_a_node),
        cmocka_unit_test(test_versions_and_types),
        cmocka_unit_test(test_malformed_messages_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
