/* See route.h. The table of kinds decides what goes upstream; the questions before it are asked in
 * CloudHub's order, since a message may fit several. */
#include "hub/route.h"

#include <string.h>

#define LANE_NAME(id, text) text,
const char *const lane_names[LANE_COUNT] = {LANES(LANE_NAME)};
#undef LANE_NAME

#define REASON_NAME(id, text) text,
const char *const route_reason_names[ROUTE_REASON_COUNT] = {ROUTE_REASONS(REASON_NAME)};
#undef REASON_NAME

#define KIND_NAME(id, name, ...) name,
const char *const upstream_kind_names[UPSTREAM_KIND_COUNT] = {UPSTREAM_KINDS(KIND_NAME)};
#undef KIND_NAME

#define KIND_INFO(id, name, type, operation, lane, object, rule, answer, is_coalesced)             \
    {name,        type, operation, LANE_##lane, RESOURCE_##object, NAME_##rule, ANSWER_##answer,   \
     is_coalesced},
const struct upstream_kind_info upstream_kinds[UPSTREAM_KIND_COUNT] = {UPSTREAM_KINDS(KIND_INFO)};
#undef KIND_INFO

static bool is_one_of(const struct json_span *s, const char *const *texts)
{
    for (; *texts; texts++)
        if (jsonscan_equals(s, *texts))
            return true;
    return false;
}

static bool begins_with(const struct json_span *s, const char *text)
{
    size_t size = strlen(text);
    return s->size >= size && memcmp(s->at, text, size) == 0;
}

/* Viaduct answers these itself, before CloudHub sees them (pkg/viaduct/pkg/conn). */
static const char *const control_operations[] = {"ping", "pong", "config", NULL};
static const char *const task_operations[] = {"prepull", "upgrade", "UpdateNodeActionStatus", NULL};
static const char *const cloud_sources[] = {"cloudhub",       "cloudStream",    "devicecontroller",
                                            "edgecontroller", "synccontroller", NULL};

/* <ns>/volume/<name>: what the CSI driver asked comes back to it. */
static bool is_volume_resource(const struct json_span *resource)
{
    const char *slash = resource->size ? memchr(resource->at, '/', resource->size) : NULL;
    if (!slash || slash == resource->at)
        return false;
    static const char volume[] = "/volume/";
    size_t left = (size_t)(resource->at + resource->size - slash);
    return left > sizeof(volume) - 1 && memcmp(slash, volume, sizeof(volume) - 1) == 0;
}

static void set(struct route *route, enum route_class class, enum route_reason reason)
{
    route->class = class;
    route->reason = reason;
}

static void set_upstream(struct route *route, enum upstream_kind kind, const struct resource *r)
{
    *route = (struct route){.class = ROUTE_UPSTREAM,
                            .kind = kind,
                            .reason = ROUTE_REASON_NONE,
                            .ns = r->ns,
                            .type = r->type,
                            .name = r->name};
}

/* The kind of a type and an operation; else UPSTREAM_KIND_COUNT and whether at least the type is
 * one of ours. */
static enum upstream_kind find_kind(const struct text_span *type, const struct json_span *operation,
                                    bool *is_known_type)
{
    *is_known_type = false;
    for (int kind = 0; kind < UPSTREAM_KIND_COUNT; kind++) {
        const struct upstream_kind_info *k = &upstream_kinds[kind];
        if (!k->type || !text_span_equals(type, k->type))
            continue;
        *is_known_type = true;
        if (jsonscan_equals(operation, k->operation))
            return (enum upstream_kind)kind;
    }
    return UPSTREAM_KIND_COUNT;
}

static enum route_reason check_name(enum name_rule rule, const struct text_span *name,
                                    const char *node, size_t node_size)
{
    bool is_legal = true;
    switch (rule) {
    case NAME_OWN_NODE:
        if (name->size == node_size && memcmp(name->at, node, node_size) == 0)
            break;
        return name->size ? ROUTE_REASON_FOREIGN_NODE : ROUTE_REASON_BAD_NAME;
    case NAME_SUBDOMAIN:
        is_legal = resource_name_is_subdomain(name);
        break;
    case NAME_OPTIONAL:
        is_legal = name->size == 0 || resource_name_is_subdomain(name);
        break;
    case NAME_SEGMENT:
        is_legal = resource_name_is_segment(name);
        break;
    case NAME_FREE:
        break;
    }
    return is_legal ? ROUTE_REASON_NONE : ROUTE_REASON_BAD_NAME;
}

/* What is left goes to EdgeController, which tells by type and operation. */
static void classify_upstream(const struct envelope *e, const char *node, size_t node_size,
                              struct route *route)
{
    struct resource r;
    bool is_known_type;
    /* As it stands in the text: no legal name needs an escape, and a backslash is refused. */
    if (resource_parse(e->resource.at, e->resource.size, &r) != 0) {
        set(route, ROUTE_REFUSED, ROUTE_REASON_BAD_RESOURCE);
        return;
    }
    enum upstream_kind kind = find_kind(&r.type, &e->operation, &is_known_type);
    if (kind == UPSTREAM_KIND_COUNT) {
        set(route, ROUTE_IGNORED,
            is_known_type ? ROUTE_REASON_BAD_OPERATION : ROUTE_REASON_UNKNOWN_KIND);
        return;
    }
    const struct upstream_kind_info *k = &upstream_kinds[kind];
    enum route_reason reason = check_name(k->name_rule, &r.name, node, node_size);
    if (reason == ROUTE_REASON_NONE && k->object == RESOURCE_LEASE &&
        !text_span_equals(&r.ns, "kube-node-lease"))
        reason = ROUTE_REASON_BAD_NAMESPACE;
    if (reason != ROUTE_REASON_NONE)
        set(route, ROUTE_REFUSED, reason);
    else
        set_upstream(route, kind, &r);
}

static void classify_cluster_ca(struct route *route)
{
    static const struct resource ca = {.ns = {"k8s", 3}, .type = {"ca.crt", 6}};
    set_upstream(route, UPSTREAM_K8S_CA_QUERY, &ca);
}

/* By source: other modules of CloudCore, which are not here, or one that no edge may claim to be.
 */
static void classify_by_source(const struct envelope *e, const char *node, size_t node_size,
                               struct route *route)
{
    if (is_one_of(&e->source, cloud_sources))
        set(route, ROUTE_REFUSED, ROUTE_REASON_RESERVED_SOURCE);
    else if (jsonscan_equals(&e->source, "metaserver"))
        set(route, ROUTE_IGNORED, ROUTE_REASON_METASERVER);
    else if (jsonscan_equals(&e->source, "twin"))
        set(route, ROUTE_IGNORED,
            begins_with(&e->resource, "device/") ? ROUTE_REASON_DEVICE : ROUTE_REASON_TWIN);
    else
        classify_upstream(e, node, node_size, route);
}

void route_classify(const struct envelope *e, const char *node, size_t node_size,
                    struct route *route)
{
    const struct json_span *operation = &e->operation;
    *route = (struct route){.kind = UPSTREAM_KIND_COUNT};
    if (is_one_of(operation, control_operations))
        set(route, ROUTE_CONTROL, ROUTE_REASON_CONTROL);
    else if (jsonscan_equals(operation, "keepalive"))
        set(route, ROUTE_KEEPALIVE, ROUTE_REASON_KEEPALIVE);
    else if (is_volume_resource(&e->resource))
        set(route, ROUTE_IGNORED, ROUTE_REASON_VOLUME);
    else if (jsonscan_equals(operation, "response"))
        set(route, ROUTE_ACK, ROUTE_REASON_ACK);
    else if (jsonscan_equals(operation, "error"))
        set(route, ROUTE_EDGE_ERROR, ROUTE_REASON_EDGE_ERROR);
    else if (jsonscan_equals(operation, "upload") && jsonscan_equals(&e->group, "user"))
        set(route, ROUTE_IGNORED, ROUTE_REASON_UPLOAD);
    else if (is_one_of(operation, task_operations))
        set(route, ROUTE_IGNORED, ROUTE_REASON_NODE_TASK);
    else if (jsonscan_equals(&e->resource, "k8s/ca.crt"))
        classify_cluster_ca(route);
    else if (operation->size == 0 && e->resource.size == 0)
        set(route, ROUTE_IGNORED, ROUTE_REASON_EMPTY);
    else
        classify_by_source(e, node, node_size, route);
}
