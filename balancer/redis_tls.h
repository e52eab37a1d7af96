/* TLS to Redis, where the hiredis that this was built with has it (1.0 and newer, with its SSL
 * library). The server is held to the CAs that OpenSSL trusts (SSL_CERT_FILE and SSL_CERT_DIR name
 * others) and to its name in the URL. */
#ifndef BALANCER_REDIS_TLS_H
#define BALANCER_REDIS_TLS_H

#include <stdbool.h>

struct redisContext;

bool redis_tls_is_supported(void);
/* Right after connecting was begun; `error` has REDIS_ERROR_SIZE bytes. */
bool redis_tls_start(struct redisContext *context, const char *host, char *error);

#endif
