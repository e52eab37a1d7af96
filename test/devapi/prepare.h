/* What the API server does to an object before it stores it: metadata, defaults, names. Pure but
 * for clock and UUIDs; any thread. */
#ifndef DEVAPI_PREPARE_H
#define DEVAPI_PREPARE_H

#include "test/devapi/object.h"
#include "test/devapi/status.h"

/* Parses a body that shall be an object of the kind. NULL and an error in `e`; else the caller owns
 * it, its metadata is an object. */
json_t *dev_parse_object(const struct dev_kind *kind, const char *body, size_t size,
                         struct dev_error *e);

/* For a creation at the path: name (generateName), namespace, uid, creationTimestamp, defaults of
 * the kind. 0 or -EINVAL with `e`. */
int dev_prepare_create(const struct dev_path *path, json_t *root, int64_t now_s, const char *user,
                       struct dev_error *e);

/* For an update: what nobody may change is taken from `old`. `is_status`: only status (and, for
 * some kinds, labels and annotations) comes from `root`; else all but status does. The result
 * replaces *root. 0 or -ENOMEM. */
int dev_prepare_update(const struct dev_object *old, json_t **root, const char *subresource);

/* Whether the name is a DNS subdomain. */
bool dev_is_name(const char *name);

#endif
