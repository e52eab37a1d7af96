/* The beats: what is reported, and what comes back.
 *
 * A batch of the ledger goes with every beat until one is answered; its number tells the script
 * whether it has booked it already. An answer is taken as a whole or not at all: it is decoded
 * aside, and only a good one replaces the last. */
#include "balancer/balance.h"
#include "isthmus/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

const char *const balance_beat_names[BALANCE_BEAT_COUNT] = {
    [BALANCE_BEAT_ANSWERED] = "answered",
    [BALANCE_BEAT_LOST] = "lost",
    [BALANCE_BEAT_REFUSED] = "refused",
    [BALANCE_BEAT_MALFORMED] = "malformed",
};

/* ---- sending ---- */

static uint64_t random_number(void)
{
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
        number = uv_hrtime();
    return number;
}

static enum balancer_state own_state(const struct balancer *b)
{
    if (b->self.is_draining)
        return BALANCER_DRAINING;
    return b->self.is_ready ? BALANCER_SERVING : BALANCER_STARTING;
}

static uint32_t own_room(const struct balancer *b)
{
    uint32_t most = b->self.max_connections;
    if (most == 0 || most > BALANCER_LIVE_MAX)
        most = BALANCER_LIVE_MAX;
    return most > b->self.live ? most - b->self.live : 0;
}

static void describe(struct balancer *b, struct beat *beat, uint64_t now_ms)
{
    const struct ledger *l = &b->ledger;
    *beat = (struct beat){
        .group = b->group,
        .id = b->id,
        .incarnation = b->incarnation,
        .seq = l->seq,
        .acked = l->acked,
        .quiet_ms = now_ms - b->acked_sent_ms,
        .nonce = random_number(),
        .live = l->live_told > 0 ? (uint32_t)l->live_told : 0,
        .room = own_room(b),
        .state = own_state(b),
        .is_full = b->decision.is_full,
        .is_leaving = b->is_leaving,
        .want = b->decision.want,
        .lost = l->sent_lost,
        .unnamed = l->sent_unnamed,
        .arrived = (const char *const *)l->arrived.items,
        .arrived_count = l->arrived.sent,
        .bridged = (const char *const *)l->bridged.items,
        .bridged_at_ms = l->bridged.at_ms,
        .bridged_count = l->bridged.sent,
        .released = (const char *const *)l->released.items,
        .released_at_ms = l->released.at_ms,
        .released_count = l->released.sent,
        .refused = (const char *const *)l->refused.items,
        .refused_count = l->refused.sent,
        .now_ms = now_ms,
        .has_moves = l->sent_moves,
    };
    b->is_list_asked = b->decision.wants_flight_list && !b->is_leaving;
    if (b->is_list_asked)
        flights_ask(&b->flights, beat);
}

static void set_error(struct balancer *b, const char *error)
{
    snprintf(b->store_error, sizeof(b->store_error), "%s", error);
    b->store_error_ms = balance_now_ms();
}

static void end_beat(struct balancer *b, enum balance_beat end, const char *error)
{
    b->is_under_way = false;
    b->counters.beats[end]++;
    if (error)
        set_error(b, error);
    if (b->owner.beat_ended && !b->is_closing)
        b->owner.beat_ended(b->owner.context, end,
                            end == BALANCE_BEAT_ANSWERED ? b->round_trip_us : 0);
}

static bool send_batch(struct balancer *b)
{
    struct beat beat;
    uint64_t now_ms = balance_now_ms();
    describe(b, &beat, now_ms);
    redis_args_clear(&b->args);
    beat_encode(&beat, &b->config, &b->args);
    balancer_plan_beat_sent(&b->plan);
    if (redis_call(b->redis, &b->args) != 0) {
        end_beat(b, BALANCE_BEAT_LOST, "no memory for a beat");
        return false;
    }
    b->is_under_way = true;
    b->sent_ms = now_ms;
    b->sent_us = uv_hrtime() / 1000;
    return true;
}

void balance_beat(struct balancer *b)
{
    if (!redis_is_up(b->redis) || redis_is_calling(b->redis))
        return;
    balance_step(b);
    if (b->ledger.acked > 0 && balance_now_ms() - b->acked_sent_ms > b->config.inflight_timeout_ms)
        ledger_forget_lost(&b->ledger);
    ledger_freeze(&b->ledger, b->has_answer && b->answer->view.named_in_flight == 0);
    send_batch(b);
}

void balance_leave(struct balancer *b)
{
    if (!b->ledger.has_batch) {
        b->is_leaving = true;
        ledger_freeze_all(&b->ledger);
    }
    if (!send_batch(b))
        balance_finish(b);
}

/* ---- answers ---- */

static void tell_moved(struct balancer *b, const struct beat_answer *answer)
{
    for (size_t i = 0; i < answer->moved_count; i++)
        b->moved[i] = b->ledger.arrived.items[beat_moved(answer, i)];
    b->counters.moved += answer->moved_count;
    if (answer->moved_count > 0)
        b->owner.moved(b->owner.context, b->moved, answer->moved_count);
}

static void tell_flights(struct balancer *b, const struct beat_answer *answer)
{
    if (!b->is_list_asked || !b->decision.wants_flight_list)
        return;
    b->has_list = true;
    flights_take(&b->flights, answer, b->config.inflight_timeout_ms);
    b->owner.flights(b->owner.context, b->flights.list, b->flights.count);
}

static void take(struct balancer *b)
{
    struct beat_answer *fresh = b->spare;
    uint64_t now_ms = balance_now_ms();
    b->round_trip_us = uv_hrtime() / 1000 - b->sent_us;
    b->spare = b->answer;
    b->answer = fresh;
    b->has_answer = true;
    b->answered_ms = now_ms;
    if (!b->is_closing)
        tell_moved(b, fresh);
    ledger_acknowledge(&b->ledger);
    b->acked_sent_ms = b->sent_ms;
    b->self.live = b->ledger.live;
    b->self.is_store_up = true;
    balancer_plan_beat(&b->plan, &b->self, &fresh->view, &b->shares, b->sent_ms, now_ms);
    b->has_shares =
        b->plan.view_hold == BALANCER_WHY_BALANCED || b->plan.view_hold == BALANCER_WHY_HOLD_ALONE;
    if (!b->is_closing)
        tell_flights(b, fresh);
    end_beat(b, BALANCE_BEAT_ANSWERED, NULL);
}

/* Errors after which another connection may do better: the server became a replica, restarts, or
 * wants the password again. */
static bool is_worth_a_new_connection(const char *error)
{
    static const char *const codes[] = {"READONLY ", "LOADING ", "MASTERDOWN ", "NOAUTH ",
                                        "MOVED ",    "NOPERM ",  "CLUSTERDOWN "};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strncmp(error, codes[i], strlen(codes[i])) == 0)
            return true;
    return false;
}

static void note_failure(struct balancer *b, enum balance_beat end, const char *error)
{
    end_beat(b, end, error);
    log_limited(LOG_LEVEL_WARN, "balance_beat_failed", F_STR("reason", balance_beat_names[end]),
                F_STR("error", error));
}

void balance_on_answered(void *context, const struct redis_reply *reply)
{
    struct balancer *b = context;
    if (redis_reply_type(reply) == REDIS_REFUSAL) {
        const char *error = redis_reply_text(reply, NULL);
        note_failure(b, BALANCE_BEAT_REFUSED, error);
        if (b->is_closing)
            balance_finish(b);
        else if (is_worth_a_new_connection(error))
            redis_give_up(b->redis, error);
        return;
    }
    const char *wrong = beat_decode(reply, b->ledger.arrived.sent, b->spare);
    if (wrong)
        note_failure(b, BALANCE_BEAT_MALFORMED, wrong);
    else
        take(b);
    if (!b->is_closing)
        return;
    if (wrong || b->is_leaving)
        balance_finish(b);
    else
        balance_leave(b);
}

/* ---- the connection ---- */

void balance_on_up(void *context)
{
    struct balancer *b = context;
    b->counters.connects++;
    b->store_since_ms = balance_now_ms();
    b->store_error[0] = '\0';
    log_info("redis_connected", F_STR("url", b->url), F_STR("group", b->group));
    if (b->is_closing) {
        balance_finish(b);
        return;
    }
    uv_timer_again(&b->beat_timer); /* one beat at once, the next a period later */
    balance_beat(b);
}

/* Each failure is remembered, but only news are logged: that it was lost, and another reason. */
void balance_on_down(void *context, const char *error, uint64_t retry_ms)
{
    struct balancer *b = context;
    bool was_up = b->counters.connects > b->counters.disconnects;
    if (was_up || strcmp(error, b->store_error) != 0)
        log_warn("redis_away", F_STR("url", b->url), F_STR("error", error),
                 F_BOOL("was_connected", was_up), F_U64("retry_ms", retry_ms));
    if (was_up) {
        b->counters.disconnects++;
        b->store_since_ms = balance_now_ms();
    }
    set_error(b, error);
    if (b->is_under_way)
        end_beat(b, BALANCE_BEAT_LOST, NULL);
    if (b->is_closing)
        balance_finish(b);
}
