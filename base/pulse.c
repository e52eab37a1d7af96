/* See pulse.h. Beating is one relaxed store. The lock is taken when a thread enlists, when it ends
 * and when somebody reads: so a slot that is read belongs to a living thread, whose name can be
 * asked for. */
#include "isthmus/pulse.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

struct slot {
    _Atomic uint64_t beat_ms;
    bool is_used;     /* under lock */
    pthread_t thread; /* under lock */
};

static struct slot slots[PULSE_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t ending; /* its destructor runs when a thread ends */
static _Thread_local struct slot *mine;

static void leave(void *slot)
{
    pthread_mutex_lock(&lock);
    ((struct slot *)slot)->is_used = false;
    pthread_mutex_unlock(&lock);
}

static void make_key(void)
{
    (void)pthread_key_create(&ending, leave);
}

static struct slot *enlist(uint64_t now_ms)
{
    struct slot *found = NULL;
    pthread_once(&once, make_key);
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < PULSE_MAX && !found; i++) {
        if (!slots[i].is_used)
            found = &slots[i];
    }
    if (found && pthread_setspecific(ending, found) == 0) {
        atomic_store_explicit(&found->beat_ms, now_ms, memory_order_relaxed);
        found->is_used = true;
        found->thread = pthread_self();
    } else {
        found = NULL;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

void pulse_beat(uint64_t now_ms)
{
    if (!mine)
        mine = enlist(now_ms);
    if (mine)
        atomic_store_explicit(&mine->beat_ms, now_ms, memory_order_relaxed);
}

size_t pulse_read(uint64_t now_ms, struct pulse_view *views, size_t room)
{
    size_t n = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < PULSE_MAX && n < room; i++) {
        if (!slots[i].is_used)
            continue;
        uint64_t beat_ms = atomic_load_explicit(&slots[i].beat_ms, memory_order_relaxed);
        views[n].age_ms = now_ms > beat_ms ? now_ms - beat_ms : 0;
        if (pthread_getname_np(slots[i].thread, views[n].name, sizeof(views[n].name)) != 0)
            snprintf(views[n].name, sizeof(views[n].name), "thread-%zu", i);
        n++;
    }
    pthread_mutex_unlock(&lock);
    return n;
}
