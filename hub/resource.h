/* Names: what an edge calls a resource, `<namespace>/<type>[/<name>]` (kubeedge-protocol, section
 * 3; kubeedge cloud/pkg/common/messagelayer/util.go), and what the API server calls it, a URL path.
 *
 * An edge's text is taken for what it says only if nothing in it could mean something else in a
 * path: no empty segment, no "." or "..", nothing but letters, digits and a few marks. Legal names
 * need no more. The path builder checks and escapes once more: what slipped through somewhere could
 * still not leave its segment.
 *
 * Pure, no allocation, any thread. */
#ifndef HUB_RESOURCE_H
#define HUB_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A part of somebody else's text: borrowed as long as that lives, not NUL-terminated. */
struct text_span {
    const char *at;
    size_t size;
};

bool text_span_equals(const struct text_span *s, const char *text);

#define RESOURCE_MAX_NAMESPACE 63
#define RESOURCE_MAX_TYPE      63
#define RESOURCE_MAX_NAME      253

struct resource {
    struct text_span ns, type, name; /* name.size 0: none */
};

/* Splits two or three segments. The namespace is a DNS label ("null" stands for none, in
 * cluster-scoped types), the type a lower-case word, the name a legal path segment
 * (resource_name_is_segment). 0 or -EBADMSG; the spans point into `text`. */
int resource_parse(const char *text, size_t size, struct resource *r)
    __attribute__((warn_unused_result));

/* What nearly all kinds ask of a name: RFC 1123 subdomain, lower case, at most 253 (apimachinery
 * validation.go). */
bool resource_name_is_subdomain(const struct text_span *name);
/* What the rest ask, events among them: a printable ASCII segment that is not "." or ".." and has
 * none of / % ? # \ in it. Kubernetes (path/name.go) refuses only the first two; the others have no
 * place in a name and a meaning in a URL. */
bool resource_name_is_segment(const struct text_span *name);

/* What the API server keeps: X(id, group and version, plural, is namespaced). */
#define RESOURCE_KINDS(X)                                                                          \
    X(NODE, "/api/v1", "nodes", false)                                                             \
    X(POD, "/api/v1", "pods", true)                                                                \
    X(CONFIGMAP, "/api/v1", "configmaps", true)                                                    \
    X(SECRET, "/api/v1", "secrets", true)                                                          \
    X(SERVICEACCOUNT, "/api/v1", "serviceaccounts", true)                                          \
    X(PERSISTENTVOLUME, "/api/v1", "persistentvolumes", false)                                     \
    X(PERSISTENTVOLUMECLAIM, "/api/v1", "persistentvolumeclaims", true)                            \
    X(EVENT, "/api/v1", "events", true)                                                            \
    X(LEASE, "/apis/coordination.k8s.io/v1", "leases", true)                                       \
    X(VOLUMEATTACHMENT, "/apis/storage.k8s.io/v1", "volumeattachments", false)                     \
    X(CSR, "/apis/certificates.k8s.io/v1", "certificatesigningrequests", false)

#define RESOURCE_ENUM(id, ...) RESOURCE_##id,
enum resource_kind { RESOURCE_NONE, RESOURCE_KINDS(RESOURCE_ENUM) RESOURCE_KIND_COUNT };
#undef RESOURCE_ENUM

bool resource_is_namespaced(enum resource_kind kind);

/* Enough for every path of legal names. */
#define RESOURCE_PATH_MAX 1024

/* Builds PREFIX[/namespaces/NS]/PLURAL[/NAME[/SUBRESOURCE]], percent-escaped, NUL-terminated. NS is
 * used for namespaced kinds only; where its size is 0 the path is that of all namespaces. An empty
 * name makes the path of the collection. `subresource` is a constant of ours or NULL. Returns the
 * length, or -ENAMETOOLONG. */
int resource_api_path(enum resource_kind kind, const struct text_span *ns,
                      const struct text_span *name, const char *subresource, char *to, size_t room)
    __attribute__((warn_unused_result));

/* An object's name as a number, to compare by. The namespace counts for namespaced kinds only. 0
 * for RESOURCE_NONE. */
uint64_t resource_hash(enum resource_kind kind, const struct text_span *ns,
                       const struct text_span *name);

/* metadata.resourceVersion as a number, which is how CloudCore compares them; 0 where it is none.
 */
uint64_t resource_version(const char *text, size_t size);

#endif
