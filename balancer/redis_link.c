/* See redis_link.h.
 *
 * hiredis' context ends in one of three ways, and each leads to the cleanup hook, after which the
 * poll handle is closed and the link freed: connect(2) failed (on_connect with an error), the
 * connection broke (on_disconnect), or we free it (redis_link_abandon). The context's `data` is the
 * link as long as anybody may hear of it; it is cleared before the context is freed, so that late
 * callbacks find nothing. redisAsyncDisconnect() is not used at all.
 *
 * hiredis asserts that there is a callback for every reply: data that nobody asked for must not get
 * that far. */
#include "balancer/redis_link.h"

#include "balancer/redis.h"
#include "balancer/redis_hiredis.h"
#include "balancer/redis_tls.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define SHA_SIZE  40
#define READ_SIZE 16384 /* hiredis reads so much at once */

struct redis_link {
    redisAsyncContext *context; /* NULL: it has ended, or never will be heard of again */
    void *tls;                  /* the context's; NULL without */
    const struct redis_target *target;
    const struct redis_link_owner *owner;
    void *owner_context;
    uv_poll_t poll;
    int events;
    size_t received; /* since the last reply */
    char sha[SHA_SIZE + 1];
    const struct redis_args *args; /* of the call under way */
    bool is_by_text;               /* the call is: the server had forgotten the script */
};

/* ---- the end ---- */

static void break_link(struct redis_link *link, const char *error)
{
    link->owner->broken(link->owner_context, error);
}

void redis_link_abandon(struct redis_link *link)
{
    redisAsyncContext *context = link->context;
    if (!context)
        return;
    link->context = NULL;
    context->data = NULL;
    redisAsyncFree(context); /* from within a callback of it: once that has returned */
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct redis_link *link = handle->data;
    void (*gone)(void *) = link->owner->gone;
    void *context = link->owner_context;
    free(link);
    gone(context);
}

/* The context has ended by itself, and is about to be freed by hiredis. */
static void end_link(struct redis_link *link, const char *why, const char *otherwise)
{
    const char *tls_error = redis_tls_explain(link->tls);
    char error[REDIS_ERROR_SIZE];
    link->context = NULL;
    snprintf(error, sizeof(error), "%s%s", tls_error ? "TLS: " : "",
             tls_error     ? tls_error
             : why && *why ? why
                           : otherwise);
    break_link(link, error);
}

static void on_disconnect(const redisAsyncContext *context, int status)
{
    struct redis_link *link = context->data;
    (void)status;
    if (link)
        end_link(link, context->errstr, "closed by the server");
}

/* ---- greeting ---- */

static bool has_surplus(const redisAsyncContext *context)
{
    const redisReader *reader = context->c.reader;
    return !context->replies.head && reader->len > reader->pos;
}

/* The link and its reply if there is something to do about it. */
static struct redis_link *take_reply(redisAsyncContext *context, const void *reply)
{
    struct redis_link *link = context->data;
    if (!link || !reply) /* it ends: on_disconnect says so */
        return NULL;
    link->received = 0;
    if (!has_surplus(context))
        return link;
    break_link(link, "it sent data that nobody asked for");
    return NULL;
}

/* A server that does not know AUTH may quote its arguments. */
static bool quotes(const char *text, const char *secret)
{
    char start[9];
    snprintf(start, sizeof(start), "%.8s", secret);
    return *start && strstr(text, start);
}

static void on_authenticated(redisAsyncContext *context, void *reply, void *unused)
{
    struct redis_link *link = take_reply(context, reply);
    char error[REDIS_ERROR_SIZE];
    (void)unused;
    if (!link || redis_reply_type(reply) != REDIS_REFUSAL)
        return;
    const char *text = redis_reply_text(reply, NULL);
    if (quotes(text, link->target->url.password))
        text = "refused, in words that quote the password";
    snprintf(error, sizeof(error), "AUTH: %s", text);
    break_link(link, error);
}

static void on_selected(redisAsyncContext *context, void *reply, void *unused)
{
    struct redis_link *link = take_reply(context, reply);
    char error[REDIS_ERROR_SIZE];
    (void)unused;
    if (!link || redis_reply_type(reply) != REDIS_REFUSAL)
        return;
    snprintf(error, sizeof(error), "SELECT: %s", redis_reply_text(reply, NULL));
    break_link(link, error);
}

static void on_loaded(redisAsyncContext *context, void *reply, void *unused)
{
    struct redis_link *link = take_reply(context, reply);
    char error[REDIS_ERROR_SIZE];
    size_t size;
    (void)unused;
    if (!link)
        return;
    const char *text = redis_reply_text(reply, &size);
    if (redis_reply_type(reply) == REDIS_TEXT && size == SHA_SIZE) {
        memcpy(link->sha, text, SHA_SIZE);
        link->owner->greeted(link->owner_context);
        return;
    }
    snprintf(error, sizeof(error), "SCRIPT LOAD: %s", *text ? text : "an odd reply");
    break_link(link, error);
}

static int greet(struct redis_link *link, redisAsyncContext *context)
{
    const struct redis_url *url = &link->target->url;
    int rc = REDIS_OK;
    if (url->has_password && url->user[0])
        rc = redisAsyncCommand(context, on_authenticated, NULL, "AUTH %s %s", url->user,
                               url->password);
    else if (url->has_password)
        rc = redisAsyncCommand(context, on_authenticated, NULL, "AUTH %s", url->password);
    if (rc == REDIS_OK && url->db != 0)
        rc = redisAsyncCommand(context, on_selected, NULL, "SELECT %u", url->db);
    if (rc == REDIS_OK)
        rc = redisAsyncCommand(context, on_loaded, NULL, "SCRIPT LOAD %s", link->target->script);
    return rc;
}

static void on_connect(const redisAsyncContext *context, int status)
{
    struct redis_link *link = context->data;
    if (!link)
        return;
    if (status != REDIS_OK) {
        end_link(link, context->c.errstr, "connecting failed");
        return;
    }
    link->owner->connected(link->owner_context);
    /* hiredis goes on with the context, which must stay: without memory the limit for the greeting
     * ends it. */
    if (greet(link, link->context) != REDIS_OK)
        log_limited(LOG_LEVEL_WARN, "redis_greeting_failed", F_STR("reason", "no_memory"));
}

/* ---- calls ---- */

static void on_reply(redisAsyncContext *context, void *reply, void *unused);

/* Puts the command's head in front of the arguments. */
static int send_call(struct redis_link *link, bool is_by_text)
{
    const char *command = is_by_text ? "EVAL" : "EVALSHA";
    const char *script = is_by_text ? link->target->script : link->sha;
    const struct redis_args *args = link->args;
    size_t room = 64 + strlen(script) + args->size + 1;
    char *bytes = malloc(room);
    if (!bytes)
        return -ENOMEM;
    int head = snprintf(bytes, room, "*%zu\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", args->count + 2,
                        strlen(command), command, strlen(script), script);
    size_t size = (size_t)head + args->size;
    assert(head > 0 && size < room);
    memcpy(bytes + head, args->bytes, args->size);
    bytes[size] = '\0'; /* hiredis looks for ends of lines in it */
    int rc = redisAsyncFormattedCommand(link->context, on_reply, NULL, bytes, size);
    free(bytes);
    return rc == REDIS_OK ? 0 : -ENOMEM;
}

static bool is_forgotten(const struct redis_reply *reply)
{
    return redis_reply_type(reply) == REDIS_REFUSAL &&
           strncmp(redis_reply_text(reply, NULL), "NOSCRIPT", 8) == 0;
}

static void on_reply(redisAsyncContext *context, void *reply, void *unused)
{
    struct redis_link *link = take_reply(context, reply);
    (void)unused;
    if (!link)
        return;
    if (is_forgotten(reply) && !link->is_by_text) {
        link->is_by_text = true;
        if (send_call(link, true) != 0)
            break_link(link, "no memory");
        return;
    }
    link->owner->answered(link->owner_context, reply);
}

int redis_link_call(struct redis_link *link, const struct redis_args *args)
{
    if (args->has_failed)
        return -ENOMEM;
    link->args = args;
    link->is_by_text = false;
    link->received = 0;
    return send_call(link, false);
}

/* ---- the loop's side ---- */

/* Whether hiredis should read now. */
static bool may_read(struct redis_link *link)
{
    redisAsyncContext *context = link->context;
    int waiting = 0;
    if (!(context->c.flags & REDIS_CONNECTED) || ioctl(context->c.fd, FIONREAD, &waiting) != 0)
        return true; /* it finds out what is wrong */
    bool is_plain = link->target->url.scheme != REDIS_SCHEME_TLS;
    if (waiting > 0 && is_plain && !context->replies.head) {
        break_link(link, "it sent data that nobody asked for");
        return false;
    }
    link->received += (size_t)(waiting < READ_SIZE ? waiting : READ_SIZE);
    if (link->received <= REDIS_REPLY_BYTES)
        return true;
    break_link(link, "a reply is too large");
    return false;
}

/* libuv stops the handle when poll(2) reports an error, and leaves finding the reason to us. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct redis_link *link = poll->data;
    if (status < 0)
        events = UV_READABLE | UV_WRITABLE;
    if (link->context && (events & UV_READABLE) && may_read(link))
        redisAsyncHandleRead(link->context);
    if (link->context && (events & UV_WRITABLE))
        redisAsyncHandleWrite(link->context);
    if (link->context && status < 0)
        break_link(link, uv_strerror(status));
}

static void poll_for(struct redis_link *link, int events)
{
    link->events = events;
    if (uv_is_closing((uv_handle_t *)&link->poll))
        return;
    if (events)
        uv_poll_start(&link->poll, events, on_poll);
    else
        uv_poll_stop(&link->poll);
}

static void add_read(void *data)
{
    struct redis_link *link = data;
    poll_for(link, link->events | UV_READABLE);
}

static void del_read(void *data)
{
    struct redis_link *link = data;
    poll_for(link, link->events & ~UV_READABLE);
}

static void add_write(void *data)
{
    struct redis_link *link = data;
    poll_for(link, link->events | UV_WRITABLE);
}

static void del_write(void *data)
{
    struct redis_link *link = data;
    poll_for(link, link->events & ~UV_WRITABLE);
}

static void clean_up(void *data)
{
    struct redis_link *link = data;
    uv_close((uv_handle_t *)&link->poll, on_poll_closed);
}

/* ---- the beginning ---- */

static int attach(struct redis_link *link, uv_loop_t *loop)
{
    redisAsyncContext *context = link->context;
    int rc = uv_poll_init(loop, &link->poll, context->c.fd);
    if (rc != 0)
        return rc;
    link->poll.data = context->ev.data = context->data = link;
    context->ev.addRead = add_read;
    context->ev.delRead = del_read;
    context->ev.addWrite = add_write;
    context->ev.delWrite = del_write;
    context->ev.cleanup = clean_up;
    redis_reader_bound(context->c.reader);
    redisAsyncSetDisconnectCallback(context, on_disconnect);
    redisAsyncSetConnectCallback(context, on_connect);
    return 0;
}

static bool begin(struct redis_link *link, uv_loop_t *loop, const char *address, char *error)
{
    const struct redis_url *url = &link->target->url;
    link->context = url->scheme == REDIS_SCHEME_UNIX ? redisAsyncConnectUnix(address)
                                                     : redisAsyncConnect(address, url->port);
    int rc = UV_ENOMEM;
    if (link->context && link->context->err) {
        snprintf(error, REDIS_ERROR_SIZE, "%s", link->context->errstr);
        return false;
    }
    if (link->context)
        rc = attach(link, loop);
    if (rc != 0)
        snprintf(error, REDIS_ERROR_SIZE, "%s", uv_strerror(rc));
    return rc == 0;
}

static void ignore_gone(void *context)
{
    (void)context;
}

static const struct redis_link_owner nobody = {.gone = ignore_gone};

struct redis_link *redis_link_open(uv_loop_t *loop, const struct redis_target *target,
                                   const char *address, const struct redis_link_owner *owner,
                                   void *context, char *error)
{
    struct redis_link *link = calloc(1, sizeof(*link));
    snprintf(error, REDIS_ERROR_SIZE, "no memory");
    if (!link)
        return NULL;
    link->target = target;
    link->owner = owner;
    link->owner_context = context;
    if (!begin(link, loop, address, error)) {
        if (link->context)
            redisAsyncFree(link->context);
        free(link);
        return NULL;
    }
    if (target->url.scheme == REDIS_SCHEME_TLS)
        link->tls = redis_tls_start(&link->context->c, target->url.host, error);
    if (target->url.scheme == REDIS_SCHEME_TLS && !link->tls) {
        link->owner = &nobody;
        redis_link_abandon(link);
        return NULL;
    }
    return link;
}
