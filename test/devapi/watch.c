/* Watches. A watcher keeps only a version: what comes after it is read from the kind's history when
 * the client has room. One that falls behind the history is told 410 and starts anew; so a slow
 * reader costs nothing. Loop thread only. */
#include "test/devapi/watch.h"
#include "test/devapi/handler.h"
#include "test/devapi/server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define BOOKMARK_MS     10000 /* kube-apiserver: about a minute; shorter shows more in less time */
#define TIMEOUT_DEFAULT 1800

struct dev_watcher {
    struct dev_source source;
    struct dev_watcher *prev, *next;
    struct dev_server *server;
    struct dev_exchange *x;
    const struct dev_kind *kind;
    char namespace_[DEV_NAME_MAX];
    struct dev_selector *selector;
    uint64_t version; /* everything up to here was sent or looked at */
    uint64_t ends_ms, bookmark_ms;
    bool wants_bookmarks, is_over, owes_initial_end;
    struct dev_text out; /* the event at hand */
    size_t out_sent;
    struct dev_object **initial; /* what there was at the start; owned until sent */
    size_t initial_count, initial_next;
};

static bool matches(const struct dev_watcher *w, const struct dev_object *o)
{
    return o && (!w->namespace_[0] || strcmp(w->namespace_, o->facts->namespace_) == 0) &&
           dev_selector_matches(w->selector, o);
}

static void put_event(struct dev_watcher *w, const char *type, const struct dev_object *o)
{
    dev_text_printf(&w->out, "{\"type\":\"%s\",\"object\":", type);
    dev_text_add(&w->out, o->json, o->size);
    dev_text_str(&w->out, "}\n");
}

static void put_bookmark(struct dev_watcher *w, bool ends_initial)
{
    dev_text_printf(
        &w->out,
        "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"%s\",\"apiVersion\":\"%s\","
        "\"metadata\":{\"resourceVersion\":\"%" PRIu64 "\",\"creationTimestamp\":null%s}}}\n",
        w->kind->kind, w->kind->api_version, w->version,
        ends_initial ? ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" : "");
    w->bookmark_ms = uv_now(w->server->loop) + BOOKMARK_MS;
}

static void put_expired(struct dev_watcher *w, uint64_t version)
{
    struct dev_error e;
    dev_error_plain(&e, 410, "Expired", "too old resource version: %" PRIu64 " (%" PRIu64 ")",
                    version, dev_history_floor(w->server->store, w->kind));
    dev_text_str(&w->out, "{\"type\":\"ERROR\",\"object\":");
    dev_error_write(&e, &w->out);
    if (!w->out.failed && w->out.at[w->out.size - 1] == '\n')
        w->out.size--;
    dev_text_str(&w->out, "}\n");
    w->is_over = true;
}

/* An object that begins to match was added to this watch's world, one that ceases to was deleted
 * from it. */
static void put_change(struct dev_watcher *w, const struct dev_change *c)
{
    bool is_in = c->type != DEV_DELETED && matches(w, c->object);
    bool was_in = c->previous && matches(w, c->previous);
    if (is_in)
        put_event(w, was_in ? "MODIFIED" : "ADDED", c->object);
    else if (was_in)
        put_event(w, "DELETED", c->type == DEV_DELETED ? c->object : c->previous);
}

/* Nothing happened: a bookmark when it is time for one, and one more before the end. */
static void fill_when_idle(struct dev_watcher *w, uint64_t now_ms)
{
    w->is_over = now_ms >= w->ends_ms;
    if (w->wants_bookmarks && (w->is_over || now_ms >= w->bookmark_ms)) {
        w->version = dev_store_version(w->server->store);
        put_bookmark(w, false);
    }
}

/* Puts the next event into `out`, if there is one. */
static void fill(struct dev_watcher *w)
{
    while (w->out.size == 0 && w->initial_next < w->initial_count) {
        struct dev_object *o = w->initial[w->initial_next++];
        put_event(w, "ADDED", o);
        dev_object_put(o);
    }
    if (w->out.size == 0 && w->owes_initial_end) {
        w->owes_initial_end = false;
        put_bookmark(w, true);
    }
    while (w->out.size == 0 && !w->is_over) {
        if (w->version < dev_history_floor(w->server->store, w->kind)) {
            put_expired(w, w->version);
            return;
        }
        const struct dev_change *c = dev_history_after(w->server->store, w->kind, w->version);
        if (!c)
            break;
        put_change(w, c);
        w->version = c->object->version;
    }
    if (w->out.size == 0 && !w->is_over)
        fill_when_idle(w, uv_now(w->server->loop));
}

static size_t watch_read(struct dev_source *source, char *to, size_t size, bool *is_end)
{
    struct dev_watcher *w = (struct dev_watcher *)source;
    size_t used = 0;
    while (used < size) {
        if (w->out_sent == w->out.size) {
            dev_text_clear(&w->out);
            w->out_sent = 0;
            fill(w);
            if (w->out.size == 0)
                break;
        }
        size_t n = w->out.size - w->out_sent;
        if (n > size - used)
            n = size - used;
        memcpy(to + used, w->out.at + w->out_sent, n);
        w->out_sent += n;
        used += n;
    }
    *is_end = w->is_over && w->out_sent == w->out.size;
    return used;
}

static void watch_close(struct dev_source *source)
{
    struct dev_watcher *w = (struct dev_watcher *)source;
    DL_DELETE(w->server->watchers[w->kind->index], w);
    w->server->watcher_count[w->kind->index]--;
    while (w->initial_next < w->initial_count)
        dev_object_put(w->initial[w->initial_next++]);
    free(w->initial);
    dev_selector_free(w->selector);
    dev_text_fini(&w->out);
    free(w);
}

void dev_watch_changed(struct dev_server *server, const struct dev_kind *kind)
{
    struct dev_watcher *w;
    DL_FOREACH (server->watchers[kind->index], w)
        dev_exchange_wake(w->x);
}

void dev_watch_tick(struct dev_server *server, uint64_t now_ms)
{
    dev_snapshots_expire(server, now_ms);
    for (size_t i = 0; i < DEV_KIND_COUNT; i++) {
        struct dev_watcher *w;
        DL_FOREACH (server->watchers[i], w) {
            if (now_ms >= w->ends_ms || (w->wants_bookmarks && now_ms >= w->bookmark_ms))
                dev_exchange_wake(w->x);
        }
    }
}

/* ---- starting ---- */

static int collect_initial(struct dev_watcher *w)
{
    size_t count;
    struct dev_entry *const *all = dev_store_sorted(w->server->store, w->kind, &count);
    w->initial = calloc(count + 1, sizeof(w->initial[0]));
    if (!w->initial)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (matches(w, all[i]->object))
            w->initial[w->initial_count++] = dev_object_get(all[i]->object);
    }
    return 0;
}

/* From where: a version to resume from, or what there is now (none or "0"), or both
 * (sendInitialEvents). */
static int position(struct dev_watcher *w, const struct dev_query *q, struct dev_error *e)
{
    uint64_t current = dev_store_version(w->server->store);
    char *end = NULL;
    uint64_t version = q->resource_version ? strtoull(q->resource_version, &end, 10) : 0;
    if (end && *end) {
        dev_error_bad_request(e, "Invalid value: \"%.64s\": invalid resource version",
                              q->resource_version);
        return -EINVAL;
    }
    if (version > current) {
        dev_error_plain(e, 504, "Timeout",
                        "Timeout: Too large resource version: %" PRIu64 ", current: %" PRIu64,
                        version, current);
        e->retry_after_s = 1;
        e->cause_type = "ResourceVersionTooLarge";
        snprintf(e->cause_message, sizeof(e->cause_message), "Too large resource version");
        return -EINVAL;
    }
    if (version > 0 && !q->wants_initial_events) {
        w->version = version;
        return 0;
    }
    w->version = current;
    w->owes_initial_end = q->wants_initial_events && q->wants_bookmarks;
    if (collect_initial(w) == 0)
        return 0;
    dev_error_no_memory(e);
    return -ENOMEM;
}

void dev_handle_watch(struct dev_exchange *x, struct dev_selector *selector)
{
    struct dev_error e;
    struct dev_server *server = x->server;
    struct dev_watcher *w = calloc(1, sizeof(*w));
    if (!w) {
        dev_selector_free(selector);
        dev_error_no_memory(&e);
        dev_answer_error(x, &e);
        return;
    }
    uint64_t now_ms = uv_now(server->loop);
    uint64_t timeout_s = x->query.timeout_s ? x->query.timeout_s : TIMEOUT_DEFAULT;
    w->source.read = watch_read;
    w->source.close = watch_close;
    w->server = server;
    w->x = x;
    w->kind = x->path.kind;
    memcpy(w->namespace_, x->path.namespace_, sizeof(w->namespace_));
    w->selector = selector;
    w->wants_bookmarks = x->query.wants_bookmarks;
    w->ends_ms = now_ms + (timeout_s > 86400 ? 86400 : timeout_s) * 1000;
    w->bookmark_ms = now_ms + BOOKMARK_MS;
    DL_APPEND(server->watchers[w->kind->index], w);
    server->watcher_count[w->kind->index]++;
    if (position(w, &x->query, &e) != 0) {
        watch_close(&w->source);
        dev_answer_error(x, &e);
        return;
    }
    dev_answer_source(x, &w->source);
}
