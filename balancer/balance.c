/* See isthmus/balance.h: the beginning, the end, and what people see. */
#include "balancer/balance.h"

#include "balancer/redis_tls.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define STEP_MS         250
#define TIMEOUT_MS      2000
#define RETRY_MS_LEAST  20
#define STEPS_IN_PERIOD 8 /* well below the half that the plan takes for a pause of the process */

uint64_t balance_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- timers ---- */

static void on_step(uv_timer_t *timer)
{
    balance_step(timer->data);
}

static void on_beat(uv_timer_t *timer)
{
    balance_beat(timer->data);
}

static void on_too_late(uv_timer_t *timer)
{
    balance_finish(timer->data);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void start_timers(struct balancer *b)
{
    uint64_t step_ms = least(STEP_MS, b->config.period_ms / STEPS_IN_PERIOD);
    uv_timer_init(b->loop, &b->step_timer);
    uv_timer_init(b->loop, &b->beat_timer);
    b->step_timer.data = b->beat_timer.data = b;
    b->open_handles = 2;
    uv_timer_start(&b->step_timer, on_step, 0, step_ms);
    if (b->redis)
        uv_timer_start(&b->beat_timer, on_beat, b->config.period_ms, b->config.period_ms);
}

/* ---- the beginning ---- */

static int check_options(const struct balance_options *o, struct redis_url *url, struct errbuf *e)
{
    assert(!balancer_config_check(o->config));
    if (!o->replica_id || !*o->replica_id || strlen(o->replica_id) >= BALANCER_ID_SIZE) {
        errbuf_set(e, "--replica-id: must be 1 to %d characters", BALANCER_ID_SIZE - 1);
        return -EINVAL;
    }
    if (!balance_is_group_name(o->redis_group)) {
        errbuf_set(e, "--redis-group: must be 1 to 63 letters, digits, '-', '.' or '_'");
        return -EINVAL;
    }
    if (!o->redis_url || !*o->redis_url)
        return 0;
    int rc = balance_check_url(o->redis_url, e);
    if (rc == 0)
        rc = redis_url_parse(o->redis_url, url, e);
    if (rc != 0) {
        errbuf_wrap(e, "--redis");
        return rc;
    }
    if (o->password_file && *o->password_file && access(o->password_file, R_OK) != 0) {
        rc = -errno;
        errbuf_set(e, "--redis-password-file %s: %s", o->password_file, strerror(errno));
    }
    return rc;
}

static const char *some(const char *text)
{
    return text && *text ? text : NULL;
}

static int start_redis(struct balancer *b, const struct balance_options *o,
                       const struct redis_url *url)
{
    const struct redis_owner owner = {.context = b,
                                      .up = balance_on_up,
                                      .down = balance_on_down,
                                      .answered = balance_on_answered};
    const struct redis_options options = {
        .url = url,
        .password_file = some(o->password_file),
        .password = some(o->password),
        .script = beat_script,
        .timeout_ms = b->timeout_ms,
        .retry_ms =
            b->config.period_ms / 10 > RETRY_MS_LEAST ? b->config.period_ms / 10 : RETRY_MS_LEAST,
        .retry_max_ms = b->config.period_ms,
    };
    redis_url_print(url, b->url);
    return redis_create(b->loop, &options, &owner, &b->redis);
}

static int random_incarnation(uint64_t *incarnation)
{
    ssize_t got = getrandom(incarnation, sizeof(*incarnation), 0);
    return got == sizeof(*incarnation) ? 0 : -EIO;
}

static void fill(struct balancer *b, uv_loop_t *loop, const struct balance_options *o,
                 const struct balance_owner *owner)
{
    b->loop = loop;
    b->owner = *owner;
    b->config = *o->config;
    b->timeout_ms = o->redis_timeout_ms ? o->redis_timeout_ms : TIMEOUT_MS;
    snprintf(b->id, sizeof(b->id), "%s", o->replica_id);
    snprintf(b->group, sizeof(b->group), "%s", some(o->redis_group) ? o->redis_group : "default");
    b->store_since_ms = balance_now_ms();
    ledger_init(&b->ledger);
    flights_init(&b->flights);
    balancer_plan_init(&b->plan, &b->config, balance_now_ms());
}

static int start(struct balancer *b, const struct balance_options *o, const struct redis_url *url)
{
    b->answer = calloc(1, sizeof(*b->answer));
    b->spare = calloc(1, sizeof(*b->spare));
    if (!b->answer || !b->spare)
        return -ENOMEM;
    int rc = random_incarnation(&b->incarnation);
    if (rc == 0 && some(o->redis_url))
        rc = start_redis(b, o, url);
    if (rc != 0)
        return rc;
    start_timers(b);
    return 0;
}

int balancer_create(uv_loop_t *loop, const struct balance_options *options,
                    const struct balance_owner *owner, struct balancer **out, struct errbuf *e)
{
    struct redis_url url;
    int rc = check_options(options, &url, e);
    if (rc != 0)
        return rc;
    struct balancer *b = calloc(1, sizeof(*b));
    rc = -ENOMEM;
    if (b) {
        fill(b, loop, options, owner);
        rc = start(b, options, &url);
    }
    explicit_bzero(&url, sizeof(url));
    if (rc != 0) {
        errbuf_set(e, "balancer: %s", strerror(-rc));
        balancer_destroy(b);
        return rc;
    }
    if (!b->redis)
        log_info("balance_alone", F_STR("text", "without --redis this replica is on its own"));
    *out = b;
    return 0;
}

/* ---- the end ---- */

static void on_handle_closed(struct balancer *b)
{
    assert(b->open_handles > 0);
    if (--b->open_handles == 0)
        b->closed(b->closed_context);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_redis_closed(void *context)
{
    on_handle_closed(context);
}

void balance_finish(struct balancer *b)
{
    if (b->is_closed)
        return;
    b->is_closed = true;
    if (b->redis) {
        b->open_handles++;
        redis_close(b->redis, on_redis_closed, b);
    }
    uv_close((uv_handle_t *)&b->step_timer, on_timer_closed);
    uv_close((uv_handle_t *)&b->beat_timer, on_timer_closed);
}

void balancer_close(struct balancer *b, void (*closed)(void *context), void *context)
{
    assert(!b->is_closing);
    b->is_closing = true;
    b->closed = closed;
    b->closed_context = context;
    uv_timer_stop(&b->step_timer);
    uv_timer_stop(&b->beat_timer);
    if (!b->redis || !redis_is_up(b->redis)) {
        balance_finish(b);
        return;
    }
    uv_timer_start(&b->step_timer, on_too_late, b->timeout_ms, 0);
    if (!redis_is_calling(b->redis))
        balance_leave(b);
}

void balancer_destroy(struct balancer *b)
{
    if (!b)
        return;
    redis_destroy(b->redis);
    redis_args_fini(&b->args);
    ledger_fini(&b->ledger);
    flights_fini(&b->flights);
    free(b->answer);
    free(b->spare);
    free(b);
}

/* ---- what people see ---- */

void balancer_read(const struct balancer *b, struct balance_view *v)
{
    const struct balancer_view *last = &b->answer->view;
    *v = (struct balance_view){
        .config = &b->config,
        .replica_id = b->id,
        .group = b->group,
        .incarnation = b->incarnation,
        .now_ms = balance_now_ms(),
        .redis_url = b->redis ? b->url : NULL,
        .is_store_up = b->redis && redis_is_up(b->redis),
        .store_since_ms = b->store_since_ms,
        .store_error = b->store_error,
        .store_error_ms = b->store_error_ms,
        .round_trip_us = b->round_trip_us,
        .answered_ms = b->answered_ms,
        .epoch_server_ms = last->epoch_since_server_ms,
        .server_ms = last->server_ms,
        .unreported = ledger_unreported(&b->ledger),
        .bridged = b->self.bridged,
        .bad_records = last->bad_record_count,
        .unknown_versions = b->answer->unknown_version_count,
        .decision = b->decision,
        .counters = b->counters,
        .peer_count = last->record_count,
        .change_count = b->change_count,
    };
}

void balancer_read_peer(const struct balancer *b, size_t i, struct balance_peer *peer)
{
    const struct balancer_view *view = &b->answer->view;
    assert(i < view->record_count);
    const struct balancer_record *record = &view->records[i];
    uint64_t quiet_ms =
        view->server_ms > record->seen_server_ms ? view->server_ms - record->seen_server_ms : 0;
    bool has_share = b->has_shares && i < BALANCER_REPLICAS_MAX;
    *peer = (struct balance_peer){
        .record = record,
        .expected = has_share ? b->shares.expected[i] : 0,
        .is_taker = has_share && b->shares.is_taker[i],
        .is_self = record->incarnation == b->incarnation && strcmp(record->id, b->id) == 0,
        .age_ms = quiet_ms + (balance_now_ms() - b->answered_ms),
    };
}

const struct balance_change *balancer_read_change(const struct balancer *b, size_t i)
{
    assert(i < b->change_count);
    return &b->changes[(b->change_next + 2 * BALANCE_CHANGES - 1 - i) % BALANCE_CHANGES];
}
