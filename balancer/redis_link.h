/* One connection of the client in redis.c, from connect(2) to its end: hiredis' side of it.
 *
 * After broken() the link does nothing more; it, or any other, is then let go with
 * redis_link_abandon(), and frees itself once the loop has let go of it: gone(). */
#ifndef BALANCER_REDIS_LINK_H
#define BALANCER_REDIS_LINK_H

#include "balancer/redis_args.h"
#include "balancer/redis_reply.h"
#include "balancer/redis_url.h"

#include <uv.h>

#define REDIS_ERROR_SIZE 160

struct redis_target {
    struct redis_url url;
    const char *script;
};

struct redis_link_owner {
    void (*connected)(void *context);
    void (*greeted)(void *context);
    void (*answered)(void *context, const struct redis_reply *reply);
    void (*broken)(void *context, const char *error); /* holds no secret */
    void (*gone)(void *context);
};

struct redis_link;

/* Begins to connect to an address (a path for unix) and then greets by itself. `target` and `owner`
 * are borrowed until broken() or redis_link_abandon(), `context` until gone(). NULL and `error`
 * when it fails at once: there will be no callback then. */
struct redis_link *redis_link_open(uv_loop_t *loop, const struct redis_target *target,
                                   const char *address, const struct redis_link_owner *owner,
                                   void *context, char *error);
/* Runs the script; only when greeted, one call at a time. `args` is borrowed until the answer.
 * 0 or -ENOMEM. */
int redis_link_call(struct redis_link *link, const struct redis_args *args);
/* No callback follows but gone(). */
void redis_link_abandon(struct redis_link *link);

#endif
