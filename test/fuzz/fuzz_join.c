/* fuzz-sources: hub/join_request.c hub/join_token.c hub/secret_bytes.c hub/identity.c */
/* fuzz-sources: hub/resource.c hub/content.c */
/* fuzz-sources: base/jsonscan.c base/jsonscan_text.c base/jsonscan_number.c */
/* What a stranger sends to the join endpoint. The first byte says what the others are: a token as
 * it comes, the header and the claims of a token that is signed here with the right key, a
 * certificate request, a header Extkeyusages with one, or a lease. */
#include "hub/join_request.h"
#include "hub/join_token.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_S 1700000000

static unsigned char key_bytes[] = "the key of the authority, as it is known here";
static const struct secret_bytes ca_key = {key_bytes, sizeof(key_bytes)};

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void check_bare_token(const char *text, size_t size)
{
    static unsigned char other_bytes[] = "another key";
    const struct secret_bytes other = {other_bytes, sizeof(other_bytes)};
    int64_t expires;
    require(join_token_verify(text, size, &other, NOW_S) != TOKEN_VALID, "forged");
    (void)join_token_verify(text, size, &ca_key, NOW_S);
    require(!join_token_is_good(text, size, &other, &other, NOW_S, 0), "forged");
    if (join_token_expiry(text, size, &expires) == 0)
        require(expires >= 0, "an end before the beginning");
}

/* base64url without padding. */
static size_t encode(const void *bytes, size_t size, char *to)
{
    char *text = secret_base64(bytes, size);
    size_t n = text ? strcspn(text, "=") : 0;
    for (size_t i = 0; i < n; i++)
        to[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    secret_text_free(text);
    return n;
}

/* What it must say to be taken, by jansson's reading. */
static bool is_good(const char *header_text, size_t header_size, const char *claims_text,
                    size_t claims_size)
{
    json_t *header = json_loadb(header_text, header_size, JSON_REJECT_DUPLICATES, NULL);
    json_t *claims = json_loadb(claims_text, claims_size, JSON_REJECT_DUPLICATES, NULL);
    const char *alg = json_string_value(json_object_get(header, "alg"));
    json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    bool good = alg && strcmp(alg, "HS256") == 0 && !json_object_get(header, "crit") &&
                json_is_number(exp) && json_number_value(exp) > NOW_S &&
                (!nbf || (json_is_number(nbf) && json_number_value(nbf) <= NOW_S));
    json_decref(header);
    json_decref(claims);
    return good;
}

static void check_signed_token(const char *text, size_t size)
{
    char jwt[JOIN_TOKEN_MAX_BYTES];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_size = 0;
    const char *line = memchr(text, '\n', size);
    if (!line || size > 2000)
        return;
    size_t header_size = (size_t)(line - text), claims_size = size - header_size - 1;
    size_t at = encode(text, header_size, jwt);
    jwt[at++] = '.';
    at += encode(line + 1, claims_size, jwt + at);
    HMAC(EVP_sha256(), ca_key.at, (int)ca_key.size, (unsigned char *)jwt, at, mac, &mac_size);
    jwt[at++] = '.';
    at += encode(mac, mac_size, jwt + at);
    enum join_token_verdict verdict = join_token_verify(jwt, at, &ca_key, NOW_S);
    bool good = is_good(text, header_size, line + 1, claims_size);
    require((verdict == TOKEN_VALID) == good, good ? "refused a good token" : "took a bad token");
    jwt[at - 1] = jwt[at - 1] == 'A'
                      ? 'E'
                      : 'A'; /* bits that count: the last of 43 digits has four of them */
    require(join_token_verify(jwt, at, &ca_key, NOW_S) != TOKEN_VALID, "took a forged token");
}

static void check_request(const char *usages, const uint8_t *csr, size_t size)
{
    const struct join_request request = {
        .node = "edge-1", .usages = usages, .csr = csr, .csr_size = size};
    EVP_PKEY *key = NULL;
    enum join_result result = join_check_csr(&request, &key);
    require((result == JOIN_ISSUED) == (key != NULL), "a verdict that does not fit its result");
    require(result < JOIN_RESULT_COUNT, "an unknown verdict");
    if (key) {
        const unsigned char *at = csr;
        X509_REQ *again = d2i_X509_REQ(NULL, &at, (long)size);
        struct identity who;
        require(again != NULL && at == csr + size, "not one request");
        identity_read_subject(X509_REQ_get_subject_name(again), &who);
        require(identity_is_of(&who, "edge-1"), "somebody else's request");
        require(X509_REQ_verify(again, key) == 1, "not signed with its key");
        X509_REQ_free(again);
    }
    EVP_PKEY_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size); /* ends with the bytes, NUL-terminated for headers */
    require(text != NULL, "no memory");
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    int fresh;
    switch (data[0]) {
    case 't':
        check_bare_token(text, size - 1);
        break;
    case 's':
        check_signed_token(text, size - 1);
        break;
    case 'c':
        check_request(NULL, data + 1, size - 1);
        break;
    case 'u':
        check_request(text, (const uint8_t *)text, strlen(text));
        break;
    case 'l':
        fresh = join_lease_is_fresh(text, size - 1, NOW_S);
        require(fresh == 0 || fresh == 1 || fresh == -EBADMSG, "an unknown verdict");
        break;
    default:
        break;
    }
    free(text);
    return 0;
}
