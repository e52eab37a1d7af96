/* See redis_tls.h. hiredis' own contexts check a server's name in its newest versions only, so the
 * SSL object is ours. */
#include "balancer/redis_tls.h"

#include "balancer/redis_link.h"

#include <stdio.h>

#ifdef HAVE_HIREDIS_SSL

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

bool redis_tls_is_supported(void)
{
    return true;
}

static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char address[16];
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static SSL *create_ssl(const char *host)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;
    if (!context)
        return NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_set_default_verify_paths(context) == 1)
        ssl = SSL_new(context);
    SSL_CTX_free(context);
    if (ssl && expect_host(ssl, host))
        return ssl;
    SSL_free(ssl);
    return NULL;
}

void *redis_tls_start(struct redisContext *context, const char *host, char *error)
{
    SSL *ssl = create_ssl(host);
    if (ssl && redisInitiateSSL(context, ssl) == REDIS_OK)
        return ssl;
    snprintf(error, REDIS_ERROR_SIZE, "TLS: %s", ssl ? context->errstr : "no context");
    return NULL;
}

const char *redis_tls_explain(const void *tls)
{
    long verdict = tls ? SSL_get_verify_result(tls) : X509_V_OK;
    return verdict == X509_V_OK ? NULL : X509_verify_cert_error_string(verdict);
}

#else

bool redis_tls_is_supported(void)
{
    return false;
}

void *redis_tls_start(struct redisContext *context, const char *host, char *error)
{
    (void)context;
    (void)host;
    snprintf(error, REDIS_ERROR_SIZE, "this build has no TLS for Redis");
    return NULL;
}

const char *redis_tls_explain(const void *tls)
{
    (void)tls;
    return NULL;
}

#endif
