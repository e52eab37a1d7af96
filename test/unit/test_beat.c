/* A beat in Redis' protocol, and answers in it: good ones, and what must not be believed. Also the
 * list of nodes in flight that is made of them. */
#include "balancer/beat.h"
#include "balancer/flights.h"

#include "test/lib/heap.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct balancer_config config = BALANCER_CONFIG_DEFAULT;
static struct beat_answer answer;

/* ---- asking ---- */

static const char *const names[] = {"n1", "n2", "n3", "n4"};

static const uint64_t let_go_ms[] = {900, 750};

static struct beat a_beat(void)
{
    return (struct beat){.group = "west",
                         .id = "hub-1",
                         .incarnation = 0xab,
                         .seq = 7,
                         .acked = 6,
                         .quiet_ms = 5001,
                         .nonce = 0xcd,
                         .live = 10,
                         .room = 90,
                         .state = BALANCER_SERVING,
                         .is_full = true,
                         .want = 3,
                         .lost = 4,
                         .unnamed = 5,
                         .arrived = names,
                         .arrived_count = 1,
                         .bridged = names + 1,
                         .bridged_count = 1,
                         .released = names + 2,
                         .released_count = 1,
                         .bridged_at_ms = let_go_ms,
                         .released_at_ms = let_go_ms + 1,
                         .now_ms = 1000,
                         .has_moves = true,
                         .refused = names + 3,
                         .refused_count = 1};
}

/* The words of the command, joined by blanks. */
static void read_words(const struct redis_args *args, char *out, size_t room)
{
    char *bytes = malloc(args->size + 32);
    assert_non_null(bytes);
    int head = snprintf(bytes, 32, "*%zu\r\n", args->count);
    memcpy(bytes + head, args->bytes, args->size);
    struct redis_reply *words = redis_reply_parse(bytes, (size_t)head + args->size);
    free(bytes);
    assert_int_equal(redis_reply_count(words), args->count);
    *out = '\0';
    for (size_t i = 0; i < args->count; i++) {
        size_t used = strlen(out);
        const char *word = redis_reply_text(redis_reply_item(words, i), NULL);
        snprintf(out + used, room - used, i ? " %s" : "%s", *word ? word : "-");
    }
    redis_reply_free(words);
}

static void test_encode(void **state)
{
    (void)state;
    char text[2048];
    struct redis_args args = {0};
    struct beat beat = a_beat();
    beat_encode(&beat, &config, &args);
    assert_false(args.has_failed);
    read_words(&args, text, sizeof(text));
    assert_string_equal(
        text, "8 isthmus:{west}:epoch isthmus:{west}:records isthmus:{west}:flight "
              "isthmus:{west}:meta isthmus:{west}:away isthmus:{west}:lost isthmus:{west}:lost_n "
              "isthmus:{west}:stat hub-1/00000000000000ab 7 6 5001 5000 90000 10 "
              "1 100 90 1 2 1 1 0 3 100000 0 1 4 5 00000000000000cd - 0 4000 1 2 1 1 n1 n2 n3 n4 "
              "100 250");
    beat.wants_list = beat.is_leaving = true;
    beat.state = BALANCER_DRAINING;
    beat.has_moves = false;
    beat.list_from_ms = 123;
    beat.list_skip = 2;
    beat.arrived_count = beat.bridged_count = beat.released_count = beat.refused_count = 0;
    redis_args_clear(&args);
    beat_encode(&beat, &config, &args);
    read_words(&args, text, sizeof(text));
    assert_non_null(strstr(text, " 1 100 90 2 2 1 1 1 3 100000 0 0 4 5 "));
    assert_non_null(strstr(text, " 00000000000000cd 123 2 4000 0 0 0 0"));
    redis_args_fini(&args);
}

static void test_encode_without_memory(void **state)
{
    (void)state;
    struct beat beat = a_beat();
    for (unsigned n = 1;; n++) {
        struct redis_args args = {0};
        heap_fail_nth(n);
        beat_encode(&beat, &config, &args);
        bool has_failed = heap_fail_end();
        assert_int_equal(args.has_failed, has_failed);
        redis_args_fini(&args);
        if (!has_failed)
            break;
    }
}

/* ---- reading ---- */

/* An answer under construction, in the order of the script's return. */
struct answer_text {
    const char *now, *epoch, *numbers, *records, *moved, *listed, *metas;
};

#define NUMBERS ":3\r\n:2\r\n:1\r\n:7\r\n:40\r\n:4\r\n:0\r\n"
#define NOW     "$4\r\n9000\r\n"
#define EPOCH   "$6\r\n1000 x\r\n"
#define NONE    "*0\r\n"
static const struct answer_text plain = {NOW, EPOCH, NUMBERS, NONE, NONE, NONE, NONE};

static const char *decode(const struct answer_text *t, size_t arrived)
{
    static struct redis_reply *reply; /* the answer borrows from it */
    char bytes[8192];
    int size = snprintf(bytes, sizeof(bytes), "*13\r\n%s%s%s%s%s%s%s", t->now, t->epoch, t->numbers,
                        t->records, t->moved, t->listed, t->metas);
    redis_reply_free(reply);
    reply = redis_reply_parse(bytes, (size_t)size);
    assert_non_null(reply);
    return beat_decode(reply, arrived, &answer);
}

static void test_decode(void **state)
{
    (void)state;
    struct answer_text t = plain;
    t.records = "*6\r\n"
                "$18\r\nb/00000000000000bb\r\n$29\r\n8000 1000 5 2 150 1 100 5 1 2\r\n"
                "$18\r\nb/00000000000000ba\r\n$31\r\n8000 1000 5 2 150 1 100 5 1 2 1\r\n"
                "$18\r\na/00000000000000aa\r\n$31\r\n9000 2000 5 2 200 1 300 7 2 1 0\r\n";
    t.moved = "*2\r\n:0\r\n:3\r\n";
    t.listed = "*6\r\n$2\r\nn1\r\n$5\r\n10000\r\n$2\r\nn2\r\n$5\r\n10001\r\n"
               "$2\r\nn3\r\n$5\r\n10002\r\n";
    t.metas = "*3\r\n$22\r\n2 1 a/00000000000000aa\r\n$-1\r\n" /* the second has just landed */
              "$22\r\n0 1 a/00000000000000ab\r\n";             /* the third's donor is gone */
    assert_null(decode(&t, 4));
    const struct balancer_view *v = &answer.view;
    assert_int_equal(v->server_ms, 9000);
    assert_int_equal(v->epoch_since_server_ms, 1000);
    assert_int_equal(v->named_in_flight, 3);
    assert_int_equal(v->anonymous_in_flight, 2);
    assert_int_equal(v->own_in_flight, 1);
    assert_int_equal(v->grant, 7);
    assert_int_equal(v->landed, 40);
    assert_int_equal(v->landed_full, 4);
    assert_int_equal(v->record_count, 2);
    assert_int_equal(v->bad_record_count, 1); /* one number short */
    assert_string_equal(v->records[0].id, "a");
    assert_int_equal(v->records[0].incarnation, 0xaa);
    assert_int_equal(v->records[0].live, 200);
    assert_int_equal(v->records[0].weight, 300);
    assert_int_equal(v->records[0].room, 7);
    assert_int_equal(v->records[0].state, BALANCER_DRAINING);
    assert_int_equal(v->records[0].mode, BALANCER_DRY_RUN);
    assert_false(v->records[0].is_full);
    assert_true(v->records[1].is_full);
    assert_int_equal(answer.moved_count, 2);
    assert_int_equal(beat_moved(&answer, 1), 3);
    assert_int_equal(answer.listed_count, 3);
    assert_int_equal(answer.flight_count, 2);
    assert_string_equal(answer.flights[0].node, "n1");
    assert_int_equal(answer.flights[0].refusals, 2);
    assert_true(answer.flights[0].is_bridged);
    assert_string_equal(answer.flights[1].node, "n3");
    assert_false(answer.flights[1].is_bridged);
}

static void test_epoch_changes(void **state)
{
    (void)state;
    struct answer_text t = plain;
    assert_null(decode(&t, 0));
    uint64_t first = answer.view.epoch;
    assert_null(decode(&t, 0));
    assert_int_equal(answer.view.epoch, first);
    t.epoch = "$6\r\n1000 y\r\n";
    assert_null(decode(&t, 0));
    assert_int_not_equal(answer.view.epoch, first);
}

static void decode_record(const char *name, const char *value)
{
    char text[512];
    struct answer_text t = plain;
    snprintf(text, sizeof(text), "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(name), name,
             strlen(value), value);
    t.records = text;
    assert_null(decode(&t, 0));
}

static void test_bad_records(void **state)
{
    (void)state;
    static const char good[] = "9000 1000 5 2 150 1 100 5 1 2 1";
    static const char *const bad_names[] = {
        "",
        "a",
        "/00000000000000aa",
        "a/",
        "a/aa",
        "a/00000000000000AA",
        "a/000000000000000aaa",
        "a123456789b123456789c123456789d123456789e123456789f123456789g123/00000000000000aa"};
    static const char *const bad_values[] = {"",
                                             "x",
                                             "9000",
                                             "9000 1000 5 2 150",
                                             "9000 1000 5 2 150 ",
                                             "-1 1000 5 2 150 1 100 5 1 2 1",
                                             "9000 1000 5 2 4294967296 1 100 5 1 2 1",
                                             "99999999999999999999 1000 5 2 150 1 100 5 1 2 1",
                                             "9000 1000 5 2 150 1 100 5 3 2 1",
                                             "9000 1000 5 2 150 1 100 5 1 3 1",
                                             "9000 1000 5 2 150 1 100 5 1 2 2",
                                             "9000 1000 5 2 150 1 1x0 5 1 2 1"};
    decode_record("a/00000000000000aa", good);
    assert_int_equal(answer.view.record_count, 1);
    for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++) {
        decode_record(bad_names[i], good);
        assert_int_equal(answer.view.record_count, 0);
        assert_int_equal(answer.view.bad_record_count, 1);
    }
    for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
        decode_record("a/00000000000000aa", bad_values[i]);
        assert_int_equal(answer.view.bad_record_count, 1);
    }
    decode_record("a/00000000000000aa", "9000 1000 5 2 150 2 any thing");
    assert_int_equal(answer.view.record_count, 1);
    assert_int_equal(answer.unknown_version_count, 1);
    assert_int_equal(answer.view.records[0].live, 150);
}

static void expect_wrong(struct answer_text t, const char *says)
{
    const char *wrong = decode(&t, 2);
    assert_non_null(wrong);
    if (!strstr(wrong, says))
        fail_msg("'%s' does not say '%s'", wrong, says);
}

#define WITH(member, text)                                                                         \
    (struct answer_text)                                                                           \
    {                                                                                              \
        .now = plain.now, .epoch = plain.epoch, .numbers = plain.numbers,                          \
        .records = plain.records, .moved = plain.moved, .listed = plain.listed,                    \
        .metas = plain.metas, .member = text                                                       \
    }

static void test_wrong_answers(void **state)
{
    (void)state;
    assert_non_null(beat_decode(NULL, 0, &answer));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
    expect_wrong(WITH(now, ":5\r\n"), "its time");
    expect_wrong(WITH(now, "$3\r\n5 5\r\n"), "its time");
    expect_wrong(WITH(epoch, "$1\r\nx\r\n"), "the epoch");
    expect_wrong(WITH(epoch, "$-1\r\n"), "the epoch");
    expect_wrong(WITH(numbers, ":-1\r\n:2\r\n:1\r\n:7\r\n:40\r\n:4\r\n:0\r\n"), "a number");
    expect_wrong(WITH(numbers, ":4294967296\r\n:2\r\n:1\r\n:7\r\n:40\r\n:4\r\n:0\r\n"), "a number");
    expect_wrong(WITH(numbers, ":3\r\n:2\r\n:1\r\n$1\r\n7\r\n:40\r\n:4\r\n:0\r\n"), "a number");
    expect_wrong(WITH(records, "*1\r\n$1\r\na\r\n"), "the records");
    expect_wrong(WITH(records, "$-1\r\n"), "the records");
    expect_wrong(WITH(moved, "*3\r\n:0\r\n:0\r\n:0\r\n"), "more than arrived");
    expect_wrong(WITH(moved, "*1\r\n:2\r\n"), "none that arrived");
    expect_wrong(WITH(moved, "*1\r\n:-1\r\n"), "none that arrived");
    expect_wrong(WITH(listed, "*2\r\n$1\r\na\r\n$1\r\n1\r\n"), "in flight");
#pragma GCC diagnostic pop
}

/* The server may be asked by more replicas than there may be, and list them all. */
static void test_too_many(void **state)
{
    (void)state;
    size_t count = BALANCER_REPLICAS_MAX + 100, size = 0, room = count * 80 + 200;
    char *bytes = malloc(room);
    assert_non_null(bytes);
    size += (size_t)snprintf(bytes, room, "*13\r\n" NOW EPOCH NUMBERS "*%zu\r\n", 2 * count);
    for (size_t i = 0; i < count; i++)
        size += (size_t)snprintf(bytes + size, room - size,
                                 "$22\r\nr%04zu/%016zx\r\n$29\r\n9000 1000 5 2 1 1 100 5 1 2 1\r\n",
                                 i, i);
    size += (size_t)snprintf(bytes + size, room - size, NONE NONE NONE);
    struct redis_reply *reply = redis_reply_parse(bytes, size);
    free(bytes);
    assert_non_null(reply);
    const char *wrong = beat_decode(reply, 0, &answer);
    redis_reply_free(reply);
    assert_null(wrong);
    assert_int_equal(answer.view.record_count, BALANCER_REPLICAS_MAX + 1);
    /* A list that is announced, and would take all memory, is no reply at all. */
    assert_null(redis_reply_parse("*2000000000\r\n", 13));
}

/* ---- the list of nodes in flight ---- */

static void page(size_t from, size_t count, uint64_t deadline_ms, uint64_t now_ms)
{
    static char text[BEAT_LIST_MAX][16];
    memset(&answer.view, 0, sizeof(answer.view));
    answer.view.server_ms = now_ms;
    answer.flight_count = answer.listed_count = count;
    for (size_t i = 0; i < count; i++) {
        snprintf(text[i], sizeof(text[i]), "n%zu", from + i);
        answer.flights[i] =
            (struct beat_flight){.node = text[i], .deadline_ms = deadline_ms, .is_bridged = true};
    }
    answer.last_deadline_ms = count ? deadline_ms : 0;
}

static void test_flights(void **state)
{
    (void)state;
    struct flights f;
    struct beat beat = a_beat();
    flights_init(&f);
    page(0, 3, 95000, 10000);
    flights_take(&f, &answer, 90000);
    assert_int_equal(f.count, 3);
    assert_int_equal(f.list[0].since_release_ms, 5000);
    page(1, 1, 95000, 15000); /* the others have landed */
    answer.flights[0].refusals = 2;
    flights_take(&f, &answer, 90000);
    assert_int_equal(f.count, 1);
    assert_string_equal(f.list[0].node, "n1");
    assert_int_equal(f.list[0].refusals, 2);
    assert_int_equal(f.list[0].since_release_ms, 10000);
    page(7, 1, 200000, 96000); /* released a little later than now, by the clock */
    flights_take(&f, &answer, 90000);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.list[0].since_release_ms, 0);
    flights_ask(&f, &beat);
    assert_true(beat.wants_list && beat.list_from_ms == 0 && beat.list_skip == 0);
    flights_forget(&f);
    assert_int_equal(f.count, 0);
    flights_fini(&f);
}

/* More than a page: the next ones follow where it ended, even within one deadline, and what a whole
 * pass did not show is gone. */
static void test_flight_pages(void **state)
{
    (void)state;
    struct flights f;
    struct beat beat = a_beat();
    flights_init(&f);
    for (int pass = 0; pass < 2; pass++) {
        page(0, BEAT_LIST_MAX, 95000, 10000);
        flights_take(&f, &answer, 90000);
        flights_ask(&f, &beat);
        assert_int_equal(beat.list_from_ms, 95000);
        assert_int_equal(beat.list_skip, BEAT_LIST_MAX);
        page(BEAT_LIST_MAX, BEAT_LIST_MAX, 95000, 10000);
        flights_take(&f, &answer, 90000);
        flights_ask(&f, &beat);
        assert_int_equal(beat.list_skip, 2 * BEAT_LIST_MAX);
        page(2 * BEAT_LIST_MAX, pass == 0 ? 5 : 2, 96000, 10000);
        flights_take(&f, &answer, 90000);
        assert_int_equal(f.count, 2 * BEAT_LIST_MAX + (pass == 0 ? 5 : 2));
        flights_ask(&f, &beat);
        assert_int_equal(beat.list_from_ms, 0);
    }
    flights_fini(&f);
}

static void test_flights_without_memory(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct flights f;
        flights_init(&f);
        page(0, 20, 95000, 10000);
        heap_fail_nth(n);
        flights_take(&f, &answer, 90000);
        bool has_failed = heap_fail_end();
        assert_true(f.count <= 20);
        flights_take(&f, &answer, 90000);
        assert_int_equal(f.count, 20);
        flights_fini(&f);
        if (!has_failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),       cmocka_unit_test(test_encode_without_memory),
        cmocka_unit_test(test_decode),       cmocka_unit_test(test_epoch_changes),
        cmocka_unit_test(test_bad_records),  cmocka_unit_test(test_wrong_answers),
        cmocka_unit_test(test_too_many),     cmocka_unit_test(test_flights),
        cmocka_unit_test(test_flight_pages), cmocka_unit_test(test_flights_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
