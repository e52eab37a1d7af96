#include "test/lib/fleet.h"

#include <stdio.h>
#include <string.h>

#define SERVER_MS 1700000000000u
#define STEP_MS   500

void fleet_init(struct fleet *f, size_t count, const uint32_t *live)
{
    memset(f, 0, sizeof(*f));
    f->config = (struct balancer_config)BALANCER_CONFIG_DEFAULT;
    f->config.release_max_fraction = 1;
    f->now_ms = 1000000;
    for (size_t i = 0; i < count; i++) {
        struct balancer_record *r = &f->records[i];
        *r = (struct balancer_record){.incarnation = 100 + i,
                                      .since_server_ms = SERVER_MS - 3600000,
                                      .seen_server_ms = SERVER_MS,
                                      .version = BALANCER_RECORD_VERSION,
                                      .live = live[i],
                                      .weight = 100,
                                      .room = BALANCER_LIVE_MAX,
                                      .state = BALANCER_SERVING,
                                      .mode = BALANCER_ON};
        snprintf(r->id, sizeof(r->id), "r%zu", i);
    }
    f->view = (struct balancer_view){.records = f->records,
                                     .record_count = count,
                                     .server_ms = SERVER_MS,
                                     .epoch = 1,
                                     .epoch_since_server_ms = SERVER_MS - 3600000,
                                     .grant = 1000000};
    f->self = (struct balancer_self){.id = "r0",
                                     .incarnation = 100,
                                     .live = live[0],
                                     .is_ready = true,
                                     .is_store_up = true,
                                     .is_api_ok = true};
}

void fleet_start(struct fleet *f)
{
    balancer_plan_init(&f->plan, &f->config, f->now_ms);
}

void fleet_wait(struct fleet *f, uint64_t ms)
{
    for (uint64_t end = f->now_ms + ms; f->now_ms < end;) {
        f->now_ms += STEP_MS;
        f->view.server_ms += STEP_MS;
        balancer_plan_step(&f->plan, &f->self, f->now_ms, &f->decision);
    }
}

void fleet_beat(struct fleet *f)
{
    fleet_wait(f, f->config.period_ms);
    balancer_plan_beat_sent(&f->plan);
    for (size_t i = 0; i < f->view.record_count; i++)
        f->records[i].seen_server_ms = f->view.server_ms;
    f->records[0].live = f->self.live;
    balancer_plan_beat(&f->plan, &f->self, &f->view, &f->shares, f->now_ms, f->now_ms);
    balancer_plan_step(&f->plan, &f->self, f->now_ms, &f->decision);
}

void fleet_release(struct fleet *f)
{
    uint32_t count = f->decision.release_now;
    f->self.live -= count;
    f->view.named_in_flight += count;
    f->view.own_in_flight += count;
    f->decision.release_now = 0;
    balancer_plan_released(&f->plan, count, f->now_ms);
}
