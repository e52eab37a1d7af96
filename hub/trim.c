/* See trim.h. malloc_trim() holds one arena's lock at a time for some milliseconds; nobody needs it
 * at the height of a storm. */
#include "hub/trim.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#define LOOK_S         1
#define QUIET_LOOKS    3   /* so many looks in a row without a handshake */
#define MIN_HANDSHAKES 200 /* fewer are not worth it */

struct trimmer {
    _Atomic uint64_t handshakes;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stop;
    bool is_stopping; /* under lock */
};

void trimmer_note(struct trimmer *t)
{
    atomic_fetch_add_explicit(&t->handshakes, 1, memory_order_relaxed);
}

struct watch {
    uint64_t seen, trimmed;
    unsigned quiet;
};

static bool should_trim(struct watch *w, uint64_t handshakes)
{
    w->quiet = handshakes == w->seen ? w->quiet + 1 : 0;
    w->seen = handshakes;
    if (w->quiet != QUIET_LOOKS || handshakes - w->trimmed < MIN_HANDSHAKES)
        return false;
    w->trimmed = handshakes;
    return true;
}

static void wait_a_look(struct trimmer *t)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_S;
    while (!t->is_stopping && pthread_cond_timedwait(&t->stop, &t->lock, &until) != ETIMEDOUT)
        ;
}

static void *run(void *argument)
{
    struct trimmer *t = argument;
    struct watch watch = {.seen = 0};
    pthread_mutex_lock(&t->lock);
    while (!t->is_stopping) {
        wait_a_look(t);
        pthread_mutex_unlock(&t->lock);
        if (should_trim(&watch, atomic_load_explicit(&t->handshakes, memory_order_relaxed)))
            malloc_trim(0);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

struct trimmer *trimmer_create(void)
{
    struct trimmer *t = calloc(1, sizeof(*t));
    pthread_condattr_t monotonic;
    if (!t)
        return NULL;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->stop, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&t->thread, NULL, run, t) != 0) {
        free(t);
        return NULL;
    }
    pthread_setname_np(t->thread, "trim");
    return t;
}

void trimmer_destroy(struct trimmer *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->is_stopping = true;
    pthread_cond_signal(&t->stop);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->stop);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
