/* See beat.h; the lists of keys, arguments and results stand at the head and the end of beat.lua.
 */
#include "balancer/beat.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- asking ---- */

static const char *const keys[] = {"epoch", "records", "flight", "meta",
                                   "away",  "lost",    "lost_n", "stat"};
#define KEY_COUNT (sizeof(keys) / sizeof(keys[0]))

static void add_names(struct redis_args *args, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        redis_args_add(args, names[i]);
}

static void add_ages(struct redis_args *args, const uint64_t *at_ms, size_t count, uint64_t now_ms)
{
    for (size_t i = 0; i < count; i++)
        redis_args_add_number(args, now_ms - at_ms[i]);
}

static void add_list_request(struct redis_args *args, const struct beat *b)
{
    if (b->wants_list)
        redis_args_add_number(args, b->list_from_ms);
    else
        redis_args_add(args, "");
    redis_args_add_number(args, b->list_skip);
    redis_args_add_number(args, BEAT_LIST_MAX);
}

void beat_encode(const struct beat *b, const struct balancer_config *c, struct redis_args *args)
{
    redis_args_add_number(args, KEY_COUNT);
    for (size_t i = 0; i < KEY_COUNT; i++)
        redis_args_add_format(args, "isthmus:{%s}:%s", b->group, keys[i]);
    redis_args_add_format(args, "%s/%016" PRIx64, b->id, b->incarnation);
    redis_args_add_number(args, b->seq);
    redis_args_add_number(args, b->acked);
    redis_args_add_number(args, b->quiet_ms);
    redis_args_add_number(args, c->period_ms);
    redis_args_add_number(args, c->inflight_timeout_ms);
    redis_args_add_number(args, b->live);
    redis_args_add_format(args, "%d %" PRIu64 " %" PRIu32 " %d %d %d", BALANCER_RECORD_VERSION,
                          c->weight, b->room, (int)b->state, (int)c->mode, b->is_full);
    redis_args_add_number(args, b->is_full);
    redis_args_add_number(args, b->is_leaving);
    redis_args_add_number(args, b->want);
    redis_args_add_number(args, (uint64_t)llround(c->release_max_fraction * 1e6));
    redis_args_add_number(args, c->moves_per_hour);
    redis_args_add_number(args, b->has_moves);
    redis_args_add_number(args, b->lost);
    redis_args_add_number(args, b->unnamed);
    redis_args_add_format(args, "%016" PRIx64, b->nonce);
    add_list_request(args, b);
    redis_args_add_number(args, b->arrived_count);
    redis_args_add_number(args, b->bridged_count + b->released_count);
    redis_args_add_number(args, b->refused_count);
    redis_args_add_number(args, b->bridged_count);
    add_names(args, b->arrived, b->arrived_count);
    add_names(args, b->bridged, b->bridged_count);
    add_names(args, b->released, b->released_count);
    add_names(args, b->refused, b->refused_count);
    add_ages(args, b->bridged_at_ms, b->bridged_count, b->now_ms);
    add_ages(args, b->released_at_ms, b->released_count, b->now_ms);
}

/* ---- reading ---- */

/* Decimal, without sign, up to the end or one blank, which is passed. */
static bool next_number(const char **at, uint64_t most, uint64_t *value)
{
    uint64_t sum = 0;
    const char *p = *at;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (sum > (UINT64_MAX - 9) / 10)
            return false;
        sum = sum * 10 + (uint64_t)(*p - '0');
    }
    if (p == *at || (*p != '\0' && *p != ' '))
        return false;
    *at = *p == ' ' ? p + 1 : p;
    *value = sum;
    return sum <= most;
}

static bool next_u32(const char **at, uint32_t *value)
{
    uint64_t wide;
    if (!next_number(at, UINT32_MAX, &wide))
        return false;
    *value = (uint32_t)wide;
    return true;
}

static bool read_count(const struct redis_reply *reply, uint32_t *count)
{
    int64_t value = redis_reply_integer(reply);
    *count = (uint32_t)value;
    return redis_reply_type(reply) == REDIS_INTEGER && value >= 0 && value <= UINT32_MAX;
}

static bool read_total(const struct redis_reply *reply, uint64_t *total)
{
    int64_t value = redis_reply_integer(reply);
    *total = (uint64_t)value;
    return redis_reply_type(reply) == REDIS_INTEGER && value >= 0;
}

static bool is_plain_text(const struct redis_reply *reply)
{
    size_t size;
    const char *text = redis_reply_text(reply, &size);
    return redis_reply_type(reply) == REDIS_TEXT && strlen(text) == size;
}

/* "id/incarnation", the latter of 16 hexadecimal digits */
static bool read_name(const char *name, struct balancer_record *r)
{
    const char *slash = strrchr(name, '/');
    if (!slash || slash == name || (size_t)(slash - name) >= sizeof(r->id))
        return false;
    memcpy(r->id, name, (size_t)(slash - name));
    r->id[slash - name] = '\0';
    if (strlen(slash + 1) != 16 || strspn(slash + 1, "0123456789abcdef") != 16)
        return false;
    r->incarnation = strtoull(slash + 1, NULL, 16);
    return true;
}

/* "seen since seq grant live", then "version weight room state mode full". Of another version only
 * what the script itself uses is known: it counts, and is not obeyed. */
static bool read_record(const char *text, struct balancer_record *r)
{
    uint64_t seq, grant, mode, state, full;
    if (!next_number(&text, UINT64_MAX, &r->seen_server_ms) ||
        !next_number(&text, UINT64_MAX, &r->since_server_ms) ||
        !next_number(&text, UINT64_MAX, &seq) || !next_number(&text, UINT64_MAX, &grant) ||
        !next_u32(&text, &r->live) || !next_u32(&text, &r->version))
        return false;
    if (r->version != BALANCER_RECORD_VERSION)
        return true;
    if (!next_u32(&text, &r->weight) || !next_u32(&text, &r->room) ||
        !next_number(&text, BALANCER_DRAINING, &state) || !next_number(&text, BALANCER_ON, &mode) ||
        !next_number(&text, 1, &full))
        return false;
    r->state = (enum balancer_state)state;
    r->mode = (enum balancer_mode)mode;
    r->is_full = full != 0;
    return true;
}

static int compare_records(const void *left, const void *right)
{
    const struct balancer_record *a = left, *b = right;
    int order = strcmp(a->id, b->id);
    if (order != 0)
        return order;
    if (a->since_server_ms != b->since_server_ms)
        return a->since_server_ms < b->since_server_ms ? -1 : 1;
    return a->incarnation < b->incarnation ? -1 : a->incarnation > b->incarnation;
}

static const char *read_records(const struct redis_reply *list, struct beat_answer *answer)
{
    struct balancer_view *view = &answer->view;
    size_t count = redis_reply_count(list);
    if (redis_reply_type(list) != REDIS_ARRAY || count % 2 != 0)
        return "the records are no list of pairs";
    for (size_t i = 0; i < count && view->record_count <= BALANCER_REPLICAS_MAX; i += 2) {
        const struct redis_reply *name = redis_reply_item(list, i);
        const struct redis_reply *value = redis_reply_item(list, i + 1);
        struct balancer_record *r = &answer->records[view->record_count];
        memset(r, 0, sizeof(*r));
        if (!is_plain_text(name) || !is_plain_text(value) ||
            !read_name(redis_reply_text(name, NULL), r) ||
            !read_record(redis_reply_text(value, NULL), r)) {
            view->bad_record_count++;
            continue;
        }
        answer->unknown_version_count += r->version != BALANCER_RECORD_VERSION;
        view->record_count++;
    }
    qsort(answer->records, view->record_count, sizeof(answer->records[0]), compare_records);
    view->records = answer->records;
    return NULL;
}

/* "since nonce"; the two are told apart from others by a hash. */
static bool read_epoch(const struct redis_reply *reply, struct balancer_view *view)
{
    const char *text = redis_reply_text(reply, NULL), *at = text;
    if (!is_plain_text(reply) || !next_number(&at, UINT64_MAX, &view->epoch_since_server_ms))
        return false;
    view->epoch = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *text; text++)
        view->epoch = (view->epoch ^ (unsigned char)*text) * 0x100000001b3u;
    return true;
}

static const char *read_moved(const struct redis_reply *list, size_t arrived_count,
                              struct beat_answer *answer)
{
    answer->moved = list;
    answer->moved_count = redis_reply_count(list);
    if (redis_reply_type(list) != REDIS_ARRAY || answer->moved_count > arrived_count)
        return "the moved nodes are more than arrived";
    for (size_t i = 0; i < answer->moved_count; i++) {
        const struct redis_reply *position = redis_reply_item(list, i);
        if (redis_reply_type(position) != REDIS_INTEGER || redis_reply_integer(position) < 0 ||
            (uint64_t)redis_reply_integer(position) >= arrived_count)
            return "a moved node is none that arrived";
    }
    return NULL;
}

static int compare_ids(const void *id, const void *record)
{
    return strcmp(id, ((const struct balancer_record *)record)->id);
}

/* Who is gone renews nobody's lease. The records are sorted by id. */
static bool is_listed(const struct balancer_view *view, const char *name)
{
    struct balancer_record donor;
    if (!read_name(name, &donor))
        return false;
    const struct balancer_record *r =
        bsearch(donor.id, view->records, view->record_count, sizeof(view->records[0]), compare_ids);
    if (!r)
        return false;
    while (r > view->records && strcmp(r[-1].id, donor.id) == 0)
        r--;
    const struct balancer_record *end = view->records + view->record_count;
    for (; r < end && strcmp(r->id, donor.id) == 0; r++)
        if (r->incarnation == donor.incarnation)
            return true;
    return false;
}

/* "refusals bridged donor"; it may have landed between the list and the look at it: false. */
static bool read_flight(const struct balancer_view *view, const struct redis_reply *node,
                        const struct redis_reply *deadline, const struct redis_reply *meta,
                        struct beat_flight *f)
{
    const char *when = redis_reply_text(deadline, NULL), *what = redis_reply_text(meta, NULL);
    uint64_t bridged;
    size_t size;
    f->node = redis_reply_text(node, &size);
    if (!is_plain_text(node) || size == 0 || size > BEAT_NAME_MAX || !is_plain_text(meta) ||
        !is_plain_text(deadline))
        return false;
    if (!next_number(&when, UINT64_MAX, &f->deadline_ms) || !next_u32(&what, &f->refusals) ||
        !next_number(&what, 1, &bridged))
        return false;
    f->is_bridged = bridged != 0 && is_listed(view, what);
    return true;
}

static const char *read_flights(const struct redis_reply *list, const struct redis_reply *metas,
                                struct beat_answer *answer)
{
    size_t count = redis_reply_count(metas);
    if (redis_reply_type(list) != REDIS_ARRAY || redis_reply_type(metas) != REDIS_ARRAY ||
        redis_reply_count(list) != 2 * count || count > BEAT_LIST_MAX)
        return "the nodes in flight are no list of pairs, or too many";
    answer->listed_count = count;
    for (size_t i = 0; i < count; i++) {
        struct beat_flight *f = &answer->flights[answer->flight_count];
        if (!read_flight(&answer->view, redis_reply_item(list, 2 * i),
                         redis_reply_item(list, 2 * i + 1), redis_reply_item(metas, i), f))
            continue;
        answer->last_deadline_ms = f->deadline_ms;
        answer->flight_count++;
    }
    return NULL;
}

/* The order of the script's return. */
enum item {
    ITEM_NOW,
    ITEM_EPOCH,
    ITEM_NAMED,
    ITEM_ANONYMOUS,
    ITEM_OWN,
    ITEM_GRANT,
    ITEM_LANDED,
    ITEM_FULL,
    ITEM_BAD,
    ITEM_RECORDS,
    ITEM_MOVED,
    ITEM_LISTED,
    ITEM_METAS,
    ITEM_COUNT
};

static const char *read_numbers(const struct redis_reply *reply, struct balancer_view *view)
{
    const struct redis_reply *now = redis_reply_item(reply, ITEM_NOW);
    const char *now_text = redis_reply_text(now, NULL);
    if (!is_plain_text(now) || !next_number(&now_text, INT64_MAX, &view->server_ms) || *now_text)
        return "its time is no number";
    if (!read_epoch(redis_reply_item(reply, ITEM_EPOCH), view))
        return "the epoch is malformed";
    if (!read_count(redis_reply_item(reply, ITEM_NAMED), &view->named_in_flight) ||
        !read_count(redis_reply_item(reply, ITEM_ANONYMOUS), &view->anonymous_in_flight) ||
        !read_count(redis_reply_item(reply, ITEM_OWN), &view->own_in_flight) ||
        !read_count(redis_reply_item(reply, ITEM_GRANT), &view->grant) ||
        !read_total(redis_reply_item(reply, ITEM_LANDED), &view->landed) ||
        !read_total(redis_reply_item(reply, ITEM_FULL), &view->landed_full) ||
        !read_count(redis_reply_item(reply, ITEM_BAD), &view->bad_record_count))
        return "a number is missing or out of range";
    return NULL;
}

const char *beat_decode(const struct redis_reply *reply, size_t arrived_count,
                        struct beat_answer *answer)
{
    memset(&answer->view, 0, sizeof(answer->view));
    answer->unknown_version_count = 0;
    answer->moved_count = answer->flight_count = answer->listed_count = 0;
    answer->last_deadline_ms = 0;
    if (redis_reply_type(reply) != REDIS_ARRAY || redis_reply_count(reply) < ITEM_COUNT)
        return "it is no list, or too short";
    const char *wrong = read_numbers(reply, &answer->view);
    if (!wrong)
        wrong = read_records(redis_reply_item(reply, ITEM_RECORDS), answer);
    if (!wrong)
        wrong = read_moved(redis_reply_item(reply, ITEM_MOVED), arrived_count, answer);
    if (!wrong)
        wrong = read_flights(redis_reply_item(reply, ITEM_LISTED),
                             redis_reply_item(reply, ITEM_METAS), answer);
    return wrong;
}

size_t beat_moved(const struct beat_answer *answer, size_t i)
{
    assert(i < answer->moved_count);
    return (size_t)redis_reply_integer(redis_reply_item(answer->moved, i));
}
