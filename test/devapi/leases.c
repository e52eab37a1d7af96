/* See leases.h. */
#include "test/devapi/leases.h"
#include "isthmus/jsonscan.h"
#include "test/devapi/server.h"

#include <stdlib.h>
#include <string.h>

#define NODE_LEASES "kube-node-lease"

static const uint64_t bounds_s[] = {1,  2,  5,  10, 11, 12, 15, 20, 25,
                                    30, 35, 40, 45, 50, 60, 75, 90, 120};
#define BUCKETS (sizeof(bounds_s) / sizeof(bounds_s[0]) + 1)

struct dev_leases {
    uint64_t grace_ms;
    uint64_t renewals,
        expirations; /* since the reset; expirations: gaps longer than grace, ended */
    uint64_t gaps[BUCKETS];
    uint64_t max_ms, reset_ms;
};

struct dev_leases *dev_leases_create(uint64_t grace_ms)
{
    struct dev_leases *l = calloc(1, sizeof(*l));
    if (l)
        l->grace_ms = grace_ms;
    return l;
}

void dev_leases_destroy(struct dev_leases *l)
{
    free(l);
}

static bool renew_time(const struct dev_object *o, struct json_span *span)
{
    static const char *const path[] = {"spec", "renewTime", NULL};
    return jsonscan_find(o->json, o->size, path, span) == 0 && span->kind == JSON_KIND_STRING;
}

#define SECONDS_SIZE 19 /* 2026-11-23T19:58:17 */

static char fraction_digit(const struct json_span *time, size_t i)
{
    size_t at = SECONDS_SIZE + 1 + i; /* behind the dot */
    return at < time->size && time->at[at] >= '0' && time->at[at] <= '9' ? time->at[at] : '0';
}

/* MicroTime in UTC: digits in fixed places, so the later one is the greater text; fractions may
 * differ in length. */
static bool is_later(const struct json_span *a, const struct json_span *b)
{
    if (a->size < SECONDS_SIZE || b->size < SECONDS_SIZE)
        return a->size > b->size;
    int order = memcmp(a->at, b->at, SECONDS_SIZE);
    for (size_t i = 0; order == 0 && i < 9; i++)
        order = fraction_digit(a, i) - fraction_digit(b, i);
    return order > 0;
}

static size_t bucket_of(uint64_t ms)
{
    size_t i = 0;
    while (i < BUCKETS - 1 && ms > bounds_s[i] * 1000)
        i++;
    return i;
}

void dev_lease_renewed(struct dev_server *server, const struct dev_object *fresh,
                       const struct dev_object *old)
{
    struct json_span now_text, old_text;
    struct dev_leases *l = server->leases;
    if (strcmp(fresh->facts->namespace_, NODE_LEASES) != 0)
        return;
    struct dev_entry *entry =
        dev_store_find(server->store, fresh->kind, NODE_LEASES, fresh->facts->name);
    if (!entry)
        return;
    uint64_t now_ms = uv_now(server->loop);
    if (!old) {
        entry->lease.renewed_ms = now_ms;
        return;
    }
    if (!renew_time(fresh, &now_text) ||
        (renew_time(old, &old_text) && !is_later(&now_text, &old_text)))
        return;
    uint64_t gap_ms = now_ms - entry->lease.renewed_ms;
    entry->lease.renewed_ms = now_ms;
    if (gap_ms > entry->lease.max_ms)
        entry->lease.max_ms = gap_ms;
    if (gap_ms > l->max_ms)
        l->max_ms = gap_ms;
    l->renewals++;
    l->gaps[bucket_of(gap_ms)]++;
    if (gap_ms > l->grace_ms)
        l->expirations++;
}

bool dev_lease_age(struct dev_server *server, const char *node, uint64_t *age_ms)
{
    const struct dev_entry *entry =
        dev_store_find(server->store, dev_kind(DEV_LEASE), NODE_LEASES, node);
    if (entry)
        *age_ms = uv_now(server->loop) - entry->lease.renewed_ms;
    return entry != NULL;
}

uint64_t dev_lease_grace(const struct dev_server *server)
{
    return server->leases->grace_ms;
}

void dev_leases_reset(struct dev_server *server)
{
    size_t count;
    struct dev_leases *l = server->leases;
    struct dev_entry *const *all = dev_store_sorted(server->store, dev_kind(DEV_LEASE), &count);
    for (size_t i = 0; i < count; i++)
        all[i]->lease.max_ms = 0;
    *l = (struct dev_leases){.grace_ms = l->grace_ms, .reset_ms = uv_now(server->loop)};
}

static json_t *histogram(const uint64_t counts[BUCKETS])
{
    json_t *list = json_array();
    for (size_t i = 0; i < BUCKETS; i++) {
        json_t *bound =
            i < BUCKETS - 1 ? json_integer((json_int_t)bounds_s[i]) : json_string("+Inf");
        json_array_append_new(
            list, json_pack("{s:o,s:I}", "le_s", bound, "count", (json_int_t)counts[i]));
    }
    return list;
}

json_t *dev_leases_describe(struct dev_server *server, bool is_summary)
{
    const struct dev_leases *l = server->leases;
    uint64_t now_ms = uv_now(server->loop), ages[BUCKETS] = {0}, max_ms = l->max_ms, oldest_ms = 0;
    size_t count, seen = 0, not_ready = 0;
    struct dev_entry *const *all = dev_store_sorted(server->store, dev_kind(DEV_LEASE), &count);
    json_t *nodes = is_summary ? NULL : json_object();
    for (size_t i = 0; i < count; i++) {
        const struct dev_entry *entry = all[i];
        if (strcmp(entry->object->facts->namespace_, NODE_LEASES) != 0)
            continue;
        uint64_t age_ms = now_ms - entry->lease.renewed_ms;
        uint64_t worst_ms = age_ms > entry->lease.max_ms ? age_ms : entry->lease.max_ms;
        seen++;
        not_ready += age_ms > l->grace_ms;
        ages[bucket_of(age_ms)]++;
        oldest_ms = age_ms > oldest_ms ? age_ms : oldest_ms;
        max_ms = worst_ms > max_ms ? worst_ms : max_ms;
        if (nodes)
            json_object_set_new(nodes, entry->object->facts->name,
                                json_pack("{s:I,s:I}", "age_ms", (json_int_t)age_ms, "max_age_ms",
                                          (json_int_t)worst_ms));
    }
    json_t *result =
        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "leases", (json_int_t)seen, "grace_ms",
                  (json_int_t)l->grace_ms, "not_ready", (json_int_t)not_ready, "expirations",
                  (json_int_t)(l->expirations + not_ready), "renewals", (json_int_t)l->renewals,
                  "oldest_ms", (json_int_t)oldest_ms, "max_age_ms", (json_int_t)max_ms, "ages",
                  histogram(ages), "gaps", histogram(l->gaps));
    if (nodes)
        json_object_set_new(result, "nodes", nodes);
    return result;
}
