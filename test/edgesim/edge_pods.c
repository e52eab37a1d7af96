/* Pods: what a kubelet with a runtime that starts everything at once does with them. See edge.h.
 *
 * A pod that is pushed is reported Pending, what it refers to is queried (what the edge has stored
 * is not asked for again; the token of its service account is asked for each pod), then it is
 * reported Running. With a deletionTimestamp it is reported Succeeded and, a second later, deleted
 * for good with its uid. A query that fails is repeated, later each time. Steps and their times:
 * the captured session. */
#include "test/edgesim/edge.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define RETRY_MAX_STEPS 600 /* the kubelet's volume manager waits up to a minute or two */

enum pod_state {
    POD_NEW,
    POD_REFERENCES,
    POD_TOKEN,
    POD_STARTING,
    POD_RUNNING,
    POD_STOPPING,
    POD_DELETING,
    POD_DELETED
};

struct reference {
    struct reference *next;
    char resource[]; /* "<namespace>/configmap/<name>" */
};

struct edge_pod {
    struct edge_pod *next;
    enum pod_state state;
    bool is_asking;
    uint32_t tag;
    uint64_t due_us, retry_us;
    struct reference *references; /* still to be had */
    struct edge_pod_names names;  /* each owned */
};

static void free_references(struct edge_pod *pod)
{
    struct reference *r, *tmp;
    LL_FOREACH_SAFE (pod->references, r, tmp)
        free(r);
    pod->references = NULL;
}

static void free_pod(struct edge_pod *pod)
{
    free_references(pod);
    free((char *)pod->names.space);
    free((char *)pod->names.name);
    free((char *)pod->names.uid);
    free((char *)pod->names.account);
    free((char *)pod->names.container);
    free((char *)pod->names.image);
    free(pod);
}

void edge_pods_free(struct edge *e)
{
    struct edge_pod *pod, *tmp;
    LL_FOREACH_SAFE (e->pods, pod, tmp)
        free_pod(pod);
    e->pods = NULL;
}

/* --- reading a pod --- */

static const char *text_at(json_t *object, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : fallback;
}

static void refer(struct edge_pod *pod, const char *type, const char *name)
{
    if (!name)
        return;
    size_t size = strlen(pod->names.space) + strlen(type) + strlen(name) + 3;
    struct reference *r = malloc(sizeof(*r) + size), *other;
    if (!r)
        return;
    r->next = NULL;
    stpcpy(stpcpy(stpcpy(stpcpy(stpcpy(r->resource, pod->names.space), "/"), type), "/"), name);
    LL_FOREACH (pod->references, other) {
        if (strcmp(other->resource, r->resource) == 0) {
            free(r);
            return;
        }
    }
    LL_APPEND(pod->references, r);
}

static void refer_volume(struct edge_pod *pod, json_t *volume)
{
    size_t i;
    json_t *source;
    refer(pod, "configmap", text_at(json_object_get(volume, "configMap"), "name", NULL));
    refer(pod, "secret", text_at(json_object_get(volume, "secret"), "secretName", NULL));
    json_array_foreach (json_object_get(json_object_get(volume, "projected"), "sources"), i,
                        source) {
        refer(pod, "configmap", text_at(json_object_get(source, "configMap"), "name", NULL));
        refer(pod, "secret", text_at(json_object_get(source, "secret"), "name", NULL));
    }
}

static void refer_container(struct edge_pod *pod, json_t *container)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(container, "envFrom"), i, item) {
        refer(pod, "configmap", text_at(json_object_get(item, "configMapRef"), "name", NULL));
        refer(pod, "secret", text_at(json_object_get(item, "secretRef"), "name", NULL));
    }
    json_array_foreach (json_object_get(container, "env"), i, item) {
        json_t *from = json_object_get(item, "valueFrom");
        refer(pod, "configmap", text_at(json_object_get(from, "configMapKeyRef"), "name", NULL));
        refer(pod, "secret", text_at(json_object_get(from, "secretKeyRef"), "name", NULL));
    }
}

static void read_references(struct edge_pod *pod, json_t *spec)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(spec, "volumes"), i, item)
        refer_volume(pod, item);
    json_array_foreach (json_object_get(spec, "containers"), i, item)
        refer_container(pod, item);
    json_array_foreach (json_object_get(spec, "imagePullSecrets"), i, item)
        refer(pod, "secret", text_at(item, "name", NULL));
}

static struct edge_pod *read_pod(json_t *root)
{
    json_t *metadata = json_object_get(root, "metadata"), *spec = json_object_get(root, "spec");
    json_t *container = json_array_get(json_object_get(spec, "containers"), 0);
    struct edge_pod *pod = calloc(1, sizeof(*pod));
    if (!pod)
        return NULL;
    pod->names.space = strdup(text_at(metadata, "namespace", ""));
    pod->names.name = strdup(text_at(metadata, "name", ""));
    pod->names.uid = strdup(text_at(metadata, "uid", ""));
    pod->names.account = strdup(text_at(spec, "serviceAccountName", "default"));
    pod->names.container = strdup(text_at(container, "name", "main"));
    pod->names.image = strdup(text_at(container, "image", "none"));
    if (!pod->names.space || !pod->names.name || !pod->names.uid || !pod->names.account ||
        !pod->names.container || !pod->names.image) {
        free_pod(pod);
        return NULL;
    }
    read_references(pod, spec);
    return pod;
}

/* --- what is pushed --- */

static struct edge_pod *find_by_uid(struct edge *e, const char *uid)
{
    struct edge_pod *pod;
    LL_FOREACH (e->pods, pod) {
        if (strcmp(pod->names.uid, uid) == 0)
            return pod;
    }
    return NULL;
}

static void add_pod(struct edge *e, json_t *root, uint64_t now_us)
{
    struct edge_pod *pod = read_pod(root);
    if (!pod)
        return;
    pod->tag = (uint32_t)++e->stats->pods_seen;
    pod->due_us = now_us + e->config->pod_step_us;
    pod->retry_us = e->config->pod_step_us;
    LL_APPEND(e->pods, pod);
}

static void remove_pod(struct edge *e, struct edge_pod *pod)
{
    LL_DELETE(e->pods, pod);
    free_pod(pod);
    e->stats->pods_gone++;
}

static void stop_pod(struct edge *e, struct edge_pod *pod, uint64_t now_us)
{
    if (pod->state >= POD_STOPPING)
        return;
    pod->state = POD_STOPPING;
    pod->due_us = now_us + e->config->pod_step_us;
}

static void take_pod(struct edge *e, json_t *root, bool is_delete, uint64_t now_us)
{
    json_t *metadata = json_object_get(root, "metadata");
    const char *node = text_at(json_object_get(root, "spec"), "nodeName", NULL);
    struct edge_pod *pod = find_by_uid(e, text_at(metadata, "uid", ""));
    bool is_terminating = json_is_string(json_object_get(metadata, "deletionTimestamp"));
    if (node && strcmp(node, e->name) != 0) {
        e->stats->foreign_pods++;
        return;
    }
    if (is_delete) {
        if (pod)
            remove_pod(e, pod);
        return;
    }
    if (!pod) {
        add_pod(e, root, now_us);
        pod = find_by_uid(e, text_at(metadata, "uid", ""));
    }
    if (pod && is_terminating)
        stop_pod(e, pod, now_us);
}

void edge_pod_pushed(struct edge *e, const struct json_span *content, bool is_delete,
                     uint64_t now_us)
{
    if (!e->config->has_pods || content->kind != JSON_KIND_OBJECT)
        return;
    json_t *root = json_loadb(content->at, content->size, 0, NULL);
    if (!root) {
        e->stats->bad_objects++;
        return;
    }
    take_pod(e, root, is_delete, now_us);
    json_decref(root);
}

/* --- what is asked --- */

static bool ask_reference(struct edge *e, struct edge_pod *pod, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    const char *resource = pod->references->resource;
    bool is_secret = strstr(resource, "/secret/") != NULL;
    edge_ask_begin(e, id);
    edge_message_query(e->scratch, &a, id, resource);
    return edge_ask_send(e, is_secret ? EDGE_KIND_SECRET_QUERY : EDGE_KIND_CONFIGMAP_QUERY,
                         EDGE_ASKER_POD, pod->tag, now_us);
}

static bool ask_token(struct edge *e, struct edge_pod *pod, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    edge_ask_begin(e, id);
    edge_message_token_query(e->scratch, &a, id, &pod->names);
    return edge_ask_send(e, EDGE_KIND_TOKEN_QUERY, EDGE_ASKER_POD, pod->tag, now_us);
}

static bool ask_patch(struct edge *e, struct edge_pod *pod, enum edge_pod_phase phase,
                      uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    edge_ask_begin(e, id);
    edge_message_podpatch(e->scratch, &a, id, &pod->names, phase);
    return edge_ask_send(e, EDGE_KIND_PODPATCH, EDGE_ASKER_POD, pod->tag, now_us);
}

static bool ask_delete(struct edge *e, struct edge_pod *pod, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    edge_ask_begin(e, id);
    edge_message_pod_delete(e->scratch, &a, id, &pod->names);
    return edge_ask_send(e, EDGE_KIND_POD_DELETE, EDGE_ASKER_POD, pod->tag, now_us);
}

static void drop_known_references(struct edge *e, struct edge_pod *pod)
{
    struct reference *r, *tmp;
    LL_FOREACH_SAFE (pod->references, r, tmp) {
        if (edge_item_find(e, r->resource, strlen(r->resource))) {
            LL_DELETE(pod->references, r);
            free(r);
        }
    }
}

static bool ask_for_state(struct edge *e, struct edge_pod *pod, uint64_t now_us)
{
    switch (pod->state) {
    case POD_NEW:
        return ask_patch(e, pod, EDGE_POD_PENDING, now_us);
    case POD_REFERENCES:
        return ask_reference(e, pod, now_us);
    case POD_TOKEN:
        return ask_token(e, pod, now_us);
    case POD_STARTING:
        return ask_patch(e, pod, EDGE_POD_RUNNING, now_us);
    case POD_STOPPING:
        return ask_patch(e, pod, EDGE_POD_SUCCEEDED, now_us);
    case POD_DELETING:
        return ask_delete(e, pod, now_us);
    case POD_RUNNING:
    case POD_DELETED:
        break;
    }
    return false;
}

static void retry(struct edge *e, struct edge_pod *pod, uint64_t now_us)
{
    pod->due_us = now_us + pod->retry_us;
    pod->retry_us *= 2;
    if (pod->retry_us > RETRY_MAX_STEPS * e->config->pod_step_us)
        pod->retry_us = RETRY_MAX_STEPS * e->config->pod_step_us;
}

static void pod_tick(struct edge *e, struct edge_pod *pod, uint64_t now_us)
{
    if (pod->is_asking || now_us < pod->due_us)
        return;
    if (pod->state == POD_REFERENCES) {
        drop_known_references(e, pod);
        if (!pod->references)
            pod->state = POD_TOKEN;
    }
    pod->due_us = EDGE_NEVER;
    pod->is_asking = ask_for_state(e, pod, now_us);
    if (!pod->is_asking && pod->state != POD_RUNNING && pod->state != POD_DELETED)
        retry(e, pod, now_us);
}

void edge_pods_tick(struct edge *e, uint64_t now_us)
{
    struct edge_pod *pod;
    LL_FOREACH (e->pods, pod)
        pod_tick(e, pod, now_us);
}

/* How long after a step's answer the next one comes, in steps of 100 ms. */
static uint64_t pause_steps(enum pod_state next)
{
    if (next == POD_STARTING)
        return 10;
    return next == POD_DELETING ? 8 : 0;
}

static enum pod_state state_after(const struct edge_pod *pod)
{
    switch (pod->state) {
    case POD_NEW:
        return POD_REFERENCES;
    case POD_REFERENCES:
        return pod->references ? POD_REFERENCES : POD_TOKEN;
    case POD_TOKEN:
        return POD_STARTING;
    case POD_STARTING:
        return POD_RUNNING;
    case POD_STOPPING:
        return POD_DELETING;
    case POD_DELETING:
        return POD_DELETED;
    case POD_RUNNING:
    case POD_DELETED:
        break;
    }
    return pod->state;
}

static void got_reference(struct edge *e, struct edge_pod *pod)
{
    struct reference *r = pod->references;
    if (!r)
        return;
    struct json_span key = {
        .at = r->resource, .size = strlen(r->resource), .kind = JSON_KIND_STRING};
    edge_item_store(e, &key, 0, false);
    LL_DELETE(pod->references, r);
    free(r);
}

static struct edge_pod *find_by_tag(struct edge *e, uint32_t tag)
{
    struct edge_pod *pod;
    LL_FOREACH (e->pods, pod) {
        if (pod->tag == tag)
            return pod;
    }
    return NULL;
}

/* The kind of the question an answer belongs to is that of the state, unless the pod was told to
 * stop in between. */
static bool fits_state(const struct edge_pod *pod, enum edge_kind kind)
{
    bool is_query = kind == EDGE_KIND_CONFIGMAP_QUERY || kind == EDGE_KIND_SECRET_QUERY;
    return is_query == (pod->state == POD_REFERENCES);
}

void edge_pod_outcome(struct edge *e, uint32_t tag, enum edge_kind kind, enum edge_outcome outcome,
                      uint64_t now_us)
{
    struct edge_pod *pod = find_by_tag(e, tag);
    if (!pod)
        return;
    pod->is_asking = false;
    if (pod->state == POD_STOPPING && pod->due_us != EDGE_NEVER)
        return; /* told to stop while the answer was on its way */
    if (outcome != EDGE_OUTCOME_OK || !fits_state(pod, kind)) {
        retry(e, pod, now_us);
        return;
    }
    if (pod->state == POD_REFERENCES)
        got_reference(e, pod);
    pod->state = state_after(pod);
    pod->retry_us = e->config->pod_step_us;
    if (pod->state == POD_RUNNING)
        e->stats->pods_running++;
    bool rests = pod->state == POD_RUNNING || pod->state == POD_DELETED;
    pod->due_us = rests ? EDGE_NEVER : now_us + pause_steps(pod->state) * e->config->pod_step_us;
}

uint64_t edge_pods_due(const struct edge *e)
{
    const struct edge_pod *pod;
    uint64_t due_us = EDGE_NEVER;
    LL_FOREACH (e->pods, pod) {
        if (!pod->is_asking && pod->due_us < due_us)
            due_us = pod->due_us;
    }
    return due_us;
}
