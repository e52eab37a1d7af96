/* Client certificates of the simulated nodes: DIR/NODE.crt and DIR/NODE.key where they exist, else
 * issued from DIR/ca.crt and DIR/ca.key, to memory, all with one key pair (a fleet of 18,000 keys
 * would only cost time). Subject O=system:nodes, CN=system:node:NODE, as KubeEdge from 1.16 on. One
 * thread. */
#ifndef EDGE_CERTS_H
#define EDGE_CERTS_H

#include "isthmus/errbuf.h"

#include <openssl/ssl.h>

struct edge_certs {
    const char *dir;
    X509 *ca; /* NULL: nothing can be issued */
    EVP_PKEY *ca_key, *shared_key;
};

/* Borrows dir. 0, or -errno and `e`. A directory without a CA is fine as long as every node has its
 * files. */
int edge_certs_open(struct edge_certs *c, const char *dir, struct errbuf *e);
/* Nothing is issued: each node's certificate is there already, for the shared key (edge_join). */
int edge_certs_open_given(struct edge_certs *c, struct errbuf *e);
/* A CA of its own that nobody trusts. */
int edge_certs_open_foreign(struct edge_certs *c, struct errbuf *e);
void edge_certs_close(struct edge_certs *c);

/* The certificate of a node as issued, kept by the caller between connections so that it is signed
 * once. */
struct edge_cert {
    unsigned char *der; /* owned; NULL: not issued yet, or from a file */
    int size;
};
void edge_cert_free(struct edge_cert *cert);

/* Gives `ssl` the node's certificate and key. 0; -ENOENT when there are neither files nor a CA;
 * -EIO. */
int edge_certs_use(struct edge_certs *c, SSL *ssl, const char *node, struct edge_cert *cert);

#endif
