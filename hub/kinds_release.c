/* Preparing the release of a node (see release.h): its lease is renewed for it once, which also
 * shows whether the hub can go on doing so, and its Node is read, which is what the node is sent so
 * that it has to write.
 *
 *     GET lease -> PUT lease -> GET node
 *
 * Failure modes: a Node that is kept by annotation, or that cannot be read, is not released, except
 * in a drain, where it must leave and its lease matters as much as any other's; a lease that cannot
 * be renewed only means that the node goes without it (saved is NULL then). */
#include "hub/kinds.h"
#include "hub/lease.h"

#include <string.h>

#define ANNOTATION_KEEP "isthmus.io/keep"

enum { RELEASE_READ_LEASE, RELEASE_RENEW_LEASE, RELEASE_READ_NODE };

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static enum run_verdict read_node(struct run *run)
{
    run->step = RELEASE_READ_NODE;
    return run_call_object(run, "GET", RESOURCE_NODE, NULL, false);
}

static void forget_lease(struct run *run)
{
    json_decref(run->saved);
    run->saved = NULL;
}

static enum run_verdict read_lease(struct run *run)
{
    run->step = RELEASE_READ_LEASE;
    run->asked_ms = now_ms();
    return run_call_object(run, "GET", RESOURCE_LEASE, NULL, false);
}

static enum run_verdict renew_lease(struct run *run, const struct apiresponse *response)
{
    forget_lease(run);
    if (response_is_good(response))
        run->saved = json_loadb(response->body, response->size, 0, NULL);
    if (!run->saved || lease_advance(run->saved, now_ms() - run->asked_ms + 1) != 0) {
        forget_lease(run);
        return read_node(run);
    }
    run->asked_ms = now_ms(); /* where its renewTime stands now */
    run->step = RELEASE_RENEW_LEASE;
    enum run_verdict v = run_call_object(run, "PUT", RESOURCE_LEASE, NULL, false);
    run->call.content_type = "application/json";
    run->call.retry = API_RETRY_UNSENT;
    return v == RUN_CALL ? run_set_json(run, json_incref(run->saved)) : v;
}

/* What the API server made of it carries the version that the next renewal needs. */
static enum run_verdict after_renewal(struct run *run, const struct apiresponse *response)
{
    forget_lease(run);
    if (response_is_good(response))
        run->saved = json_loadb(response->body, response->size, 0, NULL);
    return read_node(run);
}

static bool is_kept(const struct apiresponse *response)
{
    json_t *node = json_loadb(response->body, response->size, 0, NULL);
    json_t *annotations = json_object_get(json_object_get(node, "metadata"), "annotations");
    bool is = json_object_get(annotations, ANNOTATION_KEEP) != NULL;
    json_decref(node);
    return is;
}

static enum run_verdict end(struct run *run, enum farewell farewell)
{
    run->farewell = farewell;
    if (farewell != FAREWELL_GO)
        forget_lease(run);
    result_ok(&run->result);
    run->result.kind = RESULT_NONE;
    return RUN_DONE;
}

/* As the Node is pushed on every connect (kubeedge-protocol 5.1): `null/node/NAME`, update. Older
 * EdgeCores store it and acknowledge it too. */
static enum run_verdict after_node(struct run *run, const struct apiresponse *response)
{
    struct result node;
    result_from_response(&node, response);
    bool must_leave = run->message->must_leave;
    if (node.kind != RESULT_OBJECT)
        return end(run, must_leave ? FAREWELL_GO : FAREWELL_FAILED);
    if (!must_leave && is_kept(response))
        return end(run, FAREWELL_KEPT);
    run->has_push = run->context->nudges;
    run->push = (struct push){.operation = "update",
                              .ns = {"null", 4},
                              .type = "node",
                              .name = run->message->route.name,
                              .version = node.version,
                              .content = node.body};
    return end(run, FAREWELL_GO);
}

enum run_verdict node_release_step(struct run *run, const struct apiresponse *response)
{
    if (!response)
        return run->context->bridges_leases ? read_lease(run) : read_node(run);
    switch (run->step) {
    case RELEASE_READ_LEASE:
        return renew_lease(run, response);
    case RELEASE_RENEW_LEASE:
        return after_renewal(run, response);
    default:
        return after_node(run, response);
    }
}
