/* Where CA, server certificate and join token live: the Secrets casecret, cloudcoresecret and
 * tokensecret, in CloudCore's formats (cloud/pkg/cloudhub/servers/httpserver/pre_server.go): type
 * Opaque, raw DER, the token as ASCII.
 *
 * Replicas that start at one moment end up with the same: what is missing is created, and whoever
 * comes second (409 AlreadyExists) uses what the first one made. What is there is never replaced,
 * but for an outdated token and, when that is asked for, the server certificate, both by a patch
 * that carries the version it was decided on (409 Conflict: look again).
 *
 * Waits for its answers: start-up and threads of the pool. Reaches the API server only through
 * `call`. */
#ifndef HUB_JOIN_STORE_H
#define HUB_JOIN_STORE_H

#include "hub/api_blocking.h"
#include "hub/join_cert.h"

struct join_store {
    /* As api_blocking_call(). */
    int (*call)(void *context, const char *method, const char *path, const char *content_type,
                const char *body, struct api_blocking_answer *answer, struct errbuf *e);
    void *context;
    const char *name_space;
};

/* The CA, made if there is none. 0; -EACCES (the API server refuses), -EINVAL (what is stored
 * cannot be used, see join_cert.h), -EAGAIN (it changed again and again), an error of `call`, and
 * `e`. */
int join_store_ca(const struct join_store *store, int64_t now_s, struct join_pair *ca,
                  struct errbuf *e) __attribute__((warn_unused_result));
/* The server certificate, made for `names` if there is none; one that lacks a name is said so in
 * the log. With `may_renew` it is replaced by one that has those names too, also when it is of
 * another CA or has expired, which is an error otherwise. Errors as above. */
int join_store_server(const struct join_store *store, const struct join_pair *ca,
                      const GENERAL_NAMES *names, bool may_renew, int64_t now_s,
                      struct join_pair *server, struct errbuf *e)
    __attribute__((warn_unused_result));
/* The server certificate that is stored now. Errors as above. */
int join_store_read_server(const struct join_store *store, const struct join_pair *ca,
                           int64_t now_s, struct join_pair *server, struct errbuf *e)
    __attribute__((warn_unused_result));
/* Sees to it that the stored token is of this CA and good for at least `refresh_s` more; a new one
 * is good for twice as long. 1: a new one was stored; 0: the stored one is good. Errors as above.
 */
int join_store_token(const struct join_store *store, const struct join_pair *ca, int64_t refresh_s,
                     int64_t now_s, struct errbuf *e) __attribute__((warn_unused_result));

#endif
