/* Gives memory back to the system after a storm of handshakes: each takes some kilobytes that
 * malloc keeps afterwards, and thousands come at once when a replica is lost. A thread of its own
 * does it, some seconds after the last handshake. */
#ifndef HUB_TRIM_H
#define HUB_TRIM_H

#include <stdint.h>

struct trimmer;

/* NULL: no memory, or no thread. Control thread. */
struct trimmer *trimmer_create(void);
void trimmer_destroy(struct trimmer *t);
/* Any thread: a handshake has ended. */
void trimmer_note(struct trimmer *t);

#endif
