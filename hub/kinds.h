/* What each upstream kind means: which requests to the API server a message becomes, one after another, and what its answer is.
 * A small state machine for each kind; kubeedge-protocol 4.1 and 4.3 say what CloudCore does
 * (cloud/pkg/edgecontroller/controller/upstream.go), and a comment says so where we differ.
 *
 * Pure: it says what to ask and takes what came back. One thread for each run. */
#ifndef HUB_KINDS_H
#define HUB_KINDS_H

#include "hub/answer.h"
#include "hub/downmessage.h"
#include "hub/message.h"
#include "isthmus/apiclient.h"
#include "isthmus/options.h"

#include <jansson.h>

/* What all runs share; borrowed, constant. */
struct kinds_context {
    bool impersonate;
    const char *impersonate_group; /* sent along with the node's name; NULL: the API server adds it */
    const char *advertise_address; /* for the annotation `cloudcore` */
    const char *replica_id;        /* for the annotation `isthmus.io/replica` */
    const char *ca_pem;            /* of the API server; NULL: none */
    const struct option_list *allowed_node_labels;
    bool bridges_leases; /* renew the lease of a node that is let go */
    bool nudges;         /* and send it its Node, so that it has to write */
};

enum run_verdict {
    RUN_CALL,  /* send `call`, then run_continue() with its response */
    RUN_SLEEP, /* call run_resume() in `sleep_ms` */
    RUN_DONE,  /* `result` is the end; it borrows from the response */
    RUN_BAD_CONTENT, /* an event of which no request can be made (others are answered) */
    RUN_NO_MEMORY
};

/* Steps from here on belong to owns.c. */
#define RUN_STEP_OWNERSHIP 1000

struct run_call {
    const char *method, *content_type;
    char path[RESOURCE_PATH_MAX + 64];
    const char *body; /* borrowed from the message or from the run */
    size_t body_size;
    bool as_node;     /* under the node's identity */
    enum apirequest_retry retry;
};

struct run {
    const struct kinds_context *context;
    const struct message *message;
    unsigned step;    /* meaning by kind */
    unsigned refusals; /* times the API server said 403 to a query */
    unsigned index;   /* of a list that is walked through */
    char *text;       /* owned: a body made for the request */
    size_t text_size;
    json_t *saved;    /* owned: what an earlier step found out */
    uint64_t sleep_ms;
    struct run_call call;
    struct result result;
    enum farewell farewell; /* of a release: how it ended */
    uint64_t asked_ms;      /* of a release: when the lease was asked for last (uv_hrtime ms) */
    bool has_push;    /* to be sent before the answer */
    struct push push;
};

/* Fills `run` (any content before). The message is borrowed until run_end(). */
enum run_verdict run_begin(struct run *run, const struct kinds_context *context, const struct message *message);
/* The response is borrowed until the next call for this run, and by `result` after RUN_DONE. */
enum run_verdict run_continue(struct run *run, const struct apiresponse *response);
enum run_verdict run_resume(struct run *run);
void run_end(struct run *run);

/* ---- for the kinds with more than one step, in files of their own ---- */

/* Serialises `json` (a new reference, taken) into run->text as the next body. */
enum run_verdict run_set_json(struct run *run, json_t *json);
/* Builds the call; the path is that of the message's object, or of its collection. */
enum run_verdict run_call_object(struct run *run, const char *method, enum resource_kind kind, const char *subresource,
                                 bool is_collection);
/* Ends with a failure of our own. Always RUN_DONE. */
enum run_verdict run_fail(struct run *run, unsigned code, const char *reason, const char *what);
/* Ends with what the response says. Always RUN_DONE. */
enum run_verdict run_finish(struct run *run, const struct apiresponse *response);
/* The message's content as JSON, its strings decoded first; NULL: not JSON. Caller frees. */
json_t *run_content_json(const struct run *run);
bool run_is_impersonated(const struct run *run);
bool response_is(const struct apiresponse *response, unsigned status);
bool response_is_good(const struct apiresponse *response);

enum run_verdict node_insert_step(struct run *run, const struct apiresponse *response);
enum run_verdict node_update_step(struct run *run, const struct apiresponse *response);
enum run_verdict nodestatus_update_step(struct run *run, const struct apiresponse *response);
enum run_verdict node_connected_step(struct run *run, const struct apiresponse *response);
/* RUN_DONE leaves in `saved` the lease that was renewed for the node, or NULL. */
enum run_verdict node_release_step(struct run *run, const struct apiresponse *response);
/* A podpatch was answered 404: the edge is told, by a push, that the pod is gone. */
void podpatch_push_delete(struct run *run);
enum run_verdict podstatus_step(struct run *run, const struct apiresponse *response);

/* Whether the hub's own account may do this for the node (hub/owns.c): asked before the first request when the API server
 * cannot be asked by impersonation. RUN_CALL while it needs to look something up; RUN_DONE with a failure; or *allowed. */
enum run_verdict owns_step(struct run *run, const struct apiresponse *response, bool *allowed);
/* Whether a pod is bound to the message's node. */
bool owns_pod(const struct run *run, const json_t *pod);

#endif
