/* What Redis answered, without hiredis' types: strings, integers, arrays of them.
 *
 * A reply is borrowed from who hands it out. Everything here is total: what is not there or has
 * another type reads as nothing. */
#ifndef BALANCER_REDIS_REPLY_H
#define BALANCER_REDIS_REPLY_H

#include <stddef.h>
#include <stdint.h>

struct redis_reply; /* hiredis' redisReply */

enum redis_type { REDIS_NOTHING, REDIS_TEXT, REDIS_INTEGER, REDIS_ARRAY, REDIS_REFUSAL };

enum redis_type redis_reply_type(const struct redis_reply *reply);
/* Of a TEXT or REFUSAL, NUL-terminated though it may hold NULs; else "" with size 0. `size` may be
 * NULL. */
const char *redis_reply_text(const struct redis_reply *reply, size_t *size);
/* Of an INTEGER, else 0. */
int64_t redis_reply_integer(const struct redis_reply *reply);
/* Of an ARRAY, else 0 and NULL. */
size_t redis_reply_count(const struct redis_reply *reply);
const struct redis_reply *redis_reply_item(const struct redis_reply *reply, size_t i);

/* For tests: the first reply in these bytes of the protocol, to be given back; NULL when there is
 * none. */
struct redis_reply *redis_reply_parse(const char *bytes, size_t size);
void redis_reply_free(struct redis_reply *reply);

#endif
