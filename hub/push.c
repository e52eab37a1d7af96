/* One push: from the item whose turn it is to the message that its edge acknowledges. See
 * delivery.h for the steps.
 *
 * Failure modes: a request that fails or an answer that is too old puts the item back, to take its
 * turn again after a while; an object that turns out to be gone is left to the watch, which will
 * say so; a session that goes while a request is under way leaves the request to end for nobody
 * (preparation.v is NULL then). */
#include "hub/delivery.h"

#include "hub/downmessage.h"
#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/syncrecord.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALL_DEADLINE_MS 15000

enum step {
    STEP_RECORD,  /* create the record */
    STEP_COMPARE, /* it was there already: what does it say? */
    STEP_READ,    /* the object, at least at the version wanted */
    STEP_CONFIRM  /* that it is gone */
};

struct preparation {
    struct downstream *d;
    struct delivery *v; /* NULL: its session is gone */
    struct want_link *link;
    enum step step;
    char body[SYNCRECORD_BYTES]; /* borrowed by the request */
};

static struct want_link *link_of(struct push_item *item)
{
    return (struct want_link *)(void *)item; /* its first member */
}

static struct want_link *current(const struct delivery *v)
{
    return link_of(v->queue.current);
}

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- content ---- */

struct content *content_create(struct downstream *d, const char *json, size_t size,
                               uint64_t version)
{
    if (d->content_bytes + sizeof(struct content) + size > CONTENT_BYTES)
        return NULL;
    struct content *c = malloc(sizeof(*c) + size);
    if (!c)
        return NULL;
    *c = (struct content){.refs = 1, .version = version, .size = size};
    memcpy(c->text, json, size);
    d->content_bytes += sizeof(*c) + size;
    return c;
}

void content_put(struct downstream *d, struct content *c)
{
    if (!c || --c->refs > 0)
        return;
    d->content_bytes -= sizeof(*c) + c->size;
    free(c);
}

/* The object's own, with a new reference; made, and kept by the object, if it has none of this
 * version. */
static struct content *share_content(struct downstream *d, struct want_object *o, const char *json,
                                     size_t size, uint64_t version)
{
    struct content *c = o->body;
    if (!c || c->version != version) {
        c = content_create(d, json, size, version);
        if (!c)
            return NULL;
        content_put(d, o->body);
        o->body = c;
    }
    c->refs++;
    return c;
}

void push_settle(struct downstream *d, struct want_link *l)
{
    struct want_object *o = l->object;
    bool is_pending = l->node->session && l->item.op != PUSH_NOTHING;
    bool was_pending = (l->work & LINK_PENDING) != 0;
    if (is_pending != was_pending) {
        l->work ^= LINK_PENDING;
        o->waiting += is_pending ? 1u : -1u;
        d->waiting += is_pending ? 1u : -(uint64_t)1;
    }
    if (o->waiting > 0 || !o->body)
        return;
    content_put(d, o->body);
    o->body = NULL;
}

/* ---- ends of a preparation ---- */

static void skip(struct downstream *d, struct delivery *v)
{
    struct want_link *l = current(v);
    pushqueue_skip(&v->queue);
    push_settle(d, l);
}

static void put_back(struct downstream *d, struct delivery *v, const char *why)
{
    struct want_link *l = current(v);
    count(PUSHES, PUSHED_FAILED, 1);
    log_limited(LOG_LEVEL_INFO, "push_failed", F_STR("node", v->node->text),
                F_STR("type", syncrecord_type((enum resource_kind)l->object->kind)),
                F_STRN("name", l->object->text + l->object->ns_size, l->object->name_size),
                F_STR("why", why));
    pushqueue_back(&v->queue, down_now(d));
    push_settle(d, l);
}

/* ---- sending ---- */

static const char *operation_of(const struct want_link *l, enum push_op op)
{
    const struct want_object *o = l->object;
    if (op == PUSH_DELETE)
        return "delete";
    bool is_new = l->item.acked == 0 && l->item.seen == 0;
    bool has_insert = o->kind == RESOURCE_POD ||
                      o->kind == RESOURCE_CONFIGMAP; /* CloudCore updates Secrets always */
    return is_new && has_insert && !o->is_terminating ? "insert" : "update";
}

/* `version` is that of the content; 0: it says none. The same arguments and the same flight give
 * the same bytes. */
static int write_message(struct downstream *d, struct delivery *v, const struct flight *f,
                         const char *json, size_t size, uint64_t version)
{
    const struct want_object *o = current(v)->object;
    struct want_key key = want_object_key(o);
    char version_text[24];
    int version_size =
        version ? snprintf(version_text, sizeof(version_text), "%llu", (unsigned long long)version)
                : 0;
    bool is_set = v->queue.op == PUSH_SET;
    const struct push push = {
        .operation = f->operation,
        .ns = key.ns.size > 0 ? key.ns : (struct text_span){"null", 4},
        .name = key.name,
        .type = syncrecord_type(key.kind),
        .version = {version_text, (size_t)version_size},
        .content = {json, size},
        .object = is_set ? resource_hash(key.kind, &key.ns, &key.name) : 0,
        .object_version = is_set ? version : 0,
    };
    struct reply *r = downmessage_compose(&push, v->session, f->id, f->wall_ms);
    if (!r)
        return -ENOMEM;
    hub_deliver(d->hub, r);
    return 0;
}

/* Takes `c`, which may be NULL: then the message cannot be written again. */
static void send_first(struct downstream *d, struct delivery *v, struct content *c,
                       const char *json, size_t size, uint64_t version)
{
    struct flight *f = malloc(sizeof(*f));
    if (f) {
        *f = (struct flight){.content = c,
                             .wall_ms = wall_ms(),
                             .sent_ms = down_now(d),
                             .operation = operation_of(current(v), v->queue.op)};
        uuid_make(f->id);
    }
    if (!f || write_message(d, v, f, json, size, version) != 0) {
        free(f);
        content_put(d, c);
        put_back(d, v, "no memory");
        return;
    }
    bool is_set = v->queue.op == PUSH_SET;
    pushqueue_sent(&v->queue, uuid_key(f->id, UUID_BYTES - 1), is_set ? version : 0, f->sent_ms);
    v->flight = f;
    count(PUSHES, PUSHED_SENT, 1);
    d->in_flight++;
}

static void send_set(struct downstream *d, struct delivery *v, const char *json, size_t size,
                     uint64_t version)
{
    struct content *c = share_content(d, current(v)->object, json, size, version);
    send_first(d, v, c, json, size, version);
}

/* With the last state of the object where the watch has just brought it, as EdgeController sends
 * it; else as SyncController. */
static void send_delete(struct downstream *d, struct delivery *v)
{
    struct want_object *o = current(v)->object;
    struct content *c = NULL;
    char tombstone[DOWNMESSAGE_TOMBSTONE_BYTES], uid[WANT_UID_TEXT + 1];
    if (d->event.object == o)
        c = content_create(d, d->event.json, d->event.size, d->event.version);
    if (!c) {
        struct want_key key = want_object_key(o);
        struct text_span ns = key.ns.size > 0 ? key.ns : (struct text_span){"null", 4};
        want_uid_format(&o->uid, uid);
        c = content_create(d, tombstone, downmessage_tombstone(&ns, &key.name, uid, tombstone), 0);
    }
    if (c)
        send_first(d, v, c, c->text, c->size, c->version);
    else
        put_back(d, v, "no memory");
}

void push_land(struct downstream *d, struct delivery *v)
{
    content_put(d, v->flight->content);
    free(v->flight);
    v->flight = NULL;
    d->in_flight--;
}

void push_resend(struct downstream *d, struct delivery *v)
{
    struct want_link *l = current(v);
    const struct content *c = v->flight->content;
    count(PUSHES, PUSHED_RESENT, 1);
    if (l->item.acked == 0 && l->has_record && l->recorded == 0 && v->queue.op == PUSH_SET) {
        l->work |= LINK_WANTS_ZERO; /* which CloudCore takes for not delivered yet; it passes over
                                       an empty status */
        recorder_note(d, l);
    }
    if (c && write_message(d, v, v->flight, c->text, c->size, c->version) == 0)
        return;
    pushqueue_refused(&v->queue, v->queue.id, 0); /* its content was not kept: it is made anew */
    push_land(d, v);
}

/* ---- requests ---- */

static void prepare(struct downstream *d, struct delivery *v);

static void line_up(struct downstream *d, struct delivery *v)
{
    v->next_in_line = NULL;
    v->is_in_line = true;
    *d->line_tail = v;
    d->line_tail = &v->next_in_line;
}

static void leave_line(struct downstream *d, struct delivery *v)
{
    struct delivery **at = &d->line_head;
    if (!v->is_in_line)
        return;
    while (*at != v)
        at = &(*at)->next_in_line;
    *at = v->next_in_line;
    if (!*at)
        d->line_tail = at;
    v->is_in_line = false;
}

static void serve_line(struct downstream *d)
{
    while (d->line_head && d->calls < MAX_CALLS && !d->is_closing) {
        struct delivery *v = d->line_head;
        leave_line(d, v);
        prepare(d, v);
        push_next(d, v);
    }
}

static void on_response(void *context, const struct apiresponse *response);

static void fill_request(struct preparation *p, struct apirequest *request, char *path)
{
    const struct want_link *l = p->link;
    struct want_key key = want_object_key(l->object);
    size_t size = 0;
    switch (p->step) {
    case STEP_RECORD:
        syncrecord_path(SYNCRECORD_COLLECTION, l->node->text, l->object, path);
        request->method = "POST";
        request->content_type = "application/json";
        request->body_size = syncrecord_body(l->node->text, l->object, p->body);
        request->body = p->body;
        request->retry = API_RETRY_UNSENT;
        return;
    case STEP_COMPARE:
        syncrecord_path(SYNCRECORD_OBJECT, l->node->text, l->object, path);
        return;
    case STEP_READ:
    case STEP_CONFIRM: {
        int rc = resource_api_path(key.kind, &key.ns, &key.name, NULL, path, RESOURCE_PATH_MAX);
        assert(rc > 0);
        size = (size_t)rc;
        break;
    }
    }
    /* Not older than this, from the API server's cache; without it, from etcd itself. */
    if (p->step == STEP_READ)
        snprintf(path + size, 64, "?resourceVersion=%llu",
                 (unsigned long long)pushqueue_floor(&l->item));
}

/* False: none may be begun now, or there is no memory; then `v` is in line or put back. */
static void call(struct downstream *d, struct delivery *v, enum step step)
{
    char path[SYNCRECORD_BYTES + 64];
    if (d->calls >= MAX_CALLS) {
        line_up(d, v);
        return;
    }
    struct preparation *p = malloc(sizeof(*p));
    if (!p) {
        put_back(d, v, "no memory");
        return;
    }
    *p = (struct preparation){.d = d, .v = v, .link = current(v), .step = step};
    struct apirequest request = {
        .method = "GET",
        .path = path,
        .channel = DOWN_CHANNEL_READ,
        .deadline_ms = down_now(d) + CALL_DEADLINE_MS,
        .retry = API_RETRY_REPEATABLE,
        .done = on_response,
        .context = p,
    };
    fill_request(p, &request, path);
    int rc = apiclient_request(d->client, &request, NULL);
    if (rc != 0) {
        free(p);
        put_back(d, v, apiclient_error_text(rc));
        return;
    }
    v->preparation = p;
    p->link->calls++;
    d->calls++;
}

/* ---- what comes back ---- */

static struct json_span member_of(const struct apiresponse *response, const char *name)
{
    const char *const path[] = {"metadata", name, NULL};
    struct json_span found;
    if (jsonscan_find(response->body, response->size, path, &found) != 0 ||
        found.kind != JSON_KIND_STRING)
        found.size = 0;
    return found;
}

static bool has_uid(const struct apiresponse *response, const struct want_object *o)
{
    struct want_uid uid;
    struct json_span text = member_of(response, "uid");
    return want_uid_parse(text.at, text.size, &uid) && want_uid_equals(&uid, &o->uid);
}

static void after_record(struct downstream *d, struct delivery *v,
                         const struct apiresponse *response)
{
    struct want_link *l = current(v);
    if (down_is_good(response)) {
        count(RECORD_WRITES, RECORD_CREATED, 1);
        prepare(d, v);
    } else if (response->status == 409) {
        call(d, v, STEP_COMPARE);
    } else if (response->status == 403 || response->status == 404 || response->status == 422) {
        /* A namespace on its way out, or a name too long for a record: it must reach the edge all
         * the same. */
        count(RECORD_WRITES, RECORD_REFUSED, 1);
        l->has_record = true;
        prepare(d, v);
        l->has_record = false;
    } else {
        count(RECORD_WRITES, RECORD_FAILED, 1);
        put_back(d, v, "its record could not be created");
    }
}

/* Somebody else has created it, and delivered perhaps: what it says counts. */
static void after_compare(struct downstream *d, struct delivery *v,
                          const struct apiresponse *response)
{
    struct want_link *l = current(v);
    struct syncrecord r;
    if (!down_is_good(response) || syncrecord_read(response->body, response->size, &r) != 0) {
        put_back(d, v, "its record could not be read");
        return;
    }
    l->has_record = true;
    if (r.version > l->recorded)
        l->recorded = r.version;
    if (r.version > l->item.acked)
        l->item.acked = r.version;
    if (r.version > l->item.seen)
        l->item.seen = r.version;
    if (l->item.wanted <= l->item.acked)
        skip(d, v);
    else
        prepare(d, v);
}

static void after_read(struct downstream *d, struct delivery *v, const struct apiresponse *response)
{
    struct want_link *l = current(v);
    if (response->status == 404 || (down_is_good(response) && !has_uid(response, l->object))) {
        skip(d, v); /* the watch will say so */
        return;
    }
    struct json_span text =
        down_is_good(response) ? member_of(response, "resourceVersion") : (struct json_span){0};
    uint64_t version = resource_version(text.at, text.size);
    if (version == 0 || version < pushqueue_floor(&l->item))
        put_back(d, v, "the object could not be read");
    else
        send_set(d, v, response->body, response->size, version);
}

static void after_confirm(struct downstream *d, struct delivery *v,
                          const struct apiresponse *response)
{
    struct want_link *l = current(v);
    if (response->status == 404 || (down_is_good(response) && !has_uid(response, l->object))) {
        l->is_gone_for_sure = true;
        prepare(d, v);
    } else if (down_is_good(response)) {
        log_limited(LOG_LEVEL_WARN, "push_not_gone", F_STR("node", v->node->text),
                    F_STRN("name", l->object->text + l->object->ns_size, l->object->name_size));
        skip(d, v); /* it is there: the watch will bring it */
    } else {
        put_back(d, v, "whether the object is gone could not be read");
    }
}

static void on_response(void *context, const struct apiresponse *response)
{
    struct preparation *p = context;
    struct downstream *d = p->d;
    struct delivery *v = p->v;
    struct want_link *l = p->link;
    enum step step = p->step;
    free(p);
    d->calls--;
    l->calls--;
    if (!v) {
        if (step == STEP_RECORD && down_is_good(response))
            l->has_record = true;
        if (!d->is_closing)
            delivery_tidy(d, l);
        serve_line(d);
        return;
    }
    v->preparation = NULL;
    if (d->is_closing)
        return;
    if (step == STEP_RECORD && down_is_good(response))
        l->has_record = true;
    if (l->item.op != v->queue.op)
        skip(d, v); /* it was deleted meanwhile, say */
    else if (step == STEP_RECORD)
        after_record(d, v, response);
    else if (step == STEP_COMPARE)
        after_compare(d, v, response);
    else if (step == STEP_READ)
        after_read(d, v, response);
    else
        after_confirm(d, v, response);
    push_next(d, v);
    serve_line(d);
}

/* ---- preparing ---- */

static void prepare_set(struct downstream *d, struct delivery *v)
{
    struct want_link *l = current(v);
    struct want_object *o = l->object;
    uint64_t floor = pushqueue_floor(&l->item);
    const struct content *c = o->body;
    if (o->state != WANT_LIVE)
        skip(d, v);
    else if (d->has_records && !l->has_record)
        call(d, v, STEP_RECORD);
    else if (d->event.object == o && d->event.version >= floor)
        send_set(d, v, d->event.json, d->event.size, d->event.version);
    else if (c && c->version >= floor)
        send_set(d, v, c->text, c->size, c->version);
    else
        call(d, v, STEP_READ);
}

/* A name that stands for another object by now: the edge keeps ConfigMaps, Secrets and Nodes by
 * name, so the other one takes the place of this one. Nodes are never deleted on their edge. */
static bool is_superseded(struct downstream *d, const struct delivery *v,
                          const struct want_object *o, struct want_link **by)
{
    struct want_key key = want_object_key(o);
    struct want_object *other = want_object_current(d->want, &key);
    *by = NULL;
    if (o->kind == RESOURCE_POD)
        return false;
    if (o->kind == RESOURCE_NODE)
        return true;
    if (!other || other->state != WANT_LIVE)
        return false;
    *by = want_link_get(d->want, v->node, other);
    return *by != NULL;
}

static void prepare_delete(struct downstream *d, struct delivery *v)
{
    struct want_link *l = current(v), *by;
    if (l->object->state == WANT_LIVE) { /* a list that did not have it was wrong */
        skip(d, v);
        pushqueue_set(&v->queue, &l->item, l->object->changed);
        push_settle(d, l);
    } else if (is_superseded(d, v, l->object, &by)) {
        skip(d, v);
        l->is_deleted = true;
        recorder_note(d, l);
        if (by) {
            pushqueue_set(&v->queue, &by->item, by->object->changed);
            push_settle(d, by);
        }
    } else if (!l->is_gone_for_sure) {
        call(d, v, STEP_CONFIRM);
    } else {
        send_delete(d, v);
    }
}

static void prepare(struct downstream *d, struct delivery *v)
{
    if (v->queue.op == PUSH_DELETE)
        prepare_delete(d, v);
    else
        prepare_set(d, v);
}

void push_next(struct downstream *d, struct delivery *v)
{
    uint64_t now = down_now(d);
    while (v->queue.state == PUSH_IDLE && pushqueue_take(&v->queue, now))
        prepare(d, v);
    uint64_t deadline = pushqueue_deadline(&v->queue, now);
    if (v->record_ms != 0 && v->record_ms < deadline)
        deadline = v->record_ms;
    if (deadline == UINT64_MAX)
        wheel_disarm(&v->timer);
    else
        wheel_arm(&d->wheel, &v->timer, deadline);
}

void push_abandon(struct downstream *d, struct delivery *v)
{
    if (v->preparation)
        v->preparation->v = NULL;
    if (v->flight)
        push_land(d, v);
    leave_line(d, v);
    wheel_disarm(&v->timer);
}
