/* Keeps ObjectSync and ClusterObjectSync up to date, in CloudCore's format (hub/syncrecord.h).
 *
 * A link whose record is behind stands in a ring, once; when its turn comes, what is to do is read
 * off the link: delete the record of an object that is gone, create one that is missing, write the
 * version that was acknowledged. So many changes of one object while others are written cost one
 * write. At most MAX_WRITES requests at once; what fails is tried again after a pause, what the API
 * server refuses for good is counted and left.
 *
 * Only the replica that holds a node's session writes for it. Records of nodes that are no more are
 * collected by whoever comes first, COLLECT_AFTER_MS after a complete list of nodes has shown that
 * they are gone, at a random moment, so that rarely two do. */
#include "hub/delivery.h"

#include "hub/hub_metrics.h"
#include "hub/syncrecord.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define WRITE_DEADLINE_MS 15000
#define PAUSE_MS          1000
#define COLLECT_AFTER_MS  30000
#define COLLECT_EVERY_MS  5000

enum write_kind { WRITE_NOTHING, WRITE_CREATE, WRITE_COMPARE, WRITE_STATUS, WRITE_DELETE };

struct write {
    struct downstream *d;
    struct want_link *link;
    enum write_kind kind;
    uint64_t version;
    char body[SYNCRECORD_BYTES]; /* borrowed by the request */
};

/* ---- the ring ---- */

static int grow(struct recorder *r)
{
    size_t room = r->room ? r->room * 2 : 64;
    struct want_link **ring = malloc(room * sizeof(struct want_link *));
    if (!ring)
        return -ENOMEM;
    for (size_t i = 0; i < r->count; i++)
        ring[i] = r->ring[(r->head + i) & (r->room - 1)];
    free(r->ring);
    r->ring = ring;
    r->room = room;
    r->head = 0;
    return 0;
}

static bool put(struct downstream *d, struct want_link *l)
{
    struct recorder *r = &d->recorder;
    if (l->work & LINK_IN_RING)
        return true;
    if (r->count == r->room && grow(r) != 0)
        return false;
    r->ring[(r->head + r->count++) & (r->room - 1)] = l;
    l->work |= LINK_IN_RING;
    return true;
}

static struct want_link *take(struct recorder *r)
{
    struct want_link *l = r->ring[r->head];
    r->head = (r->head + 1) & (r->room - 1);
    r->count--;
    l->work &= (uint8_t)~LINK_IN_RING;
    return l;
}

/* ---- what is to do ---- */

static bool is_collected(struct downstream *d, const struct want_node *n)
{
    return !n->session && n->collect_ms != 0 && n->collect_ms <= down_now(d);
}

static enum write_kind what_to_do(struct downstream *d, const struct want_link *l)
{
    const struct want_object *o = l->object;
    if (is_collected(d, l->node))
        return l->has_record ? WRITE_DELETE : WRITE_NOTHING;
    if (o->kind == RESOURCE_NONE)
        return WRITE_NOTHING;
    /* Until the edge has deleted it the record stays, or is made even now: it is all that reminds
     * of it. */
    bool is_on_edge = o->state == WANT_LIVE || (o->state == WANT_GONE && !l->is_deleted);
    if (!l->has_record)
        return l->item.acked > 0 && is_on_edge ? WRITE_CREATE : WRITE_NOTHING;
    if (o->state == WANT_GONE)
        return is_on_edge ? WRITE_NOTHING : WRITE_DELETE;
    bool wants_zero = (l->work & LINK_WANTS_ZERO) && l->recorded == 0;
    return l->item.acked > l->recorded || wants_zero ? WRITE_STATUS : WRITE_NOTHING;
}

/* ---- requests ---- */

static void on_written(void *context, const struct apiresponse *response);

static int begin(struct downstream *d, struct want_link *l, enum write_kind kind)
{
    static const char options[] =
        "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"gracePeriodSeconds\":0}";
    char path[SYNCRECORD_BYTES];
    struct write *w = malloc(sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->d = d;
    w->link = l;
    w->kind = kind;
    w->version = l->item.acked;
    struct apirequest request = {
        .path = path,
        .content_type = "application/json",
        .body = w->body,
        .channel = DOWN_CHANNEL_WRITE,
        .deadline_ms = down_now(d) + WRITE_DEADLINE_MS,
        .retry = API_RETRY_REPEATABLE,
        .done = on_written,
        .context = w,
    };
    if (kind == WRITE_DELETE) {
        request.method = "DELETE";
        syncrecord_path(SYNCRECORD_OBJECT, l->node->text, l->object, path);
        request.body = options;
        request.body_size = sizeof(options) - 1;
    } else if (kind == WRITE_CREATE) {
        request.method = "POST";
        request.retry = API_RETRY_UNSENT;
        syncrecord_path(SYNCRECORD_COLLECTION, l->node->text, l->object, path);
        request.body_size = syncrecord_body(l->node->text, l->object, w->body);
    } else if (kind == WRITE_COMPARE) {
        request.method = "GET";
        request.content_type = NULL;
        request.body = NULL;
        syncrecord_path(SYNCRECORD_OBJECT, l->node->text, l->object, path);
    } else {
        l->work &= (uint8_t)~LINK_WANTS_ZERO;
        request.method = "PATCH";
        request.content_type = "application/merge-patch+json";
        syncrecord_path(SYNCRECORD_STATUS, l->node->text, l->object, path);
        request.body_size = syncrecord_status(w->version, w->body);
    }
    int rc = apiclient_request(d->client, &request, NULL);
    if (rc != 0) {
        free(w);
        return rc;
    }
    l->calls++;
    d->recorder.writes++;
    return 0;
}

static void pause_writing(struct downstream *d)
{
    d->recorder.pause_ms = down_now(d) + PAUSE_MS;
}

/* Each once at most: one with a request under way is looked at again with the next tick. */
static void pump(struct downstream *d)
{
    struct recorder *r = &d->recorder;
    for (size_t n = r->count; n > 0 && r->writes < MAX_WRITES && r->pause_ms == 0 && !d->is_closing;
         n--) {
        struct want_link *l = take(r);
        enum write_kind kind = what_to_do(d, l);
        if (kind == WRITE_NOTHING) {
            delivery_tidy(d, l);
        } else if (l->calls > 0) {
            put(d, l);
        } else if (begin(d, l, kind) != 0) {
            put(d, l);
            pause_writing(d);
        }
    }
}

void recorder_note(struct downstream *d, struct want_link *l)
{
    if (!d->has_records)
        return;
    if (!put(d, l))
        count(RECORD_WRITES, RECORD_FAILED,
              1); /* the edge will get the object once more on its next connect */
}

/* ---- what comes back ---- */

static void settle(struct downstream *d, const struct write *w, const struct apiresponse *response)
{
    struct want_link *l = w->link;
    struct syncrecord found;
    bool is_good = down_is_good(response);
    if (w->kind == WRITE_DELETE && (is_good || response->status == 404)) {
        l->has_record = false;
        l->recorded = 0;
        count(RECORD_WRITES, RECORD_DELETED, 1);
    } else if (w->kind == WRITE_CREATE && is_good) {
        l->has_record = true;
        count(RECORD_WRITES, RECORD_CREATED, 1);
    } else if (w->kind == WRITE_CREATE && response->status == 409) {
        if (begin(d, l, WRITE_COMPARE) == 0) /* somebody else has: the newer version stays */
            return;
        pause_writing(d);
    } else if (w->kind == WRITE_COMPARE && is_good &&
               syncrecord_read(response->body, response->size, &found) == 0) {
        l->has_record = true;
        l->recorded = found.version;
    } else if (w->kind == WRITE_STATUS && is_good) {
        l->recorded = w->version;
        count(RECORD_WRITES, RECORD_UPDATED, 1);
    } else if (w->kind == WRITE_STATUS && response->status == 404) {
        l->has_record = false; /* somebody deleted it: it is created again */
        l->recorded = 0;
    } else if (response->error == 0 && response->status >= 400 && response->status < 500 &&
               response->status != 429 && response->status != 409) {
        count(RECORD_WRITES, RECORD_REFUSED, 1);
        log_limited(LOG_LEVEL_WARN, "record_refused", F_STR("node", l->node->text),
                    F_U64("status", response->status));
        delivery_tidy(d, l);
        return;
    } else {
        count(RECORD_WRITES, RECORD_FAILED, 1);
        pause_writing(d);
    }
    if (what_to_do(d, l) != WRITE_NOTHING)
        put(d, l);
    else
        delivery_tidy(d, l);
}

static void on_written(void *context, const struct apiresponse *response)
{
    struct write *w = context;
    struct downstream *d = w->d;
    w->link->calls--;
    d->recorder.writes--;
    if (!d->is_closing) {
        settle(d, w, response);
        pump(d);
    }
    free(w);
}

void recorder_tick(struct downstream *d, uint64_t now_ms)
{
    if (d->recorder.pause_ms != 0 && now_ms >= d->recorder.pause_ms)
        d->recorder.pause_ms = 0;
    pump(d);
}

void recorder_fini(struct downstream *d)
{
    free(d->recorder.ring);
    d->recorder = (struct recorder){0};
}

/* ---- nodes that are no more ---- */

static bool is_live(struct downstream *d, const struct want_node *n)
{
    const struct want_key key = {RESOURCE_NODE, {"", 0}, {n->text, n->size}};
    const struct want_object *o = want_object_current(d->want, &key);
    return o && o->state == WANT_LIVE;
}

/* Nothing is left to be known of the node: no record, no pod that is bound to it. */
static bool is_forgettable(const struct want_node *n)
{
    for (const struct want_link *l = n->links; l; l = l->next_of_node) {
        bool is_pod = l->object->kind == RESOURCE_POD && l->object->state == WANT_LIVE;
        if (l->has_record || l->calls > 0 || (l->work & LINK_IN_RING) || is_pod)
            return false;
    }
    return true;
}

static void collect_node(void *context, struct want_node *n)
{
    struct downstream *d = context;
    if (n->session || is_live(d, n)) {
        n->collect_ms = 0;
        want_node_release(d->want, n);
        return;
    }
    if (n->collect_ms == 0)
        n->collect_ms = down_now(d) + COLLECT_AFTER_MS + uv_hrtime() / 1000 % COLLECT_AFTER_MS;
    if (!is_collected(d, n))
        return;
    if (is_forgettable(n)) {
        while (n->links)
            want_link_remove(d->want, n->links);
        want_node_release(d->want, n);
        return;
    }
    for (struct want_link *l = n->links, *next; l; l = next) {
        next = l->next_of_node;
        if (l->has_record)
            recorder_note(d, l);
    }
}

void recorder_collect(struct downstream *d, uint64_t now_ms)
{
    const struct watcher *nodes = &d->watchers[DOWN_NODES];
    if (now_ms < d->collect_ms || !d->is_synced || !nodes->is_synced || nodes->is_listing ||
        !nodes->is_healthy)
        return;
    d->collect_ms = now_ms + COLLECT_EVERY_MS;
    want_nodes_each(d->want, collect_node, d);
}
