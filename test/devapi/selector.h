/* Label and field selectors. Pure; any thread. */
#ifndef DEVAPI_SELECTOR_H
#define DEVAPI_SELECTOR_H

#include "isthmus/errbuf.h"
#include "test/devapi/object.h"

struct dev_selector;

/* Parses labelSelector and fieldSelector (either may be NULL or empty). 0; -EINVAL with the text
 * kube-apiserver gives, as far as it can be told, in `e`; -ENOMEM. `*out` is NULL when everything
 * matches. */
int dev_selector_parse(const struct dev_kind *kind, const char *labels, const char *fields,
                       struct dev_selector **out, struct errbuf *e)
    __attribute__((warn_unused_result));
void dev_selector_free(struct dev_selector *s);
/* `s` may be NULL: everything matches. */
bool dev_selector_matches(const struct dev_selector *s, const struct dev_object *o);
/* The value an object's field must have for it to match ("spec.nodeName", "metadata.name"); NULL if
 * there is none. */
const char *dev_selector_field(const struct dev_selector *s, const char *field);

#endif
