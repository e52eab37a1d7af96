/* The store's model as a program: group.c behind lines of text, for test/sim/lua_agree.py, which
 * sends the same beats to balancer/beat.lua and compares the answers.
 *
 * In, one command a line, words apart by one space, numbers decimal, incarnations
 * of 16 hexadecimal digits:
 *     init PERIOD TIMEOUT CAP_PPM MOVES_PER_HOUR NODES           again: starts over
 *     join ID INCARNATION                                        answered with the member's number
 *     flush
 *     forge NOW_MS ID INCARNATION LIVE WEIGHT                    a record that somebody else wrote
 *     beat NOW_US MEMBER SEQ ACKED QUIET LIVE VERSION WEIGHT ROOM STATE MODE FULL LEAVING WANT
 *          COUNTS_AS_MOVES LOST UNNAMED NONCE BRIDGED ARRIVED RELEASED REFUSED NODE... AGE...
 *
 * ARRIVED, RELEASED and REFUSED say how many nodes of each kind follow, and an age for each of the
 * released. Out, for each beat:
 *     now epoch epoch_since named anonymous own grant landed full bad | records | moved | flights
 * with records as ID/INCARNATION:seen:since:seq:grant:live:version:weight:room:state:mode:full by
 * id and since, moved as positions from 0, flights as NODE:deadline:refusals:bridged:donor by
 * deadline.
 *
 * A line it cannot read ends it with status 2: the other side is a test. */
#include "test/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct model {
    struct group group;
    bool is_begun;
    uint32_t *nodes; /* of the beat being read, and ages */
    size_t room;
    uint8_t *moved;
};

static uint64_t next_number(char **line)
{
    char *end, *word = strsep(line, " \n");
    uint64_t n = word ? strtoull(word, &end, 10) : 0;
    if (!word || end == word || *end) {
        fprintf(stderr, "balance-sim --model: not a number: '%s'\n", word ? word : "");
        exit(2);
    }
    return n;
}

static uint64_t next_hex(char **line)
{
    char *end, *word = strsep(line, " \n");
    uint64_t n = word ? strtoull(word, &end, 16) : 0;
    if (!word || end == word || *end) {
        fprintf(stderr, "balance-sim --model: not a hexadecimal number\n");
        exit(2);
    }
    return n;
}

static const char *next_word(char **line)
{
    const char *word = strsep(line, " \n");
    if (word && *word)
        return word;
    fprintf(stderr, "balance-sim --model: a word is missing\n");
    exit(2);
}

static void begin(struct model *m, char *line)
{
    if (m->is_begun)
        group_fini(&m->group);
    struct balancer_config config = BALANCER_CONFIG_DEFAULT;
    config.period_ms = next_number(&line);
    config.inflight_timeout_ms = next_number(&line);
    uint64_t cap_ppm = next_number(&line);
    config.moves_per_hour = next_number(&line);
    group_init(&m->group, &config, (uint32_t)next_number(&line));
    m->group.cap_ppm = cap_ppm;
    m->is_begun = true;
}

static void forge_record(struct model *m, char *line)
{
    struct balancer_record record = {
        .version = BALANCER_RECORD_VERSION, .state = BALANCER_SERVING, .mode = BALANCER_ON};
    record.seen_server_ms = record.since_server_ms = next_number(&line);
    snprintf(record.id, sizeof(record.id), "%s", next_word(&line));
    record.incarnation = next_hex(&line);
    record.live = (uint32_t)next_number(&line);
    record.weight = (uint32_t)next_number(&line);
    group_forge(&m->group, &record);
}

static void print_records(const struct group *g, FILE *out)
{
    for (size_t i = 0; i < g->record_count; i++) {
        const struct balancer_record *r = &g->records[i];
        const struct group_entry *e = &g->entries[i];
        fprintf(out,
                " %s/%016" PRIx64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%u:%u:%u:%u:%u:%d:%d:%d",
                r->id, r->incarnation, r->seen_server_ms, r->since_server_ms, e->seq, e->grant,
                r->live, r->version, r->weight, r->room, (int)r->state, (int)r->mode, r->is_full);
    }
}

struct listed {
    uint64_t deadline_ms;
    uint32_t node;
};

static int compare_listed(const void *left, const void *right)
{
    const struct listed *a = left, *b = right;
    if (a->deadline_ms != b->deadline_ms)
        return a->deadline_ms < b->deadline_ms ? -1 : 1;
    return a->node < b->node ? -1 : 1;
}

static void print_flights(const struct group *g, FILE *out)
{
    struct listed *listed = malloc((g->named + 1) * sizeof(*listed));
    if (!listed) {
        perror("model");
        exit(2);
    }
    size_t count = 0;
    for (uint32_t node = 0; node < g->node_count && count < g->named; node++)
        if (g->flights[node].deadline_ms != 0)
            listed[count++] = (struct listed){g->flights[node].deadline_ms, node};
    qsort(listed, count, sizeof(*listed), compare_listed);
    for (size_t i = 0; i < count; i++) {
        const struct group_flight *f = &g->flights[listed[i].node];
        const struct group_member *donor = &g->members[f->donor];
        fprintf(out, " %u:%" PRIu64 ":%u:%d:%s/%016" PRIx64, listed[i].node, f->deadline_ms,
                f->refusals, f->is_bridged, donor->id, donor->incarnation);
    }
    free(listed);
}

static void print_answer(const struct group *g, const struct group_beat *beat,
                         const struct group_answer *answer, FILE *out)
{
    const struct balancer_view *v = &answer->view;
    fprintf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %u %u %u %u %" PRIu64 " %" PRIu64 " %u |",
            v->server_ms, v->epoch, v->epoch_since_server_ms, v->named_in_flight,
            v->anonymous_in_flight, v->own_in_flight, v->grant, v->landed, v->landed_full,
            v->bad_record_count);
    print_records(g, out);
    fputs(" |", out);
    for (size_t i = 0; i < beat->arrived_count; i++)
        if (answer->moved[i])
            fprintf(out, " %zu", i);
    fputs(" |", out);
    print_flights(g, out);
    fputc('\n', out);
    fflush(out);
}

static void read_nodes(struct model *m, struct group_beat *beat, char *line)
{
    beat->arrived_count = next_number(&line);
    beat->released_count = next_number(&line);
    beat->refused_count = next_number(&line);
    size_t named = beat->arrived_count + beat->released_count + beat->refused_count;
    size_t count = named + beat->released_count;
    if (count >= m->room) {
        m->room = 2 * count + 1;
        m->nodes = realloc(m->nodes, m->room * sizeof(*m->nodes));
        m->moved = realloc(m->moved, m->room);
        if (!m->nodes || !m->moved) {
            perror("model");
            exit(2);
        }
    }
    for (size_t i = 0; i < named; i++) {
        uint64_t node = next_number(&line);
        if (node >= m->group.node_count) {
            fprintf(stderr, "balance-sim --model: no such node\n");
            exit(2);
        }
        m->nodes[i] = (uint32_t)node;
    }
    for (size_t i = named; i < count; i++)
        m->nodes[i] = (uint32_t)next_number(&line);
    beat->ages_ms = m->nodes + named;
    beat->arrived = m->nodes;
    beat->released = beat->arrived + beat->arrived_count;
    beat->refused = beat->released + beat->released_count;
}

static void carry_out_beat(struct model *m, char *line, FILE *out)
{
    struct group_beat beat = {0};
    uint64_t now_us = next_number(&line);
    beat.member = (uint32_t)next_number(&line);
    beat.seq = next_number(&line);
    beat.acked = next_number(&line);
    beat.quiet_ms = next_number(&line);
    beat.self.live = (uint32_t)next_number(&line);
    beat.self.version = (uint32_t)next_number(&line);
    beat.self.weight = (uint32_t)next_number(&line);
    beat.self.room = (uint32_t)next_number(&line);
    beat.self.state = (enum balancer_state)next_number(&line);
    beat.self.mode = (enum balancer_mode)next_number(&line);
    beat.self.is_full = next_number(&line) != 0;
    beat.is_leaving = next_number(&line) != 0;
    beat.want = (uint32_t)next_number(&line);
    beat.counts_as_moves = next_number(&line) != 0;
    beat.lost = (uint32_t)next_number(&line);
    beat.unnamed = (uint32_t)next_number(&line);
    beat.nonce = next_number(&line);
    beat.bridged_count = next_number(&line);
    if (beat.member >= m->group.member_count) {
        fprintf(stderr, "balance-sim --model: no such member\n");
        exit(2);
    }
    read_nodes(m, &beat, line);
    struct group_answer answer = {.moved = m->moved};
    if (m->moved)
        memset(m->moved, 0, m->room);
    group_beat(&m->group, &beat, now_us, &answer);
    print_answer(&m->group, &beat, &answer, out);
}

static bool carry_out(struct model *m, char *line, FILE *out)
{
    const char *command = next_word(&line);
    if (strcmp(command, "init") == 0) {
        begin(m, line);
        return true;
    }
    if (!m->is_begun)
        return false;
    if (strcmp(command, "join") == 0) {
        const char *id = next_word(&line);
        fprintf(out, "%u\n", group_join(&m->group, id, next_hex(&line)));
        fflush(out);
    } else if (strcmp(command, "flush") == 0) {
        group_flush(&m->group);
    } else if (strcmp(command, "forge") == 0) {
        forge_record(m, line);
    } else if (strcmp(command, "beat") == 0) {
        carry_out_beat(m, line, out);
    } else {
        return false;
    }
    return true;
}

int model_serve(FILE *in, FILE *out)
{
    struct model m = {0};
    char *line = NULL;
    size_t room = 0;
    int status = 0;
    while (status == 0 && getline(&line, &room, in) > 0)
        if (!carry_out(&m, line, out)) {
            fprintf(stderr, "balance-sim --model: no such command\n");
            status = 2;
        }
    free(line);
    free(m.nodes);
    free(m.moved);
    if (m.is_begun)
        group_fini(&m.group);
    return status;
}
