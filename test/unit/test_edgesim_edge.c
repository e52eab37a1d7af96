/* A whole simulated edge in virtual time, its socket replaced by a recorder and a small cloud that
 * answers after a millisecond: what it sends when, what it does when links break and answers stay
 * away, and what it counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/edgesim/edge.h"
#include "test/lib/heap.h"

#define MS UINT64_C(1000)
#define S  UINT64_C(1000000)

#define UID         "7a94d1cd-62a4-492a-9e81-c144771025e0"
#define LOG_MAX     20000
#define ANSWERS_MAX 64
#define WALL_OFFSET INT64_C(1795463897000000)

struct message {
    uint64_t at_us;
    char id[EDGE_ID_SIZE], parent[EDGE_ID_SIZE], operation[16], resource[128];
    uint64_t timestamp;
    char *text;
};

static struct {
    struct edge edge;
    struct edge_config config;
    struct edge_stats stats;
    struct edge_text scratch;
    uint64_t now_us;
    int dials, hang_ups;
    uint64_t dialed_us;
    bool is_blocked, write_fails, answers, has_node, has_lease, knows_conflict;
    int version;
    struct message log[LOG_MAX];
    int count;
    struct {
        uint64_t due_us;
        char *text;
    } inbox[ANSWERS_MAX];
    int inbox_count;
} w;

/* --- the cloud --- */

static void deliver_later(const char *parent, const char *operation, const char *resource,
                          const char *version, const char *content)
{
    static int id;
    char *text;
    assert_true(w.inbox_count < ANSWERS_MAX);
    assert_true(
        asprintf(
            &text,
            "{\"header\":{\"msg_id\":\"cloud-%d\"%s%s%s,\"timestamp\":1%s%s%s},\"route\":{"
            "\"source\":"
            "\"edgecontroller\",\"group\":\"resource\",\"operation\":\"%s\",\"resource\":\"%s\"},"
            "\"content\":%s}\n",
            id++, parent ? ",\"parent_msg_id\":\"" : "", parent ? parent : "", parent ? "\"" : "",
            version ? ",\"resourceversion\":\"" : "", version ? version : "", version ? "\"" : "",
            operation, resource, content) > 0);
    w.inbox[w.inbox_count].due_us = w.now_us + MS;
    w.inbox[w.inbox_count++].text = text;
}

#define NODE_OBJECT                                                                                \
    "{\"metadata\":{\"name\":\"n\",\"uid\":\"" UID "\",\"resourceVersion\":\"7\"},\"status\":{}}"
#define NOT_FOUND "{\"Object\":null,\"Err\":{\"ErrStatus\":{\"reason\":\"NotFound\",\"code\":404}}}"
#define CONFLICT  "{\"Object\":null,\"Err\":{\"ErrStatus\":{\"reason\":\"Conflict\",\"code\":409}}}"
#define EXISTS                                                                                     \
    "{\"Object\":null,\"Err\":{\"ErrStatus\":{\"reason\":\"AlreadyExists\",\"code\":409}}}"

static void answer_lease(const struct message *m)
{
    char content[256];
    bool is_query = strcmp(m->operation, "query") == 0;
    if (is_query && !w.has_lease) {
        deliver_later(m->id, "response", m->resource, NULL, NOT_FOUND);
        return;
    }
    if (strcmp(m->operation, "update") == 0 && w.knows_conflict) {
        w.knows_conflict = false;
        deliver_later(m->id, "response", m->resource, NULL, CONFLICT);
        return;
    }
    w.has_lease = true;
    snprintf(content, sizeof(content),
             "{\"Object\":{\"metadata\":{\"name\":\"n\",\"resourceVersion\":\"%d\"},\"spec\":{}},"
             "\"Err\":null}",
             ++w.version);
    deliver_later(m->id, "response", m->resource, NULL, content);
}

static void answer(const struct message *m)
{
    if (strstr(m->resource, "/lease/")) {
        answer_lease(m);
    } else if (strstr(m->resource, "/node/") && strcmp(m->operation, "insert") == 0) {
        deliver_later(m->id, "response", m->resource, NULL,
                      w.has_node ? EXISTS : "{\"Object\":" NODE_OBJECT ",\"Err\":null}");
        w.has_node = true;
    } else if (strstr(m->resource, "/node/")) {
        deliver_later(m->id, "response", m->resource, NULL, NODE_OBJECT);
    } else if (strstr(m->resource, "patch/")) {
        deliver_later(m->id, "response", m->resource, "8",
                      "{\"Object\":" NODE_OBJECT ",\"Err\":null}");
    } else if (strcmp(m->operation, "delete") == 0) {
        deliver_later(m->id, "response", m->resource, NULL, "\"OK\"");
    } else if (strcmp(m->operation, "query") == 0) {
        deliver_later(m->id, "response", m->resource, NULL,
                      "{\"metadata\":{\"name\":\"x\"},\"data\":{}}");
    }
}

/* --- the recorder --- */

static void copy_span(char *to, size_t room, const struct json_span *span)
{
    assert_true(span->size < room);
    if (span->size)
        memcpy(to, span->at, span->size);
    to[span->size] = '\0';
}

static void io_dial(struct edge *e, uint64_t now_us)
{
    (void)e;
    w.dials++;
    w.dialed_us = now_us;
}

static void io_hang_up(struct edge *e, enum edge_end why)
{
    (void)e;
    (void)why;
    w.hang_ups++;
}

static bool io_write(struct edge *e, const char *text, size_t size, uint64_t now_us)
{
    struct edge_answer a;
    (void)e;
    if (w.write_fails)
        return false;
    assert_true(w.count < LOG_MAX);
    assert_int_equal(text[size - 1], '\n');
    assert_int_equal(edge_answer_parse(text, size, &a), 0);
    struct message *m = &w.log[w.count++];
    m->at_us = now_us;
    copy_span(m->id, sizeof(m->id), &a.id);
    copy_span(m->parent, 16, &a.parent);
    copy_span(m->operation, sizeof(m->operation), &a.operation);
    copy_span(m->resource, sizeof(m->resource), &a.resource);
    assert_true(asprintf(&m->text, "%.*s", (int)size, text) > 0);
    m->timestamp = strtoull(strstr(m->text, "\"timestamp\":") + 12, NULL, 10);
    if (w.answers && strcmp(m->operation, "response") != 0 &&
        strcmp(m->operation, "keepalive") != 0)
        answer(m);
    return true;
}

static bool io_is_blocked(const struct edge *e)
{
    (void)e;
    return w.is_blocked;
}

static const struct edge_io io = {io_dial, io_hang_up, io_write, io_is_blocked};

/* --- the world --- */

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof(w));
    w.config = (struct edge_config){.link = {30 * S, 5 * S, 30 * S, 5},
                                    .lease = {10 * S, 200 * MS, 7 * S},
                                    .node = {100 * MS, 7 * S, 60 * MS, 10 * S, 300 * S},
                                    .keepalive_us = 15 * S,
                                    .answer_us = 60 * S,
                                    .ack_min_us = 2 * MS,
                                    .ack_max_us = 25 * MS,
                                    .token_us = S / 30,
                                    .burst_us = 59 * (S / 30),
                                    .lease_valid_us = 40 * S,
                                    .pod_step_us = 100 * MS,
                                    .dialect = EDGE_DIALECT_1_23,
                                    .nonce = 0x123,
                                    .wall_offset_us = WALL_OFFSET,
                                    .has_database = true,
                                    .has_kubelet = true,
                                    .has_pods = true,
                                    .query_configmap = "default/configmap/x"};
    w.answers = true;
    w.now_us = 1000 * S;
    edge_text_init(&w.scratch);
    return edge_init(&w.edge, &w.config, &io, &w.stats, &w.scratch, "n", 0);
}

static int teardown(void **state)
{
    (void)state;
    edge_fini(&w.edge);
    edge_text_fini(&w.scratch);
    for (int i = 0; i < w.count; i++)
        free(w.log[i].text);
    for (int i = 0; i < w.inbox_count; i++)
        free(w.inbox[i].text);
    return 0;
}

/* What was under way when the link broke. */
static void lose_answers(void)
{
    while (w.inbox_count > 0)
        free(w.inbox[--w.inbox_count].text);
}

static void deliver_due(void)
{
    while (w.inbox_count > 0 && w.inbox[0].due_us <= w.now_us) {
        char *text = w.inbox[0].text;
        memmove(&w.inbox[0], &w.inbox[1], (size_t)--w.inbox_count * sizeof(w.inbox[0]));
        edge_message(&w.edge, text, strlen(text), w.now_us);
        free(text);
    }
}

/* Lets time pass: from one thing that is due to the next. */
static void run_until(uint64_t until_us)
{
    for (int turns = 0;; turns++) {
        assert_true(turns < 100000);
        deliver_due();
        uint64_t due_us = edge_tick(&w.edge, w.now_us);
        if (w.inbox_count > 0 && w.inbox[0].due_us < due_us)
            due_us = w.inbox[0].due_us;
        if (due_us > until_us)
            break;
        w.now_us = due_us > w.now_us ? due_us : w.now_us;
    }
    w.now_us = until_us;
}

static void run_for(uint64_t us)
{
    run_until(w.now_us + us);
}

static void connect_edge(void)
{
    edge_start(&w.edge, w.now_us);
    run_for(0);
    assert_int_equal(w.dials, 1);
    edge_connected(&w.edge, w.now_us);
}

/* The n-th (from 0) message with this operation on a resource that contains `part`; NULL if there
 * are not as many. */
static const struct message *sent(const char *operation, const char *part, int n)
{
    for (int i = 0; i < w.count; i++) {
        if (strcmp(w.log[i].operation, operation) == 0 && strstr(w.log[i].resource, part) &&
            n-- == 0)
            return &w.log[i];
    }
    return NULL;
}

static int count_sent(const char *operation, const char *part)
{
    int n = 0;
    while (sent(operation, part, n))
        n++;
    return n;
}

/* --- tests --- */

/* As captured: keepalive, lease query, Node insert, its patch; the lease is made with the next
 * period. */
static void test_first_start(void **state)
{
    (void)state;
    uint64_t t0 = w.now_us;
    connect_edge();
    run_for(21 * S);
    const struct message *keepalive = sent("keepalive", "node", 0),
                         *query = sent("query", "/lease/n", 0);
    const struct message *insert = sent("insert", "null/node/n", 0),
                         *patch = sent("patch", "null/nodepatch/n", 0);
    const struct message *lease = sent("insert", "/lease/n", 0),
                         *update = sent("update", "/lease/n", 0);
    assert_int_equal(keepalive->at_us, t0);
    assert_int_equal(query->at_us - t0, 10 * MS);
    assert_int_equal(insert->at_us - t0, 100 * MS);
    assert_int_equal(patch->at_us - t0, 161 * MS);
    assert_non_null(strstr(patch->text, "\"content\":\"{}\""));
    assert_true(lease->at_us - t0 > 10 * S && lease->at_us - t0 < 10500 * MS);
    assert_non_null(strstr(lease->text, "\"uid\":\"" UID "\""));
    assert_true(update->at_us - lease->at_us >= 10 * S &&
                update->at_us - lease->at_us <= 10500 * MS);
    assert_non_null(strstr(update->text, "\"resourceVersion\":\"1\""));
    assert_int_equal(sent("keepalive", "node", 1)->at_us - t0, 15 * S);
    assert_true(edge_is_ready(&w.edge, w.now_us));
    assert_int_equal(w.stats.registered_nodes, 1);
    assert_int_equal(w.stats.served_nodes, 1);
}

/* Answers to what MetaManager asks itself are acknowledged, those to patches are not. */
static void test_acknowledgements(void **state)
{
    (void)state;
    connect_edge();
    run_for(21 * S);
    assert_int_equal(count_sent("response", "/lease/n"), 4); /* query, query, insert, update */
    assert_int_equal(count_sent("response", "/node/n"), 1);
    assert_int_equal(count_sent("response", "/nodepatch/n"), 0);
    const struct message *ack = sent("response", "/node/n", 0);
    const struct message *insert = sent("insert", "/node/n", 0);
    assert_non_null(strstr(ack->text, "\"source\":\"edgecontroller\",\"group\":\"resource\""));
    assert_non_null(strstr(ack->text, "\"content\":\"OK\"}\n"));
    assert_true(ack->at_us - insert->at_us >= 3 * MS && ack->at_us - insert->at_us <= 27 * MS);
    assert_int_equal(strncmp(ack->parent, "cloud-", 6), 0);
}

/* The captured case: a renewal is the write that fails; it is asked again after its own 60 s, with
 * a new id and the old time. */
static void test_lost_renewal(void **state)
{
    (void)state;
    connect_edge();
    run_for(25 * S);
    uint64_t last_us = w.edge.renewed_us;
    w.edge.keepalive_us = EDGE_NEVER; /* the renewal is to be the next write */
    edge_closed(&w.edge, w.now_us);
    lose_answers();
    assert_int_equal(w.edge.link.state, EDGE_LINK_BROKEN);
    int count = w.count;
    run_for(S); /* nothing is written, nothing noticed */
    assert_int_equal(w.edge.link.state, EDGE_LINK_BROKEN);
    while (w.edge.link.state == EDGE_LINK_BROKEN)
        run_for(10 * MS);
    uint64_t noticed_us = w.now_us;
    assert_int_equal(w.count, count);
    assert_int_equal(w.edge.requests.pending, 1);
    assert_int_equal(w.stats.kinds[EDGE_KIND_LEASE_UPDATE].lost, 1);
    run_until(noticed_us + 30 * S);
    assert_int_equal(w.dials, 2);
    assert_true(w.dialed_us - noticed_us >= 30 * S - 20 * MS);
    edge_connected(&w.edge, w.now_us);
    run_for(5 * S);
    assert_int_equal(w.count, count + 1); /* the keepalive */
    assert_string_equal(w.log[count].operation, "keepalive");
    run_until(noticed_us + 61 * S);
    const struct message *again = sent("update", "/lease/n", 1);
    assert_non_null(again);
    assert_true(again->at_us - noticed_us > 59 * S && again->at_us - noticed_us < 61 * S);
    assert_true(again->timestamp <= (noticed_us + (uint64_t)WALL_OFFSET) / 1000);
    assert_string_not_equal(again->id, sent("update", "/lease/n", 0)->id);
    run_for(S);
    assert_int_equal(w.stats.kinds[EDGE_KIND_LEASE_UPDATE].repeated, 1);
    assert_int_equal(w.stats.lease_gaps_too_long, 1);
    assert_true(w.edge.renewed_us - last_us > 60 * S);
    assert_int_equal(w.stats.kinds[EDGE_KIND_LEASE_UPDATE].once, 2);
}

/* While it knows that it is not connected renewals fail at once, and the next period tries again.
 */
static void test_renewals_while_disconnected(void **state)
{
    (void)state;
    connect_edge();
    run_for(21 * S);
    edge_closed(&w.edge, w.now_us);
    lose_answers();
    /* A keepalive notices before a renewal does: the better case. */
    w.edge.keepalive_us = w.now_us;
    run_for(0);
    assert_int_equal(w.edge.link.state, EDGE_LINK_SLEEPING);
    run_for(29 * S);
    assert_int_equal(w.edge.requests.pending, 0);
    assert_true(w.stats.kinds[EDGE_KIND_LEASE_UPDATE].failed_local >= 20); /* ten each period */
    assert_int_equal(w.stats.kinds[EDGE_KIND_LEASE_UPDATE].lost, 0);
    run_for(2 * S);
    edge_connected(&w.edge, w.now_us);
    run_for(11 * S);
    assert_int_equal(w.stats.lease_gap.count, 2); /* insert to update, and over the gap */
    assert_true(w.stats.lease_gap.max < 50 * S);
}

static void test_write_that_fails_is_noticed_at_once(void **state)
{
    (void)state;
    connect_edge();
    run_for(5 * S);
    w.write_fails = true;
    run_for(11 * S);
    assert_int_equal(w.edge.link.state, EDGE_LINK_SLEEPING);
    assert_int_equal(w.hang_ups, 1);
    assert_int_equal(w.stats.kinds[EDGE_KIND_LEASE_QUERY].lost, 1);
}

/* No answer: once more after 60 s under the same id; then the kubelet goes its own way. */
static void test_unanswered_patch(void **state)
{
    (void)state;
    w.answers = false;
    connect_edge();
    run_for(200 * MS);
    const struct message *insert = sent("insert", "/node/n", 0);
    deliver_later(insert->id, "response", insert->resource, NULL,
                  "{\"Object\":" NODE_OBJECT ",\"Err\":null}");
    run_for(S);
    const struct message *patch = sent("patch", "nodepatch", 0);
    assert_non_null(patch);
    run_until(patch->at_us + 59 * S);
    assert_int_equal(count_sent("patch", "nodepatch"), 1);
    run_until(patch->at_us + 61 * S);
    assert_int_equal(count_sent("patch", "nodepatch"), 2);
    assert_string_equal(sent("patch", "nodepatch", 1)->id, patch->id);
    assert_int_equal(sent("patch", "nodepatch", 1)->timestamp, patch->timestamp);
    assert_int_equal(w.stats.kinds[EDGE_KIND_NODEPATCH].never, 0);
    run_until(patch->at_us + 121 * S);
    assert_int_equal(count_sent("patch", "nodepatch"), 3); /* the kubelet's own second try */
    assert_string_not_equal(sent("patch", "nodepatch", 2)->id, patch->id);
    assert_int_equal(w.stats.kinds[EDGE_KIND_NODEPATCH].never, 1);
    /* Late, but an answer. */
    deliver_later(patch->id, "response", patch->resource, NULL,
                  "{\"Object\":" NODE_OBJECT ",\"Err\":null}");
    run_for(S);
    assert_int_equal(w.stats.kinds[EDGE_KIND_NODEPATCH].never, 0);
    assert_int_equal(w.stats.kinds[EDGE_KIND_NODEPATCH].late, 1);
    assert_int_equal(w.stats.kinds[EDGE_KIND_NODEPATCH].once, 1);
}

static void test_conflict_is_read_and_retried(void **state)
{
    (void)state;
    connect_edge();
    run_for(15 * S);
    w.knows_conflict = true;
    run_for(8 * S);
    assert_int_equal(count_sent("update", "/lease/n"), 2);
    assert_int_equal(count_sent("query", "/lease/n"), 3);
    assert_int_equal(w.stats.lease_gap.count, 1);
    assert_int_equal(w.stats.kinds[EDGE_KIND_LEASE_UPDATE].errors, 1);
}

static void test_answers_that_should_not_be(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    const struct message *insert = sent("insert", "/node/n", 0);
    char other[EDGE_ID_SIZE];
    const struct edge_id foreign = {w.config.nonce, 5, true, 1}, stranger = {0x999, 0, true, 1};
    deliver_later(insert->id, "response", insert->resource, NULL,
                  "{\"Object\":" NODE_OBJECT ",\"Err\":null}");
    edge_id_format(&foreign, other);
    deliver_later(other, "response", "null/node/n", NULL, "\"OK\"");
    edge_id_format(&stranger, other);
    deliver_later(other, "response", "null/node/n", NULL, "\"OK\"");
    run_for(S);
    assert_int_equal(w.stats.kinds[EDGE_KIND_NODE_INSERT].twice, 1);
    assert_int_equal(w.stats.kinds[EDGE_KIND_NODE_INSERT].once, 0);
    assert_int_equal(w.stats.misdelivered, 1);
    assert_int_equal(w.stats.unknown_answers, 1);
    assert_int_equal(w.stats.wrong_resource, 0);
}

static void test_answer_under_another_name(void **state)
{
    (void)state;
    w.answers = false;
    connect_edge();
    run_for(20 * MS);
    const struct message *query = sent("query", "/lease/n", 0);
    deliver_later(query->id, "response", "node/n/kube-node-lease/lease/n", NULL, NOT_FOUND);
    run_for(10 * MS);
    assert_int_equal(w.stats.wrong_resource, 1);
}

static void test_pushes_and_their_order(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    int acks = count_sent("response", "null/node/n");
    deliver_later(NULL, "update", "null/node/n", "20", NODE_OBJECT);
    deliver_later(NULL, "update", "null/node/n", "20", NODE_OBJECT);
    deliver_later(NULL, "update", "null/node/n", "19", NODE_OBJECT);
    deliver_later(NULL, "insert", "default/configmap/c", "5", "{\"metadata\":{}}");
    deliver_later(NULL, "delete", "default/configmap/c", "6", "{\"metadata\":{}}");
    deliver_later(NULL, "insert", "default/configmap/c", "4",
                  "{\"metadata\":{}}"); /* after a delete: a new one */
    run_for(S);
    assert_int_equal(w.stats.pushes, 6);
    assert_int_equal(w.stats.push_repeats, 1);
    assert_int_equal(w.stats.order_violations, 1);
    assert_int_equal(w.stats.push_deletes, 1);
    assert_int_equal(count_sent("response", "null/node/n"), acks + 3);
    assert_int_equal(count_sent("response", "default/configmap/c"), 3);
}

static void test_push_of_not_ready_is_contradicted(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    assert_int_equal(count_sent("patch", "nodepatch"), 1);
    deliver_later(NULL, "update", "null/node/n", "20",
                  "{\"metadata\":{\"uid\":\"" UID
                  "\"},\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":"
                  "\"Unknown\"}]}}");
    run_for(11 * S);
    assert_int_equal(count_sent("patch", "nodepatch"), 2);
    assert_non_null(strstr(sent("patch", "nodepatch", 1)->text, "lastTransitionTime"));
}

static void test_bad_json_is_hung_up_on(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    edge_message(&w.edge, "{\"header\":", 10, w.now_us);
    assert_int_equal(w.hang_ups, 1);
    assert_int_equal(w.edge.link.state, EDGE_LINK_BROKEN);
    assert_int_equal(w.stats.bad_messages, 1);
}

/* 60 at once, then 30 a second; keepalives go past them. */
static void test_rate_limit(void **state)
{
    (void)state;
    w.config.event_us = MS;
    connect_edge();
    run_for(10 * S);
    int events = count_sent("insert", "/event/");
    assert_in_range(events, 60 + 30 * 9, 60 + 30 * 11);
    assert_int_equal(sent("keepalive", "node", 0)->at_us, 1000 * S);
    /* The lease waits its turn in the same queue. */
    assert_true(w.edge.outbox_count > 100);
    run_for(20 * S);
    assert_in_range(sent("keepalive", "node", 1)->at_us, 1015 * S, 1015 * S + 50 * MS);
    assert_true(w.stats.events_skipped > 0);
    assert_int_equal(w.stats.outbox_dropped, 0);
}

static void test_blocked_wire_holds_everything(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    int count = w.count;
    w.is_blocked = true;
    run_for(13 * S);
    assert_int_equal(w.count, count);
    assert_true(w.edge.outbox_count >= 1);
    w.is_blocked = false;
    run_for(0);
    assert_true(w.count > count);
    assert_null(w.edge.outbox);
}

static void test_queries_of_a_load(void **state)
{
    (void)state;
    w.config.query_us = 200 * MS;
    w.config.query_load = EDGE_QUERY_BOTH;
    connect_edge();
    run_for(10 * S);
    assert_in_range(count_sent("query", "default/configmap/x") + count_sent("query", "null/node/n"),
                    49, 51);
    assert_true(count_sent("query", "null/node/n") > 10);
    /* Nobody repeats a load's query. */
    w.answers = false;
    run_for(70 * S);
    assert_true(w.stats.kinds[EDGE_KIND_CONFIGMAP_QUERY].never > 0);
    assert_int_equal(w.stats.kinds[EDGE_KIND_CONFIGMAP_QUERY].repeated, 0);
    assert_true(w.stats.queries_skipped > 0);
}

static void test_flood_ignores_the_limit(void **state)
{
    (void)state;
    w.config.flood_edges = 1;
    w.config.flood = EDGE_FLOOD_EVENT;
    connect_edge();
    for (int i = 0; i < 100; i++)
        edge_tick(&w.edge, w.now_us); /* it is always due */
    assert_true(count_sent("insert", "/event/") > 1000);
    w.is_blocked = true;
    int count = w.count;
    edge_tick(&w.edge, w.now_us);
    assert_int_equal(w.count, count);
}

static void test_old_dialect(void **state)
{
    (void)state;
    w.config.dialect = EDGE_DIALECT_1_22;
    connect_edge();
    run_for(31 * S);
    assert_int_equal(count_sent("insert", "default/node/n"), 1);
    assert_in_range(count_sent("query", "default/node/n"), 3, 4);
    assert_int_equal(count_sent("patch", "default/nodepatch/n"), 1);
}

static void test_without_a_kubelet(void **state)
{
    (void)state;
    w.config.has_kubelet = false;
    connect_edge();
    run_for(31 * S);
    assert_int_equal(w.count, 3);
    assert_int_equal(count_sent("keepalive", "node"), 3);
}

/* --- pods --- */

#define POD(extra, node)                                                                           \
    "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"p\",\"namespace\":"          \
    "\"default\",\"uid\":\"u-1\"" extra "},\"spec\":{\"nodeName\":\"" node                         \
    "\",\"serviceAccountName\":\"sa\",\"volumes\":[{\"configMap\":{\"name\":\"c1\"}},"             \
    "{\"projected\":{\"sources\":[{\"configMap\":{\"name\":\"c1\"}},{\"configMap\":{\"name\":"     \
    "\"c2\"}}]}}],"                                                                                \
    "\"containers\":[{\"name\":\"main\",\"image\":\"img:1\",\"envFrom\":[{\"secretRef\":{"         \
    "\"name\":\"s1\"}}]}]}}"

static void test_pod_life(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    deliver_later(NULL, "insert", "default/pod/p", "30", POD("", "n"));
    run_for(5 * S);
    assert_int_equal(count_sent("response", "default/pod/p"), 1);
    assert_non_null(strstr(sent("patch", "default/podpatch/p", 0)->text, "ContainerCreating"));
    assert_int_equal(count_sent("query", "default/configmap/c1"), 1);
    assert_int_equal(count_sent("query", "default/configmap/c2"), 1);
    assert_int_equal(count_sent("query", "default/secret/s1"), 1);
    assert_non_null(strstr(sent("query", "default/serviceaccounttoken/sa", 0)->text,
                           "\"name\":\"p\",\"uid\":\"u-1\""));
    assert_non_null(strstr(sent("patch", "default/podpatch/p", 1)->text, "Running"));
    assert_int_equal(w.stats.pods_running, 1);
    deliver_later(NULL, "update", "default/pod/p", "31",
                  POD(",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"", "n"));
    run_for(3 * S);
    assert_non_null(strstr(sent("patch", "default/podpatch/p", 2)->text, "Succeeded"));
    assert_non_null(strstr(sent("delete", "default/pod/p", 0)->text,
                           "{\"gracePeriodSeconds\":0,\"preconditions\":"
                           "{\"uid\":\"u-1\"}}"));
    deliver_later(NULL, "delete", "default/pod/p", "32", POD("", "n"));
    run_for(S);
    assert_int_equal(w.stats.pods_gone, 1);
    assert_int_equal(count_sent("response", "default/pod/p"), 3);
}

static void test_pod_told_to_stop_while_it_starts(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    deliver_later(NULL, "insert", "default/pod/p", "30", POD("", "n"));
    run_for(101 * MS); /* the first patch is on its way */
    deliver_later(NULL, "update", "default/pod/p", "31",
                  POD(",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"", "n"));
    run_for(5 * S);
    assert_int_equal(count_sent("delete", "default/pod/p"), 1);
    assert_int_equal(w.stats.pods_running, 0);
}

static void test_pod_whose_configmap_is_missing(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    w.answers = false;
    deliver_later(NULL, "insert", "default/pod/p", "30", POD("", "n"));
    run_for(500 * MS);
    const struct message *patch = sent("patch", "default/podpatch/p", 0);
    deliver_later(patch->id, "response", patch->resource, NULL,
                  "{\"Object\":" NODE_OBJECT ",\"Err\":null}");
    run_for(10 * MS);
    const struct message *query = sent("query", "default/configmap/c1", 0);
    assert_non_null(query);
    deliver_later(query->id, "error", query->resource, NULL, "\"configmaps \\\"c1\\\" not found\"");
    run_for(S);
    assert_int_equal(count_sent("query", "default/configmap/c1"), 2);
    assert_int_equal(count_sent("response", "default/configmap/c1"),
                     0); /* an error is not acknowledged */
    assert_int_equal(w.stats.kinds[EDGE_KIND_CONFIGMAP_QUERY].errors, 1);
}

static void test_pod_of_another_node(void **state)
{
    (void)state;
    connect_edge();
    run_for(S);
    deliver_later(NULL, "insert", "default/pod/p", "30", POD("", "m"));
    run_for(S);
    assert_int_equal(w.stats.foreign_pods, 1);
    assert_int_equal(count_sent("patch", "podpatch"), 0);
}

/* Of every id that was written exactly one fate is counted, whatever happens. */
static void test_sums_agree(void **state)
{
    (void)state;
    w.config.query_us = 100 * MS;
    connect_edge();
    for (int round = 0; round < 6; round++) {
        run_for(20 * S);
        w.answers = round % 2 == 0;
        run_for(70 * S);
        if (edge_is_connected(&w.edge))
            edge_closed(&w.edge, w.now_us);
        lose_answers();
        run_for(50 * S);
        if (w.edge.link.state == EDGE_LINK_DIALING)
            edge_connected(&w.edge, w.now_us);
    }
    for (int i = 0; i < EDGE_KINDS; i++) {
        const struct edge_kind_stats *k = &w.stats.kinds[i];
        uint64_t pending = k->ids - (k->once + k->twice + k->never + k->lost);
        assert_true(pending <= w.edge.requests.pending);
        assert_true(k->sent >= k->ids);
    }
    assert_true(w.stats.kinds[EDGE_KIND_NODE_QUERY].lost +
                    w.stats.kinds[EDGE_KIND_CONFIGMAP_QUERY].lost >
                0);
    assert_true(w.stats.kinds[EDGE_KIND_CONFIGMAP_QUERY].never > 0);
}

/* What is open when statistics begin anew belongs to the new ones. */
static void test_reset_keeps_what_is_open(void **state)
{
    (void)state;
    w.config.query_us = 100 * MS;
    connect_edge();
    run_for(S);
    w.answers = false;
    run_for(2 * S);
    assert_in_range(w.edge.requests.pending, 10, 64);
    memset(&w.stats, 0, sizeof(w.stats));
    edge_requests_recount(&w.edge.requests, &w.stats);
    w.answers = true;
    run_for(80 * S);
    const struct edge_kind_stats *q = &w.stats.kinds[EDGE_KIND_CONFIGMAP_QUERY];
    assert_true(q->never >= 10);
    assert_in_range(q->ids - (q->once + q->twice + q->never + q->lost), 0, 2);
    /* A late answer to one that the old statistics had given up. */
    memset(&w.stats, 0, sizeof(w.stats));
    const struct message *m = sent("query", "default/configmap/x", 30);
    struct edge_id id;
    assert_int_equal(edge_id_parse(m->id, 36, w.config.nonce, &id), 0);
    if (edge_requests_find(&w.edge.requests, id.sequence)) {
        deliver_later(m->id, "response", m->resource, NULL, "{\"metadata\":{},\"data\":{}}");
        run_for(2 * MS);
    }
    assert_true(q->ids >= q->once + q->twice + q->never + q->lost);
}

/* Whatever cannot be had, the edge is Ready soon after: what was not sent is asked again, what was
 * not stored is read again. */
static void test_failing_allocations(void **state)
{
    bool failed = true;
    for (unsigned n = 1; failed; n++) {
        teardown(state);
        setup(state);
        w.config.event_us = 5 * S;
        w.config.query_us = 3 * S;
        connect_edge();
        heap_fail_nth(n);
        run_for(21 * S);
        deliver_later(NULL, "insert", "default/pod/p", "30", POD("", "n"));
        run_for(3 * S);
        w.is_blocked = true;
        run_for(4 * S);
        w.is_blocked = false;
        failed = heap_fail_end();
        run_for(100 * S);
        assert_true(edge_is_ready(&w.edge, w.now_us));
        assert_int_equal(w.stats.order_violations + w.stats.misdelivered, 0);
    }
    assert_true(count_sent("patch", "default/podpatch/p") >=
                2); /* the last round had all it wanted */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_first_start),
        TEST(test_acknowledgements),
        TEST(test_lost_renewal),
        TEST(test_renewals_while_disconnected),
        TEST(test_write_that_fails_is_noticed_at_once),
        TEST(test_unanswered_patch),
        TEST(test_conflict_is_read_and_retried),
        TEST(test_answers_that_should_not_be),
        TEST(test_answer_under_another_name),
        TEST(test_pushes_and_their_order),
        TEST(test_push_of_not_ready_is_contradicted),
        TEST(test_bad_json_is_hung_up_on),
        TEST(test_rate_limit),
        TEST(test_blocked_wire_holds_everything),
        TEST(test_queries_of_a_load),
        TEST(test_flood_ignores_the_limit),
        TEST(test_old_dialect),
        TEST(test_without_a_kubelet),
        TEST(test_pod_life),
        TEST(test_pod_told_to_stop_while_it_starts),
        TEST(test_pod_whose_configmap_is_missing),
        TEST(test_pod_of_another_node),
        TEST(test_sums_agree),
        TEST(test_reset_keeps_what_is_open),
        TEST(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
