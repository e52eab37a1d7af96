/* See edge_message.h. Pods' messages are in edge_message_pod.c. */
#include "test/edgesim/edge_message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LEASE_DURATION_S 40

static const struct {
    const char *name, *node_namespace, *kubelet;
} dialects[] = {
    [EDGE_DIALECT_1_12_0] = {"1.12.0", "default", "v1.22.6-kubeedge-v1.12.0"},
    [EDGE_DIALECT_1_12_1] = {"1.12.1", "default", "v1.22.6-kubeedge-v1.12.1"},
    [EDGE_DIALECT_1_22] = {"1.22", "default", "v1.31.12-kubeedge-v1.22.0"},
    [EDGE_DIALECT_1_23] = {"1.23", "null", "v1.32.10-kubeedge-v1.23.1"},
};

int edge_dialect_parse(const char *text, enum edge_dialect *dialect)
{
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        if (strcmp(text, dialects[i].name) == 0) {
            *dialect = (enum edge_dialect)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *edge_dialect_node_namespace(enum edge_dialect dialect)
{
    return dialects[dialect].node_namespace;
}

/* xxxxxxxx-eeee-4eeF-axxx-ssssssssssss: nonce, edge, flag, nonce, sequence. */
void edge_id_format(const struct edge_id *id, char text[EDGE_ID_SIZE])
{
    snprintf(text, EDGE_ID_SIZE,
             "%08" PRIx32 "-%04" PRIx32 "-4%02" PRIx32 "%x-a%03" PRIx32 "-%012" PRIx64,
             (uint32_t)(id->nonce >> 12), (id->edge >> 8) & 0xffff, id->edge & 0xff,
             id->expects_answer ? 1 : 0, (uint32_t)(id->nonce & 0xfff),
             id->sequence & UINT64_C(0xffffffffffff));
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *text, size_t digits, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_value(text[i]);
        if (digit < 0)
            return false;
        *value = *value << 4 | (uint64_t)digit;
    }
    return true;
}

int edge_id_parse(const char *text, size_t size, uint64_t nonce, struct edge_id *id)
{
    uint64_t high, edge_high, edge_low, low, sequence;
    if (size != EDGE_ID_SIZE - 1 || text[8] != '-' || text[13] != '-' || text[14] != '4' ||
        text[18] != '-' || text[19] != 'a' || text[23] != '-')
        return -EINVAL;
    if (!read_hex(text, 8, &high) || !read_hex(text + 9, 4, &edge_high) ||
        !read_hex(text + 15, 3, &edge_low) || !read_hex(text + 20, 3, &low) ||
        !read_hex(text + 24, 12, &sequence))
        return -EINVAL;
    *id = (struct edge_id){.nonce = high << 12 | low,
                           .edge = (uint32_t)(edge_high << 8 | edge_low >> 4),
                           .expects_answer = edge_low & 1,
                           .sequence = sequence};
    return id->nonce == nonce ? 0 : -ENOENT;
}

void edge_message_begin(struct edge_text *t, const struct edge_author *a, const char *id,
                        const char *source, const char *group, const char *operation)
{
    edge_text_printf(t,
                     "{\"header\":{\"msg_id\":\"%s\",\"timestamp\":%" PRIu64
                     "},\"route\":{\"source\":\"%s\","
                     "\"group\":\"%s\",\"operation\":\"%s\",\"resource\":\"",
                     id, a->wall_us / 1000, source, group, operation);
}

void edge_message_begin_content(struct edge_text *t)
{
    edge_text_str(t, "\"},\"content\":");
}

void edge_message_end(struct edge_text *t)
{
    edge_text_str(t, "}\n");
}

void edge_message_raw(struct edge_text *t, const struct edge_author *a, const char *id,
                      const struct edge_route *route, const char *content)
{
    edge_message_begin(t, a, id, route->source, route->group, route->operation);
    edge_text_str(t, route->resource);
    edge_message_begin_content(t);
    edge_text_str(t, content ? content : "null");
    edge_message_end(t);
}

void edge_message_keepalive(struct edge_text *t, const struct edge_author *a, const char *id)
{
    const struct edge_route route = {"websocket", "resource", "keepalive", "node"};
    edge_message_raw(t, a, id, &route, "\"ping\"");
}

void edge_message_ack(struct edge_text *t, const struct edge_author *a, const char *id,
                      const struct edge_ack *ack)
{
    edge_text_printf(t, "{\"header\":{\"msg_id\":\"%s\",\"parent_msg_id\":\"", id);
    edge_text_append(t, ack->parent, ack->parent_size);
    edge_text_printf(t, "\",\"timestamp\":%" PRIu64 "},\"route\":{\"source\":\"",
                     a->wall_us / 1000);
    edge_text_append(t, ack->source, ack->source_size);
    edge_text_str(t, "\",\"group\":\"");
    edge_text_append(t, ack->group, ack->group_size);
    edge_text_str(t, "\",\"operation\":\"response\",\"resource\":\"");
    edge_text_append(t, ack->resource, ack->resource_size);
    edge_message_begin_content(t);
    edge_text_str(t, "\"OK\"");
    edge_message_end(t);
}

void edge_message_query(struct edge_text *t, const struct edge_author *a, const char *id,
                        const char *resource)
{
    const struct edge_route route = {"edged", "meta", "query", resource};
    edge_message_raw(t, a, id, &route, NULL);
}

/* --- the Node --- */

static const struct {
    const char *type, *status, *reason, *message;
} conditions[] = {
    {"MemoryPressure", "False", "KubeletHasSufficientMemory",
     "kubelet has sufficient memory available"},
    {"DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
    {"PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
    {"Ready", "True", "EdgeReady", "edge is posting ready status"},
};
#define CONDITIONS (sizeof(conditions) / sizeof(conditions[0]))

static void append_images(struct edge_text *t, size_t bytes)
{
    size_t stop = t->size + bytes;
    edge_text_str(t, ",\"images\":[");
    for (unsigned i = 0; t->size < stop && edge_text_ok(t); i++)
        edge_text_printf(
            t,
            "%s{\"names\":[\"registry.example/edge/image-%03u@sha256:"
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"],\"sizeBytes\":%u}",
            i ? "," : "", i, 12000000 + i);
    edge_text_str(t, "]");
}

static void append_node_status(struct edge_text *t, const struct edge_author *a)
{
    edge_text_str(t, "{\"capacity\":{\"cpu\":\"1\",\"ephemeral-storage\":\"0\",\"memory\":"
                     "\"3840Mi\",\"pods\":\"110\"},"
                     "\"allocatable\":{\"cpu\":\"1\",\"ephemeral-storage\":\"0\",\"memory\":"
                     "\"3840Mi\",\"pods\":\"110\"},"
                     "\"conditions\":[");
    for (size_t i = 0; i < CONDITIONS; i++) {
        edge_text_printf(t, "%s{\"type\":\"%s\",\"status\":\"%s\",\"lastHeartbeatTime\":\"",
                         i ? "," : "", conditions[i].type, conditions[i].status);
        edge_text_time(t, a->wall_us);
        edge_text_str(t, "\",\"lastTransitionTime\":\"");
        edge_text_time(t, a->wall_us);
        edge_text_printf(t, "\",\"reason\":\"%s\",\"message\":\"%s\"}", conditions[i].reason,
                         conditions[i].message);
    }
    edge_text_printf(
        t,
        "],\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"192.0.2.2\"},{\"type\":"
        "\"Hostname\","
        "\"address\":\"%s\"}],\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":10350}},"
        "\"nodeInfo\":{"
        "\"machineID\":\"\",\"systemUUID\":\"\",\"bootID\":\"\",\"kernelVersion\":\"3.16.0-0.bpo.4-"
        "amd64\","
        "\"osImage\":\"Debian GNU/Linux 7 "
        "(wheezy)\",\"containerRuntimeVersion\":\"fakeRuntime://0.1.0\","
        "\"kubeletVersion\":\"%s\",\"kubeProxyVersion\":\"v0.0.0\",\"operatingSystem\":\"linux\","
        "\"architecture\":\"amd64\"}",
        a->node, dialects[a->dialect].kubelet);
    if (a->padding_bytes)
        append_images(t, a->padding_bytes);
    edge_text_str(t, "}");
}

static void begin_node(struct edge_text *t, const struct edge_author *a, const char *id,
                       const char *operation, const char *type)
{
    edge_message_begin(t, a, id, "edged", "meta", operation);
    edge_text_printf(t, "%s/%s/%s", dialects[a->dialect].node_namespace, type, a->node);
    edge_message_begin_content(t);
}

void edge_message_node_insert(struct edge_text *t, const struct edge_author *a, const char *id)
{
    begin_node(t, a, id, "insert", "node");
    edge_text_printf(t,
                     "{\"metadata\":{\"name\":\"%s\",\"creationTimestamp\":null,\"labels\":{"
                     "\"beta.kubernetes.io/arch\":\"amd64\",\"beta.kubernetes.io/os\":\"linux\","
                     "\"kubernetes.io/arch\":\"amd64\",\"kubernetes.io/"
                     "hostname\":\"%s\",\"kubernetes.io/os\":\"linux\","
                     "\"node-role.kubernetes.io/agent\":\"\",\"node-role.kubernetes.io/"
                     "edge\":\"\"}},\"spec\":{},"
                     "\"status\":",
                     a->node, a->node);
    append_node_status(t, a);
    edge_text_str(t, "}");
    edge_message_end(t);
}

void edge_message_node_query(struct edge_text *t, const struct edge_author *a, const char *id)
{
    begin_node(t, a, id, "query", "node");
    edge_text_str(t, "null");
    edge_message_end(t);
}

/* The patch as the kubelet makes it: what changed in the conditions, in alphabetical order of keys.
 */
static void append_conditions_patch(struct edge_text *t, const struct edge_author *a, bool full)
{
    edge_text_str(t, "{\"status\":{\"$setElementOrder/conditions\":[");
    for (size_t i = 0; i < CONDITIONS; i++)
        edge_text_printf(t, "%s{\"type\":\"%s\"}", i ? "," : "", conditions[i].type);
    edge_text_str(t, "],\"conditions\":[");
    for (size_t i = 0; i < CONDITIONS; i++) {
        edge_text_str(t, i ? ",{\"lastHeartbeatTime\":\"" : "{\"lastHeartbeatTime\":\"");
        edge_text_time(t, a->wall_us);
        if (full) {
            edge_text_str(t, "\",\"lastTransitionTime\":\"");
            edge_text_time(t, a->wall_us);
            edge_text_printf(t, "\",\"message\":\"%s\",\"reason\":\"%s\",\"status\":\"%s",
                             conditions[i].message, conditions[i].reason, conditions[i].status);
        }
        edge_text_printf(t, "\",\"type\":\"%s\"}", conditions[i].type);
    }
    edge_text_str(t, "]");
    if (a->padding_bytes)
        append_images(t, a->padding_bytes);
    edge_text_str(t, "}}");
}

void edge_message_patch_content(struct edge_text *t, const struct edge_author *a,
                                const struct edge_text *patch)
{
    if (!edge_text_ok(patch))
        t->failed = true;
    edge_text_str(t, "\"");
    if (a->dialect == EDGE_DIALECT_1_12_0)
        edge_text_base64(t, patch->at, patch->size);
    else
        edge_text_escape(t, patch->at, patch->size);
    edge_text_str(t, "\"");
}

void edge_message_nodepatch(struct edge_text *t, const struct edge_author *a, const char *id,
                            enum edge_report report)
{
    struct edge_text patch;
    edge_text_init(&patch);
    if (report == EDGE_REPORT_EMPTY)
        edge_text_str(&patch, "{}");
    else
        append_conditions_patch(&patch, a, report == EDGE_REPORT_FULL);
    begin_node(t, a, id, "patch", "nodepatch");
    edge_message_patch_content(t, a, &patch);
    edge_message_end(t);
    edge_text_fini(&patch);
}

/* --- the lease --- */

static void begin_lease(struct edge_text *t, const struct edge_author *a, const char *id,
                        const char *operation)
{
    edge_message_begin(t, a, id, "edged", "meta", operation);
    edge_text_printf(t, "kube-node-lease/lease/%s", a->node);
    edge_message_begin_content(t);
}

static void append_lease_spec(struct edge_text *t, const struct edge_author *a)
{
    edge_text_printf(
        t, ",\"spec\":{\"holderIdentity\":\"%s\",\"leaseDurationSeconds\":%d,\"renewTime\":\"",
        a->node, LEASE_DURATION_S);
    edge_text_micro_time(t, a->wall_us);
    edge_text_str(t, "\"}}");
}

void edge_message_lease_query(struct edge_text *t, const struct edge_author *a, const char *id)
{
    begin_lease(t, a, id, "query");
    edge_text_str(t, "null");
    edge_message_end(t);
}

void edge_message_lease_insert(struct edge_text *t, const struct edge_author *a, const char *id,
                               const char *node_uid)
{
    begin_lease(t, a, id, "insert");
    edge_text_printf(t,
                     "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"kube-node-lease\","
                     "\"creationTimestamp\":null,"
                     "\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"%"
                     "s\",\"uid\":\"%s\"}]}",
                     a->node, a->node, node_uid);
    append_lease_spec(t, a);
    edge_message_end(t);
}

void edge_message_lease_update(struct edge_text *t, const struct edge_author *a, const char *id,
                               const char *metadata, size_t metadata_size, bool typed)
{
    begin_lease(t, a, id, "update");
    edge_text_str(
        t, typed ? "{\"kind\":\"Lease\",\"apiVersion\":\"coordination.k8s.io/v1\",\"metadata\":"
                 : "{\"metadata\":");
    edge_text_append(t, metadata, metadata_size);
    append_lease_spec(t, a);
    edge_message_end(t);
}

/* --- events --- */

void edge_message_event(struct edge_text *t, const struct edge_author *a, const char *id,
                        uint64_t number, size_t message_bytes)
{
    edge_message_begin(t, a, id, "edged", "meta", "insert");
    edge_text_printf(t, "default/event/%s.%016" PRIx64, a->node, number);
    edge_message_begin_content(t);
    edge_text_printf(t,
                     "{\"metadata\":{\"name\":\"%s.%016" PRIx64
                     "\",\"namespace\":\"default\",\"creationTimestamp\":null},"
                     "\"involvedObject\":{\"kind\":\"Node\",\"name\":\"%s\",\"uid\":\"%s\"},"
                     "\"reason\":\"EdgeSim\","
                     "\"message\":\"event %" PRIu64 " of a simulated edge",
                     a->node, number, a->node, a->node, number);
    for (size_t i = 0; i < message_bytes; i += 16)
        edge_text_append(t, " and a long tale", message_bytes - i < 16 ? message_bytes - i : 16);
    edge_text_printf(
        t, "\",\"source\":{\"component\":\"kubelet\",\"host\":\"%s\"},\"firstTimestamp\":\"",
        a->node);
    edge_text_time(t, a->wall_us);
    edge_text_str(t, "\",\"lastTimestamp\":\"");
    edge_text_time(t, a->wall_us);
    edge_text_str(
        t, "\",\"count\":1,\"type\":\"Normal\",\"eventTime\":null,\"reportingComponent\":\"\","
           "\"reportingInstance\":\"\"}");
    edge_message_end(t);
}
