/* The way in: answers find their questions, pushes are stored and acknowledged. See edge.h.
 *
 * What EdgeCore does with a message depends on its group and on whether it has a parent id (an
 * answer) or not (a push). An answer to an insert, a query or a lease update is acknowledged, one
 * to a patch or a deletion is not. */
#include "test/edgesim/edge.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static bool span_is(const struct json_span *s, const char *text)
{
    return s->at && s->size == strlen(text) && memcmp(s->at, text, s->size) == 0;
}

static bool same_span(const struct json_span *a, const struct json_span *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->at, b->at, a->size) == 0);
}

/* --- the database --- */

struct edge_item {
    struct edge_item *next;
    uint64_t version;
    size_t size;
    char key[];
};

struct edge_item *edge_item_find(struct edge *e, const char *key, size_t size)
{
    struct edge_item *item;
    LL_FOREACH (e->items, item) {
        if (item->size == size && memcmp(item->key, key, size) == 0)
            return item;
    }
    return NULL;
}

static struct edge_item *add_item(struct edge *e, const struct json_span *key)
{
    struct edge_item *item = malloc(sizeof(*item) + key->size);
    if (!item)
        return NULL;
    *item = (struct edge_item){.size = key->size};
    memcpy(item->key, key->at, key->size);
    LL_PREPEND(e->items, item);
    return item;
}

void edge_item_store(struct edge *e, const struct json_span *key, uint64_t version, bool is_push)
{
    struct edge_item *item = edge_item_find(e, key->at, key->size);
    if (!item && !(item = add_item(e, key)))
        return;
    if (is_push && version && version < item->version)
        e->stats->order_violations++;
    if (is_push && version && version == item->version)
        e->stats->push_repeats++;
    if (version)
        item->version = version;
}

void edge_item_delete(struct edge *e, const char *key, size_t size)
{
    struct edge_item *item = edge_item_find(e, key, size);
    if (!item)
        return;
    LL_DELETE(e->items, item);
    free(item);
}

void edge_items_free(struct edge *e)
{
    struct edge_item *item, *tmp;
    LL_FOREACH_SAFE (e->items, item, tmp)
        free(item);
    e->items = NULL;
}

/* --- answers --- */

static bool is_acknowledged(enum edge_kind kind)
{
    return kind != EDGE_KIND_NODEPATCH && kind != EDGE_KIND_PODPATCH &&
           kind != EDGE_KIND_POD_DELETE && kind != EDGE_KIND_ODD;
}

static bool answers_with_object(enum edge_kind kind)
{
    return kind == EDGE_KIND_NODE_INSERT || kind == EDGE_KIND_NODEPATCH ||
           kind == EDGE_KIND_LEASE_QUERY || kind == EDGE_KIND_LEASE_INSERT ||
           kind == EDGE_KIND_LEASE_UPDATE || kind == EDGE_KIND_PODPATCH;
}

/* The resource as the question had it: the route's last member, so its text ends right before the
 * content. */
static struct json_span asked_resource(const struct edge_request *q)
{
    static const char key[] = "\"resource\":\"";
    struct json_span resource = {0};
    const char *at = q->text ? memmem(q->text, q->size, key, sizeof(key) - 1) : NULL;
    if (!at)
        return resource;
    resource.at = at + sizeof(key) - 1;
    const char *stop = memchr(resource.at, '"', (size_t)(q->text + q->size - resource.at));
    resource.size = stop ? (size_t)(stop - resource.at) : 0;
    return resource;
}

static void check_resource(struct edge *e, const struct edge_request *q,
                           const struct edge_answer *a)
{
    struct json_span asked = asked_resource(q);
    if (asked.at && !same_span(&asked, &a->resource))
        e->stats->wrong_resource++;
}

static void count_served(struct edge *e, uint64_t now_us)
{
    if (e->is_served)
        return;
    e->is_served = true;
    edge_histogram_add(&e->stats->served_time, now_us - e->connected_us);
    if (!e->has_been_served)
        e->stats->served_nodes++;
    e->has_been_served = true;
}

/* Takes a fate back, for the id has a better one. When the statistics were reset in between, it was
 * counted before. */
static void take_back(struct edge_kind_stats *k, uint64_t *fate)
{
    if (*fate > 0)
        (*fate)--;
    else
        k->ids++;
}

static void count_first_answer(struct edge *e, struct edge_request *q, enum edge_outcome outcome,
                               uint64_t now_us)
{
    struct edge_kind_stats *k = &e->stats->kinds[q->kind];
    edge_histogram_add(&k->latency, now_us - q->sent_us);
    k->once++;
    if (outcome != EDGE_OUTCOME_OK)
        k->errors++;
    if (q->state == EDGE_REQUEST_NEVER || q->state == EDGE_REQUEST_GIVEN_UP)
        k->late++;
    if (q->state == EDGE_REQUEST_NEVER)
        take_back(k, &k->never);
    else if (q->state == EDGE_REQUEST_LOST || (q->state == EDGE_REQUEST_GIVEN_UP && q->sends > 0))
        take_back(k, &k->lost);
}

static void count_more_answers(struct edge *e, struct edge_request *q)
{
    struct edge_kind_stats *k = &e->stats->kinds[q->kind];
    if (q->answers == q->sends + 1) {
        take_back(k, &k->once);
        k->twice++;
    }
}

bool edge_request_answered(struct edge *e, const struct edge_answer *a, enum edge_outcome outcome,
                           const struct edge_id *id, uint64_t now_us)
{
    struct edge_request *q = edge_requests_find(&e->requests, id->sequence);
    if (!q || q->sends == 0) {
        e->stats->unknown_answers++;
        return false;
    }
    if (q->answers < UINT8_MAX)
        q->answers++;
    if (q->answers == 1)
        count_first_answer(e, q, outcome, now_us);
    else
        count_more_answers(e, q);
    if (!edge_request_is_pending(q))
        return false;
    check_resource(e, q, a);
    edge_requests_close(&e->requests, q, EDGE_REQUEST_ANSWERED);
    count_served(e, now_us);
    return true;
}

static void take_answer(struct edge *e, const struct edge_answer *a, uint64_t now_us)
{
    struct edge_id id;
    struct json_span object = {0};
    if (edge_id_parse(a->parent.at, a->parent.size, e->config->nonce, &id) != 0 ||
        !id.expects_answer) {
        e->stats->unknown_answers++;
        return;
    }
    if (id.edge != e->index) {
        e->stats->misdelivered++;
        return;
    }
    struct edge_request *q = edge_requests_find(&e->requests, id.sequence);
    enum edge_kind kind = q ? q->kind : EDGE_KIND_ODD;
    struct edge_request asked = q ? *q : (struct edge_request){0};
    enum edge_outcome outcome =
        answers_with_object(kind) ? edge_answer_object(a, &object) : edge_answer_plain(a);
    if (kind == EDGE_KIND_NODE_QUERY && outcome == EDGE_OUTCOME_OK)
        object = a->content;
    bool was_awaited = edge_request_answered(e, a, outcome, &id, now_us);
    if (!was_awaited)
        return;
    if (is_acknowledged(kind) && span_is(&a->operation, "response"))
        edge_ack_later(e, a, now_us);
    edge_asker_done(e, asked.asker, asked.tag, kind, outcome, object.at ? &object : NULL, now_us);
}

void edge_asker_done(struct edge *e, enum edge_asker asker, uint32_t tag, enum edge_kind kind,
                     enum edge_outcome outcome, const struct json_span *object, uint64_t now_us)
{
    switch (asker) {
    case EDGE_ASKER_LEASE:
        edge_lease_outcome(e, outcome, object, now_us);
        break;
    case EDGE_ASKER_NODE:
        edge_node_outcome(e, outcome, object, now_us);
        break;
    case EDGE_ASKER_POD:
        edge_pod_outcome(e, tag, kind, outcome, now_us);
        break;
    case EDGE_ASKER_LOAD:
        break;
    }
}

/* --- pushes --- */

static void count_push(struct edge *e, const struct json_span *type, bool is_delete)
{
    struct edge_stats *s = e->stats;
    s->pushes++;
    if (is_delete)
        s->push_deletes++;
    if (span_is(type, "pod"))
        s->pushes_pod++;
    else if (span_is(type, "node"))
        s->pushes_node++;
    else if (span_is(type, "configmap"))
        s->pushes_configmap++;
    else if (span_is(type, "secret"))
        s->pushes_secret++;
    else
        s->pushes_other++;
}

/* EdgeCore takes updates only from these. */
static bool is_known_source(const struct json_span *source)
{
    static const char *const sources[] = {
        "edged",      "edgecontroller", "dynamiccontroller", "devicecontroller", "policycontroller",
        "metamanager"};
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        if (span_is(source, sources[i]))
            return true;
    }
    return false;
}

static void take_push(struct edge *e, const struct edge_answer *a, uint64_t now_us)
{
    struct json_span type = edge_answer_type(&a->resource);
    bool is_delete = span_is(&a->operation, "delete");
    bool is_insert = span_is(&a->operation, "insert");
    count_push(e, &type, is_delete);
    if (!is_delete && !is_insert &&
        !(span_is(&a->operation, "update") && is_known_source(&a->source)))
        return;
    if (is_delete)
        edge_item_delete(e, a->resource.at, a->resource.size);
    else
        edge_item_store(e, &a->resource, edge_answer_version(&a->version), true);
    if (span_is(&type, "pod"))
        edge_pod_pushed(e, &a->content, is_delete, now_us);
    else if (span_is(&type, "node") && !is_delete)
        edge_node_told(e, &a->content);
    edge_ack_later(e, a, now_us);
}

static bool is_viaduct_control(const struct json_span *operation)
{
    return span_is(operation, "ping") || span_is(operation, "pong") || span_is(operation, "config");
}

void edge_message(struct edge *e, const char *text, size_t size, uint64_t now_us)
{
    struct edge_answer a;
    e->stats->messages_in++;
    e->stats->bytes_in += size;
    if (edge_answer_parse(text, size, &a) != 0 || a.id.size == 0) {
        e->stats->bad_messages++;
        if (e->link.state == EDGE_LINK_UP)
            e->io->hang_up(e, EDGE_END_BAD_MESSAGE);
        edge_closed(e, now_us);
        return;
    }
    if (is_viaduct_control(&a.operation)) {
        e->stats->viaduct_controls++;
        return;
    }
    if (a.parent.size > 0)
        take_answer(e, &a, now_us);
    else
        take_push(e, &a, now_us);
}
