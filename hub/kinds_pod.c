/* podstatus, as EdgeCore up to 1.11 reports it (kubeedge-protocol 4.5): a list of pods, or one, each read, compared and
 * written. CloudCore answers once for each entry; one message gets one answer from us, a failure if any entry failed. */
#include "hub/kinds.h"

#include <string.h>

enum { POD_LOOK, POD_PUT, POD_REMOVE };

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_t *entry_at(const struct run *run)
{
    if (json_is_array(run->saved))
        return json_array_get(run->saved, run->index);
    return run->index == 0 ? run->saved : NULL;
}

static const char *entry_name(const json_t *entry)
{
    return text_of(entry, "Name");
}

static enum run_verdict call_pod(struct run *run, const char *method, const char *subresource)
{
    const char *name = entry_name(entry_at(run));
    struct text_span span = {name, strlen(name)};
    run->call = (struct run_call){
        .method = method, .as_node = run_is_impersonated(run), .retry = API_RETRY_REPEATABLE};
    int rc = -1;
    if (resource_name_is_subdomain(&span))
        rc = resource_api_path(RESOURCE_POD, &run->message->route.ns, &span, subresource, run->call.path,
                               sizeof(run->call.path));
    return rc > 0 ? RUN_CALL : run_fail(run, 400, "BadRequest", "an entry without a pod's name");
}

static enum run_verdict look_at_next(struct run *run)
{
    if (!entry_at(run)) {
        result_ok(&run->result);
        return RUN_DONE;
    }
    run->step = POD_LOOK;
    return call_pod(run, "GET", NULL);
}

static enum run_verdict next_entry(struct run *run)
{
    run->index++;
    return look_at_next(run);
}

/* ---- the new status ---- */

static json_t *condition_of(const json_t *status, const char *type)
{
    size_t i;
    json_t *condition;
    json_array_foreach (json_object_get(status, "conditions"), i, condition) {
        if (strcmp(text_of(condition, "type"), type) == 0)
            return condition;
    }
    return NULL;
}

/* A condition that did not change keeps the time of its last change. */
static int keep_transition(json_t *status, const json_t *old_status, const char *type)
{
    json_t *now = condition_of(status, type);
    json_t *before = condition_of(old_status, type);
    json_t *time = json_object_get(before, "lastTransitionTime");
    if (!now || !time || strcmp(text_of(now, "status"), text_of(before, "status")) != 0)
        return 0;
    return json_object_set(now, "lastTransitionTime", time);
}

/* By name, so that the order makes no difference. A pod has few containers. */
static int sort_by_name(json_t *list)
{
    for (size_t i = 1; i < json_array_size(list); i++) {
        for (size_t k = i; k > 0; k--) {
            json_t *a = json_array_get(list, k - 1), *b = json_array_get(list, k);
            if (strcmp(text_of(a, "name"), text_of(b, "name")) <= 0)
                break;
            json_incref(a);
            if (json_array_set(list, k - 1, b) != 0 || json_array_set_new(list, k, a) != 0)
                return -1;
        }
    }
    return 0;
}

static int merge_status(json_t *status, const json_t *old_status)
{
    json_t *start = json_object_get(old_status, "startTime");
    if (keep_transition(status, old_status, "Ready") != 0 || keep_transition(status, old_status, "Initialized") != 0)
        return -1;
    if (start && json_object_set(status, "startTime", start) != 0)
        return -1;
    return sort_by_name(json_object_get(status, "containerStatuses"));
}

static enum run_verdict put_status(struct run *run, json_t *pod)
{
    json_t *status = json_object_get(entry_at(run), "Status");
    if (!json_is_object(status))
        return run_fail(run, 400, "BadRequest", "an entry without a status");
    bool ok = merge_status(status, json_object_get(pod, "status")) == 0 && json_object_set(pod, "status", status) == 0;
    enum run_verdict v = ok ? call_pod(run, "PUT", "status") : RUN_NO_MEMORY;
    if (v != RUN_CALL)
        return v;
    run->step = POD_PUT;
    run->call.retry = API_RETRY_UNSENT;
    return run_set_json(run, json_incref(pod));
}

/* ---- a pod that is no more ---- */

/* EdgeCore can store the answer to its own patch after the deletion that was pushed: then it keeps the pod and asks about it for
 * ever. So it is told again, as the sync loop does it (kubeedge-protocol 5.5); it removes only what has this uid. Without memory,
 * or without a uid in the patch, it is not. */
void podpatch_push_delete(struct run *run)
{
    static const char *const path[] = {"metadata", "uid", NULL};
    const struct route *r = &run->message->route;
    struct json_span uid;
    if (jsonscan_find(run->call.body, run->call.body_size, path, &uid) != 0 || uid.kind != JSON_KIND_STRING ||
        uid.size == 0 || uid.has_escapes)
        return;
    json_t *pod = json_pack("{s:{s:s%, s:s%, s:s%}}", "metadata", "name", r->name.at, r->name.size, "namespace", r->ns.at,
                            r->ns.size, "uid", uid.at, uid.size);
    if (run_set_json(run, pod) != RUN_CALL)
        return;
    run->has_push = true;
    run->push = (struct push){.operation = "delete",
                              .ns = r->ns,
                              .type = "pod",
                              .name = r->name,
                              .content = {run->text, run->text_size}};
}

/* ---- steps ---- */

/* The edge still has a pod that the cluster has not: it is told to delete it. */
static enum run_verdict push_delete(struct run *run)
{
    const char *name = entry_name(entry_at(run));
    const struct text_span *ns = &run->message->route.ns;
    json_t *pod = json_pack("{s:{s:s, s:s%}}", "metadata", "name", name, "namespace", ns->at, ns->size);
    enum run_verdict v = run_set_json(run, pod);
    if (v != RUN_CALL)
        return v;
    run->has_push = true;
    run->push = (struct push){.operation = "delete", .ns = *ns, .type = "pod", .name = {name, strlen(name)},
                              .content = {run->text, run->text_size}};
    return RUN_CALL;
}

static enum run_verdict after_look(struct run *run, const struct apiresponse *response)
{
    bool is_gone = response_is(response, 404);
    if (!is_gone && !response_is_good(response))
        return run_finish(run, response);

    json_t *pod = is_gone ? NULL : json_loadb(response->body, response->size, 0, NULL);
    const char *uid = text_of(json_object_get(pod, "metadata"), "uid");
    enum run_verdict v;
    if (is_gone || !owns_pod(run, pod) || strcmp(uid, text_of(entry_at(run), "UID")) != 0) {
        v = push_delete(run);
        if (v == RUN_CALL)
            v = next_entry(run);
    } else {
        v = put_status(run, pod);
    }
    json_decref(pod);
    return v;
}

static bool is_running(const json_t *status)
{
    size_t i;
    json_t *container;
    json_array_foreach (json_object_get(status, "containerStatuses"), i, container) {
        json_t *state = json_object_get(container, "state");
        if (!json_object_get(state, "terminated") && !json_object_get(state, "waiting"))
            return true;
    }
    return false;
}

/* A pod that was to go and has ended is removed for good. */
static enum run_verdict after_put(struct run *run, const struct apiresponse *response)
{
    if (!response_is_good(response))
        return run_finish(run, response);
    json_t *pod = json_loadb(response->body, response->size, 0, NULL);
    json_t *status = json_object_get(entry_at(run), "Status");
    const char *phase = text_of(status, "phase");
    bool has_ended = strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
    bool is_deleted = json_object_get(json_object_get(pod, "metadata"), "deletionTimestamp") != NULL;
    json_decref(pod);
    if (!is_deleted || !has_ended || is_running(status))
        return next_entry(run);
    enum run_verdict v = call_pod(run, "DELETE", NULL);
    if (v != RUN_CALL)
        return v;
    run->step = POD_REMOVE;
    return run_set_json(run, json_pack("{s:i}", "gracePeriodSeconds", 0));
}

enum run_verdict podstatus_step(struct run *run, const struct apiresponse *response)
{
    if (!response) {
        run->saved = run_content_json(run);
        if (!run->saved)
            return run_fail(run, 400, "BadRequest", "the content is not a pod status");
        return look_at_next(run);
    }
    switch (run->step) {
    case POD_LOOK:
        return after_look(run, response);
    case POD_PUT:
        return after_put(run, response);
    default:
        return next_entry(run); /* CloudCore logs a failed removal and goes on, and so does the edge's next report */
    }
}
