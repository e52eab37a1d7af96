/* What a message of an edge is, and so where it goes: a pure decision from its envelope and the
 * name of the node whose connection it came on. The order of the questions is CloudHub's (kubeedge
 * cloud/pkg/cloudhub/dispatcher /message_dispatcher.go and edgecontroller/controller/upstream.go;
 * kubeedge-protocol 3.1 and 4.1).
 *
 * A node speaks for itself only: in messages about a node or its lease, the name must be the
 * connection's. Whose pods, secrets and so on it may reach is the API server's decision.
 *
 * Pure, no allocation, any thread. */
#ifndef HUB_ROUTE_H
#define HUB_ROUTE_H

#include "hub/envelope.h"
#include "hub/lane.h"
#include "hub/resource.h"

enum route_class {
    ROUTE_KEEPALIVE,  /* restarts the session's timer, no answer */
    ROUTE_ACK,        /* operation response: acknowledges the message parent_msg_id */
    ROUTE_EDGE_ERROR, /* operation error: the edge could not do what parent_msg_id asked */
    ROUTE_CONTROL,    /* ping, pong, config: answered at connection level with "ack" */
    ROUTE_UPSTREAM,   /* for the API server: see kind */
    ROUTE_IGNORED,    /* legitimate, but not served here: see reason */
    ROUTE_REFUSED     /* nothing an edge has any business sending: see reason */
};

/* Why a message does not go upstream, and the value of the metric label. */
#define ROUTE_REASONS(X)                                                                           \
    X(NONE, "none") /* it does go upstream */                                                      \
    X(KEEPALIVE, "keepalive")                                                                      \
    X(ACK, "ack")                                                                                  \
    X(EDGE_ERROR, "edge_error")                                                                    \
    X(CONTROL, "control")                                                                          \
    /* ignored */                                                                                  \
    X(EMPTY, "empty")                 /* no operation and no resource: EdgeCore on its way out */  \
    X(VOLUME, "volume")               /* an answer for the CSI driver's socket */                  \
    X(UPLOAD, "upload")               /* EventBus and ServiceBus, for the Router module */         \
    X(NODE_TASK, "node_task")         /* upgrades, image prepulls: TaskManager */                  \
    X(METASERVER, "metaserver")       /* DynamicController */                                      \
    X(DEVICE, "device")               /* DeviceController: device/... */                           \
    X(TWIN, "twin")                   /* DeviceController: everything else of source twin */       \
    X(UNKNOWN_KIND, "unknown_kind")   /* a type that EdgeController does not handle */             \
    X(BAD_OPERATION, "bad_operation") /* an operation it does not handle for this type */          \
    /* refused */                                                                                  \
    X(RESERVED_SOURCE, "reserved_source") /* claims to come from a module of the cloud */          \
    X(BAD_RESOURCE, "bad_resource")       /* not <namespace>/<type>/<name>, or path tricks */      \
    X(BAD_NAME, "bad_name")               /* no name that this kind may have, or none at all */    \
    X(BAD_NAMESPACE, "bad_namespace")     /* a lease outside kube-node-lease */                    \
    X(FOREIGN_NODE, "foreign_node")       /* another node's node or lease */

#define ROUTE_REASON_ENUM(id, text) ROUTE_REASON_##id,
enum route_reason { ROUTE_REASONS(ROUTE_REASON_ENUM) ROUTE_REASON_COUNT };
#undef ROUTE_REASON_ENUM

extern const char *const route_reason_names[ROUTE_REASON_COUNT];

/* The form of a successful answer's content (kubeedge-protocol 4.1, 4.2). */
enum answer_shape {
    ANSWER_OBJECT_RESP,  /* {"Object":{...},"Err":null} */
    ANSWER_PLAIN_OBJECT, /* the object itself; failures are operation error with a text */
    ANSWER_OK_TEXT,      /* "OK" */
    ANSWER_TEXT,         /* a string of our making: the cluster's CA */
    ANSWER_NONE          /* nobody waits for one */
};

/* How a name is checked. */
enum name_rule {
    NAME_SUBDOMAIN, /* resource_name_is_subdomain() */
    NAME_SEGMENT,   /* resource_name_is_segment() */
    NAME_OWN_NODE,  /* must be the connection's node */
    NAME_OPTIONAL,  /* may be absent (podstatus of EdgeCore <= 1.11: an array of them) */
    NAME_FREE       /* not looked at */
};

/* What an edge may send upstream: X(id, label, type, operation, lane, object, name rule, answer, is
 * coalesced). `object` is what it reads or changes: kinds with the same object, namespace and name
 * keep their order (nodepatch and nodestatus are about the node, podpatch and podstatus about the
 * pod); where resource_is_namespaced() says no, the namespace is a manner of speaking and the same
 * object is meant under any. A coalesced kind is replaced by a newer one that waits. Rows of lane
 * OWN have no type: no message is ever classified as one of them. */
/* clang-format off */
#define UPSTREAM_KINDS(X) \
    X(NODE_INSERT,                 "node_insert",                 "node",                      "insert", LIVENESS, NODE,                  OWN_NODE,  OBJECT_RESP,  false) \
    X(NODE_QUERY,                  "node_query",                  "node",                      "query",  LIVENESS, NODE,                  OWN_NODE,  PLAIN_OBJECT, false) \
    X(NODE_UPDATE,                 "node_update",                 "node",                      "update", LIVENESS, NODE,                  OWN_NODE,  OK_TEXT,      false) \
    X(NODESTATUS_INSERT,           "nodestatus_insert",           "nodestatus",                "insert", LIVENESS, NODE,                  OWN_NODE,  OK_TEXT,      false) \
    X(NODESTATUS_UPDATE,           "nodestatus_update",           "nodestatus",                "update", LIVENESS, NODE,                  OWN_NODE,  OK_TEXT,      true)  \
    X(NODEPATCH,                   "nodepatch",                   "nodepatch",                 "patch",  LIVENESS, NODE,                  OWN_NODE,  OBJECT_RESP,  false) \
    X(LEASE_QUERY,                 "lease_query",                 "lease",                     "query",  LIVENESS, LEASE,                 OWN_NODE,  OBJECT_RESP,  false) \
    X(LEASE_INSERT,                "lease_insert",                "lease",                     "insert", LIVENESS, LEASE,                 OWN_NODE,  OBJECT_RESP,  false) \
    X(LEASE_UPDATE,                "lease_update",                "lease",                     "update", LIVENESS, LEASE,                 OWN_NODE,  OBJECT_RESP,  true)  \
    X(PODSTATUS_UPDATE,            "podstatus_update",            "podstatus",                 "update", STATUS,   POD,                   OPTIONAL,  OK_TEXT,      true)  \
    X(PODPATCH,                    "podpatch",                    "podpatch",                  "patch",  STATUS,   POD,                   SUBDOMAIN, OBJECT_RESP,  false) \
    X(POD_INSERT,                  "pod_insert",                  "pod",                       "insert", STATUS,   POD,                   SUBDOMAIN, OBJECT_RESP,  false) \
    X(POD_DELETE,                  "pod_delete",                  "pod",                       "delete", STATUS,   POD,                   SUBDOMAIN, OK_TEXT,      false) \
    X(EVENT_INSERT,                "event_insert",                "event",                     "insert", EVENT,    EVENT,                 SEGMENT,   NONE,         false) \
    X(EVENT_UPDATE,                "event_update",                "event",                     "update", EVENT,    EVENT,                 SEGMENT,   NONE,         false) \
    X(EVENT_PATCH,                 "event_patch",                 "event",                     "patch",  EVENT,    EVENT,                 SEGMENT,   NONE,         false) \
    X(CONFIGMAP_QUERY,             "configmap_query",             "configmap",                 "query",  QUERY,    CONFIGMAP,             SUBDOMAIN, PLAIN_OBJECT, false) \
    X(SECRET_QUERY,                "secret_query",                "secret",                    "query",  QUERY,    SECRET,                SUBDOMAIN, PLAIN_OBJECT, false) \
    X(SERVICEACCOUNTTOKEN_QUERY,   "serviceaccounttoken_query",   "serviceaccounttoken",       "query",  QUERY,    SERVICEACCOUNT,        SUBDOMAIN, PLAIN_OBJECT, false) \
    X(PERSISTENTVOLUME_QUERY,      "persistentvolume_query",      "persistentvolume",          "query",  QUERY,    PERSISTENTVOLUME,      SUBDOMAIN, PLAIN_OBJECT, false) \
    X(PERSISTENTVOLUMECLAIM_QUERY, "persistentvolumeclaim_query", "persistentvolumeclaim",     "query",  QUERY,    PERSISTENTVOLUMECLAIM, SUBDOMAIN, PLAIN_OBJECT, false) \
    X(VOLUMEATTACHMENT_QUERY,      "volumeattachment_query",      "volumeattachment",          "query",  QUERY,    VOLUMEATTACHMENT,      SUBDOMAIN, PLAIN_OBJECT, false) \
    X(CSR_INSERT,                  "csr_insert",                  "certificatesigningrequest", "insert", QUERY,    CSR,                   SUBDOMAIN, OBJECT_RESP,  false) \
    X(CSR_QUERY,                   "csr_query",                   "certificatesigningrequest", "query",  QUERY,    CSR,                   SUBDOMAIN, PLAIN_OBJECT, false) \
    X(K8S_CA_QUERY,                "k8s_ca_query",                NULL,                        NULL,     QUERY,    NONE,                  FREE,      TEXT,         false) \
    X(NODE_CONNECTED,              "node_connected",              NULL,                        NULL,     OWN,      NONE,                  FREE,      NONE,         false) \
    X(NODE_RELEASE,                "node_release",                NULL,                        NULL,     OWN,      NONE,                  FREE,      NONE,         false)
/* clang-format on */

#define UPSTREAM_ENUM(id, ...) UPSTREAM_##id,
enum upstream_kind { UPSTREAM_KINDS(UPSTREAM_ENUM) UPSTREAM_KIND_COUNT };
#undef UPSTREAM_ENUM

struct upstream_kind_info {
    const char *name; /* the metric label */
    const char *type; /* the resource's second segment; NULL: not told by type and operation */
    const char *operation;
    enum lane lane;
    enum resource_kind object;
    enum name_rule name_rule;
    enum answer_shape answer;
    bool is_coalesced;
};

/* Whether a message of this kind is the hub's own: no edge sent it, none waits for its end. */
static inline bool upstream_is_own(enum upstream_kind kind)
{
    return kind == UPSTREAM_NODE_CONNECTED || kind == UPSTREAM_NODE_RELEASE;
}

extern const struct upstream_kind_info upstream_kinds[UPSTREAM_KIND_COUNT];
extern const char *const upstream_kind_names[UPSTREAM_KIND_COUNT];

struct route {
    enum route_class class;
    enum upstream_kind kind;  /* ROUTE_UPSTREAM; else UPSTREAM_KIND_COUNT */
    enum route_reason reason; /* ROUTE_REASON_NONE with ROUTE_UPSTREAM */
    /* ROUTE_UPSTREAM: into the envelope's text (k8s/ca.crt: constants). name.size 0: none. */
    struct text_span ns, type, name;
};

/* Classifies a message of the node `node`. Never fails. */
void route_classify(const struct envelope *e, const char *node, size_t node_size,
                    struct route *route);

#endif
