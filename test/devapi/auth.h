/* Who makes a request: client certificate, bearer token, impersonation. Loop thread only. */
#ifndef DEVAPI_AUTH_H
#define DEVAPI_AUTH_H

#include "isthmus/errbuf.h"
#include "test/devapi/exchange.h"

struct dev_tokens;

/* A static token file as kube-apiserver's: TOKEN,USER,UID[,"GROUP,GROUP"], one a line. 0 or
 * negative errno and `e`. */
int dev_tokens_load(const char *path, struct dev_tokens **tokens, struct errbuf *e);
void dev_tokens_destroy(struct dev_tokens *tokens);

/* Fills x->user and x->node. Administrators (group system:masters) and service accounts may
 * impersonate. True, or false and 401 or 403 in `e`. */
bool dev_authenticate(struct dev_exchange *x, struct dev_error *e);

#endif
