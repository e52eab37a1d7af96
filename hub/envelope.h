/* The JSON envelope of a KubeEdge message (kubeedge beehive/pkg/core/model/message.go), found in
 * one pass:
 *
 *     {"header":{"msg_id":S,"parent_msg_id":S,"timestamp":I,"resourceversion":S,"sync":B,"type":S},
 *      "route":{"source":S,"destination":S,"group":S,"operation":S,"resource":S},
 *      "content":<any JSON>}
 *
 * The whole text is validated, content included, but only header and route are looked into: content
 * is a span, to be passed on as it came. Keys may stand in any order, unknown keys are ignored
 * (their values validated), white space may follow, nothing else. As in Go, every field may be
 * missing or null, which is its zero value, but the header itself must be there; a value of another
 * type is refused.
 *
 * header and route get the values jansson gives with JSON_REJECT_DUPLICATES. A key that occurs
 * twice in the envelope, in header or in route is refused, however it is escaped, known or not.
 * Deeper ones, in content and in the values of unknown keys, are not looked for: content goes to
 * the API server as it came, which decides about duplicates in it. \u0000 is refused, but for
 * content, which may hold what a container printed.
 *
 * Pure, no allocation, any thread. */
#ifndef HUB_ENVELOPE_H
#define HUB_ENVELOPE_H

#include "isthmus/jsonscan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits in bytes as the value stands in the text, escapes and all. Beyond: ENVELOPE_TOO_LONG. */
#define ENVELOPE_MAX_ID       128  /* msg_id, parent_msg_id: UUIDs, 36 */
#define ENVELOPE_MAX_RESOURCE 4096 /* a path of names; the request URI of a ServiceBus upload */
#define ENVELOPE_MAX_WORD     256  /* every other text */

/* Unknown keys in each of envelope, header and route. Beyond: ENVELOPE_TOO_MANY_KEYS. */
#define ENVELOPE_MAX_UNKNOWN_KEYS 16

/* Why a text is no envelope, and the value of the metric label. */
#define ENVELOPE_ERRORS(X)                                                                         \
    X(NOT_JSON, "not_json")           /* syntax, encoding, numbers out of range, depth, \u0000 */  \
    X(NOT_OBJECT, "not_object")       /* JSON, but not an object */                                \
    X(NO_HEADER, "no_header")         /* the header is missing */                                  \
    X(WRONG_TYPE, "wrong_type")       /* a field of another type */                                \
    X(DUPLICATE_KEY, "duplicate_key") /* in envelope, header or route */                           \
    X(TOO_MANY_KEYS, "too_many_keys")                                                              \
    X(TOO_LONG, "too_long")

#define ENVELOPE_ENUM(id, text) ENVELOPE_##id,
enum envelope_error { ENVELOPE_OK, ENVELOPE_ERRORS(ENVELOPE_ENUM) ENVELOPE_ERROR_COUNT };
#undef ENVELOPE_ENUM

extern const char *const envelope_error_names[ENVELOPE_ERROR_COUNT]; /* [0] is "ok" */

/* Spans into the scanned text: borrowed as long as it lives, and raw (has_escapes says whether
 * envelope_text() is needed). An absent or null text field has size 0, so has an empty one: Go's
 * encoder leaves empty fields out. */
struct envelope {
    int64_t timestamp; /* milliseconds since the epoch by the edge's clock */
    bool sync;
    struct json_span msg_id, parent_msg_id, resource_version, type;
    struct json_span source, destination, group, operation, resource;
    struct json_span content; /* absent: kind JSON_KIND_NULL, size 0 */
};

/* Scans one message. 0, or a negative enum envelope_error; then `e` holds nothing of use. */
int envelope_scan(const char *text, size_t size, struct envelope *e)
    __attribute__((warn_unused_result));

/* The label for a result of envelope_scan(). */
const char *envelope_error_name(int rc);

/* Copies a text field's value, NUL-terminated. Returns its length, or -ENOBUFS unless there is room
 * for the span's size, which the value never exceeds, and the NUL. */
int envelope_text(const struct json_span *field, char *to, size_t room)
    __attribute__((warn_unused_result));

#endif
