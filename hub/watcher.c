/* The watches, one of each kind for the whole process, and what their events mean for the index
 * (hub/want.h).
 *
 * Happy path: all are listed; then what connected nodes lack is queued (delivery_synced()), and
 * from there on each event changes the index and is offered to the nodes that are linked to its
 * object. Nothing is delivered before all lists are complete: half an index would take for gone
 * what it has not seen yet.
 *
 * A list shows what is there; what the index has and the list has not is gone, which is only
 * inferred: the edge is told after the API server was asked about that very object. A watch event
 * that says DELETED is proof.
 *
 * The two kinds of records are KubeEdge's own; an API server without them (404) is served without
 * records: an edge then gets everything again whenever this process is new to it, and deletions it
 * missed stay unknown. */
#include "hub/delivery.h"

#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/podfacts.h"
#include "hub/syncrecord.h"
#include "isthmus/log.h"

#include <stdio.h>
#include <string.h>

#define SUCCESSOR_MS ((uint64_t)10 * 60 * 1000)

#define NAME(id, name, path, page) name,
#define PATH(id, name, path, page) path,
#define PAGE(id, name, path, page) page,
const char *const down_watch_names[DOWN_WATCH_COUNT] = {DOWN_WATCHES(NAME)};
static const char *const paths[DOWN_WATCH_COUNT] = {DOWN_WATCHES(PATH)};
static const unsigned page_sizes[DOWN_WATCH_COUNT] = {DOWN_WATCHES(PAGE)};

static const enum resource_kind kinds[DOWN_WATCH_COUNT] = {
    [DOWN_NODES] = RESOURCE_NODE,
    [DOWN_CONFIGMAPS] = RESOURCE_CONFIGMAP,
    [DOWN_SECRETS] = RESOURCE_SECRET,
    [DOWN_PODS] = RESOURCE_POD,
};

static bool is_records(const struct watcher *w)
{
    return w->which == DOWN_OBJECTSYNCS || w->which == DOWN_CLUSTEROBJECTSYNCS;
}

static void lost(const char *what)
{
    log_limited(LOG_LEVEL_ERROR, "index_incomplete", F_STR("what", what),
                F_STR("why", "no memory"));
}

/* ---- deletions ---- */

/* The edge keeps ConfigMaps and Secrets by name: who had this one gets the next of its name, too,
 * if there is one soon. Later its edge asks for it by itself, as it has no other. */
static void await_successor(struct downstream *d, const struct want_object *o, struct want_node *n)
{
    struct want_key key = want_object_key(o);
    if (o->kind != RESOURCE_CONFIGMAP && o->kind != RESOURCE_SECRET)
        return;
    bool is_new = !want_object_current(d->want, &key);
    struct want_object *next = want_object_await(d->want, &key);
    if (!next || !want_link_get(d->want, n, next))
        lost("link");
    if (next && is_new)
        next->digest = down_now(d) + SUCCESSOR_MS;
}

static void node_deleted(struct downstream *d, const struct want_object *o)
{
    struct want_node *n = want_node_find(d->want, o->text, o->name_size);
    struct delivery *v = n ? n->session : NULL;
    if (v)
        hub_close_session(d->hub, v->session, CLOSE_NODE_DELETED);
}

static void gone(struct downstream *d, struct want_object *o, bool is_sure)
{
    if (o->kind == RESOURCE_NODE)
        node_deleted(d, o);
    if (want_object_gone(d->want, o))
        return;
    for (struct want_link *l = o->links, *next; l; l = next) {
        next = l->next_of_object;
        await_successor(d, o, l->node);
        delivery_retract(d, l, is_sure); /* the last one may take the object along */
    }
}

static void missing(void *context, struct want_object *o)
{
    gone(context, o, false);
}

/* ---- pods ---- */

struct mentions {
    struct downstream *d;
    struct want_node *node;
    struct text_span ns;
};

static void on_mention(void *context, enum resource_kind kind, const struct json_span *name)
{
    const struct mentions *m = context;
    struct want_key key = {kind, m->ns, {name->at, name->size}};
    struct want_object *o = want_object_await(m->d->want, &key);
    struct want_link *l = o ? want_link_get(m->d->want, m->node, o) : NULL;
    if (o && o->state == WANT_AWAITED)
        o->digest = 0; /* for as long as it takes */
    if (!l)
        lost("mention");
    else if (o->state == WANT_LIVE)
        delivery_offer(m->d, l);
}

/* ---- nodes ---- */

/* The node has another replica now, by an annotation that is younger than ours: what we hold is a
 * connection that is dead already. */
static void look_for_other_replica(struct downstream *d, const struct delivery *v,
                                   const struct apiwatch_object *object, uint64_t version)
{
    static const char *const path[] = {"metadata", "annotations", "isthmus.io/replica", NULL};
    struct json_span replica;
    if (v->ours_from == 0 || version <= v->ours_from ||
        jsonscan_find(object->json, object->size, path, &replica) != 0 ||
        replica.kind != JSON_KIND_STRING || replica.size == 0 ||
        jsonscan_equals(&replica, d->config->replica_id))
        return;
    hub_close_session(d->hub, v->session, CLOSE_REPLACED);
}

static void node_changed(struct downstream *d, const struct want_key *key,
                         const struct apiwatch_object *object, struct want_object *o)
{
    struct want_node *n = want_node_find(d->want, key->name.at, key->name.size);
    if (!n || !n->session)
        return;
    look_for_other_replica(d, n->session, object, o->version);
    if (!want_link_get(d->want, n, o))
        lost("node");
}

/* ---- objects ---- */

/* The node that a pod is bound to, NULL where there is none. */
static struct want_node *node_of_pod(struct downstream *d, const struct apiwatch_object *object)
{
    struct json_span name = podfacts_node(object->json, object->size);
    if (name.size == 0)
        return NULL;
    struct want_node *n = want_node_get(d->want, name.at, name.size);
    if (!n)
        lost("node");
    return n;
}

/* Whether something changed that edges must hear of. */
static bool has_changed(struct want_object *o, const struct apiwatch_object *object)
{
    uint64_t digest = 1;
    if (o->kind != RESOURCE_POD && o->kind != RESOURCE_NODE)
        return true;
    if (podfacts_digest(object->json, object->size, &digest) != 0)
        return true;
    bool is_other = o->changed == 0 || digest != o->digest;
    o->digest = digest;
    return is_other;
}

static void offer_all(struct downstream *d, struct want_object *o, bool is_change)
{
    for (struct want_link *l = o->links; l; l = l->next_of_object) {
        if (is_change)
            delivery_offer(d, l);
        else
            delivery_unchanged(d, l);
    }
}

/* What a node could not take at once is kept until it can. */
static void keep_content(struct downstream *d, struct want_object *o)
{
    struct content *old = o->body;
    if (o->waiting == 0 || !d->event.object || (old && old->version >= d->event.version))
        return;
    struct content *c = content_create(d, d->event.json, d->event.size, d->event.version);
    if (!c)
        return; /* it is read again */
    content_put(d, old);
    o->body = c;
}

static void link_pod(struct downstream *d, struct want_node *n, struct want_object *o,
                     const struct apiwatch_object *object, bool is_change)
{
    struct want_key key = want_object_key(o);
    struct mentions m = {d, n, key.ns};
    if (!want_link_get(d->want, n, o)) {
        lost("pod");
        return;
    }
    if (is_change)
        podfacts_mentions(object->json, object->size, on_mention, &m);
}

static void there(struct watcher *w, const struct want_key *key, const struct want_uid *uid,
                  uint64_t version, const struct apiwatch_object *object)
{
    struct downstream *d = w->down;
    struct want_node *n = NULL;
    struct want_object *replaced;
    if (key->kind == RESOURCE_POD && !(n = node_of_pod(d, object)))
        return;
    struct want_object *o = want_object_live(d->want, key, uid, &replaced);
    if (!o) {
        lost("object");
        return;
    }
    if (replaced)
        gone(d, replaced, true);
    if (version <= o->version && o->changed != 0)
        return; /* a new list of what is known */
    bool is_change = has_changed(o, object);
    o->version = version;
    if (is_change)
        o->changed = version;
    o->is_terminating = podfacts_is_terminating(object->json, object->size);
    if (!w->is_listing) { /* items of a list lack kind and apiVersion */
        d->event.object = o;
        d->event.json = object->json;
        d->event.size = object->size;
        d->event.version = version;
    }
    if (n)
        link_pod(d, n, o, object, is_change);
    else if (key->kind == RESOURCE_NODE)
        node_changed(d, key, object, o);
    offer_all(d, o, is_change);
    keep_content(d, o);
    d->event.object = NULL;
}

static void deleted(struct watcher *w, const struct want_key *key, const struct want_uid *uid,
                    uint64_t version, const struct apiwatch_object *object)
{
    struct downstream *d = w->down;
    struct want_object *o = want_object_find(d->want, key, uid);
    if (!o)
        return;
    d->event.object = o;
    d->event.json = object->json;
    d->event.size = object->size;
    d->event.version = version;
    gone(d, o, true);
    d->event.object = NULL;
}

static bool read_identity(const struct watcher *w, const struct apiwatch_object *object,
                          struct want_key *key, struct want_uid *uid, uint64_t *version)
{
    *key = (struct want_key){
        kinds[w->which],
        {object->namespace_.size ? object->namespace_.at : "", object->namespace_.size},
        {object->name.at, object->name.size}};
    *version = resource_version(object->resource_version.at, object->resource_version.size);
    return *version > 0 && key->name.size > 0 &&
           want_uid_parse(object->uid.at, object->uid.size, uid);
}

/* ---- records ---- */

static bool is_cluster_kind(const struct want_object *o)
{
    return o->ns_size == 0;
}

static void record_there(struct watcher *w, const struct syncrecord *r)
{
    struct downstream *d = w->down;
    struct want_node *n = want_node_get(d->want, r->node.at, r->node.size);
    struct want_object *o = n ? want_object_recorded(d->want, &r->key, &r->uid) : NULL;
    struct want_link *l = o ? want_link_get(d->want, n, o) : NULL;
    if (!l) {
        lost("record");
        return;
    }
    const struct delivery *v = n->session;
    bool is_mine = v && v->has_loaded; /* then it is an echo of what we wrote, perhaps an old one */
    l->has_record = true;
    l->epoch = d->record_epochs[w->which == DOWN_CLUSTEROBJECTSYNCS];
    if (!is_mine || r->version > l->recorded)
        l->recorded = r->version;
    if (is_mine && o->state == WANT_GONE && l->item.op == PUSH_NOTHING && l->calls == 0 &&
        !(l->work & LINK_IN_RING) && o->kind != RESOURCE_NONE)
        delivery_retract(d, l, false);
}

static void record_deleted(struct downstream *d, struct want_link *l)
{
    l->has_record = false;
    l->recorded = 0;
    if (l->object->kind == RESOURCE_NONE)
        l->item.op = PUSH_NOTHING;
    delivery_tidy(d, l);
}

static void record_gone(struct watcher *w, const struct syncrecord *r)
{
    struct downstream *d = w->down;
    struct want_node *n = want_node_find(d->want, r->node.at, r->node.size);
    struct want_object *o = n ? want_object_find(d->want, &r->key, &r->uid) : NULL;
    struct want_link *l = o ? want_link_find(n, o) : NULL;
    if (l)
        record_deleted(d, l);
}

struct forget {
    struct downstream *d;
    bool is_cluster;
};

/* Records that were deleted while nobody watched. */
static void forget_records(void *context, struct want_node *n)
{
    const struct forget *f = context;
    for (struct want_link *l = n->links, *next; l; l = next) {
        next = l->next_of_node;
        if (l->has_record && is_cluster_kind(l->object) == f->is_cluster &&
            l->epoch != f->d->record_epochs[f->is_cluster] && l->calls == 0)
            record_deleted(f->d, l);
    }
}

/* ---- callbacks ---- */

static void look_whether_synced(struct downstream *d)
{
    const struct watcher *w = d->watchers;
    if (d->is_synced || !w[DOWN_NODES].is_synced || !w[DOWN_CONFIGMAPS].is_synced ||
        !w[DOWN_SECRETS].is_synced || !w[DOWN_PODS].is_synced)
        return;
    const struct watcher *r = &w[DOWN_OBJECTSYNCS], *c = &w[DOWN_CLUSTEROBJECTSYNCS];
    if (!(r->is_synced || r->is_absent) || !(c->is_synced || c->is_absent))
        return;
    struct want_stats stats;
    want_stats(d->want, &stats);
    log_info("downstream_synced", F_U64("objects", stats.objects), F_U64("links", stats.links),
             F_U64("nodes", stats.nodes), F_U64("index_bytes", stats.bytes),
             F_BOOL("has_records", d->has_records));
    delivery_synced(d);
}

static void on_list_begin(void *context)
{
    struct watcher *w = context;
    w->is_listing = true;
    if (is_records(w))
        w->down->record_epochs[w->which == DOWN_CLUSTEROBJECTSYNCS]++;
    else
        want_list_begin(w->down->want, kinds[w->which]);
}

static void on_object(void *context, enum apiwatch_event_type type,
                      const struct apiwatch_object *object)
{
    struct watcher *w = context;
    struct syncrecord record;
    struct want_key key;
    struct want_uid uid;
    uint64_t version;
    count(WATCH_EVENTS, w->which, 1);
    if (is_records(w)) {
        if (syncrecord_read(object->json, object->size, &record) != 0)
            log_limited(LOG_LEVEL_WARN, "odd_record",
                        F_STRN("name", object->name.at, object->name.size));
        else if (type == API_WATCH_DELETED)
            record_gone(w, &record);
        else
            record_there(w, &record);
        return;
    }
    if (!read_identity(w, object, &key, &uid, &version))
        log_limited(LOG_LEVEL_WARN, "odd_object", F_STR("kind", down_watch_names[w->which]),
                    F_STRN("name", object->name.at, object->name.size));
    else if (type == API_WATCH_DELETED)
        deleted(w, &key, &uid, version, object);
    else
        there(w, &key, &uid, version, object);
}

static void on_synced(void *context)
{
    struct watcher *w = context;
    struct downstream *d = w->down;
    struct forget f = {d, w->which == DOWN_CLUSTEROBJECTSYNCS};
    if (is_records(w))
        want_nodes_each(d->want, forget_records, &f);
    else
        want_list_end(d->want, kinds[w->which], missing, d);
    w->is_listing = false;
    w->is_synced = true;
    w->is_absent = false;
    d->has_records =
        d->watchers[DOWN_OBJECTSYNCS].is_synced && d->watchers[DOWN_CLUSTEROBJECTSYNCS].is_synced;
    look_whether_synced(d);
}

static void say_no_records(struct downstream *d)
{
    if (d->has_said_no_records)
        return;
    d->has_said_no_records = true;
    log_warn("no_sync_records",
             F_STR("why", "the API server has no objectsyncs.reliablesyncs.kubeedge.io: deliveries "
                          "are not remembered"));
}

static void on_state(void *context, bool healthy, const char *text)
{
    static const char absent[] = "list: 404";
    struct watcher *w = context;
    w->is_healthy = healthy;
    snprintf(w->text, sizeof(w->text), "%s", text);
    if (is_records(w) && !w->is_synced && strncmp(text, absent, sizeof(absent) - 1) == 0) {
        w->is_absent = true;
        say_no_records(w->down);
        look_whether_synced(w->down);
    }
}

int watcher_start_all(struct downstream *d)
{
    for (int i = 0; i < DOWN_WATCH_COUNT; i++) {
        struct watcher *w = &d->watchers[i];
        *w = (struct watcher){.down = d, .which = (enum down_watch)i, .text = "starting"};
        struct apiwatch_options options = {
            .path = paths[i],
            .channel = DOWN_CHANNEL_WATCH,
            .page_size = page_sizes[i],
            .callbacks = {on_list_begin, on_object, on_synced, on_state},
            .context = w,
        };
        int rc = apiwatch_start(d->client, &options, &w->watch);
        if (rc != 0)
            return rc;
    }
    return 0;
}
