/* See join_store.h. */
#include "hub/join_store.h"

#include "hub/join_token.h"
#include "hub/secret_bytes.h"
#include "isthmus/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS      6 /* of looking and writing, before giving up on somebody who always is faster */
#define PATH_BYTES  512
#define MERGE_PATCH "application/merge-patch+json"

/* A Secret by name, and the keys of what it holds. */
struct slot {
    const char *name, *keys[2];
};
static const struct slot ca_slot = {"casecret", {"cadata", "cakeydata"}};
static const struct slot server_slot = {"cloudcoresecret", {"cloudcoredata", "cloudcorekeydata"}};
static const struct slot token_slot = {"tokensecret", {"tokendata", NULL}};

/* ---- one Secret ---- */

static int fail(const struct join_store *s, const struct slot *slot, int rc, struct errbuf *e)
{
    errbuf_wrap(e, "Secret %s/%s", s->name_space, slot->name);
    return rc;
}

static int refused(const struct join_store *s, const struct slot *slot,
                   const struct api_blocking_answer *answer, struct errbuf *e)
{
    api_blocking_explain(answer, e);
    return fail(s, slot, -EACCES, e);
}

/* 0 and the Secret; -ENOENT: there is none. */
static int read_secret(const struct join_store *s, const struct slot *slot,
                       struct api_blocking_answer *answer, struct errbuf *e)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/api/v1/namespaces/%s/secrets/%s", s->name_space, slot->name);
    int rc = s->call(s->context, "GET", path, NULL, NULL, answer, e);
    if (rc != 0)
        return fail(s, slot, rc, e);
    if (answer->status == 200)
        return 0;
    rc = answer->status == 404 ? -ENOENT : refused(s, slot, answer, e);
    api_blocking_answer_free(answer);
    return rc;
}

static int take_data(const struct join_store *s, const struct slot *slot,
                     const struct api_blocking_answer *answer, size_t which,
                     struct secret_bytes *bytes, struct errbuf *e)
{
    const char *const path[] = {"data", slot->keys[which], NULL};
    struct json_span data;
    int rc = jsonscan_find(answer->body, answer->size, path, &data);
    if (rc == 0 && data.kind == JSON_KIND_STRING)
        rc = secret_bytes_from_base64(bytes, data.at, data.size);
    else
        rc = -EBADMSG;
    if (rc == 0)
        return 0;
    errbuf_set(e, rc == -ENOMEM ? "no memory" : "data.%s is missing or not base64",
               slot->keys[which]);
    return fail(s, slot, rc == -ENOMEM ? rc : -EINVAL, e);
}

static int take_pair(const struct join_store *s, const struct slot *slot,
                     const struct api_blocking_answer *answer, struct join_pair *pair,
                     struct errbuf *e)
{
    struct secret_bytes certificate = {0}, key = {0};
    int rc = take_data(s, slot, answer, 0, &certificate, e);
    if (rc == 0)
        rc = take_data(s, slot, answer, 1, &key, e);
    if (rc != 0) {
        secret_bytes_free(&certificate);
        return rc;
    }
    rc = join_pair_parse(pair, &certificate, &key, e);
    return rc != 0 ? fail(s, slot, rc, e) : 0;
}

/* {"KEY":"BASE64",...}; for secret_text_free(). */
static char *format_data(const struct slot *slot, const struct secret_bytes values[2])
{
    char *first = secret_base64(values[0].at, values[0].size);
    char *second = slot->keys[1] ? secret_base64(values[1].at, values[1].size) : NULL;
    char *text = NULL;
    if (first && second)
        text = secret_text_printf("{\"%s\":\"%s\",\"%s\":\"%s\"}", slot->keys[0], first,
                                  slot->keys[1], second);
    else if (first && !slot->keys[1])
        text = secret_text_printf("{\"%s\":\"%s\"}", slot->keys[0], first);
    secret_text_free(first);
    secret_text_free(second);
    return text;
}

/* Needs the right to create namespaces only where there is none. */
static int create_namespace(const struct join_store *s, struct errbuf *e)
{
    char body[256];
    struct api_blocking_answer answer;
    snprintf(body, sizeof(body),
             "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"%s\"}}",
             s->name_space);
    int rc =
        s->call(s->context, "POST", "/api/v1/namespaces", "application/json", body, &answer, e);
    if (rc == 0 && answer.status != 201 && answer.status != 409) {
        api_blocking_explain(&answer, e);
        rc = -EACCES;
    }
    if (rc != 0)
        errbuf_wrap(e, "namespace %s", s->name_space);
    else
        log_info("namespace_created", F_STR("name", s->name_space),
                 F_BOOL("by_us", answer.status == 201));
    api_blocking_answer_free(&answer);
    return rc;
}

/* 0: it is ours; -EEXIST: somebody else's, or there was no namespace but now is: look again. */
static int judge_creation(const struct join_store *s, const struct slot *slot,
                          const struct api_blocking_answer *answer, struct errbuf *e)
{
    if (answer->status == 201) {
        log_info("secret_created", F_STR("namespace", s->name_space), F_STR("name", slot->name));
        return 0;
    }
    if (answer->status == 409) {
        log_info("secret_created_by_another", F_STR("namespace", s->name_space),
                 F_STR("name", slot->name));
        return -EEXIST;
    }
    if (answer->status != 404)
        return refused(s, slot, answer, e);
    int rc = create_namespace(s, e);
    return rc != 0 ? rc : -EEXIST;
}

static int create_secret(const struct join_store *s, const struct slot *slot,
                         const struct secret_bytes values[2], struct errbuf *e)
{
    char path[PATH_BYTES];
    struct api_blocking_answer answer;
    snprintf(path, sizeof(path), "/api/v1/namespaces/%s/secrets", s->name_space);
    char *data = format_data(slot, values);
    char *body =
        data ? secret_text_printf(
                   "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"%s\","
                   "\"namespace\":\"%s\"},\"type\":\"Opaque\",\"data\":%s}",
                   slot->name, s->name_space, data)
             : NULL;
    int rc = -ENOMEM;
    if (body)
        rc = s->call(s->context, "POST", path, "application/json", body, &answer, e);
    else
        errbuf_set(e, "no memory");
    secret_text_free(data);
    secret_text_free(body);
    if (rc != 0)
        return fail(s, slot, rc, e);
    rc = judge_creation(s, slot, &answer, e);
    api_blocking_answer_free(&answer);
    return rc;
}

static char *format_patch(const struct slot *slot, const struct api_blocking_answer *old,
                          const struct secret_bytes values[2])
{
    static const char *const path[] = {"metadata", "resourceVersion", NULL};
    struct json_span version;
    if (jsonscan_find(old->body, old->size, path, &version) != 0 ||
        version.kind != JSON_KIND_STRING)
        return NULL;
    char *data = format_data(slot, values);
    char *body =
        data ? secret_text_printf("{\"metadata\":{\"resourceVersion\":\"%.*s\"},\"data\":%s}",
                                  (int)version.size, version.at, data)
             : NULL;
    secret_text_free(data);
    return body;
}

/* Puts `values` in the place of what `old` holds. 0; -EEXIST: it is not `old` any more: look again.
 */
static int replace_secret(const struct join_store *s, const struct slot *slot,
                          const struct api_blocking_answer *old,
                          const struct secret_bytes values[2], struct errbuf *e)
{
    char path[PATH_BYTES];
    struct api_blocking_answer answer;
    snprintf(path, sizeof(path), "/api/v1/namespaces/%s/secrets/%s", s->name_space, slot->name);
    char *body = format_patch(slot, old, values);
    int rc = -ENOMEM;
    if (body)
        rc = s->call(s->context, "PATCH", path, MERGE_PATCH, body, &answer, e);
    else
        errbuf_set(e, "no memory");
    secret_text_free(body);
    if (rc != 0)
        return fail(s, slot, rc, e);
    if (answer.status != 200)
        rc = answer.status == 409 || answer.status == 404 ? -EEXIST : refused(s, slot, &answer, e);
    api_blocking_answer_free(&answer);
    return rc;
}

static int gave_up(const struct join_store *s, const struct slot *slot, struct errbuf *e)
{
    errbuf_set(e, "somebody changes it all the time");
    return fail(s, slot, -EAGAIN, e);
}

/* ---- the CA ---- */

static int read_ca(const struct join_store *s, int64_t now_s, struct join_pair *ca,
                   struct errbuf *e)
{
    struct api_blocking_answer answer;
    int rc = read_secret(s, &ca_slot, &answer, e);
    if (rc != 0)
        return rc;
    rc = take_pair(s, &ca_slot, &answer, ca, e);
    api_blocking_answer_free(&answer);
    if (rc != 0)
        return rc;
    rc = join_check_ca(ca, now_s, e);
    if (rc == 0)
        return 0;
    join_pair_free(ca);
    return fail(s, &ca_slot, rc, e);
}

static int create_ca(const struct join_store *s, int64_t now_s, struct join_pair *ca,
                     struct errbuf *e)
{
    int rc = join_make_ca(now_s, ca, e);
    if (rc != 0)
        return fail(s, &ca_slot, rc, e);
    const struct secret_bytes values[2] = {ca->certificate_der, ca->key_der};
    rc = create_secret(s, &ca_slot, values, e);
    if (rc != 0)
        join_pair_free(ca);
    return rc;
}

int join_store_ca(const struct join_store *s, int64_t now_s, struct join_pair *ca, struct errbuf *e)
{
    for (int round = 0; round < ROUNDS; round++) {
        int rc = read_ca(s, now_s, ca, e);
        if (rc == -ENOENT)
            rc = create_ca(s, now_s, ca, e);
        if (rc != -EEXIST)
            return rc;
    }
    return gave_up(s, &ca_slot, e);
}

/* ---- the server certificate ---- */

static int create_server(const struct join_store *s, const struct join_pair *ca,
                         const GENERAL_NAMES *names, int64_t now_s, struct join_pair *server,
                         struct errbuf *e)
{
    int rc = join_make_server(ca, names, NULL, now_s, server, e);
    if (rc != 0)
        return fail(s, &server_slot, rc, e);
    const struct secret_bytes values[2] = {server->certificate_der, server->key_der};
    rc = create_secret(s, &server_slot, values, e);
    if (rc != 0)
        join_pair_free(server);
    return rc;
}

/* Puts a new one in the place of `server`. */
static int renew_server(const struct join_store *s, const struct join_pair *ca,
                        const GENERAL_NAMES *names, int64_t now_s,
                        const struct api_blocking_answer *old, struct join_pair *server,
                        struct errbuf *e)
{
    struct join_pair fresh;
    int rc = join_make_server(ca, names, server->certificate, now_s, &fresh, e);
    if (rc != 0)
        return fail(s, &server_slot, rc, e);
    const struct secret_bytes values[2] = {fresh.certificate_der, fresh.key_der};
    rc = replace_secret(s, &server_slot, old, values, e);
    if (rc != 0) {
        join_pair_free(&fresh);
        return rc;
    }
    log_info("server_certificate_renewed", F_STR("secret", server_slot.name));
    join_pair_free(server);
    *server = fresh;
    return 0;
}

static int judge_server(const struct join_store *s, const struct join_pair *ca,
                        const GENERAL_NAMES *names, bool may_renew, int64_t now_s,
                        const struct api_blocking_answer *stored, struct join_pair *server,
                        struct errbuf *e)
{
    char missing[300];
    int rc = join_check_server(ca, server, now_s, e);
    bool lacks_name = join_names_missing(server->certificate, names, missing, sizeof(missing));
    if (may_renew && (rc != 0 || lacks_name))
        return renew_server(s, ca, names, now_s, stored, server, e);
    if (rc != 0) {
        const struct errbuf why = *e;
        errbuf_set(e, "%.300s (--renew-server-cert makes a new one)", why.text);
        return fail(s, &server_slot, rc, e);
    }
    if (lacks_name)
        log_warn("server_certificate_lacks_name", F_STR("name", missing),
                 F_STR("secret", server_slot.name),
                 F_STR("hint", "edges that dial it by this name will refuse it; "
                               "--renew-server-cert makes a new one"));
    return 0;
}

static int look_at_server(const struct join_store *s, const struct join_pair *ca,
                          const GENERAL_NAMES *names, bool may_renew, int64_t now_s,
                          struct join_pair *server, struct errbuf *e)
{
    struct api_blocking_answer answer;
    int rc = read_secret(s, &server_slot, &answer, e);
    if (rc != 0)
        return rc;
    rc = take_pair(s, &server_slot, &answer, server, e);
    if (rc == 0) {
        rc = judge_server(s, ca, names, may_renew, now_s, &answer, server, e);
        if (rc != 0)
            join_pair_free(server);
    }
    api_blocking_answer_free(&answer);
    return rc;
}

int join_store_server(const struct join_store *s, const struct join_pair *ca,
                      const GENERAL_NAMES *names, bool may_renew, int64_t now_s,
                      struct join_pair *server, struct errbuf *e)
{
    for (int round = 0; round < ROUNDS; round++) {
        int rc = look_at_server(s, ca, names, may_renew, now_s, server, e);
        if (rc == -ENOENT)
            rc = create_server(s, ca, names, now_s, server, e);
        if (rc != -EEXIST)
            return rc;
    }
    return gave_up(s, &server_slot, e);
}

int join_store_read_server(const struct join_store *s, const struct join_pair *ca, int64_t now_s,
                           struct join_pair *server, struct errbuf *e)
{
    struct api_blocking_answer answer;
    int rc = read_secret(s, &server_slot, &answer, e);
    if (rc == -ENOENT) {
        errbuf_set(e, "it is gone");
        return fail(s, &server_slot, rc, e);
    }
    if (rc != 0)
        return rc;
    rc = take_pair(s, &server_slot, &answer, server, e);
    api_blocking_answer_free(&answer);
    if (rc != 0)
        return rc;
    rc = join_check_server(ca, server, now_s, e);
    if (rc == 0)
        return 0;
    join_pair_free(server);
    return fail(s, &server_slot, rc, e);
}

/* ---- the token ---- */

static bool is_good(const struct join_store *s, const struct join_pair *ca, int64_t refresh_s,
                    int64_t now_s, const struct api_blocking_answer *stored)
{
    struct secret_bytes token;
    if (take_data(s, &token_slot, stored, 0, &token, NULL) != 0)
        return false;
    bool is = join_token_is_good((char *)token.at, token.size, &ca->certificate_der, &ca->key_der,
                                 now_s, refresh_s);
    secret_bytes_free(&token);
    return is;
}

/* `stored` NULL: there is none. */
static int write_token(const struct join_store *s, const struct join_pair *ca, int64_t refresh_s,
                       int64_t now_s, const struct api_blocking_answer *stored, struct errbuf *e)
{
    char *token;
    int rc = join_token_create(&ca->certificate_der, &ca->key_der, now_s + 2 * refresh_s, &token);
    if (rc != 0) {
        errbuf_set(e, "no token can be made");
        return fail(s, &token_slot, rc, e);
    }
    const struct secret_bytes values[2] = {{(unsigned char *)token, strlen(token)}};
    rc = stored ? replace_secret(s, &token_slot, stored, values, e)
                : create_secret(s, &token_slot, values, e);
    secret_text_free(token);
    return rc;
}

static int see_to_token(const struct join_store *s, const struct join_pair *ca, int64_t refresh_s,
                        int64_t now_s, struct errbuf *e)
{
    struct api_blocking_answer answer;
    int rc = read_secret(s, &token_slot, &answer, e);
    if (rc == -ENOENT)
        rc = write_token(s, ca, refresh_s, now_s, NULL, e);
    else if (rc != 0)
        return rc;
    else {
        bool is = is_good(s, ca, refresh_s, now_s, &answer);
        if (!is)
            rc = write_token(s, ca, refresh_s, now_s, &answer, e);
        api_blocking_answer_free(&answer);
        if (is)
            return 0;
    }
    return rc == 0 ? 1 : rc;
}

int join_store_token(const struct join_store *s, const struct join_pair *ca, int64_t refresh_s,
                     int64_t now_s, struct errbuf *e)
{
    for (int round = 0; round < ROUNDS; round++) {
        int rc = see_to_token(s, ca, refresh_s, now_s, e);
        if (rc == 1)
            log_info("join_token_written", F_I64("expires_s", now_s + 2 * refresh_s));
        if (rc != -EEXIST)
            return rc;
    }
    return gave_up(s, &token_slot, e);
}
