/* See lanes.h. A node is in here while it has work; its objects hang on it in a short list (a node has at most some dozens
 * of unfinished messages), so the only table is the one of nodes. */
#include "hub/lanes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(node) ((node)->hash_failed = true)
#include <uthash.h>
#include <utlist.h>

struct lane_object {
    struct lane_object *prev, *next;
    struct lane_work *current; /* READY or RUNNING; never NULL while the object lives */
    struct lane_work *blocked;
    uint64_t hash;
    size_t size;
    char key[];
};

struct lane_turn {
    struct lane_node *prev, *next;
    bool is_waiting; /* in the lane's ring */
};

struct lane_node {
    UT_hash_handle hh;
    bool hash_failed;
    size_t works;
    struct lane_object *objects;
    struct lane_work *ready[LANE_COUNT];
    unsigned running[LANE_COUNT];
    struct lane_turn turns[LANE_COUNT];
    struct lane_work *events;
    unsigned event_count;
    size_t size;
    char name[];
};

struct lanes {
    struct lanes_limits limits;
    struct lane_node *nodes;
    struct lane_node *ring[LANE_COUNT];
    unsigned running[LANE_COUNT];
    size_t waiting[LANE_COUNT];
    struct lane_work *by_age;
};

struct lanes *lanes_create(const struct lanes_limits *limits)
{
    struct lanes *l = calloc(1, sizeof(*l));
    if (l)
        l->limits = *limits;
    return l;
}

void lanes_destroy(struct lanes *l)
{
    if (!l)
        return;
    assert(!l->nodes);
    free(l);
}

size_t lanes_waiting(const struct lanes *l, enum lane lane)
{
    return l->waiting[lane];
}

size_t lanes_running(const struct lanes *l, enum lane lane)
{
    return l->running[lane];
}

/* ---- nodes and objects ---- */

static struct lane_node *node_find_or_create(struct lanes *l, const char *name, size_t size)
{
    struct lane_node *n = NULL;
    HASH_FIND(hh, l->nodes, name, size, n);
    if (n)
        return n;
    n = calloc(1, sizeof(*n) + size + 1);
    if (!n)
        return NULL;
    memcpy(n->name, name, size);
    n->size = size;
    HASH_ADD_KEYPTR(hh, l->nodes, n->name, n->size, n);
    if (n->hash_failed) {
        free(n);
        return NULL;
    }
    return n;
}

static void node_release(struct lanes *l, struct lane_node *n)
{
    if (n->works > 0)
        return;
    assert(!n->objects && !n->events);
    HASH_DELETE(hh, l->nodes, n);
    free(n);
}

static uint64_t hash_key(const char *key, size_t size)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)key[i]) * 1099511628211u;
    return h;
}

static struct lane_object *object_find(const struct lane_node *n, const char *key, size_t size, uint64_t hash)
{
    struct lane_object *o;
    DL_FOREACH (n->objects, o) {
        if (o->hash == hash && o->size == size && memcmp(o->key, key, size) == 0)
            return o;
    }
    return NULL;
}

static struct lane_object *object_create(struct lane_node *n, const char *key, size_t size, uint64_t hash)
{
    struct lane_object *o = calloc(1, sizeof(*o) + size);
    if (!o)
        return NULL;
    memcpy(o->key, key, size);
    o->size = size;
    o->hash = hash;
    DL_APPEND(n->objects, o);
    return o;
}

/* ---- turns ---- */

/* In the ring of a lane stand exactly the nodes that have something ready there and may run more. */
static void turn_update(struct lanes *l, struct lane_node *n, enum lane lane)
{
    struct lane_turn *turn = &n->turns[lane];
    bool should_wait = n->ready[lane] && n->running[lane] < l->limits.node_inflight;
    if (should_wait && !turn->is_waiting)
        DL_APPEND2(l->ring[lane], n, turns[lane].prev, turns[lane].next);
    else if (!should_wait && turn->is_waiting)
        DL_DELETE2(l->ring[lane], n, turns[lane].prev, turns[lane].next);
    turn->is_waiting = should_wait;
}

static void make_ready(struct lanes *l, struct lane_work *w)
{
    w->state = WORK_READY;
    DL_APPEND(w->node->ready[w->lane], w);
    turn_update(l, w->node, w->lane);
}

/* ---- waiting ---- */

static void start_waiting(struct lanes *l, struct lane_work *w)
{
    DL_APPEND2(l->by_age, w, age_prev, age_next);
    l->waiting[w->lane]++;
    if (w->lane == LANE_EVENT) {
        DL_APPEND2(w->node->events, w, event_prev, event_next);
        w->node->event_count++;
    }
}

static void stop_waiting(struct lanes *l, struct lane_work *w)
{
    DL_DELETE2(l->by_age, w, age_prev, age_next);
    l->waiting[w->lane]--;
    if (w->lane == LANE_EVENT) {
        DL_DELETE2(w->node->events, w, event_prev, event_next);
        w->node->event_count--;
    }
}

/* The current work of an object is over: the next one's turn, or the object goes. */
static void object_advance(struct lanes *l, struct lane_node *n, struct lane_object *o)
{
    o->current = o->blocked;
    if (!o->current) {
        DL_DELETE(n->objects, o);
        free(o);
        return;
    }
    DL_DELETE(o->blocked, o->current);
    make_ready(l, o->current);
}

static void leave(struct lanes *l, struct lane_work *w)
{
    struct lane_node *n = w->node;
    w->state = WORK_OUT;
    w->node = NULL;
    w->object = NULL;
    n->works--;
    node_release(l, n);
}

/* Takes out one that waits. */
static void withdraw(struct lanes *l, struct lane_work *w)
{
    assert(w->state == WORK_READY || w->state == WORK_BLOCKED);
    stop_waiting(l, w);
    if (w->state == WORK_BLOCKED) {
        DL_DELETE(w->object->blocked, w);
    } else {
        DL_DELETE(w->node->ready[w->lane], w);
        turn_update(l, w->node, w->lane);
        if (w->object)
            object_advance(l, w->node, w->object);
    }
    leave(l, w);
}

/* ---- coalescing ---- */

/* The last one that waits for the object, if `w` may take its place. */
static struct lane_work *predecessor(const struct lane_object *o, const struct lane_work *w)
{
    struct lane_work *last = o->blocked ? o->blocked->prev : o->current;
    bool may = w->is_coalesced && last->kind == w->kind && last->lane == w->lane &&
               last->state != WORK_RUNNING;
    return may ? last : NULL;
}

/* Puts `w` where `old` stood. */
static void replace(struct lanes *l, struct lane_work *old, struct lane_work *w)
{
    stop_waiting(l, old);
    w->state = old->state;
    if (old->state == WORK_BLOCKED) {
        DL_REPLACE_ELEM(old->object->blocked, old, w);
    } else {
        DL_REPLACE_ELEM(old->node->ready[old->lane], old, w);
        old->object->current = w;
    }
    start_waiting(l, w);

    struct lane_work *followers = old->followers;
    old->followers = NULL;
    old->next = followers;
    w->followers = old;
    old->node->works--; /* `w` was counted already: the node stays */
    old->state = WORK_OUT;
    old->node = NULL;
    old->object = NULL;
}

/* ---- the interface ---- */

static int join_object(struct lanes *l, struct lane_work *w, const char *key, size_t size)
{
    uint64_t hash = hash_key(key, size);
    struct lane_object *o = object_find(w->node, key, size, hash);
    if (!o) {
        o = object_create(w->node, key, size, hash);
        if (!o)
            return -ENOMEM;
        o->current = w;
        w->object = o;
        start_waiting(l, w);
        make_ready(l, w);
        return 0;
    }

    w->object = o;
    struct lane_work *old = predecessor(o, w);
    if (old) {
        replace(l, old, w);
        return 0;
    }
    w->state = WORK_BLOCKED;
    DL_APPEND(o->blocked, w);
    start_waiting(l, w);
    return 0;
}

int lanes_add(struct lanes *l, struct lane_work *w, const char *node, size_t node_size, const char *object,
              size_t object_size, struct lane_work **evicted)
{
    *evicted = NULL;
    struct lane_node *n = node_find_or_create(l, node, node_size);
    if (!n)
        return -ENOMEM;
    w->followers = NULL;
    w->node = n;
    w->object = NULL;
    n->works++;

    if (object_size == 0) {
        start_waiting(l, w);
        make_ready(l, w);
    } else if (join_object(l, w, object, object_size) != 0) {
        leave(l, w);
        return -ENOMEM;
    }

    if (n->event_count > l->limits.node_events) {
        *evicted = n->events;
        withdraw(l, *evicted);
    }
    return 0;
}

static struct lane_work *next_of_lane(struct lanes *l, enum lane lane)
{
    struct lane_node *n = l->ring[lane];
    if (!n || l->running[lane] >= l->limits.lane_inflight[lane])
        return NULL;

    struct lane_work *w = n->ready[lane];
    stop_waiting(l, w);
    DL_DELETE(n->ready[lane], w);
    w->state = WORK_RUNNING;
    l->running[lane]++;
    n->running[lane]++;

    /* To the end of the ring, if it may have another turn at all. */
    DL_DELETE2(l->ring[lane], n, turns[lane].prev, turns[lane].next);
    n->turns[lane].is_waiting = false;
    turn_update(l, n, lane);
    return w;
}

struct lane_work *lanes_next(struct lanes *l)
{
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        struct lane_work *w = next_of_lane(l, (enum lane)lane);
        if (w)
            return w;
    }
    return NULL;
}

void lanes_done(struct lanes *l, struct lane_work *w)
{
    assert(w->state == WORK_RUNNING);
    struct lane_node *n = w->node;
    l->running[w->lane]--;
    n->running[w->lane]--;
    turn_update(l, n, w->lane);
    if (w->object)
        object_advance(l, n, w->object);
    leave(l, w);
}

struct lane_work *lanes_expire(struct lanes *l, uint64_t now_ms)
{
    /* By arrival is nearly by deadline: all wait equally long. One that is a little out of order goes a little later. */
    struct lane_work *w = l->by_age;
    if (!w || w->deadline_ms > now_ms)
        return NULL;
    withdraw(l, w);
    return w;
}
