/* See join_request.h. */
#include "hub/join_request.h"

#include "hub/join_token.h"
#include "hub/resource.h"
#include "isthmus/jsonscan.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define RSA_MIN_BITS   2048
#define RSA_MAX_BITS   4096
#define GO_CLIENT_AUTH 2 /* x509.ExtKeyUsageClientAuth */

#define RESULT_NAME(id, name, status, text) name,
const char *const join_result_names[JOIN_RESULT_COUNT] = {JOIN_RESULTS(RESULT_NAME)};
#undef RESULT_NAME

unsigned join_result_status(enum join_result result)
{
#define RESULT_STATUS(id, name, status, text) status,
    static const unsigned statuses[JOIN_RESULT_COUNT] = {JOIN_RESULTS(RESULT_STATUS)};
#undef RESULT_STATUS
    return statuses[result];
}

const char *join_result_text(enum join_result result)
{
#define RESULT_TEXT(id, name, status, text) text,
    static const char *const texts[JOIN_RESULT_COUNT] = {JOIN_RESULTS(RESULT_TEXT)};
#undef RESULT_TEXT
    return texts[result];
}

/* ---- credentials ---- */

static enum join_result check_certificate(const struct join_request *r)
{
    struct identity identity;
    if (!r->is_verified)
        return JOIN_CERTIFICATE_INVALID;
    /* A certificate without a node's name (EdgeCore before 1.16) renews nothing: it would be good
     * for every name. */
    identity_read(r->certificate, &identity);
    return identity_is_of(&identity, r->node) ? JOIN_RENEWED : JOIN_CERTIFICATE_WRONG_NODE;
}

/* Two words as in CloudCore, of which the first is Bearer. */
static enum join_result check_token(const char *authorization, const struct secret_bytes *ca_key,
                                    int64_t now_s)
{
    static const char scheme[] = "Bearer ";
    static const enum join_result results[] = {
        [TOKEN_VALID] = JOIN_ISSUED,
        [TOKEN_MALFORMED] = JOIN_TOKEN_MALFORMED,
        [TOKEN_ALGORITHM] = JOIN_TOKEN_ALGORITHM,
        [TOKEN_SIGNATURE] = JOIN_TOKEN_SIGNATURE,
        [TOKEN_EXPIRED] = JOIN_TOKEN_EXPIRED,
        [TOKEN_NO_MEMORY] = JOIN_INTERNAL,
    };
    if (strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
        return JOIN_TOKEN_MALFORMED;
    const char *jwt = authorization + sizeof(scheme) - 1;
    return results[join_token_verify(jwt, strlen(jwt), ca_key, now_s)];
}

enum join_result join_check_credentials(const struct join_request *r,
                                        const struct secret_bytes *ca_key, int64_t now_s)
{
    struct text_span name = {r->node, r->node ? strlen(r->node) : 0};
    if (name.size == 0 || !resource_name_is_subdomain(&name))
        return JOIN_NODE_NAME;
    if (r->certificate)
        return check_certificate(r);
    return r->authorization ? check_token(r->authorization, ca_key, now_s) : JOIN_NO_CREDENTIALS;
}

/* ---- certificate requests ---- */

/* Go's numbers of extended key usages, as a JSON array: EdgeHub never sends any, and a node gets no
 * other. */
static bool asks_for_client_auth(const char *usages)
{
    json_t *list = json_loads(usages, JSON_REJECT_DUPLICATES, NULL);
    json_t *one;
    size_t i;
    bool is_only = json_array_size(list) > 0;
    json_array_foreach (list, i, one)
        is_only = is_only && json_is_integer(one) && json_integer_value(one) == GO_CLIENT_AUTH;
    json_decref(list);
    return is_only;
}

/* Before the signature is verified: that of an enormous key would cost a while. */
static bool is_sane_key(const EVP_PKEY *key)
{
    char group[64];
    size_t size;
    int is_explicit = 0;
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
        return EVP_PKEY_get_bits(key) >= RSA_MIN_BITS && EVP_PKEY_get_bits(key) <= RSA_MAX_BITS;
    case EVP_PKEY_EC: /* a curve by its name, not one that is spelt out */
        (void)EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                                     &is_explicit);
        return !is_explicit && EVP_PKEY_get_group_name(key, group, sizeof(group), &size) == 1 &&
               (strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0 ||
                strcmp(group, "secp521r1") == 0);
    default:
        return false;
    }
}

/* Neither further names nor a CA. Other extensions are not copied and do no harm. */
static enum join_result check_extensions(X509_REQ *csr)
{
    enum join_result result = JOIN_ISSUED;
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(csr);
    if (X509v3_get_ext_by_NID(extensions, NID_subject_alt_name, -1) >= 0)
        result = JOIN_REQUEST_FOREIGN_NAMES;
    int at = X509v3_get_ext_by_NID(extensions, NID_basic_constraints, -1);
    if (at >= 0) {
        BASIC_CONSTRAINTS *constraints = X509V3_EXT_d2i(sk_X509_EXTENSION_value(extensions, at));
        if (!constraints || constraints->ca)
            result = JOIN_REQUEST_CA;
        BASIC_CONSTRAINTS_free(constraints);
    }
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return result;
}

static enum join_result check_parsed(const struct join_request *r, X509_REQ *csr, EVP_PKEY *key)
{
    struct identity identity;
    if (!key || !is_sane_key(key))
        return JOIN_REQUEST_KEY;
    if (X509_REQ_verify(csr, key) != 1)
        return JOIN_REQUEST_SIGNATURE;
    identity_read_subject(X509_REQ_get_subject_name(csr), &identity);
    return identity_is_of(&identity, r->node) ? check_extensions(csr) : JOIN_REQUEST_WRONG_NODE;
}

enum join_result join_check_csr(const struct join_request *r, EVP_PKEY **public_key)
{
    const unsigned char *at = r->csr;
    if (r->usages && !asks_for_client_auth(r->usages))
        return JOIN_REQUEST_USAGE;
    X509_REQ *csr = r->csr_size > 0 ? d2i_X509_REQ(NULL, &at, (long)r->csr_size) : NULL;
    EVP_PKEY *key = csr ? X509_REQ_get_pubkey(csr) : NULL;
    enum join_result result = JOIN_REQUEST_MALFORMED;
    if (csr && at == r->csr + r->csr_size)
        result = check_parsed(r, csr, key);
    X509_REQ_free(csr);
    ERR_clear_error();
    if (result == JOIN_ISSUED)
        *public_key = key;
    else
        EVP_PKEY_free(key);
    return result;
}

/* ---- leases ---- */

/* RFC 3339 in UTC, as the API server writes a MicroTime: "2026-11-24T10:00:00.123456Z". */
static bool read_time(const struct json_span *text, int64_t *seconds)
{
    char copy[40];
    struct tm tm = {0};
    if (text->kind != JSON_KIND_STRING || text->size >= sizeof(copy))
        return false;
    memcpy(copy, text->at, text->size);
    copy[text->size] = '\0';
    const char *rest = strptime(copy, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest)
        return false;
    if (*rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    if (strcmp(rest, "Z") != 0)
        return false;
    *seconds = timegm(&tm);
    return true;
}

int join_lease_is_fresh(const char *json, size_t size, int64_t now_s)
{
    static const char *const renewed_path[] = {"spec", "renewTime", NULL};
    static const char *const duration_path[] = {"spec", "leaseDurationSeconds", NULL};
    struct json_span renewed, duration;
    int64_t renewed_s, duration_s;
    int rc = jsonscan_find(json, size, renewed_path, &renewed);
    if (rc == -ENOENT || (rc == 0 && renewed.kind == JSON_KIND_NULL))
        return 0;
    if (rc != 0 || jsonscan_find(json, size, duration_path, &duration) != 0 ||
        jsonscan_integer(&duration, &duration_s) != 0 || !read_time(&renewed, &renewed_s))
        return -EBADMSG;
    return now_s - renewed_s < duration_s;
}
