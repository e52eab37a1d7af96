/* See mailbox.h. A mutex and a list: under contention of a few threads it costs some tens of
 * nanoseconds, a thousandth of what any message costs elsewhere, and it is plainly correct. The
 * consumer takes the whole list at once. */
#include "isthmus/mailbox.h"

#include <assert.h>
#include <errno.h>

/* Behind what an interrupted delivery has left: a callback may close its own mailbox, which
 * delivers the rest. */
static void take_all(struct mailbox *m)
{
    struct mail **end = &m->taken;
    while (*end)
        end = &(*end)->next;
    pthread_mutex_lock(&m->lock);
    *end = m->head;
    m->head = NULL;
    m->tail = &m->head;
    m->count = 0;
    m->bytes = 0;
    pthread_mutex_unlock(&m->lock);
}

static void deliver_all(struct mailbox *m)
{
    take_all(m);
    while (m->taken) {
        struct mail *item = m->taken;
        m->taken = item->next;
        item->next = NULL;
        m->deliver(m->context, item);
    }
}

static void on_wake(uv_async_t *wake)
{
    deliver_all(wake->data);
}

int mailbox_init(struct mailbox *m, uv_loop_t *loop, size_t max_count, size_t max_bytes,
                 mailbox_cb deliver, void *context)
{
    *m = (struct mailbox){
        .max_count = max_count, .max_bytes = max_bytes, .deliver = deliver, .context = context};
    m->tail = &m->head;
    int rc = uv_async_init(loop, &m->wake, on_wake);
    if (rc != 0)
        return rc;
    m->wake.data = m;
    rc = pthread_mutex_init(&m->lock, NULL);
    assert(rc == 0);
    return 0;
}

static int post(struct mailbox *m, struct mail *item, bool bounded)
{
    item->next = NULL;
    pthread_mutex_lock(&m->lock);
    int rc = 0;
    bool was_empty = m->head == NULL;
    if (m->is_closed)
        rc = -EPIPE;
    else if (bounded && (m->count >= m->max_count || m->bytes + item->bytes > m->max_bytes))
        rc = -ENOBUFS;
    else {
        *m->tail = item;
        m->tail = &item->next;
        m->count++;
        m->bytes += item->bytes;
        /* Sent under the lock: mailbox_close() cannot have closed the handle before. */
        if (was_empty)
            uv_async_send(&m->wake);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

int mailbox_post(struct mailbox *m, struct mail *item)
{
    return post(m, item, true);
}

int mailbox_post_always(struct mailbox *m, struct mail *item)
{
    return post(m, item, false);
}

void mailbox_depth(struct mailbox *m, size_t *count, size_t *bytes)
{
    pthread_mutex_lock(&m->lock);
    *count = m->count;
    *bytes = m->bytes;
    pthread_mutex_unlock(&m->lock);
}

void mailbox_close(struct mailbox *m, uv_close_cb closed)
{
    pthread_mutex_lock(&m->lock);
    m->is_closed = true;
    pthread_mutex_unlock(&m->lock);
    deliver_all(m);
    uv_close((uv_handle_t *)&m->wake, closed);
}
