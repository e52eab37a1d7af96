/* See handler.h. */
#include "test/devapi/handler.h"
#include "test/devapi/auth.h"
#include "test/devapi/authz.h"
#include "test/devapi/faults.h"
#include "test/devapi/server.h"
#include "test/devapi/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONTROL "/devapi/"

static void answer_unknown_path(struct dev_exchange *x)
{
    struct dev_error e;
    dev_error_plain(&e, 404, "NotFound", "the server could not find the requested resource");
    dev_answer_error(x, &e);
}

/* Takes the target apart. NULL: it was answered. */
static char *split_target(struct dev_exchange *x)
{
    struct dev_error e;
    if (!x->method || !x->target || x->target[0] != '/') {
        dev_error_bad_request(&e, "no method or path");
        dev_answer_error(x, &e);
        return NULL;
    }
    char *query = strchr(x->target, '?');
    if (query)
        *query++ = '\0';
    int rc = dev_query_parse(&x->query, query ? query : "");
    if (rc == 0)
        return x->target;
    if (rc == -ENOMEM)
        dev_error_no_memory(&e);
    else
        dev_error_bad_request(&e, "invalid query");
    dev_answer_error(x, &e);
    return NULL;
}

static int verb_of(const struct dev_exchange *x, enum dev_verb *verb)
{
    bool has_name = x->path.name[0] != '\0';
    if (strcmp(x->method, "GET") == 0)
        *verb = x->query.is_watch && !has_name ? DEV_WATCH : has_name ? DEV_GET : DEV_LIST;
    else if (strcmp(x->method, "POST") == 0 && (!has_name || x->path.subresource[0]))
        *verb = DEV_CREATE;
    else if (strcmp(x->method, "PUT") == 0 && has_name)
        *verb = DEV_UPDATE;
    else if (strcmp(x->method, "PATCH") == 0 && has_name)
        *verb = DEV_PATCH;
    else if (strcmp(x->method, "DELETE") == 0)
        *verb = has_name ? DEV_DELETE : DEV_DELETECOLLECTION;
    else
        return -ENOTSUP;
    return 0;
}

static bool has_subresource(const struct dev_path *p)
{
    const char *s = p->subresource;
    if (!s[0])
        return true;
    if (strcmp(s, "status") == 0)
        return p->kind->has_status;
    return (strcmp(s, "token") == 0 && p->kind->index == DEV_SERVICEACCOUNT) ||
           (strcmp(s, "approval") == 0 && p->kind->index == DEV_CSR) ||
           (strcmp(s, "binding") == 0 && p->kind->index == DEV_POD);
}

/* Selectors are needed to authorize a list, and by the list itself. */
static bool parse_selector(struct dev_exchange *x, struct dev_selector **selector,
                           struct dev_error *e)
{
    struct errbuf why = {{0}};
    *selector = NULL;
    int rc = dev_selector_parse(x->path.kind, x->query.label_selector, x->query.field_selector,
                                selector, &why);
    if (rc == 0)
        return true;
    if (rc == -ENOMEM)
        dev_error_no_memory(e);
    else
        dev_error_bad_request(e,
                              "Unable to find \"%s, Resource=%s\" that match label selector "
                              "\"%.200s\", field selector \"%.200s\": %.300s",
                              x->path.kind->api_version, x->path.kind->plural,
                              x->query.label_selector ? x->query.label_selector : "",
                              x->query.field_selector ? x->query.field_selector : "", why.text);
    return false;
}

static bool may(struct dev_exchange *x, struct dev_error *e)
{
    struct dev_selector *selector = NULL;
    bool selects = x->verb == DEV_LIST || x->verb == DEV_WATCH;
    if (selects && !parse_selector(x, &selector, e))
        return false;
    const struct dev_request r = {
        .user = x->user, .node = x->node, .verb = x->verb, .path = &x->path, .selector = selector};
    bool is_allowed = dev_authorize(x->server->store, &r, e);
    dev_selector_free(selector);
    return is_allowed;
}

static void handle_resource(struct dev_exchange *x)
{
    struct dev_error e;
    if (verb_of(x, &x->verb) != 0 || !has_subresource(&x->path)) {
        if (!has_subresource(&x->path))
            dev_error_plain(&e, 404, "NotFound",
                            "the server could not find the requested resource");
        else
            dev_error_plain(&e, 405, "MethodNotAllowed",
                            "the server does not allow this method on the requested resource");
        dev_answer_error(x, &e);
        return;
    }
    struct dev_server *server = x->server;
    struct dev_fate fate =
        dev_faults_decide(&server->faults, x->path.kind, x->verb, &server->random_state);
    x->outcome = (int)fate.outcome;
    if (fate.goes_away)
        x->transport->goaway(x);
    if (fate.delay_ms == 0) {
        dev_handle_ready(x);
        return;
    }
    bool is_stall = dev_verb_is_write(x->verb) && server->faults.stall_ms[x->path.kind->index] > 0;
    dev_server_wait(x, is_stall ? (int)x->path.kind->index : DEV_KIND_COUNT, fate.delay_ms);
}

void dev_handle(struct dev_exchange *x)
{
    struct dev_error e;
    char *path = split_target(x);
    if (!path || dev_handle_discovery(x, path))
        return;
    if (!dev_authenticate(x, &e)) {
        dev_answer_error(x, &e);
        return;
    }
    if (strncmp(path, CONTROL, sizeof(CONTROL) - 1) == 0 && !x->node) {
        dev_handle_control(x, path + sizeof(CONTROL) - 1);
        return;
    }
    int rc = dev_path_parse(path, strlen(path), &x->path);
    if (rc != 0) {
        x->path.kind = NULL;
        answer_unknown_path(x);
        return;
    }
    if (x->is_body_too_large) {
        dev_error_plain(&e, 413, "RequestEntityTooLarge",
                        "Request entity too large: limit is 3145728");
        dev_answer_error(x, &e);
        return;
    }
    handle_resource(x);
}

static bool has_fault(struct dev_exchange *x)
{
    struct dev_error e;
    switch ((enum dev_outcome)x->outcome) {
    case DEV_SERVE:
        return false;
    case DEV_RESET_AFTER:
        x->resets_after = true;
        return false;
    case DEV_RESET_BEFORE:
        x->transport->reset(x);
        return true;
    case DEV_THROTTLE:
        dev_error_plain(&e, 429, "TooManyRequests", "Too many requests, please try again later.");
        e.retry_after_s = (unsigned)x->server->faults.retry_after_s;
        break;
    case DEV_FAIL:
        dev_error_plain(&e, 500, "InternalError", "Internal error occurred: a fault on demand");
        snprintf(e.cause_message, sizeof(e.cause_message), "a fault on demand");
        break;
    }
    dev_answer_error(x, &e);
    return true;
}

static void handle_watch(struct dev_exchange *x)
{
    struct dev_error e;
    struct dev_selector *selector;
    if (parse_selector(x, &selector, &e))
        dev_handle_watch(x, selector);
    else
        dev_answer_error(x, &e);
}

void dev_handle_ready(struct dev_exchange *x)
{
    struct dev_error e;
    if (has_fault(x))
        return;
    if (!may(x, &e)) {
        dev_answer_error(x, &e);
        return;
    }
    switch (x->verb) {
    case DEV_GET:
        dev_handle_get(x);
        break;
    case DEV_LIST:
        dev_handle_list(x);
        break;
    case DEV_WATCH:
        handle_watch(x);
        break;
    case DEV_CREATE:
        dev_handle_create(x);
        break;
    case DEV_UPDATE:
        dev_handle_update(x);
        break;
    case DEV_PATCH:
        dev_handle_patch(x);
        break;
    case DEV_DELETE:
        dev_handle_delete(x);
        break;
    case DEV_DELETECOLLECTION:
        dev_handle_delete_collection(x);
        break;
    case DEV_VERB_COUNT:
        break;
    }
}
