/* Content that is bytes rather than an object: patches, and what a pod's deletion says. It travels
 * as a JSON string, and EdgeCore 1.12.0 put base64 into it (kubeedge-protocol 2.2, 10.1).
 *
 * Pure, no allocation, any thread. */
#ifndef HUB_CONTENT_H
#define HUB_CONTENT_H

#include "isthmus/jsonscan.h"

#include <stddef.h>

#define CONTENT_ERRORS(X)                                                                          \
    X(EMPTY, "empty")           /* absent, null or an empty string */                              \
    X(WRONG_TYPE, "wrong_type") /* neither an object nor a string */                               \
    X(NOT_BASE64, "not_base64") /* a string that neither begins with '{' nor is base64 */          \
    X(NOT_OBJECT, "not_object") /* base64 of something else than an object */                      \
    X(BAD_UID, "bad_uid")       /* a string that should be a pod's UID and cannot be one */

#define CONTENT_ENUM(id, text) CONTENT_##id,
enum content_error { CONTENT_OK, CONTENT_ERRORS(CONTENT_ENUM) CONTENT_ERROR_COUNT };
#undef CONTENT_ENUM

extern const char *const content_error_names[CONTENT_ERROR_COUNT]; /* [0] is "ok" */

/* The patch of a nodepatch or podpatch, as the API server wants it: the string's value, or what it
 * is base64 of, if it does not begin with '{'. An object is taken as it stands. `to` has room for
 * content->size bytes (it never grows) and may be content->at itself. Whether the patch is JSON is
 * for the API server to say. 0 or a negative enum content_error. */
int content_patch(const struct json_span *content, char *to, size_t *size)
    __attribute__((warn_unused_result));

/* What content_delete_options() may need beyond content->size. */
#define CONTENT_DELETE_EXTRA 64

/* The DeleteOptions of a pod delete: the object as it stands; a string that holds it, plain or in
 * base64; or one that is the pod's UID, from which grace period 0 and the precondition are made.
 * `to` has room for content->size + CONTENT_DELETE_EXTRA bytes and does not overlap the content. 0
 * or a negative enum content_error. */
int content_delete_options(const struct json_span *content, char *to, size_t *size)
    __attribute__((warn_unused_result));

/* Standard base64, padded, nothing else in it (RFC 4648, section 4): bits behind the last byte must
 * be zero. `to` has room for size / 4 * 3 bytes and may be `text` itself. Returns the bytes
 * written, or -EBADMSG. */
long content_base64(const char *text, size_t size, char *to) __attribute__((warn_unused_result));

#endif
