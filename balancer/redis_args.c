/* See redis_args.h. Each argument is "$SIZE\r\nBYTES\r\n". */
#include "balancer/redis_args.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 4096

void redis_args_clear(struct redis_args *args)
{
    args->size = args->count = 0;
    args->has_failed = false;
}

void redis_args_fini(struct redis_args *args)
{
    free(args->bytes);
    memset(args, 0, sizeof(*args));
}

static bool reserve(struct redis_args *args, size_t more)
{
    if (args->has_failed)
        return false;
    if (args->room - args->size >= more)
        return true;
    size_t room = args->room ? args->room : FIRST_ROOM;
    while (room - args->size < more)
        room *= 2;
    char *bytes = realloc(args->bytes, room);
    if (!bytes) {
        args->has_failed = true;
        return false;
    }
    args->bytes = bytes;
    args->room = room;
    return true;
}

void redis_args_add_bytes(struct redis_args *args, const char *bytes, size_t size)
{
    char head[32];
    size_t head_size = (size_t)snprintf(head, sizeof(head), "$%zu\r\n", size);
    if (!reserve(args, head_size + size + 2))
        return;
    char *at = args->bytes + args->size;
    memcpy(at, head, head_size);
    memcpy(at + head_size, bytes, size);
    memcpy(at + head_size + size, "\r\n", 2);
    args->size += head_size + size + 2;
    args->count++;
}

void redis_args_add(struct redis_args *args, const char *text)
{
    redis_args_add_bytes(args, text, strlen(text));
}

void redis_args_add_number(struct redis_args *args, uint64_t number)
{
    redis_args_add_format(args, "%" PRIu64, number);
}

void redis_args_add_format(struct redis_args *args, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    int size = vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    assert(size >= 0 && (size_t)size < sizeof(text));
    redis_args_add_bytes(args, text, (size_t)size);
}
