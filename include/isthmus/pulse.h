/* Whether every loop still turns: each thread that serves calls pulse_beat() at least once a
 * second, and anybody can ask how long ago that was. A thread that ends is forgotten. Any thread.
 */
#ifndef ISTHMUS_PULSE_H
#define ISTHMUS_PULSE_H

#include <stddef.h>
#include <stdint.h>

/* As many threads as there can be hub loops and upstream workers, and some. */
#define PULSE_MAX 160

/* "I am alive". The first call enlists the thread; beyond PULSE_MAX threads it does nothing. */
void pulse_beat(uint64_t now_ms);

struct pulse_view {
    char name[16]; /* the thread's */
    uint64_t age_ms;
};
/* Fills at most `room` views; returns how many. */
size_t pulse_read(uint64_t now_ms, struct pulse_view *views, size_t room);

#endif
