/* What can be said of the flags without connecting. Pure. */
#include "balancer/redis_tls.h"
#include "balancer/redis_url.h"
#include "isthmus/balance.h"

#include <errno.h>
#include <string.h>

#define GROUP_MAX 63

int balance_check_url(const char *text, struct errbuf *e)
{
    struct redis_url url;
    int rc = redis_url_parse(text, &url, e);
    if (rc == 0 && url.scheme == REDIS_SCHEME_TLS && !redis_tls_is_supported()) {
        errbuf_set(e, "rediss:// needs hiredis 1.0 or newer with its SSL library, which this build "
                      "does not have; use redis:// through a TLS proxy, or unix://");
        rc = -EINVAL;
    }
    explicit_bzero(&url, sizeof(url));
    return rc;
}

/* It becomes the hash tag of the keys: no braces. */
bool balance_is_group_name(const char *group)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    if (!group || !*group)
        return true;
    return strlen(group) <= GROUP_MAX && strspn(group, allowed) == strlen(group);
}
