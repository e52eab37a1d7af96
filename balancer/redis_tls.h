/* TLS to Redis, where the hiredis that this was built with has it (1.0 and newer, with its SSL
 * library). The server is held to the CAs that OpenSSL trusts (SSL_CERT_FILE and SSL_CERT_DIR name
 * others) and to its name in the URL. */
#ifndef BALANCER_REDIS_TLS_H
#define BALANCER_REDIS_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct redisContext;

bool redis_tls_is_supported(void);
/* Right after connecting was begun. Returns what redis_tls_explain() wants, the context's own; or
 * NULL and `error`, which has REDIS_ERROR_SIZE bytes. */
void *redis_tls_start(struct redisContext *context, const char *host, char *error);
/* What TLS has against the server, or NULL; while the context lives. */
const char *redis_tls_explain(const void *tls);

#endif
