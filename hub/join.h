/* Joining: CA, server certificate and join token (from files, or from the Secrets they share with
 * other replicas and with CloudCore), and the HTTPS endpoint (10002) where edges get their
 * certificates, as CloudCore serves it (cloud/pkg/cloudhub/servers/httpserver).
 *
 *     GET /ca.crt                   the CA certificate, DER
 *     GET /edge.crt                 a certificate for the PKCS#10 request in the body (of a GET),
 * DER; who asks shows the node's old certificate or "Authorization: Bearer JWT"; refusals stand in
 * join_request.h GET /node/NAME                200 or 404: `keadm join` goes on only with 404 POST
 * /nodeupgrade, /task/...  404: there are no node jobs here; the edge's tools log it and go on
 *
 * Control thread, on its loop. What waits for the API server runs on threads of libuv's pool. */
#ifndef HUB_JOIN_H
#define HUB_JOIN_H

#include "hub/config.h"
#include "isthmus/apiclient.h"
#include "isthmus/errbuf.h"

#include <uv.h>

struct hub;
struct join;
struct tls_material;

/* New certificates are there. Not 0 and `e`: they cannot be used, the old ones stay in force
 * everywhere. */
typedef int (*join_tls_changed)(void *context, struct tls_material *tls, struct errbuf *e);

/* Reads or makes CA, server certificate and token; waits for the API server, for up to a minute.
 * Borrows `config` and `api` until join_destroy(). 0, or a negative errno and `e`. */
int join_create(const struct config *config, struct apiconfig *api, struct join **join,
                struct errbuf *e) __attribute__((warn_unused_result));
/* What the hub serves with now; borrowed until it changes. */
struct tls_material *join_tls(struct join *join);
/* Listens on --https-address (empty: not at all), and from now on sees to the token. Borrows `hub`
 * until join_close(). 0, or a negative errno and `e`. */
int join_start(struct join *join, uv_loop_t *loop, struct hub *hub, join_tls_changed changed,
               void *context, struct errbuf *e) __attribute__((warn_unused_result));
/* Reads the files again now, or begins to read the Secrets again. On failure the old ones stay in
 * force. */
int join_reload(struct join *join, struct errbuf *e) __attribute__((warn_unused_result));
/* The port of the endpoint; 0 when it is off. */
uint16_t join_port(const struct join *join);

/* Stops. The loop has to run until nothing of it is alive, then join_destroy(). Also for one that
 * was not started. */
void join_close(struct join *join);
void join_destroy(struct join *join);

#endif
