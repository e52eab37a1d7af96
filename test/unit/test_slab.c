/* Objects of one size. */
#include "hub/slab.h"

#include "test/lib/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_objects_are_apart(void **state)
{
    struct slab s;
    unsigned char *objects[3000];
    (void)state;
    slab_init(&s, 61);
    for (size_t i = 0; i < 3000; i++) {
        objects[i] = slab_get(&s);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % sizeof(void *), 0);
        for (size_t k = 0; k < 61; k++)
            assert_int_equal(objects[i][k], 0);
        memset(objects[i], (int)(i % 251) + 1, 61);
    }
    for (size_t i = 0; i < 3000; i++) {
        for (size_t k = 0; k < 61; k++)
            assert_int_equal(objects[i][k], i % 251 + 1);
    }
    assert_int_equal(s.used, 3000);
    slab_fini(&s);
    assert_int_equal(s.used, 0);
}

static void test_what_is_put_back_is_used_again(void **state)
{
    struct slab s;
    (void)state;
    slab_init(&s, 32);
    void *a = slab_get(&s), *b = slab_get(&s);
    memset(a, 7, 32);
    slab_put(&s, a);
    char *again = slab_get(&s);
    assert_ptr_equal(a, again);
    assert_int_equal(again[31], 0);
    slab_put(&s, b);
    slab_put(&s, again);
    slab_fini(&s);
}

static void test_failing_allocation(void **state)
{
    struct slab s;
    (void)state;
    slab_init(&s, 32);
    heap_fail_nth(1);
    assert_null(slab_get(&s));
    assert_true(heap_fail_end());
    assert_non_null(slab_get(&s));
    slab_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_are_apart),
        cmocka_unit_test(test_what_is_put_back_is_used_again),
        cmocka_unit_test(test_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
