/* Join tokens as CloudCore makes and takes them (pkg/security/token/token.go): CAHASH.JWT, where
 * CAHASH is the lower-case hex SHA-256 of the CA certificate's DER and JWT a compact JWS (RFC 7515,
 * 7519) over {"exp": SECONDS}, keyed with the DER of the CA's private key. An edge checks the first
 * part and sends only the second. Pure; any thread. */
#ifndef HUB_JOIN_TOKEN_H
#define HUB_JOIN_TOKEN_H

#include "hub/secret_bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define JOIN_TOKEN_MAX_BYTES  4096
#define JOIN_TOKEN_HASH_BYTES 65 /* with NUL */

/* An HS256 token that is good until `expires_s`; for secret_text_free(). 0, -ENOMEM, or -EIO when
 * OpenSSL fails. */
int join_token_create(const struct secret_bytes *ca, const struct secret_bytes *ca_key,
                      int64_t expires_s, char **token) __attribute__((warn_unused_result));

enum join_token_verdict {
    TOKEN_VALID,
    TOKEN_MALFORMED,
    TOKEN_ALGORITHM, /* neither HS256, HS384 nor HS512, or a header that demands more than that
                      */
    TOKEN_SIGNATURE, /* not made with this key */
    TOKEN_EXPIRED,
    TOKEN_NO_MEMORY
};

/* Judges the JWT part. As CloudCore, but a token without `exp` is malformed and one from before its
 * `nbf` has expired. */
enum join_token_verdict join_token_verify(const char *jwt, size_t size,
                                          const struct secret_bytes *ca_key, int64_t now_s)
    __attribute__((warn_unused_result));

/* Whether a stored token (CAHASH.JWT) is of this CA and good for at least `margin_s` more. */
bool join_token_is_good(const char *token, size_t size, const struct secret_bytes *ca,
                        const struct secret_bytes *ca_key, int64_t now_s, int64_t margin_s);

/* Until when a token (CAHASH.JWT) says that it is good; nothing else of it is judged. 0, -EBADMSG
 * or -ENOMEM. */
int join_token_expiry(const char *token, size_t size, int64_t *expires_s)
    __attribute__((warn_unused_result));

#endif
