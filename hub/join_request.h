/* Who may have which certificate: the judgement of GET /edge.crt, and the words for every end of a
 * request to the join endpoint. Pure but for OpenSSL's parsing: what is asked, who asks and the
 * time are arguments. Any thread.
 *
 * CloudCore (cloud/pkg/cloudhub/servers/httpserver/certificate) checks neither the request's
 * signature nor whose name it carries: any token there is good for any identity, a server's
 * included. Here a request must be what EdgeCore from 1.16 on sends. */
#ifndef HUB_JOIN_REQUEST_H
#define HUB_JOIN_REQUEST_H

#include "hub/identity.h"
#include "hub/secret_bytes.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(id, metric label, HTTP status, what the edge is told). An edge only looks whether the status is
 * 200, and logs the text. */
#define JOIN_RESULTS(X)                                                                            \
    X(CA_SENT, "ca_sent", 200, "")                                                                 \
    X(ISSUED, "issued", 200, "")                                                                   \
    X(RENEWED, "renewed", 200, "")                                                                 \
    X(NODE_FOUND, "node_found", 200, "Node found")                                                 \
    X(NODE_NOT_FOUND, "node_not_found", 404, "Node not found")                                     \
    X(NOT_SERVED, "not_served", 404, "node jobs are not served by this hub\n")                     \
    X(UNKNOWN_PATH, "unknown_path", 404, "not found\n")                                            \
    X(NO_CREDENTIALS, "no_credentials", 401,                                                       \
      "neither a client certificate nor 'Authorization: Bearer TOKEN'\n")                          \
    X(TOKEN_MALFORMED, "token_malformed", 401, "the token is malformed\n")                         \
    X(TOKEN_ALGORITHM, "token_algorithm", 401,                                                     \
      "the token is not signed with HS256, HS384 or HS512\n")                                      \
    X(TOKEN_SIGNATURE, "token_signature", 401, "the token was not made with the key of this CA\n") \
    X(TOKEN_EXPIRED, "token_expired", 401, "the token has expired\n")                              \
    X(CERTIFICATE_INVALID, "certificate_invalid", 401,                                             \
      "the client certificate is not of this CA, or not valid any more\n")                         \
    X(CERTIFICATE_WRONG_NODE, "certificate_wrong_node", 401,                                       \
      "the client certificate is not of the node in Nodename\n")                                   \
    X(NODE_NAME, "node_name", 403, "the header Nodename is missing or no node name\n")             \
    X(REQUEST_MALFORMED, "request_malformed", 403, "the body is not one PKCS#10 request in DER\n") \
    X(REQUEST_KEY, "request_key", 403,                                                             \
      "the key must be EC P-256, P-384 or P-521, or RSA of 2048 to 4096 bits\n")                   \
    X(REQUEST_SIGNATURE, "request_signature", 403, "the request's signature is wrong\n")           \
    X(REQUEST_WRONG_NODE, "request_wrong_node", 403,                                               \
      "the request's subject must be O=system:nodes, CN=system:node:NAME of the node in "          \
      "Nodename\n")                                                                                \
    X(REQUEST_FOREIGN_NAMES, "request_foreign_names", 403, "the request asks for further names\n") \
    X(REQUEST_CA, "request_ca", 403, "the request asks for a CA's certificate\n")                  \
    X(REQUEST_USAGE, "request_usage", 403,                                                         \
      "only the usage clientAuth is given (Extkeyusages: [2])\n")                                  \
    X(NODE_DENIED, "node_denied", 403, "this node is kept out\n")                                  \
    X(NODE_CONNECTED, "node_connected", 403, "a node of this name is connected\n")                 \
    X(NODE_ALIVE, "node_alive", 403, "a node of this name has a fresh lease\n")                    \
    X(RATE_LIMITED, "rate_limited", 429,                                                           \
      "too many requests without a certificate, try again later\n")                                \
    X(ADDRESS_RATE_LIMITED, "address_rate_limited", 429,                                           \
      "too many requests from your address, try again later\n")                                    \
    X(TOO_BUSY, "too_busy", 429, "too many requests at once, try again later\n")                   \
    X(NO_CA_KEY, "no_ca_key", 500,                                                                 \
      "this hub was given its certificates as files and signs none\n")                             \
    X(API_ERROR, "api_error", 500, "the API server could not be asked about the node\n")           \
    X(INTERNAL, "internal", 500, "no certificate could be made\n")                                 \
    X(HTTP, "http", 0,                                                                             \
      "") /* the HTTP server refused it: too large, another method, too many connections */        \
    X(CONNECTION_LIMITED, "connection_limited", 0,                                                 \
      "")                  /* closed before TLS: too many from this address */                     \
    X(GONE, "gone", 0, "") /* the peer left before its answer */

#define JOIN_RESULT_ENUM(id, ...) JOIN_##id,
enum join_result { JOIN_RESULTS(JOIN_RESULT_ENUM) JOIN_RESULT_COUNT };
#undef JOIN_RESULT_ENUM

extern const char *const join_result_names[JOIN_RESULT_COUNT];
unsigned join_result_status(enum join_result result);
const char *join_result_text(enum join_result result);

/* What came with GET /edge.crt. All borrowed. */
struct join_request {
    const char *node;          /* header Nodename; NULL: missing */
    const char *authorization; /* header Authorization; NULL: missing */
    const char *usages;        /* header Extkeyusages; NULL: missing */
    X509 *certificate;         /* the client's; NULL: none */
    bool is_verified;          /* against the CA, for clients, at this time */
    const unsigned char *csr;
    size_t csr_size;
};

/* Whether the credentials are good for this node: JOIN_RENEWED (its own certificate), JOIN_ISSUED
 * (a token; then the node must not be alive), or why not. As CloudCore, a certificate makes the
 * token irrelevant. Cheap refusals come first. */
enum join_result join_check_credentials(const struct join_request *request,
                                        const struct secret_bytes *ca_key, int64_t now_s)
    __attribute__((warn_unused_result));
/* Whether the certificate request is one that a node may send: JOIN_ISSUED and its public key (for
 * EVP_PKEY_free()), or why not. What is not judged here is not copied into the certificate either.
 */
enum join_result join_check_csr(const struct join_request *request, EVP_PKEY **public_key)
    __attribute__((warn_unused_result));

/* A Lease (JSON): whether its holder renewed it, by its own clock, less than its duration ago. A
 * time that is ahead counts as fresh; a lease that was never renewed as stale. -EBADMSG: that
 * cannot be read from it. Else 0 or 1. */
int join_lease_is_fresh(const char *json, size_t size, int64_t now_s)
    __attribute__((warn_unused_result));

#endif
