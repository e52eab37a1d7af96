/* See group.h. The order of the steps is the script's; the comments are there. */
#include "test/sim/group.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKWARD_MS 1000
#define PART_MS     (3600000 / GROUP_HOUR_PARTS)

static void *grow(void *items, size_t *room, size_t needed, size_t item_size)
{
    if (needed <= *room)
        return items;
    size_t more = *room ? *room * 2 : 16;
    while (more < needed)
        more *= 2;
    void *grown = realloc(items, more * item_size);
    if (!grown) {
        perror("group");
        exit(2);
    }
    *room = more;
    return grown;
}

static void *copy(const void *items, size_t count, size_t item_size)
{
    void *copied = malloc(count * item_size + 1);
    if (!copied) {
        perror("group");
        exit(2);
    }
    if (count > 0)
        memcpy(copied, items, count * item_size);
    return copied;
}

void group_init(struct group *g, const struct balancer_config *config, uint32_t node_count)
{
    memset(g, 0, sizeof(*g));
    g->period_ms = config->period_ms;
    g->timeout_ms = config->inflight_timeout_ms;
    g->cap_ppm = (uint64_t)llround(config->release_max_fraction * 1e6);
    g->moves_per_hour = config->moves_per_hour;
    g->node_count = node_count;
    g->flights = calloc(node_count + 1, sizeof(*g->flights));
    if (!g->flights) {
        perror("group");
        exit(2);
    }
}

void group_fini(struct group *g)
{
    free(g->members);
    free(g->records);
    free(g->entries);
    free(g->flights);
    free(g->queue);
    free(g->batches);
    memset(g, 0, sizeof(*g));
}

void group_copy(struct group *to, const struct group *from)
{
    *to = *from;
    to->members = copy(from->members, from->member_room, sizeof(*from->members));
    to->records = copy(from->records, from->record_room, sizeof(*from->records));
    to->entries = copy(from->entries, from->record_room, sizeof(*from->entries));
    to->flights = copy(from->flights, from->node_count + 1, sizeof(*from->flights));
    to->queue = copy(from->queue, from->queue_room, sizeof(*from->queue));
    to->batches = copy(from->batches, from->batch_room, sizeof(*from->batches));
}

uint32_t group_join(struct group *g, const char *id, uint64_t incarnation)
{
    g->members = grow(g->members, &g->member_room, g->member_count + 1, sizeof(*g->members));
    struct group_member *m = &g->members[g->member_count];
    memset(m, 0, sizeof(*m));
    snprintf(m->id, sizeof(m->id), "%s", id);
    m->incarnation = incarnation;
    return (uint32_t)g->member_count++;
}

uint32_t group_anonymous(const struct group *g)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < g->batch_count; i++)
        sum += g->batches[i].count;
    return sum;
}

/* ---- in flight ---- */

static void forget(struct group *g, uint32_t node)
{
    struct group_flight *f = &g->flights[node];
    if (f->deadline_ms == 0)
        return;
    f->deadline_ms = 0;
    g->named--;
    if (g->members[f->donor].away > 0)
        g->members[f->donor].away--;
}

static void enqueue(struct group *g, uint32_t node, uint64_t deadline_ms)
{
    g->queue = grow(g->queue, &g->queue_room, g->queue_count + 1, sizeof(*g->queue));
    size_t i = g->queue_count++;
    for (; i > 0 && g->queue[(i - 1) / 2].deadline_ms > deadline_ms; i = (i - 1) / 2)
        g->queue[i] = g->queue[(i - 1) / 2];
    g->queue[i] = (struct group_overdue){deadline_ms, node};
}

static struct group_overdue dequeue(struct group *g)
{
    struct group_overdue first = g->queue[0], last = g->queue[--g->queue_count];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < g->queue_count; i = child) {
        if (child + 1 < g->queue_count &&
            g->queue[child + 1].deadline_ms < g->queue[child].deadline_ms)
            child++;
        if (g->queue[child].deadline_ms >= last.deadline_ms)
            break;
        g->queue[i] = g->queue[child];
    }
    g->queue[i] = last;
    return first;
}

/* The i-th of the released. */
static void launch(struct group *g, const struct group_beat *beat, size_t i, uint64_t now_ms)
{
    uint32_t node = beat->released[i];
    uint64_t deadline_ms = now_ms + g->timeout_ms - (beat->ages_ms ? beat->ages_ms[i] : 0);
    forget(g, node);
    enqueue(g, node, deadline_ms);
    g->flights[node] = (struct group_flight){
        .deadline_ms = deadline_ms, .donor = beat->member, .is_bridged = i < beat->bridged_count};
    g->named++;
    g->members[beat->member].away++;
}

static void expire_flights(struct group *g, uint64_t now_ms)
{
    while (g->queue_count > 0 && g->queue[0].deadline_ms <= now_ms) {
        struct group_overdue first = dequeue(g);
        if (g->flights[first.node].deadline_ms == first.deadline_ms)
            forget(g, first.node);
    }
}

/* ---- nodes without a name ---- */

/* The sorted set orders equal deadlines by name: "g:id/incarnation" before "l:deadline". */
static int compare_batches(const struct group *g, const struct group_batch *a,
                           const struct group_batch *b)
{
    if (a->deadline_ms != b->deadline_ms)
        return a->deadline_ms < b->deadline_ms ? -1 : 1;
    if (a->member == b->member)
        return 0;
    if (a->member == GROUP_NOBODY || b->member == GROUP_NOBODY)
        return a->member == GROUP_NOBODY ? 1 : -1;
    const struct group_member *m = &g->members[a->member], *n = &g->members[b->member];
    char left[BALANCER_ID_SIZE + 24], right[BALANCER_ID_SIZE + 24];
    snprintf(left, sizeof(left), "%s/%016llx", m->id, (unsigned long long)m->incarnation);
    snprintf(right, sizeof(right), "%s/%016llx", n->id, (unsigned long long)n->incarnation);
    return strcmp(left, right);
}

static void remove_batch(struct group *g, size_t i)
{
    g->batch_count--;
    memmove(&g->batches[i], &g->batches[i + 1], (g->batch_count - i) * sizeof(*g->batches));
}

static void remove_batch_of(struct group *g, uint32_t member)
{
    for (size_t i = 0; i < g->batch_count; i++)
        if (g->batches[i].member == member) {
            remove_batch(g, i);
            return;
        }
}

static void add_lost(struct group *g, uint32_t member, uint32_t count, uint64_t deadline_ms)
{
    if (count == 0)
        return;
    struct group_batch batch = {deadline_ms, member, count};
    size_t i = 0;
    while (i < g->batch_count && compare_batches(g, &g->batches[i], &batch) < 0)
        i++;
    if (i < g->batch_count && compare_batches(g, &g->batches[i], &batch) == 0) {
        g->batches[i].count += count;
        return;
    }
    g->batches = grow(g->batches, &g->batch_room, g->batch_count + 1, sizeof(*g->batches));
    memmove(&g->batches[i + 1], &g->batches[i], (g->batch_count - i) * sizeof(*g->batches));
    g->batches[i] = batch;
    g->batch_count++;
}

static void take_lost(struct group *g, uint32_t count)
{
    while (count > 0 && g->batch_count > 0) {
        uint32_t taken = g->batches[0].count < count ? g->batches[0].count : count;
        g->batches[0].count -= taken;
        count -= taken;
        if (g->batches[0].count == 0)
            remove_batch(g, 0);
    }
}

/* ---- records ---- */

static size_t find_record(const struct group *g, uint32_t member)
{
    size_t i = 0;
    while (i < g->record_count && g->entries[i].member != member)
        i++;
    return i;
}

static void remove_record(struct group *g, size_t i)
{
    if (g->entries[i].member != GROUP_NOBODY)
        g->members[g->entries[i].member].is_listed = false;
    g->record_count--;
    memmove(&g->records[i], &g->records[i + 1], (g->record_count - i) * sizeof(*g->records));
    memmove(&g->entries[i], &g->entries[i + 1], (g->record_count - i) * sizeof(*g->entries));
}

static size_t insert_record(struct group *g, const struct balancer_record *record)
{
    size_t room = g->record_room;
    g->records = grow(g->records, &room, g->record_count + 1, sizeof(*g->records));
    g->entries = grow(g->entries, &g->record_room, g->record_count + 1, sizeof(*g->entries));
    size_t i = g->record_count;
    for (; i > 0; i--) {
        const struct balancer_record *before = &g->records[i - 1];
        int order = strcmp(before->id, record->id);
        if (order < 0 || (order == 0 && before->since_server_ms <= record->since_server_ms))
            break;
        g->records[i] = *before;
        g->entries[i] = g->entries[i - 1];
    }
    g->records[i] = *record;
    g->entries[i] = (struct group_entry){.member = GROUP_NOBODY};
    g->record_count++;
    return i;
}

void group_forge(struct group *g, const struct balancer_record *record)
{
    for (size_t i = 0; i < g->record_count; i++)
        if (g->records[i].incarnation == record->incarnation &&
            strcmp(g->records[i].id, record->id) == 0)
            remove_record(g, i);
    insert_record(g, record);
}

void group_flush(struct group *g)
{
    while (g->record_count > 0)
        remove_record(g, g->record_count - 1);
    for (size_t i = 0; i < g->queue_count; i++)
        g->flights[g->queue[i].node].deadline_ms = 0;
    for (size_t i = 0; i < g->member_count; i++)
        g->members[i].away = 0;
    g->queue_count = 0;
    g->named = 0;
    g->batch_count = 0;
    memset(g->parts, 0, sizeof(g->parts));
    g->clock_ms = g->landed = g->landed_full = g->epoch = 0;
}

/* ---- the beat ---- */

static void check_epoch(struct group *g, const struct group_beat *beat, size_t own, uint64_t now_ms)
{
    bool is_known = own < g->record_count;
    uint64_t known_seq = is_known ? g->entries[own].seq : 0;
    bool has_lost = beat->acked > 0 && beat->quiet_ms < 2 * g->period_ms &&
                    (!is_known || known_seq < beat->acked);
    bool has_stepped = false;
    if (is_known && beat->acked > 0 && known_seq == beat->acked) {
        int64_t late = (int64_t)(now_ms - g->records[own].seen_server_ms - beat->quiet_ms);
        has_stepped = llabs(late) > (int64_t)g->period_ms + BACKWARD_MS;
    }
    if (g->epoch && !has_lost && !has_stepped)
        return;
    g->epoch = beat->nonce;
    g->epoch_since_ms = now_ms;
}

struct sums {
    uint64_t fleet, granted;
    uint32_t bad;
};

static struct sums read_others(struct group *g, const struct group_beat *beat, uint64_t now_ms)
{
    struct sums sums = {.fleet = beat->self.live};
    const char *own_id = g->members[beat->member].id;
    for (size_t i = 0; i < g->record_count;) {
        const struct balancer_record *r = &g->records[i];
        uint32_t member = g->entries[i].member;
        int64_t age = (int64_t)(now_ms - r->seen_server_ms);
        if (member == beat->member) {
            i++;
        } else if (age < -(int64_t)g->period_ms) {
            sums.bad++;
            remove_record(g, i);
        } else if (age > 3 * (int64_t)g->period_ms ||
                   (2 * age > 3 * (int64_t)g->period_ms && strcmp(r->id, own_id) == 0)) {
            add_lost(g, member, r->live, now_ms + g->timeout_ms);
            remove_record(g, i);
        } else {
            sums.fleet += r->live;
            sums.granted += g->entries[i].grant;
            i++;
        }
    }
    return sums;
}

static void book(struct group *g, const struct group_beat *beat, bool was_full, uint64_t now_ms,
                 struct group_answer *answer)
{
    uint64_t bucket = (now_ms + g->timeout_ms + g->period_ms - 1) / g->period_ms * g->period_ms;
    add_lost(g, GROUP_NOBODY, beat->lost, bucket);
    uint32_t unnamed = beat->unnamed;
    uint64_t landed = 0;
    for (size_t i = 0; i < beat->arrived_count; i++) {
        bool was_released = g->flights[beat->arrived[i]].deadline_ms != 0;
        forget(g, beat->arrived[i]);
        unnamed += !was_released;
        landed += was_released;
        if (answer->moved)
            answer->moved[i] = was_released;
    }
    answer->moved_count = landed;
    g->landed += landed;
    g->landed_full += was_full && beat->self.is_full ? landed : 0;
    take_lost(g, unnamed);
    for (size_t i = 0; i < beat->released_count; i++)
        launch(g, beat, i, now_ms);
    for (size_t i = 0; i < beat->refused_count; i++)
        if (g->flights[beat->refused[i]].deadline_ms != 0)
            g->flights[beat->refused[i]].refusals++;
}

static void mark_all(const struct group_beat *beat, struct group_answer *answer)
{
    answer->moved_count = beat->arrived_count;
    if (answer->moved && beat->arrived_count > 0)
        memset(answer->moved, 1, beat->arrived_count);
}

/* Counts `moves` in the part of the hour that runs; returns all of the last hour, or a little more.
 */
static uint64_t count_moves(struct group *g, size_t moves, uint64_t now_ms)
{
    uint64_t part = now_ms / PART_MS, lately = 0;
    struct group_part *own = &g->parts[part % (GROUP_HOUR_PARTS + 1)];
    if (moves > 0)
        *own = (struct group_part){part, (own->part == part ? own->moves : 0) + moves};
    for (size_t i = 0; i <= GROUP_HOUR_PARTS; i++)
        if (part - g->parts[i].part <= GROUP_HOUR_PARTS)
            lately += g->parts[i].moves;
    return lately;
}

/* In doubles, as the script counts. */
static uint32_t grant_releases(struct group *g, const struct group_beat *beat, struct sums sums,
                               bool is_repeated, uint64_t now_ms)
{
    double in_flight = g->named + group_anonymous(g);
    double fleet = (double)sums.fleet + in_flight;
    double per_hour = (double)g->moves_per_hour;
    if (g->moves_per_hour == 0)
        per_hour = fleet > 100 ? fleet : 100;
    bool has_moves = !is_repeated && beat->counts_as_moves;
    double lately = (double)count_moves(g, has_moves ? beat->released_count : 0, now_ms);
    double cap = fmax(1, floor(fleet * (double)g->cap_ppm / 1e6));
    double grant = cap - in_flight - (double)sums.granted;
    grant = fmin(grant, per_hour - lately - (double)sums.granted);
    grant = fmax(0, fmin(grant, (double)beat->want));
    return (uint32_t)grant;
}

static void write_record(struct group *g, const struct group_beat *beat, uint64_t since_ms,
                         uint32_t grant, uint64_t now_ms)
{
    struct group_member *m = &g->members[beat->member];
    size_t own = m->is_listed ? find_record(g, beat->member) : g->record_count;
    if (beat->is_leaving) {
        if (own < g->record_count)
            remove_record(g, own);
        return;
    }
    struct balancer_record record = beat->self;
    memcpy(record.id, m->id, sizeof(record.id));
    record.incarnation = m->incarnation;
    record.since_server_ms = since_ms;
    record.seen_server_ms = now_ms;
    if (own == g->record_count)
        own = insert_record(g, &record);
    g->records[own] = record;
    g->entries[own] = (struct group_entry){beat->member, grant, beat->seq};
    m->is_listed = true;
}

void group_beat(struct group *g, const struct group_beat *beat, uint64_t now_us,
                struct group_answer *answer)
{
    uint64_t now_ms = now_us / 1000;
    answer->moved_count = 0;
    if (g->clock_ms && now_ms + BACKWARD_MS < g->clock_ms)
        group_flush(g);
    g->clock_ms = now_ms;

    size_t own =
        g->members[beat->member].is_listed ? find_record(g, beat->member) : g->record_count;
    bool is_known = own < g->record_count;
    uint64_t since_ms = is_known ? g->records[own].since_server_ms : now_ms;
    bool was_full = is_known && g->records[own].is_full;
    bool is_repeated = is_known && g->entries[own].seq == beat->seq;
    check_epoch(g, beat, own, now_ms);
    expire_flights(g, now_ms);
    while (g->batch_count > 0 && g->batches[0].deadline_ms <= now_ms)
        remove_batch(g, 0);
    struct sums sums = read_others(g, beat, now_ms);
    if (!is_known)
        remove_batch_of(g, beat->member);
    if (is_repeated)
        mark_all(beat, answer);
    else
        book(g, beat, was_full, now_ms, answer);
    uint32_t grant = grant_releases(g, beat, sums, is_repeated, now_ms);
    write_record(g, beat, since_ms, grant, now_ms);

    answer->view = (struct balancer_view){
        .records = g->records,
        .record_count = g->record_count,
        .bad_record_count = sums.bad,
        .server_ms = now_ms,
        .epoch = g->epoch,
        .epoch_since_server_ms = g->epoch_since_ms,
        .named_in_flight = g->named,
        .anonymous_in_flight = group_anonymous(g),
        .own_in_flight = g->members[beat->member].away,
        .grant = grant,
        .landed = g->landed,
        .landed_full = g->landed_full,
    };
}
