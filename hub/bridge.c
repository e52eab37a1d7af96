/* See bridge.h. All bridges have the same period, so a queue in the order of their renewals needs
 * no sorting: one that was renewed goes to its end. While its request is under way a bridge is not
 * in the queue; if it ends meanwhile it is freed when the response comes. */
#include "hub/bridge.h"

#include "hub/hub_metrics.h"
#include "hub/lease.h"
#include "hub/resource.h"
#include "isthmus/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->is_listed = false)
#include <uthash.h>

/* Renewals at once; each is one small PUT. */
#define IN_FLIGHT_MAX 16

struct bridge {
    struct bridges *owner;
    struct node_name *node;
    json_t *lease;
    char *body; /* of the request under way */
    bool as_node, is_listed, is_asking, is_ended;
    bool is_in_doubt;                  /* the last renewal failed, and may have been carried out */
    bool is_comparing;                 /* what is asked is how the lease stands */
    char asked_time[LEASE_TIME_BYTES]; /* spec.renewTime of the last renewal */
    uint64_t renewed_ms;               /* when spec.renewTime was the node's time */
    uint64_t asked_ms;                 /* when the request under way was made */
    uint64_t next_ms, until_ms;
    struct bridge *prev, *next;
    UT_hash_handle hh;
};

#define TEXT(id, text) text,
const char *const bridge_end_names[BRIDGE_END_COUNT] = {BRIDGE_ENDS(TEXT)};
#undef TEXT

void bridges_init(struct bridges *b, uv_loop_t *loop, struct apiclient *client, const char *group,
                  uint64_t period_ms, uint64_t longest_ms)
{
    *b = (struct bridges){.client = client,
                          .group = group,
                          .loop = loop,
                          .period_ms = period_ms,
                          .longest_ms = longest_ms};
}

static void bridge_free(struct bridge *g)
{
    json_decref(g->lease);
    free(g->body);
    node_name_put(g->node);
    free(g);
}

static void end(struct bridge *g, enum bridge_end why)
{
    struct bridges *b = g->owner;
    if (g->is_ended)
        return;
    g->is_ended = true;
    if (g->is_listed)
        HASH_DELETE(hh, b->by_name, g);
    atomic_fetch_sub_explicit(&b->count, 1, memory_order_relaxed);
    count(BRIDGED_NODES, 0, -1);
    count(BRIDGE_ENDS, why, 1);
    log_limited(LOG_LEVEL_INFO, "bridge_ended", F_STR("node", g->node->text),
                F_STR("reason", bridge_end_names[why]));
    if (g->is_asking)
        return; /* freed when the answer comes */
    DL_DELETE(b->queue, g);
    bridge_free(g);
}

static struct bridge *find(struct bridges *b, const struct node_name *node)
{
    struct bridge *g = NULL;
    HASH_FIND(hh, b->by_name, node->text, node->size, g);
    return g;
}

bool bridges_add(struct bridges *b, struct node_name *node, json_t *lease, bool as_node,
                 uint64_t renewed_ms)
{
    bridges_end(b, node);
    struct bridge *g = calloc(1, sizeof(*g));
    if (!g) {
        json_decref(lease);
        return false;
    }
    *g = (struct bridge){.owner = b,
                         .node = node_name_get(node),
                         .lease = lease,
                         .as_node = as_node,
                         .is_listed = true,
                         .renewed_ms = renewed_ms,
                         .next_ms = uv_now(b->loop) + b->period_ms,
                         .until_ms = uv_now(b->loop) + b->longest_ms};
    HASH_ADD_KEYPTR(hh, b->by_name, g->node->text, g->node->size, g);
    if (!g->is_listed) {
        bridge_free(g);
        return false;
    }
    DL_APPEND(b->queue, g);
    atomic_fetch_add_explicit(&b->count, 1, memory_order_relaxed);
    count(BRIDGED_NODES, 0, 1);
    return true;
}

void bridges_end(struct bridges *b, const struct node_name *node)
{
    struct bridge *g = b->by_name ? find(b, node) : NULL;
    if (g)
        end(g, BRIDGE_RETURNED);
}

/* ---- renewing ---- */

static const char *text_of(const json_t *lease, const char *part, const char *member)
{
    const char *text = json_string_value(json_object_get(json_object_get(lease, part), member));
    return text ? text : "";
}

/* As we left it, or as we wanted it. */
static bool is_ours(const struct bridge *g, const json_t *lease)
{
    return strcmp(text_of(lease, "spec", "renewTime"), g->asked_time) == 0 ||
           strcmp(text_of(lease, "metadata", "resourceVersion"),
                  text_of(g->lease, "metadata", "resourceVersion")) == 0;
}

/* The lease was read; the renewal that failed follows at once. */
static void compare(struct bridge *g, json_t *lease)
{
    struct bridges *b = g->owner;
    if (!is_ours(g, lease)) {
        json_decref(lease);
        end(g, BRIDGE_TAKEN_BACK);
        return;
    }
    if (strcmp(text_of(lease, "spec", "renewTime"), g->asked_time) == 0)
        g->renewed_ms = g->asked_ms;
    json_decref(g->lease);
    g->lease = lease;
    g->is_in_doubt = false;
    g->next_ms = uv_now(b->loop);
    DL_DELETE(b->queue, g);
    DL_PREPEND(b->queue, g);
}

static void take_answer(struct bridge *g, const struct apiresponse *response)
{
    json_t *lease;
    if (response->error != 0 || response->status == 429 || response->status >= 500) {
        g->is_in_doubt |= response->may_have_happened || response->status >= 500;
        return; /* the next period tries again */
    }
    if (response->status == 409) {
        end(g, BRIDGE_TAKEN_BACK);
        return;
    }
    lease = response->status == 200 ? json_loadb(response->body, response->size, 0, NULL) : NULL;
    if (!lease) {
        end(g, response->status == 200 ? BRIDGE_NO_MEMORY : BRIDGE_REFUSED);
        return;
    }
    if (g->is_comparing) {
        compare(g, lease);
        return;
    }
    json_decref(g->lease);
    g->lease = lease;
    g->renewed_ms = g->asked_ms; /* not now: a slow API server must not make the lease older */
    count(BRIDGE_RENEWALS, 0, 1);
}

static void on_renewed(void *context, const struct apiresponse *response)
{
    struct bridge *g = context;
    struct bridges *b = g->owner;
    b->in_flight--;
    g->is_asking = false;
    free(g->body);
    g->body = NULL;
    if (g->is_ended || b->is_closing) {
        bridge_free(g);
        return;
    }
    g->next_ms = uv_now(b->loop) + b->period_ms;
    DL_APPEND(b->queue, g);
    take_answer(g, response);
}

/* Without a body: how it stands. */
static int ask(struct bridge *g)
{
    struct bridges *b = g->owner;
    const struct text_span ns = {LEASE_NAMESPACE, sizeof(LEASE_NAMESPACE) - 1};
    const struct text_span name = {g->node->text, g->node->size};
    char path[RESOURCE_PATH_MAX], user[sizeof("system:node:") + RESOURCE_MAX_NAME];
    if (resource_api_path(RESOURCE_LEASE, &ns, &name, NULL, path, sizeof(path)) < 0)
        return -EINVAL;
    snprintf(user, sizeof(user), "system:node:%s", g->node->text);
    struct apirequest request = {.method = g->body ? "PUT" : "GET",
                                 .path = path,
                                 .content_type = g->body ? "application/json" : NULL,
                                 .body = g->body,
                                 .body_size = g->body ? strlen(g->body) : 0,
                                 .impersonate_user = g->as_node ? user : NULL,
                                 .impersonate_group = g->as_node ? b->group : NULL,
                                 .channel = LANE_LIVENESS,
                                 .deadline_ms = uv_now(b->loop) + b->period_ms,
                                 .retry = API_RETRY_UNSENT,
                                 .done = on_renewed,
                                 .context = g};
    return apiclient_request(b->client, &request, NULL);
}

/* The copy that is sent is ahead of ours, which stays what the API server last said. False: no
 * memory. */
static bool make_body(struct bridge *g, uint64_t now_ms)
{
    json_t *copy = json_deep_copy(g->lease);
    uint64_t elapsed_ms = now_ms > g->renewed_ms ? now_ms - g->renewed_ms : 1;
    g->asked_ms = now_ms;
    if (copy && lease_advance(copy, elapsed_ms) == 0) {
        snprintf(g->asked_time, sizeof(g->asked_time), "%s", text_of(copy, "spec", "renewTime"));
        g->body = json_dumps(copy, JSON_COMPACT);
    }
    json_decref(copy);
    return g->body != NULL;
}

/* The queue's first is due. */
static void renew(struct bridge *g, uint64_t now_ms)
{
    struct bridges *b = g->owner;
    g->is_comparing = g->is_in_doubt;
    if (!g->is_comparing && !make_body(g, now_ms)) {
        end(g, BRIDGE_NO_MEMORY);
        return;
    }
    DL_DELETE(b->queue, g);
    if (ask(g) == 0) {
        g->is_asking = true;
        b->in_flight++;
        return;
    }
    free(g->body);
    g->body = NULL;
    g->next_ms = now_ms + b->period_ms;
    DL_APPEND(b->queue, g);
}

void bridges_tick(struct bridges *b, uint64_t now_ms)
{
    while (b->queue && b->queue->next_ms <= now_ms && b->in_flight < IN_FLIGHT_MAX) {
        if (b->queue->until_ms <= now_ms)
            end(b->queue, BRIDGE_EXPIRED);
        else
            renew(b->queue, now_ms);
    }
}

void bridges_close(struct bridges *b)
{
    struct bridge *g, *next;
    b->is_closing = true;
    HASH_ITER (hh, b->by_name, g, next)
        end(g, BRIDGE_SHUTDOWN);
}

size_t bridges_count(const struct bridges *b)
{
    return atomic_load_explicit(&b->count, memory_order_relaxed);
}
