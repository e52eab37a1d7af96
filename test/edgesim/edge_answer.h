/* A message from the cloud, read in one pass: the spans of its envelope, and what an answer says.
 * Pure; one thread. */
#ifndef EDGE_ANSWER_H
#define EDGE_ANSWER_H

#include "test/edgesim/edge_lease.h"
#include "isthmus/jsonscan.h"

/* Spans are borrowed from the text; one that is absent has size 0 and at NULL. */
struct edge_answer {
    struct json_span id, parent, version;                /* header */
    struct json_span source, group, operation, resource; /* route */
    struct json_span content;
};

/* 0 or -EBADMSG. White space may follow the value: Go's decoder reads the first value of a message.
 */
int edge_answer_parse(const char *text, size_t size, struct edge_answer *a);

/* What an answer of the form {"Object":...,"Err":...} says, and where the object is (absent unless
 * OK). A form that EdgeCore could not work with (no Object, no Err) is FAILED. */
enum edge_outcome edge_answer_object(const struct edge_answer *a, struct json_span *object);
/* What an answer of a plain query says: operation `error`, or CloudCore's stored error, is FAILED.
 */
enum edge_outcome edge_answer_plain(const struct edge_answer *a);

/* A resourceVersion as a number; 0 when there is none or it is none. */
uint64_t edge_answer_version(const struct json_span *version);

/* "<namespace>/<type>/<name>": the type's span; size 0 when there is none. */
struct json_span edge_answer_type(const struct json_span *resource);

/* Whether a Node's condition Ready is True; also true when the Node has none. */
bool edge_answer_says_ready(const struct json_span *node);

#endif
