/* What a node may ask for when it cannot be impersonated (--impersonate=false, certificates without a name): the rules of the
 * Node authorizer (plugin/pkg/auth/authorizer/node of kubernetes) and NodeRestriction, as far as EdgeCore asks, looked up
 * before the hub asks in its own name:
 *
 *   - its own Node, Lease and events: the routing has seen to the names, but for the one in the body of a new Lease
 *   - pods bound to it; mirror pods that name it and mention nothing, for what they mention would be the node's
 *   - configmaps, secrets and claims that a pod bound to it mentions, volumes of such claims, attachments to it
 *   - tokens of a pod's service account that are bound to this pod, and end with it
 *   - no certificate signing requests: they would be signed in the name of the hub */
#include "hub/kinds.h"

#include <stdio.h>
#include <string.h>

enum { OWN_ASK = RUN_STEP_OWNERSHIP, OWN_POD, OWN_PODS, OWN_VOLUME, OWN_ATTACHMENT };

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool span_is(const struct text_span *span, const char *text)
{
    return text_span_equals(span, text);
}

bool owns_pod(const struct run *run, const json_t *pod)
{
    return strcmp(text_of(json_object_get(pod, "spec"), "nodeName"), run->message->node->text) == 0;
}

static enum run_verdict forbid(struct run *run, const char *why)
{
    return run_fail(run, 403, "Forbidden", why);
}

static enum run_verdict allow(bool *allowed)
{
    *allowed = true;
    return RUN_DONE;
}

/* ---- what a pod mentions ---- */

/* Kind NONE: anything at all. */
struct thing {
    enum resource_kind kind;
    struct text_span name;
};

static bool ref_is(const struct thing *t, enum resource_kind kind, const json_t *ref, const char *key)
{
    const char *name = text_of(ref, key);
    return name[0] && (t->kind == RESOURCE_NONE || (t->kind == kind && span_is(&t->name, name)));
}

static bool source_mentions(const struct thing *t, const json_t *source)
{
    return ref_is(t, RESOURCE_CONFIGMAP, json_object_get(source, "configMap"), "name") ||
           ref_is(t, RESOURCE_SECRET, json_object_get(source, "secret"), "name");
}

static bool projection_mentions(const struct thing *t, const json_t *projected)
{
    size_t i;
    json_t *source;
    json_array_foreach (json_object_get(projected, "sources"), i, source) {
        if (source_mentions(t, source))
            return true;
    }
    return false;
}

static bool volume_mentions(const struct thing *t, const json_t *volume)
{
    return ref_is(t, RESOURCE_CONFIGMAP, json_object_get(volume, "configMap"), "name") ||
           ref_is(t, RESOURCE_SECRET, json_object_get(volume, "secret"), "secretName") ||
           ref_is(t, RESOURCE_PERSISTENTVOLUMECLAIM, json_object_get(volume, "persistentVolumeClaim"), "claimName") ||
           projection_mentions(t, json_object_get(volume, "projected"));
}

static bool env_mentions(const struct thing *t, const json_t *container)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(container, "envFrom"), i, item) {
        if (ref_is(t, RESOURCE_CONFIGMAP, json_object_get(item, "configMapRef"), "name") ||
            ref_is(t, RESOURCE_SECRET, json_object_get(item, "secretRef"), "name"))
            return true;
    }
    json_array_foreach (json_object_get(container, "env"), i, item) {
        json_t *from = json_object_get(item, "valueFrom");
        if (ref_is(t, RESOURCE_CONFIGMAP, json_object_get(from, "configMapKeyRef"), "name") ||
            ref_is(t, RESOURCE_SECRET, json_object_get(from, "secretKeyRef"), "name"))
            return true;
    }
    return false;
}

static bool list_mentions(const struct thing *t, const json_t *list, bool (*mentions)(const struct thing *, const json_t *))
{
    size_t i;
    json_t *item;
    json_array_foreach (list, i, item) {
        if (mentions(t, item))
            return true;
    }
    return false;
}

static bool pull_secret_is(const struct thing *t, const json_t *ref)
{
    return ref_is(t, RESOURCE_SECRET, ref, "name");
}

static bool pod_mentions(const struct thing *t, const json_t *pod)
{
    const json_t *spec = json_object_get(pod, "spec");
    return ref_is(t, RESOURCE_SERVICEACCOUNT, spec, "serviceAccountName") ||
           list_mentions(t, json_object_get(spec, "volumes"), volume_mentions) ||
           list_mentions(t, json_object_get(spec, "containers"), env_mentions) ||
           list_mentions(t, json_object_get(spec, "initContainers"), env_mentions) ||
           list_mentions(t, json_object_get(spec, "ephemeralContainers"), env_mentions) ||
           list_mentions(t, json_object_get(spec, "imagePullSecrets"), pull_secret_is);
}

/* ---- questions ---- */

/* The pods of the node in a namespace, from the API server's watch cache. */
static enum run_verdict ask_pods(struct run *run, const struct text_span *ns)
{
    struct text_span none = {0};
    struct run_call *call = &run->call;
    *call = (struct run_call){.method = "GET", .retry = API_RETRY_REPEATABLE};
    int size = resource_api_path(RESOURCE_POD, ns, &none, NULL, call->path, sizeof(call->path));
    if (size <= 0)
        return forbid(run, "no such namespace");
    int more = snprintf(call->path + size, sizeof(call->path) - (size_t)size,
                        "?fieldSelector=spec.nodeName%%3D%s&resourceVersion=0", run->message->node->text);
    if (more < 0 || (size_t)(size + more) >= sizeof(call->path))
        return forbid(run, "no such node");
    run->step = OWN_PODS;
    return RUN_CALL;
}

static enum run_verdict ask_object(struct run *run, enum resource_kind kind, unsigned step)
{
    run->step = step;
    return run_call_object(run, "GET", kind, NULL, false);
}

static enum run_verdict check_mirror_pod(struct run *run, bool *allowed)
{
    json_t *pod = run_content_json(run);
    json_t *annotations = json_object_get(json_object_get(pod, "metadata"), "annotations");
    bool is_mirror = json_object_get(annotations, "kubernetes.io/config.mirror") != NULL;
    bool is_own = owns_pod(run, pod);
    bool mentions = pod_mentions(&(struct thing){.kind = RESOURCE_NONE}, pod);
    json_decref(pod);
    if (!is_mirror || !is_own)
        return forbid(run, "a node may create mirror pods of its own only");
    return mentions ? forbid(run, "a mirror pod may mention no other objects") : allow(allowed);
}

static enum run_verdict check_new_lease(struct run *run, bool *allowed)
{
    json_t *lease = run_content_json(run);
    bool is_own = strcmp(text_of(json_object_get(lease, "metadata"), "name"), run->message->node->text) == 0;
    json_decref(lease);
    return is_own ? allow(allowed) : forbid(run, "a node may create its own Lease only");
}

static enum run_verdict first_question(struct run *run, bool *allowed)
{
    switch (run->message->route.kind) {
    case UPSTREAM_PODPATCH:
    case UPSTREAM_POD_DELETE:
        return ask_object(run, RESOURCE_POD, OWN_POD);
    case UPSTREAM_POD_INSERT:
        return check_mirror_pod(run, allowed);
    case UPSTREAM_LEASE_INSERT:
        return check_new_lease(run, allowed);
    case UPSTREAM_CONFIGMAP_QUERY:
    case UPSTREAM_SECRET_QUERY:
    case UPSTREAM_SERVICEACCOUNTTOKEN_QUERY:
    case UPSTREAM_PERSISTENTVOLUMECLAIM_QUERY:
        return ask_pods(run, &run->message->route.ns);
    case UPSTREAM_PERSISTENTVOLUME_QUERY:
        return ask_object(run, RESOURCE_PERSISTENTVOLUME, OWN_VOLUME);
    case UPSTREAM_VOLUMEATTACHMENT_QUERY:
        return ask_object(run, RESOURCE_VOLUMEATTACHMENT, OWN_ATTACHMENT);
    case UPSTREAM_CSR_INSERT:
    case UPSTREAM_CSR_QUERY:
        return forbid(run, "certificate requests need impersonation");
    default:
        return allow(allowed);
    }
}

/* ---- answers ---- */

static struct thing thing_asked_for(const struct run *run)
{
    const struct route *r = &run->message->route;
    struct thing t = {upstream_kinds[r->kind].object, r->name};
    if (r->kind == UPSTREAM_PERSISTENTVOLUME_QUERY) {
        const char *claim = text_of(run->saved, "name");
        t = (struct thing){RESOURCE_PERSISTENTVOLUMECLAIM, {claim, strlen(claim)}};
    }
    return t;
}

static bool is_same_text(const json_t *a, const json_t *b, const char *key)
{
    const char *text = text_of(a, key);
    return text[0] && strcmp(text, text_of(b, key)) == 0;
}

/* Whether the token that is asked for is bound to the pod: any other would outlive it. */
static bool binds_token(const json_t *token_request, const json_t *pod)
{
    const json_t *ref = json_object_get(json_object_get(token_request, "spec"), "boundObjectRef");
    const json_t *metadata = json_object_get(pod, "metadata");
    return strcmp(text_of(ref, "kind"), "Pod") == 0 && strcmp(text_of(ref, "apiVersion"), "v1") == 0 &&
           is_same_text(ref, metadata, "name") && is_same_text(ref, metadata, "uid");
}

static enum run_verdict judge_pods(struct run *run, const json_t *list, bool *allowed)
{
    struct thing t = thing_asked_for(run);
    bool is_token = t.kind == RESOURCE_SERVICEACCOUNT, is_found = false;
    json_t *token_request = is_token ? run_content_json(run) : NULL;
    size_t i;
    json_t *pod;
    json_array_foreach (json_object_get(list, "items"), i, pod)
        is_found = is_found || (owns_pod(run, pod) && pod_mentions(&t, pod) &&
                                (!is_token || binds_token(token_request, pod)));
    json_decref(token_request);
    if (is_found)
        return allow(allowed);
    return forbid(run, is_token ? "it is not bound to a pod of this node with this service account"
                                : "no pod of this node mentions it");
}

static enum run_verdict judge_volume(struct run *run, const json_t *volume)
{
    json_t *claim = json_object_get(json_object_get(volume, "spec"), "claimRef");
    const char *ns = text_of(claim, "namespace");
    struct text_span span = {ns, strlen(ns)};
    if (span.size == 0)
        return forbid(run, "it is bound to no claim");
    json_decref(run->saved);
    run->saved = json_incref(claim);
    return ask_pods(run, &span);
}

static enum run_verdict judge(struct run *run, const json_t *object, bool *allowed)
{
    switch (run->step) {
    case OWN_POD:
        return owns_pod(run, object) ? allow(allowed) : forbid(run, "the pod is not bound to this node");
    case OWN_PODS:
        return judge_pods(run, object, allowed);
    case OWN_VOLUME:
        return judge_volume(run, object);
    default: {
        const char *node = text_of(json_object_get(object, "spec"), "nodeName");
        bool is_own = strcmp(node, run->message->node->text) == 0;
        return is_own ? allow(allowed) : forbid(run, "it is attached to another node");
    }
    }
}

enum run_verdict owns_step(struct run *run, const struct apiresponse *response, bool *allowed)
{
    if (!response)
        return first_question(run, allowed);
    if (response_is(response, 404) && run->message->route.kind == UPSTREAM_POD_DELETE) {
        result_ok(&run->result); /* was deleted already: as kinds.c has it */
        return RUN_DONE;
    }
    /* Nothing is asked for what is not there: by then it might be, and somebody else's. */
    if (!response_is_good(response))
        return run_finish(run, response);
    json_t *object = json_loadb(response->body, response->size, 0, NULL);
    if (!object)
        return forbid(run, "the API server's answer cannot be read");
    enum run_verdict v = judge(run, object, allowed);
    json_decref(object);
    return v;
}
