/* See tls.h.
 *
 * Idle memory. OpenSSL keeps for each connection the peer's certificate (in the session) and the
 * verified chain, parsed: 8 KB that nobody asks for after the upgrade. The chain is dropped at the
 * end of our verify callback. The session can be dropped only by a detour: SSL_set_session(ssl,
 * NULL) re-initialises the method of a connection whose method is not its context's, which a
 * negotiated connection's never is. So the connection first gets a context that was made with its
 * own method, then one shared, empty session. KeyUpdate, alerts and shutdown need nothing of
 * either; tests hold every OpenSSL we build on to that, and --tls-slim=false turns it off. */
#include "hub/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdlib.h>

/* CloudHub's suites for TLS 1.2, and the same for servers with an RSA key. Those of 1.3 are
 * OpenSSL's default. */
#define TLS12_CIPHERS                                                                              \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"   \
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305"

/* What a peer may make us hold and check of its certificates: EdgeCore sends one, of 700 bytes. */
#define MAX_CHAIN_BYTES (16 * 1024)
#define MAX_CHAIN_DEPTH 4
/* Of a certificate that is not ours: as large as one that we would sign. */
#define MAX_STRANGER_KEY_BITS 4096

struct tls_material {
    _Atomic unsigned refs;
    X509 *certificate;
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
    STACK_OF(X509) * authorities;
};

/* ---- material ---- */

static const char *last_error(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text ? text : "cannot be read";
}

static int fail_file(struct errbuf *e, const char *flag, const char *path, const char *what)
{
    errbuf_set(e, "%s %s: %s", flag, path, what);
    ERR_clear_error();
    return -EINVAL;
}

/* All certificates of a PEM file, in their order. */
static int load_certificates(const char *flag, const char *path, STACK_OF(X509) * *all,
                             struct errbuf *e)
{
    if (!path || !path[0]) {
        errbuf_set(e, "%s is required", flag);
        return -EINVAL;
    }
    BIO *file = BIO_new_file(path, "r");
    if (!file)
        return fail_file(e, flag, path, last_error());
    *all = sk_X509_new_null();
    X509 *one;
    while (*all && (one = PEM_read_bio_X509(file, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_push(*all, one) == 0) {
            X509_free(one);
            break;
        }
    }
    BIO_free(file);
    /* The end of the file is the error "no start line"; anything else is a certificate that is
     * none. */
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (!*all || !at_end || sk_X509_num(*all) == 0)
        return fail_file(e, flag, path, at_end ? "no certificate in it" : last_error());
    ERR_clear_error();
    return 0;
}

static int load_key(const char *path, EVP_PKEY **key, struct errbuf *e)
{
    if (!path || !path[0]) {
        errbuf_set(e, "--tls-key is required");
        return -EINVAL;
    }
    BIO *file = BIO_new_file(path, "r");
    if (!file)
        return fail_file(e, "--tls-key", path, last_error());
    /* An empty pass phrase instead of a prompt. */
    *key = PEM_read_bio_PrivateKey(file, NULL, NULL, (void *)"");
    BIO_free(file);
    return *key ? 0 : fail_file(e, "--tls-key", path, last_error());
}

static int load_all(const struct config *config, struct tls_material *m, struct errbuf *e)
{
    int rc = load_certificates("--tls-ca", config->tls_ca, &m->authorities, e);
    if (rc == 0)
        rc = load_certificates("--tls-cert", config->tls_cert, &m->chain, e);
    if (rc == 0)
        rc = load_key(config->tls_key, &m->key, e);
    if (rc != 0)
        return rc;
    m->certificate = sk_X509_shift(m->chain);
    if (X509_check_private_key(m->certificate, m->key) != 1)
        return fail_file(e, "--tls-key", config->tls_key, "is not the key of --tls-cert");
    return 0;
}

static struct tls_material *material_new(struct errbuf *e)
{
    struct tls_material *m = calloc(1, sizeof(*m));
    if (!m)
        errbuf_set(e, "no memory");
    else
        atomic_init(&m->refs, 1);
    ERR_clear_error();
    return m;
}

int tls_material_load(const struct config *config, struct tls_material **material, struct errbuf *e)
{
    struct tls_material *m = material_new(e);
    if (!m)
        return -ENOMEM;
    int rc = load_all(config, m, e);
    if (rc != 0) {
        tls_material_put(m);
        return rc;
    }
    *material = m;
    return 0;
}

static bool push(STACK_OF(X509) * all, X509 *certificate)
{
    if (X509_up_ref(certificate) != 1)
        return false;
    if (sk_X509_push(all, certificate) > 0)
        return true;
    X509_free(certificate);
    return false;
}

static int adopt(struct tls_material *m, X509 *certificate, EVP_PKEY *key, X509 *authority)
{
    m->chain = sk_X509_new_null();
    m->authorities = sk_X509_new_null();
    if (!m->chain || !m->authorities || !push(m->authorities, authority))
        return -ENOMEM;
    if (X509_check_private_key(certificate, key) != 1)
        return -EINVAL;
    X509_up_ref(certificate);
    EVP_PKEY_up_ref(key);
    m->certificate = certificate;
    m->key = key;
    return 0;
}

int tls_material_create(X509 *certificate, EVP_PKEY *key, X509 *authority,
                        struct tls_material **material, struct errbuf *e)
{
    struct tls_material *m = material_new(e);
    if (!m)
        return -ENOMEM;
    int rc = adopt(m, certificate, key, authority);
    if (rc != 0) {
        errbuf_set(e, rc == -EINVAL ? "the key is not the certificate's" : "no memory");
        ERR_clear_error();
        tls_material_put(m);
        return rc;
    }
    *material = m;
    return 0;
}

int tls_material_authority_der(const struct tls_material *m, unsigned char **der)
{
    *der = NULL;
    int size = i2d_X509(sk_X509_value(m->authorities, 0), der);
    return size > 0 ? size : -ENOMEM;
}

struct tls_material *tls_material_get(struct tls_material *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void tls_material_put(struct tls_material *m)
{
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    X509_free(m->certificate);
    sk_X509_pop_free(m->chain, X509_free);
    sk_X509_pop_free(m->authorities, X509_free);
    EVP_PKEY_free(m->key);
    free(m);
}

bool tls_material_is_like(const struct tls_material *a, const struct tls_material *b)
{
    return EVP_PKEY_get_base_id(a->key) == EVP_PKEY_get_base_id(b->key);
}

/* ---- server contexts ---- */

int tls_context_replace(SSL_CTX *context, struct tls_material *m)
{
    X509_STORE *store = X509_STORE_new();
    if (!store)
        return -ENOMEM;
    for (int i = 0; i < sk_X509_num(m->authorities); i++) {
        if (X509_STORE_add_cert(store, sk_X509_value(m->authorities, i)) != 1) {
            X509_STORE_free(store);
            return -ENOMEM;
        }
    }
    if (SSL_CTX_use_cert_and_key(context, m->certificate, m->key, m->chain, 1) != 1) {
        X509_STORE_free(store);
        return -EINVAL;
    }
    SSL_CTX_set_cert_store(context, store); /* takes it */
    return 0;
}

/* The ordinary verification; the result stays, the chain goes. */
static int verify_and_forget(X509_STORE_CTX *verification, void *unused)
{
    (void)unused;
    int ok = X509_verify_cert(verification);
    X509_STORE_CTX_set0_verified_chain(verification, NULL);
    return ok;
}

/* The same; who shows nothing, or something else, is let in too, and the result says so. The proof
 * that a client has its certificate's key comes next, at a price that the key's size sets. */
static int verify_and_report(X509_STORE_CTX *verification, void *unused)
{
    if (verify_and_forget(verification, unused) == 1)
        return 1;
    const EVP_PKEY *key = X509_get0_pubkey(X509_STORE_CTX_get0_cert(verification));
    return key && EVP_PKEY_get_bits(key) <= MAX_STRANGER_KEY_BITS;
}

int tls_context_configure(SSL_CTX *context, struct tls_material *m)
{
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(context, MAX_CHAIN_BYTES);
    SSL_CTX_set_verify_depth(context, MAX_CHAIN_DEPTH);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(context, verify_and_forget, NULL);
    /* One virtual host: no choosing by server name. */
    SSL_CTX_set_tlsext_servername_callback(context, NULL);
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(context, TLS12_CIPHERS) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1)
        return -EINVAL;
    return tls_context_replace(context, m);
}

int tls_context_configure_open(SSL_CTX *context, struct tls_material *m)
{
    int rc = tls_context_configure(context, m);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(context, verify_and_report, NULL);
    return rc;
}

/* ---- after the handshake ---- */

/* A context made with the connection's own method: one for each version. */
static SSL_CTX *slim_context(struct tls_slimmer *s, const SSL_METHOD *method)
{
    for (size_t i = 0; i < sizeof(s->contexts) / sizeof(s->contexts[0]); i++) {
        if (!s->contexts[i]) {
            s->contexts[i] = SSL_CTX_new(method);
            return s->contexts[i];
        }
        if (SSL_CTX_get_ssl_method(s->contexts[i]) == method)
            return s->contexts[i];
    }
    return NULL;
}

void tls_slim(struct tls_slimmer *s, SSL *ssl)
{
    if (!s->empty)
        s->empty = SSL_SESSION_new();
    SSL_CTX *context = slim_context(s, SSL_get_ssl_method(ssl));
    if (s->empty && context && SSL_set_SSL_CTX(ssl, context) == context)
        (void)SSL_set_session(ssl, s->empty);
    ERR_clear_error();
}

void tls_slimmer_fini(struct tls_slimmer *s)
{
    for (size_t i = 0; i < sizeof(s->contexts) / sizeof(s->contexts[0]); i++)
        SSL_CTX_free(s->contexts[i]);
    SSL_SESSION_free(s->empty);
    *s = (struct tls_slimmer){.empty = NULL};
}

const char *tls_failure(const SSL *ssl, int where, int ret, bool *peer_left)
{
    *peer_left = false;
    if ((where & SSL_CB_ACCEPT_EXIT) != SSL_CB_ACCEPT_EXIT || ret > 0)
        return NULL;
    unsigned long error = ERR_peek_last_error();
    if (error == 0)
        return NULL; /* it only waits for more, or the socket says it all */
    int reason = ERR_GET_REASON(error);
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        *peer_left = true;
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return X509_verify_cert_error_string(SSL_get_verify_result(ssl));
    const char *text = ERR_reason_error_string(error);
    return text ? text : "unknown error";
}
