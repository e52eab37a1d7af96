/* See edge_join.h. */
#include "test/edgesim/edge_join.h"

#include "isthmus/options.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S      15
#define BUSY_WAIT_MS   200
#define BUSY_TRIES     300
#define RESPONSE_BYTES 16384

struct response {
    int status;
    unsigned char *body; /* inside of bytes */
    int size;
    char bytes[RESPONSE_BYTES];
};

/* ---- one request over one connection ---- */

static int dial(const char *server, char host[256], struct errbuf *e)
{
    char port_text[8];
    uint16_t port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    const struct timeval patience = {.tv_sec = TIMEOUT_S};
    const int on = 1;
    if (options_parse_address(server, host, &port) != 0) {
        errbuf_set(e, "--join %s: not HOST:PORT", server);
        return -EINVAL;
    }
    snprintf(port_text, sizeof(port_text), "%u", port);
    if (getaddrinfo(host, port_text, &hints, &found) != 0) {
        errbuf_set(e, "--join %s: no such host", server);
        return -EHOSTUNREACH;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* as Go does */
    }
    int rc = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 ? fd : -errno;
    freeaddrinfo(found);
    if (rc < 0) {
        errbuf_set(e, "--join %s: %s", server, strerror(-rc));
        if (fd >= 0)
            close(fd);
    }
    return rc;
}

static bool expect_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ||
           X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

static bool write_all(SSL *ssl, const void *bytes, size_t size)
{
    size_t done = 0;
    return size == 0 || SSL_write_ex(ssl, bytes, size, &done) == 1;
}

static bool read_all(SSL *ssl, struct response *r)
{
    size_t size = 0, n;
    while (size < sizeof(r->bytes) - 1 &&
           SSL_read_ex(ssl, r->bytes + size, sizeof(r->bytes) - 1 - size, &n) == 1)
        size += n;
    r->bytes[size] = '\0';
    char *end = memmem(r->bytes, size, "\r\n\r\n", 4);
    if (!end || sscanf(r->bytes, "HTTP/1.1 %d", &r->status) != 1)
        return false;
    r->body = (unsigned char *)end + 4;
    r->size = (int)(size - (size_t)(end + 4 - r->bytes));
    return true;
}

static int exchange(struct edge_join *j, SSL_CTX *tls, const char *head, const unsigned char *body,
                    size_t body_size, struct response *r, struct errbuf *e)
{
    char host[256];
    int fd = dial(j->server, host, e);
    if (fd < 0)
        return fd;
    SSL *ssl = SSL_new(tls);
    bool is_done = ssl && SSL_set_fd(ssl, fd) == 1 && expect_host(ssl, host) &&
                   SSL_connect(ssl) == 1 && write_all(ssl, head, strlen(head)) &&
                   write_all(ssl, body, body_size) && read_all(ssl, r);
    if (!is_done) {
        const char *why = ERR_reason_error_string(ERR_peek_error());
        errbuf_set(e, "--join %s: %s", j->server, why ? why : "no answer");
    }
    ERR_clear_error();
    SSL_free(ssl);
    close(fd);
    return is_done ? 0 : -EPROTO;
}

static int complain(const struct edge_join *j, const char *what, const struct response *r,
                    struct errbuf *e)
{
    errbuf_set(e, "--join %s: %s: %d %.200s", j->server, what, r->status, (const char *)r->body);
    return -EACCES;
}

/* ---- joining ---- */

static bool is_hash_of(const char *token, const unsigned char *bytes, size_t size)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char hex[2 * sizeof(digest) + 2];
    SHA256(bytes, size, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    hex[sizeof(hex) - 2] = '.';
    hex[sizeof(hex) - 1] = '\0';
    return strncmp(token, hex, strlen(hex)) == 0;
}

/* GET /ca.crt without verification: the token says whether it is the right one. */
static int fetch_ca(struct edge_join *j, struct errbuf *e)
{
    struct response r;
    SSL_CTX *anybody = SSL_CTX_new(TLS_client_method());
    if (!anybody)
        return -ENOMEM;
    int rc = exchange(j, anybody, "GET /ca.crt HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n",
                      NULL, 0, &r, e);
    SSL_CTX_free(anybody);
    if (rc != 0)
        return rc;
    if (r.status != 200)
        return complain(j, "/ca.crt", &r, e);
    const unsigned char *at = r.body;
    if (!is_hash_of(j->token, r.body, (size_t)r.size) || !(j->ca = d2i_X509(NULL, &at, r.size))) {
        errbuf_set(e, "--join %s: its CA is not the token's", j->server);
        return -EACCES;
    }
    return 0;
}

int edge_join_begin(struct edge_join *j, const char *server, const char *token, struct errbuf *e)
{
    *j = (struct edge_join){.server = server, .token = token};
    int rc = fetch_ca(j, e);
    if (rc == 0) {
        j->tls = SSL_CTX_new(TLS_client_method());
        if (!j->tls || X509_STORE_add_cert(SSL_CTX_get_cert_store(j->tls), j->ca) != 1)
            rc = -ENOMEM;
        else
            SSL_CTX_set_verify(j->tls, SSL_VERIFY_PEER, NULL);
    }
    if (rc != 0)
        edge_join_end(j);
    return rc;
}

void edge_join_end(struct edge_join *j)
{
    X509_free(j->ca);
    SSL_CTX_free(j->tls);
    j->ca = NULL;
    j->tls = NULL;
}

static bool add(X509_NAME *name, const char *attribute, const char *value)
{
    return X509_NAME_add_entry_by_txt(name, attribute, MBSTRING_ASC, (const unsigned char *)value,
                                      -1, -1, 0) == 1;
}

/* The subject of EdgeCore's request (edgehub/certificate/certmanager.go). The common name may be
 * longer than the 64 characters that OpenSSL allows for it by text. */
static int make_request(const char *node, EVP_PKEY *key, unsigned char **der)
{
    char common_name[320];
    int length = snprintf(common_name, sizeof(common_name), "system:node:%s", node);
    X509_REQ *request = X509_REQ_new();
    X509_NAME *name = request ? X509_REQ_get_subject_name(request) : NULL;
    int size = -1;
    *der = NULL;
    if (name && add(name, "C", "CN") && add(name, "O", "system:nodes") &&
        add(name, "L", "Hangzhou") && add(name, "ST", "Zhejiang") &&
        X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_PRINTABLESTRING,
                                   (unsigned char *)common_name, length, -1, 0) == 1 &&
        X509_REQ_set_pubkey(request, key) == 1 && X509_REQ_sign(request, key, EVP_sha256()) > 0)
        size = i2d_X509_REQ(request, der);
    X509_REQ_free(request);
    return size;
}

static int ask(struct edge_join *j, const char *node, const unsigned char *request, int size,
               struct response *r, struct errbuf *e)
{
    char head[4096];
    const struct timespec pause = {.tv_nsec = BUSY_WAIT_MS * 1000000L};
    const char *jwt = strchr(j->token, '.');
    int n = snprintf(head, sizeof(head),
                     "GET /edge.crt HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nNodename: %s\r\n"
                     "Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
                     node, jwt ? jwt + 1 : "", size);
    if (n < 0 || (size_t)n >= sizeof(head))
        return -ENAMETOOLONG;
    int rc = exchange(j, j->tls, head, request, (size_t)size, r, e);
    for (int i = 0; rc == 0 && r->status == 429 && i < BUSY_TRIES; i++) {
        nanosleep(&pause, NULL);
        rc = exchange(j, j->tls, head, request, (size_t)size, r, e);
    }
    return rc;
}

int edge_join_node(struct edge_join *j, const char *node, EVP_PKEY *key, unsigned char **der,
                   int *size, struct errbuf *e)
{
    struct response r;
    unsigned char *request;
    int request_size = make_request(node, key, &request);
    if (request_size <= 0) {
        errbuf_set(e, "no certificate request can be made");
        return -EIO;
    }
    int rc = ask(j, node, request, request_size, &r, e);
    OPENSSL_free(request);
    if (rc != 0)
        return rc;
    if (r.status != 200)
        return complain(j, node, &r, e);
    *der = OPENSSL_memdup(r.body, (size_t)r.size);
    *size = r.size;
    return *der ? 0 : -ENOMEM;
}
