/* What each kind asks the API server, and what the edge is answered: run by run, without a server. */
#include "hub/kinds.h"

#include "test/lib/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define STRATEGIC "application/strategic-merge-patch+json"
#define MERGE     "application/merge-patch+json"

static struct option_list allowed_labels = {.items = {"example.k8s.io/room"}, .count = 1};
static struct kinds_context context = {
    .impersonate = true,
    .advertise_address = "192.0.2.1",
    .replica_id = "r1",
    .ca_pem = "-----BEGIN CERTIFICATE-----\n",
    .allowed_node_labels = &allowed_labels,
};

/* ---- a message, a run, a response ---- */

static struct message *question(const char *operation, const char *resource, const char *content)
{
    char text[4096];
    int size = snprintf(text, sizeof(text),
                        "{\"header\":{\"msg_id\":\"q-1\",\"timestamp\":5},\"route\":{\"source\":\"edged\",\"group\":\"meta\","
                        "\"operation\":\"%s\",\"resource\":\"%s\"},\"content\":%s}",
                        operation, resource, content);
    assert_true(size > 0 && (size_t)size < sizeof(text));
    struct message *m = message_create((size_t)size);
    assert_non_null(m);
    memcpy(m->text, text, (size_t)size);
    m->size = (size_t)size;
    m->node = node_name_create("edge-1", 6, false);
    assert_non_null(m->node);
    assert_int_equal(0, envelope_scan(m->text, m->size, &m->envelope));
    route_classify(&m->envelope, m->node->text, m->node->size, &m->route);
    assert_int_equal(ROUTE_UPSTREAM, m->route.class);
    return m;
}

static struct apiresponse http(unsigned status, const char *body)
{
    return (struct apiresponse){.status = status, .is_json = true, .body = body, .size = strlen(body), .attempts = 1};
}

static void expect_call(const struct run *run, const char *method, const char *path, bool as_node)
{
    assert_string_equal(method, run->call.method);
    assert_string_equal(path, run->call.path);
    assert_int_equal(as_node, run->call.as_node);
}

static void expect_body(const struct run *run, const char *type, const char *body)
{
    assert_string_equal(type, run->call.content_type);
    assert_int_equal(strlen(body), run->call.body_size);
    assert_memory_equal(body, run->call.body, run->call.body_size);
}

static json_t *body_json(const struct run *run)
{
    json_t *json = json_loadb(run->call.body, run->call.body_size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    return json;
}

/* The composed answer as JSON; checks what all answers have in common. */
static json_t *composed(const struct message *m, const struct run *run)
{
    struct reply *reply = answer_compose(m, &run->result, 1234567890123);
    assert_non_null(reply);
    assert_int_equal(REPLY_ANSWERED, reply->outcome);
    assert_int_equal('\n', reply_text(reply)[reply->size - 1]);
    json_t *json = json_loadb(reply_text(reply), reply->size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    reply_destroy(reply);

    json_t *header = json_object_get(json, "header");
    assert_string_equal("q-1", json_string_value(json_object_get(header, "parent_msg_id")));
    assert_int_equal(36, json_string_length(json_object_get(header, "msg_id")));
    assert_int_equal(1234567890123, json_integer_value(json_object_get(header, "timestamp")));
    assert_string_equal("resource", json_string_value(json_object_get(json_object_get(json, "route"), "group")));
    return json;
}

static const char *route_text(const json_t *answer, const char *key)
{
    return json_string_value(json_object_get(json_object_get(answer, "route"), key));
}

static void expect_answer(const struct message *m, const struct run *run, const char *operation, const char *version,
                          const char *content)
{
    json_t *answer = composed(m, run);
    json_t *expected = json_loads(content, JSON_DECODE_ANY, NULL);
    assert_non_null(expected);
    assert_string_equal(operation, route_text(answer, "operation"));
    const char *has = json_string_value(json_object_get(json_object_get(answer, "header"), "resourceversion"));
    assert_string_equal(version ? version : "", has ? has : "");
    if (!json_equal(expected, json_object_get(answer, "content"))) {
        char *text = json_dumps(answer, 0);
        fail_msg("answered %s, expected %s", text, content);
    }
    json_decref(expected);
    json_decref(answer);
}

static void done(struct message *m, struct run *run)
{
    run_end(run);
    message_destroy(m);
}

/* ---- kinds of one request ---- */

struct one {
    const char *operation, *resource, *content;
    const char *method, *path, *type, *body;
};

static void test_one_request(void **state)
{
    (void)state;
    static const struct one cases[] = {
        {"query", "default/node/edge-1", "null", "GET", "/api/v1/nodes/edge-1", NULL, NULL},
        {"patch", "null/nodepatch/edge-1", "\"{\\\"a\\\":1}\"", "PATCH", "/api/v1/nodes/edge-1/status", STRATEGIC, "{\"a\":1}"},
        {"patch", "default/nodepatch/edge-1", "\"eyJhIjoxfQ==\"", "PATCH", "/api/v1/nodes/edge-1/status", STRATEGIC, "{\"a\":1}"},
        {"query", "kube-node-lease/lease/edge-1", "null", "GET",
         "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1", NULL, NULL},
        {"insert", "kube-node-lease/lease/edge-1", "{\"l\":1}", "POST",
         "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", "application/json", "{\"l\":1}"},
        {"update", "kube-node-lease/lease/edge-1", "{\"l\":1}", "PUT",
         "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1", "application/json", "{\"l\":1}"},
        {"patch", "ns1/podpatch/web-0", "\"{}\"", "PATCH", "/api/v1/namespaces/ns1/pods/web-0/status", STRATEGIC, "{}"},
        {"insert", "ns1/pod/web-0", "{\"p\":1}", "POST", "/api/v1/namespaces/ns1/pods", "application/json", "{\"p\":1}"},
        {"delete", "ns1/pod/web-0", "{\"gracePeriodSeconds\":0}", "DELETE", "/api/v1/namespaces/ns1/pods/web-0",
         "application/json", "{\"gracePeriodSeconds\":0}"},
        {"insert", "ns1/event/e.1", "{\"metadata\":{\"namespace\":\"ns2\"}}", "POST", "/api/v1/namespaces/ns2/events",
         "application/json", "{\"metadata\":{\"namespace\":\"ns2\"}}"},
        {"update", "ns1/event/e.1", "{}", "PUT", "/api/v1/namespaces/ns1/events/e.1", "application/json", "{}"},
        {"patch", "ns1/event/e.1", "{\"event\":{\"metadata\":{\"namespace\":\"ns3\"}},\"patchData\":\"{\\\"count\\\":2}\"}",
         "PATCH", "/api/v1/namespaces/ns3/events/e.1", STRATEGIC, "{\"count\":2}"},
        {"query", "ns1/configmap/c", "null", "GET", "/api/v1/namespaces/ns1/configmaps/c", NULL, NULL},
        {"query", "ns1/secret/s", "null", "GET", "/api/v1/namespaces/ns1/secrets/s", NULL, NULL},
        {"query", "ns1/serviceaccounttoken/sa", "{\"spec\":{}}", "POST", "/api/v1/namespaces/ns1/serviceaccounts/sa/token",
         "application/json", "{\"spec\":{}}"},
        {"query", "null/persistentvolume/pv", "null", "GET", "/api/v1/persistentvolumes/pv", NULL, NULL},
        {"query", "ns1/persistentvolumeclaim/c", "null", "GET", "/api/v1/namespaces/ns1/persistentvolumeclaims/c", NULL, NULL},
        {"query", "default/volumeattachment/va", "null", "GET", "/apis/storage.k8s.io/v1/volumeattachments/va", NULL, NULL},
        {"insert", "default/certificatesigningrequest/c", "{\"c\":1}", "POST",
         "/apis/certificates.k8s.io/v1/certificatesigningrequests", "application/json", "{\"c\":1}"},
        {"query", "default/certificatesigningrequest/c", "null", "GET",
         "/apis/certificates.k8s.io/v1/certificatesigningrequests/c", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct one *c = &cases[i];
        struct message *m = question(c->operation, c->resource, c->content);
        struct run run;
        assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
        expect_call(&run, c->method, c->path, true);
        if (c->body)
            expect_body(&run, c->type, c->body);
        else
            assert_null(run.call.body);
        done(m, &run);
    }
}

static void answer_case(const char *operation, const char *resource, const char *content, struct apiresponse response,
                        const char *answer_operation, const char *version, const char *answer_content)
{
    struct message *m = question(operation, resource, content);
    struct run run;
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    enum run_verdict v;
    while ((v = run_continue(&run, &response)) == RUN_SLEEP)
        assert_int_equal(RUN_CALL, run_resume(&run));
    assert_int_equal(RUN_DONE, v);
    expect_answer(m, &run, answer_operation, version, answer_content);
    done(m, &run);
}

#define OBJECT    "{\"kind\":\"X\",\"metadata\":{\"resourceVersion\":\"77\",\"name\":\"x\"}}"
#define NOT_FOUND "{\"kind\":\"Status\",\"message\":\"x \\\"y\\\" not found\",\"reason\":\"NotFound\",\"code\":404}"

static void test_answers(void **state)
{
    (void)state;
    const char *lease = "kube-node-lease/lease/edge-1";
    answer_case("query", lease, "null", http(200, OBJECT), "response", NULL, "{\"Object\":" OBJECT ",\"Err\":null}");
    answer_case("query", lease, "null", http(404, NOT_FOUND), "response", NULL,
                "{\"Object\":null,\"Err\":{\"ErrStatus\":" NOT_FOUND "}}");
    answer_case("patch", "null/nodepatch/edge-1", "\"{}\"", http(200, OBJECT), "response", "77",
                "{\"Object\":" OBJECT ",\"Err\":null}");
    answer_case("query", "ns1/configmap/c", "null", http(200, OBJECT), "response", "77", OBJECT);
    /* EdgeCore would store a failure as the object: so it is told by the operation (kubeedge-protocol 4.4). */
    answer_case("query", "ns1/configmap/c", "null", http(404, NOT_FOUND), "error", NULL, "\"x \\\"y\\\" not found\"");
    answer_case("query", "ns1/secret/c", "null", http(403, NOT_FOUND), "error", NULL, "\"x \\\"y\\\" not found\"");
    answer_case("delete", "ns1/pod/p", "{}", http(200, OBJECT), "response", NULL, "\"OK\"");
    answer_case("delete", "ns1/pod/p", "{}", http(404, NOT_FOUND), "response", NULL, "\"OK\"");
    answer_case("delete", "ns1/pod/p", "{}", http(403, NOT_FOUND), "response", NULL, "{\"ErrStatus\":" NOT_FOUND "}");
    answer_case("update", "null/node/edge-1", "{\"metadata\":{}}", http(200, OBJECT), "response", "77", "\"OK\"");
}

/* Nothing that is not a JSON object of the API server's reaches an edge. */
static void test_answers_that_cannot_be_passed_on(void **state)
{
    (void)state;
    const char *lease = "kube-node-lease/lease/edge-1";
    struct apiresponse html = http(502, "<html>bad gateway</html>");
    html.is_json = false;
    struct apiresponse cut = http(200, "{\"kind\":\"Lease\",");
    struct apiresponse array = http(200, "[1]");
    struct apiresponse late = {.error = -ETIMEDOUT};
    struct apiresponse refused = {.error = -ECONNREFUSED};
    const struct {
        struct apiresponse response;
        int code;
        const char *reason;
    } cases[] = {{html, 502, "InternalError"},
                 {cut, 500, "InternalError"},
                 {array, 500, "InternalError"},
                 {late, 504, "Timeout"},
                 {refused, 503, "ServiceUnavailable"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message *m = question("query", lease, "null");
        struct run run;
        assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
        assert_int_equal(RUN_DONE, run_continue(&run, &cases[i].response));
        json_t *answer = composed(m, &run);
        json_t *content = json_object_get(answer, "content");
        json_t *status = json_object_get(json_object_get(content, "Err"), "ErrStatus");
        assert_true(json_is_null(json_object_get(content, "Object")));
        assert_int_equal(cases[i].code, json_integer_value(json_object_get(status, "code")));
        assert_string_equal(cases[i].reason, json_string_value(json_object_get(status, "reason")));
        assert_string_equal("Failure", json_string_value(json_object_get(status, "status")));
        json_decref(answer);
        done(m, &run);
    }
}

static void test_bad_content(void **state)
{
    (void)state;
    struct run run;
    struct message *m = question("patch", "null/nodepatch/edge-1", "\"not base64\"");
    assert_int_equal(RUN_DONE, run_begin(&run, &context, m));
    json_t *answer = composed(m, &run);
    json_t *err = json_object_get(json_object_get(answer, "content"), "Err");
    assert_int_equal(400, json_integer_value(json_object_get(json_object_get(err, "ErrStatus"), "code")));
    json_decref(answer);
    done(m, &run);

    m = question("patch", "ns1/event/e.1", "{\"event\":{}}");
    assert_int_equal(RUN_BAD_CONTENT, run_begin(&run, &context, m));
    done(m, &run);
}

static void test_a_refused_query_is_tried_again(void **state)
{
    (void)state;
    struct message *m = question("query", "ns1/secret/s", "null");
    struct run run;
    struct apiresponse no = http(403, NOT_FOUND), yes = http(200, OBJECT);
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    assert_int_equal(RUN_SLEEP, run_continue(&run, &no));
    assert_true(run.sleep_ms > 0 && run.sleep_ms < 2000);
    assert_int_equal(RUN_CALL, run_resume(&run));
    expect_call(&run, "GET", "/api/v1/namespaces/ns1/secrets/s", true);
    assert_int_equal(RUN_DONE, run_continue(&run, &yes));
    expect_answer(m, &run, "response", "77", OBJECT);
    done(m, &run);
}

static void test_cluster_ca(void **state)
{
    (void)state;
    struct message *m = question("query", "k8s/ca.crt", "null");
    struct run run;
    assert_int_equal(RUN_DONE, run_begin(&run, &context, m));
    json_t *answer = composed(m, &run);
    assert_string_equal("cloudhub", route_text(answer, "source"));
    assert_string_equal("k8s/ca.crt", route_text(answer, "resource"));
    assert_string_equal(context.ca_pem, json_string_value(json_object_get(answer, "content")));
    json_decref(answer);
    done(m, &run);
}

/* ---- node insert ---- */

#define NODE                                                                                                           \
    "{\"metadata\":{\"name\":\"liar\",\"labels\":{\"kubernetes.io/os\":\"linux\",\"city\":\"ulm\","                    \
    "\"node-role.kubernetes.io/edge\":\"\",\"node-role.kubernetes.io/master\":\"\",\"example.k8s.io/room\":\"7\","     \
    "\"node.kubernetes.io/x\":\"y\"}},\"spec\":{}}"

static void expect_keys(const json_t *object, const char *const *keys)
{
    size_t n = 0;
    for (; keys[n]; n++)
        assert_non_null(json_object_get(object, keys[n]));
    assert_int_equal(n, json_object_size(object));
}

static void test_node_insert(void **state)
{
    (void)state;
    static const char *const by_node[] = {"kubernetes.io/os", "city", "node.kubernetes.io/x", NULL};
    static const char *const by_hub[] = {"node-role.kubernetes.io/edge", "node-role.kubernetes.io/agent",
                                         "example.k8s.io/room", NULL};
    struct message *m = question("insert", "null/node/edge-1", NODE);
    struct run run;
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    expect_call(&run, "POST", "/api/v1/nodes", true);
    json_t *node = body_json(&run);
    json_t *metadata = json_object_get(node, "metadata");
    assert_string_equal("edge-1", json_string_value(json_object_get(metadata, "name")));
    expect_keys(json_object_get(metadata, "labels"), by_node);
    json_t *annotations = json_object_get(metadata, "annotations");
    assert_string_equal("192.0.2.1", json_string_value(json_object_get(annotations, "cloudcore")));
    assert_string_equal("r1", json_string_value(json_object_get(annotations, "isthmus.io/replica")));
    json_decref(node);

    struct apiresponse created = http(201, OBJECT);
    assert_int_equal(RUN_CALL, run_continue(&run, &created));
    expect_call(&run, "PATCH", "/api/v1/nodes/edge-1", false);
    assert_string_equal(MERGE, run.call.content_type);
    json_t *patch = body_json(&run);
    expect_keys(json_object_get(json_object_get(patch, "metadata"), "labels"), by_hub);
    json_decref(patch);

    struct apiresponse patched = http(200, OBJECT);
    assert_int_equal(RUN_DONE, run_continue(&run, &patched));
    expect_answer(m, &run, "response", NULL, "{\"Object\":" OBJECT ",\"Err\":null}");
    done(m, &run);
}

/* A wiped edge gets the Node before it hears that it exists; role labels that a crash left off are mended. */
static void test_node_insert_of_an_existing_node(void **state)
{
    (void)state;
    struct message *m = question("insert", "null/node/edge-1", NODE);
    struct run run;
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    struct apiresponse exists = http(409, NOT_FOUND);
    assert_int_equal(RUN_CALL, run_continue(&run, &exists));
    expect_call(&run, "GET", "/api/v1/nodes/edge-1", false);
    struct apiresponse found = http(200, OBJECT);
    assert_int_equal(RUN_CALL, run_continue(&run, &found));
    assert_true(run.has_push);
    struct reply *push = downmessage_compose(&run.push, m->from, "b5b3f1ec-0d27-4d4b-9d3a-0e2ef1ad7c25", 1);
    assert_non_null(push);
    assert_int_equal(REPLY_PUSH, push->outcome);
    json_t *json = json_loadb(reply_text(push), push->size, JSON_REJECT_DUPLICATES, NULL);
    assert_string_equal("update", route_text(json, "operation"));
    assert_string_equal("null/node/edge-1", route_text(json, "resource"));
    assert_null(json_object_get(json_object_get(json, "header"), "parent_msg_id"));
    json_decref(json);
    reply_destroy(push);

    expect_call(&run, "PATCH", "/api/v1/nodes/edge-1", false);
    assert_int_equal(RUN_DONE, run_continue(&run, &found));
    json_t *answer = composed(m, &run);
    json_t *status = json_object_get(json_object_get(json_object_get(answer, "content"), "Err"), "ErrStatus");
    assert_string_equal("AlreadyExists", json_string_value(json_object_get(status, "reason")));
    json_decref(answer);
    done(m, &run);
}

static void test_node_insert_refuses_what_is_no_node(void **state)
{
    (void)state;
    struct message *m = question("insert", "null/node/edge-1", "[]");
    struct run run;
    assert_int_equal(RUN_DONE, run_begin(&run, &context, m));
    assert_int_equal(RESULT_FAILURE, run.result.kind);
    done(m, &run);
}

/* ---- the old kinds ---- */

static void test_node_update_takes_nothing_away(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct kinds_context c = context;
        c.impersonate = i == 0;
        struct message *m = question("update", "null/node/edge-1", "{\"metadata\":{\"labels\":null,\"annotations\":null}}");
        struct run run;
        assert_int_equal(RUN_CALL, run_begin(&run, &c, m));
        expect_call(&run, "PATCH", "/api/v1/nodes/edge-1", i == 0);
        expect_body(&run, MERGE, "{\"metadata\":{}}");
        done(m, &run);
    }
}

static void test_nodestatus_update(void **state)
{
    (void)state;
    struct message *m = question("update", "default/nodestatus/edge-1",
                                 "{\"UID\":\"u\",\"Status\":{\"phase\":\"Running\",\"volumesAttached\":[1]}}");
    struct run run;
    struct apiresponse node = http(200, "{\"metadata\":{\"resourceVersion\":\"5\"},\"status\":{\"volumesAttached\":[2],"
                                        "\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":10350}}}}");
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    expect_call(&run, "GET", "/api/v1/nodes/edge-1", true);
    assert_int_equal(RUN_CALL, run_continue(&run, &node));
    expect_call(&run, "PUT", "/api/v1/nodes/edge-1/status", true);
    json_t *body = body_json(&run);
    json_t *expected = json_loads("{\"phase\":\"Running\",\"volumesAttached\":[2],\"daemonEndpoints\":{\"kubeletEndpoint\":"
                                  "{\"Port\":10350}}}", 0, NULL);
    assert_true(json_equal(expected, json_object_get(body, "status")));
    json_decref(expected);
    json_decref(body);
    struct apiresponse ok = http(200, OBJECT);
    assert_int_equal(RUN_DONE, run_continue(&run, &ok));
    json_t *answer = composed(m, &run);
    assert_string_equal("default/node/edge-1", route_text(answer, "resource"));
    assert_string_equal("OK", json_string_value(json_object_get(answer, "content")));
    json_decref(answer);
    done(m, &run);
}

static void test_podstatus(void **state)
{
    (void)state;
    struct message *m = question("update", "ns1/podstatus",
                                 "[{\"UID\":\"u1\",\"Name\":\"gone\",\"Status\":{}},{\"UID\":\"u2\",\"Name\":\"here\",\"Status\":"
                                 "{\"phase\":\"Failed\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}],"
                                 "\"containerStatuses\":[{\"name\":\"b\",\"state\":{\"terminated\":{}}},{\"name\":\"a\","
                                 "\"state\":{\"terminated\":{}}}]}}]");
    struct run run;
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    expect_call(&run, "GET", "/api/v1/namespaces/ns1/pods/gone", true);
    struct apiresponse gone = http(404, NOT_FOUND);
    assert_int_equal(RUN_CALL, run_continue(&run, &gone));
    assert_true(run.has_push);
    assert_string_equal("delete", run.push.operation);
    run.has_push = false;

    expect_call(&run, "GET", "/api/v1/namespaces/ns1/pods/here", true);
    struct apiresponse pod = http(200, "{\"metadata\":{\"uid\":\"u2\"},\"spec\":{\"nodeName\":\"edge-1\"},\"status\":"
                                       "{\"startTime\":\"T0\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\","
                                       "\"lastTransitionTime\":\"T1\"}]}}");
    assert_int_equal(RUN_CALL, run_continue(&run, &pod));
    expect_call(&run, "PUT", "/api/v1/namespaces/ns1/pods/here/status", true);
    json_t *body = body_json(&run);
    json_t *status = json_object_get(body, "status");
    assert_string_equal("T0", json_string_value(json_object_get(status, "startTime")));
    json_t *ready = json_array_get(json_object_get(status, "conditions"), 0);
    assert_string_equal("T1", json_string_value(json_object_get(ready, "lastTransitionTime")));
    json_t *first = json_array_get(json_object_get(status, "containerStatuses"), 0);
    assert_string_equal("a", json_string_value(json_object_get(first, "name")));
    json_decref(body);

    struct apiresponse put = http(200, "{\"metadata\":{\"deletionTimestamp\":\"T\"}}");
    assert_int_equal(RUN_CALL, run_continue(&run, &put));
    expect_call(&run, "DELETE", "/api/v1/namespaces/ns1/pods/here", true);
    assert_int_equal(RUN_DONE, run_continue(&run, &put));
    assert_int_equal(RESULT_OK, run.result.kind);
    done(m, &run);
}

/* ---- the annotations at connect ---- */

static void test_node_connected(void **state)
{
    (void)state;
    struct message *m = message_create(0);
    struct run run;
    m->node = node_name_create("edge-1", 6, false);
    m->route = (struct route){.class = ROUTE_UPSTREAM, .kind = UPSTREAM_NODE_CONNECTED, .name = {m->node->text, 6}};
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    expect_call(&run, "GET", "/api/v1/nodes/edge-1", false);
    struct apiresponse other = http(200, "{\"metadata\":{\"annotations\":{\"cloudcore\":\"192.0.2.9\"}}}");
    assert_int_equal(RUN_CALL, run_continue(&run, &other));
    expect_call(&run, "PATCH", "/api/v1/nodes/edge-1", false);
    assert_int_equal(RUN_DONE, run_continue(&run, &other));
    assert_int_equal(RESULT_NONE, run.result.kind);
    run_end(&run);

    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    struct apiresponse same = http(200, "{\"metadata\":{\"annotations\":{\"cloudcore\":\"192.0.2.1\","
                                        "\"isthmus.io/replica\":\"r1\"}}}");
    assert_int_equal(RUN_DONE, run_continue(&run, &same));
    done(m, &run);
}

/* ---- without impersonation ---- */

static void own_case(const char *operation, const char *resource, const char *content, const char *path,
                     struct apiresponse response, bool is_allowed)
{
    struct kinds_context alone = context;
    alone.impersonate = false;
    struct message *m = question(operation, resource, content);
    struct run run;
    assert_int_equal(RUN_CALL, run_begin(&run, &alone, m));
    expect_call(&run, "GET", path, false);
    enum run_verdict v = run_continue(&run, &response);
    assert_int_equal(is_allowed ? RUN_CALL : RUN_DONE, v);
    if (is_allowed) {
        assert_true(run.step < RUN_STEP_OWNERSHIP);
        assert_false(run.call.as_node);
    } else {
        assert_int_equal(RESULT_FAILURE, run.result.kind);
    }
    done(m, &run);
}

#define TOKEN_OF(version, name, uid) \
    "{\"spec\":{\"boundObjectRef\":{\"kind\":\"Pod\",\"apiVersion\":\"" version "\",\"name\":\"" name "\",\"uid\":\"" uid "\"}}}"

static void test_own_things_only(void **state)
{
    (void)state;
    const char *pods = "/api/v1/namespaces/ns1/pods?fieldSelector=spec.nodeName%3Dedge-1&resourceVersion=0";
    const char *list = "{\"items\":[{\"metadata\":{\"name\":\"p\",\"uid\":\"u1\"},"
                       "\"spec\":{\"nodeName\":\"edge-1\",\"serviceAccountName\":\"sa\",\"volumes\":[{\"configMap\":"
                       "{\"name\":\"c1\"}},{\"projected\":{\"sources\":[{\"secret\":{\"name\":\"s1\"}}]}},"
                       "{\"persistentVolumeClaim\":{\"claimName\":\"pvc\"}}],\"containers\":[{\"envFrom\":[{\"secretRef\":"
                       "{\"name\":\"s2\"}}],\"env\":[{\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"c2\"}}}]}],"
                       "\"ephemeralContainers\":[{\"envFrom\":[{\"configMapRef\":{\"name\":\"c3\"}}]}],"
                       "\"imagePullSecrets\":[{\"name\":\"s3\"}]}},"
                       "{\"spec\":{\"nodeName\":\"other\",\"volumes\":[{\"configMap\":{\"name\":\"c9\"}}]}}]}";
    static const char *const mentioned[] = {"configmap/c1", "configmap/c2", "configmap/c3", "secret/s1", "secret/s2",
                                            "secret/s3", "persistentvolumeclaim/pvc"};
    static const char *const others[] = {"configmap/c9", "configmap/s1", "secret/c1", "persistentvolumeclaim/c1"};
    char resource[64];
    for (size_t i = 0; i < 7; i++) {
        snprintf(resource, sizeof(resource), "ns1/%s", mentioned[i]);
        own_case("query", resource, "null", pods, http(200, list), true);
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(resource, sizeof(resource), "ns1/%s", others[i]);
        own_case("query", resource, "null", pods, http(200, list), false);
    }
    own_case("query", "ns1/serviceaccounttoken/sa", TOKEN_OF("v1", "p", "u1"), pods, http(200, list), true);
    own_case("query", "ns1/serviceaccounttoken/admin", TOKEN_OF("v1", "p", "u1"), pods, http(200, list), false);
    own_case("query", "ns1/serviceaccounttoken/sa", "{}", pods, http(200, list), false);
    own_case("query", "ns1/serviceaccounttoken/sa", TOKEN_OF("v1", "p", "u2"), pods, http(200, list), false);
    own_case("query", "ns1/serviceaccounttoken/sa", TOKEN_OF("v1", "", ""), pods, http(200, list), false);
    own_case("query", "ns1/serviceaccounttoken/sa", TOKEN_OF("v2", "p", "u1"), pods, http(200, list), false);
    own_case("patch", "ns1/podpatch/p", "\"{}\"", "/api/v1/namespaces/ns1/pods/p",
             http(200, "{\"spec\":{\"nodeName\":\"edge-1\"}}"), true);
    own_case("delete", "ns1/pod/p", "{}", "/api/v1/namespaces/ns1/pods/p",
             http(200, "{\"spec\":{\"nodeName\":\"other\"}}"), false);
    own_case("query", "default/volumeattachment/v", "null", "/apis/storage.k8s.io/v1/volumeattachments/v",
             http(200, "{\"spec\":{\"nodeName\":\"other\"}}"), false);
}

/* Asked in the name of the hub, nobody but the hub judges what stands in a body. */
#define MIRROR(spec)                                                                                   \
    "{\"metadata\":{\"annotations\":{\"kubernetes.io/config.mirror\":\"h\"}},\"spec\":{\"nodeName\":\"edge-1\"" spec "}}"

static void test_own_bodies_only(void **state)
{
    static const struct {
        const char *resource, *content;
        bool is_allowed;
    } cases[] = {
        {"kube-node-lease/lease/edge-1", "{\"metadata\":{\"name\":\"edge-1\"}}", true},
        {"kube-node-lease/lease/edge-1", "{\"metadata\":{\"name\":\"edge-2\"}}", false},
        {"kube-node-lease/lease/edge-1", "{\"metadata\":{\"generateName\":\"edge-1\"}}", false},
        {"kube-node-lease/lease/edge-1", "{\"metadata\":{\"name\":\"edge-1\",\"name\":\"edge-2\"}}", false},
        {"ns1/pod/p", MIRROR(""), true},
        {"ns1/pod/p", "{\"spec\":{\"nodeName\":\"edge-1\"}}", false},
        {"ns1/pod/p", MIRROR(",\"volumes\":[{\"emptyDir\":{}}],\"serviceAccountName\":\"\""), true},
        {"ns1/pod/p", MIRROR(",\"serviceAccountName\":\"admin\""), false},
        {"ns1/pod/p", MIRROR(",\"volumes\":[{\"configMap\":{\"name\":\"c\"}}]"), false},
        {"ns1/pod/p", MIRROR(",\"volumes\":[{\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]"), false},
        {"ns1/pod/p", MIRROR(",\"containers\":[{\"envFrom\":[{\"secretRef\":{\"name\":\"s\"}}]}]"), false},
        {"ns1/pod/p", MIRROR(",\"imagePullSecrets\":[{\"name\":\"s\"}]"), false},
    };
    struct kinds_context alone = context;
    (void)state;
    alone.impersonate = false;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message *m = question("insert", cases[i].resource, cases[i].content);
        struct run run;
        assert_int_equal(cases[i].is_allowed ? RUN_CALL : RUN_DONE, run_begin(&run, &alone, m));
        if (!cases[i].is_allowed)
            assert_int_equal(RESULT_FAILURE, run.result.kind);
        done(m, &run);
    }
}

/* It might be there, and somebody else's, when the next request comes. */
static void test_what_is_not_there_is_not_touched(void **state)
{
    struct kinds_context alone = context;
    struct apiresponse none = http(404, "{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"NotFound\",\"code\":404}");
    struct run run;
    (void)state;
    alone.impersonate = false;
    struct message *m = question("patch", "ns1/podpatch/p", "\"{}\"");
    assert_int_equal(RUN_CALL, run_begin(&run, &alone, m));
    assert_int_equal(RUN_DONE, run_continue(&run, &none));
    assert_int_equal(RESULT_FAILURE, run.result.kind);
    done(m, &run);
    m = question("delete", "ns1/pod/p", "{}");
    assert_int_equal(RUN_CALL, run_begin(&run, &alone, m));
    assert_int_equal(RUN_DONE, run_continue(&run, &none));
    expect_answer(m, &run, "response", NULL, "\"OK\"");
    done(m, &run);
}

/* ---- no memory ---- */

static void test_failing_allocations(void **state)
{
    (void)state;
    static const struct one cases[] = {
        {.operation = "insert", .resource = "null/node/edge-1", .content = NODE},
        {.operation = "patch", .resource = "null/nodepatch/edge-1", .content = "\"{}\""},
        {.operation = "delete", .resource = "ns1/pod/p", .content = "{}"},
    };
    for (size_t i = 0; i < 3; i++) {
        for (unsigned n = 1;; n++) {
            struct message *m = question(cases[i].operation, cases[i].resource, cases[i].content);
            struct run run;
            struct reply *reply = NULL;
            struct apiresponse ok = http(200, OBJECT);
            heap_fail_nth(n);
            enum run_verdict v = run_begin(&run, &context, m);
            while (v == RUN_CALL)
                v = run_continue(&run, &ok);
            if (v == RUN_DONE)
                reply = answer_compose(m, &run.result, 1);
            bool failed = heap_fail_end();
            assert_true(v == RUN_DONE || (failed && v == RUN_NO_MEMORY));
            assert_true(reply || failed);
            reply_destroy(reply);
            run_end(&run);
            /* Whatever happened, the session is told, with the memory of the message itself. */
            struct reply *none = answer_none(m, REPLY_DROPPED);
            assert_int_equal(0, none->size);
            reply_destroy(none);
            if (!failed)
                break;
        }
    }
}

/* ---- a patch of a pod that is no more ---- */

static void test_podpatch_of_a_pod_that_is_gone(void **state)
{
    static const struct {
        const char *content;
        unsigned status;
        bool has_push;
    } cases[] = {
        {"\"{\\\"metadata\\\":{\\\"uid\\\":\\\"u-1\\\"},\\\"status\\\":{}}\"", 404, true},
        {"\"{\\\"metadata\\\":{\\\"uid\\\":\\\"u-1\\\"},\\\"status\\\":{}}\"", 409, false},
        {"\"{\\\"metadata\\\":{\\\"uid\\\":\\\"u-1\\\"},\\\"status\\\":{}}\"", 200, false},
        {"\"{\\\"status\\\":{}}\"", 404, false},
        {"\"{\\\"metadata\\\":{\\\"uid\\\":7}}\"", 404, false},
        {"\"nonsense\"", 404, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message *m = question("patch", "shop/podpatch/web", cases[i].content);
        struct run run;
        assert_true(run_begin(&run, &context, m) != RUN_NO_MEMORY);
        struct apiresponse r = http(cases[i].status, "{\"kind\":\"Status\",\"code\":404,\"reason\":\"NotFound\"}");
        if (run.call.body)
            assert_int_equal(RUN_DONE, run_continue(&run, &r));
        assert_int_equal(cases[i].has_push, run.has_push);
        if (run.has_push) {
            assert_string_equal("delete", run.push.operation);
            assert_string_equal("pod", run.push.type);
            static const char body[] = "{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u-1\"}}";
            assert_int_equal(strlen(body), run.push.content.size);
            assert_memory_equal(body, run.push.content.at, strlen(body));
        }
        done(m, &run);
    }
}

/* ---- letting a node go ---- */

static struct message *release_message(void)
{
    struct message *m = message_create(0);
    assert_non_null(m);
    m->node = node_name_create("edge-1", 6, false);
    assert_non_null(m->node);
    m->route.class = ROUTE_UPSTREAM;
    m->route.kind = UPSTREAM_NODE_RELEASE;
    m->route.ns = (struct text_span){"kube-node-lease", 15};
    m->route.name = (struct text_span){m->node->text, m->node->size};
    return m;
}

#define LEASE_PATH "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1"

static const char a_lease[] = "{\"kind\":\"Lease\",\"metadata\":{\"resourceVersion\":\"8\"},\"spec\":{\"renewTime\":"
                              "\"2026-11-28T03:00:00.000000Z\"}}";
static const char a_node[] = "{\"kind\":\"Node\",\"metadata\":{\"name\":\"edge-1\",\"resourceVersion\":\"70\"}}";

static void test_release_renews_the_lease_and_reads_the_node(void **state)
{
    struct message *m = release_message();
    struct run run;
    (void)state;
    context.bridges_leases = context.nudges = true;
    assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
    expect_call(&run, "GET", LEASE_PATH, true);
    struct apiresponse r = http(200, a_lease);
    assert_int_equal(RUN_CALL, run_continue(&run, &r));
    expect_call(&run, "PUT", LEASE_PATH, true);
    json_t *put = body_json(&run);
    assert_string_equal("8", json_string_value(json_object_get(json_object_get(put, "metadata"), "resourceVersion")));
    json_decref(put);
    r = http(200, "{\"kind\":\"Lease\",\"metadata\":{\"resourceVersion\":\"9\"},\"spec\":{}}");
    assert_int_equal(RUN_CALL, run_continue(&run, &r));
    expect_call(&run, "GET", "/api/v1/nodes/edge-1", true);
    r = http(200, a_node);
    assert_int_equal(RUN_DONE, run_continue(&run, &r));
    assert_int_equal(FAREWELL_GO, run.farewell);
    assert_string_equal("9", json_string_value(json_object_get(json_object_get(run.saved, "metadata"), "resourceVersion")));
    assert_true(run.has_push);
    assert_string_equal("update", run.push.operation);
    assert_memory_equal("70", run.push.version.at, run.push.version.size);
    done(m, &run);
}

/* A lease that cannot be renewed, for whatever reason, only means that the node goes without. */
static void test_release_without_a_lease(void **state)
{
    static const char *const leases[] = {"{\"kind\":\"Lease\",\"spec\":{}}", "{}", "[]"};
    (void)state;
    context.bridges_leases = true;
    for (size_t i = 0; i < 5; i++) {
        struct message *m = release_message();
        struct run run;
        assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
        struct apiresponse r = i < 3 ? http(200, leases[i]) : i == 3 ? http(404, "{}") : http(200, a_lease);
        assert_int_equal(RUN_CALL, run_continue(&run, &r));
        if (i == 4) {
            r = http(403, "{}");
            assert_int_equal(RUN_CALL, run_continue(&run, &r));
        }
        expect_call(&run, "GET", "/api/v1/nodes/edge-1", true);
        r = http(200, a_node);
        assert_int_equal(RUN_DONE, run_continue(&run, &r));
        assert_int_equal(FAREWELL_GO, run.farewell);
        assert_null(run.saved);
        done(m, &run);
    }
}

static void test_release_of_one_that_stays(void **state)
{
    static const struct {
        unsigned status;
        const char *body;
        enum farewell farewell;
    } cases[] = {
        {200, "{\"kind\":\"Node\",\"metadata\":{\"annotations\":{\"isthmus.io/keep\":\"\"}}}", FAREWELL_KEPT},
        {404, "{\"kind\":\"Status\"}", FAREWELL_FAILED},
        {503, "", FAREWELL_FAILED},
    };
    (void)state;
    context.bridges_leases = false;
    for (size_t i = 0; i < 3; i++) {
        struct message *m = release_message();
        struct run run;
        assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
        expect_call(&run, "GET", "/api/v1/nodes/edge-1", true);
        struct apiresponse r = http(cases[i].status, cases[i].body);
        assert_int_equal(RUN_DONE, run_continue(&run, &r));
        assert_int_equal(cases[i].farewell, run.farewell);
        assert_false(run.has_push);
        assert_null(run.saved);
        done(m, &run);
    }
}

/* In a drain: its lease is renewed and goes on being renewed, whatever the Node says. */
static void test_release_of_one_that_must_leave(void **state)
{
    static const struct {
        unsigned status;
        const char *body;
        bool has_push;
    } cases[] = {
        {200,
         "{\"kind\":\"Node\",\"metadata\":{\"annotations\":{\"isthmus.io/keep\":\"\"},\"resourceVersion\":\"70\"}}",
         true},
        {404, "{\"kind\":\"Status\"}", false},
        {503, "", false},
    };
    (void)state;
    context.bridges_leases = context.nudges = true;
    for (size_t i = 0; i < 3; i++) {
        struct message *m = release_message();
        struct run run;
        m->must_leave = true;
        assert_int_equal(RUN_CALL, run_begin(&run, &context, m));
        struct apiresponse r = http(200, a_lease);
        assert_int_equal(RUN_CALL, run_continue(&run, &r));
        uint64_t asked_ms = run.asked_ms;
        assert_int_equal(RUN_CALL, run_continue(&run, &r));
        r = http(cases[i].status, cases[i].body);
        assert_int_equal(RUN_DONE, run_continue(&run, &r));
        assert_int_equal(FAREWELL_GO, run.farewell);
        assert_int_equal(cases[i].has_push, run.has_push);
        assert_non_null(run.saved);
        assert_int_equal(asked_ms, run.asked_ms); /* to that moment its renewTime belongs */
        done(m, &run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_request),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answers_that_cannot_be_passed_on),
        cmocka_unit_test(test_bad_content),
        cmocka_unit_test(test_a_refused_query_is_tried_again),
        cmocka_unit_test(test_cluster_ca),
        cmocka_unit_test(test_node_insert),
        cmocka_unit_test(test_node_insert_of_an_existing_node),
        cmocka_unit_test(test_node_insert_refuses_what_is_no_node),
        cmocka_unit_test(test_node_update_takes_nothing_away),
        cmocka_unit_test(test_nodestatus_update),
        cmocka_unit_test(test_podstatus),
        cmocka_unit_test(test_node_connected),
        cmocka_unit_test(test_own_things_only),
        cmocka_unit_test(test_own_bodies_only),
        cmocka_unit_test(test_what_is_not_there_is_not_touched),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_release_renews_the_lease_and_reads_the_node),
        cmocka_unit_test(test_release_without_a_lease),
        cmocka_unit_test(test_release_of_one_that_stays),
        cmocka_unit_test(test_release_of_one_that_must_leave),
        cmocka_unit_test(test_podpatch_of_a_pod_that_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
