/* Notices that the certificate files or the list of denied nodes were replaced, however that was done: a new file in their place, a rewritten one, or the
 * symbolic links of a mounted Secret. Looks every few seconds, since inotify misses what happens behind a link. One loop. */
#ifndef HUB_FILEWATCH_H
#define HUB_FILEWATCH_H

#include "hub/config.h"

#include <uv.h>

#define FILEWATCH_FILES 4

struct filewatch {
    struct file_stamp {
        uint64_t device, inode, size;
        int64_t changed_ns;
    } stamps[FILEWATCH_FILES];
    const char *paths[FILEWATCH_FILES];
    bool is_pending; /* changed when last looked at */
    uv_timer_t timer;
    void (*changed)(void *context);
    void *context;
};

/* Calls `changed` when --tls-ca, --tls-cert, --tls-key or --deny-nodes are others than before, once they have stayed the same from one look
 * to the next: a certificate and its key are not replaced at one moment. `config` is borrowed until filewatch_close().
 * 0 or a negative errno. */
int filewatch_start(struct filewatch *w, uv_loop_t *loop, const struct config *config, uint64_t period_ms,
                    void (*changed)(void *context), void *context) __attribute__((warn_unused_result));
void filewatch_close(struct filewatch *w);

#endif
