/* See testcert.h. */
#include "test/lib/testcert.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

static char *text_of(BIO *bio)
{
    char *data;
    long size = BIO_get_mem_data(bio, &data);
    char *text = strndup(data, (size_t)size);
    assert(text);
    BIO_free(bio);
    return text;
}

static X509 *read_cert(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert(cert);
    BIO_free(bio);
    return cert;
}

static EVP_PKEY *read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    assert(key);
    BIO_free(bio);
    return key;
}

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert(extension);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
}

static void fill(X509 *cert, const char *name, EVP_PKEY *key)
{
    static long serial;
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                               (const unsigned char *)name, -1, -1, 0);
}

void testcert_make(struct testcert *out, const char *name, const struct testcert *issuer)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    assert(key && cert);
    fill(cert, name, key);
    X509 *issuer_cert = issuer ? read_cert(issuer->cert_pem) : cert;
    EVP_PKEY *issuer_key = issuer ? read_key(issuer->key_pem) : key;
    X509_set_issuer_name(cert, X509_get_subject_name(issuer_cert));
    if (issuer)
        add_extension(cert, issuer_cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1");
    else
        add_extension(cert, issuer_cert, NID_basic_constraints, "critical,CA:TRUE");
    int size = X509_sign(cert, issuer_key, EVP_sha256());
    assert(size > 0);

    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    out->cert_pem = text_of(bio);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    out->key_pem = text_of(bio);
    if (issuer) {
        X509_free(issuer_cert);
        EVP_PKEY_free(issuer_key);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
}

void testcert_fini(struct testcert *cert)
{
    free(cert->cert_pem);
    free(cert->key_pem);
    *cert = (struct testcert){0};
}

char *testcert_base64(const char *text)
{
    size_t size = strlen(text);
    char *out = OPENSSL_malloc((size + 2) / 3 * 4 + 1);
    assert(out);
    EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)text, (int)size);
    return out;
}
