/* Certificate files that change: however that is done it is noticed once, and not before all is
 * quiet again. */
#include "hub/filewatch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define PERIOD_MS 5
#define QUIET     8    /* so many looks are enough to be sure that nothing is noticed */
#define PATIENCE  2000 /* looks: what has to come has come by then */

struct fixture {
    char dir[64], ca[80], cert[80], key[80];
    struct config config;
    uv_loop_t loop;
    uv_timer_t ticker;
    struct filewatch watch;
    unsigned calls, ticks, stop_at;
    void (*on_tick)(struct fixture *f);
};

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void on_changed(void *context)
{
    struct fixture *f = context;
    f->calls++;
}

static void tick(uv_timer_t *timer)
{
    struct fixture *f = timer->data;
    f->ticks++;
    if (f->on_tick)
        f->on_tick(f);
    if (f->ticks >= f->stop_at)
        uv_stop(&f->loop);
}

static void stop_when_called(struct fixture *f)
{
    if (f->calls > 0)
        uv_stop(&f->loop);
}

/* Lets so many looks pass; our own timer has the same period and comes after the watch's. */
static unsigned calls_within(struct fixture *f, unsigned looks, void (*on_tick)(struct fixture *f))
{
    f->calls = 0;
    f->on_tick = on_tick;
    f->stop_at = f->ticks + looks;
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return f->calls;
}

static void expect_one_call(struct fixture *f)
{
    assert_int_equal(calls_within(f, PATIENCE, stop_when_called), 1);
    assert_int_equal(calls_within(f, QUIET, NULL), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    snprintf(f->dir, sizeof(f->dir), "/tmp/test-filewatch-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->ca, sizeof(f->ca), "%s/ca.crt", f->dir);
    snprintf(f->cert, sizeof(f->cert), "%s/tls.crt", f->dir);
    snprintf(f->key, sizeof(f->key), "%s/tls.key", f->dir);
    write_file(f->ca, "ca");
    write_file(f->cert, "certificate");
    write_file(f->key, "key");
    f->config = (struct config){.tls_ca = f->ca, .tls_cert = f->cert, .tls_key = f->key};
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(filewatch_start(&f->watch, &f->loop, &f->config, PERIOD_MS, on_changed, f), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->ticker), 0);
    f->ticker.data = f;
    assert_int_equal(uv_timer_start(&f->ticker, tick, PERIOD_MS, PERIOD_MS), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    filewatch_close(&f->watch);
    uv_close((uv_handle_t *)&f->ticker, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void test_what_stays_is_not_noticed(void **state)
{
    assert_int_equal(calls_within(*state, QUIET, NULL), 0);
}

static void test_each_file_counts(void **state)
{
    struct fixture *f = *state;
    const char *const files[] = {f->ca, f->cert, f->key};
    for (size_t i = 0; i < 3; i++) {
        write_file(files[i], "something else");
        expect_one_call(f);
    }
}

static void test_a_file_put_in_its_place(void **state)
{
    struct fixture *f = *state;
    char fresh[96];
    struct stat before;
    snprintf(fresh, sizeof(fresh), "%s.new", f->cert);
    assert_int_equal(stat(f->cert, &before), 0);
    write_file(fresh,
               "certificatE"); /* as long as the old one, and as old: only the inode is another */
    const struct timespec times[2] = {before.st_mtim, before.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, fresh, times, 0), 0);
    assert_int_equal(rename(fresh, f->cert), 0);
    expect_one_call(f);
}

/* As kubelet updates a Secret that is mounted: the files are links through a link to a folder. */
static void test_the_links_of_a_mounted_secret(void **state)
{
    struct fixture *f = *state;
    char from[96], to[96], data[96], swap[96];
    snprintf(from, sizeof(from), "%s/..1", f->dir);
    snprintf(to, sizeof(to), "%s/..2", f->dir);
    snprintf(data, sizeof(data), "%s/..data", f->dir);
    snprintf(swap, sizeof(swap), "%s/..data_tmp", f->dir);
    char first[112], second[112];
    snprintf(first, sizeof(first), "%s/tls.crt", from);
    snprintf(second, sizeof(second), "%s/tls.crt", to);
    assert_int_equal(mkdir(from, 0700) | mkdir(to, 0700), 0);
    write_file(first, "first");
    write_file(second, "second");
    assert_int_equal(symlink("..1", data), 0);
    assert_int_equal(unlink(f->cert), 0);
    assert_int_equal(symlink("..data/tls.crt", f->cert), 0);
    expect_one_call(f);

    assert_int_equal(symlink("..2", swap), 0);
    assert_int_equal(rename(swap, data), 0);
    expect_one_call(f);
}

static void test_a_file_that_goes_and_comes_back(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(unlink(f->key), 0);
    expect_one_call(f);
    write_file(f->key, "another key");
    expect_one_call(f);
}

static void write_on(struct fixture *f)
{
    char text[64];
    snprintf(text, sizeof(text), "%.*s", (int)(1 + f->ticks % 50),
             "--------------------------------------------------");
    write_file(f->ticks % 2 ? f->cert : f->key, text);
}

/* Certificate and key are not replaced at one moment: the pair is read when both have settled. */
static void test_waits_until_nothing_changes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(calls_within(f, 4 * QUIET, write_on), 0);
    expect_one_call(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_stays_is_not_noticed),       TEST(test_each_file_counts),
        TEST(test_a_file_put_in_its_place),         TEST(test_the_links_of_a_mounted_secret),
        TEST(test_a_file_that_goes_and_comes_back), TEST(test_waits_until_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
