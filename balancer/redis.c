/* See redis.h. hiredis' part of it, what runs on the connection once it stands, is redis_link.c;
 * here are the states, the timer and the way to an address.
 *
 * States: IDLE waits for the next attempt, RESOLVING for the name, CONNECTING for the kernel,
 * GREETING for the answers to AUTH, SELECT and SCRIPT LOAD; READY is up, CALLING too. One timer
 * serves all: in IDLE it starts the attempt, from RESOLVING to GREETING and in CALLING it is the
 * limit. */
#include "balancer/redis.h"

#include "balancer/redis_link.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum redis_state {
    STATE_IDLE,
    STATE_RESOLVING,
    STATE_CONNECTING,
    STATE_GREETING,
    STATE_READY,
    STATE_CALLING,
    STATE_CLOSED
};

struct redis {
    uv_loop_t *loop;
    struct redis_owner owner;
    struct redis_target target;
    char *password_file;
    uint64_t timeout_ms, retry_ms, retry_max_ms;

    enum redis_state state;
    uint32_t failures; /* in a row */
    uv_timer_t timer;
    uv_getaddrinfo_t lookup;
    bool is_looking_up;
    struct addrinfo *addresses, *next_address;
    struct redis_link *link;
    size_t open_links; /* that the loop still knows */
    bool is_timer_closed;

    void (*closed)(void *context);
    void *closed_context;
};

static void begin(struct redis *r);
static void fail_or_go_on(struct redis *r, const char *error);

static bool can_follow(enum redis_state from, enum redis_state to)
{
    switch (to) {
    case STATE_IDLE:
        return from != STATE_CLOSED;
    case STATE_RESOLVING:
        return from == STATE_IDLE;
    case STATE_CONNECTING:
        return from == STATE_IDLE || from == STATE_RESOLVING || from == STATE_CONNECTING;
    case STATE_GREETING:
        return from == STATE_CONNECTING;
    case STATE_READY:
        return from == STATE_GREETING || from == STATE_CALLING;
    case STATE_CALLING:
        return from == STATE_READY;
    case STATE_CLOSED:
        return from != STATE_CLOSED;
    }
    return false;
}

static void on_timer(uv_timer_t *timer);

/* The only writer of r->state. Arms the timer with the state's limit; 0: none. */
static void enter(struct redis *r, enum redis_state state, uint64_t limit_ms)
{
    assert(can_follow(r->state, state));
    r->state = state;
    if (limit_ms == 0)
        uv_timer_stop(&r->timer);
    else
        uv_timer_start(&r->timer, on_timer, limit_ms, 0);
}

/* ---- failures ---- */

static void forget_addresses(struct redis *r)
{
    uv_freeaddrinfo(r->addresses);
    r->addresses = r->next_address = NULL;
}

/* Doubles with each failure in a row; half of it is chance, so that replicas do not come together.
 */
static uint64_t retry_delay_ms(struct redis *r)
{
    uint64_t delay = r->retry_ms;
    uint32_t chance = 0;
    for (uint32_t i = 1; i < r->failures && delay < r->retry_max_ms; i++)
        delay *= 2;
    if (delay > r->retry_max_ms)
        delay = r->retry_max_ms;
    if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) != sizeof(chance))
        chance = (uint32_t)uv_hrtime();
    delay = delay / 2 + chance % (delay / 2 + 1);
    return delay > 0 ? delay : 1;
}

static void let_go_of_link(struct redis *r)
{
    struct redis_link *link = r->link;
    r->link = NULL;
    if (link)
        redis_link_abandon(link);
}

static void fail(struct redis *r, const char *error)
{
    char text[REDIS_ERROR_SIZE];
    snprintf(text, sizeof(text), "%s", error); /* it may lie in the link */
    let_go_of_link(r);
    forget_addresses(r);
    r->failures++;
    uint64_t delay_ms = retry_delay_ms(r);
    enter(r, STATE_IDLE, delay_ms);
    r->owner.down(r->owner.context, text, delay_ms);
}

static void on_timer(uv_timer_t *timer)
{
    struct redis *r = timer->data;
    switch (r->state) {
    case STATE_IDLE:
        begin(r);
        return;
    case STATE_RESOLVING:
        fail(r, "the name was not resolved in time");
        return;
    case STATE_CONNECTING:
        fail_or_go_on(r, "no connection in time");
        return;
    case STATE_GREETING:
        fail(r, "connected, but no answer in time");
        return;
    case STATE_CALLING:
        fail(r, "no answer in time");
        return;
    case STATE_READY:
    case STATE_CLOSED:
        assert(!"a timer without a reason");
    }
}

/* ---- the way to a connection ---- */

static const struct redis_link_owner link_owner;

/* The link's owner must hear of nothing before this returns: a failure at once is reported here. */
static void connect_to(struct redis *r, const char *address)
{
    char error[REDIS_ERROR_SIZE];
    enter(r, STATE_CONNECTING, r->timeout_ms);
    r->open_links++;
    r->link = redis_link_open(r->loop, &r->target, address, &link_owner, r, error);
    if (r->link)
        return;
    r->open_links--;
    fail_or_go_on(r, error);
}

static void connect_next(struct redis *r)
{
    char address[NI_MAXHOST];
    struct addrinfo *a = r->next_address;
    r->next_address = a->ai_next;
    int rc =
        getnameinfo(a->ai_addr, a->ai_addrlen, address, sizeof(address), NULL, 0, NI_NUMERICHOST);
    if (rc != 0)
        fail(r, gai_strerror(rc));
    else
        connect_to(r, address);
}

/* Another address may do better. */
static void fail_or_go_on(struct redis *r, const char *error)
{
    if (!r->next_address) {
        fail(r, error);
        return;
    }
    let_go_of_link(r);
    connect_next(r);
}

static void finish_close(struct redis *r);

static void on_resolved(uv_getaddrinfo_t *lookup, int status, struct addrinfo *addresses)
{
    struct redis *r = lookup->data;
    r->is_looking_up = false;
    if (r->state != STATE_RESOLVING) { /* too late, or closing */
        uv_freeaddrinfo(addresses);
        finish_close(r);
        return;
    }
    if (status != 0) {
        char text[REDIS_ERROR_SIZE];
        snprintf(text, sizeof(text), "the name: %s", uv_strerror(status));
        fail(r, text);
        return;
    }
    r->addresses = r->next_address = addresses;
    connect_next(r);
}

static void resolve(struct redis *r)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    enter(r, STATE_RESOLVING, r->timeout_ms);
    if (r->is_looking_up) { /* the last one still runs: wait for what it brings */
        return;
    }
    int rc = uv_getaddrinfo(r->loop, &r->lookup, on_resolved, r->target.url.host, NULL, &hints);
    if (rc != 0)
        fail(r, uv_strerror(rc));
    else
        r->is_looking_up = true;
}

/* The first line of a small file. */
static const char *read_password(struct redis *r, char *out, size_t room)
{
    FILE *file = fopen(r->password_file, "re");
    if (!file)
        return strerror(errno);
    char *line = fgets(out, (int)room, file);
    fclose(file);
    if (!line)
        return "it is empty";
    size_t size = strcspn(out, "\r\n");
    if (size + 1 >= room)
        return "the password is too long";
    out[size] = '\0';
    return size > 0 ? NULL : "its first line is empty";
}

static void begin(struct redis *r)
{
    if (r->password_file) {
        const char *wrong =
            read_password(r, r->target.url.password, sizeof(r->target.url.password));
        r->target.url.has_password = !wrong;
        if (wrong) {
            char text[REDIS_ERROR_SIZE];
            snprintf(text, sizeof(text), "the password file: %s", wrong);
            fail(r, text);
            return;
        }
    }
    if (r->target.url.scheme == REDIS_SCHEME_UNIX)
        connect_to(r, r->target.url.path);
    else
        resolve(r);
}

/* ---- what the link says ---- */

static void on_connected(void *context)
{
    struct redis *r = context;
    forget_addresses(r);
    enter(r, STATE_GREETING, r->timeout_ms);
}

static void on_greeted(void *context)
{
    struct redis *r = context;
    enter(r, STATE_READY, 0);
    r->owner.up(r->owner.context);
}

static void on_answered(void *context, const struct redis_reply *reply)
{
    struct redis *r = context;
    if (r->state != STATE_CALLING)
        return;
    enter(r, STATE_READY, 0);
    if (redis_reply_type(reply) != REDIS_REFUSAL)
        r->failures = 0;
    r->owner.answered(r->owner.context, reply);
}

static void on_broken(void *context, const char *error)
{
    struct redis *r = context;
    if (r->state == STATE_CONNECTING)
        fail_or_go_on(r, error);
    else
        fail(r, error);
}

static void on_link_gone(void *context)
{
    struct redis *r = context;
    assert(r->open_links > 0);
    r->open_links--;
    finish_close(r);
}

static const struct redis_link_owner link_owner = {.connected = on_connected,
                                                   .greeted = on_greeted,
                                                   .answered = on_answered,
                                                   .broken = on_broken,
                                                   .gone = on_link_gone};

/* ---- for the owner ---- */

int redis_create(uv_loop_t *loop, const struct redis_options *options,
                 const struct redis_owner *owner, struct redis **out)
{
    struct redis *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->loop = loop;
    r->owner = *owner;
    r->target.url = *options->url;
    r->target.script = options->script;
    r->timeout_ms = options->timeout_ms;
    r->retry_ms = options->retry_ms;
    r->retry_max_ms = options->retry_max_ms;
    if (options->password_file)
        r->password_file = strdup(options->password_file);
    if (options->password_file && !r->password_file) {
        free(r);
        return -ENOMEM;
    }
    if (!r->password_file && !r->target.url.has_password && options->password) {
        snprintf(r->target.url.password, sizeof(r->target.url.password), "%s", options->password);
        r->target.url.has_password = true;
    }
    uv_timer_init(loop, &r->timer);
    r->timer.data = r->lookup.data = r;
    uv_timer_start(&r->timer, on_timer, 0, 0);
    *out = r;
    return 0;
}

bool redis_is_up(const struct redis *r)
{
    return r->state == STATE_READY || r->state == STATE_CALLING;
}

bool redis_is_calling(const struct redis *r)
{
    return r->state == STATE_CALLING;
}

int redis_call(struct redis *r, const struct redis_args *args)
{
    assert(r->state == STATE_READY);
    int rc = redis_link_call(r->link, args);
    if (rc == 0)
        enter(r, STATE_CALLING, r->timeout_ms);
    return rc;
}

void redis_give_up(struct redis *r, const char *error)
{
    assert(redis_is_up(r));
    fail(r, error);
}

static void finish_close(struct redis *r)
{
    if (r->state != STATE_CLOSED || !r->is_timer_closed || r->open_links > 0 || r->is_looking_up)
        return;
    void (*closed)(void *) = r->closed;
    r->closed = NULL;
    if (closed)
        closed(r->closed_context);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct redis *r = handle->data;
    r->is_timer_closed = true;
    finish_close(r);
}

void redis_close(struct redis *r, void (*closed)(void *context), void *context)
{
    enter(r, STATE_CLOSED, 0);
    r->closed = closed;
    r->closed_context = context;
    let_go_of_link(r);
    forget_addresses(r);
    if (r->is_looking_up)
        uv_cancel((uv_req_t *)&r->lookup); /* or it ends by itself */
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}

void redis_destroy(struct redis *r)
{
    if (!r)
        return;
    explicit_bzero(&r->target, sizeof(r->target));
    free(r->password_file);
    free(r);
}
