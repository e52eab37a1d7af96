/* TLS to Redis, where the hiredis that this was built with has it (1.0 and newer, built with SSL).
 */
#ifndef BALANCER_REDIS_TLS_H
#define BALANCER_REDIS_TLS_H

#include <stdbool.h>

bool redis_tls_is_supported(void);

#endif
