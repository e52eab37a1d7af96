/* See certs.h. */
#include "test/devapi/certs.h"
#include "isthmus/options.h"
#include "test/devapi/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define YEARS(n) ((n)*365L * 24 * 3600)

struct dev_certs {
    X509 *ca, *server;
    EVP_PKEY *ca_key, *server_key;
    char *ca_pem;
};

static int fail(struct errbuf *e, const char *what)
{
    unsigned long error = ERR_get_error();
    const char *why = error ? ERR_reason_error_string(error) : NULL;
    errbuf_set(e, "%s: %s", what, why ? why : "failed");
    return -EINVAL;
}

/* ---- making ---- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool is_added = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool set_serial(X509 *cert)
{
    unsigned char raw[8];
    if (RAND_bytes(raw, sizeof(raw)) != 1)
        return false;
    raw[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(raw, sizeof(raw), NULL);
    bool is_set = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return is_set;
}

static bool set_names(X509 *cert, X509 *issuer, const char *common_name, const char *organization)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    bool is_set = true;
    if (organization)
        is_set = X509_NAME_add_entry_by_NID(subject, NID_organizationName, MBSTRING_UTF8,
                                            (const unsigned char *)organization, -1, -1, 0) == 1;
    return is_set &&
           X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                      (const unsigned char *)common_name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1;
}

struct wish {
    const char *common_name, *organization, *names; /* names: subjectAltName; NULL: none */
    const char *usage, *extended_usage;
    bool is_ca;
};

/* Signed by `issuer`, or by itself if that is NULL. The caller owns both results. */
static int make(const struct wish *wish, X509 *issuer, EVP_PKEY *issuer_key, X509 **out,
                EVP_PKEY **out_key, struct errbuf *e)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509 *signer = issuer ? issuer : cert;
    bool is_made = key && cert && X509_set_version(cert, 2) == 1 && set_serial(cert) &&
                   X509_gmtime_adj(X509_getm_notBefore(cert), -300) &&
                   X509_gmtime_adj(X509_getm_notAfter(cert), YEARS(10)) &&
                   X509_set_pubkey(cert, key) == 1 &&
                   set_names(cert, signer, wish->common_name, wish->organization) &&
                   add_extension(cert, signer, NID_key_usage, wish->usage) &&
                   add_extension(cert, signer, NID_subject_key_identifier, "hash") &&
                   add_extension(cert, signer, NID_basic_constraints,
                                 wish->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (is_made && wish->extended_usage)
        is_made = add_extension(cert, signer, NID_ext_key_usage, wish->extended_usage);
    if (is_made && wish->names)
        is_made = add_extension(cert, signer, NID_subject_alt_name, wish->names);
    if (is_made)
        is_made = X509_sign(cert, issuer ? issuer_key : key, EVP_sha256()) > 0;
    if (!is_made) {
        X509_free(cert);
        EVP_PKEY_free(key);
        return fail(e, "certificate");
    }
    *out = cert;
    *out_key = key;
    return 0;
}

/* ---- PEM and files ---- */

static char *take_pem(BIO *bio)
{
    char *at = NULL;
    long size = BIO_get_mem_data(bio, &at);
    char *text = size > 0 ? strndup(at, (size_t)size) : NULL;
    BIO_free(bio);
    return text;
}

static char *cert_pem(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio)
        PEM_write_bio_X509(bio, cert);
    return bio ? take_pem(bio) : NULL;
}

static char *key_pem(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio)
        PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL);
    return bio ? take_pem(bio) : NULL;
}

/* Writes beside it, mode 0600, and renames: a reader sees all of it or nothing. */
static int write_file(const char *path, const char *text, size_t size, struct errbuf *e)
{
    char temporary[4096];
    int n = snprintf(temporary, sizeof(temporary), "%s.%ld.tmp", path, (long)getpid());
    int fd = n > 0 && (size_t)n < sizeof(temporary)
                 ? open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
                 : -1;
    bool is_written = fd >= 0 && write(fd, text, size) == (ssize_t)size;
    int rc = is_written ? 0 : -(errno ? errno : EIO);
    if (fd >= 0)
        close(fd);
    if (is_written && rename(temporary, path) != 0)
        rc = -errno;
    if (rc != 0) {
        errbuf_set(e, "%s: %s", path, strerror(-rc));
        unlink(temporary);
    }
    return rc;
}

static int load_ca(struct dev_certs *c, const char *cert_path, const char *key_path,
                   struct errbuf *e)
{
    FILE *cert = fopen(cert_path, "re"), *key = fopen(key_path, "re");
    if (cert)
        c->ca = PEM_read_X509(cert, NULL, NULL, NULL);
    if (key)
        c->ca_key = PEM_read_PrivateKey(key, NULL, NULL, NULL);
    bool is_missing = !cert && !key;
    if (cert)
        fclose(cert);
    if (key)
        fclose(key);
    if (is_missing)
        return -ENOENT;
    if (c->ca && c->ca_key && X509_check_private_key(c->ca, c->ca_key) == 1)
        return 0;
    errbuf_set(e, "%s and %s: not a certificate and its key", cert_path, key_path);
    return -EINVAL;
}

static int keep_ca(const struct dev_certs *c, const char *cert_path, const char *key_path,
                   struct errbuf *e)
{
    char *key = key_pem(c->ca_key);
    int rc = key ? write_file(key_path, key, strlen(key), e) : -ENOMEM;
    if (rc == 0)
        rc = write_file(cert_path, c->ca_pem, strlen(c->ca_pem), e);
    if (key)
        OPENSSL_cleanse(key, strlen(key));
    free(key);
    return rc;
}

static int get_ca(struct dev_certs *c, const char *dir, struct errbuf *e)
{
    static const struct wish wish = {.common_name = "devapi-ca",
                                     .usage =
                                         "critical,digitalSignature,keyEncipherment,keyCertSign",
                                     .is_ca = true};
    char cert_path[2048], key_path[2048];
    snprintf(cert_path, sizeof(cert_path), "%s/ca.crt", dir ? dir : "");
    snprintf(key_path, sizeof(key_path), "%s/ca.key", dir ? dir : "");
    if (dir && mkdir(dir, 0700) != 0 && errno != EEXIST) {
        int rc = -errno;
        errbuf_set(e, "%s: %s", dir, strerror(-rc));
        return rc;
    }
    int rc = dir ? load_ca(c, cert_path, key_path, e) : -ENOENT;
    bool is_new = rc == -ENOENT;
    if (is_new)
        rc = make(&wish, NULL, NULL, &c->ca, &c->ca_key, e);
    if (rc != 0)
        return rc;
    c->ca_pem = cert_pem(c->ca);
    if (!c->ca_pem)
        return fail(e, "CA certificate");
    return dir && is_new ? keep_ca(c, cert_path, key_path, e) : 0;
}

static bool is_address(const char *host)
{
    unsigned char raw[16];
    return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

int dev_certs_create(const char *dir, const char *address, struct dev_certs **out, struct errbuf *e)
{
    char host[256], names[512];
    uint16_t port;
    if (options_parse_address(address, host, &port) != 0) {
        errbuf_set(e, "address '%s': want HOST:PORT", address);
        return -EINVAL;
    }
    struct dev_certs *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    bool is_extra = host[0] && strcmp(host, "localhost") != 0 && strcmp(host, "::") != 0;
    snprintf(names, sizeof(names), "DNS:localhost,DNS:kubernetes,IP:127.0.0.1,IP:::1%s%s",
             !is_extra          ? ""
             : is_address(host) ? ",IP:"
                                : ",DNS:",
             is_extra ? host : "");
    const struct wish wish = {.common_name = "devapi",
                              .names = names,
                              .usage = "critical,digitalSignature",
                              .extended_usage = "serverAuth"};
    int rc = get_ca(c, dir, e);
    if (rc == 0)
        rc = make(&wish, c->ca, c->ca_key, &c->server, &c->server_key, e);
    if (rc != 0) {
        dev_certs_destroy(c);
        return rc;
    }
    *out = c;
    return 0;
}

void dev_certs_destroy(struct dev_certs *c)
{
    if (!c)
        return;
    X509_free(c->ca);
    X509_free(c->server);
    EVP_PKEY_free(c->ca_key);
    EVP_PKEY_free(c->server_key);
    free(c->ca_pem);
    free(c);
}

const char *dev_certs_ca_pem(const struct dev_certs *c)
{
    return c->ca_pem;
}

/* ---- TLS ---- */

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *in, unsigned in_size, void *context)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    (void)ssl;
    (void)context;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_size, ours, sizeof(ours) - 1, in, in_size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *dev_certs_server_context(const struct dev_certs *c, struct errbuf *e)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    X509_STORE *store = ctx ? SSL_CTX_get_cert_store(ctx) : NULL;
    if (!ctx || SSL_CTX_use_certificate(ctx, c->server) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, c->server_key) != 1 || X509_STORE_add_cert(store, c->ca) != 1 ||
        SSL_CTX_add_client_CA(ctx, c->ca) != 1) {
        SSL_CTX_free(ctx);
        fail(e, "TLS context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, select_protocol, NULL);
    return ctx;
}

/* ---- kubeconfig ---- */

static void add_base64(struct dev_text *t, const char *pem)
{
    dev_text_base64(t, (const unsigned char *)pem, strlen(pem));
}

int dev_certs_write_kubeconfig(const struct dev_certs *c, const char *path, const char *address,
                               const char *user, const char *group, struct errbuf *e)
{
    const struct wish wish = {.common_name = user,
                              .organization = group,
                              .usage = "critical,digitalSignature",
                              .extended_usage = "clientAuth"};
    X509 *cert;
    EVP_PKEY *key;
    char host[256];
    uint16_t port;
    if (options_parse_address(address, host, &port) != 0)
        return -EINVAL;
    /* Who listens on every address is reached on this machine's own. */
    if (!host[0] || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        snprintf(host, sizeof(host), "127.0.0.1");
    int rc = make(&wish, c->ca, c->ca_key, &cert, &key, e);
    if (rc != 0)
        return rc;
    char *cert_text = cert_pem(cert), *key_text = key_pem(key);
    struct dev_text t = {0};
    if (cert_text && key_text) {
        bool is_v6 = strchr(host, ':') != NULL;
        dev_text_printf(&t,
                        "apiVersion: v1\nkind: Config\nclusters:\n- name: devapi\n  cluster:\n"
                        "    server: https://%s%s%s:%u\n    certificate-authority-data: ",
                        is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
        add_base64(&t, c->ca_pem);
        dev_text_printf(&t, "\nusers:\n- name: %s\n  user:\n    client-certificate-data: ", user);
        add_base64(&t, cert_text);
        dev_text_str(&t, "\n    client-key-data: ");
        add_base64(&t, key_text);
        dev_text_printf(
            &t,
            "\ncontexts:\n- name: devapi\n  context:\n    cluster: devapi\n    user: %s\n"
            "current-context: devapi\n",
            user);
    }
    rc = t.failed || t.size == 0 ? -ENOMEM : write_file(path, t.at, t.size, e);
    free(cert_text);
    free(key_text);
    dev_text_fini(&t);
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}
