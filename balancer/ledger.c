/* See ledger.h. */
#include "balancer/ledger.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define uthash_nonfatal_oom(element) ((element)->is_kept = false)
#define HASH_NONFATAL_OOM            1
#include <uthash.h>

/* Oldest first, which is the order uthash keeps. */
struct ledger_own {
    UT_hash_handle hh;
    uint64_t released_ms;
    bool is_kept;
    char node[];
};

/* ---- lists of names ---- */

static bool names_reserve(struct ledger_names *names)
{
    if (names->count < names->room)
        return true;
    size_t room = names->room ? names->room * 2 : 64;
    char **items = realloc(names->items, room * sizeof(*items));
    if (items)
        names->items = items;
    uint64_t *at_ms = items ? realloc(names->at_ms, room * sizeof(*at_ms)) : NULL;
    if (!at_ms)
        return false;
    names->at_ms = at_ms;
    names->room = room;
    return true;
}

static bool names_add(struct ledger_names *names, const char *node, uint64_t at_ms)
{
    if (names->count - names->sent >= LEDGER_WAITING_NAMES || !names_reserve(names))
        return false;
    char *copy = strdup(node);
    if (!copy)
        return false;
    names->at_ms[names->count] = at_ms;
    names->items[names->count++] = copy;
    return true;
}

static void names_remove(struct ledger_names *names, size_t from, size_t count)
{
    for (size_t i = from; i < from + count; i++)
        free(names->items[i]);
    names->count -= count;
    size_t behind = names->count - from;
    if (behind == 0)
        return;
    memmove(&names->items[from], &names->items[from + count], behind * sizeof(*names->items));
    memmove(&names->at_ms[from], &names->at_ms[from + count], behind * sizeof(*names->at_ms));
}

/* Takes a name back that no batch holds yet; the newest first, it is the likeliest. */
static bool names_take_back(struct ledger_names *names, const char *node)
{
    for (size_t i = names->count; i > names->sent; i--) {
        if (strcmp(names->items[i - 1], node) != 0)
            continue;
        names_remove(names, i - 1, 1);
        return true;
    }
    return false;
}

static size_t names_send(struct ledger_names *names, size_t most)
{
    names->sent = names->count < most ? names->count : most;
    return names->sent;
}

static void names_forget_sent(struct ledger_names *names)
{
    size_t sent = names->sent;
    names->sent = 0;
    if (sent > 0)
        names_remove(names, 0, sent);
}

/* Everything behind the batch goes as a number. */
static uint32_t names_to_number(struct ledger_names *names)
{
    size_t count = names->count - names->sent;
    if (count > 0)
        names_remove(names, names->sent, count);
    return (uint32_t)count;
}

static void names_fini(struct ledger_names *names)
{
    if (names->count > 0)
        names_remove(names, 0, names->count);
    free(names->items);
    free(names->at_ms);
}

/* ---- who was let go here ---- */

static void own_delete(struct ledger *l, struct ledger_own *own)
{
    HASH_DEL(l->own, own);
    free(own);
}

static bool own_take(struct ledger *l, const char *node)
{
    struct ledger_own *own = NULL;
    HASH_FIND_STR(l->own, node, own);
    if (!own)
        return false;
    own_delete(l, own);
    return true;
}

/* Without memory its return will look like that of any other. */
static void own_add(struct ledger *l, const char *node, uint64_t now_ms)
{
    size_t size = strlen(node) + 1;
    own_take(l, node);
    struct ledger_own *own = malloc(sizeof(*own) + size);
    if (!own)
        return;
    memcpy(own->node, node, size);
    own->released_ms = now_ms;
    own->is_kept = true;
    HASH_ADD_KEYPTR(hh, l->own, own->node, size - 1, own);
    if (!own->is_kept)
        free(own);
}

void ledger_prune(struct ledger *l, uint64_t now_ms, uint64_t keep_ms)
{
    while (l->own && now_ms - l->own->released_ms > keep_ms)
        own_delete(l, l->own);
}

/* ---- entries ---- */

void ledger_init(struct ledger *l)
{
    memset(l, 0, sizeof(*l));
}

void ledger_fini(struct ledger *l)
{
    names_fini(&l->arrived);
    names_fini(&l->bridged);
    names_fini(&l->released);
    names_fini(&l->refused);
    while (l->own)
        own_delete(l, l->own);
    memset(l, 0, sizeof(*l));
}

static void announce_arrival(struct ledger *l, const char *node)
{
    if (!names_add(&l->arrived, node, 0))
        l->unnamed++;
}

bool ledger_arrived(struct ledger *l, const char *node)
{
    bool is_back = own_take(l, node);
    l->live++;
    if (is_back && (names_take_back(&l->bridged, node) || names_take_back(&l->released, node)))
        return true;
    announce_arrival(l, node);
    return is_back;
}

/* The old session counts as lost and the new one as come: for the store that is nothing, unless the
 * node was in flight by its name. */
void ledger_replaced(struct ledger *l, const char *node)
{
    own_take(l, node);
    announce_arrival(l, node);
    l->lost++;
}

bool ledger_lost(struct ledger *l, uint32_t count)
{
    uint32_t known = count < l->live ? count : l->live;
    l->live -= known;
    l->lost += known;
    return known == count;
}

bool ledger_released(struct ledger *l, const char *node, bool is_bridged, bool is_move,
                     uint64_t now_ms)
{
    if (l->live == 0)
        return false;
    l->live--;
    if (names_add(is_bridged ? &l->bridged : &l->released, node, now_ms)) {
        l->has_moves |= is_move;
        own_add(l, node, now_ms);
    } else {
        l->lost++;
    }
    return true;
}

void ledger_refused(struct ledger *l, const char *node)
{
    names_add(&l->refused, node, 0); /* an estimate anyway: time bounds refusals too */
}

void ledger_forget_lost(struct ledger *l)
{
    l->live_told += (int64_t)l->unnamed - l->lost;
    l->lost = l->unnamed = 0;
}

/* ---- batches ---- */

static void close_batch(struct ledger *l)
{
    l->sent_lost = l->lost;
    l->sent_unnamed = l->unnamed;
    l->lost = l->unnamed = 0;
    l->sent_moves = l->has_moves;
    if (l->bridged.sent == l->bridged.count && l->released.sent == l->released.count)
        l->has_moves = false;
    l->has_batch = true;
    l->seq++;
    l->live_told += (int64_t)l->arrived.sent + l->sent_unnamed - l->sent_lost;
    l->live_told -= (int64_t)(l->bridged.sent + l->released.sent);
}

void ledger_freeze(struct ledger *l, bool may_omit_names)
{
    if (l->has_batch)
        return;
    names_send(&l->arrived, LEDGER_BATCH_NAMES);
    if (may_omit_names)
        l->unnamed += names_to_number(&l->arrived);
    size_t bridged = names_send(&l->bridged, LEDGER_BATCH_NAMES);
    names_send(&l->released, LEDGER_BATCH_NAMES - bridged);
    names_send(&l->refused, LEDGER_BATCH_NAMES);
    close_batch(l);
}

void ledger_freeze_all(struct ledger *l)
{
    assert(!l->has_batch);
    ledger_lost(l, l->live);
    size_t bridged = names_send(&l->bridged, LEDGER_BATCH_NAMES);
    names_send(&l->released, LEDGER_BATCH_NAMES - bridged);
    names_send(&l->arrived, LEDGER_BATCH_NAMES);
    names_send(&l->refused, 0);
    l->unnamed += names_to_number(&l->arrived);
    l->lost += names_to_number(&l->bridged);
    l->lost += names_to_number(&l->released);
    close_batch(l);
}

void ledger_acknowledge(struct ledger *l)
{
    assert(l->has_batch);
    l->has_batch = false;
    l->acked = l->seq;
    names_forget_sent(&l->arrived);
    names_forget_sent(&l->bridged);
    names_forget_sent(&l->released);
    names_forget_sent(&l->refused);
    l->sent_lost = l->sent_unnamed = 0;
}

size_t ledger_unreported(const struct ledger *l)
{
    return l->arrived.count + l->bridged.count + l->released.count + l->refused.count;
}
