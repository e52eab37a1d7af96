/* See stats.h. */
#define HASH_NONFATAL_OOM 1
#include "test/devapi/stats.h"
#include "test/devapi/server.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#define CODES        600
#define USERS_MAX    200000
#define WRITE_VERBS  (DEV_VERB_COUNT - DEV_CREATE)
#define SUBRESOURCES 2 /* the object itself, anything below it */

typedef uint32_t write_counts[DEV_KIND_COUNT][SUBRESOURCES][WRITE_VERBS];

struct writer {
    UT_hash_handle hh;
    write_counts counts;
    char name[];
};

struct dev_stats {
    uint64_t answers[DEV_KIND_COUNT][DEV_VERB_COUNT][CODES];
    write_counts totals;
    struct writer *writers;
    uint64_t writes_of_unlisted_users;
};

struct dev_stats *dev_stats_create(void)
{
    return calloc(1, sizeof(struct dev_stats));
}

void dev_stats_destroy(struct dev_stats *s)
{
    if (!s)
        return;
    struct writer *w, *next;
    HASH_ITER (hh, s->writers, w, next) {
        HASH_DEL(s->writers, w);
        free(w);
    }
    free(s);
}

void dev_stats_answered(const struct dev_exchange *x)
{
    struct dev_stats *s = x->server->stats;
    if (x->path.kind && x->status < CODES)
        s->answers[x->path.kind->index][x->verb][x->status]++;
}

static struct writer *writer_get(struct dev_stats *s, const char *user)
{
    struct writer *w;
    size_t size = strlen(user);
    HASH_FIND(hh, s->writers, user, size, w);
    if (w || HASH_COUNT(s->writers) >= USERS_MAX)
        return w;
    w = calloc(1, sizeof(*w) + size + 1);
    if (!w)
        return NULL;
    memcpy(w->name, user, size + 1);
    HASH_ADD_KEYPTR(hh, s->writers, w->name, size, w);
    if (!w->hh.tbl) {
        free(w);
        return NULL;
    }
    return w;
}

static uint64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void dev_stats_wrote(const struct dev_exchange *x, const char *name, uint64_t version)
{
    struct dev_stats *s = x->server->stats;
    size_t kind = x->path.kind->index, sub = x->path.subresource[0] != '\0';
    size_t verb = (size_t)x->verb - DEV_CREATE;
    s->totals[kind][sub][verb]++;
    struct writer *w = writer_get(s, x->user);
    if (w)
        w->counts[kind][sub][verb]++;
    else
        s->writes_of_unlisted_users++;
    if (x->server->journal)
        fprintf(x->server->journal, "%" PRIu64 " %s %s %s%s%s %s%s%s %" PRIu64 "\n", monotonic_us(),
                x->user, dev_verb_name(x->verb), x->path.kind->singular, sub ? "/" : "",
                x->path.subresource, x->path.namespace_, x->path.namespace_[0] ? "/" : "", name,
                version);
}

json_t *dev_stats_requests(const struct dev_stats *s)
{
    json_t *list = json_array();
    for (size_t k = 0; k < DEV_KIND_COUNT; k++) {
        for (size_t v = 0; v < DEV_VERB_COUNT; v++) {
            for (size_t code = 0; code < CODES; code++) {
                uint64_t n = s->answers[k][v][code];
                if (n > 0)
                    json_array_append_new(list,
                                          json_pack("{s:s,s:s,s:i,s:I}", "verb",
                                                    dev_verb_name((enum dev_verb)v), "kind",
                                                    dev_kind((enum dev_kind_index)k)->singular,
                                                    "code", (int)code, "count", (json_int_t)n));
            }
        }
    }
    return list;
}

/* {"lease":{"update":7},"node/status":{"patch":3}} */
static json_t *describe_counts(const write_counts *counts, const struct dev_kind *only)
{
    json_t *by_kind = json_object();
    for (size_t k = 0; k < DEV_KIND_COUNT; k++) {
        const struct dev_kind *kind = dev_kind((enum dev_kind_index)k);
        if (only && only != kind)
            continue;
        for (size_t sub = 0; sub < SUBRESOURCES; sub++) {
            json_t *by_verb = json_object();
            for (size_t v = 0; v < WRITE_VERBS; v++) {
                uint32_t n = (*counts)[k][sub][v];
                if (n > 0)
                    json_object_set_new(by_verb, dev_verb_name((enum dev_verb)(v + DEV_CREATE)),
                                        json_integer(n));
            }
            char name[64];
            snprintf(name, sizeof(name), "%s%s", kind->singular,
                     sub ? (k == DEV_SERVICEACCOUNT ? "/token" : "/status") : "");
            if (json_object_size(by_verb) > 0)
                json_object_set(by_kind, name, by_verb);
            json_decref(by_verb);
        }
    }
    return by_kind;
}

json_t *dev_stats_writes(const struct dev_stats *s, const struct dev_kind *kind, const char *user,
                         bool is_summary)
{
    json_t *result = json_pack("{s:o,s:I}", "total", describe_counts(&s->totals, kind),
                               "unlistedUsers", (json_int_t)s->writes_of_unlisted_users);
    if (is_summary)
        return result;
    json_t *users = json_object();
    struct writer *w, *next;
    HASH_ITER (hh, s->writers, w, next) {
        if (user && strcmp(user, w->name) != 0)
            continue;
        json_t *counts = describe_counts((const write_counts *)&w->counts, kind);
        if (json_object_size(counts) > 0)
            json_object_set(users, w->name, counts);
        json_decref(counts);
    }
    json_object_set_new(result, "users", users);
    return result;
}
