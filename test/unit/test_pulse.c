/* Pulses: a living thread is listed with its age and name, an ended one is forgotten, its slot used
 * again. */
#include "isthmus/pulse.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static sem_t has_beaten, may_end;

static void *beat(void *unused)
{
    (void)unused;
    pthread_setname_np(pthread_self(), "beater");
    pulse_beat(1000);
    pulse_beat(2000);
    sem_post(&has_beaten);
    sem_wait(&may_end);
    return NULL;
}

static void start(pthread_t *thread)
{
    assert_int_equal(pthread_create(thread, NULL, beat, NULL), 0);
    sem_wait(&has_beaten);
}

static void end(const pthread_t *threads, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sem_post(&may_end);
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

static void test_life(void **state)
{
    (void)state;
    struct pulse_view views[PULSE_MAX];
    pthread_t thread;
    assert_int_equal(pulse_read(0, views, PULSE_MAX), 0);
    start(&thread);
    assert_int_equal(pulse_read(2500, views, PULSE_MAX), 1);
    assert_string_equal(views[0].name, "beater");
    assert_int_equal(views[0].age_ms, 500);
    assert_int_equal(pulse_read(1500, views, PULSE_MAX), 1); /* read with an older clock */
    assert_int_equal(views[0].age_ms, 0);
    end(&thread, 1);
    assert_int_equal(pulse_read(2500, views, PULSE_MAX), 0);
}

static void test_many(void **state)
{
    (void)state;
    struct pulse_view views[PULSE_MAX];
    pthread_t threads[PULSE_MAX + 1];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < PULSE_MAX + 1; i++)
            start(&threads[i]);
        assert_int_equal(pulse_read(2000, views, PULSE_MAX), PULSE_MAX);
        assert_int_equal(pulse_read(2000, views, 3), 3);
        end(threads, PULSE_MAX + 1);
    }
    assert_int_equal(pulse_read(2000, views, PULSE_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_many),
    };
    sem_init(&has_beaten, 0, 0);
    sem_init(&may_end, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
