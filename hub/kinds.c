/* See kinds.h. Most kinds are one request, told by the table below; the others have their steps in kinds_node.c and
 * kinds_pod.c. Without impersonation each run begins with the questions of owns.c. */
#include "hub/kinds.h"

#include "hub/content.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define STRATEGIC "application/strategic-merge-patch+json"
#define JSON      "application/json"

/* The authorizer's graph trails the binding of a pod a little (design: Security): a query of the node that is refused is
 * tried again so often before the edge hears of it. */
#define REFUSALS_MAX 3

enum body_source { BODY_NONE, BODY_CONTENT, BODY_PATCH, BODY_DELETE, BODY_EVENT_PATCH };

typedef enum run_verdict (*step_fn)(struct run *run, const struct apiresponse *response);

struct kind_plan {
    const char *method;
    bool is_collection;
    const char *subresource, *content_type;
    enum body_source body;
    enum apirequest_retry retry;
    step_fn step; /* of kinds with more than one request; the rest of the row is not used then */
};

static const struct kind_plan plans[UPSTREAM_KIND_COUNT] = {
    [UPSTREAM_NODE_INSERT] = {.step = node_insert_step},
    [UPSTREAM_NODE_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_NODE_UPDATE] = {.step = node_update_step},
    [UPSTREAM_NODESTATUS_INSERT] = {.step = node_insert_step},
    [UPSTREAM_NODESTATUS_UPDATE] = {.step = nodestatus_update_step},
    [UPSTREAM_NODEPATCH] = {"PATCH", false, "status", STRATEGIC, BODY_PATCH, API_RETRY_REPEATABLE, NULL},
    [UPSTREAM_LEASE_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_LEASE_INSERT] = {"POST", true, NULL, JSON, BODY_CONTENT, API_RETRY_UNSENT, NULL},
    [UPSTREAM_LEASE_UPDATE] = {"PUT", false, NULL, JSON, BODY_CONTENT, API_RETRY_UNSENT, NULL},
    [UPSTREAM_PODSTATUS_UPDATE] = {.step = podstatus_step},
    [UPSTREAM_PODPATCH] = {"PATCH", false, "status", STRATEGIC, BODY_PATCH, API_RETRY_REPEATABLE, NULL},
    [UPSTREAM_POD_INSERT] = {"POST", true, NULL, JSON, BODY_CONTENT, API_RETRY_UNSENT, NULL},
    [UPSTREAM_POD_DELETE] = {"DELETE", false, NULL, JSON, BODY_DELETE, API_RETRY_REPEATABLE, NULL},
    [UPSTREAM_EVENT_INSERT] = {"POST", true, NULL, JSON, BODY_CONTENT, API_RETRY_UNSENT, NULL},
    [UPSTREAM_EVENT_UPDATE] = {"PUT", false, NULL, JSON, BODY_CONTENT, API_RETRY_UNSENT, NULL},
    [UPSTREAM_EVENT_PATCH] = {"PATCH", false, NULL, STRATEGIC, BODY_EVENT_PATCH, API_RETRY_UNSENT, NULL},
    [UPSTREAM_CONFIGMAP_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_SECRET_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_SERVICEACCOUNTTOKEN_QUERY] = {"POST", false, "token", JSON, BODY_CONTENT, API_RETRY_REPEATABLE, NULL},
    [UPSTREAM_PERSISTENTVOLUME_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_PERSISTENTVOLUMECLAIM_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_VOLUMEATTACHMENT_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_CSR_INSERT] = {"POST", true, NULL, JSON, BODY_CONTENT, API_RETRY_UNSENT, NULL},
    [UPSTREAM_CSR_QUERY] = {"GET", .retry = API_RETRY_REPEATABLE},
    [UPSTREAM_K8S_CA_QUERY] = {NULL},
    [UPSTREAM_NODE_CONNECTED] = {.step = node_connected_step},
    [UPSTREAM_NODE_RELEASE] = {.step = node_release_step},
};

static const struct kind_plan *plan_of(const struct run *run)
{
    return &plans[run->message->route.kind];
}

static const struct upstream_kind_info *info_of(const struct run *run)
{
    return &upstream_kinds[run->message->route.kind];
}

bool response_is(const struct apiresponse *response, unsigned status)
{
    return response->error == 0 && response->status == status;
}

bool response_is_good(const struct apiresponse *response)
{
    return response->error == 0 && response->status >= 200 && response->status < 300;
}

bool run_is_impersonated(const struct run *run)
{
    return run->context->impersonate && !run->message->node->is_legacy;
}

/* ---- ends ---- */

enum run_verdict run_fail(struct run *run, unsigned code, const char *reason, const char *what)
{
    const struct route *r = &run->message->route;
    result_failure(&run->result, code, reason, "%.*s \"%.*s\": %s", (int)r->type.size, r->type.at,
                   (int)(r->name.size > 120 ? 120 : r->name.size), r->name.at, what);
    return RUN_DONE;
}

enum run_verdict run_finish(struct run *run, const struct apiresponse *response)
{
    result_from_response(&run->result, response);
    return RUN_DONE;
}

/* Of an event nobody waits for the news that it was bad: it is dropped with that reason. */
static enum run_verdict bad_content(struct run *run, const char *what)
{
    if (info_of(run)->answer == ANSWER_NONE)
        return RUN_BAD_CONTENT;
    return run_fail(run, 400, "BadRequest", what);
}

/* ---- bodies ---- */

json_t *run_content_json(const struct run *run)
{
    const struct json_span *content = &run->message->envelope.content;
    if (content->kind == JSON_KIND_OBJECT || content->kind == JSON_KIND_ARRAY)
        return json_loadb(content->at, content->size, JSON_REJECT_DUPLICATES, NULL);
    if (content->kind != JSON_KIND_STRING || content->size == 0)
        return NULL;
    char *text = malloc(content->size);
    size_t size = 0;
    json_t *json = NULL;
    if (text && content_patch(content, text, &size) == 0)
        json = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    return json;
}

enum run_verdict run_set_json(struct run *run, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    free(run->text);
    run->text = text;
    if (!text)
        return RUN_NO_MEMORY;
    run->text_size = strlen(text);
    run->call.body = text;
    run->call.body_size = run->text_size;
    run->call.content_type = JSON;
    return RUN_CALL;
}

static bool ensure_text(struct run *run, size_t room)
{
    free(run->text);
    run->text = malloc(room);
    return run->text != NULL;
}

static enum run_verdict use_text(struct run *run, size_t size)
{
    run->call.body = run->text;
    run->call.body_size = run->text_size = size;
    return RUN_CALL;
}

static enum run_verdict body_from_string(struct run *run, const struct json_span *content)
{
    size_t size = 0;
    if (!ensure_text(run, content->size + 1))
        return RUN_NO_MEMORY;
    int rc = content_patch(content, run->text, &size);
    return rc == 0 ? use_text(run, size) : bad_content(run, content_error_names[-rc]);
}

static enum run_verdict body_from_content(struct run *run, const struct json_span *content)
{
    if (content->kind != JSON_KIND_OBJECT)
        return body_from_string(run, content);
    run->call.body = content->at;
    run->call.body_size = content->size;
    return RUN_CALL;
}

static enum run_verdict body_for_delete(struct run *run, const struct json_span *content)
{
    size_t size = 0;
    if (!ensure_text(run, content->size + CONTENT_DELETE_EXTRA))
        return RUN_NO_MEMORY;
    int rc = content_delete_options(content, run->text, &size);
    return rc == 0 ? use_text(run, size) : bad_content(run, content_error_names[-rc]);
}

static enum run_verdict body_for_event_patch(struct run *run, const struct json_span *content)
{
    static const char *const path[] = {"patchData", NULL};
    struct json_span patch;
    if (content->kind != JSON_KIND_OBJECT || jsonscan_find(content->at, content->size, path, &patch) != 0)
        return bad_content(run, "no patchData");
    return body_from_string(run, &patch);
}

static enum run_verdict make_body(struct run *run)
{
    const struct json_span *content = &run->message->envelope.content;
    switch (plan_of(run)->body) {
    case BODY_NONE:
        return RUN_CALL;
    case BODY_CONTENT:
        return body_from_content(run, content);
    case BODY_PATCH:
        return body_from_content(run, content);
    case BODY_DELETE:
        return body_for_delete(run, content);
    case BODY_EVENT_PATCH:
        return body_for_event_patch(run, content);
    }
    return RUN_BAD_CONTENT;
}

/* ---- paths ---- */

/* An event lives in the namespace that it names itself, as CloudCore has it: its message's may be another. */
static struct text_span event_namespace(const struct message *m)
{
    static const char *const plain[] = {"metadata", "namespace", NULL};
    static const char *const nested[] = {"event", "metadata", "namespace", NULL};
    const char *const *path = m->route.kind == UPSTREAM_EVENT_PATCH ? nested : plain;
    const struct json_span *content = &m->envelope.content;
    struct json_span found;
    if (content->kind == JSON_KIND_OBJECT && jsonscan_find(content->at, content->size, path, &found) == 0 &&
        found.kind == JSON_KIND_STRING && !found.has_escapes && found.size > 0) {
        struct text_span ns = {found.at, found.size};
        if (ns.size <= RESOURCE_MAX_NAMESPACE && resource_name_is_subdomain(&ns))
            return ns;
    }
    return m->route.ns;
}

enum run_verdict run_call_object(struct run *run, const char *method, enum resource_kind kind, const char *subresource,
                                 bool is_collection)
{
    const struct message *m = run->message;
    struct text_span ns = kind == RESOURCE_EVENT ? event_namespace(m) : m->route.ns;
    struct text_span name = is_collection ? (struct text_span){0} : m->route.name;
    struct run_call *call = &run->call;
    *call = (struct run_call){.method = method, .as_node = run_is_impersonated(run), .retry = API_RETRY_REPEATABLE};
    int rc = resource_api_path(kind, &ns, &name, subresource, call->path, sizeof(call->path));
    return rc > 0 ? RUN_CALL : bad_content(run, "no such path");
}

/* ---- one request ---- */

static enum run_verdict simple_call(struct run *run)
{
    const struct kind_plan *plan = plan_of(run);
    enum run_verdict v =
        run_call_object(run, plan->method, info_of(run)->object, plan->subresource, plan->is_collection);
    if (v != RUN_CALL)
        return v;
    run->call.content_type = plan->content_type;
    run->call.retry = plan->retry;
    return make_body(run);
}

/* What is gone already, or is another pod of that name by now, was deleted: as CloudCore (deletePod). */
static bool is_deleted_already(const struct run *run, const struct apiresponse *response)
{
    return run->message->route.kind == UPSTREAM_POD_DELETE &&
           (response_is(response, 404) || response_is(response, 409));
}

static enum run_verdict simple_end(struct run *run, const struct apiresponse *response)
{
    const struct upstream_kind_info *info = info_of(run);
    bool is_query_of_node = info->lane == LANE_QUERY && info->answer == ANSWER_PLAIN_OBJECT && run->call.as_node;
    if (is_query_of_node && response_is(response, 403) && run->refusals < REFUSALS_MAX) {
        run->sleep_ms = (uint64_t)250 << run->refusals++;
        return RUN_SLEEP;
    }
    if (is_deleted_already(run, response)) {
        result_ok(&run->result);
        return RUN_DONE;
    }
    if (run->message->route.kind == UPSTREAM_PODPATCH && response_is(response, 404))
        podpatch_push_delete(run);
    run_finish(run, response);
    if (run->result.kind == RESULT_OBJECT && info->answer == ANSWER_OK_TEXT)
        run->result.kind = RESULT_OK;
    return RUN_DONE;
}

static enum run_verdict cluster_ca(struct run *run)
{
    const char *pem = run->context->ca_pem;
    result_ok(&run->result);
    run->result.kind = RESULT_TEXT;
    run->result.text = (struct text_span){pem ? pem : "", pem ? strlen(pem) : 0};
    return RUN_DONE;
}

/* ---- the interface ---- */

static enum run_verdict first_call(struct run *run)
{
    if (run->message->route.kind == UPSTREAM_K8S_CA_QUERY)
        return cluster_ca(run);
    if (plan_of(run)->step)
        return plan_of(run)->step(run, NULL);
    return simple_call(run);
}

static enum run_verdict ask_ownership(struct run *run, const struct apiresponse *response)
{
    bool allowed = false;
    enum run_verdict v = owns_step(run, response, &allowed);
    if (!allowed)
        return v;
    run->step = 0;
    json_decref(run->saved);
    run->saved = NULL;
    return first_call(run);
}


enum run_verdict run_begin(struct run *run, const struct kinds_context *context, const struct message *message)
{
    memset(run, 0, offsetof(struct run, result));
    run->has_push = false;
    run->farewell = FAREWELL_NONE;
    run->context = context;
    run->message = message;
    if (run_is_impersonated(run) || upstream_is_own(message->route.kind))
        return first_call(run);
    run->step = RUN_STEP_OWNERSHIP;
    return ask_ownership(run, NULL);
}

enum run_verdict run_continue(struct run *run, const struct apiresponse *response)
{
    if (run->step >= RUN_STEP_OWNERSHIP)
        return ask_ownership(run, response);
    if (plan_of(run)->step)
        return plan_of(run)->step(run, response);
    return simple_end(run, response);
}

enum run_verdict run_resume(struct run *run)
{
    (void)run; /* the call stands as it was */
    return RUN_CALL;
}

void run_end(struct run *run)
{
    free(run->text);
    run->text = NULL;
    json_decref(run->saved);
    run->saved = NULL;
}
