/* See identity.h. */
#include "hub/identity.h"

#include "hub/resource.h"

#include <openssl/x509.h>
#include <string.h>
#include <strings.h>

#define NODE_PREFIX "system:node:"

/* Copies an attribute's value if it fits and hides no NUL. */
static bool copy_value(const X509_NAME_ENTRY *entry, char *to, size_t room)
{
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(entry);
    int length = ASN1_STRING_length(value);
    const unsigned char *bytes = ASN1_STRING_get0_data(value);
    int type = ASN1_STRING_type(value);

    if (type != V_ASN1_UTF8STRING && type != V_ASN1_PRINTABLESTRING && type != V_ASN1_IA5STRING)
        return false;
    if (length <= 0 || (size_t)length >= room || memchr(bytes, 0, (size_t)length))
        return false;
    memcpy(to, bytes, (size_t)length);
    to[length] = '\0';
    return true;
}

/* The one common name; a subject that has several is nobody. */
static void read_common_name(const X509_NAME *subject, struct identity *identity)
{
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return;
    if (!copy_value(X509_NAME_get_entry(subject, at), identity->common_name,
                    sizeof(identity->common_name)))
        identity->common_name[0] = '\0';
}

void identity_read_subject(const X509_NAME *subject, struct identity *identity)
{
    *identity = (struct identity){.is_node = false};
    if (!subject)
        return;
    bool is_old = false;
    read_common_name(subject, identity);
    for (int at = X509_NAME_get_index_by_NID(subject, NID_organizationName, -1); at >= 0;
         at = X509_NAME_get_index_by_NID(subject, NID_organizationName, at)) {
        char organization[64];
        if (!copy_value(X509_NAME_get_entry(subject, at), organization, sizeof(organization)))
            continue;
        if (strcmp(organization, "system:nodes") == 0)
            identity->is_node = true;
        if (strcasecmp(organization, "kubeedge") == 0)
            is_old = true;
    }
    identity->is_legacy = is_old && strcmp(identity->common_name, "kubeedge.io") == 0;
}

void identity_read(X509 *certificate, struct identity *identity)
{
    identity_read_subject(certificate ? X509_get_subject_name(certificate) : NULL, identity);
}

bool identity_is_of(const struct identity *identity, const char *node_id)
{
    const size_t prefix = sizeof(NODE_PREFIX) - 1;
    return identity->is_node && strncmp(identity->common_name, NODE_PREFIX, prefix) == 0 &&
           strcmp(identity->common_name + prefix, node_id) == 0;
}

static bool refuse(struct upgrade_answer *answer, unsigned status, enum refuse_reason reason,
                   const char *text)
{
    answer->status = status;
    answer->reason = reason;
    answer->text = text;
    return false;
}

static bool check_handshake(const struct upgrade_request *r, struct upgrade_answer *answer)
{
    if (!r->is_get)
        return refuse(answer, 405, REFUSE_BAD_REQUEST, "Method Not Allowed");
    if (!r->wants_upgrade || !r->wants_websocket || !r->has_host || !r->has_key)
        return refuse(answer, 400, REFUSE_BAD_REQUEST, "Bad Request: not a websocket handshake");
    if (!r->version || strcmp(r->version, "13") != 0)
        return refuse(answer, 400, REFUSE_BAD_REQUEST,
                      "Bad Request: Sec-WebSocket-Version must be 13");
    return true;
}

static bool check_headers(const struct upgrade_request *r, struct upgrade_answer *answer)
{
    struct text_span name = {r->node_id, r->node_id ? strlen(r->node_id) : 0};
    if (name.size == 0)
        return refuse(answer, 400, REFUSE_BAD_REQUEST, "Bad Request: no node_id");
    if (!resource_name_is_subdomain(&name))
        return refuse(answer, 400, REFUSE_BAD_REQUEST, "Bad Request: node_id is no node name");
    /* CloudHub never reads a connection of any other use; it would look alive and be dead. */
    if (!r->connection_use || strcmp(r->connection_use, "msg") != 0)
        return refuse(answer, 400, REFUSE_BAD_REQUEST, "Bad Request: ConnectionUse must be msg");
    return true;
}

void upgrade_check(const struct upgrade_request *request, const struct identity *identity,
                   bool takes_legacy, struct upgrade_answer *answer)
{
    *answer = (struct upgrade_answer){.status = 101};
    if (!check_handshake(request, answer) || !check_headers(request, answer))
        return;
    if (identity_is_of(identity, request->node_id))
        return;
    if (takes_legacy && identity->is_legacy) {
        answer->is_legacy = true;
        return;
    }
    refuse(answer, 403, REFUSE_WRONG_NODE,
           identity->is_legacy
               ? "Forbidden: the client certificate names no node (--legacy-client-certs is off)"
               : "Forbidden: node_id is not the node of the client certificate");
}
