/* See store.h. */
#define HASH_NONFATAL_OOM 1
#include "test/devapi/store.h"
#include "test/devapi/history.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct dev_node_pods {
    UT_hash_handle hh;
    struct dev_entry *pods;
    char name[];
};

struct shelf {
    struct dev_entry *entries; /* hash, in the order of creation */
    struct dev_entry **sorted; /* valid while !is_unsorted */
    size_t sorted_count, sorted_room, bytes;
    bool is_unsorted;
    struct dev_history history;
};

struct dev_store {
    struct dev_store_limits limits;
    uint64_t version;
    struct shelf shelves[DEV_KIND_COUNT];
    struct dev_node_pods *nodes; /* hash: node name to its pods */
    void (*changed)(void *context, const struct dev_change *change);
    void *context;
};

#define KEY_MAX (2 * DEV_NAME_MAX)

struct dev_store *dev_store_create(const struct dev_store_limits *limits)
{
    struct dev_store *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->limits = *limits;
    s->version = 1;
    for (size_t i = 0; i < DEV_KIND_COUNT; i++) {
        s->shelves[i].history.limit = limits->history_count;
        s->shelves[i].history.bytes_limit = limits->history_bytes;
        s->shelves[i].history.floor = s->version;
    }
    return s;
}

/* ---- pods by node ---- */

static void node_leave(struct dev_store *s, struct dev_entry *entry)
{
    struct dev_node_pods *node = entry->node;
    if (!node)
        return;
    DL_DELETE(node->pods, entry);
    entry->node = NULL;
    if (!node->pods) {
        HASH_DEL(s->nodes, node);
        free(node);
    }
}

static int node_join(struct dev_store *s, struct dev_entry *entry)
{
    const char *name = entry->object->facts->node_name;
    if (entry->node && strcmp(entry->node->name, name) == 0)
        return 0;
    node_leave(s, entry);
    size_t size = strlen(name);
    if (size == 0)
        return 0;
    struct dev_node_pods *node;
    HASH_FIND(hh, s->nodes, name, size, node);
    if (!node) {
        node = calloc(1, sizeof(*node) + size + 1);
        if (!node)
            return -ENOMEM;
        memcpy(node->name, name, size + 1);
        HASH_ADD_KEYPTR(hh, s->nodes, node->name, size, node);
        if (!node->hh.tbl) {
            free(node);
            return -ENOMEM;
        }
    }
    DL_APPEND(node->pods, entry);
    entry->node = node;
    return 0;
}

struct dev_entry *dev_store_pods_of(struct dev_store *s, const char *node)
{
    struct dev_node_pods *found;
    HASH_FIND(hh, s->nodes, node, strlen(node), found);
    return found ? found->pods : NULL;
}

/* ---- entries ---- */

static size_t key_of(char *key, const char *namespace_, const char *name)
{
    int size = snprintf(key, KEY_MAX, "%s/%s", namespace_, name);
    return size > 0 && size < KEY_MAX ? (size_t)size : 0;
}

struct dev_entry *dev_store_find(struct dev_store *s, const struct dev_kind *kind,
                                 const char *namespace_, const char *name)
{
    char key[KEY_MAX];
    size_t size = key_of(key, namespace_, name);
    struct dev_entry *entry = NULL;
    if (size > 0)
        HASH_FIND(hh, s->shelves[kind->index].entries, key, size, entry);
    return entry;
}

static struct dev_entry *entry_create(struct dev_store *s, const struct dev_object *object)
{
    char key[KEY_MAX];
    struct shelf *shelf = &s->shelves[object->kind->index];
    size_t size = key_of(key, object->facts->namespace_, object->facts->name);
    struct dev_entry *entry = size > 0 ? calloc(1, sizeof(*entry) + size + 1) : NULL;
    if (!entry)
        return NULL;
    memcpy(entry->key, key, size + 1);
    HASH_ADD_KEYPTR(hh, shelf->entries, entry->key, size, entry);
    if (!entry->hh.tbl) {
        free(entry);
        return NULL;
    }
    shelf->is_unsorted = true;
    return entry;
}

static void entry_destroy(struct dev_store *s, struct dev_entry *entry)
{
    struct shelf *shelf = &s->shelves[entry->object->kind->index];
    node_leave(s, entry);
    HASH_DEL(shelf->entries, entry);
    shelf->bytes -= entry->object->size;
    shelf->is_unsorted = true;
    dev_object_put(entry->object);
    free(entry);
}

void dev_store_destroy(struct dev_store *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < DEV_KIND_COUNT; i++) {
        struct dev_entry *entry, *next;
        HASH_ITER (hh, s->shelves[i].entries, entry, next)
            entry_destroy(s, entry);
        dev_history_fini(&s->shelves[i].history);
        free(s->shelves[i].sorted);
    }
    free(s);
}

uint64_t dev_store_version(const struct dev_store *s)
{
    return s->version;
}

size_t dev_store_count(const struct dev_store *s, const struct dev_kind *kind)
{
    return HASH_COUNT(s->shelves[kind->index].entries);
}

size_t dev_store_bytes(const struct dev_store *s, const struct dev_kind *kind)
{
    return s->shelves[kind->index].bytes;
}

static int by_key(const void *a, const void *b)
{
    const struct dev_object *x = (*(struct dev_entry *const *)a)->object;
    const struct dev_object *y = (*(struct dev_entry *const *)b)->object;
    int order = strcmp(x->facts->namespace_, y->facts->namespace_);
    return order ? order : strcmp(x->facts->name, y->facts->name);
}

struct dev_entry *const *dev_store_sorted(struct dev_store *s, const struct dev_kind *kind,
                                          size_t *count)
{
    struct shelf *shelf = &s->shelves[kind->index];
    size_t total = HASH_COUNT(shelf->entries);
    *count = 0;
    if (total == 0)
        return NULL;
    if (shelf->is_unsorted) {
        if (shelf->sorted_room < total) {
            size_t room = total + total / 2;
            struct dev_entry **sorted = realloc(shelf->sorted, room * sizeof(*sorted));
            if (!sorted)
                return NULL;
            shelf->sorted = sorted;
            shelf->sorted_room = room;
        }
        struct dev_entry *entry, *next;
        size_t n = 0;
        HASH_ITER (hh, shelf->entries, entry, next)
            shelf->sorted[n++] = entry;
        qsort(shelf->sorted, n, sizeof(shelf->sorted[0]), by_key);
        shelf->sorted_count = n;
        shelf->is_unsorted = false;
    }
    *count = shelf->sorted_count;
    return shelf->sorted;
}

/* ---- changes ---- */

static void record(struct dev_store *s, enum dev_change_type type, struct dev_object *object,
                   struct dev_object *previous)
{
    struct dev_change change = {.type = type, .object = object, .previous = previous};
    /* Without memory for the history, watches that need it are told 410; the change itself stands.
     */
    (void)dev_history_push(&s->shelves[object->kind->index].history, type, object, previous);
    if (s->changed)
        s->changed(s->context, &change);
}

/* Puts the object into its entry; the previous one, if any, is handed to the caller. */
static int place(struct dev_store *s, struct dev_object *object, struct dev_object **previous)
{
    struct shelf *shelf = &s->shelves[object->kind->index];
    struct dev_entry *entry =
        dev_store_find(s, object->kind, object->facts->namespace_, object->facts->name);
    if (!entry) {
        entry = entry_create(s, object);
        if (!entry)
            return -ENOMEM;
    }
    *previous = entry->object;
    entry->object = object;
    shelf->bytes += object->size;
    if (*previous)
        shelf->bytes -= (*previous)->size;
    /* A pod that could not be filed under its node is only not found by it: nothing else depends on
     * it. */
    if (object->kind->index == DEV_POD)
        (void)node_join(s, entry);
    return 0;
}

/* Events are kept bounded: the oldest goes, as one that outlived its TTL. */
static void trim_events(struct dev_store *s)
{
    struct shelf *shelf = &s->shelves[DEV_EVENT];
    while (HASH_COUNT(shelf->entries) > s->limits.event_cap) {
        struct dev_entry *oldest = shelf->entries;
        struct dev_object *last = dev_object_derive(oldest->object, s->version + 1, NULL, 0);
        if (!last || dev_store_remove(s, oldest, last) != 0)
            return;
    }
}

int dev_store_set(struct dev_store *s, struct dev_object *object)
{
    struct dev_object *previous = NULL;
    assert(object->version == s->version + 1);
    if (place(s, object, &previous) != 0) {
        dev_object_put(object);
        return -ENOMEM;
    }
    s->version = object->version;
    dev_object_get(object); /* the listener may look at it after the entry is gone */
    record(s, previous ? DEV_MODIFIED : DEV_ADDED, object, previous);
    if (object->kind->index == DEV_EVENT && !previous)
        trim_events(s);
    dev_object_put(previous);
    dev_object_put(object);
    return 0;
}

int dev_store_remove(struct dev_store *s, struct dev_entry *entry, struct dev_object *last)
{
    assert(last->version == s->version + 1);
    struct dev_object *previous = dev_object_get(entry->object);
    s->version = last->version;
    entry_destroy(s, entry);
    record(s, DEV_DELETED, last, previous);
    dev_object_put(previous);
    dev_object_put(last);
    return 0;
}

int dev_store_load(struct dev_store *s, struct dev_object *object)
{
    struct dev_object *previous = NULL;
    uint64_t version = object->version;
    if (place(s, object, &previous) != 0) {
        dev_object_put(object);
        return -ENOMEM;
    }
    dev_object_put(previous);
    if (version > s->version)
        s->version = version;
    for (size_t i = 0; i < DEV_KIND_COUNT; i++)
        s->shelves[i].history.floor = s->version;
    return 0;
}

void dev_store_listen(struct dev_store *s,
                      void (*changed)(void *context, const struct dev_change *change),
                      void *context)
{
    s->changed = changed;
    s->context = context;
}

uint64_t dev_history_floor(const struct dev_store *s, const struct dev_kind *kind)
{
    return s->shelves[kind->index].history.floor;
}

const struct dev_change *dev_history_after(const struct dev_store *s, const struct dev_kind *kind,
                                           uint64_t version)
{
    return dev_history_find(&s->shelves[kind->index].history, version);
}
