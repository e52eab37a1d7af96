/* Who wants what: the index of the cluster's objects that edges can have, of the nodes, and of the
 * links between them.
 *
 *   node ---link---> object
 *
 * An object is a Pod, ConfigMap, Secret or Node by kind, namespace, name and UID: key, UID and
 * version are kept, never its content. It is LIVE (the API server has it), GONE (it had it, or a
 * record speaks of it) or AWAITED (a pod mentions a name that there is nothing of yet). A name has
 * at most one that is live or awaited, and any number that are gone.
 *
 * A link says that the node's edge has the object, or is to have it: a pod is bound to the node, a
 * pod of the node mentions the ConfigMap, an ObjectSync record says so, or the edge asked for it.
 * Like CloudCore's location cache, links outlive the pod that made them: the edge keeps what it
 * got, so it must hear of its changes.
 *
 * Memory: see want_stats(). A live object without links costs sizeof(struct want_object) and its
 * name; nothing here is bounded but by what the API server holds. Pure, one thread. An allocation
 * that fails leaves everything as it was. */
#ifndef HUB_WANT_H
#define HUB_WANT_H

#include "hub/pushqueue.h"
#include "hub/resource.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct want;
struct want_node;
struct want_object;

/* A UID is a UUID: Kubernetes makes them so (apimachinery/pkg/util/uuid). */
#define WANT_UID_TEXT 36
struct want_uid {
    uint8_t bytes[16];
};
bool want_uid_parse(const char *text, size_t size, struct want_uid *uid);
void want_uid_format(const struct want_uid *uid, char to[WANT_UID_TEXT + 1]);
bool want_uid_equals(const struct want_uid *a, const struct want_uid *b);

/* The key of an object; spans are borrowed. `ns` is empty for kinds without. */
struct want_key {
    enum resource_kind kind; /* NODE, POD, CONFIGMAP, SECRET; NONE: a record of another kind, only
                                kept to be collected */
    struct text_span ns, name;
};

enum want_state { WANT_AWAITED, WANT_LIVE, WANT_GONE };

struct want_link {
    struct push_item item;
    struct want_node *node;
    struct want_object *object;
    struct want_link *next_of_node;
    struct want_link *next_of_object, **link_of_object;
    uint64_t recorded; /* the version in its ObjectSync record; 0: none is known, or the record's
                          status is empty */
    bool has_record;   /* there is one */
    bool is_gone_for_sure; /* the deletion was seen, not inferred */
    bool is_deleted;       /* and its edge has acknowledged it, or has a successor instead */
    /* for the owner */
    uint8_t epoch; /* of the last list that had its record */
    uint8_t work;
    uint8_t calls; /* API requests under way for it: it may not be removed */
};

struct want_object {
    struct want_object *next; /* of the hash chain */
    struct want_link *links;
    uint64_t version; /* the newest seen; 0: none */
    uint64_t changed; /* the version that brought the last change which edges must hear of */
    uint64_t digest;  /* of what they must hear of; AWAITED: until when, ms, 0: for ever */
    void *body;       /* for the owner; want_destroy() frees it */
    uint32_t hash;
    uint32_t waiting;    /* for the owner */
    struct want_uid uid; /* AWAITED: zero */
    uint8_t kind, state, epoch;
    uint8_t ns_size, name_size;
    bool is_terminating; /* it has a deletionTimestamp */
    char text[];         /* ns, name */
};

struct want_node {
    struct want_node *next;
    struct want_link *links;
    void *session;       /* for the owner: not NULL keeps the node here */
    uint64_t collect_ms; /* for the owner */
    uint32_t hash;
    uint8_t size;
    char text[]; /* NUL-terminated */
};

struct want *want_create(void); /* NULL: no memory */
void want_destroy(struct want *w);

struct want_key want_object_key(const struct want_object *o);

/* ---- nodes ---- */

struct want_node *want_node_find(struct want *w, const char *name, size_t size);
struct want_node *want_node_get(struct want *w, const char *name,
                                size_t size); /* found or made; NULL: no memory */
/* Forgets the node if it has no session and no links. */
void want_node_release(struct want *w, struct want_node *n);

/* ---- objects ---- */

/* The one that is live or awaited under this name, or NULL. */
struct want_object *want_object_current(struct want *w, const struct want_key *key);
/* The one with this UID, in whatever state, or NULL. */
struct want_object *want_object_find(struct want *w, const struct want_key *key,
                                     const struct want_uid *uid);

/* The API server has it: makes it live. What was awaited under the name becomes it; what was live
 * under the name with another UID is gone (`replaced`, else NULL). NULL: no memory. */
struct want_object *want_object_live(struct want *w, const struct want_key *key,
                                     const struct want_uid *uid, struct want_object **replaced);
/* A pod mentions the name: the one that is live or awaited, made as awaited if there is none. NULL:
 * no memory. */
struct want_object *want_object_await(struct want *w, const struct want_key *key);
/* A record speaks of it: found, or made as gone. NULL: no memory. */
struct want_object *want_object_recorded(struct want *w, const struct want_key *key,
                                         const struct want_uid *uid);
/* It is no longer live. Forgotten at once if it has no links; then true, and `o` is freed. */
bool want_object_gone(struct want *w, struct want_object *o);
/* Forgets what was awaited until now. */
void want_expire(struct want *w, uint64_t now_ms);

/* A list of the kind begins: what want_object_live() does not name until want_list_end() is not
 * there any more. */
void want_list_begin(struct want *w, enum resource_kind kind);
/* Calls `missing` for each live object of the kind that was not in the list. It may do
 * want_object_gone() with it, and await others. */
void want_list_end(struct want *w, enum resource_kind kind,
                   void (*missing)(void *context, struct want_object *o), void *context);

/* ---- links ---- */

struct want_link *want_link_find(const struct want_node *n, const struct want_object *o);
struct want_link *want_link_get(struct want *w, struct want_node *n,
                                struct want_object *o); /* NULL: no memory */
/* Its item is out of every queue. Forgets the object too if that is gone or awaited and nobody
 * else's. */
void want_link_remove(struct want *w, struct want_link *l);

/* Every node; `each` may not remove nodes but by setting them aside. */
void want_nodes_each(struct want *w, void (*each)(void *context, struct want_node *n),
                     void *context);

struct want_stats {
    uint64_t objects, links, nodes;
    uint64_t bytes; /* of all of it, malloc's own overhead apart */
};
void want_stats(const struct want *w, struct want_stats *stats);

#endif
