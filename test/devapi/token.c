/* The token subresource of service accounts: TokenRequest. The tokens look like real ones (a JWT
 * with the claims a kubelet reads) and are signed with a key of this process. Loop thread only. */
#include "test/devapi/authz.h"
#include "test/devapi/handler.h"
#include "test/devapi/mentions.h"
#include "test/devapi/prepare.h"
#include "test/devapi/server.h"
#include "test/devapi/stats.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <time.h>

#define AUDIENCE     "https://kubernetes.default.svc.cluster.local"
#define LIFE_DEFAULT 3600
#define LIFE_MIN     600
#define LIFE_MAX     (1ll << 32)

static const char *string_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static json_t *claims(const struct dev_exchange *x, const struct dev_object *account,
                      const json_t *spec, int64_t now_s, int64_t life_s)
{
    const json_t *ref = json_object_get(spec, "boundObjectRef");
    const char *ns = x->path.namespace_;
    char subject[2 * DEV_NAME_MAX + 32];
    snprintf(subject, sizeof(subject), "system:serviceaccount:%s:%s", ns, x->path.name);
    json_t *kubernetes = json_pack("{s:s,s:{s:s,s:s}}", "namespace", ns, "serviceaccount", "name",
                                   x->path.name, "uid", account->facts->uid);
    if (json_is_object(ref))
        json_object_set_new(
            kubernetes, "pod",
            json_pack("{s:s,s:s}", "name", string_at(ref, "name"), "uid", string_at(ref, "uid")));
    return json_pack("{s:O,s:I,s:I,s:s,s:o,s:I,s:s}", "aud", json_object_get(spec, "audiences"),
                     "exp", (json_int_t)(now_s + life_s), "iat", (json_int_t)now_s, "iss", AUDIENCE,
                     "kubernetes.io", kubernetes, "nbf", (json_int_t)now_s, "sub", subject);
}

/* Takes the claims. */
static json_t *sign(const struct dev_server *server, json_t *body)
{
    static const char head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_size = 0;
    struct dev_text json = {0}, token = {0};
    dev_text_json(&json, body);
    json_decref(body);
    dev_text_base64url(&token, (const unsigned char *)head, sizeof(head) - 1);
    dev_text_str(&token, ".");
    if (!json.failed)
        dev_text_base64url(&token, (const unsigned char *)json.at, json.size);
    json_t *result = NULL;
    if (!json.failed && !token.failed &&
        HMAC(EVP_sha256(), server->token_key, sizeof(server->token_key),
             (const unsigned char *)token.at, token.size, mac, &mac_size)) {
        dev_text_str(&token, ".");
        dev_text_base64url(&token, mac, mac_size);
        result = token.failed ? NULL : json_stringn(token.at, token.size);
    }
    dev_text_fini(&json);
    dev_text_fini(&token);
    return result;
}

/* The bound pod must be there, be the same one and run as this account. */
static bool check_pod(const struct dev_exchange *x, const json_t *spec, struct dev_error *e)
{
    const json_t *ref = json_object_get(spec, "boundObjectRef");
    if (!json_is_object(ref))
        return true;
    const char *name = string_at(ref, "name"), *uid = string_at(ref, "uid");
    if (strcmp(string_at(ref, "kind"), "Pod") != 0) {
        dev_error_bad_request(e, "cannot bind token to object of type %.64s, Kind=%.64s",
                              string_at(ref, "apiVersion"), string_at(ref, "kind"));
        return false;
    }
    struct dev_entry *pod =
        dev_store_find(x->server->store, dev_kind(DEV_POD), x->path.namespace_, name);
    if (!pod) {
        dev_error_not_found(e, dev_kind(DEV_POD), name);
        return false;
    }
    if (!dev_mentions_has(pod->object->facts->mentions, 'a', x->path.name)) {
        dev_error_bad_request(e,
                              "cannot bind token for serviceaccount \"%s\" to pod running with "
                              "different serviceaccount name.",
                              x->path.name);
        return false;
    }
    if (uid[0] && strcmp(uid, pod->object->facts->uid) != 0) {
        char why[300];
        snprintf(why, sizeof(why),
                 "the UID in the bound object reference (%.64s) does not match the UID in record. "
                 "The object might have been deleted and then recreated",
                 uid);
        dev_error_conflict(e, dev_kind(DEV_POD), name, why);
        return false;
    }
    return true;
}

static bool set_life(json_t *spec, int64_t *life_s, struct dev_error *e)
{
    const json_t *life = json_object_get(spec, "expirationSeconds");
    *life_s = json_is_integer(life) ? json_integer_value(life) : LIFE_DEFAULT;
    const char *why = *life_s < LIFE_MIN   ? "may not specify a duration less than 10 minutes"
                      : *life_s > LIFE_MAX ? "may not specify a duration larger than 2^32 seconds"
                                           : NULL;
    if (why) {
        char text[128];
        snprintf(text, sizeof(text), "Invalid value: %lld: %s", (long long)*life_s, why);
        dev_error_plain(
            e, 422, "Invalid",
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: %s", text);
        return false;
    }
    return json_object_set_new(spec, "expirationSeconds", json_integer(*life_s)) == 0;
}

static bool fill(struct dev_exchange *x, json_t *root, const struct dev_object *account,
                 struct dev_error *e)
{
    char when[32];
    int64_t life_s, now_s = (int64_t)time(NULL);
    json_t *metadata = json_object_get(root, "metadata"), *spec = json_object_get(root, "spec");
    if (!json_is_object(spec))
        json_object_set_new(root, "spec", json_object());
    spec = json_object_get(root, "spec");
    if (json_array_size(json_object_get(spec, "audiences")) == 0)
        json_object_set_new(spec, "audiences", json_pack("[s]", AUDIENCE));
    if (!set_life(spec, &life_s, e))
        return false;
    json_object_set_new(metadata, "name", json_string(x->path.name));
    json_object_set_new(metadata, "namespace", json_string(x->path.namespace_));
    json_object_set_new(metadata, "uid", json_string(account->facts->uid));
    dev_time_format(now_s, when);
    json_object_set_new(metadata, "creationTimestamp", json_string(when));
    json_t *token = sign(x->server, claims(x, account, spec, now_s, life_s));
    dev_time_format(now_s + life_s, when);
    json_object_set_new(root, "kind", json_string("TokenRequest"));
    json_object_set_new(root, "apiVersion", json_string("authentication.k8s.io/v1"));
    if (token && json_object_set_new(
                     root, "status",
                     json_pack("{s:o,s:s}", "token", token, "expirationTimestamp", when)) == 0)
        return true;
    dev_error_no_memory(e);
    return false;
}

void dev_handle_token(struct dev_exchange *x)
{
    static const struct dev_kind request_kind = {
        .kind = "TokenRequest", .version = "v1", .api_version = "authentication.k8s.io/v1"};
    struct dev_error e;
    struct dev_request request = {
        .user = x->user, .node = x->node, .verb = x->verb, .path = &x->path};
    struct dev_entry *account =
        dev_store_find(x->server->store, x->path.kind, x->path.namespace_, x->path.name);
    json_t *root = NULL;
    if (!account)
        dev_error_not_found(&e, x->path.kind, x->path.name);
    else
        root = dev_parse_object(&request_kind, x->body.at, x->body.size, &e);
    if (!root || !dev_admit_token(x->server->store, &request, root, &e) ||
        !check_pod(x, json_object_get(root, "spec"), &e) || !fill(x, root, account->object, &e)) {
        json_decref(root);
        dev_answer_error(x, &e);
        return;
    }
    struct dev_text text = {0};
    dev_text_json(&text, root);
    json_decref(root);
    dev_stats_wrote(x, x->path.name, dev_store_version(x->server->store));
    dev_answer_text(x, 201, "application/json", &text);
}
