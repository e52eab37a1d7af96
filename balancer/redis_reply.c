/* See redis_reply.h. */
#include "balancer/redis_reply.h"

#include "balancer/redis_hiredis.h"

static redisReplyObjectFunctions bounded_functions;
static const redisReplyObjectFunctions *plain_functions;

#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

static void *create_bounded_array(const redisReadTask *task, element_count elements)
{
    if (elements > REDIS_ARRAY_MAX)
        return NULL;
    return plain_functions->createArray(task, elements);
}

void redis_reader_bound(redisReader *reader)
{
    if (!plain_functions) {
        plain_functions = reader->fn;
        bounded_functions = *reader->fn;
        bounded_functions.createArray = create_bounded_array;
    }
    reader->fn = &bounded_functions;
}

static const redisReply *real(const struct redis_reply *reply)
{
    return (const redisReply *)reply;
}

enum redis_type redis_reply_type(const struct redis_reply *reply)
{
    if (!reply)
        return REDIS_NOTHING;
    switch (real(reply)->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        return REDIS_TEXT;
    case REDIS_REPLY_INTEGER:
        return REDIS_INTEGER;
    case REDIS_REPLY_ARRAY:
        return REDIS_ARRAY;
    case REDIS_REPLY_ERROR:
        return REDIS_REFUSAL;
    default:
        return REDIS_NOTHING;
    }
}

const char *redis_reply_text(const struct redis_reply *reply, size_t *size)
{
    enum redis_type type = redis_reply_type(reply);
    bool has_text = type == REDIS_TEXT || type == REDIS_REFUSAL;
    if (size)
        *size = has_text ? real(reply)->len : 0;
    return has_text ? real(reply)->str : "";
}

int64_t redis_reply_integer(const struct redis_reply *reply)
{
    return redis_reply_type(reply) == REDIS_INTEGER ? real(reply)->integer : 0;
}

size_t redis_reply_count(const struct redis_reply *reply)
{
    return redis_reply_type(reply) == REDIS_ARRAY ? real(reply)->elements : 0;
}

const struct redis_reply *redis_reply_item(const struct redis_reply *reply, size_t i)
{
    if (i >= redis_reply_count(reply))
        return NULL;
    return (const struct redis_reply *)real(reply)->element[i];
}

struct redis_reply *redis_reply_parse(const char *bytes, size_t size)
{
    redisReader *reader = redisReaderCreate();
    void *reply = NULL;
    if (!reader)
        return NULL;
    redis_reader_bound(reader);
    if (redisReaderFeed(reader, bytes, size) != REDIS_OK ||
        redisReaderGetReply(reader, &reply) != REDIS_OK)
        reply = NULL;
    redisReaderFree(reader);
    return reply;
}

void redis_reply_free(struct redis_reply *reply)
{
    if (reply)
        freeReplyObject(reply);
}
