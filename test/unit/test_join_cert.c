/* Certificates: the same, part for part, as KubeEdge's own code made (test/vectors/join); what is
 * stored is checked. */
#include "hub/join_cert.h"
#include "hub/join_token.h"
#include "test/lib/heap.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NOW 1795837082 /* when the vectors were made */

static void read_vector(const char *name, struct secret_bytes *bytes)
{
    char path[256];
    unsigned char buffer[4096];
    snprintf(path, sizeof(path), "test/vectors/join/%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(buffer, 1, sizeof(buffer), file);
    fclose(file);
    assert_int_equal(0, secret_bytes_copy(bytes, buffer, size));
}

static void load(struct join_pair *pair, const char *certificate, const char *key)
{
    struct secret_bytes certificate_der, key_der;
    struct errbuf e = {{0}};
    read_vector(certificate, &certificate_der);
    read_vector(key, &key_der);
    assert_int_equal(0, join_pair_parse(pair, &certificate_der, &key_der, &e));
    assert_null(certificate_der.at);
}

static X509 *load_certificate(const char *name)
{
    struct secret_bytes der;
    read_vector(name, &der);
    const unsigned char *at = der.at;
    X509 *certificate = d2i_X509(NULL, &at, (long)der.size);
    assert_non_null(certificate);
    secret_bytes_free(&der);
    return certificate;
}

/* ---- the same as KubeEdge's ---- */

static void assert_same_name(const X509_NAME *a, const X509_NAME *b)
{
    const unsigned char *a_der, *b_der;
    size_t a_size, b_size;
    assert_int_equal(1, X509_NAME_get0_der((X509_NAME *)(uintptr_t)a, &a_der, &a_size));
    assert_int_equal(1, X509_NAME_get0_der((X509_NAME *)(uintptr_t)b, &b_der, &b_size));
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a_der, b_der, a_size);
}

/* Everything but the serial number, the key and what follows from the key. */
static void assert_same(X509 *ours, X509 *theirs)
{
    assert_int_equal(X509_get_version(theirs), X509_get_version(ours));
    assert_same_name(X509_get_subject_name(theirs), X509_get_subject_name(ours));
    assert_same_name(X509_get_issuer_name(theirs), X509_get_issuer_name(ours));
    assert_int_equal(0, ASN1_STRING_cmp(X509_get0_notBefore(theirs), X509_get0_notBefore(ours)));
    assert_int_equal(0, ASN1_STRING_cmp(X509_get0_notAfter(theirs), X509_get0_notAfter(ours)));
    assert_int_equal(X509_get_signature_nid(theirs), X509_get_signature_nid(ours));
    assert_int_equal(X509_get_ext_count(theirs), X509_get_ext_count(ours));
    for (int i = 0; i < X509_get_ext_count(theirs); i++) {
        X509_EXTENSION *a = X509_get_ext(theirs, i), *b = X509_get_ext(ours, i);
        assert_int_equal(0, OBJ_cmp(X509_EXTENSION_get_object(a), X509_EXTENSION_get_object(b)));
        assert_int_equal(X509_EXTENSION_get_critical(a), X509_EXTENSION_get_critical(b));
        if (OBJ_obj2nid(X509_EXTENSION_get_object(a)) == NID_subject_key_identifier)
            assert_int_equal(ASN1_STRING_length(X509_EXTENSION_get_data(a)),
                             ASN1_STRING_length(X509_EXTENSION_get_data(b)));
        else
            assert_int_equal(
                0, ASN1_STRING_cmp(X509_EXTENSION_get_data(a), X509_EXTENSION_get_data(b)));
    }
}

static void test_same_ca(void **state)
{
    struct join_pair ours, theirs;
    struct errbuf e = {{0}};
    uint64_t serial = 0;
    (void)state;
    load(&theirs, "ca.der", "ca.key.der");
    assert_int_equal(0, join_make_ca(NOW, &ours, &e));
    assert_same(ours.certificate, theirs.certificate);
    assert_int_equal(1, ASN1_INTEGER_get_uint64(&serial, X509_get0_serialNumber(ours.certificate)));
    assert_int_equal(1024, serial);
    /* SEC1 with the curve and the public point: all but the two numbers are the same. */
    assert_int_equal(theirs.key_der.size, ours.key_der.size);
    assert_memory_equal(theirs.key_der.at, ours.key_der.at, 7);
    assert_memory_equal(theirs.key_der.at + 39, ours.key_der.at + 39, 18);
    assert_int_equal(0, join_check_ca(&ours, NOW, &e));
    assert_int_equal(0, join_check_ca(&theirs, NOW, &e));
    assert_int_equal(-EINVAL, join_check_ca(&theirs, NOW + 36400LL * 86400, &e));
    join_pair_free(&ours);
    join_pair_free(&theirs);
}

static void test_same_server(void **state)
{
    const struct option_list dns = {{"", "hub.example.com"}, 2}, addresses = {{"192.0.2.1"}, 1};
    struct join_pair ca, ours, theirs;
    struct errbuf e = {{0}};
    (void)state;
    load(&ca, "ca.der", "ca.key.der");
    load(&theirs, "server.der", "server.key.der");
    GENERAL_NAMES *names = join_names_create(&dns, &addresses, &e);
    assert_non_null(names);
    assert_int_equal(0, join_make_server(&ca, names, NULL, NOW, &ours, &e));
    assert_same(ours.certificate, theirs.certificate);
    assert_int_equal(0, join_check_server(&ca, &ours, NOW, &e));
    assert_int_equal(0, join_check_server(&ca, &theirs, NOW, &e));
    assert_int_equal(-EINVAL, join_check_server(&ca, &theirs, NOW + 36400LL * 86400, &e));
    /* A CA is not its own server. */
    assert_int_equal(-EINVAL, join_check_server(&theirs, &ours, NOW, &e));
    assert_non_null(strstr(e.text, "not signed by the CA"));
    GENERAL_NAMES_free(names);
    join_pair_free(&ca);
    join_pair_free(&ours);
    join_pair_free(&theirs);
}

static void test_same_node(void **state)
{
    struct join_pair ca;
    unsigned char *der;
    char serial[JOIN_SERIAL_BYTES];
    (void)state;
    load(&ca, "ca.der", "ca.key.der");
    X509 *theirs = load_certificate("edge-1.der");
    int size =
        join_make_node(&ca, "edge-1", X509_get0_pubkey(theirs), NOW, 365 * 86400, &der, serial);
    assert_true(size > 0);
    const unsigned char *at = der;
    X509 *ours = d2i_X509(NULL, &at, size);
    assert_ptr_equal(der + size, at);
    assert_same(ours, theirs);
    assert_int_equal(1, EVP_PKEY_eq(X509_get0_pubkey(ours), X509_get0_pubkey(theirs)));
    assert_int_equal(1, X509_verify(ours, ca.key));
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(ours), NULL), *logged = NULL;
    BN_hex2bn(&logged, serial);
    assert_int_equal(0, BN_cmp(number, logged));
    assert_true(BN_num_bits(number) <= 63);
    BN_free(number);
    BN_free(logged);
    X509_free(ours);
    X509_free(theirs);
    OPENSSL_free(der);
    join_pair_free(&ca);
}

/* X.520 wants a common name of 64 characters at most; a node's name may have 253, and Go does not
 * mind. */
static void test_longest_node_name(void **state)
{
    struct join_pair ca;
    unsigned char *der;
    char serial[JOIN_SERIAL_BYTES], node[254], common_name[300];
    (void)state;
    memset(node, 'n', 253);
    node[253] = '\0';
    load(&ca, "ca.der", "ca.key.der");
    int size = join_make_node(&ca, node, ca.key, NOW, 60, &der, serial);
    assert_true(size > 0);
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, size);
    assert_int_equal(265,
                     X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                               common_name, sizeof(common_name)));
    X509_free(certificate);
    OPENSSL_free(der);
    join_pair_free(&ca);
}

static void test_their_token(void **state)
{
    struct join_pair ca;
    struct secret_bytes token;
    (void)state;
    load(&ca, "ca.der", "ca.key.der");
    read_vector("token.txt", &token);
    assert_true(
        join_token_is_good((char *)token.at, token.size, &ca.certificate_der, &ca.key_der, NOW, 0));
    assert_false(join_token_is_good((char *)token.at, token.size, &ca.certificate_der, &ca.key_der,
                                    2426557082, 0));
    char *ours;
    assert_int_equal(0, join_token_create(&ca.certificate_der, &ca.key_der, 2426557082, &ours));
    assert_int_equal(token.size, strlen(ours));
    assert_memory_equal(token.at, ours, token.size);
    secret_text_free(ours);
    secret_bytes_free(&token);
    join_pair_free(&ca);
}

/* ---- names ---- */

static GENERAL_NAMES *names_of(const char *dns, const char *address)
{
    const struct option_list dns_list = {{dns}, dns != NULL},
                             address_list = {{address}, address != NULL};
    struct errbuf e = {{0}};
    return join_names_create(&dns_list, &address_list, &e);
}

static void assert_missing(X509 *certificate, const char *dns, const char *address,
                           const char *expected)
{
    char missing[300] = "";
    GENERAL_NAMES *names = names_of(dns, address);
    assert_non_null(names);
    bool is_missing = join_names_missing(certificate, names, missing, sizeof(missing));
    GENERAL_NAMES_free(names);
    assert_int_equal(expected != NULL, is_missing);
    if (expected)
        assert_string_equal(expected, missing);
}

static void test_missing_names(void **state)
{
    struct join_pair ca, server;
    struct errbuf e = {{0}};
    (void)state;
    X509 *theirs = load_certificate("server.der");
    assert_missing(theirs, "hub.example.com", "192.0.2.1", NULL);
    assert_missing(theirs, "HUB.example.com", NULL, NULL);
    assert_missing(theirs, NULL, "hub.example.com", NULL);
    assert_missing(theirs, "", NULL, NULL);
    assert_missing(theirs, "other.example.com", "192.0.2.1", "other.example.com");
    assert_missing(theirs, "hub.example.com", "192.0.2.2", "192.0.2.2");
    assert_missing(theirs, NULL, "2001:db8::1", "2001:db8::1");
    assert_missing(theirs, "*.example.com", NULL, "*.example.com");

    /* Renewed: what was there stays. */
    load(&ca, "ca.der", "ca.key.der");
    GENERAL_NAMES *names = names_of("*.example.com", "2001:db8::1");
    assert_int_equal(0, join_make_server(&ca, names, theirs, NOW, &server, &e));
    GENERAL_NAMES_free(names);
    assert_missing(server.certificate, "hub.example.com", "192.0.2.1", NULL);
    assert_missing(server.certificate, "other.example.com", "2001:db8::1", NULL);
    assert_missing(server.certificate, "*.example.com", NULL, NULL);
    GENERAL_NAMES *all = X509_get_ext_d2i(server.certificate, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(4, sk_GENERAL_NAME_num(all));
    GENERAL_NAMES_free(all);
    join_pair_free(&server);

    /* Again with the same: nothing twice. */
    names = names_of("hub.example.com", "192.0.2.1");
    assert_int_equal(0, join_make_server(&ca, names, theirs, NOW, &server, &e));
    GENERAL_NAMES_free(names);
    all = X509_get_ext_d2i(server.certificate, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(2, sk_GENERAL_NAME_num(all));
    GENERAL_NAMES_free(all);
    join_pair_free(&server);
    join_pair_free(&ca);
    X509_free(theirs);
}

static void test_what_is_no_name(void **state)
{
    (void)state;
    assert_null(names_of("a b", NULL));
    assert_null(names_of(".", NULL));
    assert_null(names_of("*", NULL));
    assert_null(names_of("*.", NULL));
    assert_null(names_of(NULL, "[::1]"));
    assert_null(names_of(NULL, "192.0.2.1:10000"));
}

/* ---- what is stored may be anything ---- */

static int parse(const struct secret_bytes *certificate, const struct secret_bytes *key)
{
    struct secret_bytes certificate_der, key_der;
    struct join_pair pair;
    struct errbuf e = {{0}};
    assert_int_equal(0, secret_bytes_copy(&certificate_der, certificate->at, certificate->size));
    assert_int_equal(0, secret_bytes_copy(&key_der, key->at, key->size));
    int rc = join_pair_parse(&pair, &certificate_der, &key_der, &e);
    if (rc == 0)
        join_pair_free(&pair);
    else
        assert_true(e.text[0] != '\0');
    assert_null(key_der.at);
    return rc;
}

static void test_broken_pairs(void **state)
{
    struct secret_bytes certificate, key, other;
    (void)state;
    read_vector("ca.der", &certificate);
    read_vector("ca.key.der", &key);
    read_vector("server.key.der", &other);
    assert_int_equal(0, parse(&certificate, &key));
    assert_int_equal(-EINVAL, parse(&certificate, &other));
    assert_int_equal(-EINVAL, parse(&key, &certificate));
    assert_int_equal(-EINVAL, parse(&(struct secret_bytes){key.at, 0}, &key));
    for (size_t size = 0; size < key.size; size++)
        assert_int_equal(-EINVAL, parse(&certificate, &(struct secret_bytes){key.at, size}));
    for (size_t size = 0; size < certificate.size; size++)
        assert_int_equal(-EINVAL, parse(&(struct secret_bytes){certificate.at, size}, &key));
    struct secret_bytes longer = {malloc(certificate.size + 1), certificate.size + 1};
    memcpy(longer.at, certificate.at, certificate.size);
    longer.at[certificate.size] = 0;
    assert_int_equal(-EINVAL, parse(&longer, &key));
    secret_bytes_free(&longer);
    secret_bytes_free(&certificate);
    secret_bytes_free(&key);
    secret_bytes_free(&other);
}

static void test_a_server_is_no_ca(void **state)
{
    struct join_pair server;
    struct errbuf e = {{0}};
    (void)state;
    load(&server, "server.der", "server.key.der");
    assert_int_equal(-EINVAL, join_check_ca(&server, NOW, &e));
    assert_string_equal("the certificate is not a CA's", e.text);
    join_pair_free(&server);
}

static void test_without_memory(void **state)
{
    struct join_pair ca, made;
    struct errbuf e = {{0}};
    (void)state;
    load(&ca, "ca.der", "ca.key.der");
    for (unsigned n = 1;; n++) {
        heap_fail_nth(n);
        int rc = join_make_ca(NOW, &made, &e);
        if (!heap_fail_end()) {
            assert_int_equal(0, rc);
            join_pair_free(&made);
            break;
        }
        assert_int_equal(-ENOMEM, rc);
    }
    join_pair_free(&ca);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_ca),           cmocka_unit_test(test_same_server),
        cmocka_unit_test(test_same_node),         cmocka_unit_test(test_longest_node_name),
        cmocka_unit_test(test_their_token),       cmocka_unit_test(test_missing_names),
        cmocka_unit_test(test_what_is_no_name),   cmocka_unit_test(test_broken_pairs),
        cmocka_unit_test(test_a_server_is_no_ca), cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
