/* What was asked, and what was written, by whom. Loop thread only. */
#ifndef DEVAPI_STATS_H
#define DEVAPI_STATS_H

#include "test/devapi/exchange.h"

#include <jansson.h>
#include <stdint.h>

struct dev_stats;

struct dev_stats *dev_stats_create(void);
void dev_stats_destroy(struct dev_stats *s);
/* An exchange got its answer. */
void dev_stats_answered(const struct dev_exchange *x);
/* A write was accepted: it was carried out, whether or not it changed anything. */
void dev_stats_wrote(const struct dev_exchange *x, const char *name, uint64_t version);

/* The caller owns the values; NULL without memory. */
json_t *dev_stats_requests(const struct dev_stats *s);
/* Accepted writes of `kind` (NULL: all) by `user` (NULL: all; else only that one), as sums by kind
 * and verb, and by user unless `is_summary`. */
json_t *dev_stats_writes(const struct dev_stats *s, const struct dev_kind *kind, const char *user,
                         bool is_summary);

#endif
