/* Where a node is, and why: the answer to `isthmus explain NODE`. It is here; or it was let go from
 * here within the hour; or its Node says, by the annotation that is written when it connects, which
 * replica has it. Control thread, on its loop. */
#ifndef HUB_EXPLAIN_H
#define HUB_EXPLAIN_H

#include "hub/control.h"
#include "hub/mover.h"
#include "isthmus/apiclient.h"

struct explainer;

/* Everything is borrowed until explainer_close(). 0, or a negative errno and `e`. */
int explainer_create(uv_loop_t *loop, struct apiconfig *api, struct hub *hub,
                     const struct mover *mover, struct explainer **explainer, struct errbuf *e)
    __attribute__((warn_unused_result));
/* Answers `request` at once or within some seconds. */
void explainer_ask(struct explainer *x, struct control_request *request, const char *node);
/* Requests that wait are answered with an error. The loop has to run until nothing of it is alive,
 * then explainer_destroy(). */
void explainer_close(struct explainer *x);
void explainer_destroy(struct explainer *x);

#endif
