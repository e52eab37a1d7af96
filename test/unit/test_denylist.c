/* The list of --deny-nodes. */
#include "hub/denylist.h"

#include "test/lib/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void test_names(void **state)
{
    static const char text[] = "edge-2\n\n  # all of them:\n\tedge-1  # broken\r\nedge-10\nedge-3";
    struct denylist *list;
    (void)state;
    assert_int_equal(denylist_parse(text, sizeof(text) - 1, &list, NULL), 0);
    assert_int_equal(denylist_count(list), 4);
    assert_true(denylist_has(list, "edge-1"));
    assert_true(denylist_has(list, "edge-3"));
    assert_true(denylist_has(list, "edge-10"));
    assert_false(denylist_has(list, "edge"));
    assert_false(denylist_has(list, "all"));
    assert_string_equal(denylist_at(list, 0), "edge-1");
    denylist_destroy(list);
    assert_int_equal(denylist_parse("", 0, &list, NULL), 0);
    assert_false(denylist_has(list, "edge-1"));
    assert_false(denylist_has(NULL, "edge-1"));
    denylist_destroy(list);
}

static void test_what_is_no_list(void **state)
{
    static const char *const odd[] = {"edge-1\nedge 2\n", "Edge\n", "edge/1", "../x", "edge_1"};
    struct denylist *list;
    struct errbuf e = {{0}};
    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        assert_int_equal(denylist_parse(odd[i], strlen(odd[i]), &list, &e), -EINVAL);
    assert_int_equal(denylist_parse(odd[0], strlen(odd[0]), &list, &e), -EINVAL);
    assert_non_null(strstr(e.text, "line 2"));
    assert_int_equal(denylist_parse("a\0b", 3, &list, &e), -EINVAL);
    assert_int_equal(denylist_load("/nonexistent/list", &list, &e), -ENOENT);
    assert_non_null(strstr(e.text, "/nonexistent/list"));
}

static void test_files(void **state)
{
    char path[] = "/tmp/denylist-XXXXXX";
    struct denylist *list;
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "edge-1\n", 7), 7);
    close(fd);
    assert_int_equal(denylist_load(path, &list, NULL), 0);
    assert_true(denylist_has(list, "edge-1"));
    denylist_destroy(list);
    unlink(path);
}

static void test_failing_allocations(void **state)
{
    static const char text[] = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn\no\np\nq\nr\n";
    (void)state;
    for (unsigned nth = 1;; nth++) {
        struct denylist *list = NULL;
        heap_fail_nth(nth);
        int rc = denylist_parse(text, sizeof(text) - 1, &list, NULL);
        bool has_failed = heap_fail_end();
        assert_int_equal(rc, has_failed ? -ENOMEM : 0);
        if (rc == 0)
            denylist_destroy(list);
        if (!has_failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_what_is_no_list),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
