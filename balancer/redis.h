/* One connection to Redis on a libuv loop, always on its way back when it is lost, that runs one
 * script. A thin shell around hiredis' asynchronous API, which has no timeouts (0.14) and whose
 * contexts end in many ways.
 *
 * Happy path: resolve the name, connect, greet (AUTH, SELECT, SCRIPT LOAD), up(). Then one call at
 * a time: redis_call() runs the script by its SHA (by its text if the server forgot it) and
 * answered() gets the reply.
 *
 * Failure modes: everything that goes wrong ends the connection, calls down() with the reason, and
 * the next attempt starts after a delay that grows and is jittered. A call that was under way then
 * has no answer. Several addresses of one name are tried one after another. Data that nobody asked
 * for, and replies larger than REDIS_REPLY_BYTES, end the connection too.
 *
 * Threading: the loop's thread. Callbacks come from the loop, but for redis_give_up(). */
#ifndef BALANCER_REDIS_H
#define BALANCER_REDIS_H

#include "balancer/redis_args.h"
#include "balancer/redis_reply.h"
#include "balancer/redis_url.h"

#include <uv.h>

/* 1,000 records, the names of a large beat and a page of the flight list come to half a MB. */
#define REDIS_REPLY_BYTES (8u * 1024 * 1024)

struct redis;

struct redis_options {
    const struct redis_url *url; /* copied */
    const char *password_file;   /* copied, may be NULL; read at each connect */
    const char *password;        /* copied, may be NULL: for when the URL has none and no file */
    const char *script;          /* borrowed as long as the client lives */
    uint64_t timeout_ms;         /* until the greeting is answered; for each answer */
    uint64_t retry_ms, retry_max_ms;
};

/* All members set. A callback may call redis_call() and redis_close(), not redis_destroy(). */
struct redis_owner {
    void *context;
    void (*up)(void *context);
    void (*down)(void *context, const char *error, uint64_t retry_ms);
    void (*answered)(void *context, const struct redis_reply *reply); /* may be a REFUSAL */
};

/* Starts connecting. 0 or -ENOMEM. */
int redis_create(uv_loop_t *loop, const struct redis_options *options,
                 const struct redis_owner *owner, struct redis **redis)
    __attribute__((warn_unused_result));

/* Connected and greeted. */
bool redis_is_up(const struct redis *r);
/* A call is under way. */
bool redis_is_calling(const struct redis *r);

/* Only when up and not calling. `args` (numkeys, keys, arguments) is borrowed until answered() or
 * down(). 0, or -ENOMEM: then nothing was sent. */
int redis_call(struct redis *r, const struct redis_args *args) __attribute__((warn_unused_result));

/* Gives the connection up, as if it had failed for this reason; down() is called before it returns.
 */
void redis_give_up(struct redis *r, const char *error);

/* No callback follows but `closed`, from the loop, once nothing of it is left there. Once. */
void redis_close(struct redis *r, void (*closed)(void *context), void *context);
void redis_destroy(struct redis *r);

#endif
