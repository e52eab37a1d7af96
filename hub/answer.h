/* What the edge gets: composes the envelope of an answer from the question and the result of its API request. The API server's
 * object is spliced in as it came; EdgeCore's expectations are in kubeedge-protocol 4.2 to 4.4 (kubeedge
 * cloud/pkg/edgecontroller/controller/upstream.go).
 *
 * Pure but for the message id, which is random. Any thread. */
#ifndef HUB_ANSWER_H
#define HUB_ANSWER_H

#include "hub/message.h"
#include "isthmus/apiclient.h"

enum result_kind {
    RESULT_OBJECT,  /* `body` is the object the API server returned */
    RESULT_OK,      /* done; there may be a version */
    RESULT_TEXT,    /* `text` is the answer */
    RESULT_FAILURE, /* `body` is a metav1.Status, `text` its message */
    RESULT_NONE     /* done, and nobody waits for an answer */
};

struct result {
    enum result_kind kind;
    struct text_span body;
    struct text_span text;    /* plain; not JSON-escaped; printable where it is ours */
    struct text_span version; /* metadata.resourceVersion, as it stands in the JSON */
    bool happened;            /* the API server did what was asked */
    /* Where a Status of our own making stands, if `body` and `text` point here. */
    char own_text[256];
    char own_status[768];
};

/* Judges an API response: an object that is what it says, a Status, or a Status of our own when there is nothing that may be
 * passed on. Borrows from `response`. */
void result_from_response(struct result *result, const struct apiresponse *response);
/* A failure of our own making, as the API server would word it. `reason` as in metav1.StatusReason. */
void result_failure(struct result *result, unsigned code, const char *reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void result_ok(struct result *result);

/* The reply to `question` (borrowed), of a kind that has an answer; NULL: no memory. Its addressing, lane and reservation are those
 * of the question. */
struct reply *answer_compose(const struct message *question, const struct result *result, int64_t wall_ms);

/* A reply without payload: the message came to its end otherwise. Takes the question and makes the reply of its memory, so
 * that this cannot fail: without it a session would wait for ever for what it has reserved. */
struct reply *answer_none(struct message *question, enum reply_outcome outcome);

#endif
