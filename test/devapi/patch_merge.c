/* JSON merge patch, RFC 7386; see patch.h. */
#include "test/devapi/patch.h"

#include <errno.h>

static json_t *without_nulls(const json_t *value)
{
    if (!json_is_object(value))
        return json_deep_copy(value);
    json_t *copy = json_object();
    if (copy && dev_patch_merge(copy, value) != 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

int dev_patch_merge(json_t *document, const json_t *patch)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)patch, key, value) {
        json_t *old = json_object_get(document, key);
        int rc = 0;
        if (json_is_null(value)) {
            (void)json_object_del(document, key);
        } else if (json_is_object(value) && json_is_object(old)) {
            rc = dev_patch_merge(old, value);
        } else {
            rc = json_object_set_new(document, key, without_nulls(value)) == 0 ? 0 : -ENOMEM;
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}
