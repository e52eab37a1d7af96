/* See answer.h. Texts of the question (its id, its resource) are spliced in as they stood there: they passed the scanner, so
 * they are JSON as they are. Everything else is escaped. */
#include "hub/answer.h"

#include "hub/frame.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- results ---- */

static void set_failure(struct result *result, unsigned code, const char *reason, const char *message);

/* An object that is JSON to its end; notes its version on the way. */
static bool scan_object(const char *body, size_t size, struct text_span *version)
{
    struct jsonscan s;
    struct json_span key, value, found;
    static const char *const path[] = {"resourceVersion", NULL};

    jsonscan_init(&s, body, size);
    *version = (struct text_span){0};
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1) {
        rc = jsonscan_value(&s, &value);
        if (rc != 0 || value.kind != JSON_KIND_OBJECT || !jsonscan_equals(&key, "metadata"))
            continue;
        if (jsonscan_find(value.at, value.size, path, &found) == 0 && found.kind == JSON_KIND_STRING)
            *version = (struct text_span){found.at, found.size};
    }
    return rc == 0 && jsonscan_end(&s) == 0;
}

/* The message of a Status, for where only a text can be said. */
static struct text_span status_message(struct result *result, const char *body, size_t size)
{
    static const char *const path[] = {"message", NULL};
    struct json_span found;
    struct text_span none = {"the API server refused", 22};
    if (jsonscan_find(body, size, path, &found) != 0 || found.kind != JSON_KIND_STRING)
        return none;
    if (!found.has_escapes)
        return (struct text_span){found.at, found.size};
    if (found.size > sizeof(result->own_text))
        return none;
    return (struct text_span){result->own_text, jsonscan_unescape(&found, result->own_text)};
}

static bool is_status(const char *body, size_t size)
{
    static const char *const path[] = {"kind", NULL};
    struct json_span kind;
    return jsonscan_find(body, size, path, &kind) == 0 && jsonscan_equals(&kind, "Status");
}

static void no_answer(struct result *result, const struct apiresponse *response)
{
    if (response->error == -ETIMEDOUT)
        set_failure(result, 504, "Timeout", "the API server did not answer in time");
    else
        set_failure(result, 503, "ServiceUnavailable", apiclient_error_text(response->error));
}

void result_from_response(struct result *result, const struct apiresponse *response)
{
    result->happened = false;
    result->text = (struct text_span){0};
    if (response->error != 0) {
        no_answer(result, response);
        return;
    }
    bool is_good = response->status >= 200 && response->status < 300;
    struct text_span version;
    if (!response->is_json || !scan_object(response->body, response->size, &version)) {
        char message[96];
        snprintf(message, sizeof(message), "the API server answered %u with something that is not a JSON object",
                 response->status);
        set_failure(result, is_good ? 500 : response->status, "InternalError", message);
        result->happened = is_good;
        return;
    }
    result->body = (struct text_span){response->body, response->size};
    result->version = version;
    result->happened = is_good;
    result->kind = is_good ? RESULT_OBJECT : RESULT_FAILURE;
    if (is_good)
        return;
    if (is_status(response->body, response->size)) {
        result->text = status_message(result, response->body, response->size);
        return;
    }
    char message[64];
    snprintf(message, sizeof(message), "the API server answered %u", response->status);
    set_failure(result, response->status, "InternalError", message);
}

void result_ok(struct result *result)
{
    result->kind = RESULT_OK;
    result->body = result->text = result->version = (struct text_span){0};
    result->happened = true;
}

static void set_failure(struct result *result, unsigned code, const char *reason, const char *message)
{
    result->kind = RESULT_FAILURE;
    result->happened = false;
    result->version = (struct text_span){0};
    size_t size = strnlen(message, sizeof(result->own_text) - 1);
    memmove(result->own_text, message, size);
    result->text = (struct text_span){result->own_text, size};

    /* An escape makes six bytes of one at worst, but our messages hold at most a quotation mark here and there. */
    struct writer w = {result->own_status, result->own_status + sizeof(result->own_status)};
    writer_text(&w, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"");
    writer_escaped(&w, result->own_text, size);
    writer_text(&w, "\",\"reason\":\"");
    writer_text(&w, reason);
    char number[32];
    snprintf(number, sizeof(number), "\",\"code\":%u}", code);
    writer_text(&w, number);
    result->body = (struct text_span){result->own_status, (size_t)(w.at - result->own_status)};
}

void result_failure(struct result *result, unsigned code, const char *reason, const char *format, ...)
{
    char message[sizeof(result->own_text)];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    /* What is quoted in here came from an edge: nothing that would need a long escape. */
    for (char *c = message; *c; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
    }
    set_failure(result, code, reason, message);
}

/* ---- envelopes ---- */

/* Fills everything but the payload. */
static void address(struct reply *r, const struct message *question)
{
    *r = (struct reply){
        .mail = {.bytes = question->mail.bytes},
        .to = question->from,
        .kind = question->route.kind,
        .lane = upstream_kinds[question->route.kind].lane,
        .received_ms = question->received_ms,
        .message_bytes = question->mail.bytes,
    };
}

static struct reply *reply_for(const struct message *question, size_t room)
{
    struct reply *r = reply_create(room);
    if (!r)
        return NULL;
    size_t bytes = r->mail.bytes;
    address(r, question);
    r->mail.bytes = bytes;
    return r;
}

struct reply *answer_none(struct message *question, enum reply_outcome outcome)
{
    static_assert(sizeof(struct message) >= sizeof(struct reply) + REPLY_HEADROOM, "the reply fits into its question");
    struct reply head;
    address(&head, question);
    head.outcome = outcome;
    node_name_put(question->node);
    struct reply *r = (struct reply *)(void *)question;
    memcpy(r, &head, sizeof(head));
    return r;
}

/* CloudCore names the version of what it answers in these. */
static bool names_version(enum upstream_kind kind)
{
    switch (kind) {
    case UPSTREAM_NODEPATCH:
    case UPSTREAM_PODPATCH:
    case UPSTREAM_POD_INSERT:
    case UPSTREAM_NODE_UPDATE:
    case UPSTREAM_NODESTATUS_UPDATE:
        return true;
    default:
        return upstream_kinds[kind].answer == ANSWER_PLAIN_OBJECT;
    }
}

static void put_content(struct writer *w, const struct upstream_kind_info *info, enum upstream_kind kind,
                        const struct result *result)
{
    bool failed = result->kind == RESULT_FAILURE;
    if (info->answer == ANSWER_OBJECT_RESP) {
        writer_text(w, failed ? "{\"Object\":null,\"Err\":{\"ErrStatus\":" : "{\"Object\":");
        writer_put(w, result->body.at, result->body.size);
        writer_text(w, failed ? "}}" : ",\"Err\":null}");
    } else if (failed && (kind == UPSTREAM_POD_DELETE || kind == UPSTREAM_PODSTATUS_UPDATE)) {
        writer_text(w, "{\"ErrStatus\":");
        writer_put(w, result->body.at, result->body.size);
        writer_text(w, "}");
    } else if (result->kind == RESULT_OBJECT && info->answer == ANSWER_PLAIN_OBJECT) {
        writer_put(w, result->body.at, result->body.size);
    } else if (failed || result->kind == RESULT_TEXT) {
        writer_text(w, "\"");
        writer_escaped(w, result->text.at, result->text.size);
        writer_text(w, "\"");
    } else {
        writer_text(w, "\"OK\"");
    }
}

/* A failed query is told by the operation, so that EdgeCore does not store the failure as the object (kubeedge-protocol 4.4).
 * A nodestatus of EdgeCore <= 1.11 gets the text as an answer, as from CloudCore. */
static const char *operation_of(const struct upstream_kind_info *info, enum upstream_kind kind,
                                const struct result *result)
{
    bool as_error = result->kind == RESULT_FAILURE &&
                    (info->answer == ANSWER_PLAIN_OBJECT || kind == UPSTREAM_NODE_UPDATE ||
                     kind == UPSTREAM_K8S_CA_QUERY);
    return as_error ? "error" : "response";
}

/* What the edge will store, so that no older version of it follows. */
static void name_object(struct reply *reply, const struct message *question, const struct result *result)
{
    const struct route *r = &question->route;
    if (result->kind != RESULT_OBJECT)
        return;
    reply->object = resource_hash(upstream_kinds[r->kind].object, &r->ns, &r->name);
    reply->object_version = resource_version(result->version.at, result->version.size);
}

struct reply *answer_compose(const struct message *question, const struct result *result, int64_t wall_ms)
{
    enum upstream_kind kind = question->route.kind;
    const struct upstream_kind_info *info = &upstream_kinds[kind];
    assert(info->answer != ANSWER_NONE && result->kind != RESULT_NONE);
    const struct envelope *e = &question->envelope;
    char legacy[RESOURCE_MAX_NAMESPACE + RESOURCE_MAX_NAME + 16], id[UUID_BYTES];
    struct frame frame = {
        .parent = {e->msg_id.at, e->msg_id.size},
        .resource = {e->resource.at, e->resource.size},
        .source = kind == UPSTREAM_K8S_CA_QUERY ? "cloudhub" : "edgecontroller",
        .operation = operation_of(info, kind, result),
    };
    if (names_version(kind))
        frame.version = result->version;
    if (kind == UPSTREAM_NODESTATUS_INSERT || kind == UPSTREAM_NODESTATUS_UPDATE) {
        const struct route *r = &question->route;
        frame.resource.at = legacy;
        frame.resource.size = (size_t)snprintf(legacy, sizeof(legacy), "%.*s/node/%.*s", (int)r->ns.size,
                                               r->ns.at, (int)r->name.size, r->name.at);
    }

    size_t room = FRAME_BYTES + frame.parent.size + frame.version.size + frame.resource.size +
                  result->body.size + 6 * result->text.size;
    struct reply *reply = reply_for(question, room);
    if (!reply)
        return NULL;
    struct writer w = {reply_text(reply), reply_text(reply) + room};
    uuid_make(id);
    frame_begin(&w, &frame, wall_ms, id);
    put_content(&w, info, kind, result);
    frame_end(&w);
    reply->size = (size_t)(w.at - reply_text(reply));
    reply->outcome = REPLY_ANSWERED;
    reply->succeeded = result->happened;
    name_object(reply, question, result);
    return reply;
}
