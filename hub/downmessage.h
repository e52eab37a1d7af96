/* Messages that the cloud sends of its own accord: `operation` on an object, with its JSON as
 * content, as EdgeController and SyncController compose them (kubeedge
 * cloud/pkg/edgecontroller/controller/downstream.go, cloud/pkg/synccontroller/objectsync.go;
 * kubeedge-protocol 5.1, 5.5).
 *
 * Pure; any thread. */
#ifndef HUB_DOWNMESSAGE_H
#define HUB_DOWNMESSAGE_H

#include "hub/message.h"

/* Parts of the resource must be plain (no escapes needed). `ns` is "null" where there is none. */
struct push {
    const char *operation;
    struct text_span ns, name;
    const char *type;                  /* "pod" */
    struct text_span version, content; /* version may be empty */
    uint64_t object,
        object_version; /* for the session's order of versions; see session.h. 0: none */
};

/* The message `id` (a UUID) to the session `to`, made at `wall_ms`: the same arguments give the
 * same bytes. NULL: no memory. */
struct reply *downmessage_compose(const struct push *push, struct session_ref to, const char *id,
                                  int64_t wall_ms);

/* What SyncController says of an object that is gone: its name, its namespace ("null": none) and
 * its UID, and that is all EdgeCore looks at. Returns the bytes written; there must be
 * DOWNMESSAGE_TOMBSTONE_BYTES. */
#define DOWNMESSAGE_TOMBSTONE_BYTES 512
size_t downmessage_tombstone(const struct text_span *ns, const struct text_span *name,
                             const char *uid, char *to);

#endif
