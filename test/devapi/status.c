/* See status.h. */
#include "test/devapi/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void begin(struct dev_error *e, unsigned code, const char *reason,
                  const struct dev_kind *kind, const char *name)
{
    *e = (struct dev_error){.code = code, .reason = reason, .kind = kind};
    if (name)
        snprintf(e->name, sizeof(e->name), "%s", name);
}

void dev_error_not_found(struct dev_error *e, const struct dev_kind *kind, const char *name)
{
    begin(e, 404, "NotFound", kind, name);
    snprintf(e->message, sizeof(e->message), "%s \"%s\" not found", kind->qualified, name);
}

void dev_error_already_exists(struct dev_error *e, const struct dev_kind *kind, const char *name)
{
    begin(e, 409, "AlreadyExists", kind, name);
    snprintf(e->message, sizeof(e->message), "%s \"%s\" already exists", kind->qualified, name);
}

void dev_error_forbidden(struct dev_error *e, const struct dev_kind *kind, const char *name,
                         const char *why)
{
    begin(e, 403, "Forbidden", kind, name);
    if (name && name[0])
        snprintf(e->message, sizeof(e->message), "%s \"%s\" is forbidden: %s", kind->qualified,
                 name, why);
    else
        snprintf(e->message, sizeof(e->message), "%s is forbidden: %s", kind->qualified, why);
}

void dev_error_conflict(struct dev_error *e, const struct dev_kind *kind, const char *name,
                        const char *why)
{
    begin(e, 409, "Conflict", kind, name);
    snprintf(e->message, sizeof(e->message), "Operation cannot be fulfilled on %s \"%s\": %s",
             kind->qualified, name, why);
}

void dev_error_modified(struct dev_error *e, const struct dev_kind *kind, const char *name)
{
    dev_error_conflict(e, kind, name,
                       "the object has been modified; please apply your changes to the latest "
                       "version and try again");
}

void dev_error_uid(struct dev_error *e, const struct dev_kind *kind, const char *namespace_,
                   const char *name, const char *wanted, const char *found)
{
    char why[1024];
    bool is_core_node = kind->index == DEV_NODE; /* stored under its old name */
    snprintf(
        why, sizeof(why),
        "StorageError: invalid object, Code: 4, Key: /registry/%s/%s%s%s, ResourceVersion: 0, "
        "AdditionalErrorMsg: Precondition failed: UID in precondition: %s, UID in object meta: %s",
        is_core_node ? "minions" : kind->plural, namespace_, namespace_[0] ? "/" : "", name, wanted,
        found);
    dev_error_conflict(e, kind, name, why);
}

void dev_error_invalid(struct dev_error *e, const struct dev_kind *kind, const char *name,
                       const char *field, const char *cause_type, const char *why)
{
    begin(e, 422, "Invalid", kind, name);
    e->is_object_kind = true;
    e->cause_type = cause_type;
    e->cause_field = field;
    snprintf(e->cause_message, sizeof(e->cause_message), "%s", why);
    snprintf(e->message, sizeof(e->message), "%s%s%s \"%s\" is invalid: %s: %s", kind->kind,
             kind->group[0] ? "." : "", kind->group, name, field, why);
}

void dev_error_plain(struct dev_error *e, unsigned code, const char *reason, const char *format,
                     ...)
{
    begin(e, code, reason, NULL, NULL);
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof(e->message), format, args);
    va_end(args);
}

void dev_error_bad_request(struct dev_error *e, const char *format, ...)
{
    begin(e, 400, "BadRequest", NULL, NULL);
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof(e->message), format, args);
    va_end(args);
}

void dev_error_method(struct dev_error *e, const struct dev_kind *kind, const char *action)
{
    begin(e, 405, "MethodNotAllowed", kind, NULL);
    snprintf(e->message, sizeof(e->message), "%s is not supported on resources of kind \"%s\"",
             action, kind->qualified);
}

void dev_error_no_memory(struct dev_error *e)
{
    dev_error_plain(e, 500, "InternalError", "Internal error occurred: out of memory");
}

static void member(struct dev_text *out, const char **separator, const char *key, const char *value)
{
    if (!value || !value[0])
        return;
    dev_text_printf(out, "%s\"%s\":", *separator, key);
    dev_text_quoted(out, value);
    *separator = ",";
}

static void write_details(const struct dev_error *e, struct dev_text *out)
{
    const char *separator = "";
    dev_text_str(out, ",\"details\":{");
    member(out, &separator, "name", e->name);
    if (e->kind) {
        member(out, &separator, "group", e->kind->group);
        member(out, &separator, "kind", e->is_object_kind ? e->kind->kind : e->kind->plural);
    }
    if (e->cause_type || e->cause_message[0]) {
        dev_text_printf(out, "%s\"causes\":[{", separator);
        separator = "";
        member(out, &separator, "reason", e->cause_type);
        member(out, &separator, "message", e->cause_message);
        member(out, &separator, "field", e->cause_field);
        dev_text_str(out, "}]");
        separator = ",";
    }
    if (e->retry_after_s > 0)
        dev_text_printf(out, "%s\"retryAfterSeconds\":%u", separator, e->retry_after_s);
    dev_text_str(out, "}");
}

void dev_error_write(const struct dev_error *e, struct dev_text *out)
{
    dev_text_str(out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},"
                      "\"status\":\"Failure\",\"message\":");
    dev_text_quoted(out, e->message);
    dev_text_printf(out, ",\"reason\":\"%s\"", e->reason);
    if (e->kind || e->retry_after_s || e->cause_message[0])
        write_details(e, out);
    dev_text_printf(out, ",\"code\":%u}\n", e->code);
}

void dev_status_deleted(struct dev_text *out, const struct dev_kind *kind, const char *name,
                        const char *uid)
{
    const char *separator = "";
    dev_text_str(out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},"
                      "\"status\":\"Success\",\"details\":{");
    member(out, &separator, "name", name);
    member(out, &separator, "group", kind->group);
    member(out, &separator, "kind", kind->plural);
    member(out, &separator, "uid", uid);
    dev_text_str(out, "}}\n");
}
