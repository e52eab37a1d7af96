/* Why something was closed, refused or dropped: the words in the log, and the values of the metric label. */
#ifndef HUB_REASONS_H
#define HUB_REASONS_H

/* Why a session ended. */
#define CLOSE_REASONS(X)                                                                                               \
    X(PEER, "peer")                           /* the edge closed it, or its connection broke */                        \
    X(REPLACED, "replaced")                   /* the same node connected again */                                      \
    X(KEEPALIVE_TIMEOUT, "keepalive_timeout") /* silent for --keepalive-timeout */                                     \
    X(MESSAGE_TOO_LARGE, "message_too_large") /* over --max-message-bytes */                                           \
    X(MESSAGE_TIMEOUT, "message_timeout")     /* begun, but not ended in time */                                       \
    X(REASSEMBLY_BUDGET, "reassembly_budget") /* the largest of the half-received when the budget was reached */       \
    X(INVALID_MESSAGE, "invalid_message")     /* not an envelope, or binary */                                         \
    X(SLOW_READER, "slow_reader")             /* did not take what was sent to it */                                   \
    X(WRITE_FAILED, "write_failed")                                                                                    \
    X(PROTOCOL, "protocol")                   /* websocket or TLS misuse */                                            \
    X(SHUTDOWN, "shutdown")                                                                                            \
    X(RELEASED, "released")                   /* let go so that another replica takes it */                            \
    X(NODE_DELETED, "node_deleted")           /* its Node was deleted */                                               \
    X(DENIED, "denied")                       /* its name was put on the list of --deny-nodes */                       \
    X(NO_MEMORY, "no_memory")

/* Why a connection never became a session. */
#define REFUSE_REASONS(X)                                                                                              \
    X(MAX_CONNECTIONS, "max_connections")                                                                              \
    X(QUEUE_FULL, "queue_full")               /* more waited for a handshake than may */                               \
    X(QUEUE_TIMEOUT, "queue_timeout")         /* waited longer than --accept-wait */                                   \
    X(PROXY_HEADER, "proxy_header")           /* missing, malformed or late PROXY header */                            \
    X(TLS, "tls")                             /* handshake failed: certificate missing, foreign, expired, garbage */   \
    X(HANDSHAKE_TIMEOUT, "handshake_timeout") /* TLS or upgrade not done in time */                                    \
    X(BAD_REQUEST, "bad_request")             /* not the upgrade EdgeHub sends */                                      \
    X(WRONG_NODE, "wrong_node")               /* node_id is not the certificate's */                                   \
    X(DENIED, "denied")                       /* on the list of --deny-nodes */                                        \
    X(DRAINING, "draining")                                                                                            \
    X(STEERED, "steered")                     /* another replica has more room for a node that was let go */          \
    X(PEER_LEFT, "peer_left")                                                                                          \
    X(NO_MEMORY, "no_memory")

/* Why a message was not carried out. Routing has reasons of its own (hub/route.h). */
#define DROP_REASONS(X)                                                                                                \
    X(DEADLINE, "deadline")                   /* its edge no longer waits for it */                                    \
    X(EVENT_OVERFLOW, "event_overflow")       /* the oldest waiting event of a node that has too many */               \
    X(BAD_CONTENT, "bad_content")             /* no API request can be made of it */                                   \
    X(API_ERROR, "api_error")                 /* an event the API server did not take */                               \
    X(NO_MEMORY, "no_memory")                                                                                          \
    X(SHUTDOWN, "shutdown")                                                                                            \
    X(SESSION_GONE, "session_gone")           /* an answer whose asker has left */                                     \
    X(SEND_FAILED, "send_failed")             /* an answer its session could not take */

/* What became of a node that was chosen to be let go. */
#define RELEASE_RESULTS(X)                                                                                             \
    X(BRIDGED, "bridged")   /* gone, and its lease is renewed for it */                                                \
    X(PLAIN, "plain")       /* gone without that */                                                                    \
    X(KEPT, "kept")         /* annotated isthmus.io/keep */                                                            \
    X(FAILED, "failed")     /* it could not be prepared, or it was gone already */

#define RELEASE_ENUM(id, text) RELEASE_##id,
enum release_result { RELEASE_RESULTS(RELEASE_ENUM) RELEASE_RESULT_COUNT };
#undef RELEASE_ENUM

#define CLOSE_ENUM(id, text)  CLOSE_##id,
#define REFUSE_ENUM(id, text) REFUSE_##id,
#define DROP_ENUM(id, text)   DROP_##id,
enum close_reason { CLOSE_REASONS(CLOSE_ENUM) CLOSE_REASON_COUNT };
enum refuse_reason { REFUSE_REASONS(REFUSE_ENUM) REFUSE_REASON_COUNT };
enum drop_reason { DROP_REASONS(DROP_ENUM) DROP_REASON_COUNT };
#undef CLOSE_ENUM
#undef REFUSE_ENUM
#undef DROP_ENUM

extern const char *const close_reason_names[CLOSE_REASON_COUNT];
extern const char *const refuse_reason_names[REFUSE_REASON_COUNT];
extern const char *const drop_reason_names[DROP_REASON_COUNT];
extern const char *const release_result_names[RELEASE_RESULT_COUNT];

#endif
