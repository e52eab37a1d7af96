/* The certificates of a KubeEdge fleet, with CloudCore's keys, subjects, usages and validity
 * (pkg/security/certs): a CA, the hubs' server certificate, those of nodes. Pure but for
 * randomness: the time is an argument. Any thread. */
#ifndef HUB_JOIN_CERT_H
#define HUB_JOIN_CERT_H

#include "hub/secret_bytes.h"
#include "isthmus/errbuf.h"
#include "isthmus/options.h"

#include <openssl/types.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>

/* A certificate and its key, as they lie in the Secrets (DER, the key as SEC1 ECPrivateKey) and as
 * OpenSSL has them. */
struct join_pair {
    struct secret_bytes certificate_der, key_der;
    X509 *certificate;
    EVP_PKEY *key;
};

void join_pair_free(struct join_pair *pair);
/* Takes both DERs, also on failure. 0, or -EINVAL (not DER, nothing behind it allowed; not an EC
 * key; not the certificate's), -ENOMEM and `e`. */
int join_pair_parse(struct join_pair *pair, struct secret_bytes *certificate_der,
                    struct secret_bytes *key_der, struct errbuf *e)
    __attribute__((warn_unused_result));

/* A new key and the CA certificate CN=KubeEdge to it. 0, -ENOMEM or -EIO and `e`. */
int join_make_ca(int64_t now_s, struct join_pair *ca, struct errbuf *e)
    __attribute__((warn_unused_result));
/* Whether it can sign others: a CA by its basic constraints, allowed to sign, not expired. 0, or
 * -EINVAL and `e`. */
int join_check_ca(const struct join_pair *ca, int64_t now_s, struct errbuf *e)
    __attribute__((warn_unused_result));

/* ---- the names of a server certificate ---- */

/* Subject alternative names: `dns_names`, then `addresses` (what is no IP address among them is
 * taken as a DNS name). Empty texts are left out, as an empty list is CloudCore's default. For
 * GENERAL_NAMES_free(); NULL and `e` without memory or when one is no name. */
GENERAL_NAMES *join_names_create(const struct option_list *dns_names,
                                 const struct option_list *addresses, struct errbuf *e)
    __attribute__((warn_unused_result));
/* The first of `names` that the certificate does not stand for, as a text in `missing`; false: it
 * has them all. Wildcards count as an edge counts them. */
bool join_names_missing(X509 *certificate, const GENERAL_NAMES *names, char *missing, size_t room);

/* A new key and a server certificate with `names` and, if `old` is not NULL, those that `old` has,
 * so that replicas with different names do not take each other's away. 0, -ENOMEM or -EIO and `e`.
 */
int join_make_server(const struct join_pair *ca, const GENERAL_NAMES *names, X509 *old,
                     int64_t now_s, struct join_pair *server, struct errbuf *e)
    __attribute__((warn_unused_result));
/* Whether edges that trust the CA will take it: signed by it, for servers, not expired. 0, or
 * -EINVAL and `e`. */
int join_check_server(const struct join_pair *ca, const struct join_pair *server, int64_t now_s,
                      struct errbuf *e) __attribute__((warn_unused_result));

/* ---- a node's ---- */

#define JOIN_SERIAL_BYTES 33

/* CN=system:node:NODE, O=system:nodes, for clients, no other names; DER for OPENSSL_free(). Returns
 * its size, or -ENOMEM, -EIO. `serial` gets its number in hex. */
int join_make_node(const struct join_pair *ca, const char *node, EVP_PKEY *public_key,
                   int64_t now_s, uint64_t lifetime_s, unsigned char **der,
                   char serial[JOIN_SERIAL_BYTES]) __attribute__((warn_unused_result));

#endif
