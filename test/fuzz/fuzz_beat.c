/* fuzz-sources: balancer/beat.c balancer/redis_args.c balancer/redis_reply.c balancer/flights.c */
/* Any bytes as Redis' answer to a beat, after a first byte that says how many nodes had arrived:
 * what is taken is within the bounds that the plan and the hub rely on. */
#include "balancer/beat.h"
#include "balancer/flights.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void check_records(const struct balancer_view *view)
{
    require(view->record_count <= BALANCER_REPLICAS_MAX + 1, "too many records");
    for (size_t i = 0; i < view->record_count; i++) {
        const struct balancer_record *r = &view->records[i];
        require(strnlen(r->id, sizeof(r->id)) < sizeof(r->id) && r->id[0], "an id without end");
        require(r->state <= BALANCER_DRAINING && r->mode <= BALANCER_ON, "an unknown state");
        if (i == 0)
            continue;
        int order = strcmp(view->records[i - 1].id, r->id);
        require(order < 0 ||
                    (order == 0 && view->records[i - 1].since_server_ms <= r->since_server_ms),
                "not in order");
    }
}

static void check_flights(const struct beat_answer *answer)
{
    static struct flights flights;
    require(answer->flight_count <= answer->listed_count && answer->listed_count <= BEAT_LIST_MAX,
            "too many in flight");
    flights_init(&flights);
    for (int pass = 0; pass < 2; pass++) {
        flights_take(&flights, answer, 90000);
        require(flights.count <= answer->flight_count, "more in flight than listed");
        for (size_t i = 0; i < flights.count; i++)
            require(strlen(flights.list[i].node) <= BEAT_NAME_MAX, "a long name");
    }
    flights_fini(&flights);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct beat_answer answer;
    size_t arrived = size > 0 ? data[0] : 0;
    char *bytes = malloc(size + 1);
    require(bytes != NULL, "no memory");
    memcpy(bytes, data, size);
    struct redis_reply *reply = size > 1 ? redis_reply_parse(bytes + 1, size - 1) : NULL;
    free(bytes);
    if (!beat_decode(reply, arrived, &answer)) {
        check_records(&answer.view);
        require(answer.moved_count <= arrived, "more moved than arrived");
        for (size_t i = 0; i < answer.moved_count; i++)
            require(beat_moved(&answer, i) < arrived, "moved, though it did not arrive");
        check_flights(&answer);
    }
    redis_reply_free(reply);
    return 0;
}
