/* patch and delete; see handler.h. */
#include "isthmus/jsonscan.h"
#include "test/devapi/authz.h"
#include "test/devapi/handler.h"
#include "test/devapi/patch.h"
#include "test/devapi/prepare.h"
#include "test/devapi/server.h"
#include "test/devapi/stats.h"
#include "test/devapi/write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum patch_type { PATCH_NONE, PATCH_STRATEGIC, PATCH_MERGE, PATCH_JSON };

static const char *string_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* ---- patch ---- */

static enum patch_type patch_type(const struct dev_exchange *x, struct dev_error *e)
{
    static const struct {
        const char *name;
        enum patch_type type;
    } types[] = {{"application/strategic-merge-patch+json", PATCH_STRATEGIC},
                 {"application/merge-patch+json", PATCH_MERGE},
                 {"application/json-patch+json", PATCH_JSON}};
    const char *content_type = x->content_type ? x->content_type : "";
    size_t size = strcspn(content_type, "; ");
    for (size_t i = 0; i < 3; i++) {
        bool is_it =
            strlen(types[i].name) == size && strncmp(content_type, types[i].name, size) == 0;
        if (is_it && !(types[i].type == PATCH_STRATEGIC && x->path.kind->is_custom))
            return types[i].type;
    }
    dev_error_plain(e, 415, "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types "
                    "include: application/json-patch+json, application/merge-patch+json%s",
                    x->path.kind->is_custom ? "" : ", application/strategic-merge-patch+json");
    return PATCH_NONE;
}

/* Whether a member of the patch's metadata is a precondition that holds. */
static bool holds(const struct dev_object *old, const struct json_span *key,
                  const struct json_span *value)
{
    const char *wanted = jsonscan_equals(key, "uid")         ? old->facts->uid
                         : jsonscan_equals(key, "name")      ? old->facts->name
                         : jsonscan_equals(key, "namespace") ? old->facts->namespace_
                                                             : NULL;
    return wanted && value->kind == JSON_KIND_STRING && jsonscan_equals(value, wanted);
}

static bool is_metadata_held(const struct dev_object *old, const struct json_span *metadata)
{
    struct jsonscan scan;
    struct json_span key, value;
    jsonscan_init(&scan, metadata->at, metadata->size);
    int rc = jsonscan_enter_object(&scan);
    while (rc == 0 && (rc = jsonscan_next_member(&scan, &key)) == 1) {
        rc = jsonscan_value(&scan, &value);
        if (rc == 0 && !holds(old, &key, &value))
            return false;
    }
    return rc == 0;
}

/* A patch that names only status, and in metadata at most preconditions that hold, need not touch
 * the rest of the object. `status` is its status, size 0 if it has none. */
static bool is_status_alone(const struct dev_exchange *x, const struct dev_object *old,
                            struct json_span *status)
{
    struct jsonscan scan;
    struct json_span key, value;
    if (strcmp(x->path.subresource, "status") != 0 || x->body.size == 0)
        return false;
    status->size = 0;
    jsonscan_init(&scan, x->body.at, x->body.size);
    scan.accept_nul = true;
    int rc = jsonscan_enter_object(&scan);
    while (rc == 0 && (rc = jsonscan_next_member(&scan, &key)) == 1) {
        rc = jsonscan_value(&scan, &value);
        if (rc != 0 || value.kind != JSON_KIND_OBJECT)
            return false;
        if (jsonscan_equals(&key, "status") && status->size == 0)
            *status = value;
        else if (!jsonscan_equals(&key, "metadata") || !is_metadata_held(old, &value))
            return false;
    }
    return rc == 0 && jsonscan_end(&scan) == 0;
}

/* 0: answered; -ENOTSUP: it needs the long way. */
static int patch_status_alone(struct dev_exchange *x, struct dev_entry *entry)
{
    static struct dev_text scratch; /* loop thread only; kept for its memory */
    struct dev_object *old = entry->object;
    struct dev_request request = {
        .user = x->user, .node = x->node, .verb = x->verb, .path = &x->path};
    struct dev_error e;
    struct dev_object *fresh = NULL;
    struct json_span status;

    if (!is_status_alone(x, old, &status))
        return -ENOTSUP;
    if (!dev_admit_status(&request, old, &e)) {
        dev_answer_error(x, &e);
        return 0;
    }
    dev_text_clear(&scratch);
    int rc = status.size > 0 ? dev_patch_status(x->path.kind, old->json + old->status_at,
                                                old->status_size, status.at, status.size, &scratch)
                             : 0;
    if (rc == -ENOTSUP)
        return rc;
    if (rc == 0)
        fresh = dev_object_derive(old, dev_store_version(x->server->store) + 1,
                                  status.size > 0 ? scratch.at : NULL, scratch.size);
    if (fresh) {
        dev_write_commit(x, entry, fresh);
        return 0;
    }
    dev_error_no_memory(&e);
    dev_answer_error(x, &e);
    return 0;
}

static void patch_error(int rc, const struct errbuf *why, struct dev_error *e)
{
    if (rc == -EINVAL)
        dev_error_bad_request(e, "error decoding patch: %.400s", why->text);
    else if (rc == -ENOENT)
        dev_error_plain(e, 422, "Invalid",
                        "the server rejected our request due to an error in our request");
    else
        dev_error_no_memory(e);
}

static void patch_whole(struct dev_exchange *x, struct dev_entry *entry, const json_t *patch,
                        enum patch_type type)
{
    struct errbuf why = {{0}};
    struct dev_error e;
    json_t *root = dev_object_parse(entry->object);
    int rc = root ? 0 : -ENOMEM;
    if (rc == 0 && type == PATCH_STRATEGIC)
        rc = dev_patch_strategic(x->path.kind, root, patch, &why);
    else if (rc == 0 && type == PATCH_MERGE)
        rc = json_is_object(patch) ? dev_patch_merge(root, patch) : -EINVAL;
    else if (rc == 0)
        rc = dev_patch_json(&root, patch, &why);
    if (rc == 0 && !json_is_object(json_object_get(root, "metadata")))
        rc = -EINVAL;
    if (rc == 0) {
        dev_write_update(x, entry, root);
        return;
    }
    json_decref(root);
    patch_error(rc, &why, &e);
    dev_answer_error(x, &e);
}

void dev_handle_patch(struct dev_exchange *x)
{
    struct dev_error e;
    json_error_t error;
    enum patch_type type = patch_type(x, &e);
    if (type == PATCH_NONE) {
        dev_answer_error(x, &e);
        return;
    }
    struct dev_entry *entry =
        dev_store_find(x->server->store, x->path.kind, x->path.namespace_, x->path.name);
    if (!entry) {
        dev_error_not_found(&e, x->path.kind, x->path.name);
        dev_answer_error(x, &e);
        return;
    }
    if (type == PATCH_STRATEGIC && patch_status_alone(x, entry) == 0)
        return;
    json_t *patch =
        json_loadb(x->body.size ? x->body.at : "", x->body.size, JSON_ALLOW_NUL, &error);
    if (!patch) {
        dev_error_bad_request(&e, "error decoding patch: %.200s", error.text);
        dev_answer_error(x, &e);
        return;
    }
    patch_whole(x, entry, patch, type);
    json_decref(patch);
}

/* ---- delete ---- */

struct deletion {
    long grace_s; /* -1: the default */
    char uid[64], version[24];
};

static bool parse_deletion(const struct dev_exchange *x, struct deletion *d, struct dev_error *e)
{
    *d = (struct deletion){.grace_s = x->query.grace_s};
    if (x->body.size == 0)
        return true;
    json_error_t error;
    json_t *options = json_loadb(x->body.at, x->body.size, 0, &error);
    if (!json_is_object(options)) {
        json_decref(options);
        dev_error_bad_request(e, "couldn't get version/kind; json parse error: %.200s", error.text);
        return false;
    }
    const json_t *grace = json_object_get(options, "gracePeriodSeconds");
    const json_t *preconditions = json_object_get(options, "preconditions");
    if (json_is_integer(grace))
        d->grace_s = (long)json_integer_value(grace);
    snprintf(d->uid, sizeof(d->uid), "%s", string_at(preconditions, "uid"));
    snprintf(d->version, sizeof(d->version), "%s", string_at(preconditions, "resourceVersion"));
    json_decref(options);
    return true;
}

static bool deletion_holds(const struct deletion *d, const struct dev_object *o,
                           struct dev_error *e)
{
    char why[300];
    if (d->uid[0] && strcmp(d->uid, o->facts->uid) != 0) {
        snprintf(why, sizeof(why),
                 "the UID in the precondition (%s) does not match the UID in record (%.64s). The "
                 "object might have been deleted and then recreated",
                 d->uid, o->facts->uid);
    } else if (d->version[0] && strtoull(d->version, NULL, 10) != o->version) {
        snprintf(
            why, sizeof(why),
            "the ResourceVersion in the precondition (%s) does not match the ResourceVersion in "
            "record (%" PRIu64 "). The object might have been modified",
            d->version, o->version);
    } else {
        return true;
    }
    dev_error_conflict(e, o->kind, o->facts->name, why);
    /* The real one names the Kind here, in the text and in the details. */
    snprintf(e->message, sizeof(e->message), "Operation cannot be fulfilled on %s \"%s\": %s",
             o->kind->kind, o->facts->name, why);
    e->is_object_kind = true;
    return false;
}

/* A pod that a kubelet may be running is asked to end first; others go at once. */
static long grace_of(const struct deletion *d, const struct dev_object *o)
{
    static const char done[][10] = {"Succeeded", "Failed"};
    if (o->kind->index != DEV_POD || !o->facts->node_name[0] || o->facts->is_mirror ||
        strcmp(o->phase, done[0]) == 0 || strcmp(o->phase, done[1]) == 0)
        return 0;
    if (d->grace_s >= 0)
        return d->grace_s;
    json_t *root = dev_object_parse(o);
    const json_t *grace =
        json_object_get(json_object_get(root, "spec"), "terminationGracePeriodSeconds");
    long seconds = json_is_integer(grace) ? (long)json_integer_value(grace) : 30;
    json_decref(root);
    return seconds;
}

/* Sets deletionTimestamp; a second deletion may only shorten the grace. */
static struct dev_object *terminating(struct dev_server *server, const struct dev_object *o,
                                      long grace_s)
{
    char when[32];
    json_t *root = dev_object_parse(o);
    json_t *metadata = json_object_get(root, "metadata");
    dev_time_format((int64_t)time(NULL) + grace_s, when);
    int rc = root ? json_object_set_new(metadata, "deletionTimestamp", json_string(when)) |
                        json_object_set_new(metadata, "deletionGracePeriodSeconds",
                                            json_integer(grace_s))
                  : -1;
    if (rc == 0 && o->facts->generation > 0)
        rc = json_object_set_new(metadata, "generation",
                                 json_integer((json_int_t)o->facts->generation + 1));
    struct dev_object *fresh =
        rc == 0 ? dev_object_build(o->kind, root, dev_store_version(server->store) + 1) : NULL;
    json_decref(root);
    return fresh;
}

static void answer_deleted(struct dev_exchange *x, struct dev_object *last)
{
    struct dev_text text = {0};
    dev_stats_wrote(x, last->facts->name, last->version);
    if (last->kind->returns_deleted) {
        dev_answer_object(x, 200, last);
        return;
    }
    dev_status_deleted(&text, last->kind, last->facts->name, last->facts->uid);
    dev_answer_text(x, 200, "application/json", &text);
}

/* 0, or -ENOMEM. `*last` (the caller owns a reference) is the object as it is now or was. */
static int delete_one(struct dev_server *server, struct dev_entry *entry, long grace_s,
                      struct dev_object **last)
{
    struct dev_object *o = entry->object;
    bool stays = grace_s > 0 || o->facts->has_finalizers;
    if (stays && o->facts->is_terminating && (o->facts->grace_s <= grace_s || grace_s == 0)) {
        *last = dev_object_get(o);
        return 0;
    }
    struct dev_object *fresh =
        stays ? terminating(server, o, grace_s)
              : dev_object_derive(o, dev_store_version(server->store) + 1, NULL, 0);
    if (!fresh)
        return -ENOMEM;
    *last = dev_object_get(fresh);
    int rc =
        stays ? dev_store_set(server->store, fresh) : dev_store_remove(server->store, entry, fresh);
    if (rc != 0)
        dev_object_put(*last);
    return rc;
}

void dev_handle_delete(struct dev_exchange *x)
{
    struct dev_error e;
    struct deletion d;
    struct dev_object *last;
    struct dev_request request = {
        .user = x->user, .node = x->node, .verb = x->verb, .path = &x->path};
    struct dev_entry *entry =
        dev_store_find(x->server->store, x->path.kind, x->path.namespace_, x->path.name);
    if (!entry)
        dev_error_not_found(&e, x->path.kind, x->path.name);
    if (!entry || !parse_deletion(x, &d, &e) ||
        !dev_admit(x->server->store, &request, entry->object, NULL, &e) ||
        !deletion_holds(&d, entry->object, &e)) {
        dev_answer_error(x, &e);
        return;
    }
    if (delete_one(x->server, entry, grace_of(&d, entry->object), &last) != 0) {
        dev_error_no_memory(&e);
        dev_answer_error(x, &e);
        return;
    }
    answer_deleted(x, last);
    dev_object_put(last);
}

void dev_handle_delete_collection(struct dev_exchange *x)
{
    struct dev_error e;
    struct deletion d;
    struct dev_selector *selector = NULL;
    struct errbuf why = {{0}};
    size_t count;
    if (!parse_deletion(x, &d, &e)) {
        dev_answer_error(x, &e);
        return;
    }
    if (dev_selector_parse(x->path.kind, x->query.label_selector, x->query.field_selector,
                           &selector, &why) != 0) {
        dev_error_bad_request(&e, "%.400s", why.text);
        dev_answer_error(x, &e);
        return;
    }
    /* The array goes stale with the first deletion: the doomed are picked before. */
    struct dev_entry *const *all = dev_store_sorted(x->server->store, x->path.kind, &count);
    struct dev_entry **doomed = calloc(count + 1, sizeof(*doomed));
    size_t doomed_count = 0;
    int rc = doomed ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct dev_object *o = all[i]->object;
        bool is_here =
            !x->path.namespace_[0] || strcmp(o->facts->namespace_, x->path.namespace_) == 0;
        if (is_here && dev_selector_matches(selector, o))
            doomed[doomed_count++] = all[i];
    }
    dev_selector_free(selector);
    for (size_t i = 0; rc == 0 && i < doomed_count; i++) {
        struct dev_object *last;
        rc = delete_one(x->server, doomed[i], grace_of(&d, doomed[i]->object), &last);
        if (rc == 0) {
            dev_stats_wrote(x, last->facts->name, last->version);
            dev_object_put(last);
        }
    }
    free(doomed);
    if (rc != 0) {
        dev_error_no_memory(&e);
        dev_answer_error(x, &e);
        return;
    }
    struct dev_text text = {0};
    dev_text_str(&text, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},"
                        "\"status\":\"Success\",\"code\":200}\n");
    dev_answer_text(x, 200, "application/json", &text);
}
