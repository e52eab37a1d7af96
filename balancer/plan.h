/* Private to balancer/: what the two halves of the plan, digesting a beat (view.c) and deciding
 * (plan.c), share. */
#ifndef BALANCER_PLAN_H
#define BALANCER_PLAN_H

#include "isthmus/balancer.h"

/* Beats in a row that must agree before a round starts. */
#define BALANCER_STREAK 2

/* A record not renewed for this long has missed a beat: it is still counted, but nothing is given
 * on its account; our own view is stale after the same time. */
static inline uint64_t balancer_patience_ms(const struct balancer_config *config)
{
    return config->period_ms + config->period_ms / 2;
}

static inline uint32_t balancer_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Why nothing may be released now, or BALANCER_WHY_BALANCED if nothing speaks against it. */
enum balancer_why balancer_plan_hold(const struct balancer_plan *plan,
                                     const struct balancer_self *self, uint64_t now_ms);

/* The part of the hold that is about the view: whether its numbers may be used at all. */
enum balancer_why balancer_plan_view_hold(const struct balancer_plan *plan,
                                          const struct balancer_self *self, uint64_t now_ms);

/* Forgets what is known of where the group's releases land, and watches anew. */
void balancer_plan_start_sample(struct balancer_plan *plan);

/* Arrivals and the agent's weight: fills the decision's steering members. */
void balancer_plan_steer(const struct balancer_plan *plan, const struct balancer_self *self,
                         uint64_t now_ms, struct balancer_decision *decision);

#endif
