/* devapi's own certificate authority, its server certificate, and an administrator's client
 * certificate in a kubeconfig. All keys are ECDSA P-256. Start-up only. */
#ifndef DEVAPI_CERTS_H
#define DEVAPI_CERTS_H

#include "isthmus/errbuf.h"

#include <openssl/ssl.h>

struct dev_certs;

/* Makes a CA, or takes ca.crt and ca.key from `dir` and writes them there if they are missing
 * (`dir` may be NULL). The server certificate is for localhost, 127.0.0.1, ::1 and the host of
 * `address`. 0 or negative errno and `e`. */
int dev_certs_create(const char *dir, const char *address, struct dev_certs **certs,
                     struct errbuf *e) __attribute__((warn_unused_result));
void dev_certs_destroy(struct dev_certs *c);
/* Borrowed as long as `c` lives. */
const char *dev_certs_ca_pem(const struct dev_certs *c);
/* A server context: TLS 1.2 and later, ALPN h2 and http/1.1, client certificates of the CA asked
 * for but not required. The caller owns it. NULL and `e`. */
SSL_CTX *dev_certs_server_context(const struct dev_certs *c, struct errbuf *e);
/* Writes a kubeconfig with everything inline for `user` in `group`, mode 0600, by renaming a
 * finished file into place. */
int dev_certs_write_kubeconfig(const struct dev_certs *c, const char *path, const char *address,
                               const char *user, const char *group, struct errbuf *e)
    __attribute__((warn_unused_result));

#endif
