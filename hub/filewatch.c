/* See filewatch.h. */
#include "hub/filewatch.h"

#include <string.h>
#include <sys/stat.h>

static void stamp_read(const char *path, struct file_stamp *stamp)
{
    struct stat s;
    memset(stamp, 0, sizeof(*stamp)); /* compared as bytes */
    if (!path || stat(path, &s) != 0)
        return;
    stamp->device = s.st_dev;
    stamp->inode = s.st_ino;
    stamp->size = (uint64_t)s.st_size;
    stamp->changed_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
}

static bool look(struct filewatch *w)
{
    bool is_other = false;
    for (size_t i = 0; i < FILEWATCH_FILES; i++) {
        struct file_stamp now;
        stamp_read(w->paths[i], &now);
        is_other = is_other || memcmp(&now, &w->stamps[i], sizeof(now)) != 0;
        w->stamps[i] = now;
    }
    return is_other;
}

static void on_look(uv_timer_t *timer)
{
    struct filewatch *w = timer->data;
    if (look(w)) {
        w->is_pending = true;
    } else if (w->is_pending) {
        w->is_pending = false;
        w->changed(w->context);
    }
}

int filewatch_start(struct filewatch *w, uv_loop_t *loop, const struct config *config,
                    uint64_t period_ms, void (*changed)(void *context), void *context)
{
    *w = (struct filewatch){
        .paths = {config->tls_ca, config->tls_cert, config->tls_key, config->deny_nodes},
        .changed = changed,
        .context = context};
    look(w);
    int rc = uv_timer_init(loop, &w->timer);
    w->timer.data = w;
    return rc != 0 ? rc : uv_timer_start(&w->timer, on_look, period_ms, period_ms);
}

void filewatch_close(struct filewatch *w)
{
    uv_close((uv_handle_t *)&w->timer, NULL);
}
