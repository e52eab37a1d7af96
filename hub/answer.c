/* See answer.h. Texts of the question (its id, its resource) are spliced in as they stood there: they passed the scanner, so
 * they are JSON as they are. Everything else is escaped. */
#include "hub/answer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* The fixed words of an envelope, a UUID and two numbers. */
#define ENVELOPE_BYTES 512
#define UUID_BYTES     37

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

/* ---- writing ---- */

struct writer {
    char *at, *end;
};

static void put(struct writer *w, const char *bytes, size_t size)
{
    assert((size_t)(w->end - w->at) >= size); /* the room was computed before */
    memcpy(w->at, bytes, size);
    w->at += size;
}

static void put_text(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static void put_escaped(struct writer *w, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        char escape[8];
        if (c == '"' || c == '\\') {
            put(w, "\\", 1);
            put(w, text + i, 1);
        } else if (c < 0x20) {
            put(w, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", c));
        } else {
            put(w, text + i, 1);
        }
    }
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
    put_text(&w, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"");
    put_escaped(&w, result->own_text, size);
    put_text(&w, "\",\"reason\":\"");
    put_text(&w, reason);
    char number[32];
    snprintf(number, sizeof(number), "\",\"code\":%u}", code);
    put_text(&w, number);
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

/* ---- message ids ---- */

/* Random bytes by the page: a system call for each id would cost more than the rest of an answer. */
static const unsigned char *random_bytes(size_t size)
{
    static _Thread_local unsigned char pool[2048];
    static _Thread_local size_t used = sizeof(pool);
    if (used + size > sizeof(pool)) {
        for (size_t got = 0; got < sizeof(pool);) {
            ssize_t n = getrandom(pool + got, sizeof(pool) - got, 0);
            if (n > 0)
                got += (size_t)n;
            else
                assert(errno == EINTR);
        }
        used = 0;
    }
    used += size;
    return pool + used - size;
}

/* RFC 9562, version 4. */
static void make_uuid(char to[UUID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char b[16];
    memcpy(b, random_bytes(sizeof(b)), sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = digits[b[i] >> 4];
        *to++ = digits[b[i] & 0x0f];
    }
    *to = '\0';
}

/* ---- envelopes ---- */

struct frame {
    struct text_span parent, version, resource;
    const char *source, *operation;
};

static void put_head(struct writer *w, const struct frame *f, int64_t wall_ms)
{
    char id[UUID_BYTES], number[32];
    make_uuid(id);
    put_text(w, "{\"header\":{\"msg_id\":\"");
    put(w, id, UUID_BYTES - 1);
    if (f->parent.size > 0) {
        put_text(w, "\",\"parent_msg_id\":\"");
        put(w, f->parent.at, f->parent.size);
    }
    put(w, number, (size_t)snprintf(number, sizeof(number), "\",\"timestamp\":%" PRId64, wall_ms));
    if (f->version.size > 0) {
        put_text(w, ",\"resourceversion\":\"");
        put(w, f->version.at, f->version.size);
        put_text(w, "\"");
    }
    put_text(w, "},\"route\":{\"source\":\"");
    put_text(w, f->source);
    put_text(w, "\",\"group\":\"resource\",\"operation\":\"");
    put_text(w, f->operation);
    put_text(w, "\",\"resource\":\"");
    put(w, f->resource.at, f->resource.size);
    put_text(w, "\"},\"content\":");
}

static void put_tail(struct writer *w)
{
    put_text(w, "}\n");
}

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
        put_text(w, failed ? "{\"Object\":null,\"Err\":{\"ErrStatus\":" : "{\"Object\":");
        put(w, result->body.at, result->body.size);
        put_text(w, failed ? "}}" : ",\"Err\":null}");
    } else if (failed && (kind == UPSTREAM_POD_DELETE || kind == UPSTREAM_PODSTATUS_UPDATE)) {
        put_text(w, "{\"ErrStatus\":");
        put(w, result->body.at, result->body.size);
        put_text(w, "}");
    } else if (result->kind == RESULT_OBJECT && info->answer == ANSWER_PLAIN_OBJECT) {
        put(w, result->body.at, result->body.size);
    } else if (failed || result->kind == RESULT_TEXT) {
        put_text(w, "\"");
        put_escaped(w, result->text.at, result->text.size);
        put_text(w, "\"");
    } else {
        put_text(w, "\"OK\"");
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

struct reply *answer_compose(const struct message *question, const struct result *result, int64_t wall_ms)
{
    enum upstream_kind kind = question->route.kind;
    const struct upstream_kind_info *info = &upstream_kinds[kind];
    assert(info->answer != ANSWER_NONE && result->kind != RESULT_NONE);
    const struct envelope *e = &question->envelope;
    char legacy[RESOURCE_MAX_NAMESPACE + RESOURCE_MAX_NAME + 16];
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

    size_t room = ENVELOPE_BYTES + frame.parent.size + frame.version.size + frame.resource.size +
                  result->body.size + 6 * result->text.size;
    struct reply *reply = reply_for(question, room);
    if (!reply)
        return NULL;
    struct writer w = {reply_text(reply), reply_text(reply) + room};
    put_head(&w, &frame, wall_ms);
    put_content(&w, info, kind, result);
    put_tail(&w);
    reply->size = (size_t)(w.at - reply_text(reply));
    reply->outcome = REPLY_ANSWERED;
    reply->succeeded = result->happened;
    return reply;
}

struct reply *answer_push(const struct message *question, const struct push *push, int64_t wall_ms)
{
    char resource[RESOURCE_MAX_NAMESPACE + RESOURCE_MAX_NAME + RESOURCE_MAX_TYPE + 4];
    int size = snprintf(resource, sizeof(resource), "%.*s/%s/%.*s", (int)push->ns.size, push->ns.at, push->type,
                        (int)push->name.size, push->name.at);
    assert(size > 0 && (size_t)size < sizeof(resource));
    struct frame frame = {
        .version = push->version,
        .resource = {resource, (size_t)size},
        .source = "edgecontroller",
        .operation = push->operation,
    };
    size_t room = ENVELOPE_BYTES + (size_t)size + push->version.size + push->content.size;
    struct reply *reply = reply_for(question, room);
    if (!reply)
        return NULL;
    struct writer w = {reply_text(reply), reply_text(reply) + room};
    put_head(&w, &frame, wall_ms);
    put(&w, push->content.at, push->content.size);
    put_tail(&w);
    reply->size = (size_t)(w.at - reply_text(reply));
    reply->outcome = REPLY_PUSH;
    reply->message_bytes = 0;
    return reply;
}
