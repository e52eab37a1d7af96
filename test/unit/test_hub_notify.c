/* What the service manager gets to read: every datagram, on a real socket of both kinds. */
#include "hub/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct manager {
    int fd;
    char address[108]; /* as NOTIFY_SOCKET says it */
    bool is_file;
};

static void listen_at(struct manager *m, const char *address)
{
    struct sockaddr_un here = {.sun_family = AF_UNIX};
    size_t size = strlen(address);
    assert_true(size < sizeof(here.sun_path));
    memcpy(here.sun_path, address, size);
    memcpy(m->address, address, size + 1);
    m->is_file = *address == '/';
    if (!m->is_file)
        here.sun_path[0] = '\0';
    m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_true(m->fd >= 0);
    assert_int_equal(bind(m->fd, (struct sockaddr *)&here,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)),
                     0);
}

static void leave(struct manager *m)
{
    close(m->fd);
    if (m->is_file)
        unlink(m->address);
}

/* The next datagram, "" when there is none: sending on a Unix socket is done when sendto() is. */
static const char *next(const struct manager *m)
{
    static char text[512];
    ssize_t n = recv(m->fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void open_to(struct notify *n, const struct manager *m, const char *watchdog_us)
{
    struct errbuf e = {{0}};
    const struct notify_environment v = {.socket = m->address, .watchdog_us = watchdog_us};
    assert_int_equal(notify_open(n, &v, &e), 0);
}

static void check_life(const char *address)
{
    struct manager m;
    struct notify n;
    uint64_t us = 0;
    listen_at(&m, address);
    open_to(&n, &m, NULL);
    notify_ready(&n, "Serving edges at port 10000");
    assert_string_equal(next(&m), "READY=1\nSTATUS=Serving edges at port 10000");
    notify_reloading(&n);
    assert_int_equal(sscanf(next(&m), "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &us), 1);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    assert_true(us > 0 && us / 1000000 <= (uint64_t)now.tv_sec);
    notify_stopping(&n);
    assert_string_equal(next(&m), "STOPPING=1\nSTATUS=Stopping");
    notify_close(&n);
    notify_stopping(&n);
    assert_string_equal(next(&m), "");
    leave(&m);
}

static void test_path(void **state)
{
    char folder[] = "/tmp/notify-XXXXXX", path[64];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/notify", folder);
    check_life(path);
    rmdir(folder);
}

static void test_abstract_name(void **state)
{
    char name[64];
    (void)state;
    snprintf(name, sizeof(name), "@isthmus-test-notify-%d", getpid());
    check_life(name);
}

/* Half the time the manager waits, and only while all is well. */
static void test_watchdog(void **state)
{
    char name[64];
    struct manager m;
    struct notify n;
    (void)state;
    snprintf(name, sizeof(name), "@isthmus-test-watchdog-%d", getpid());
    listen_at(&m, name);
    open_to(&n, &m, "30000000");
    assert_int_equal(n.watchdog_ms, 15000);
    assert_true(notify_is_due(&n, 1000));
    notify_life(&n, true, 1000);
    assert_string_equal(next(&m), "WATCHDOG=1");
    assert_false(notify_is_due(&n, 15999));
    assert_true(notify_is_due(&n, 16000));
    notify_life(&n, false, 16000);
    assert_string_equal(next(&m), "");
    notify_close(&n);
    assert_false(notify_is_due(&n, 90000));
    leave(&m);
}

static void test_watchdog_of_another_process(void **state)
{
    struct notify n;
    struct errbuf e = {{0}};
    (void)state;
    const struct notify_environment v = {
        .socket = "@nobody-listens", .watchdog_us = "30000000", .watchdog_pid = "1"};
    assert_int_equal(notify_open(&n, &v, &e), 0);
    assert_false(notify_is_due(&n, 1000));
    notify_ready(&n, "nobody hears this, and nothing happens");
    notify_close(&n);
}

static void test_nobody_to_tell(void **state)
{
    struct notify n;
    struct errbuf e = {{0}};
    (void)state;
    const struct notify_environment v = {.watchdog_us = "30000000"};
    assert_int_equal(notify_open(&n, &v, &e), 0);
    assert_int_equal(n.fd, -1);
    assert_false(notify_is_due(&n, 1000));
    notify_ready(&n, "");
    notify_close(&n);
}

static void test_nonsense(void **state)
{
    static const struct notify_environment wrong[] = {
        {.socket = ""},
        {.socket = "@"},
        {.socket = "relative/path"},
        {.socket = "/run/notify", .watchdog_us = "soon"},
        {.socket = "/run/notify", .watchdog_us = ""},
        {.socket = "/run/notify", .watchdog_us = "-1"},
        {.socket = "/run/notify", .watchdog_us = "30s"},
        {.socket = "/run/notify", .watchdog_us = "99999999999999999999999"},
        {.socket = "/run/notify", .watchdog_us = "1", .watchdog_pid = "me"},
    };
    char long_path[200];
    struct notify n;
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct errbuf e = {{0}};
        assert_int_equal(notify_open(&n, &wrong[i], &e), -EINVAL);
        assert_non_null(strstr(e.text, wrong[i].watchdog_us ? "WATCHDOG_" : "NOTIFY_SOCKET"));
        notify_stopping(&n);
        notify_close(&n);
    }
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[0] = '/';
    long_path[sizeof(long_path) - 1] = '\0';
    struct errbuf e = {{0}};
    assert_int_equal(notify_open(&n, &(struct notify_environment){.socket = long_path}, &e),
                     -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),           cmocka_unit_test(test_abstract_name),
        cmocka_unit_test(test_watchdog),       cmocka_unit_test(test_watchdog_of_another_process),
        cmocka_unit_test(test_nobody_to_tell), cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
