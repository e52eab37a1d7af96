/* Who an edge is: what its verified certificate says, and whether the upgrade request fits it. Pure
 * but for reading the certificate; any thread. */
#ifndef HUB_IDENTITY_H
#define HUB_IDENTITY_H

#include "hub/reasons.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

/* The subject of a client certificate. */
struct identity {
    char common_name[300]; /* empty: none, more than one, or too long to be one of ours */
    bool is_node;          /* an O is system:nodes */
    bool is_legacy;        /* O=KubeEdge or kubeEdge, CN=kubeedge.io: EdgeCore before 1.16 */
};

/* `certificate` NULL gives an identity that fits nothing. */
void identity_read(X509 *certificate, struct identity *identity);
/* The same of a subject, such as a certificate request's. */
void identity_read_subject(const X509_NAME *subject, struct identity *identity);
/* Whether it is that node's own. */
bool identity_is_of(const struct identity *identity, const char *node_id);

/* What EdgeHub's upgrade request brings along. Texts are borrowed; NULL: the header is missing. */
struct upgrade_request {
    bool is_get;
    bool wants_upgrade;     /* Connection has the token upgrade */
    bool wants_websocket;   /* Upgrade is websocket */
    bool has_host, has_key; /* Host; Sec-WebSocket-Key, of a sane length */
    const char *version;    /* Sec-WebSocket-Version */
    const char *node_id;
    const char *connection_use; /* of a repeated header, the first */
};

struct upgrade_answer {
    unsigned status; /* 101, or why not */
    enum refuse_reason reason;
    const char *text; /* what the edge will log; constant */
    bool is_legacy;
};

/* Refuses what gorilla/websocket refuses (Upgrader.Upgrade), with its statuses; then compares
 * node_id with the certificate, which CloudHub does only with authorization on. Any path is taken,
 * as CloudHub's handler on "/" does. */
void upgrade_check(const struct upgrade_request *request, const struct identity *identity,
                   bool takes_legacy, struct upgrade_answer *answer);

#endif
