/* See redis_tls.h. */
#include "balancer/redis_tls.h"

#ifdef HAVE_HIREDIS_SSL
bool redis_tls_is_supported(void)
{
    return true;
}
#else
bool redis_tls_is_supported(void)
{
    return false;
}
#endif
