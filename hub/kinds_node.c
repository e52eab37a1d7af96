/* The kinds about a Node that take more than one request (kubeedge-protocol 4.3).
 *
 * Labels: a node may not set what NodeRestriction keeps from it (plugin/pkg/admission/noderestriction of kubernetes, and
 * kubelet's well-known labels in staging/src/k8s.io/kubelet/pkg/apis). CloudCore adds whatever the edge claims under its own
 * identity; we add the two edge roles, and of what the edge claims only the keys of --allowed-node-labels. */
#include "hub/kinds.h"

#include <string.h>

#define MERGE_PATCH "application/merge-patch+json"

#define ANNOTATION_CLOUDCORE "cloudcore"
#define ANNOTATION_REPLICA   "isthmus.io/replica"

static const char *const role_labels[] = {"node-role.kubernetes.io/edge", "node-role.kubernetes.io/agent"};

/* ---- labels ---- */

enum label_fate { LABEL_BY_NODE, LABEL_BY_HUB, LABEL_REFUSED };

static bool ends_with(const char *text, size_t size, const char *end)
{
    size_t n = strlen(end);
    return size >= n && memcmp(text + size - n, end, n) == 0;
}

static bool is_one_of(const char *key, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(key, keys[i]) == 0)
            return true;
    }
    return false;
}

/* kubelet's own labels, and the two prefixes that it may use freely (KubeletLabels, IsKubeletLabel). */
static bool is_kubelet_label(const char *key, size_t domain)
{
    static const char *const known[] = {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    };
    if (is_one_of(key, known, sizeof(known) / sizeof(known[0])))
        return true;
    static const char *const free_domains[] = {"node.kubernetes.io", "kubelet.kubernetes.io"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(free_domains[i]);
        bool is_it = domain == n && memcmp(key, free_domains[i], n) == 0;
        bool is_below = ends_with(key, domain, free_domains[i]) && domain > n && key[domain - n - 1] == '.';
        if (is_it || is_below)
            return true;
    }
    return false;
}

static bool is_kubernetes_domain(const char *key, size_t domain)
{
    static const char *const reserved[] = {"kubernetes.io", "k8s.io"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(reserved[i]);
        if (ends_with(key, domain, reserved[i]) && (domain == n || key[domain - n - 1] == '.'))
            return true;
    }
    return false;
}

static enum label_fate label_fate(const struct kinds_context *context, const char *key)
{
    const char *slash = strchr(key, '/');
    size_t domain = slash ? (size_t)(slash - key) : 0;
    if (is_one_of(key, role_labels, 2))
        return LABEL_BY_HUB;
    if (!slash || !is_kubernetes_domain(key, domain) || is_kubelet_label(key, domain))
        return LABEL_BY_NODE;
    const struct option_list *allowed = context->allowed_node_labels;
    return allowed && is_one_of(key, allowed->items, allowed->count) ? LABEL_BY_HUB : LABEL_REFUSED;
}

/* Takes from `labels` what the node may not set; returns what the hub will set instead (NULL: no memory). */
static json_t *split_labels(const struct kinds_context *context, json_t *labels)
{
    json_t *ours = json_pack("{s:s, s:s}", role_labels[0], "", role_labels[1], "");
    const char *key;
    json_t *value;
    void *next;
    if (!ours)
        return NULL;
    json_object_foreach_safe (labels, next, key, value) {
        enum label_fate fate = label_fate(context, key);
        if (fate == LABEL_BY_NODE)
            continue;
        if (fate == LABEL_BY_HUB && json_object_set(ours, key, value) != 0) {
            json_decref(ours);
            return NULL;
        }
        json_object_del(labels, key);
    }
    return ours;
}

/* The object under `key`, made if it is not there. Borrowed; NULL: no memory, or `object` is none. */
static json_t *child(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    if (json_is_object(value))
        return value;
    if (json_object_set_new(object, key, json_object()) != 0)
        return NULL;
    return json_object_get(object, key);
}

static int set_annotations(const struct kinds_context *context, json_t *annotations)
{
    if (json_object_set_new(annotations, ANNOTATION_CLOUDCORE, json_string(context->advertise_address)) != 0)
        return -1;
    return json_object_set_new(annotations, ANNOTATION_REPLICA, json_string(context->replica_id));
}

/* A merge patch of the hub's own on the node. */
static enum run_verdict patch_node(struct run *run, const char *what, json_t *value)
{
    enum run_verdict v = run_call_object(run, "PATCH", RESOURCE_NODE, NULL, false);
    if (v != RUN_CALL) {
        json_decref(value);
        return v;
    }
    run->call.as_node = false;
    v = run_set_json(run, json_pack("{s:{s:o}}", "metadata", what, value));
    run->call.content_type = MERGE_PATCH;
    return v;
}

/* ---- node insert, nodestatus insert ---- */

enum { INSERT_LOOK, INSERT_CREATE, INSERT_LABEL, INSERT_EXISTS, INSERT_RELABEL };

/* What stands in the message, made into what may be created. */
static enum run_verdict create_node(struct run *run)
{
    const struct route *r = &run->message->route;
    json_t *node = run_content_json(run);
    if (!json_is_object(node)) {
        json_decref(node);
        return run_fail(run, 400, "BadRequest", "the content is not a Node");
    }
    json_t *metadata = child(node, "metadata");
    json_t *labels = metadata ? child(metadata, "labels") : NULL;
    json_t *annotations = metadata ? child(metadata, "annotations") : NULL;
    json_t *ours = labels ? split_labels(run->context, labels) : NULL;
    bool ok = ours && annotations && set_annotations(run->context, annotations) == 0 &&
              json_object_set_new(metadata, "name", json_stringn(r->name.at, r->name.size)) == 0;
    if (ok && !run_is_impersonated(run))
        ok = json_object_update(labels, ours) == 0;
    enum run_verdict v = ok ? run_call_object(run, "POST", RESOURCE_NODE, NULL, true) : RUN_NO_MEMORY;
    if (v != RUN_CALL) {
        json_decref(ours);
        json_decref(node);
        return v;
    }
    json_decref(run->saved);
    run->saved = ours;
    run->step = INSERT_CREATE;
    run->call.retry = API_RETRY_UNSENT;
    return run_set_json(run, node);
}

static enum run_verdict node_exists(struct run *run)
{
    const struct route *r = &run->message->route;
    if (r->kind == UPSTREAM_NODESTATUS_INSERT) {
        result_ok(&run->result);
        return RUN_DONE;
    }
    result_failure(&run->result, 409, "AlreadyExists", "nodes \"%.*s\" already exists", (int)r->name.size, r->name.at);
    return RUN_DONE;
}

/* An EdgeCore from 1.23 on whose database was wiped asks for ever until the Node has been pushed to it once: so it gets it
 * before it hears that it exists already. */
static void push_node(struct run *run, const struct apiresponse *response)
{
    struct result node;
    const struct route *r = &run->message->route;
    result_from_response(&node, response);
    if (node.kind != RESULT_OBJECT || !text_span_equals(&r->ns, "null"))
        return;
    run->has_push = true;
    run->push = (struct push){.operation = "update", .ns = r->ns, .type = "node", .name = r->name,
                              .version = node.version, .content = node.body,
                              .object = resource_hash(RESOURCE_NODE, &r->ns, &r->name),
                              .object_version = resource_version(node.version.at, node.version.size)};
}

/* The role labels of a node whose creation was interrupted behind the first request are mended when it asks again. */
static bool has_role_labels(const struct apiresponse *response)
{
    json_t *node = json_loadb(response->body, response->size, 0, NULL);
    json_t *labels = json_object_get(json_object_get(node, "metadata"), "labels");
    bool has = json_object_get(labels, role_labels[0]) && json_object_get(labels, role_labels[1]);
    json_decref(node);
    return has;
}

static enum run_verdict look_at_existing(struct run *run)
{
    run->step = INSERT_EXISTS;
    enum run_verdict v = run_call_object(run, "GET", RESOURCE_NODE, NULL, false);
    run->call.as_node = false;
    return v;
}

static enum run_verdict finish_insert(struct run *run, const struct apiresponse *response)
{
    run_finish(run, response);
    if (run->message->route.kind == UPSTREAM_NODESTATUS_INSERT && run->result.kind == RESULT_OBJECT)
        run->result.kind = RESULT_OK;
    return RUN_DONE;
}

static enum run_verdict after_create(struct run *run, const struct apiresponse *response)
{
    if (response_is(response, 409) && run->message->route.kind == UPSTREAM_NODE_INSERT)
        return look_at_existing(run);
    if (!response_is_good(response) || !run_is_impersonated(run))
        return finish_insert(run, response);
    run->step = INSERT_LABEL;
    return patch_node(run, "labels", json_incref(run->saved));
}

static enum run_verdict after_look_at_existing(struct run *run, const struct apiresponse *response)
{
    if (!response_is_good(response))
        return node_exists(run);
    push_node(run, response);
    if (!run->saved || has_role_labels(response))
        return node_exists(run);
    run->step = INSERT_RELABEL;
    return patch_node(run, "labels", json_incref(run->saved));
}

enum run_verdict node_insert_step(struct run *run, const struct apiresponse *response)
{
    if (!response) {
        if (run->message->route.kind == UPSTREAM_NODE_INSERT)
            return create_node(run);
        run->step = INSERT_LOOK;
        return run_call_object(run, "GET", RESOURCE_NODE, NULL, false);
    }
    switch (run->step) {
    case INSERT_LOOK:
        if (response_is_good(response))
            return node_exists(run);
        return response_is(response, 404) ? create_node(run) : finish_insert(run, response);
    case INSERT_CREATE:
        return after_create(run, response);
    case INSERT_LABEL:
        return finish_insert(run, response);
    case INSERT_EXISTS:
        return after_look_at_existing(run, response);
    default:
        return node_exists(run);
    }
}

/* ---- node update ---- */

/* Nothing but a map: in a patch a null would take away all that are there, the roles too. Borrowed. */
static json_t *map_of(const json_t *metadata, const char *key)
{
    json_t *map = json_object_get(metadata, key);
    return json_is_object(map) ? map : NULL;
}

/* CloudCore reads the Node, lays the message's labels and annotations over it and sends all of it as a patch. Only those two
 * can differ, and a patch merges them by itself: one request does. */
static enum run_verdict patch_metadata(struct run *run)
{
    json_t *node = run_content_json(run);
    json_t *metadata = json_object_get(node, "metadata");
    if (!json_is_object(metadata)) {
        json_decref(node);
        return run_fail(run, 400, "BadRequest", "the content is not a Node");
    }
    json_t *labels = map_of(metadata, "labels");
    json_t *annotations = map_of(metadata, "annotations");
    if (labels && !run_is_impersonated(run))
        json_decref(split_labels(run->context, labels));
    json_t *patch = json_pack("{s:{s:O*, s:O*}}", "metadata", "labels", labels, "annotations", annotations);
    json_decref(node);
    enum run_verdict v = run_call_object(run, "PATCH", RESOURCE_NODE, NULL, false);
    if (v != RUN_CALL) {
        json_decref(patch);
        return v;
    }
    v = run_set_json(run, patch);
    run->call.content_type = MERGE_PATCH;
    return v;
}

enum run_verdict node_update_step(struct run *run, const struct apiresponse *response)
{
    if (!response)
        return patch_metadata(run);
    run_finish(run, response);
    if (run->result.kind == RESULT_OBJECT)
        run->result.kind = RESULT_OK;
    return RUN_DONE;
}

/* ---- nodestatus update (EdgeCore <= 1.11) ---- */

enum { STATUS_LOOK, STATUS_PUT };

/* volumesAttached belongs to the controller manager, and the kubelet port is the one that was there first. */
static int keep_ours(json_t *status, const json_t *old)
{
    json_t *attached = json_object_get(old, "volumesAttached");
    json_t *port = json_object_get(json_object_get(json_object_get(old, "daemonEndpoints"), "kubeletEndpoint"), "Port");
    json_object_del(status, "volumesAttached");
    if (attached && json_object_set(status, "volumesAttached", attached) != 0)
        return -1;
    if (json_integer_value(port) == 0)
        return 0;
    json_t *endpoints = child(status, "daemonEndpoints");
    json_t *kubelet = endpoints ? child(endpoints, "kubeletEndpoint") : NULL;
    return kubelet ? json_object_set(kubelet, "Port", port) : -1;
}

static enum run_verdict put_status(struct run *run, const struct apiresponse *response)
{
    json_t *content = run_content_json(run);
    json_t *status = json_object_get(content, "Status");
    json_t *node = json_loadb(response->body, response->size, 0, NULL);
    if (!json_is_object(status) || !json_is_object(node)) {
        json_decref(content);
        json_decref(node);
        return run_fail(run, 400, "BadRequest", "the content is not a node status");
    }
    bool ok = keep_ours(status, json_object_get(node, "status")) == 0 && json_object_set(node, "status", status) == 0;
    json_decref(content);
    enum run_verdict v = ok ? run_call_object(run, "PUT", RESOURCE_NODE, "status", false) : RUN_NO_MEMORY;
    if (v != RUN_CALL) {
        json_decref(node);
        return v;
    }
    run->step = STATUS_PUT;
    run->call.retry = API_RETRY_UNSENT;
    return run_set_json(run, node);
}

enum run_verdict nodestatus_update_step(struct run *run, const struct apiresponse *response)
{
    if (!response) {
        run->step = STATUS_LOOK;
        return run_call_object(run, "GET", RESOURCE_NODE, NULL, false);
    }
    if (run->step == STATUS_LOOK && response_is_good(response))
        return put_status(run, response);
    run_finish(run, response);
    if (run->result.kind == RESULT_OBJECT)
        run->result.kind = RESULT_OK;
    return RUN_DONE;
}

/* ---- a node has connected ---- */

enum { CONNECTED_LOOK, CONNECTED_ANNOTATE };

static bool is_annotated(const struct run *run, const struct apiresponse *response)
{
    json_t *node = json_loadb(response->body, response->size, 0, NULL);
    json_t *annotations = json_object_get(json_object_get(node, "metadata"), "annotations");
    const char *cloudcore = json_string_value(json_object_get(annotations, ANNOTATION_CLOUDCORE));
    const char *replica = json_string_value(json_object_get(annotations, ANNOTATION_REPLICA));
    bool is = cloudcore && replica && strcmp(cloudcore, run->context->advertise_address) == 0 &&
              strcmp(replica, run->context->replica_id) == 0;
    json_decref(node);
    return is;
}

/* Nobody is answered; but the Node as it is now, and whether it names this replica, are of use downstream. */
static enum run_verdict connected_end(struct run *run, const struct apiresponse *response, bool is_ours)
{
    result_from_response(&run->result, response);
    if (run->result.kind != RESULT_OBJECT)
        result_ok(&run->result);
    run->result.happened = is_ours && run->result.kind == RESULT_OBJECT;
    run->result.kind = RESULT_NONE;
    return RUN_DONE;
}

/* CloudCore writes its address on every connect (cloud/pkg/cloudhub/handler/message_handler.go); we also name the replica. */
enum run_verdict node_connected_step(struct run *run, const struct apiresponse *response)
{
    if (!response) {
        run->step = CONNECTED_LOOK;
        enum run_verdict v = run_call_object(run, "GET", RESOURCE_NODE, NULL, false);
        run->call.as_node = false;
        return v;
    }
    bool is_good = response_is_good(response);
    if (run->step != CONNECTED_LOOK || !is_good || is_annotated(run, response))
        return connected_end(run, response, is_good);
    run->step = CONNECTED_ANNOTATE;
    json_t *annotations = json_object();
    if (!annotations || set_annotations(run->context, annotations) != 0) {
        json_decref(annotations);
        return RUN_NO_MEMORY;
    }
    return patch_node(run, "annotations", annotations);
}
