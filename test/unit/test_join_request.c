/* Who may have which certificate: credentials, certificate requests as EdgeCore sends them
 * (test/vectors/join) and every way to send others, and whether a lease is fresh. */
#include "hub/join_cert.h"
#include "hub/join_request.h"
#include "hub/join_token.h"
#include "test/lib/heap.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NOW 1795837082

static struct join_pair ca;

static int make_ca(void **state)
{
    struct errbuf e = {{0}};
    (void)state;
    return join_make_ca(NOW, &ca, &e);
}

static int free_ca(void **state)
{
    (void)state;
    join_pair_free(&ca);
    return 0;
}

/* ---- credentials ---- */

static enum join_result with_token(const char *prefix, int64_t expires_s, const char *node)
{
    char *token, authorization[1024];
    assert_int_equal(0, join_token_create(&ca.certificate_der, &ca.key_der, expires_s, &token));
    snprintf(authorization, sizeof(authorization), "%s%s", prefix, strchr(token, '.') + 1);
    secret_text_free(token);
    const struct join_request request = {.node = node, .authorization = authorization};
    return join_check_credentials(&request, &ca.key_der, NOW);
}

static void test_tokens(void **state)
{
    (void)state;
    assert_int_equal(JOIN_ISSUED, with_token("Bearer ", NOW + 1, "edge-1"));
    assert_int_equal(JOIN_ISSUED, with_token("bearer ", NOW + 1, "edge-1"));
    assert_int_equal(JOIN_TOKEN_EXPIRED, with_token("Bearer ", NOW, "edge-1"));
    assert_int_equal(JOIN_TOKEN_MALFORMED, with_token("", NOW + 1, "edge-1"));
    assert_int_equal(JOIN_TOKEN_MALFORMED, with_token("Basic ", NOW + 1, "edge-1"));
    assert_int_equal(JOIN_TOKEN_MALFORMED, with_token("Bearer  ", NOW + 1, "edge-1"));
    assert_int_equal(JOIN_NODE_NAME, with_token("Bearer ", NOW + 1, NULL));
    assert_int_equal(JOIN_NODE_NAME, with_token("Bearer ", NOW + 1, ""));
    assert_int_equal(JOIN_NODE_NAME, with_token("Bearer ", NOW + 1, "Edge_1"));
    assert_int_equal(JOIN_NODE_NAME, with_token("Bearer ", NOW + 1, "../x"));
}

static void test_foreign_and_missing_tokens(void **state)
{
    const struct secret_bytes other = {(unsigned char *)(uintptr_t) "other", 5};
    char *token, authorization[1024];
    (void)state;
    assert_int_equal(0, join_token_create(&ca.certificate_der, &other, NOW + 1, &token));
    snprintf(authorization, sizeof(authorization), "Bearer %s", strchr(token, '.') + 1);
    secret_text_free(token);
    struct join_request request = {.node = "edge-1", .authorization = authorization};
    assert_int_equal(JOIN_TOKEN_SIGNATURE, join_check_credentials(&request, &ca.key_der, NOW));
    request.authorization = NULL;
    assert_int_equal(JOIN_NO_CREDENTIALS, join_check_credentials(&request, &ca.key_der, NOW));
}

static X509 *certificate_of(const char *node)
{
    unsigned char *der;
    char serial[JOIN_SERIAL_BYTES];
    int size = join_make_node(&ca, node, ca.key, NOW, 3600, &der, serial);
    assert_true(size > 0);
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, size);
    OPENSSL_free(der);
    return certificate;
}

static void test_certificates(void **state)
{
    X509 *certificate = certificate_of("edge-1");
    struct join_request request = {
        .node = "edge-1", .certificate = certificate, .is_verified = true};
    (void)state;
    assert_int_equal(JOIN_RENEWED, join_check_credentials(&request, &ca.key_der, NOW));
    request.is_verified = false;
    assert_int_equal(JOIN_CERTIFICATE_INVALID, join_check_credentials(&request, &ca.key_der, NOW));
    /* Another node's, and a token does not help. */
    request.is_verified = true;
    request.node = "edge-2";
    request.authorization = "Bearer whatever";
    assert_int_equal(JOIN_CERTIFICATE_WRONG_NODE,
                     join_check_credentials(&request, &ca.key_der, NOW));
    /* The CA's own, which names no node at all. */
    request.certificate = ca.certificate;
    assert_int_equal(JOIN_CERTIFICATE_WRONG_NODE,
                     join_check_credentials(&request, &ca.key_der, NOW));
    X509_free(certificate);
}

/* ---- certificate requests ---- */

struct csr_wish {
    const char *organization, *common_name;
    EVP_PKEY *key;   /* NULL: a fresh P-256 */
    const char *san; /* as in a configuration file */
    const char *basic;
    EVP_PKEY *signed_by; /* NULL: by the key itself */
    bool twice_named;
};

static struct secret_bytes make_csr(const struct csr_wish *w)
{
    EVP_PKEY *key = w->key ? w->key : EVP_EC_gen("P-256");
    X509_REQ *csr = X509_REQ_new();
    X509_NAME *name = X509_REQ_get_subject_name(csr);
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    if (w->organization)
        X509_NAME_add_entry_by_txt(name, "O", V_ASN1_PRINTABLESTRING,
                                   (const unsigned char *)w->organization, -1, -1, 0);
    for (int i = 0; i < (w->twice_named ? 2 : 1); i++)
        X509_NAME_add_entry_by_txt(name, "CN", V_ASN1_PRINTABLESTRING,
                                   (const unsigned char *)w->common_name, -1, -1, 0);
    if (w->san)
        sk_X509_EXTENSION_push(extensions,
                               X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, w->san));
    if (w->basic)
        sk_X509_EXTENSION_push(extensions,
                               X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, w->basic));
    if (sk_X509_EXTENSION_num(extensions) > 0)
        assert_int_equal(1, X509_REQ_add_extensions(csr, extensions));
    X509_REQ_set_pubkey(csr, key);
    assert_true(X509_REQ_sign(csr, w->signed_by ? w->signed_by : key,
                              EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()) >
                0);
    unsigned char *der = NULL;
    int size = i2d_X509_REQ(csr, &der);
    struct secret_bytes bytes;
    assert_int_equal(0, secret_bytes_copy(&bytes, der, (size_t)size));
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(csr);
    if (!w->key)
        EVP_PKEY_free(key);
    return bytes;
}

static enum join_result check_bytes(const unsigned char *csr, size_t size, const char *usages)
{
    EVP_PKEY *key = NULL;
    const struct join_request request = {
        .node = "edge-1", .usages = usages, .csr = csr, .csr_size = size};
    enum join_result result = join_check_csr(&request, &key);
    assert_int_equal(result == JOIN_ISSUED, key != NULL);
    EVP_PKEY_free(key);
    return result;
}

static enum join_result check(const struct csr_wish *wish)
{
    struct secret_bytes csr = make_csr(wish);
    enum join_result result = check_bytes(csr.at, csr.size, NULL);
    secret_bytes_free(&csr);
    return result;
}

#define EDGE_1 .organization = "system:nodes", .common_name = "system:node:edge-1"

static struct secret_bytes edgecores_request(void)
{
    unsigned char buffer[1024];
    struct secret_bytes bytes;
    FILE *file = fopen("test/vectors/join/edge-1.csr.der", "rb");
    assert_non_null(file);
    size_t size = fread(buffer, 1, sizeof(buffer), file);
    fclose(file);
    assert_int_equal(0, secret_bytes_copy(&bytes, buffer, size));
    return bytes;
}

static void test_what_edgecore_sends(void **state)
{
    struct secret_bytes csr = edgecores_request();
    (void)state;
    assert_int_equal(JOIN_ISSUED, check_bytes(csr.at, csr.size, NULL));
    assert_int_equal(JOIN_ISSUED, check_bytes(csr.at, csr.size, "[2]"));
    static const char *const other_usages[] = {"[1]", "[1,2]", "[2,1]", "[0]",     "[]", "2",
                                               "",    "x",     "[2.0]", "[\"2\"]", "{}", "[2]x"};
    for (size_t i = 0; i < sizeof(other_usages) / sizeof(other_usages[0]); i++)
        assert_int_equal(JOIN_REQUEST_USAGE, check_bytes(csr.at, csr.size, other_usages[i]));
    secret_bytes_free(&csr);
}

static void test_subjects(void **state)
{
    (void)state;
    assert_int_equal(JOIN_ISSUED, check(&(struct csr_wish){EDGE_1}));
    assert_int_equal(JOIN_REQUEST_WRONG_NODE,
                     check(&(struct csr_wish){.organization = "system:nodes",
                                              .common_name = "system:node:edge-2"}));
    assert_int_equal(JOIN_REQUEST_WRONG_NODE,
                     check(&(struct csr_wish){.organization = "system:masters",
                                              .common_name = "system:node:edge-1"}));
    assert_int_equal(JOIN_REQUEST_WRONG_NODE,
                     check(&(struct csr_wish){.common_name = "system:node:edge-1"}));
    assert_int_equal(
        JOIN_REQUEST_WRONG_NODE,
        check(&(struct csr_wish){.organization = "system:nodes", .common_name = "edge-1"}));
    assert_int_equal(JOIN_REQUEST_WRONG_NODE,
                     check(&(struct csr_wish){EDGE_1, .twice_named = true}));
    /* EdgeCore up to 1.15. */
    assert_int_equal(
        JOIN_REQUEST_WRONG_NODE,
        check(&(struct csr_wish){.organization = "kubeEdge", .common_name = "kubeedge.io"}));
}

static void test_further_names(void **state)
{
    (void)state;
    assert_int_equal(JOIN_REQUEST_FOREIGN_NAMES,
                     check(&(struct csr_wish){EDGE_1, .san = "DNS:hub.example.com"}));
    assert_int_equal(JOIN_REQUEST_FOREIGN_NAMES,
                     check(&(struct csr_wish){EDGE_1, .san = "IP:192.0.2.1"}));
    assert_int_equal(JOIN_REQUEST_CA, check(&(struct csr_wish){EDGE_1, .basic = "CA:TRUE"}));
    assert_int_equal(JOIN_ISSUED, check(&(struct csr_wish){EDGE_1, .basic = "CA:FALSE"}));
}

static enum join_result check_key(EVP_PKEY *key)
{
    assert_non_null(key);
    enum join_result result = check(&(struct csr_wish){EDGE_1, .key = key});
    EVP_PKEY_free(key);
    return result;
}

/* P-256 with its numbers instead of its name. */
static EVP_PKEY *spelt_out_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    assert_int_equal(1, EVP_PKEY_set_utf8_string_param(key, "encoding", "explicit"));
    return key;
}

static void test_keys(void **state)
{
    (void)state;
    assert_int_equal(JOIN_ISSUED, check_key(EVP_EC_gen("P-384")));
    assert_int_equal(JOIN_ISSUED, check_key(EVP_EC_gen("P-521")));
    assert_int_equal(JOIN_ISSUED, check_key(EVP_RSA_gen(2048)));
    assert_int_equal(JOIN_REQUEST_KEY, check_key(EVP_RSA_gen(1024)));
    assert_int_equal(JOIN_REQUEST_KEY, check_key(EVP_EC_gen("P-224")));
    assert_int_equal(JOIN_REQUEST_KEY, check_key(EVP_EC_gen("secp256k1")));
    assert_int_equal(JOIN_REQUEST_KEY, check_key(spelt_out_key()));
    assert_int_equal(JOIN_REQUEST_KEY, check_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")));
}

static void test_signatures(void **state)
{
    (void)state;
    EVP_PKEY *other = EVP_EC_gen("P-256");
    assert_int_equal(JOIN_REQUEST_SIGNATURE, check(&(struct csr_wish){EDGE_1, .signed_by = other}));
    EVP_PKEY_free(other);
}

static void test_bytes_that_are_no_request(void **state)
{
    struct secret_bytes csr = edgecores_request();
    (void)state;
    assert_int_equal(JOIN_REQUEST_MALFORMED, check_bytes((const unsigned char *)"", 0, NULL));
    assert_int_equal(JOIN_REQUEST_MALFORMED, check_bytes((const unsigned char *)"hello", 5, NULL));
    for (size_t size = 0; size < csr.size; size++) {
        unsigned char *exact = malloc(size ? size : 1);
        memcpy(exact, csr.at, size);
        assert_int_equal(JOIN_REQUEST_MALFORMED, check_bytes(exact, size, NULL));
        free(exact);
    }
    /* One bit changed anywhere: refused, for one reason or the other. */
    for (size_t at = 0; at < csr.size; at++) {
        csr.at[at] ^= 1;
        assert_int_not_equal(JOIN_ISSUED, check_bytes(csr.at, csr.size, NULL));
        csr.at[at] ^= 1;
    }
    unsigned char longer[1024] = {0};
    memcpy(longer, csr.at, csr.size);
    assert_int_equal(JOIN_REQUEST_MALFORMED, check_bytes(longer, csr.size + 1, NULL));
    secret_bytes_free(&csr);
}

/* ---- leases ---- */

static int is_fresh(const char *spec)
{
    char lease[512];
    snprintf(lease, sizeof(lease), "{\"kind\":\"Lease\",\"metadata\":{\"name\":\"edge-1\"}%s%s}",
             spec ? "," : "", spec ? spec : "");
    return join_lease_is_fresh(lease, strlen(lease), 1795837082); /* 2026-11-28T03:38:02Z */
}

static void test_leases(void **state)
{
    (void)state;
    assert_int_equal(1, is_fresh("\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":\"2026-11-"
                                 "28T03:38:02.000000Z\"}"));
    assert_int_equal(
        1, is_fresh(
               "\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":\"2026-11-28T03:37:23.5Z\"}"));
    assert_int_equal(
        0,
        is_fresh("\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":\"2026-11-28T03:37:22Z\"}"));
    assert_int_equal(
        1,
        is_fresh("\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":\"2027-11-28T03:37:22Z\"}"));
    assert_int_equal(0, is_fresh("\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":null}"));
    assert_int_equal(0, is_fresh("\"spec\":{}"));
    assert_int_equal(0, is_fresh(NULL));
    assert_int_equal(-EBADMSG, is_fresh("\"spec\":{\"renewTime\":\"2026-11-28T03:38:02Z\"}"));
    assert_int_equal(
        -EBADMSG, is_fresh("\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":\"yesterday\"}"));
    assert_int_equal(
        -EBADMSG,
        is_fresh(
            "\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":\"2026-11-28T03:38:02+01:00\"}"));
    assert_int_equal(-EBADMSG, is_fresh("\"spec\":{\"leaseDurationSeconds\":40,\"renewTime\":7}"));
    assert_int_equal(-EBADMSG, join_lease_is_fresh("not json", 8, NOW));
}

static void test_every_result_has_a_status(void **state)
{
    (void)state;
    for (int i = 0; i < JOIN_RESULT_COUNT; i++) {
        unsigned status = join_result_status((enum join_result)i);
        assert_true(status == 0 || status == 200 || status == 401 || status == 403 ||
                    status == 404 || status == 429 || status == 500);
        if (status >= 400)
            assert_true(strlen(join_result_text((enum join_result)i)) > 8);
    }
}

static void test_without_memory(void **state)
{
    char *token, authorization[1024];
    (void)state;
    assert_int_equal(0, join_token_create(&ca.certificate_der, &ca.key_der, NOW + 60, &token));
    snprintf(authorization, sizeof(authorization), "Bearer %s", strchr(token, '.') + 1);
    secret_text_free(token);
    const struct join_request request = {.node = "edge-1", .authorization = authorization};
    for (unsigned n = 1;; n++) {
        heap_fail_nth(n);
        enum join_result result = join_check_credentials(&request, &ca.key_der, NOW);
        if (!heap_fail_end()) {
            assert_int_equal(JOIN_ISSUED, result);
            break;
        }
        assert_int_equal(JOIN_INTERNAL, result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_foreign_and_missing_tokens),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_what_edgecore_sends),
        cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_further_names),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_bytes_that_are_no_request),
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_every_result_has_a_status),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, make_ca, free_ca);
}
