/* The node's own-things rule: the Node authorizer (plugin/pkg/auth/authorizer/node) and the
 * NodeRestriction admission plug-in, for the kinds served here, with their texts. They look at the
 * store and change nothing. Loop thread only. */
#ifndef DEVAPI_AUTHZ_H
#define DEVAPI_AUTHZ_H

#include "test/devapi/selector.h"
#include "test/devapi/status.h"
#include "test/devapi/store.h"

struct dev_request {
    const char *user, *node; /* node: whose identity acts */
    enum dev_verb verb;
    const struct dev_path *path;
    const struct dev_selector *selector; /* lists and watches */
};

/* The node's name in "system:node:NAME", or NULL. `in_group`: whether the user is in system:nodes.
 */
const char *dev_node_of(const char *user, bool in_group);

/* True, or false and a 403 in `e`. */
bool dev_authorize(struct dev_store *store, const struct dev_request *r, struct dev_error *e);

/* NodeRestriction for a write of a node. `old` is what is stored (NULL: nothing), `fresh` what
 * shall be (NULL: a deletion). True, or false and an error (mostly 403) in `e`. */
bool dev_admit(struct dev_store *store, const struct dev_request *r, const struct dev_object *old,
               const json_t *fresh, struct dev_error *e);
/* The same for a write that leaves labels, taints and owners as they are. */
bool dev_admit_status(const struct dev_request *r, const struct dev_object *old,
                      struct dev_error *e);
/* The same for a TokenRequest. */
bool dev_admit_token(struct dev_store *store, const struct dev_request *r, const json_t *fresh,
                     struct dev_error *e);

/* Whether a pod bound to the node mentions it; `type` as in mentions.h. */
bool dev_node_has(struct dev_store *store, const char *node, const char *namespace_, char type,
                  const char *name);

#endif
