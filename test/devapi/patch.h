/* The three kinds of patch. Pure: documents in, documents out. Any thread. */
#ifndef DEVAPI_PATCH_H
#define DEVAPI_PATCH_H

#include "isthmus/errbuf.h"
#include "test/devapi/kinds.h"
#include "test/devapi/text.h"

#include <jansson.h>

/* All change `document` (an object) in place; on an error it may be half changed. `patch` is
 * borrowed until return. 0; -EINVAL (a bad patch, `e` says why); -ENOMEM. */

/* As apimachinery/pkg/util/strategicpatch does it, with the merge keys of the kinds served here:
 * maps are merged, lists with a merge key by that key, others replaced; directives $patch,
 * $retainKeys, $deleteFromPrimitiveList, $setElementOrder. */
int dev_patch_strategic(const struct dev_kind *kind, json_t *document, const json_t *patch,
                        struct errbuf *e) __attribute__((warn_unused_result));
/* RFC 7386. */
int dev_patch_merge(json_t *document, const json_t *patch) __attribute__((warn_unused_result));
/* RFC 6902; also -ENOENT: a "test" did not hold, or a path is not there (kube-apiserver: 422). */
int dev_patch_json(json_t **document, const json_t *patch, struct errbuf *e)
    __attribute__((warn_unused_result));

/* A strategic patch of status alone (`patch` is the value of "status", both serialised), text
 * against text: what the patch does not name is copied as it stands, nothing is parsed into trees.
 * Appends the new status to `out`. Gives what dev_patch_strategic() gives, up to the order of
 * members. `size` 0: there was no status. -ENOTSUP (then `out` is of no use): this patch needs the
 * long way, for directives other than $setElementOrder and other rare things; -ENOMEM. */
int dev_patch_status(const struct dev_kind *kind, const char *status, size_t size,
                     const char *patch, size_t patch_size, struct dev_text *out)
    __attribute__((warn_unused_result));

/* A null at this path is a value, not a deletion: times that are encoded without omitempty. */
bool dev_patch_keeps_null(const char *path);

/* The merge key of the list at `path` ("status.conditions"), "" for a list of primitives that is
 * merged, NULL for one that is replaced. */
const char *dev_patch_merge_key(const struct dev_kind *kind, const char *path);

#endif
