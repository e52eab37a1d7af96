/* The only way a message passes from one thread to another: a bounded queue with many producers and one consumer, on the
 * consumer's libuv loop. An item belongs to its producer until mailbox_post() returns 0, then to the mailbox, then to the
 * consumer's callback.
 *
 * uv_async coalesces: it is sent only when the queue was empty, and the callback gets everything that is there. */
#ifndef ISTHMUS_MAILBOX_H
#define ISTHMUS_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/* Embedded in what is sent, as its first member by custom. */
struct mail {
    struct mail *next;
    size_t bytes; /* what it holds on to: counted against the bound */
};

/* Gets one item, in the order of posting; takes it. Runs on the consumer's loop. */
typedef void (*mailbox_cb)(void *context, struct mail *item);

struct mailbox {
    pthread_mutex_t lock;
    struct mail *head, **tail; /* under lock */
    size_t count, bytes;       /* under lock */
    bool is_closed;            /* under lock: posts are refused */
    size_t max_count, max_bytes;
    struct mail *taken; /* consumer's: being delivered */
    uv_async_t wake;
    mailbox_cb deliver;
    void *context;
};

/* On the consumer's thread, before anybody posts. 0 or a negative errno. Caller-owned memory that must stay until the
 * callback of mailbox_close(). */
int mailbox_init(struct mailbox *m, uv_loop_t *loop, size_t max_count, size_t max_bytes, mailbox_cb deliver,
                 void *context) __attribute__((warn_unused_result));

/* Any thread. Takes the item and returns 0, or leaves it to the caller: -ENOBUFS when the bound is reached, -EPIPE after
 * close. An item that must not be refused (an answer: its room was reserved by the question) is posted with _always, which
 * only a closed mailbox refuses. */
int mailbox_post(struct mailbox *m, struct mail *item) __attribute__((warn_unused_result));
int mailbox_post_always(struct mailbox *m, struct mail *item) __attribute__((warn_unused_result));

/* Any thread: how much is waiting, for the metrics. */
void mailbox_depth(struct mailbox *m, size_t *count, size_t *bytes);

/* Consumer's thread, also from within a delivery. Refuses further posts, delivers what is there, closes the handle; `closed`
 * may free the mailbox. */
void mailbox_close(struct mailbox *m, uv_close_cb closed);

#endif
