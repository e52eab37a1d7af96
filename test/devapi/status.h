/* metav1.Status errors with the codes, reasons and texts of kube-apiserver
 * (apimachinery/pkg/api/errors). Pure; any thread. */
#ifndef DEVAPI_STATUS_H
#define DEVAPI_STATUS_H

#include "test/devapi/kinds.h"
#include "test/devapi/text.h"

struct dev_error {
    unsigned code;
    const char *reason; /* constant */
    char message[1536];
    const struct dev_kind *kind; /* details; NULL: none */
    bool is_object_kind;         /* details name the Kind ("Pod"), not the resource ("pods") */
    char name[DEV_NAME_MAX];
    unsigned retry_after_s;
    const char *cause_type, *cause_field; /* constants, one cause at most; its text is */
    char cause_message[256];
};

void dev_error_not_found(struct dev_error *e, const struct dev_kind *kind, const char *name);
void dev_error_already_exists(struct dev_error *e, const struct dev_kind *kind, const char *name);
/* `why` is what stands behind "is forbidden: ". */
void dev_error_forbidden(struct dev_error *e, const struct dev_kind *kind, const char *name,
                         const char *why);
void dev_error_conflict(struct dev_error *e, const struct dev_kind *kind, const char *name,
                        const char *why);
/* The conflict everybody knows: "the object has been modified; ..." */
void dev_error_modified(struct dev_error *e, const struct dev_kind *kind, const char *name);
/* A precondition on the UID that does not hold, as the storage words it. */
void dev_error_uid(struct dev_error *e, const struct dev_kind *kind, const char *namespace_,
                   const char *name, const char *wanted, const char *found);
void dev_error_invalid(struct dev_error *e, const struct dev_kind *kind, const char *name,
                       const char *field, const char *cause_type, const char *why);
/* Errors that name no object. `reason` is a constant. */
void dev_error_plain(struct dev_error *e, unsigned code, const char *reason, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));
void dev_error_bad_request(struct dev_error *e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void dev_error_method(struct dev_error *e, const struct dev_kind *kind, const char *action);
void dev_error_no_memory(struct dev_error *e);

/* The Status as JSON. */
void dev_error_write(const struct dev_error *e, struct dev_text *out);
/* The Status of a successful deletion. */
void dev_status_deleted(struct dev_text *out, const struct dev_kind *kind, const char *name,
                        const char *uid);

#endif
