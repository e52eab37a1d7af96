/* Faults on demand: what is to happen to a request. Deciding is pure; the random numbers come from
 * the caller's generator. */
#ifndef DEVAPI_FAULTS_H
#define DEVAPI_FAULTS_H

#include "isthmus/errbuf.h"
#include "test/devapi/kinds.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct dev_faults {
    uint64_t latency_ms;    /* every request of the API */
    double error_rate;      /* answered 500, not carried out */
    double throttle_rate;   /* answered 429, not carried out */
    double reset_rate;      /* stream reset; half of them after the request was carried out */
    double goaway_rate;     /* the connection is told to go away; this request is still answered */
    uint64_t retry_after_s; /* in 429 */
    uint64_t stall_ms[DEV_KIND_COUNT]; /* every write of the kind takes so long */
};

enum dev_outcome { DEV_SERVE, DEV_FAIL, DEV_THROTTLE, DEV_RESET_BEFORE, DEV_RESET_AFTER };

struct dev_fate {
    enum dev_outcome outcome;
    bool goes_away;
    uint64_t delay_ms;
};

struct dev_fate dev_faults_decide(const struct dev_faults *f, const struct dev_kind *kind,
                                  enum dev_verb verb, uint64_t *random_state);

/* "event=8s": 0 or -EINVAL with `e`. */
int dev_faults_set_stall(struct dev_faults *f, const char *text, struct errbuf *e);
/* The flags' names as members: {"latency":"20ms","error-rate":0.01,"stall":{"event":"8s"}}. What is
 * not named stays; "stall" replaces all stalls. Nothing is changed on an error. 0 or -EINVAL with
 * `e`. */
int dev_faults_update(struct dev_faults *f, const json_t *changes, struct errbuf *e);
/* All of them, in the same form. The caller owns the value; NULL without memory. */
json_t *dev_faults_describe(const struct dev_faults *f);

#endif
