/* A fleet as one replica's plan sees it, for unit tests of the balancer: records, a clock, and the
 * plan of replica 0 ("r0"). Nothing here allocates. */
#ifndef TEST_LIB_FLEET_H
#define TEST_LIB_FLEET_H

#include "isthmus/balancer.h"

#define FLEET_MAX 8

struct fleet {
    struct balancer_config config;
    struct balancer_plan plan;
    struct balancer_self self;
    struct balancer_record records[FLEET_MAX];
    struct balancer_view view;
    struct balancer_shares shares;
    struct balancer_decision decision;
    uint64_t now_ms;
};

/* `count` replicas with these connections, all serving for long; everything allowed. Set what shall
 * be different in config before fleet_start(). */
void fleet_init(struct fleet *f, size_t count, const uint32_t *live);
void fleet_start(struct fleet *f);
/* A period goes by with a step each half second; then one beat is answered at once, and a step. */
void fleet_beat(struct fleet *f);
/* Time with steps and no beats. */
void fleet_wait(struct fleet *f, uint64_t ms);
/* The plan's orders are carried out: own connections and record. */
void fleet_release(struct fleet *f);

#endif
