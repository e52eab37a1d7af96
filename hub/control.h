/* The control socket: a Unix socket that only this user may open (--control-socket, mode 0600), for
 * what names nodes or changes something. One request, a line; one answer, a JSON document; then the
 * connection is closed.
 *
 *     status          the document of /status
 *     drain           let go of every edge and take no new ones
 *     undrain         call that off
 *     explain NODE    where a node is, or was let go to, and why
 *
 * An answer that is no success is {"error": TEXT}. Control thread, on its loop. */
#ifndef HUB_CONTROL_H
#define HUB_CONTROL_H

#include "isthmus/errbuf.h"

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

struct control;
/* A request that waits for its answer. */
struct control_request;

struct control_handler {
    void *context;
    /* Each answers with control_answer(), at once or later. `argument` is "" when there is none;
     * borrowed until return. */
    void (*request)(void *context, struct control_request *request, const char *word,
                    const char *argument);
};

/* Listens at `path`, for this user only; what is left there of a process that died is replaced. 0,
 * or a negative errno and `e`: another process listens there, the folder cannot be made, the path
 * is too long. */
int control_create(uv_loop_t *loop, const char *path, const struct control_handler *handler,
                   struct control **control, struct errbuf *e) __attribute__((warn_unused_result));
/* Takes `json`; NULL: no memory, which the asker is told. The request is gone then. */
void control_answer(struct control_request *request, json_t *json);
void control_error(struct control_request *request, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Stops listening, takes the socket away and ends every connection; answers still owed may be given
 * and go nowhere. The loop has to run until nothing of it is alive, then control_destroy(). NULL is
 * fine. */
void control_close(struct control *control);
void control_destroy(struct control *control);

/* The other side, for the subcommands; blocks, at most ten seconds. A new reference, or NULL and
 * `e`. */
json_t *control_ask(const char *path, const char *line, struct errbuf *e);

#endif
