/* Arguments of a Redis command as they go over the wire, collected in one growing buffer. Pure. */
#ifndef BALANCER_REDIS_ARGS_H
#define BALANCER_REDIS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redis_args {
    char *bytes;
    size_t size, room;
    size_t count;    /* arguments */
    bool has_failed; /* no memory: what is there is incomplete */
};

/* Memory is kept for the next time. */
void redis_args_clear(struct redis_args *args);
void redis_args_fini(struct redis_args *args);

void redis_args_add(struct redis_args *args, const char *text);
void redis_args_add_bytes(struct redis_args *args, const char *bytes, size_t size);
void redis_args_add_number(struct redis_args *args, uint64_t number);
void redis_args_add_format(struct redis_args *args, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* at most 511 bytes */

#endif
