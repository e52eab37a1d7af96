/* What stands in a list and in a watch event. Pure; any thread. */
#ifndef APICLIENT_WATCHPARSE_H
#define APICLIENT_WATCHPARSE_H

#include "isthmus/apiclient.h"

enum watchparse_kind {
    WATCHPARSE_OBJECT,
    WATCHPARSE_BOOKMARK,
    WATCHPARSE_ERROR,
    WATCHPARSE_UNKNOWN
};

struct watchparse_event {
    enum watchparse_kind kind;
    enum apiwatch_event_type type; /* of an OBJECT */
    struct apiwatch_object object; /* of an OBJECT or BOOKMARK; of an ERROR the Status */
    int64_t code;                  /* of an ERROR */
};

/* One line of a watch. Spans point into it. 0 or -EBADMSG. */
int watchparse_event(const char *line, size_t size, struct watchparse_event *event)
    __attribute__((warn_unused_result));

/* An object's metadata. 0 or -EBADMSG. */
int watchparse_object(const char *json, size_t size, struct apiwatch_object *object)
    __attribute__((warn_unused_result));

struct watchparse_list {
    struct json_span resource_version, continue_token; /* size 0 where absent */
};

/* Calls `item` for each item, in order; it returns false to stop (-ECANCELED). 0, -ECANCELED or
 * -EBADMSG; what was called before the text proved bad was called. */
int watchparse_list(const char *json, size_t size, struct watchparse_list *list,
                    bool (*item)(void *context, const struct apiwatch_object *object),
                    void *context) __attribute__((warn_unused_result));

/* "Forbidden: pods is forbidden: ..." of a Status; an empty text where it is none. */
void watchparse_status_text(const char *json, size_t size, char *text, size_t room);

#endif
