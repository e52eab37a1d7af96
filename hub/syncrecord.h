/* ObjectSync and ClusterObjectSync: what a node's edge has acknowledged of one object, in
 * CloudCore's format (kubeedge-protocol 5.4; kubeedge
 * staging/src/github.com/kubeedge/api/apis/reliablesyncs/v1alpha1/type.go,
 * cloud/pkg/synccontroller/objectsync.go):
 *
 *     {"apiVersion":"reliablesyncs.kubeedge.io/v1alpha1","kind":"ObjectSync",
 *      "metadata":{"name":"NODE.UID","namespace":"NS"},
 *      "spec":{"objectAPIVersion":"v1","objectKind":"Pod","objectName":"NAME"},
 *      "status":{"objectResourceVersion":"123"}}
 *
 * An object with a namespace has an ObjectSync in that namespace, one without a ClusterObjectSync.
 * Pure; any thread. */
#ifndef HUB_SYNCRECORD_H
#define HUB_SYNCRECORD_H

#include "hub/want.h"

/* What a record says. Spans point into its JSON; none of them needs unescaping. */
struct syncrecord {
    struct text_span node;
    struct want_key key; /* kind RESOURCE_NONE: one that is not served here */
    struct want_uid uid;
    uint64_t version; /* of an empty status 0, like "0" */
    bool has_status;
};

/* 0, or -EBADMSG: not a record of CloudCore's making. */
int syncrecord_read(const char *json, size_t size, struct syncrecord *r)
    __attribute__((warn_unused_result));

/* What the record of an object of this node is called, and how it is written. Room for each is
 * SYNCRECORD_BYTES. */
#define SYNCRECORD_BYTES 1536
/* The path of the record, of its status, or (name false) of the collection it is created in.
 * Returns its length. */
enum syncrecord_path { SYNCRECORD_COLLECTION, SYNCRECORD_OBJECT, SYNCRECORD_STATUS };
size_t syncrecord_path(enum syncrecord_path which, const char *node, const struct want_object *o,
                       char *to);
/* The record as it is created; its status is written afterwards. Only for the kinds that are
 * served. */
size_t syncrecord_body(const char *node, const struct want_object *o, char *to);
/* A merge patch for its status. */
size_t syncrecord_status(uint64_t version, char *to);

/* Kinds as the messages, the records and the API call them. */
const char *syncrecord_type(enum resource_kind kind); /* "pod" */

#endif
