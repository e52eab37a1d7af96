/* See edge_requests.h. */
#include "test/edgesim/edge_requests.h"
#include "test/edgesim/edge_link.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RING_MIN 8
#define RING_MAX 65536

void edge_requests_init(struct edge_requests *r)
{
    *r = (struct edge_requests){.next = 1, .check_us = EDGE_NEVER};
}

void edge_requests_fini(struct edge_requests *r)
{
    for (uint32_t i = 0; i < r->capacity; i++)
        free(r->ring[i].text);
    free(r->ring);
    edge_requests_init(r);
}

bool edge_request_is_pending(const struct edge_request *q)
{
    return q->state == EDGE_REQUEST_WAITING || q->state == EDGE_REQUEST_OPEN ||
           q->state == EDGE_REQUEST_LOST;
}

static struct edge_request *place(struct edge_requests *r, uint64_t sequence)
{
    return &r->ring[sequence & (r->capacity - 1)];
}

static bool grow(struct edge_requests *r)
{
    uint32_t capacity = r->capacity ? r->capacity * 2 : RING_MIN;
    if (capacity > RING_MAX)
        return false;
    struct edge_requests larger = *r;
    larger.ring = calloc(capacity, sizeof(*larger.ring));
    if (!larger.ring)
        return false;
    larger.capacity = capacity;
    for (uint32_t i = 0; i < r->capacity; i++) {
        if (r->ring[i].state != EDGE_REQUEST_FREE)
            *place(&larger, r->ring[i].sequence) = r->ring[i];
    }
    free(r->ring);
    *r = larger;
    return true;
}

struct edge_request *edge_requests_open(struct edge_requests *r, enum edge_kind kind,
                                        enum edge_asker asker, uint32_t tag, const char *text,
                                        size_t size, uint64_t deadline_us)
{
    while (r->capacity == 0 || edge_request_is_pending(place(r, r->next))) {
        if (!grow(r))
            return NULL;
    }
    char *copy = malloc(size);
    if (!copy)
        return NULL;
    memcpy(copy, text, size);
    struct edge_request *q = place(r, r->next);
    *q = (struct edge_request){.sequence = r->next++,
                               .deadline_us = deadline_us,
                               .text = copy,
                               .size = (uint32_t)size,
                               .tag = tag,
                               .kind = (uint8_t)kind,
                               .state = EDGE_REQUEST_WAITING,
                               .asker = (uint8_t)asker};
    r->pending++;
    if (deadline_us < r->check_us)
        r->check_us = deadline_us;
    return q;
}

struct edge_request *edge_requests_find(struct edge_requests *r, uint64_t sequence)
{
    if (r->capacity == 0 || sequence == 0)
        return NULL;
    struct edge_request *q = place(r, sequence);
    return q->sequence == sequence ? q : NULL;
}

void edge_requests_close(struct edge_requests *r, struct edge_request *q,
                         enum edge_request_state state)
{
    assert(edge_request_is_pending(q) && r->pending > 0);
    free(q->text);
    q->text = NULL;
    q->state = (uint8_t)state;
    r->pending--;
}

void edge_requests_extend(struct edge_requests *r, struct edge_request *q, uint64_t deadline_us)
{
    assert(edge_request_is_pending(q));
    q->deadline_us = deadline_us;
    q->is_repetition = true;
    if (deadline_us < r->check_us)
        r->check_us = deadline_us;
}

struct edge_request *edge_requests_expired(struct edge_requests *r, uint64_t now_us)
{
    if (now_us < r->check_us)
        return NULL;
    uint64_t first = EDGE_NEVER;
    for (uint32_t i = 0; i < r->capacity; i++) {
        struct edge_request *q = &r->ring[i];
        if (!edge_request_is_pending(q))
            continue;
        if (q->deadline_us <= now_us)
            return q;
        if (q->deadline_us < first)
            first = q->deadline_us;
    }
    r->check_us = first;
    return NULL;
}

uint64_t edge_requests_due(const struct edge_requests *r)
{
    return r->pending ? r->check_us : EDGE_NEVER;
}

void edge_requests_recount(const struct edge_requests *r, struct edge_stats *stats)
{
    for (uint32_t i = 0; i < r->capacity; i++) {
        const struct edge_request *q = &r->ring[i];
        if (!edge_request_is_pending(q) || q->sends == 0)
            continue;
        stats->kinds[q->kind].ids++;
        if (q->state == EDGE_REQUEST_LOST)
            stats->kinds[q->kind].lost++;
    }
}
