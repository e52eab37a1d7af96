/* The control socket: who may open it, what is asked and answered, and what is refused. Also the
 * line of the agent-check. */
#include "hub/agent.h"
#include "hub/control.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    uv_loop_t loop;
    struct control *control;
    char folder[64], path[100];
    uv_async_t done;
    struct control_request *waiting; /* of "later" */
    unsigned requests;
};

static void on_request(void *context, struct control_request *request, const char *word,
                       const char *argument)
{
    struct fixture *f = context;
    f->requests++;
    if (strcmp(word, "later") == 0)
        f->waiting = request;
    else if (strcmp(word, "fail") == 0)
        control_error(request, "no %s today", argument);
    else
        control_answer(request, json_pack("{s:s, s:s}", "word", word, "argument", argument));
}

static void on_done(uv_async_t *async)
{
    uv_stop(async->loop);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct errbuf e = {{0}};
    const struct control_handler handler = {f, on_request};
    snprintf(f->folder, sizeof(f->folder), "/tmp/test-control-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof(f->path), "%s/sub/control.sock", f->folder);
    assert_int_equal(0, uv_loop_init(&f->loop));
    assert_int_equal(0, uv_async_init(&f->loop, &f->done, on_done));
    assert_int_equal(0, control_create(&f->loop, f->path, &handler, &f->control, &e));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char sub[100];
    control_close(f->control);
    if (f->waiting)
        control_error(f->waiting, "closing");
    uv_close((uv_handle_t *)&f->done, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    control_destroy(f->control);
    assert_int_equal(0, uv_loop_close(&f->loop));
    assert_int_not_equal(0, access(f->path, F_OK));
    snprintf(sub, sizeof(sub), "%s/sub", f->folder);
    rmdir(sub);
    assert_int_equal(0, rmdir(f->folder));
    free(f);
    return 0;
}

/* ---- the other side, on a thread of its own ---- */

struct asker {
    struct fixture *f;
    const char *line;
    json_t *answer;
    struct errbuf e;
    pthread_t thread;
};

static void *run_asker(void *context)
{
    struct asker *a = context;
    a->answer = control_ask(a->f->path, a->line, &a->e);
    uv_async_send(&a->f->done);
    return NULL;
}

static void ask(struct fixture *f, struct asker *a, const char *line)
{
    *a = (struct asker){.f = f, .line = line};
    assert_int_equal(0, pthread_create(&a->thread, NULL, run_asker, a));
    uv_run(&f->loop, UV_RUN_DEFAULT);
    pthread_join(a->thread, NULL);
}

static void test_ask_and_answer(void **state)
{
    struct asker a;
    ask(*state, &a, "explain edge-1");
    assert_non_null(a.answer);
    assert_string_equal("explain", json_string_value(json_object_get(a.answer, "word")));
    assert_string_equal("edge-1", json_string_value(json_object_get(a.answer, "argument")));
    json_decref(a.answer);
    ask(*state, &a, "status");
    assert_string_equal("", json_string_value(json_object_get(a.answer, "argument")));
    json_decref(a.answer);
    ask(*state, &a, "fail luck");
    assert_null(a.answer);
    assert_string_equal("no luck today", a.e.text);
}

static void test_only_the_owner_may_open_it(void **state)
{
    struct fixture *f = *state;
    struct stat s;
    assert_int_equal(0, stat(f->path, &s));
    assert_int_equal(0600, s.st_mode & 0777);
}

static void test_one_hub_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct control *second;
    struct errbuf e = {{0}};
    const struct control_handler handler = {f, on_request};
    assert_int_equal(-EADDRINUSE, control_create(&f->loop, f->path, &handler, &second, &e));
    assert_non_null(strstr(e.text, "another process listens there"));
    assert_int_equal(0, access(f->path, F_OK));
}

static void test_what_a_dead_process_left_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct errbuf e = {{0}};
    const struct control_handler handler = {f, on_request};
    char path[80];
    snprintf(path, sizeof(path), "%s/left.sock", f->folder);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(0, bind(fd, (struct sockaddr *)&address, sizeof(address)));
    close(fd);
    struct control *c;
    assert_int_equal(0, control_create(&f->loop, path, &handler, &c, &e));
    control_close(c);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    control_destroy(c);
}

/* A mistyped path must not cost a file. */
static void test_a_file_is_not_replaced(void **state)
{
    struct fixture *f = *state;
    struct control *c;
    struct errbuf e = {{0}};
    const struct control_handler handler = {f, on_request};
    char path[80];
    snprintf(path, sizeof(path), "%s/file", f->folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(-EEXIST, control_create(&f->loop, path, &handler, &c, &e));
    assert_non_null(strstr(e.text, "socket"));
    assert_int_equal(0, unlink(path));
}

static void test_paths_that_cannot_be(void **state)
{
    struct fixture *f = *state;
    struct control *c;
    struct errbuf e = {{0}};
    const struct control_handler handler = {f, on_request};
    char path[200];
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(-ENAMETOOLONG, control_create(&f->loop, path, &handler, &c, &e));
    assert_int_not_equal(0,
                         control_create(&f->loop, "/proc/nowhere/control.sock", &handler, &c, &e));
    assert_non_null(strstr(e.text, "/proc/nowhere/control.sock"));
}

/* ---- peers that do not behave ---- */

struct rough {
    struct fixture *f;
    const char *bytes;
    size_t size;
    char answer[256];
    ssize_t got;
};

static void *run_rough(void *context)
{
    struct rough *r = context;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, r->f->path, sizeof(address.sun_path) - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, r->bytes, r->size, MSG_NOSIGNAL) == (ssize_t)r->size)
        r->got = recv(fd, r->answer, sizeof(r->answer) - 1, 0);
    close(fd);
    uv_async_send(&r->f->done);
    return NULL;
}

static void send_rough(struct fixture *f, struct rough *r, const char *bytes, size_t size)
{
    pthread_t thread;
    *r = (struct rough){.f = f, .bytes = bytes, .size = size};
    assert_int_equal(0, pthread_create(&thread, NULL, run_rough, r));
    uv_run(&f->loop, UV_RUN_DEFAULT);
    pthread_join(thread, NULL);
}

static void test_bad_requests(void **state)
{
    struct fixture *f = *state;
    struct rough r;
    char big[2000];
    memset(big, 'a', sizeof(big));
    send_rough(f, &r, big, sizeof(big)); /* a line without end */
    assert_true(r.got <= 0);
    send_rough(f, &r, "a\0b\n", 4);
    assert_true(r.got <= 0);
    send_rough(f, &r, "\x01\x02\n", 3);
    assert_non_null(strstr(r.answer, "not a request"));
    assert_int_equal(0, f->requests);
    send_rough(f, &r, "status\r\n", 8);
    assert_non_null(strstr(r.answer, "\"word\":\"status\""));
    assert_int_equal(1, f->requests);
}

/* The asker has left, the answer comes later: it goes nowhere, and nothing is freed too early. */
static void *run_leaver(void *context)
{
    struct rough *r = context;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, r->f->path, sizeof(address.sun_path) - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        r->got = send(fd, "later\n", 6, MSG_NOSIGNAL);
    usleep(20000);
    close(fd);
    uv_async_send(&r->f->done);
    return NULL;
}

static void test_an_answer_that_comes_too_late(void **state)
{
    struct fixture *f = *state;
    struct rough r = {.f = f};
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, run_leaver, &r));
    uv_run(&f->loop, UV_RUN_DEFAULT);
    pthread_join(thread, NULL);
    assert_non_null(f->waiting);
    control_answer(f->waiting, json_pack("{s:b}", "late", true));
    f->waiting = NULL;
    struct asker a;
    ask(f, &a, "status");
    assert_non_null(a.answer);
    json_decref(a.answer);
}

static void test_closing_while_an_answer_is_owed(void **state)
{
    struct fixture *f = *state;
    struct rough r = {.f = f};
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, run_leaver, &r));
    uv_run(&f->loop, UV_RUN_DEFAULT);
    pthread_join(thread, NULL);
    assert_non_null(f->waiting); /* tear_down() answers it after control_close() */
}

static void test_agent_line(void **state)
{
    char line[AGENT_LINE_BYTES];
    (void)state;
    agent_line(100, line);
    assert_string_equal("up ready 100%\n", line);
    agent_line(7, line);
    assert_string_equal("up ready 7%\n", line);
    agent_line(400, line);
    assert_string_equal("up ready 100%\n", line);
    agent_line(0, line);
    assert_string_equal("up drain\n", line);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ask_and_answer),
        TEST(test_only_the_owner_may_open_it),
        TEST(test_one_hub_at_a_time),
        TEST(test_what_a_dead_process_left_is_replaced),
        TEST(test_a_file_is_not_replaced),
        TEST(test_paths_that_cannot_be),
        TEST(test_bad_requests),
        TEST(test_an_answer_that_comes_too_late),
        TEST(test_closing_while_an_answer_is_owed),
        cmocka_unit_test(test_agent_line),
    };
    signal(SIGPIPE, SIG_IGN); /* as main() does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
