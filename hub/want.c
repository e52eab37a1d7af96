/* See want.h. Two hash tables with chains; a table that cannot grow goes on with longer chains. */
#include "hub/want.h"

#include "hub/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BUCKETS 256

struct want {
    struct want_object **objects;
    struct want_node **nodes;
    size_t object_buckets, node_buckets; /* powers of two */
    struct slab links;
    uint8_t epochs[RESOURCE_KIND_COUNT];
    bool is_walked; /* the table of objects may not grow now */
    struct want_stats stats;
};

/* ---- UIDs ---- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool want_uid_parse(const char *text, size_t size, struct want_uid *uid)
{
    size_t at = 0;
    if (size != WANT_UID_TEXT)
        return false;
    for (size_t i = 0; i < sizeof(uid->bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (text[at++] != '-')
                return false;
        }
        int high = digit_of(text[at]), low = digit_of(text[at + 1]);
        if (high < 0 || low < 0)
            return false;
        uid->bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return true;
}

void want_uid_format(const struct want_uid *uid, char to[WANT_UID_TEXT + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof(uid->bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = digits[uid->bytes[i] >> 4];
        *to++ = digits[uid->bytes[i] & 15];
    }
    *to = '\0';
}

bool want_uid_equals(const struct want_uid *a, const struct want_uid *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* ---- life ---- */

struct want *want_create(void)
{
    struct want *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    slab_init(&w->links, sizeof(struct want_link));
    w->objects = calloc(FIRST_BUCKETS, sizeof(*w->objects));
    w->nodes = calloc(FIRST_BUCKETS, sizeof(*w->nodes));
    if (!w->objects || !w->nodes) {
        want_destroy(w);
        return NULL;
    }
    w->object_buckets = w->node_buckets = FIRST_BUCKETS;
    w->stats.bytes = 2 * FIRST_BUCKETS * sizeof(void *);
    return w;
}

void want_destroy(struct want *w)
{
    for (size_t i = 0; i < w->node_buckets; i++) {
        while (w->nodes[i]) {
            struct want_node *n = w->nodes[i];
            w->nodes[i] = n->next;
            free(n);
        }
    }
    for (size_t i = 0; i < w->object_buckets; i++) {
        while (w->objects[i]) {
            struct want_object *o = w->objects[i];
            w->objects[i] = o->next;
            free(o->body);
            free(o);
        }
    }
    slab_fini(&w->links);
    free(w->objects);
    free(w->nodes);
    free(w);
}

/* ---- nodes ---- */

static uint32_t fold(uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32);
}

static uint32_t hash_of_node(const char *name, size_t size)
{
    const struct text_span none = {"", 0}, text = {name, size};
    return fold(resource_hash(RESOURCE_NODE, &none, &text));
}

static void grow_nodes(struct want *w)
{
    size_t buckets = w->node_buckets * 2;
    struct want_node **fresh = calloc(buckets, sizeof(*fresh));
    if (!fresh)
        return;
    for (size_t i = 0; i < w->node_buckets; i++) {
        while (w->nodes[i]) {
            struct want_node *n = w->nodes[i];
            w->nodes[i] = n->next;
            n->next = fresh[n->hash & (buckets - 1)];
            fresh[n->hash & (buckets - 1)] = n;
        }
    }
    free(w->nodes);
    w->nodes = fresh;
    w->stats.bytes += (buckets - w->node_buckets) * sizeof(void *);
    w->node_buckets = buckets;
}

struct want_node *want_node_find(struct want *w, const char *name, size_t size)
{
    uint32_t hash = hash_of_node(name, size);
    struct want_node *n = w->nodes[hash & (w->node_buckets - 1)];
    while (n && !(n->hash == hash && n->size == size && memcmp(n->text, name, size) == 0))
        n = n->next;
    return n;
}

struct want_node *want_node_get(struct want *w, const char *name, size_t size)
{
    struct want_node *n = want_node_find(w, name, size);
    if (n || size == 0 || size > RESOURCE_MAX_NAME)
        return n;
    n = calloc(1, sizeof(*n) + size + 1);
    if (!n)
        return NULL;
    if (w->stats.nodes >= w->node_buckets)
        grow_nodes(w);
    n->hash = hash_of_node(name, size);
    n->size = (uint8_t)size;
    memcpy(n->text, name, size);
    struct want_node **bucket = &w->nodes[n->hash & (w->node_buckets - 1)];
    n->next = *bucket;
    *bucket = n;
    w->stats.nodes++;
    w->stats.bytes += sizeof(*n) + size + 1;
    return n;
}

void want_node_release(struct want *w, struct want_node *n)
{
    if (n->session || n->links)
        return;
    struct want_node **at = &w->nodes[n->hash & (w->node_buckets - 1)];
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    w->stats.nodes--;
    w->stats.bytes -= sizeof(*n) + n->size + 1u;
    free(n);
}

void want_nodes_each(struct want *w, void (*each)(void *context, struct want_node *n),
                     void *context)
{
    for (size_t i = 0; i < w->node_buckets; i++) {
        for (struct want_node *n = w->nodes[i], *next; n; n = next) {
            next = n->next;
            each(context, n);
        }
    }
}

/* ---- objects ---- */

struct want_key want_object_key(const struct want_object *o)
{
    return (struct want_key){
        .kind = (enum resource_kind)o->kind,
        .ns = {o->text, o->ns_size},
        .name = {o->text + o->ns_size, o->name_size},
    };
}

/* Kinds that are not ours still have a namespace. */
static uint32_t hash_of(const struct want_key *key)
{
    enum resource_kind kind = key->kind == RESOURCE_NONE ? RESOURCE_EVENT : key->kind;
    return fold(resource_hash(kind, &key->ns, &key->name));
}

static bool has_key(const struct want_object *o, const struct want_key *key, uint32_t hash)
{
    return o->hash == hash && o->kind == key->kind && o->ns_size == key->ns.size &&
           o->name_size == key->name.size && memcmp(o->text, key->ns.at, o->ns_size) == 0 &&
           memcmp(o->text + o->ns_size, key->name.at, o->name_size) == 0;
}

static struct want_object *chain_of(const struct want *w, uint32_t hash)
{
    return w->objects[hash & (w->object_buckets - 1)];
}

struct want_object *want_object_current(struct want *w, const struct want_key *key)
{
    uint32_t hash = hash_of(key);
    struct want_object *o = chain_of(w, hash);
    while (o && !(o->state != WANT_GONE && has_key(o, key, hash)))
        o = o->next;
    return o;
}

struct want_object *want_object_find(struct want *w, const struct want_key *key,
                                     const struct want_uid *uid)
{
    uint32_t hash = hash_of(key);
    struct want_object *o = chain_of(w, hash);
    while (o && !(want_uid_equals(&o->uid, uid) && has_key(o, key, hash)))
        o = o->next;
    return o;
}

static void grow_objects(struct want *w)
{
    size_t buckets = w->object_buckets * 2;
    struct want_object **fresh = w->is_walked ? NULL : calloc(buckets, sizeof(*fresh));
    if (!fresh)
        return;
    for (size_t i = 0; i < w->object_buckets; i++) {
        while (w->objects[i]) {
            struct want_object *o = w->objects[i];
            w->objects[i] = o->next;
            o->next = fresh[o->hash & (buckets - 1)];
            fresh[o->hash & (buckets - 1)] = o;
        }
    }
    free(w->objects);
    w->objects = fresh;
    w->stats.bytes += (buckets - w->object_buckets) * sizeof(void *);
    w->object_buckets = buckets;
}

static size_t bytes_of(const struct want_object *o)
{
    return sizeof(*o) + o->ns_size + o->name_size;
}

static struct want_object *add(struct want *w, const struct want_key *key, enum want_state state)
{
    if (key->ns.size > RESOURCE_MAX_NAMESPACE || key->name.size > RESOURCE_MAX_NAME ||
        key->name.size == 0)
        return NULL;
    struct want_object *o = calloc(1, sizeof(*o) + key->ns.size + key->name.size);
    if (!o)
        return NULL;
    if (w->stats.objects >= w->object_buckets)
        grow_objects(w);
    o->hash = hash_of(key);
    o->kind = (uint8_t)key->kind;
    o->state = (uint8_t)state;
    o->ns_size = (uint8_t)key->ns.size;
    o->name_size = (uint8_t)key->name.size;
    memcpy(o->text, key->ns.at, key->ns.size);
    memcpy(o->text + key->ns.size, key->name.at, key->name.size);
    struct want_object **bucket = &w->objects[o->hash & (w->object_buckets - 1)];
    o->next = *bucket;
    *bucket = o;
    w->stats.objects++;
    w->stats.bytes += bytes_of(o);
    return o;
}

static void forget_object(struct want *w, struct want_object *o)
{
    struct want_object **at = &w->objects[o->hash & (w->object_buckets - 1)];
    assert(!o->links && !o->body);
    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    w->stats.objects--;
    w->stats.bytes -= bytes_of(o);
    free(o);
}

struct want_object *want_object_live(struct want *w, const struct want_key *key,
                                     const struct want_uid *uid, struct want_object **replaced)
{
    struct want_object *o = want_object_find(w, key, uid);
    struct want_object *current = want_object_current(w, key);
    *replaced = NULL;
    if (!o && current && current->state == WANT_AWAITED)
        o = current;
    if (!o)
        o = add(w, key, WANT_LIVE);
    if (!o)
        return NULL;
    if (current && current != o && current->state == WANT_LIVE) {
        current->state = WANT_GONE;
        *replaced = current;
    }
    if (o->state == WANT_AWAITED)
        o->digest = 0;
    o->state = WANT_LIVE;
    o->uid = *uid;
    o->epoch = w->epochs[key->kind];
    return o;
}

struct want_object *want_object_await(struct want *w, const struct want_key *key)
{
    struct want_object *o = want_object_current(w, key);
    return o ? o : add(w, key, WANT_AWAITED);
}

struct want_object *want_object_recorded(struct want *w, const struct want_key *key,
                                         const struct want_uid *uid)
{
    struct want_object *o = want_object_find(w, key, uid);
    if (o)
        return o;
    o = add(w, key, WANT_GONE);
    if (o)
        o->uid = *uid;
    return o;
}

bool want_object_gone(struct want *w, struct want_object *o)
{
    o->state = WANT_GONE;
    if (o->links)
        return false;
    forget_object(w, o);
    return true;
}

/* Nothing is queued for what is not there: its links can go with it. */
static void forget_awaited(struct want *w, struct want_object *o)
{
    while (o->links->next_of_object)
        want_link_remove(w, o->links);
    want_link_remove(w, o->links);
}

void want_expire(struct want *w, uint64_t now_ms)
{
    for (size_t i = 0; i < w->object_buckets; i++) {
        for (struct want_object *o = w->objects[i], *next; o; o = next) {
            next = o->next;
            if (o->state != WANT_AWAITED || o->digest == 0 || o->digest > now_ms)
                continue;
            if (o->links)
                forget_awaited(w, o);
            else
                forget_object(w, o);
        }
    }
}

/* ---- lists ---- */

void want_list_begin(struct want *w, enum resource_kind kind)
{
    w->epochs[kind]++;
}

void want_list_end(struct want *w, enum resource_kind kind,
                   void (*missing)(void *context, struct want_object *o), void *context)
{
    w->is_walked = true;
    for (size_t i = 0; i < w->object_buckets; i++) {
        for (struct want_object *o = w->objects[i], *next; o; o = next) {
            next = o->next;
            if (o->kind == kind && o->state == WANT_LIVE && o->epoch != w->epochs[kind])
                missing(context, o);
        }
    }
    w->is_walked = false;
}

/* ---- links ---- */

struct want_link *want_link_find(const struct want_node *n, const struct want_object *o)
{
    struct want_link *l = n->links;
    while (l && l->object != o)
        l = l->next_of_node;
    return l;
}

struct want_link *want_link_get(struct want *w, struct want_node *n, struct want_object *o)
{
    struct want_link *l = want_link_find(n, o);
    if (l)
        return l;
    l = slab_get(&w->links);
    if (!l)
        return NULL;
    l->node = n;
    l->object = o;
    l->next_of_node = n->links;
    n->links = l;
    l->next_of_object = o->links;
    l->link_of_object = &o->links;
    if (o->links)
        o->links->link_of_object = &l->next_of_object;
    o->links = l;
    w->stats.links++;
    w->stats.bytes += sizeof(*l);
    return l;
}

void want_link_remove(struct want *w, struct want_link *l)
{
    struct want_object *o = l->object;
    struct want_link **at = &l->node->links;
    assert(!l->item.is_queued && l->calls == 0);
    while (*at != l)
        at = &(*at)->next_of_node;
    *at = l->next_of_node;
    *l->link_of_object = l->next_of_object;
    if (l->next_of_object)
        l->next_of_object->link_of_object = l->link_of_object;
    slab_put(&w->links, l);
    w->stats.links--;
    w->stats.bytes -= sizeof(*l);
    if (o->state != WANT_LIVE && !o->links)
        forget_object(w, o);
}

void want_stats(const struct want *w, struct want_stats *stats)
{
    *stats = w->stats;
}
