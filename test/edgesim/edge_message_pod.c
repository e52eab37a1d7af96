/* What an edge writes about its pods. See edge_message.h. */
#include "test/edgesim/edge_message.h"

static const char *const condition_order =
    "\"$setElementOrder/"
    "conditions\":[{\"type\":\"PodReadyToStartContainers\"},{\"type\":\"Initialized\"},"
    "{\"type\":\"Ready\"},{\"type\":\"ContainersReady\"},{\"type\":\"PodScheduled\"}],"
    "\"conditions\":[";

static void begin_condition(struct edge_text *t, const struct edge_author *a, bool probed)
{
    edge_text_str(t, probed ? "{\"lastProbeTime\":null,\"lastTransitionTime\":\""
                            : "{\"lastTransitionTime\":\"");
    edge_text_time(t, a->wall_us);
}

static void append_pending(struct edge_text *t, const struct edge_author *a,
                           const struct edge_pod_names *pod)
{
    static const struct {
        const char *type, *status;
        bool unready;
    } conditions[] = {{"PodReadyToStartContainers", "False", false},
                      {"Initialized", "True", false},
                      {"Ready", "False", true},
                      {"ContainersReady", "False", true}};
    for (size_t i = 0; i < 4; i++) {
        edge_text_str(t, i ? "," : "");
        begin_condition(t, a, true);
        if (conditions[i].unready)
            edge_text_printf(t,
                             "\",\"message\":\"containers with unready status: "
                             "[%s]\",\"reason\":\"ContainersNotReady",
                             pod->container);
        edge_text_printf(t, "\",\"status\":\"%s\",\"type\":\"%s\"}", conditions[i].status,
                         conditions[i].type);
    }
    edge_text_printf(
        t,
        "],\"containerStatuses\":[{\"image\":\"%s\",\"imageID\":\"\",\"lastState\":{},\"name\":\"%"
        "s\","
        "\"ready\":false,\"restartCount\":0,\"started\":false,\"state\":{\"waiting\":{\"reason\":"
        "\"ContainerCreating\"}}}],\"hostIP\":\"192.0.2.2\",\"hostIPs\":[{\"ip\":\"192.0.2.2\"}],"
        "\"startTime\":\"",
        pod->image, pod->container);
    edge_text_time(t, a->wall_us);
    edge_text_str(t, "\"}}");
}

static void append_container_id(struct edge_text *t, const struct edge_pod_names *pod)
{
    edge_text_printf(t, "\"containerID\":\"fakeRuntime://%s_%s_%s_0_%s_0\"", pod->name, pod->space,
                     pod->uid, pod->container);
}

static void append_running(struct edge_text *t, const struct edge_author *a,
                           const struct edge_pod_names *pod)
{
    static const char *const types[] = {"PodReadyToStartContainers", "Ready", "ContainersReady"};
    for (size_t i = 0; i < 3; i++) {
        edge_text_str(t, i ? "," : "");
        begin_condition(t, a, false);
        edge_text_printf(t, "\",%s\"status\":\"True\",\"type\":\"%s\"}",
                         i ? "\"message\":null,\"reason\":null," : "", types[i]);
    }
    edge_text_str(t, "],\"containerStatuses\":[{");
    append_container_id(t, pod);
    edge_text_printf(
        t,
        ",\"image\":\"%s\",\"imageID\":\"%s\",\"lastState\":{},\"name\":\"%s\",\"ready\":true,"
        "\"restartCount\":0,\"started\":true,\"state\":{\"running\":{\"startedAt\":\"",
        pod->image, pod->image, pod->container);
    edge_text_time(t, a->wall_us);
    edge_text_str(t, "\"}}}],\"phase\":\"Running\",\"podIP\":\"192.168.192.168\",\"podIPs\":[{"
                     "\"ip\":\"192.168.192.168\"}]}}");
}

static void append_completed(struct edge_text *t, const struct edge_author *a, const char *type)
{
    edge_text_str(t, ",");
    begin_condition(t, a, false);
    edge_text_printf(t, "\",\"reason\":\"PodCompleted\",\"status\":\"False\",\"type\":\"%s\"}",
                     type);
}

static void append_succeeded(struct edge_text *t, const struct edge_author *a,
                             const struct edge_pod_names *pod)
{
    begin_condition(t, a, false);
    edge_text_str(t, "\",\"status\":\"False\",\"type\":\"PodReadyToStartContainers\"},"
                     "{\"reason\":\"PodCompleted\",\"type\":\"Initialized\"}");
    append_completed(t, a, "Ready");
    append_completed(t, a, "ContainersReady");
    edge_text_str(t, "],\"containerStatuses\":[{");
    append_container_id(t, pod);
    edge_text_printf(
        t,
        ",\"image\":\"%s\",\"imageID\":\"%s\",\"lastState\":{},\"name\":\"%s\",\"ready\":false,"
        "\"restartCount\":0,\"started\":false,\"state\":{\"terminated\":{",
        pod->image, pod->image, pod->container);
    append_container_id(t, pod);
    edge_text_str(t, ",\"exitCode\":0,\"finishedAt\":\"");
    edge_text_time(t, a->wall_us);
    edge_text_str(t, "\",\"startedAt\":\"");
    edge_text_time(t, a->wall_us);
    edge_text_str(t, "\"}}}],\"phase\":\"Succeeded\"}}");
}

void edge_message_podpatch(struct edge_text *t, const struct edge_author *a, const char *id,
                           const struct edge_pod_names *pod, enum edge_pod_phase phase)
{
    struct edge_text patch;
    edge_text_init(&patch);
    edge_text_printf(&patch, "{\"metadata\":{\"uid\":\"%s\"},\"status\":{%s", pod->uid,
                     condition_order);
    if (phase == EDGE_POD_PENDING)
        append_pending(&patch, a, pod);
    else if (phase == EDGE_POD_RUNNING)
        append_running(&patch, a, pod);
    else
        append_succeeded(&patch, a, pod);
    edge_message_begin(t, a, id, "edged", "meta", "patch");
    edge_text_printf(t, "%s/podpatch/%s", pod->space, pod->name);
    edge_message_begin_content(t);
    edge_message_patch_content(t, a, &patch);
    edge_message_end(t);
    edge_text_fini(&patch);
}

void edge_message_pod_delete(struct edge_text *t, const struct edge_author *a, const char *id,
                             const struct edge_pod_names *pod)
{
    struct edge_text options;
    edge_text_init(&options);
    edge_text_printf(&options, "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"%s\"}}",
                     pod->uid);
    edge_message_begin(t, a, id, "edged", "meta", "delete");
    edge_text_printf(t, "%s/pod/%s", pod->space, pod->name);
    edge_message_begin_content(t);
    if (a->dialect == EDGE_DIALECT_1_12_0)
        edge_message_patch_content(t, a, &options);
    else
        edge_text_append(t, options.at, options.size);
    edge_message_end(t);
    edge_text_fini(&options);
}

void edge_message_token_query(struct edge_text *t, const struct edge_author *a, const char *id,
                              const struct edge_pod_names *pod)
{
    edge_message_begin(t, a, id, "edged", "meta", "query");
    edge_text_printf(t, "%s/serviceaccounttoken/%s", pod->space, pod->account);
    edge_message_begin_content(t);
    edge_text_printf(t,
                     "{\"metadata\":{\"creationTimestamp\":null},\"spec\":{\"audiences\":null,"
                     "\"expirationSeconds\":3607,"
                     "\"boundObjectRef\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"name\":\"%s\","
                     "\"uid\":\"%s\"}},"
                     "\"status\":{\"token\":\"\",\"expirationTimestamp\":null}}",
                     pod->name, pod->uid);
    edge_message_end(t);
}
