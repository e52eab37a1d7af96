/* TLS of the edge side against an OpenSSL client in memory: who gets in, what the settings promise,
 * and that a connection that was slimmed after its handshake lives on as any other does (echo,
 * KeyUpdate, shutdown), in TLS 1.2 and 1.3. That trick leans on the inside of OpenSSL: this is its
 * fence on every version we build with. */
#include "hub/tls.h"

#include "test/lib/heap.h"
#include "test/lib/testcert.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- files ---- */

static char directory[] = "/tmp/test_hub_tls.XXXXXX";
static struct testcert ca, other_ca, server, other_server, node, stranger;

static char *path_of(const char *name, char *path, size_t room)
{
    snprintf(path, room, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    FILE *f = fopen(path_of(name, path, sizeof(path)), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

struct paths {
    char ca[128], cert[128], key[128];
    struct config config;
};

static const struct config *files(struct paths *p, const char *ca_name, const char *cert,
                                  const char *key)
{
    p->config = (struct config){.tls_ca = path_of(ca_name, p->ca, sizeof(p->ca)),
                                .tls_cert = path_of(cert, p->cert, sizeof(p->cert)),
                                .tls_key = path_of(key, p->key, sizeof(p->key))};
    return &p->config;
}

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    testcert_make(&ca, "ca", NULL);
    testcert_make(&other_ca, "other ca", NULL);
    testcert_make(&server, "hub", &ca);
    testcert_make(&other_server, "hub two", &ca);
    testcert_make(&node, "system:node:edge-1", &ca);
    testcert_make(&stranger, "system:node:edge-1", &other_ca);
    write_file("ca", ca.cert_pem);
    write_file("cert", server.cert_pem);
    write_file("key", server.key_pem);
    write_file("cert2", other_server.cert_pem);
    write_file("key2", other_server.key_pem);
    write_file("nothing", "no PEM at all\n");
    return 0;
}

static int remove_files(void **state)
{
    static const char *const names[] = {"ca", "cert", "key", "cert2", "key2", "nothing", "broken"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(path_of(names[i], path, sizeof(path)));
    rmdir(directory);
    testcert_fini(&ca), testcert_fini(&other_ca), testcert_fini(&server);
    testcert_fini(&other_server), testcert_fini(&node), testcert_fini(&stranger);
    return 0;
}

static void refused_material(const char *ca_name, const char *cert, const char *key,
                             const char *says)
{
    struct paths p;
    struct errbuf e = {{0}};
    struct tls_material *m;
    assert_int_equal(-EINVAL, tls_material_load(files(&p, ca_name, cert, key), &m, &e));
    assert_non_null(strstr(e.text, says));
    assert_int_equal(0, ERR_peek_error()); /* nothing left for the next handshake to trip over */
}

static void test_files_that_cannot_be_used(void **state)
{
    (void)state;
    refused_material("missing", "cert", "key", "--tls-ca");
    refused_material("ca", "missing", "key", "--tls-cert");
    refused_material("ca", "cert", "missing", "--tls-key");
    refused_material("nothing", "cert", "key", "no certificate in it");
    refused_material("ca", "cert", "nothing", "--tls-key");
    refused_material("ca", "cert", "key2", "is not the key of --tls-cert");
    char text[4096];
    snprintf(text, sizeof(text), "%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
             ca.cert_pem);
    write_file("broken", text); /* a good one, then a bad one */
    refused_material("broken", "cert", "key", "--tls-ca");
}

/* ---- a connection in memory ---- */

struct pair {
    SSL_CTX *server_context, *client_context;
    SSL *server, *client;
};

static SSL_CTX *new_server(const char *cert, const char *key)
{
    struct paths p;
    struct errbuf e;
    struct tls_material *m;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(0, tls_material_load(files(&p, "ca", cert, key), &m, &e));
    assert_int_equal(0, tls_context_configure(context, m));
    tls_material_put(m);
    return context;
}

static SSL_CTX *new_client(const struct testcert *cert, int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    if (cert) {
        BIO *bio = BIO_new_mem_buf(cert->cert_pem, -1);
        X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        BIO_free(bio);
        bio = BIO_new_mem_buf(cert->key_pem, -1);
        EVP_PKEY *k = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        BIO_free(bio);
        assert_int_equal(1, SSL_CTX_use_certificate(context, x));
        assert_int_equal(1, SSL_CTX_use_PrivateKey(context, k));
        X509_free(x);
        EVP_PKEY_free(k);
    }
    return context;
}

static void connect_pair(struct pair *p, SSL_CTX *server_context, SSL_CTX *client_context)
{
    BIO *a, *b;
    *p = (struct pair){.server_context = server_context, .client_context = client_context};
    p->server = SSL_new(server_context);
    p->client = SSL_new(client_context);
    assert_int_equal(1, BIO_new_bio_pair(&a, 0, &b, 0));
    SSL_set_bio(p->server, a, a);
    SSL_set_bio(p->client, b, b);
    SSL_set_accept_state(p->server);
    SSL_set_connect_state(p->client);
}

static void end_pair(struct pair *p)
{
    SSL_free(p->server);
    SSL_free(p->client);
    SSL_CTX_free(p->server_context);
    SSL_CTX_free(p->client_context);
    ERR_clear_error();
}

/* Whether the server takes the client in. */
static bool shake_hands(struct pair *p)
{
    for (int i = 0; i < 20; i++) {
        int client = SSL_do_handshake(p->client);
        int server_rc = SSL_do_handshake(p->server);
        if (client == 1 && server_rc == 1)
            return true;
        if (SSL_get_error(p->server, server_rc) == SSL_ERROR_SSL)
            return false;
    }
    return false;
}

static void carry(SSL *from, SSL *to, const char *text)
{
    char buffer[20000];
    size_t size = strlen(text), got = 0;
    assert_int_equal((int)size, SSL_write(from, text, (int)size));
    while (got < size) {
        int n = SSL_read(to, buffer + got, (int)(sizeof(buffer) - got));
        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_memory_equal(buffer, text, size);
}

static bool takes(const struct testcert *cert, int version)
{
    struct pair p;
    connect_pair(&p, new_server("cert", "key"), new_client(cert, version));
    bool is_in = shake_hands(&p);
    end_pair(&p);
    return is_in;
}

static void test_who_gets_in(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_true(takes(&node, versions[i]));
        assert_false(takes(&stranger, versions[i])); /* the right name, from a foreign CA */
        assert_false(takes(NULL, versions[i]));
    }
    assert_false(takes(&node, TLS1_1_VERSION));
}

/* Of the files, for anybody. */
static SSL_CTX *new_open_server(void)
{
    struct paths p;
    struct errbuf e;
    struct tls_material *m;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(0, tls_material_load(files(&p, "ca", "cert", "key"), &m, &e));
    assert_int_equal(0, tls_context_configure_open(context, m));
    tls_material_put(m);
    return context;
}

/* Where anybody may ask, but what is shown counts only for what it is. */
static void let_in(const struct testcert *cert, int version, bool is_verified)
{
    struct pair pair;
    connect_pair(&pair, new_open_server(), new_client(cert, version));
    assert_true(shake_hands(&pair));
    assert_int_equal(cert != NULL, SSL_get0_peer_certificate(pair.server) != NULL);
    if (cert)
        assert_int_equal(is_verified, SSL_get_verify_result(pair.server) == X509_V_OK);
    end_pair(&pair);
}

static void test_an_open_door_tells_who_comes(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        let_in(&node, versions[i], true);
        let_in(&stranger, versions[i], false);
        let_in(NULL, versions[i], false);
    }
}

/* From many primes, or making it would take a minute. */
static EVP_PKEY *huge_key(void)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
    assert_int_equal(1, EVP_PKEY_keygen_init(maker));
    assert_int_equal(1, EVP_PKEY_CTX_set_rsa_keygen_bits(maker, 8192));
    assert_int_equal(1, EVP_PKEY_CTX_set_rsa_keygen_primes(maker, 5));
    assert_int_equal(1, EVP_PKEY_keygen(maker, &key));
    EVP_PKEY_CTX_free(maker);
    return key;
}

/* To check what it signs would be a burden that costs the peer nothing. */
static void test_a_strangers_huge_key_stays_outside(void **state)
{
    struct pair p;
    SSL_CTX *client = new_client(NULL, TLS1_3_VERSION);
    EVP_PKEY *key = huge_key();
    X509 *x = X509_new();
    (void)state;
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    assert_int_equal(1, X509_set_pubkey(x, key));
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    assert_int_equal(1, SSL_CTX_use_certificate(client, x));
    assert_int_equal(1, SSL_CTX_use_PrivateKey(client, key));
    connect_pair(&p, new_open_server(), client);
    assert_false(shake_hands(&p));
    assert_int_not_equal(X509_V_OK, SSL_get_verify_result(p.server));
    end_pair(&p);
    X509_free(x);
    EVP_PKEY_free(key);
}

static X509 *certificate_of(const struct testcert *cert, EVP_PKEY **key)
{
    BIO *bio = BIO_new_mem_buf(cert->cert_pem, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(cert->key_pem, -1);
    *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return x;
}

static void test_material_from_memory(void **state)
{
    struct errbuf e = {{0}};
    struct tls_material *m;
    struct pair pair;
    EVP_PKEY *key, *ca_key, *other_key;
    unsigned char *der, *expected = NULL;
    X509 *x = certificate_of(&server, &key), *authority = certificate_of(&ca, &ca_key),
         *other = certificate_of(&other_server, &other_key);
    (void)state;
    assert_int_equal(-EINVAL, tls_material_create(x, other_key, authority, &m, &e));
    assert_string_equal("the key is not the certificate's", e.text);
    assert_int_equal(0, ERR_peek_error());
    for (unsigned n = 1;; n++) {
        heap_fail_nth(n);
        int rc = tls_material_create(x, key, authority, &m, &e);
        if (!heap_fail_end()) {
            assert_int_equal(0, rc);
            break;
        }
        assert_int_equal(-ENOMEM, rc);
    }
    int size = tls_material_authority_der(m, &der);
    assert_int_equal(size, i2d_X509(authority, &expected));
    assert_memory_equal(expected, der, (size_t)size);
    OPENSSL_free(expected);
    OPENSSL_free(der);
    /* It keeps what it needs. */
    X509_free(x), X509_free(authority), X509_free(other);
    EVP_PKEY_free(key), EVP_PKEY_free(ca_key), EVP_PKEY_free(other_key);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(0, tls_context_configure(context, m));
    tls_material_put(m);
    connect_pair(&pair, context, new_client(&node, TLS1_3_VERSION));
    assert_true(shake_hands(&pair));
    end_pair(&pair);
}

static const char *failure_text;
static bool failure_peer_left;

static void remember_failure(const SSL *ssl, int where, int ret)
{
    bool peer_left;
    const char *text = tls_failure(ssl, where, ret, &peer_left);
    if (text) {
        failure_text = text;
        failure_peer_left = peer_left;
    }
}

static const char *why_not(const struct testcert *cert)
{
    struct pair p;
    failure_text = NULL;
    connect_pair(&p, new_server("cert", "key"), new_client(cert, TLS1_3_VERSION));
    SSL_CTX_set_info_callback(p.server_context, remember_failure);
    SSL_set_info_callback(p.server, remember_failure);
    shake_hands(&p);
    end_pair(&p);
    return failure_text;
}

static void test_failures_have_a_reason(void **state)
{
    (void)state;
    assert_null(why_not(&node));
    assert_string_equal("peer did not return a certificate", why_not(NULL));
    assert_non_null(strstr(why_not(&stranger), "issuer"));
    assert_false(failure_peer_left);
}

static void test_nothing_is_kept_to_resume(void **state)
{
    struct pair p;
    (void)state;
    connect_pair(&p, new_server("cert", "key"), new_client(&node, TLS1_2_VERSION));
    assert_true(shake_hands(&p));
    SSL_SESSION *session = SSL_get1_session(p.client);
    assert_int_equal(0, SSL_SESSION_has_ticket(session));
    unsigned size = 0;
    SSL_SESSION_get_id(session, &size);
    assert_int_equal(0, size);
    assert_null(SSL_get0_verified_chain(p.server)); /* dropped by the verify callback */
    assert_non_null(SSL_get0_peer_certificate(p.server));
    SSL_SESSION_free(session);
    end_pair(&p);
}

/* ---- after the handshake ---- */

static void converse(struct pair *p)
{
    char large[16001];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    carry(p->client, p->server, "keepalive");
    carry(p->server, p->client, "answer");
    carry(p->client, p->server, large);
    carry(p->server, p->client, large);
}

static void update_keys(SSL *from, SSL *to)
{
    assert_int_equal(1, SSL_key_update(from, SSL_KEY_UPDATE_REQUESTED));
    carry(from, to, "with new keys");
    carry(to, from, "with new keys too");
}

static void slim_and_use(int version)
{
    struct tls_slimmer slimmer = {.empty = NULL};
    struct pair p;
    connect_pair(&p, new_server("cert", "key"), new_client(&node, version));
    assert_true(shake_hands(&p));
    assert_int_equal(version, SSL_version(p.server));
    tls_slim(&slimmer, p.server);
    assert_null(
        SSL_get0_peer_certificate(p.server)); /* it is gone, else there is nothing to test */
    assert_ptr_not_equal(SSL_get_SSL_CTX(p.server), p.server_context);
    assert_int_equal(version, SSL_version(p.server));
    assert_true(SSL_is_init_finished(p.server));
    converse(&p);
    if (version == TLS1_3_VERSION) {
        for (int i = 0; i < 5; i++) {
            update_keys(p.client, p.server);
            update_keys(p.server, p.client);
        }
    } else {
        assert_true(SSL_renegotiate(p.client) == 1);
        assert_true(SSL_do_handshake(p.client) <= 0); /* the server is asked */
        char byte;
        assert_true(SSL_read(p.server, &byte, 1) <= 0); /* and refuses */
    }
    if (version == TLS1_3_VERSION) {
        converse(&p);
        SSL_shutdown(p.client);
        char byte;
        assert_int_equal(0, SSL_read(p.server, &byte, 1));
        assert_int_equal(SSL_ERROR_ZERO_RETURN, SSL_get_error(p.server, 0));
        assert_int_equal(1, SSL_shutdown(p.server));
    }
    end_pair(&p);
    tls_slimmer_fini(&slimmer);
}

static void test_slim_connections_live_on(void **state)
{
    (void)state;
    slim_and_use(TLS1_3_VERSION);
    slim_and_use(TLS1_2_VERSION);
}

static void test_one_slimmer_for_all(void **state)
{
    struct tls_slimmer slimmer = {.empty = NULL};
    struct pair pairs[6];
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        connect_pair(&pairs[i], new_server("cert", "key"),
                     new_client(&node, i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION));
        assert_true(shake_hands(&pairs[i]));
        tls_slim(&slimmer, pairs[i].server);
    }
    /* one that ends badly does not take the shared session with it */
    SSL_free(pairs[0].client);
    pairs[0].client = NULL;
    char byte;
    assert_true(SSL_read(pairs[0].server, &byte, 1) <= 0);
    ERR_clear_error();
    for (size_t i = 1; i < 6; i++)
        converse(&pairs[i]);
    for (size_t i = 0; i < 6; i++)
        end_pair(&pairs[i]);
    tls_slimmer_fini(&slimmer);
}

/* ---- reload ---- */

static void server_is(struct pair *p, const struct testcert *expected)
{
    BIO *bio = BIO_new_mem_buf(expected->cert_pem, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_true(shake_hands(p));
    assert_int_equal(0, X509_cmp(x, SSL_get0_peer_certificate(p->client)));
    X509_free(x);
}

static void test_new_material_for_new_connections(void **state)
{
    struct paths files_of;
    struct errbuf e;
    struct tls_material *fresh, *old;
    struct pair before, after;
    (void)state;
    SSL_CTX *context = new_server("cert", "key");
    SSL_CTX_up_ref(context);
    connect_pair(&before, context, new_client(&node, TLS1_3_VERSION));
    server_is(&before, &server);
    assert_int_equal(0, tls_material_load(files(&files_of, "ca", "cert2", "key2"), &fresh, &e));
    assert_int_equal(0, tls_material_load(files(&files_of, "ca", "cert", "key"), &old, &e));
    assert_true(tls_material_is_like(fresh, old));
    assert_int_equal(0, tls_context_replace(context, fresh));
    tls_material_put(fresh);
    tls_material_put(old);
    connect_pair(&after, context, new_client(&node, TLS1_3_VERSION));
    server_is(&after, &other_server);
    converse(&before);
    end_pair(&before);
    end_pair(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_that_cannot_be_used),
        cmocka_unit_test(test_who_gets_in),
        cmocka_unit_test(test_an_open_door_tells_who_comes),
        cmocka_unit_test(test_a_strangers_huge_key_stays_outside),
        cmocka_unit_test(test_material_from_memory),
        cmocka_unit_test(test_failures_have_a_reason),
        cmocka_unit_test(test_nothing_is_kept_to_resume),
        cmocka_unit_test(test_slim_connections_live_on),
        cmocka_unit_test(test_one_slimmer_for_all),
        cmocka_unit_test(test_new_material_for_new_connections),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
