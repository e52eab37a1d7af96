/* Joining as EdgeCore does: the CA from GET /ca.crt, held against the token; then for each node a
 * request for a certificate, over a connection of its own (--join, --token). Blocks; at start-up
 * only. */
#ifndef EDGE_JOIN_H
#define EDGE_JOIN_H

#include "isthmus/errbuf.h"

#include <openssl/ssl.h>

struct edge_join {
    const char *server; /* HOST:PORT */
    const char *token;  /* all four parts */
    X509 *ca;           /* what edge_join_begin() got */
    SSL_CTX *tls;       /* trusts only that */
};

/* Borrows both texts. 0, or -errno and `e`. */
int edge_join_begin(struct edge_join *j, const char *server, const char *token, struct errbuf *e);
/* The certificate of a node for `key`: DER for OPENSSL_free(). While there are too many requests
 * (429) it waits, for a minute at most. 0, or -errno and `e`. */
int edge_join_node(struct edge_join *j, const char *node, EVP_PKEY *key, unsigned char **der,
                   int *size, struct errbuf *e);
void edge_join_end(struct edge_join *j);

#endif
