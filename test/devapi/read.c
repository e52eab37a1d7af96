/* get and list. A page of a list is a snapshot's part: the rest of it is kept, so that all pages
 * show one moment. */
#include "test/devapi/handler.h"
#include "test/devapi/selector.h"
#include "test/devapi/server.h"
#include "test/devapi/table.h"
#include "test/devapi/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define SNAPSHOTS_MAX    64
#define SNAPSHOT_LIFE_MS 60000

struct dev_snapshot {
    struct dev_snapshot *prev, *next;
    uint64_t id, version, expires_ms;
    size_t refs;
    const struct dev_kind *kind;
    size_t count;
    struct dev_object *objects[];
};

static void snapshot_put(struct dev_snapshot *s)
{
    if (--s->refs > 0)
        return;
    for (size_t i = 0; i < s->count; i++)
        dev_object_put(s->objects[i]);
    free(s);
}

static void forget(struct dev_server *server, struct dev_snapshot *s)
{
    DL_DELETE(server->snapshots, s);
    snapshot_put(s);
}

void dev_snapshots_drop(struct dev_server *server)
{
    while (server->snapshots)
        forget(server, server->snapshots);
}

void dev_snapshots_expire(struct dev_server *server, uint64_t now_ms)
{
    struct dev_snapshot *s, *next;
    DL_FOREACH_SAFE (server->snapshots, s, next) {
        if (s->expires_ms <= now_ms)
            forget(server, s);
    }
}

/* ---- the body ---- */

struct list_source {
    struct dev_source source;
    struct dev_snapshot *snapshot;
    size_t first, next, end, sent; /* sent: of the piece at hand */
    struct dev_text head;
    enum { LIST_HEAD, LIST_ITEMS, LIST_TAIL, LIST_DONE } stage;
};

/* The piece at hand: what stands before it, and itself. Items go without kind and apiVersion, as
 * kube-apiserver sends them. */
struct piece {
    const char *lead, *body;
    size_t lead_size, body_size;
};

static struct piece piece_at_hand(const struct list_source *l)
{
    if (l->stage == LIST_HEAD)
        return (struct piece){.body = l->head.at, .body_size = l->head.size};
    if (l->stage == LIST_TAIL)
        return (struct piece){.body = "]}\n", .body_size = 3};
    const struct dev_object *o = l->snapshot->objects[l->next];
    size_t skipped = dev_kind_prefix_size(o->kind);
    const char *lead = l->next == l->first ? "{" : ",{";
    return (struct piece){.lead = lead,
                          .lead_size = strlen(lead),
                          .body = o->json + skipped,
                          .body_size = o->size - skipped};
}

static void advance(struct list_source *l)
{
    l->sent = 0;
    if (l->stage == LIST_TAIL) {
        l->stage = LIST_DONE;
        return;
    }
    if (l->stage == LIST_ITEMS)
        l->next++;
    l->stage = l->next < l->end ? LIST_ITEMS : LIST_TAIL;
}

/* However small `size` is, something is written: a window of one byte must not look like "nothing
 * now". */
static size_t list_read(struct dev_source *source, char *to, size_t size, bool *is_end)
{
    struct list_source *l = (struct list_source *)source;
    size_t used = 0;
    while (l->stage != LIST_DONE && used < size) {
        struct piece p = piece_at_hand(l);
        bool is_lead = l->sent < p.lead_size;
        const char *at = is_lead ? p.lead + l->sent : p.body + (l->sent - p.lead_size);
        size_t n = is_lead ? p.lead_size - l->sent : p.lead_size + p.body_size - l->sent;
        if (n > size - used)
            n = size - used;
        memcpy(to + used, at, n);
        l->sent += n;
        used += n;
        if (l->sent == p.lead_size + p.body_size)
            advance(l);
    }
    *is_end = l->stage == LIST_DONE;
    return used;
}

static void list_close(struct dev_source *source)
{
    struct list_source *l = (struct list_source *)source;
    snapshot_put(l->snapshot);
    dev_text_fini(&l->head);
    free(l);
}

/* ---- choosing ---- */

static struct dev_snapshot *snapshot_create(struct dev_server *server, const struct dev_kind *kind,
                                            size_t room)
{
    struct dev_snapshot *s = calloc(1, sizeof(*s) + room * sizeof(s->objects[0]));
    if (!s)
        return NULL;
    s->refs = 1;
    s->kind = kind;
    s->version = dev_store_version(server->store);
    return s;
}

static void consider(struct dev_snapshot *s, const struct dev_exchange *x,
                     const struct dev_selector *selector, struct dev_object *o)
{
    if (x->path.namespace_[0] && strcmp(o->facts->namespace_, x->path.namespace_) != 0)
        return;
    if (dev_selector_matches(selector, o))
        s->objects[s->count++] = dev_object_get(o);
}

static int by_key(const void *a, const void *b)
{
    const struct dev_facts *x = (*(struct dev_object *const *)a)->facts;
    const struct dev_facts *y = (*(struct dev_object *const *)b)->facts;
    int order = strcmp(x->namespace_, y->namespace_);
    return order ? order : strcmp(x->name, y->name);
}

/* The pods of one node come from the index. */
static struct dev_snapshot *choose_pods(struct dev_exchange *x, const struct dev_selector *selector,
                                        const char *node)
{
    size_t room = 0;
    struct dev_entry *entry, *pods = dev_store_pods_of(x->server->store, node);
    DL_COUNT(pods, entry, room);
    struct dev_snapshot *s = snapshot_create(x->server, x->path.kind, room);
    if (!s)
        return NULL;
    DL_FOREACH (pods, entry)
        consider(s, x, selector, entry->object);
    qsort(s->objects, s->count, sizeof(s->objects[0]), by_key);
    return s;
}

static struct dev_snapshot *choose(struct dev_exchange *x, const struct dev_selector *selector)
{
    const char *node = dev_selector_field(selector, "spec.nodeName");
    const char *name = dev_selector_field(selector, "metadata.name");
    if (x->path.kind->index == DEV_POD && node && node[0])
        return choose_pods(x, selector, node);

    struct dev_snapshot *s;
    if (name && (x->path.namespace_[0] || !x->path.kind->is_namespaced)) {
        struct dev_entry *one =
            dev_store_find(x->server->store, x->path.kind, x->path.namespace_, name);
        s = snapshot_create(x->server, x->path.kind, 1);
        if (s && one)
            consider(s, x, selector, one->object);
        return s;
    }
    size_t count;
    struct dev_entry *const *all = dev_store_sorted(x->server->store, x->path.kind, &count);
    s = snapshot_create(x->server, x->path.kind, count);
    for (size_t i = 0; s && i < count; i++)
        consider(s, x, selector, all[i]->object);
    return s;
}

/* ---- pages ---- */

static void keep_for_next_page(struct dev_server *server, struct dev_snapshot *s)
{
    size_t count;
    struct dev_snapshot *each;
    s->expires_ms = uv_now(server->loop) + SNAPSHOT_LIFE_MS;
    if (s->id != 0)
        return;
    static uint64_t last_id;
    s->id = ++last_id;
    s->refs++;
    DL_APPEND(server->snapshots, s);
    DL_COUNT(server->snapshots, each, count);
    if (count > SNAPSHOTS_MAX)
        forget(server, server->snapshots);
}

/* "ID.OFFSET" */
static struct dev_snapshot *find_page(struct dev_exchange *x, size_t *first)
{
    uint64_t id, offset;
    struct dev_snapshot *s;
    if (sscanf(x->query.continue_, "%" SCNu64 ".%" SCNu64, &id, &offset) != 2)
        return NULL;
    DL_FOREACH (x->server->snapshots, s) {
        if (s->id == id && s->kind == x->path.kind && offset <= s->count) {
            s->refs++;
            *first = (size_t)offset;
            return s;
        }
    }
    return NULL;
}

static void write_metadata(struct dev_text *out, const struct dev_exchange *x,
                           const struct dev_snapshot *s, size_t end)
{
    bool has_selector = x->query.label_selector || x->query.field_selector;
    dev_text_printf(out, "{\"resourceVersion\":\"%" PRIu64 "\"", s->version);
    if (end < s->count) {
        dev_text_printf(out, ",\"continue\":\"%" PRIu64 ".%zu\"", s->id, end);
        if (!has_selector)
            dev_text_printf(out, ",\"remainingItemCount\":%zu", s->count - end);
    }
    dev_text_str(out, "}");
}

/* Takes the snapshot. NULL without memory. */
static struct dev_source *list_create(const struct dev_exchange *x, struct dev_snapshot *s,
                                      size_t first, size_t end)
{
    struct list_source *l = calloc(1, sizeof(*l));
    if (!l) {
        snapshot_put(s);
        return NULL;
    }
    l->source.read = list_read;
    l->source.close = list_close;
    l->snapshot = s;
    l->first = l->next = first;
    l->end = end;
    dev_text_printf(&l->head,
                    "{\"kind\":\"%sList\",\"apiVersion\":\"%s\",\"metadata\":", x->path.kind->kind,
                    x->path.kind->api_version);
    write_metadata(&l->head, x, s, end);
    dev_text_str(&l->head, ",\"items\":[");
    if (!l->head.failed)
        return &l->source;
    list_close(&l->source);
    return NULL;
}

/* Takes the snapshot. */
static void answer_table(struct dev_exchange *x, struct dev_snapshot *s, size_t first, size_t end)
{
    struct dev_text metadata = {0}, out = {0};
    write_metadata(&metadata, x, s, end);
    const char *text = dev_text_cstr(&metadata);
    if (text)
        dev_table_write(x, s->objects + first, end - first, text, &out);
    out.failed = out.failed || !text;
    dev_text_fini(&metadata);
    snapshot_put(s);
    dev_answer_text(x, 200, "application/json", &out);
}

/* Takes the snapshot. */
static void answer_page(struct dev_exchange *x, struct dev_snapshot *s, size_t first)
{
    size_t end = s->count;
    if (x->query.limit > 0 && end - first > x->query.limit) {
        end = first + (size_t)x->query.limit;
        keep_for_next_page(x->server, s);
    }
    if (dev_table_is_wanted(x)) {
        answer_table(x, s, first, end);
        return;
    }
    struct dev_source *source = list_create(x, s, first, end);
    if (source) {
        dev_answer_source(x, source);
        return;
    }
    struct dev_error e;
    dev_error_no_memory(&e);
    dev_answer_error(x, &e);
}

/* resourceVersion of a list: "" and "0" take what there is; others at least (or exactly) that. */
static bool check_version(struct dev_exchange *x, struct dev_error *e)
{
    const char *wanted = x->query.resource_version, *match = x->query.resource_version_match;
    uint64_t current = dev_store_version(x->server->store);
    char *end = NULL;
    if (!wanted || strcmp(wanted, "0") == 0)
        return true;
    uint64_t version = strtoull(wanted, &end, 10);
    if (*end || wanted[0] < '0' || wanted[0] > '9') {
        dev_error_bad_request(
            e, "Invalid value: \"%.64s\": strconv.ParseUint: parsing \"%.64s\": invalid syntax",
            wanted, wanted);
        return false;
    }
    if (version > current) {
        dev_error_plain(e, 504, "Timeout",
                        "Timeout: Too large resource version: %" PRIu64 ", current: %" PRIu64,
                        version, current);
        e->retry_after_s = 1;
        e->cause_type = "ResourceVersionTooLarge";
        snprintf(e->cause_message, sizeof(e->cause_message), "Too large resource version");
        return false;
    }
    if (match && strcmp(match, "Exact") == 0 && version != current) {
        dev_error_plain(e, 410, "Expired", "The resourceVersion for the provided list is too old.");
        return false;
    }
    return true;
}

void dev_handle_list(struct dev_exchange *x)
{
    struct dev_error e;
    struct dev_selector *selector = NULL;
    struct dev_snapshot *s;
    size_t first = 0;
    dev_snapshots_expire(x->server, uv_now(x->server->loop));
    if (x->query.continue_) {
        s = find_page(x, &first);
        if (s) {
            answer_page(x, s, first);
            return;
        }
        dev_error_plain(&e, 410, "Expired",
                        "The provided continue parameter is too old to display a consistent list "
                        "result. You can start a new list without the continue parameter.");
        dev_answer_error(x, &e);
        return;
    }
    if (!check_version(x, &e)) {
        dev_answer_error(x, &e);
        return;
    }
    struct errbuf ignored;
    int rc = dev_selector_parse(x->path.kind, x->query.label_selector, x->query.field_selector,
                                &selector, &ignored);
    s = rc == 0 ? choose(x, selector) : NULL;
    dev_selector_free(selector);
    if (!s) {
        dev_error_no_memory(&e);
        dev_answer_error(x, &e);
        return;
    }
    answer_page(x, s, first);
}

void dev_handle_get(struct dev_exchange *x)
{
    struct dev_error e;
    struct dev_entry *entry =
        dev_store_find(x->server->store, x->path.kind, x->path.namespace_, x->path.name);
    if (entry && dev_table_is_wanted(x)) {
        struct dev_text out = {0};
        dev_table_write(x, &entry->object, 1, "{}", &out);
        dev_answer_text(x, 200, "application/json", &out);
        return;
    }
    if (entry) {
        dev_answer_object(x, 200, entry->object);
        return;
    }
    dev_error_not_found(&e, x->path.kind, x->path.name);
    dev_answer_error(x, &e);
}
