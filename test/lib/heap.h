/* Makes allocations fail, so that a test can walk through every failure of a function:
 *
 *     for (unsigned n = 1; ; n++) {
 *         heap_fail_nth(n);
 *         rc = function();
 *         if (!heap_fail_end())
 *             break;                      (it needed fewer than n allocations: rc must be 0)
 *         assert_int_equal(rc, -ENOMEM);
 *     }
 *
 * Works in unit tests, which are linked with --wrap: only allocations of our own code count, not
 * those inside shared libraries. The counter is the process's, any thread. */
#ifndef TEST_LIB_HEAP_H
#define TEST_LIB_HEAP_H

#include <stdbool.h>

/* The n-th allocation from now on fails (1: the next), once. */
void heap_fail_nth(unsigned n);
/* Back to normal; whether the failure happened. */
bool heap_fail_end(void);

#endif
