/* Certificates for tests, made on the spot. */
#ifndef TEST_LIB_TESTCERT_H
#define TEST_LIB_TESTCERT_H

struct testcert {
    char *cert_pem, *key_pem; /* for testcert_fini() */
};

/* A CA (issuer NULL), or a certificate of it for `name` and, as a server's, for localhost,
 * 127.0.0.1 and ::1. Aborts when OpenSSL fails. */
void testcert_make(struct testcert *cert, const char *name, const struct testcert *issuer);
void testcert_fini(struct testcert *cert);

/* `text` as base64; for OPENSSL_free(). */
char *testcert_base64(const char *text);

#endif
