/* The error text: wrapped outward, never overrun. */
#include "isthmus/errbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_wrapping(void **state)
{
    (void)state;
    struct errbuf e;
    errbuf_set(&e, "not %s", "base64");
    errbuf_wrap(&e, "user '%s'", "hub");
    errbuf_wrap(&e, "kubeconfig %s", "/etc/k");
    assert_string_equal(e.text, "kubeconfig /etc/k: user 'hub': not base64");
}

static void test_nobody_wants_it(void **state)
{
    (void)state;
    errbuf_set(NULL, "lost");
    errbuf_wrap(NULL, "lost too");
}

static void test_cut(void **state)
{
    (void)state;
    char large[2000];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    struct {
        struct errbuf e;
        char guard[8];
    } box;
    memcpy(box.guard, "guarded", 8);

    errbuf_set(&box.e, "%s", large);
    assert_int_equal(strlen(box.e.text), sizeof(box.e.text) - 1);
    errbuf_wrap(&box.e, "%s", "short");
    assert_true(strlen(box.e.text) < sizeof(box.e.text));
    assert_int_equal(strncmp(box.e.text, "short: xxx", 10), 0);
    errbuf_wrap(&box.e, "%s", large);
    assert_true(strlen(box.e.text) < sizeof(box.e.text));

    /* Every length of a prefix around the end of the buffer. */
    for (int n = 500; n < 516; n++) {
        errbuf_set(&box.e, "inner");
        errbuf_wrap(&box.e, "%.*s", n, large);
        assert_true(strlen(box.e.text) < sizeof(box.e.text));
        assert_true(strlen(box.e.text) >= 500);
    }
    assert_string_equal(box.guard, "guarded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrapping),
        cmocka_unit_test(test_nobody_wants_it),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
