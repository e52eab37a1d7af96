/* See join_token.h. Whatever is in a token counts only after its signature has been found right;
 * the header is read before that because it names the hash function. */
#include "hub/join_token.h"

#include "hub/content.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_SIZE (JOIN_TOKEN_HASH_BYTES - 1)

static const char header_json[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";

struct span {
    const char *at;
    size_t size;
};

/* ---- base64url, without padding (RFC 7515, section 2) ---- */

/* For secret_text_free(). */
static char *encode(const void *bytes, size_t size)
{
    char *text = secret_base64(bytes, size);
    for (char *c = text; c && *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c == '=' ? '\0' : *c;
    return text;
}

/* 0, -EBADMSG, -ENOMEM. */
static int decode(struct span text, struct secret_bytes *bytes)
{
    char *padded = calloc(1, text.size + 4);
    if (!padded)
        return -ENOMEM;
    size_t size = 0;
    int rc = 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.at[i];
        if (c == '+' || c == '/' || c == '=')
            rc = -EBADMSG;
        padded[size++] = c == '-' ? '+' : c == '_' ? '/' : c;
    }
    while (size % 4 != 0)
        padded[size++] = '=';
    if (rc == 0)
        rc = secret_bytes_from_base64(bytes, padded, size);
    secret_text_free(padded);
    return rc;
}

/* ---- making ---- */

static void hash_ca(const struct secret_bytes *ca, char hex[JOIN_TOKEN_HASH_BYTES])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(ca->at, ca->size, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* HEADER.CLAIMS */
static char *signed_part(int64_t expires_s)
{
    char claims[64];
    int size = snprintf(claims, sizeof(claims), "{\"exp\":%lld}", (long long)expires_s);
    char *first = encode(header_json, sizeof(header_json) - 1);
    char *second = encode(claims, (size_t)size);
    char *text = first && second ? secret_text_printf("%s.%s", first, second) : NULL;
    secret_text_free(first);
    secret_text_free(second);
    return text;
}

int join_token_create(const struct secret_bytes *ca, const struct secret_bytes *ca_key,
                      int64_t expires_s, char **token)
{
    char hash[JOIN_TOKEN_HASH_BYTES];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_size = 0;
    char *text = signed_part(expires_s);
    if (!text)
        return -ENOMEM;
    if (!HMAC(EVP_sha256(), ca_key->at, (int)ca_key->size, (unsigned char *)text, strlen(text), mac,
              &mac_size)) {
        secret_text_free(text);
        return -EIO;
    }
    hash_ca(ca, hash);
    char *signature = encode(mac, mac_size);
    *token = signature ? secret_text_printf("%s.%s.%s", hash, text, signature) : NULL;
    secret_text_free(text);
    secret_text_free(signature);
    return *token ? 0 : -ENOMEM;
}

/* ---- judging ---- */

/* Cuts at the first two dots; a third one is no base64url. */
static bool split(const char *jwt, size_t size, struct span parts[3])
{
    const char *first = memchr(jwt, '.', size);
    const char *second = first ? memchr(first + 1, '.', size - (size_t)(first + 1 - jwt)) : NULL;
    if (!second || size > JOIN_TOKEN_MAX_BYTES)
        return false;
    parts[0] = (struct span){jwt, (size_t)(first - jwt)};
    parts[1] = (struct span){first + 1, (size_t)(second - first - 1)};
    parts[2] = (struct span){second + 1, size - (size_t)(second + 1 - jwt)};
    return true;
}

/* A part as a JSON object; new reference. */
static json_t *load(struct span part, enum join_token_verdict *verdict)
{
    struct secret_bytes bytes = {0};
    int rc = decode(part, &bytes);
    *verdict = rc == -ENOMEM ? TOKEN_NO_MEMORY : TOKEN_MALFORMED;
    if (rc != 0)
        return NULL;
    json_t *json = json_loadb((char *)bytes.at, bytes.size, JSON_REJECT_DUPLICATES, NULL);
    secret_bytes_free(&bytes);
    if (json_is_object(json))
        return json;
    json_decref(json);
    return NULL;
}

static const EVP_MD *hash_of(const json_t *header)
{
    const char *name = json_string_value(json_object_get(header, "alg"));
    /* "crit" lists what a reader must understand, and we understand nothing of it. */
    if (!name || json_object_get(header, "crit"))
        return NULL;
    return strcmp(name, "HS256") == 0   ? EVP_sha256()
           : strcmp(name, "HS384") == 0 ? EVP_sha384()
           : strcmp(name, "HS512") == 0 ? EVP_sha512()
                                        : NULL;
}

static enum join_token_verdict check_signature(const struct span parts[3], const EVP_MD *hash,
                                               const struct secret_bytes *key)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_size = 0;
    struct secret_bytes given = {0};
    size_t signed_size = parts[0].size + 1 + parts[1].size;
    int rc = decode(parts[2], &given);
    if (rc != 0)
        return rc == -ENOMEM ? TOKEN_NO_MEMORY : TOKEN_MALFORMED;
    bool is_right = HMAC(hash, key->at, (int)key->size, (const unsigned char *)parts[0].at,
                         signed_size, mac, &mac_size) != NULL &&
                    given.size == mac_size && CRYPTO_memcmp(given.at, mac, mac_size) == 0;
    secret_bytes_free(&given);
    return is_right ? TOKEN_VALID : TOKEN_SIGNATURE;
}

/* A NumericDate may have a fraction (RFC 7519, section 2). */
static bool read_time(const json_t *claims, const char *name, double *seconds)
{
    const json_t *value = json_object_get(claims, name);
    *seconds = json_number_value(value);
    return json_is_number(value);
}

static enum join_token_verdict check_times(const json_t *claims, int64_t now_s)
{
    double expires, begins;
    if (!read_time(claims, "exp", &expires))
        return TOKEN_MALFORMED;
    if ((double)now_s >= expires)
        return TOKEN_EXPIRED;
    if (!json_object_get(claims, "nbf"))
        return TOKEN_VALID;
    if (!read_time(claims, "nbf", &begins))
        return TOKEN_MALFORMED;
    return (double)now_s < begins ? TOKEN_EXPIRED : TOKEN_VALID;
}

enum join_token_verdict join_token_verify(const char *jwt, size_t size,
                                          const struct secret_bytes *ca_key, int64_t now_s)
{
    struct span parts[3];
    enum join_token_verdict verdict;
    if (!split(jwt, size, parts))
        return TOKEN_MALFORMED;
    json_t *header = load(parts[0], &verdict);
    if (!header)
        return verdict;
    const EVP_MD *hash = hash_of(header);
    json_decref(header);
    if (!hash)
        return TOKEN_ALGORITHM;
    verdict = check_signature(parts, hash, ca_key);
    if (verdict != TOKEN_VALID)
        return verdict;
    json_t *claims = load(parts[1], &verdict);
    if (!claims)
        return verdict;
    verdict = check_times(claims, now_s);
    json_decref(claims);
    return verdict;
}

bool join_token_is_good(const char *token, size_t size, const struct secret_bytes *ca,
                        const struct secret_bytes *ca_key, int64_t now_s, int64_t margin_s)
{
    char hash[JOIN_TOKEN_HASH_BYTES];
    hash_ca(ca, hash);
    return size > HASH_SIZE && token[HASH_SIZE] == '.' && memcmp(token, hash, HASH_SIZE) == 0 &&
           join_token_verify(token + HASH_SIZE + 1, size - HASH_SIZE - 1, ca_key,
                             now_s + margin_s) == TOKEN_VALID;
}

int join_token_expiry(const char *token, size_t size, int64_t *expires_s)
{
    struct span parts[3];
    enum join_token_verdict verdict;
    double expires;
    const char *dot = memchr(token, '.', size);
    if (!dot || !split(dot + 1, size - (size_t)(dot + 1 - token), parts))
        return -EBADMSG;
    json_t *claims = load(parts[1], &verdict);
    if (!claims)
        return verdict == TOKEN_NO_MEMORY ? -ENOMEM : -EBADMSG;
    bool has_time = read_time(claims, "exp", &expires) && expires >= 0 && expires < 1e15;
    json_decref(claims);
    if (!has_time)
        return -EBADMSG;
    *expires_s = (int64_t)expires;
    return 0;
}
