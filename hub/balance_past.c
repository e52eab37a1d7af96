/* See balance_past.h. */
#include "hub/balance_past.h"

#include <stdbool.h>
#include <string.h>

/* Its index; BALANCE_PAST_REPLICAS: it has none. */
static size_t find(const struct balance_past *past, const char *id)
{
    size_t i = *id ? 0 : BALANCE_PAST_REPLICAS;
    while (i < BALANCE_PAST_REPLICAS && strcmp(past->replicas[i].id, id) != 0)
        i++;
    return i;
}

/* Gone for as long as can be drawn. */
static bool is_forgotten(const struct balance_past_replica *r)
{
    for (size_t i = 0; i < HISTORY_SAMPLES; i++) {
        if (r->live[i] != BALANCE_PAST_ABSENT)
            return false;
    }
    return true;
}

static size_t make_room(struct balance_past *past, const char *id)
{
    size_t n = strlen(id);
    for (size_t i = 0; i < BALANCE_PAST_REPLICAS; i++) {
        struct balance_past_replica *r = &past->replicas[i];
        if ((r->id[0] && !is_forgotten(r)) || n == 0 || n >= sizeof(r->id))
            continue;
        memcpy(r->id, id, n + 1);
        memset(r->live, 0xff, sizeof(r->live)); /* absent until now */
        return i;
    }
    return BALANCE_PAST_REPLICAS;
}

void balance_past_add(struct balance_past *past, const struct balance_past_sample *samples,
                      size_t count)
{
    size_t now = past->next;
    for (size_t i = 0; i < BALANCE_PAST_REPLICAS; i++)
        past->replicas[i].live[now] = BALANCE_PAST_ABSENT;
    for (size_t i = 0; i < count; i++) {
        size_t at = find(past, samples[i].id);
        if (at == BALANCE_PAST_REPLICAS)
            at = make_room(past, samples[i].id);
        if (at < BALANCE_PAST_REPLICAS)
            past->replicas[at].live[now] = samples[i].live;
    }
    past->next = (now + 1) % HISTORY_SAMPLES;
    if (past->count < HISTORY_SAMPLES)
        past->count++;
}

const struct balance_past_replica *balance_past_find(const struct balance_past *past,
                                                     const char *id)
{
    size_t at = find(past, id);
    return at < BALANCE_PAST_REPLICAS ? &past->replicas[at] : NULL;
}

uint32_t balance_past_at(const struct balance_past *past,
                         const struct balance_past_replica *replica, size_t i)
{
    return replica->live[(past->next + HISTORY_SAMPLES - past->count + i) % HISTORY_SAMPLES];
}
