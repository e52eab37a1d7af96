/* See edge_certs.h. */
#include "test/edgesim/edge_certs.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VALID_S (365L * 86400)

static X509 *read_certificate(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    X509 *cert = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    return cert;
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    return key;
}

/* 0, -ENAMETOOLONG. */
static int path_of(const struct edge_certs *c, const char *name, const char *suffix,
                   char path[PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/%s%s", c->dir, name, suffix);
    return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool has_file(const struct edge_certs *c, const char *name, const char *suffix)
{
    char path[PATH_MAX];
    return path_of(c, name, suffix, path) == 0 && access(path, R_OK) == 0;
}

int edge_certs_open(struct edge_certs *c, const char *dir, struct errbuf *e)
{
    char path[PATH_MAX], key_path[PATH_MAX];
    *c = (struct edge_certs){.dir = dir};
    if (!has_file(c, "ca", ".crt") || !has_file(c, "ca", ".key"))
        return 0;
    if (path_of(c, "ca", ".crt", path) != 0 || path_of(c, "ca", ".key", key_path) != 0)
        return -ENAMETOOLONG;
    c->ca = read_certificate(path);
    c->ca_key = read_key(key_path);
    c->shared_key = EVP_EC_gen("P-256");
    if (c->ca && c->ca_key && c->shared_key && X509_check_private_key(c->ca, c->ca_key) == 1)
        return 0;
    errbuf_set(e, "%s: ca.crt and ca.key are not a certificate and its key", dir);
    edge_certs_close(c);
    return -EINVAL;
}

int edge_certs_open_given(struct edge_certs *c, struct errbuf *e)
{
    *c = (struct edge_certs){.dir = "/nonexistent", .shared_key = EVP_EC_gen("P-256")};
    if (c->shared_key)
        return 0;
    errbuf_set(e, "cannot make a key");
    return -EIO;
}

void edge_certs_close(struct edge_certs *c)
{
    X509_free(c->ca);
    EVP_PKEY_free(c->ca_key);
    EVP_PKEY_free(c->shared_key);
    *c = (struct edge_certs){0};
}

void edge_cert_free(struct edge_cert *cert)
{
    OPENSSL_free(cert->der);
    *cert = (struct edge_cert){0};
}

/* --- issuing --- */

static bool set_name(X509_NAME *name, const char *organization, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)organization,
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    bool ok = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_serial(X509 *cert)
{
    uint64_t serial;
    return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) == 1;
}

static X509 *new_certificate(EVP_PKEY *key, const char *organization, const char *common_name)
{
    X509 *cert = X509_new();
    if (cert && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
        X509_gmtime_adj(X509_getm_notAfter(cert), VALID_S) &&
        set_name(X509_get_subject_name(cert), organization, common_name) &&
        X509_set_pubkey(cert, key) == 1)
        return cert;
    X509_free(cert);
    return NULL;
}

static X509 *issue(struct edge_certs *c, const char *node)
{
    char common_name[320];
    snprintf(common_name, sizeof(common_name), "system:node:%s", node);
    X509 *cert = new_certificate(c->shared_key, "system:nodes", common_name);
    if (cert && X509_set_issuer_name(cert, X509_get_subject_name(c->ca)) == 1 &&
        add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, NID_ext_key_usage, "clientAuth") &&
        X509_sign(cert, c->ca_key, EVP_sha256()) > 0)
        return cert;
    X509_free(cert);
    return NULL;
}

int edge_certs_open_foreign(struct edge_certs *c, struct errbuf *e)
{
    *c = (struct edge_certs){.dir = "/nonexistent"};
    c->ca_key = EVP_EC_gen("P-256");
    c->shared_key = EVP_EC_gen("P-256");
    if (c->ca_key && c->shared_key)
        c->ca = new_certificate(c->ca_key, "KubeEdge", "KubeEdge");
    if (c->ca && X509_set_issuer_name(c->ca, X509_get_subject_name(c->ca)) == 1 &&
        add_extension(c->ca, NID_basic_constraints, "critical,CA:TRUE") &&
        X509_sign(c->ca, c->ca_key, EVP_sha256()) > 0)
        return 0;
    errbuf_set(e, "cannot make a certificate authority");
    edge_certs_close(c);
    return -EIO;
}

/* --- using --- */

static int use_files(struct edge_certs *c, SSL *ssl, const char *node)
{
    char cert_path[PATH_MAX], key_path[PATH_MAX];
    if (path_of(c, node, ".crt", cert_path) != 0 || path_of(c, node, ".key", key_path) != 0)
        return -ENAMETOOLONG;
    bool ok = SSL_use_certificate_chain_file(ssl, cert_path) == 1 &&
              SSL_use_PrivateKey_file(ssl, key_path, SSL_FILETYPE_PEM) == 1;
    ERR_clear_error();
    return ok ? 0 : -EIO;
}

int edge_certs_use(struct edge_certs *c, SSL *ssl, const char *node, struct edge_cert *cert)
{
    if (!cert->der && has_file(c, node, ".crt"))
        return use_files(c, ssl, node);
    if (!cert->der && !c->ca)
        return -ENOENT;
    if (!cert->der) {
        X509 *issued = issue(c, node);
        cert->size = issued ? i2d_X509(issued, &cert->der) : -1;
        X509_free(issued);
        if (cert->size <= 0)
            return -EIO;
    }
    bool ok = SSL_use_certificate_ASN1(ssl, cert->der, cert->size) == 1 &&
              SSL_use_PrivateKey(ssl, c->shared_key) == 1;
    ERR_clear_error();
    return ok ? 0 : -EIO;
}
