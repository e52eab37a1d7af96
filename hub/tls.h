/* TLS for edges: the key material, which can be replaced while it is in use, the settings of a
 * server context, and what can be let go of once a handshake is done. OpenSSL only; libwebsockets
 * is not seen here. */
#ifndef HUB_TLS_H
#define HUB_TLS_H

#include "hub/config.h"
#include "isthmus/errbuf.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

/* Certificate, chain, key and the edges' CAs, read and checked. Refcounted and immutable; any
 * thread. */
struct tls_material;

/* Reads --tls-ca, --tls-cert and --tls-key; blocks for that. -EINVAL and `e` when one cannot be
 * used. */
int tls_material_load(const struct config *config, struct tls_material **material, struct errbuf *e)
    __attribute__((warn_unused_result));
/* The same from memory: one certificate without a chain, its key, one CA, of each of which it takes
 * a reference of its own. -EINVAL (the key is not the certificate's) or -ENOMEM and `e`. */
int tls_material_create(X509 *certificate, EVP_PKEY *key, X509 *authority,
                        struct tls_material **material, struct errbuf *e)
    __attribute__((warn_unused_result));
/* The first of the CAs, as DER for OPENSSL_free(); its size, or -ENOMEM. */
int tls_material_authority_der(const struct tls_material *m, unsigned char **der)
    __attribute__((warn_unused_result));
struct tls_material *tls_material_get(struct tls_material *m);
void tls_material_put(struct tls_material *m);
/* Whether one can take the other's place: a context has a place for each kind of key, and none can
 * be emptied. */
bool tls_material_is_like(const struct tls_material *a, const struct tls_material *b);

/* Sets a server context up: TLS 1.2 and 1.3, client certificates required and verified against the
 * CAs only, no tickets, no resumption, no renegotiation. Before its first use, the thread that
 * makes it. 0, -EINVAL or -ENOMEM. */
int tls_context_configure(SSL_CTX *context, struct tls_material *m)
    __attribute__((warn_unused_result));
/* The same, but a client may show any certificate with a key of ordinary size, or none:
 * SSL_get_verify_result() says what it is worth. */
int tls_context_configure_open(SSL_CTX *context, struct tls_material *m)
    __attribute__((warn_unused_result));
/* New connections get the new material; live ones are not touched. The thread that uses the
 * context. */
int tls_context_replace(SSL_CTX *context, struct tls_material *m)
    __attribute__((warn_unused_result));

/* What stands in for the contexts and sessions of established connections, see tls.c. One for each
 * loop. */
struct tls_slimmer {
    SSL_CTX *contexts[4];
    struct ssl_session_st *empty;
};
/* After the handshake, outside SSL_read and SSL_write: lets go of the peer's certificate, the
 * session and the certificate store reference. The identity must have been read before. A
 * connection that cannot be slimmed is as good as before. */
void tls_slim(struct tls_slimmer *s, SSL *ssl);
void tls_slimmer_fini(struct tls_slimmer *s);

/* In an info callback of SSL_accept(): why it failed, as a constant text, or NULL while it has not.
 * `peer_left` says that the peer hung up, which is no failure of TLS. */
const char *tls_failure(const SSL *ssl, int where, int ret, bool *peer_left);

#endif
