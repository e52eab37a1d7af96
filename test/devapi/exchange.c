/* See exchange.h. */
#include "test/devapi/exchange.h"
#include "test/devapi/object.h"
#include "test/devapi/server.h"
#include "test/devapi/stats.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADER_BYTES_MAX (32 * 1024)
#define BODY_BYTES_MAX   (3 * 1024 * 1024) /* as kube-apiserver */

struct dev_exchange *dev_exchange_create(struct dev_server *server, struct dev_conn *conn,
                                         const struct dev_transport *transport)
{
    struct dev_exchange *x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->server = server;
    x->conn = conn;
    x->transport = transport;
    x->waits_in = -1;
    x->length = -1;
    x->query.grace_s = -1;
    return x;
}

void dev_exchange_destroy(struct dev_exchange *x)
{
    dev_server_abandon(x);
    if (x->source)
        x->source->close(x->source);
    free(x->method);
    free(x->target);
    free(x->content_type);
    free(x->accept);
    free(x->authorization);
    free(x->impersonate_user);
    for (unsigned i = 0; i < x->impersonate_group_count; i++)
        free(x->impersonate_groups[i]);
    free(x->query.buffer);
    dev_text_fini(&x->body);
    free(x);
}

static bool is_named(const char *name, size_t size, const char *wanted)
{
    return strlen(wanted) == size && strncasecmp(name, wanted, size) == 0;
}

static bool keep(char **field, const char *value, size_t size)
{
    free(*field);
    *field = strndup(value, size);
    return *field != NULL;
}

bool dev_exchange_header(struct dev_exchange *x, const char *name, size_t name_size,
                         const char *value, size_t value_size)
{
    x->header_bytes += name_size + value_size + 32;
    if (x->header_bytes > HEADER_BYTES_MAX)
        return false;
    if (is_named(name, name_size, ":method"))
        return keep(&x->method, value, value_size);
    if (is_named(name, name_size, ":path"))
        return keep(&x->target, value, value_size);
    if (is_named(name, name_size, "content-type"))
        return keep(&x->content_type, value, value_size);
    if (is_named(name, name_size, "accept"))
        return keep(&x->accept, value, value_size);
    if (is_named(name, name_size, "authorization"))
        return keep(&x->authorization, value, value_size);
    if (is_named(name, name_size, "impersonate-user"))
        return keep(&x->impersonate_user, value, value_size);
    if (is_named(name, name_size, "impersonate-group")) {
        if (x->impersonate_group_count == DEV_GROUPS_MAX)
            return false;
        return keep(&x->impersonate_groups[x->impersonate_group_count++], value, value_size);
    }
    return true;
}

bool dev_exchange_body(struct dev_exchange *x, const char *bytes, size_t size)
{
    if (x->body.size + size > BODY_BYTES_MAX) {
        x->is_body_too_large = true;
        return true; /* the rest is read and forgotten, so that the client gets its answer */
    }
    if (!x->is_body_too_large)
        dev_text_add(&x->body, bytes, size);
    return !x->body.failed;
}

/* ---- sources ---- */

struct text_source {
    struct dev_source source;
    struct dev_text text;
    struct dev_object *object; /* instead of text */
    size_t sent;
};

static size_t text_read(struct dev_source *source, char *to, size_t size, bool *is_end)
{
    struct text_source *t = (struct text_source *)source;
    const char *bytes = t->object ? t->object->json : t->text.at;
    size_t total = t->object ? t->object->size : t->text.size;
    size_t n = total - t->sent < size ? total - t->sent : size;
    if (n > 0)
        memcpy(to, bytes + t->sent, n);
    t->sent += n;
    *is_end = t->sent == total;
    return n;
}

static void text_close(struct dev_source *source)
{
    struct text_source *t = (struct text_source *)source;
    dev_text_fini(&t->text);
    dev_object_put(t->object);
    free(t);
}

static void respond(struct dev_exchange *x)
{
    assert(!x->is_answered);
    x->is_answered = true;
    dev_stats_answered(x);
    if (x->resets_after)
        x->transport->reset(x);
    else
        x->transport->respond(x);
}

static void answer_fixed(struct dev_exchange *x, unsigned status, const char *content_type,
                         struct dev_text *text, struct dev_object *object)
{
    struct text_source *t = calloc(1, sizeof(*t));
    if (!t || (text && text->failed)) {
        free(t);
        if (text)
            dev_text_fini(text);
        x->transport->reset(x);
        return;
    }
    t->source.read = text_read;
    t->source.close = text_close;
    if (text) {
        t->text = *text;
        *text = (struct dev_text){0};
    }
    if (object)
        t->object = dev_object_get(object);
    x->status = status;
    x->reply_type = content_type;
    x->source = &t->source;
    x->length = (int64_t)(object ? object->size : t->text.size);
    respond(x);
}

void dev_answer_text(struct dev_exchange *x, unsigned status, const char *content_type,
                     struct dev_text *body)
{
    answer_fixed(x, status, content_type, body, NULL);
}

void dev_answer_string(struct dev_exchange *x, unsigned status, const char *body)
{
    struct dev_text text = {0};
    dev_text_str(&text, body);
    dev_answer_text(x, status, "text/plain; charset=utf-8", &text);
}

void dev_answer_object(struct dev_exchange *x, unsigned status, struct dev_object *o)
{
    answer_fixed(x, status, "application/json", NULL, o);
}

void dev_answer_error(struct dev_exchange *x, const struct dev_error *e)
{
    struct dev_text text = {0};
    dev_error_write(e, &text);
    x->retry_after_s = e->code == 429 || e->code == 503 ? e->retry_after_s : 0;
    dev_answer_text(x, e->code, "application/json", &text);
}

void dev_answer_source(struct dev_exchange *x, struct dev_source *source)
{
    x->status = 200;
    x->reply_type = "application/json";
    x->source = source;
    respond(x);
}

void dev_exchange_wake(struct dev_exchange *x)
{
    x->transport->wake(x);
}

/* ---- query ---- */

static bool is_true(const char *value)
{
    return strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
}

static int set_number(const char *value, uint64_t *to)
{
    char *end;
    if (value[0] < '0' || value[0] > '9')
        return value[0] ? -EINVAL : 0;
    errno = 0;
    *to = strtoull(value, &end, 10);
    return *end || errno ? -EINVAL : 0;
}

static int set_parameter(struct dev_query *q, const char *key, const char *value)
{
    const struct {
        const char *key;
        const char **to;
    } strings[] = {
        {"labelSelector", &q->label_selector},
        {"fieldSelector", &q->field_selector},
        {"continue", &q->continue_},
        {"resourceVersion", &q->resource_version},
        {"resourceVersionMatch", &q->resource_version_match},
        {"propagationPolicy", &q->propagation},
        {"dryRun", &q->dry_run},
        {"kind", &q->kind},
        {"user", &q->user},
        {"name", &q->name},
        {"summary", &q->summary},
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        if (strcmp(key, strings[i].key) == 0) {
            *strings[i].to = value[0] ? value : NULL;
            return 0;
        }
    }
    if (strcmp(key, "watch") == 0)
        q->is_watch = is_true(value);
    else if (strcmp(key, "allowWatchBookmarks") == 0)
        q->wants_bookmarks = is_true(value);
    else if (strcmp(key, "sendInitialEvents") == 0)
        q->wants_initial_events = is_true(value);
    else if (strcmp(key, "limit") == 0)
        return set_number(value, &q->limit);
    else if (strcmp(key, "timeoutSeconds") == 0)
        return set_number(value, &q->timeout_s);
    else if (strcmp(key, "gracePeriodSeconds") == 0) {
        uint64_t grace = 0;
        int rc = set_number(value, &grace);
        q->grace_s = grace > 1000000 ? 1000000 : (long)grace;
        return rc;
    }
    return 0;
}

int dev_query_parse(struct dev_query *q, const char *text)
{
    if (!*text)
        return 0;
    q->buffer = strdup(text);
    if (!q->buffer)
        return -ENOMEM;
    char *rest = q->buffer, *pair;
    while ((pair = strsep(&rest, "&"))) {
        char *value = strchr(pair, '=');
        if (value)
            *value++ = '\0';
        long size = value ? dev_percent_decode(value, strlen(value), true) : 0;
        long key_size = dev_percent_decode(pair, strlen(pair), true);
        if (size < 0 || key_size < 0)
            return -EINVAL;
        if (value)
            value[size] = '\0';
        pair[key_size] = '\0';
        int rc = set_parameter(q, pair, value ? value : "");
        if (rc != 0)
            return rc;
    }
    return 0;
}
