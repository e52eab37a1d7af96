/* Whether a peer has left, whatever it sent before. */
#include "hub/socket.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

struct pair {
    int ours, theirs;
};

static struct pair connected(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(0, bind(listener, (struct sockaddr *)&address, size));
    assert_int_equal(0, listen(listener, 1));
    assert_int_equal(0, getsockname(listener, (struct sockaddr *)&address, &size));
    struct pair p = {.theirs = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(0, connect(p.theirs, (struct sockaddr *)&address, size));
    p.ours = accept(listener, NULL, NULL);
    assert_true(p.ours >= 0);
    close(listener);
    return p;
}

/* Loopback delivers at once, but not before the call returns. */
static bool has_left_soon(int fd)
{
    for (int i = 0; i < 1000 && !socket_peer_has_left(fd); i++)
        usleep(1000);
    return socket_peer_has_left(fd);
}

static void test_one_that_is_there(void **state)
{
    struct pair p = connected();
    (void)state;
    assert_false(socket_peer_has_left(p.ours));
    assert_int_equal(3, write(p.theirs, "abc", 3));
    assert_false(socket_peer_has_left(p.ours));
    close(p.theirs);
    close(p.ours);
}

static void test_one_that_left_behind_what_nobody_read(void **state)
{
    struct pair p = connected();
    (void)state;
    assert_int_equal(3, write(p.theirs, "abc", 3));
    close(p.theirs);
    assert_true(has_left_soon(p.ours));
    close(p.ours);
}

static void test_one_that_reset_the_connection(void **state)
{
    struct pair p = connected();
    const struct linger at_once = {.l_onoff = 1};
    char bytes[8];
    (void)state;
    assert_int_equal(3, write(p.theirs, "abc", 3));
    setsockopt(p.theirs, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(p.theirs);
    assert_true(has_left_soon(p.ours));
    while (read(p.ours, bytes, sizeof(bytes)) > 0) /* the error has been seen now */
        ;
    assert_true(socket_peer_has_left(p.ours));
    close(p.ours);
    assert_true(socket_peer_has_left(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_that_is_there),
        cmocka_unit_test(test_one_that_left_behind_what_nobody_read),
        cmocka_unit_test(test_one_that_reset_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
