/* fuzz-sources: hub/join_request.c hub/join_token.c hub/join_cert.c hub/secret_bytes.c */
/* fuzz-sources: hub/content.c hub/identity.c hub/resource.c base/errbuf.c */
/* fuzz-sources: base/jsonscan.c base/jsonscan_number.c base/jsonscan_text.c */
/* Any bytes as what comes with GET /edge.crt: header lines up to an empty line, then the request.
 * What is taken must name exactly the node of the header, be signed by its own key, and make a
 * certificate for that node and nobody else. Also as a Lease, and as what is stored in a Secret. */
#include "hub/join_cert.h"
#include "hub/join_request.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW 1795837082

static struct join_pair ca;

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* The next line, as a text of its own; NULL at the empty one. */
static char *take_line(const char **at, const char *end)
{
    const char *line = *at, *stop = memchr(line, '\n', (size_t)(end - line));
    if (!stop || stop == line)
        return NULL;
    *at = stop + 1;
    return strndup(line, (size_t)(stop - line));
}

static void check_taken(const struct join_request *r, EVP_PKEY *key)
{
    char expected[512], found[512], serial[JOIN_SERIAL_BYTES];
    unsigned char *der;
    int size = join_make_node(&ca, r->node, key, NOW, 3600, &der, serial);
    require(size > 0, "no certificate can be made");
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, size);
    X509_NAME *subject = X509_get_subject_name(certificate);
    snprintf(expected, sizeof(expected), "system:node:%s", r->node);
    X509_NAME_get_text_by_NID(subject, NID_commonName, found, sizeof(found));
    require(strcmp(expected, found) == 0, "a certificate for somebody else");
    require(X509_NAME_entry_count(subject) == 2, "a subject with more in it");
    require(X509_check_purpose(certificate, X509_PURPOSE_SSL_SERVER, 0) == 0,
            "a server's certificate");
    require(X509_check_ca(certificate) == 0, "a CA's certificate");
    X509_free(certificate);
    OPENSSL_free(der);
}

static void check_stored(const uint8_t *data, size_t size)
{
    struct secret_bytes certificate, key;
    struct join_pair pair;
    struct errbuf e;
    require(secret_bytes_copy(&certificate, data, size) == 0 &&
                secret_bytes_copy(&key, data, size) == 0,
            "no memory");
    if (join_pair_parse(&pair, &certificate, &key, &e) == 0)
        join_pair_free(&pair);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data, *end = at + size;
    struct errbuf e;
    EVP_PKEY *key;
    if (!ca.key)
        require(join_make_ca(NOW, &ca, &e) == 0, "no CA");
    (void)join_lease_is_fresh(at, size, NOW);
    check_stored(data, size);

    char *node = take_line(&at, end);
    char *authorization = node ? take_line(&at, end) : NULL;
    char *usages = authorization ? take_line(&at, end) : NULL;
    if (at < end && *at == '\n')
        at++;
    const struct join_request request = {.node = node,
                                         .authorization = authorization,
                                         .usages = usages,
                                         .csr = (const unsigned char *)at,
                                         .csr_size = (size_t)(end - at)};
    enum join_result result = join_check_credentials(&request, &ca.key_der, NOW);
    require(result != JOIN_ISSUED && result != JOIN_RENEWED, "taken without a token");
    if (result != JOIN_NODE_NAME && join_check_csr(&request, &key) == JOIN_ISSUED) {
        check_taken(&request, key);
        EVP_PKEY_free(key);
    }
    free(node);
    free(authorization);
    free(usages);
    return 0;
}
