/* What the client asks of an apiconfig. Any thread. */
#ifndef APICLIENT_CONFIG_H
#define APICLIENT_CONFIG_H

#include "isthmus/apiclient.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

/* Never change; borrowed as long as the config lives. */
const char *apiconfig_host(const struct apiconfig *config);
const char *apiconfig_port(const struct apiconfig *config);
const char *apiconfig_authority(const struct apiconfig *config); /* for the :authority header */
const char *apiconfig_base_path(const struct apiconfig *config); /* "" or "/prefix" */

/* Count up with every change of the token, and of anything that TLS needs. */
uint64_t apiconfig_token_generation(const struct apiconfig *config);
uint64_t apiconfig_tls_generation(const struct apiconfig *config);

/* "Bearer TOKEN", for the caller to free; NULL when there is no token. 0 or -ENOMEM. */
int apiconfig_bearer(struct apiconfig *config, char **bearer, uint64_t *generation)
    __attribute__((warn_unused_result));
/* An SSL of the newest material; NULL: out of memory. */
SSL *apiconfig_ssl(struct apiconfig *config, uint64_t *generation);

/* Reloads unless somebody did within the last min_age_ms; failures are logged. */
void apiconfig_refresh(struct apiconfig *config, uint64_t min_age_ms);

/* In-cluster with its files elsewhere, for tests. */
int apiconfig_load_service_account(const char *host, const char *port, const char *dir,
                                   struct apiconfig **config, struct errbuf *e)
    __attribute__((warn_unused_result));

#endif
