/* Requests to the API server that are waited for: at start-up, in subcommands and on threads of the
 * pool, where there is no loop to return to. One thread for each `struct api_blocking`; it has a
 * loop and a client of its own. */
#ifndef HUB_API_BLOCKING_H
#define HUB_API_BLOCKING_H

#include "isthmus/apiclient.h"
#include "isthmus/errbuf.h"

struct api_blocking {
    uv_loop_t loop;
    struct apiclient *client;
    uint64_t deadline_ns; /* uv_hrtime(): every call ends by then */
};

struct api_blocking_answer {
    unsigned status;
    char *body; /* zeroed when it is freed; NUL-terminated beyond size */
    size_t size;
};

/* All calls together may take `within_ms`. 0, or a negative errno and `e`. */
int api_blocking_open(struct api_blocking *b, struct apiconfig *config, uint64_t within_ms,
                      struct errbuf *e) __attribute__((warn_unused_result));
/* Sends it until the server has answered it: while it does not answer, or answers 429 or 5xx, it is
 * sent again, so a request may be carried out more than once. `body` is JSON of `content_type`, or
 * NULL. 0 and the answer (for api_blocking_answer_free()), which may be a refusal; or a negative
 * errno and `e`. */
int api_blocking_call(struct api_blocking *b, const char *method, const char *path,
                      const char *content_type, const char *body,
                      struct api_blocking_answer *answer, struct errbuf *e)
    __attribute__((warn_unused_result));
void api_blocking_answer_free(struct api_blocking_answer *answer);
/* What the server said of a refusal ("secrets is forbidden: ..."), cut to one line, to `e`. */
void api_blocking_explain(const struct api_blocking_answer *answer, struct errbuf *e);
void api_blocking_close(struct api_blocking *b);

#endif
