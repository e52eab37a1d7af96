/* The only way to hiredis: 0.14 (Debian 12) to 1.x. */
#ifndef BALANCER_REDIS_HIREDIS_H
#define BALANCER_REDIS_HIREDIS_H

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

#include <stdbool.h>

/* Arrays with more elements, which a broken or hostile server may announce in a few bytes, are
 * refused before memory is taken for them. */
#define REDIS_ARRAY_MAX 100000

/* Before the first byte is read. */
void redis_reader_bound(redisReader *reader);

#endif
