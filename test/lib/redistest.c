/* See redistest.h. */
#include "test/lib/redistest.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PATIENCE_MS 10000

/* ---- the server ---- */

static redisContext *dial(const struct redis_server *s)
{
    const struct timeval limit = {.tv_sec = 5};
    redisContext *c = redisConnectUnixWithTimeout(s->socket, limit);
    if (c && !c->err && redisSetTimeout(c, limit) == REDIS_OK)
        return c;
    if (c)
        redisFree(c);
    return NULL;
}

static void await_answer(struct redis_server *s)
{
    for (int i = 0; i < PATIENCE_MS / 20; i++) {
        redisContext *c = dial(s);
        redisReply *reply = c ? redisCommand(c, "PING") : NULL;
        bool answers = reply && !(reply->str && strncmp(reply->str, "LOADING", 7) == 0);
        if (reply)
            freeReplyObject(reply);
        if (c)
            redisFree(c);
        if (answers)
            return;
        usleep(20000);
    }
    fail_msg("redis-server does not answer at %s", s->socket);
}

static void execute(const struct redis_server *s, const char *const *options)
{
    const char *words[48] = {
        "redis-server", "--port", "0", "--unixsocket", s->socket, "--dir", s->folder, "--logfile",
        s->log,         "--save", "",  "--loglevel",   "warning"};
    size_t count = 13;
    for (; options && *options && count + 1 < 48; options++)
        words[count++] = *options;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that crashes leaves nothing behind */
    execvp(words[0], (char *const *)words);
    _exit(127);
}

void redis_server_start(struct redis_server *s, const char *const *options)
{
    if (!s->folder[0]) {
        snprintf(s->folder, sizeof(s->folder), "/tmp/isthmus-redis-XXXXXX");
        assert_non_null(mkdtemp(s->folder));
        snprintf(s->socket, sizeof(s->socket), "%s/s", s->folder);
        snprintf(s->log, sizeof(s->log), "%s/log", s->folder);
        snprintf(s->url, sizeof(s->url), "unix://%s", s->socket);
    }
    assert_int_equal(s->pid, 0);
    unlink(s->socket);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0)
        execute(s, options);
    await_answer(s);
}

void redis_server_stop(struct redis_server *s, int signal)
{
    if (s->pid == 0)
        return;
    kill(s->pid, signal);
    kill(s->pid, SIGCONT);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

void redis_server_fini(struct redis_server *s)
{
    char path[192];
    redis_server_stop(s, SIGKILL);
    if (!s->folder[0])
        return;
    static const char *const files[] = {"s",        "p",      "log",      "dump.rdb",
                                        "password", "ca.pem", "cert.pem", "key.pem"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", s->folder, files[i]);
        unlink(path);
    }
    rmdir(s->folder);
    memset(s, 0, sizeof(*s));
}

static size_t put_reply(char *out, size_t room, const redisReply *reply)
{
    size_t size = 0;
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        return (size_t)snprintf(out, room, "%lld", reply->integer);
    case REDIS_REPLY_ERROR:
        return (size_t)snprintf(out, room, "-%s", reply->str);
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < reply->elements && size + 2 < room; i++) {
            if (i > 0)
                out[size++] = ' ';
            size += put_reply(out + size, room - size, reply->element[i]);
        }
        out[size] = '\0';
        return size;
    default:
        return (size_t)snprintf(out, room, "%s", reply->str ? reply->str : "");
    }
}

const char *redis_server_ask(struct redis_server *s, const char *password, const char *const *words)
{
    static char text[65536];
    redisContext *c = dial(s);
    assert_non_null(c);
    if (password)
        freeReplyObject(redisCommand(c, "AUTH %s", password));
    int count = 0;
    while (words[count])
        count++;
    redisReply *reply = redisCommandArgv(c, count, (const char **)words, NULL);
    text[0] = '\0';
    if (reply)
        put_reply(text, sizeof(text), reply);
    if (reply)
        freeReplyObject(reply);
    redisFree(c);
    return text;
}

/* ---- the proxy ---- */

struct connection {
    struct proxy *proxy;
    struct connection *next;
    uv_pipe_t near, far;
    uv_connect_t connect;
    unsigned answers;
    int open;
    bool is_closing;
    char early[65536]; /* what came before the server took the connection */
    size_t early_size;
    bool is_connected;
};

struct chunk {
    uv_write_t write;
    char bytes[];
};

static void on_connection_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    if (--c->open > 0)
        return;
    struct connection **at = (struct connection **)&c->proxy->connections;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->proxy->open--;
    free(c);
}

static void close_connection(struct connection *c)
{
    if (c->is_closing)
        return;
    c->is_closing = true;
    uv_close((uv_handle_t *)&c->near, on_connection_closed);
    uv_close((uv_handle_t *)&c->far, on_connection_closed);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    free(write);
}

static void pass(uv_pipe_t *to, const char *bytes, size_t size)
{
    struct chunk *chunk = malloc(sizeof(*chunk) + size);
    assert_non_null(chunk);
    memcpy(chunk->bytes, bytes, size);
    uv_buf_t buffer = uv_buf_init(chunk->bytes, (unsigned)size);
    if (uv_write(&chunk->write, (uv_stream_t *)to, &buffer, 1, on_written) != 0)
        free(chunk);
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buffer)
{
    static char room[262144];
    (void)handle;
    (void)hint;
    *buffer = uv_buf_init(room, sizeof(room));
}

static void on_request(uv_stream_t *near, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *c = near->data;
    if (size < 0)
        close_connection(c);
    else if (c->is_connected)
        pass(&c->far, buffer->base, (size_t)size);
    else {
        assert_true(c->early_size + (size_t)size <= sizeof(c->early));
        memcpy(c->early + c->early_size, buffer->base, (size_t)size);
        c->early_size += (size_t)size;
    }
}

static void falsify(struct connection *c, const char *bytes, size_t size)
{
    static char zeros[65536];
    memset(zeros, 'x', sizeof(zeros));
    switch (c->proxy->mode) {
    case PROXY_PASS:
        break;
    case PROXY_LOSE:
        close_connection(c);
        return;
    case PROXY_GARBAGE:
        pass(&c->near, "\r\n\1\2garbage\r\n", 13);
        return;
    case PROXY_EXTRA:
        pass(&c->near, bytes, size);
        pass(&c->near, "+MORE\r\n", 7);
        return;
    case PROXY_ENDLESS:
        pass(&c->near, "$500000000\r\n", 12);
        for (int i = 0; i < 300; i++)
            pass(&c->near, zeros, sizeof(zeros));
        return;
    case PROXY_ODD:
        pass(&c->near, "*2\r\n:1\r\n*1\r\n$-1\r\n", 17);
        return;
    }
}

static void on_answer(uv_stream_t *far, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *c = far->data;
    if (size < 0) {
        close_connection(c);
        return;
    }
    if (c->proxy->mode == PROXY_PASS || c->answers++ < c->proxy->after)
        pass(&c->near, buffer->base, (size_t)size);
    else
        falsify(c, buffer->base, (size_t)size);
}

static void on_far_connected(uv_connect_t *connect, int status)
{
    struct connection *c = connect->data;
    if (status == UV_ECANCELED)
        return;
    if (status != 0) {
        close_connection(c);
        return;
    }
    c->is_connected = true;
    uv_read_start((uv_stream_t *)&c->far, on_alloc, on_answer);
    if (c->early_size > 0)
        pass(&c->far, c->early, c->early_size);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct proxy *p = listener->data;
    struct connection *c = calloc(1, sizeof(*c));
    assert_int_equal(status, 0);
    assert_non_null(c);
    c->proxy = p;
    c->next = p->connections;
    p->connections = c;
    p->open++;
    c->open = 2;
    uv_pipe_init(p->loop, &c->near, 0);
    uv_pipe_init(p->loop, &c->far, 0);
    c->near.data = c->far.data = c->connect.data = c;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&c->near), 0);
    uv_read_start((uv_stream_t *)&c->near, on_alloc, on_request);
    uv_pipe_connect(&c->connect, &c->far, p->server, on_far_connected);
}

void proxy_start(struct proxy *p, uv_loop_t *loop, const struct redis_server *s)
{
    memset(p, 0, sizeof(*p));
    p->loop = loop;
    snprintf(p->server, sizeof(p->server), "%s", s->socket);
    snprintf(p->socket, sizeof(p->socket), "%s/p", s->folder);
    snprintf(p->url, sizeof(p->url), "unix://%s", p->socket);
    unlink(p->socket);
    uv_pipe_init(loop, &p->listener, 0);
    p->listener.data = p;
    assert_int_equal(uv_pipe_bind(&p->listener, p->socket), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&p->listener, 16, on_connection), 0);
}

void proxy_close(struct proxy *p)
{
    if (!p->loop)
        return;
    p->loop = NULL;
    uv_close((uv_handle_t *)&p->listener, NULL);
    for (struct connection *c = p->connections; c; c = c->next)
        close_connection(c);
}

/* ---- replicas ---- */

static void read_self(void *context, struct balancer_self *self)
{
    struct test_replica *r = context;
    r->after_close += r->is_closed;
    assert_int_equal(self->live, r->count);
    self->is_ready = r->is_ready;
    self->is_api_ok = r->is_api_ok;
    self->is_draining = r->is_draining;
    self->max_connections = r->max_connections;
    self->leaving = r->leaving;
}

static void release(struct test_replica *r, size_t count)
{
    struct test_world *w = r->world;
    for (; count > 0 && r->count > 0; count--) {
        const char *node = r->nodes[--r->count];
        w->away[w->away_count++] = node;
        r->released++;
        r->released_last = node;
        balancer_released(r->b, node, true);
    }
    balancer_order_done(r->b);
}

/* Every view must account for every node, wherever it is. */
static void check_total(const struct test_replica *r, const struct balancer_decision *d)
{
    const struct test_world *w = r->world;
    if (w->total_expected >= 0 && d->total > 0 && d->beat_age_ms < w->config.period_ms)
        assert_int_equal(d->total, w->total_expected);
}

static void decided(void *context, const struct balancer_decision *d)
{
    struct test_replica *r = context;
    r->decision = *d;
    r->decisions++;
    r->after_close += r->is_closed;
    check_total(r, d);
    r->ordered += d->release_now;
    if (d->release_now > 0 && !r->is_lazy)
        release(r, d->release_now);
}

static void moved(void *context, const char *const *nodes, size_t count)
{
    struct test_replica *r = context;
    assert_true(count > 0);
    r->moved += (unsigned)count;
    snprintf(r->moved_last, sizeof(r->moved_last), "%s", nodes[count - 1]);
}

static void flights(void *context, const struct balance_flight *list, size_t count)
{
    struct test_replica *r = context;
    r->flight_calls++;
    r->flight_count = count;
    if (count > 0)
        r->flight = list[0];
}

static void beat_ended(void *context, enum balance_beat end, uint64_t round_trip_us)
{
    struct test_replica *r = context;
    r->beats[end]++;
    assert_true((round_trip_us > 0) == (end == BALANCE_BEAT_ANSWERED));
}

static void ignore_tick(uv_timer_t *timer)
{
    (void)timer;
}

void test_world_init(struct test_world *w)
{
    memset(w, 0, sizeof(*w));
    assert_int_equal(uv_loop_init(&w->loop), 0);
    uv_timer_init(&w->loop, &w->tick);
    uv_timer_start(&w->tick, ignore_tick, 5, 5);
    w->config = (struct balancer_config)BALANCER_CONFIG_DEFAULT;
    w->config.period_ms = 100;
    w->config.inflight_timeout_ms = 600;
    w->config.observe_ms = 150;
    w->config.edge_away_ms = 150;
    w->config.edge_redial_ms = 50;
    w->config.move_cooldown_ms = 50;
    w->config.release_rate = 1000;
    w->config.release_max_fraction = 1;
    w->config.moves_per_hour = 1000000;
    w->config.futile_backoff_ms = 300;
    w->config.futile_backoff_max_ms = 1000;
    w->config.drain_timeout_ms = 2000;
    w->config.bridge_ms = 450;
    w->total_expected = -1;
    for (size_t i = 0; i < TEST_NODES; i++)
        snprintf(w->names[i], sizeof(w->names[i]), "node-%zu", i);
}

static void on_closed(void *context)
{
    struct test_replica *r = context;
    assert_true(r->is_closed);
    balancer_destroy(r->b);
    r->b = NULL;
}

static void begin_leaving(struct test_replica *r)
{
    r->is_closed = true;
    balancer_close(r->b, on_closed, r);
}

void test_world_leave(struct test_world *w, size_t i)
{
    struct test_replica *r = &w->replicas[i];
    uint64_t until_ms = uv_hrtime() / 1000000 + PATIENCE_MS;
    begin_leaving(r);
    while (r->b && uv_hrtime() / 1000000 < until_ms)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_null(r->b);
    assert_int_equal(r->after_close, 0);
}

void test_world_fini(struct test_world *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->replicas[i].b)
            begin_leaving(&w->replicas[i]);
    uv_close((uv_handle_t *)&w->tick, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    for (size_t i = 0; i < w->count; i++)
        assert_null(w->replicas[i].b);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

size_t test_world_join(struct test_world *w, const char *id, const char *url, const char *group,
                       const char *password)
{
    assert_true(w->count < sizeof(w->replicas) / sizeof(w->replicas[0]));
    struct test_replica *r = &w->replicas[w->count];
    struct errbuf e = {{0}};
    *r = (struct test_replica){.is_ready = true, .is_api_ok = true, .world = w};
    const struct balance_options options = {.config = &w->config,
                                            .replica_id = id,
                                            .redis_url = url,
                                            .redis_group = group,
                                            .password = password,
                                            .redis_timeout_ms = 300};
    const struct balance_owner owner = {.context = r,
                                        .read_self = read_self,
                                        .decided = decided,
                                        .moved = moved,
                                        .flights = flights,
                                        .beat_ended = beat_ended};
    if (balancer_create(&w->loop, &options, &owner, &r->b, &e) != 0)
        fail_msg("%s", e.text);
    return w->count++;
}

static void arrive(struct test_world *w, size_t replica, const char *node)
{
    struct test_replica *r = &w->replicas[replica];
    r->nodes[r->count++] = node;
    balancer_arrived(r->b, node);
}

void test_world_arrive(struct test_world *w, size_t replica, size_t from, size_t count)
{
    for (size_t i = from; i < from + count; i++)
        arrive(w, replica, w->names[i]);
}

void test_world_land(struct test_world *w, size_t replica)
{
    while (w->away_count > 0)
        arrive(w, replica, w->away[--w->away_count]);
}

void test_world_wait(struct test_world *w, bool (*is_true)(struct test_world *w), const char *what)
{
    uint64_t until_ms = uv_hrtime() / 1000000 + PATIENCE_MS;
    while (!is_true(w)) {
        if (uv_hrtime() / 1000000 > until_ms)
            fail_msg("not within %d ms: %s", PATIENCE_MS, what);
        uv_run(&w->loop, UV_RUN_ONCE);
    }
}

void test_world_run(struct test_world *w, uint64_t ms)
{
    uint64_t until_ms = uv_hrtime() / 1000000 + ms;
    while (uv_hrtime() / 1000000 < until_ms)
        uv_run(&w->loop, UV_RUN_ONCE);
}

/* ---- what tests wait for ---- */

struct balance_view test_view_of(struct test_world *w, size_t i)
{
    struct balance_view view;
    balancer_read(w->replicas[i].b, &view);
    return view;
}

bool test_see_each_other(struct test_world *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->replicas[i].b && (test_view_of(w, i).peer_count != w->count ||
                                 w->replicas[i].decision.peers + 1 != w->count))
            return false;
    return true;
}

bool test_have_calmed_down(struct test_world *w)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct balancer_decision *d = &w->replicas[i].decision;
        if (d->why != BALANCER_WHY_BALANCED || d->phase != BALANCER_DETECT || d->in_flight > 0 ||
            test_view_of(w, i).unreported > 0)
            return false;
    }
    return true;
}

/* What is released goes to the last replica, not before the store has heard of it: an edge is away
 * for several periods. */
bool test_are_even(struct test_world *w)
{
    if (test_view_of(w, 0).unreported == 0)
        test_world_land(w, w->count - 1);
    return w->replicas[0].released > 0 && test_have_calmed_down(w);
}

bool test_first_is_up(struct test_world *w)
{
    return test_view_of(w, 0).is_store_up && w->replicas[0].beats[BALANCE_BEAT_ANSWERED] > 0;
}

bool test_first_is_down(struct test_world *w)
{
    return !test_view_of(w, 0).is_store_up && test_view_of(w, 0).store_error_ms > 0;
}

static enum balancer_why awaited;

static bool first_says_so(struct test_world *w)
{
    return w->replicas[0].decision.why == awaited;
}

void test_wait_for_why(struct test_world *w, enum balancer_why why)
{
    awaited = why;
    test_world_wait(w, first_says_so, balancer_why_name(why));
}

/* Two replicas, `count` nodes at the first, past the epoch's hold. */
void test_set_the_scene(struct test_world *w, const char *url, size_t count)
{
    w->replicas[0].is_lazy = true;
    test_world_join(w, "a", url, NULL, NULL);
    test_world_join(w, "b", url, NULL, NULL);
    w->replicas[0].is_lazy = true;
    test_world_arrive(w, 0, 0, count);
    test_world_wait(w, test_see_each_other, "both see both");
}

/* ---- the fixture ---- */

int test_store_set_up(void **state)
{
    static struct test_store f;
    memset(&f, 0, sizeof(f));
    redis_server_start(&f.server, NULL);
    test_world_init(&f.world);
    *state = &f;
    return 0;
}

int test_store_tear_down(void **state)
{
    struct test_store *f = *state;
    proxy_close(&f->proxy);
    test_world_fini(&f->world);
    redis_server_fini(&f->server);
    return 0;
}
