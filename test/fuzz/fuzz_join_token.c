/* fuzz-sources: hub/join_token.c hub/secret_bytes.c hub/content.c */
/* fuzz-sources: base/jsonscan.c base/jsonscan_number.c base/jsonscan_text.c */
/* Any bytes as a token. What is taken is signed with our key: so the bytes are also put as header
 * and claims into a token that we sign, and what is taken of those must say so by a second reading.
 */
#include "hub/join_token.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW 1795837082

static unsigned char key_bytes[] = "a key that nobody can guess";
static const struct secret_bytes key = {key_bytes, sizeof(key_bytes) - 1};

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static size_t encode(const void *bytes, size_t size, char *to)
{
    char *text = secret_base64(bytes, size);
    require(text != NULL, "no memory");
    size_t n = strcspn(text, "=");
    for (size_t i = 0; i < n; i++)
        to[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    secret_text_free(text);
    return n;
}

/* HEADER.CLAIMS.MAC of the two halves of the input, which are divided by a NUL. */
static void check_signed(const uint8_t *data, size_t size)
{
    static char token[16384];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_size;
    const uint8_t *middle = memchr(data, 0, size);
    if (!middle || size > 4096)
        return;
    const char *claims = (const char *)middle + 1;
    size_t claims_size = size - (size_t)(middle + 1 - data);
    size_t n = encode(data, (size_t)(middle - data), token);
    token[n++] = '.';
    n += encode(claims, claims_size, token + n);
    HMAC(EVP_sha256(), key.at, (int)key.size, (unsigned char *)token, n, mac, &mac_size);
    token[n++] = '.';
    n += encode(mac, mac_size, token + n);
    if (join_token_verify(token, n, &key, NOW) != TOKEN_VALID)
        return;
    json_t *json = json_loadb(claims, claims_size, JSON_REJECT_DUPLICATES, NULL);
    require(json_is_number(json_object_get(json, "exp")), "taken without exp");
    require(json_number_value(json_object_get(json, "exp")) > NOW, "taken though it has expired");
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t expires_s;
    const char *text = (const char *)data;
    require(join_token_verify(text, size, &key, NOW) != TOKEN_VALID, "an unsigned token is taken");
    require(!join_token_is_good(text, size, &key, &key, NOW, 0), "an unsigned token is good");
    (void)join_token_expiry(text, size, &expires_s);
    check_signed(data, size);
    return 0;
}
