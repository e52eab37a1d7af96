/* See explain.h. Only a node that is neither here nor remembered costs a request to the API server.
 */
#include "hub/explain.h"

#include "hub/hub.h"
#include "hub/resource.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS 5000

struct explainer {
    uv_loop_t *loop;
    struct apiclient *client;
    struct hub *hub;
    const struct mover *mover;
};

struct question {
    struct control_request *request;
    char node[RESOURCE_MAX_NAME + 1];
};

/* ---- here, or let go from here ---- */

static json_int_t seconds_since(uint64_t then_ms)
{
    uint64_t now_ms = uv_hrtime() / 1000000;
    return now_ms > then_ms ? (json_int_t)((now_ms - then_ms) / 1000) : 0;
}

static json_t *here(const char *node, const struct hub_node_info *info)
{
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "node", node, "where", "here",
        "remote", info->remote, "connected_s", seconds_since(info->connected_ms), "last_message_s",
        seconds_since(info->last_received_ms), "messages_in", (json_int_t)info->messages_in,
        "messages_out", (json_int_t)info->messages_out, "unfinished", (json_int_t)info->unfinished,
        "unsent_bytes", (json_int_t)info->unsent_bytes, "reading", info->is_reading);
}

static json_t *let_go(const char *node, const struct mover_release *r)
{
    return json_pack("{s:s, s:s, s:I, s:b, s:s, s:s, s:I, s:I}", "node", node, "where", "released",
                     "released_s", (json_int_t)(r->ago_ms / 1000), "bridged", r->is_bridged, "why",
                     balancer_why_name(r->why), "text", balancer_why_text(r->why), "live",
                     (json_int_t)r->live, "expected", (json_int_t)r->expected);
}

/* ---- elsewhere ---- */

static void answer_from_node(const struct question *q, const struct apiresponse *response)
{
    json_t *node = json_loadb(response->body, response->size, 0, NULL);
    json_t *annotations = json_object_get(json_object_get(node, "metadata"), "annotations");
    const char *replica = json_string_value(json_object_get(annotations, "isthmus.io/replica"));
    const char *address = json_string_value(json_object_get(annotations, "cloudcore"));
    if (replica)
        control_answer(q->request,
                       json_pack("{s:s, s:s, s:s, s:s}", "node", q->node, "where", "elsewhere",
                                 "replica", replica, "address", address ? address : ""));
    else
        control_answer(q->request, json_pack("{s:s, s:s}", "node", q->node, "where", "unknown"));
    json_decref(node);
}

static void on_node(void *context, const struct apiresponse *response)
{
    struct question *q = context;
    if (response->error != 0)
        control_error(q->request, "%s is not here, and the API server: %s", q->node,
                      apiclient_error_text(response->error));
    else if (response->status == 404)
        control_error(q->request, "there is no node %s", q->node);
    else if (response->status != 200)
        control_error(q->request, "%s is not here, and the API server answered %u", q->node,
                      response->status);
    else
        answer_from_node(q, response);
    free(q);
}

static int ask_api(struct explainer *x, struct question *q)
{
    char path[RESOURCE_PATH_MAX];
    const struct text_span none = {0}, name = {q->node, strlen(q->node)};
    if (resource_api_path(RESOURCE_NODE, &none, &name, NULL, path, sizeof(path)) < 0)
        return -1;
    const struct apirequest request = {.method = "GET",
                                       .path = path,
                                       .deadline_ms = uv_now(x->loop) + ASK_MS,
                                       .retry = API_RETRY_REPEATABLE,
                                       .done = on_node,
                                       .context = q};
    return apiclient_request(x->client, &request, NULL);
}

/* ---- the interface ---- */

void explainer_ask(struct explainer *x, struct control_request *request, const char *node)
{
    struct hub_node_info info;
    struct mover_release release;
    const struct text_span name = {node, strlen(node)};
    if (!resource_name_is_subdomain(&name) || name.size > RESOURCE_MAX_NAME) {
        control_error(request, "explain needs the name of a node");
        return;
    }
    hub_explain(x->hub, node, &info);
    if (info.is_connected) {
        control_answer(request, here(node, &info));
        return;
    }
    if (mover_find_release(x->mover, node, &release)) {
        control_answer(request, let_go(node, &release));
        return;
    }
    struct question *q = calloc(1, sizeof(*q));
    if (!q) {
        control_answer(request, NULL);
        return;
    }
    q->request = request;
    memcpy(q->node, node, name.size);
    if (ask_api(x, q) != 0) {
        control_error(request, "%s is not here, and the API server cannot be asked", node);
        free(q);
    }
}

int explainer_create(uv_loop_t *loop, struct apiconfig *api, struct hub *hub,
                     const struct mover *mover, struct explainer **explainer, struct errbuf *e)
{
    const struct apiclient_options options = {
        .channels = {{.connections = 1, .max_streams = 8, .max_waiting = 64}},
        .channel_count = 1,
        .user_agent = "isthmus-explain"};
    struct explainer *x = calloc(1, sizeof(*x));
    if (!x) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    *x = (struct explainer){.loop = loop, .hub = hub, .mover = mover};
    int rc = apiclient_create(loop, api, &options, &x->client, e);
    if (rc != 0) {
        free(x);
        return rc;
    }
    *explainer = x;
    return 0;
}

static void on_closed(void *context)
{
    (void)context;
}

void explainer_close(struct explainer *x)
{
    if (x)
        apiclient_close(x->client, on_closed, x);
}

void explainer_destroy(struct explainer *x)
{
    free(x);
}
