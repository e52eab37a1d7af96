/* See tls.h. Keys and certificates come from memory: the caller has read them, so that a reload is
 * all or nothing. */
#include "apiclient/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

static bool is_ip(const char *name)
{
    struct in6_addr address;
    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

static int fail(struct errbuf *e, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    errbuf_set(e, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE ? -ENOMEM : -EINVAL;
}

/* A key with a pass phrase fails instead of asking at a terminal. */
static int no_passphrase(char *buffer, int size, int is_write, void *context)
{
    (void)buffer, (void)size, (void)is_write, (void)context;
    return -1;
}

static int add_ca(SSL_CTX *context, const char *pem, struct errbuf *e)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    if (!bio)
        return fail(e, "certificate authority");
    unsigned count = 0;
    X509 *certificate;
    bool added = true;
    while (added && (certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        added = X509_STORE_add_cert(store, certificate) == 1;
        X509_free(certificate);
        count++;
    }
    BIO_free(bio);
    unsigned long code = ERR_peek_last_error();
    if (!added || count == 0 || ERR_GET_REASON(code) != PEM_R_NO_START_LINE)
        return fail(e, "certificate authority: not certificates in PEM");
    ERR_clear_error(); /* the end of the file is an error to OpenSSL */
    return 0;
}

static int add_chain(SSL_CTX *context, BIO *bio)
{
    X509 *certificate = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    if (!certificate)
        return -EINVAL;
    int ok = SSL_CTX_use_certificate(context, certificate);
    X509_free(certificate);
    while (ok == 1 && (certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        ok = SSL_CTX_add0_chain_cert(context, certificate) == 1;
        if (ok != 1)
            X509_free(certificate);
    }
    return ok == 1 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE ? 0 : -EINVAL;
}

static int add_identity(SSL_CTX *context, const struct apitls_settings *s, struct errbuf *e)
{
    BIO *bio = BIO_new_mem_buf(s->cert_pem, -1);
    int rc = bio ? add_chain(context, bio) : -ENOMEM;
    BIO_free(bio);
    if (rc != 0)
        return fail(e, "client certificate: not a certificate in PEM");
    ERR_clear_error();

    bio = BIO_new_mem_buf(s->key_pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    if (!key)
        return fail(e, "client key: not an unencrypted private key in PEM");
    int ok = SSL_CTX_use_PrivateKey(context, key);
    EVP_PKEY_free(key);
    if (ok != 1 || SSL_CTX_check_private_key(context) != 1)
        return fail(e, "client key: does not belong to the client certificate");
    return 0;
}

static int set_verification(SSL_CTX *context, const struct apitls_settings *s, struct errbuf *e)
{
    if (s->insecure) {
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        return 0;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    /* A CA of the bundle that is not self-signed is an anchor too, as Go has it. */
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    int ok = is_ip(s->verify_name) ? X509_VERIFY_PARAM_set1_ip_asc(param, s->verify_name)
                                   : X509_VERIFY_PARAM_set1_host(param, s->verify_name, 0);
    if (ok != 1)
        return fail(e, "server name");
    if (s->ca_pem)
        return add_ca(context, s->ca_pem, e);
    return SSL_CTX_set_default_verify_paths(context) == 1
               ? 0
               : fail(e, "the system's certificate authorities");
}

static int set_protocol(SSL_CTX *context, struct errbuf *e)
{
    /* http/1.1 is offered only to hear of it: a proxy that speaks nothing else chooses it, and we
     * can say so. */
    static const unsigned char alpn[] = "\x02h2\x08http/1.1";
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_alpn_protos(context, alpn, sizeof(alpn) - 1) != 0)
        return fail(e, "TLS");
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* conn.c reads until nothing is left in OpenSSL either, so reading ahead saves a system call
     * for each record. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return 0;
}

int apitls_context_create(const struct apitls_settings *s, SSL_CTX **out, struct errbuf *e)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context)
        return fail(e, "TLS");
    int rc = set_protocol(context, e);
    if (rc == 0)
        rc = set_verification(context, s, e);
    if (rc == 0 && s->cert_pem)
        rc = add_identity(context, s, e);
    if (rc != 0) {
        SSL_CTX_free(context);
        return rc;
    }
    *out = context;
    return 0;
}

SSL *apitls_connection_create(SSL_CTX *context, const char *verify_name)
{
    SSL *ssl = SSL_new(context);
    if (!ssl)
        return NULL;
    if (!is_ip(verify_name) && SSL_set_tlsext_host_name(ssl, verify_name) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

/* ---- the socket ---- */

static BIO_METHOD *socket_method;
static pthread_once_t socket_method_once = PTHREAD_ONCE_INIT;

static int socket_of(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static bool is_transient(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static int socket_write(BIO *bio, const char *data, int size)
{
    BIO_clear_retry_flags(bio);
    ssize_t rc = send(socket_of(bio), data, (size_t)size, MSG_NOSIGNAL);
    if (rc < 0 && is_transient())
        BIO_set_retry_write(bio);
    return (int)rc;
}

static int socket_read(BIO *bio, char *data, int size)
{
    BIO_clear_retry_flags(bio);
    ssize_t rc = recv(socket_of(bio), data, (size_t)size, 0);
    if (rc < 0 && is_transient())
        BIO_set_retry_read(bio);
    else if (rc == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return (int)rc;
}

static long socket_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number, (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1; /* nothing is kept back */
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

static void make_socket_method(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "socket");
    if (method && BIO_meth_set_write(method, socket_write) == 1 &&
        BIO_meth_set_read(method, socket_read) == 1 && BIO_meth_set_ctrl(method, socket_ctrl) == 1)
        socket_method = method; /* for the life of the process */
    else
        BIO_meth_free(method);
}

int apitls_set_socket(SSL *ssl, int fd)
{
    pthread_once(&socket_method_once, make_socket_method);
    BIO *bio = socket_method ? BIO_new(socket_method) : NULL;
    if (!bio)
        return -ENOMEM;
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return 0;
}

/* ---- errors ---- */

static int library_error(const SSL *ssl, struct errbuf *text)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        errbuf_set(text, "the server's certificate: %s", X509_verify_cert_error_string(verdict));
        return -EACCES;
    }
    errbuf_set(text, "TLS: %s", reason ? reason : "unknown error");
    switch (ERR_GET_REASON(code)) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return -ECONNRESET;
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return -EACCES; /* the server does not like ours */
    default:
        return -EPROTO;
    }
}

int apitls_error(const SSL *ssl, int ssl_error, int sys_errno, struct errbuf *text)
{
    int rc = -ECONNRESET;
    if (ssl_error == SSL_ERROR_SSL) {
        rc = library_error(ssl, text);
    } else if (ssl_error == SSL_ERROR_SYSCALL && sys_errno != 0) {
        errbuf_set(text, "%s", strerror(sys_errno));
        rc = -sys_errno;
    } else {
        errbuf_set(text, "closed by the server");
    }
    ERR_clear_error();
    return rc;
}
