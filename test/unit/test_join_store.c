/* The Secrets: who makes them, who takes what is there, and what is never overwritten. The API
 * server is a small one of this test: three Secrets with versions, whose answers can be disturbed
 * at any request. */
#include "hub/join_store.h"
#include "hub/join_token.h"
#include "test/lib/heap.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NOW     1795837082
#define REFRESH (12 * 3600)

/* ---- an API server ---- */

struct fake {
    json_t *secrets; /* by name */
    int version;
    bool has_namespace, may_make_namespace;
    bool always_conflicts; /* creating does */
    unsigned requests, creates, patches;
    unsigned refuse_at; /* this request is answered with refuse_status */
    unsigned refuse_status;
    /* Before this request somebody else does the same as `other`. */
    unsigned other_at;
    void (*other)(struct fake *fake);
    int error; /* of every call */
};
static struct fake fake;
static struct join_store store;

static void respond(struct api_blocking_answer *answer, unsigned status, json_t *body)
{
    /* Not through our malloc: what is to fail is the store, not this server. */
    char *text = json_dumps(body, JSON_COMPACT);
    answer->status = status;
    answer->size = strlen(text);
    answer->body = text;
    json_decref(body);
}

static void refuse(struct api_blocking_answer *answer, unsigned status)
{
    respond(answer, status,
            json_pack("{s:s,s:s,s:i}", "kind", "Status", "message", "no, says the server", "code",
                      (int)status));
}

static void stamp(json_t *secret)
{
    char version[16];
    snprintf(version, sizeof(version), "%d", ++fake.version);
    json_object_set_new(json_object_get(secret, "metadata"), "resourceVersion",
                        json_string(version));
}

static void create(json_t *secret, struct api_blocking_answer *answer)
{
    const char *name =
        json_string_value(json_object_get(json_object_get(secret, "metadata"), "name"));
    if (!fake.has_namespace) {
        refuse(answer, 404);
    } else if (fake.always_conflicts || json_object_get(fake.secrets, name)) {
        refuse(answer, 409);
    } else {
        assert_string_equal("Opaque", json_string_value(json_object_get(secret, "type")));
        stamp(secret);
        json_object_set(fake.secrets, name, secret);
        fake.creates++;
        respond(answer, 201, json_incref(secret));
    }
    json_decref(secret);
}

static void patch(const char *name, json_t *changes, struct api_blocking_answer *answer)
{
    json_t *secret = json_object_get(fake.secrets, name);
    const char *wanted =
        json_string_value(json_object_get(json_object_get(changes, "metadata"), "resourceVersion"));
    assert_non_null(wanted);
    if (!secret) {
        refuse(answer, 404);
    } else if (strcmp(wanted, json_string_value(json_object_get(json_object_get(secret, "metadata"),
                                                                "resourceVersion"))) != 0) {
        refuse(answer, 409);
    } else {
        json_object_update(json_object_get(secret, "data"), json_object_get(changes, "data"));
        stamp(secret);
        fake.patches++;
        respond(answer, 200, json_incref(secret));
    }
    json_decref(changes);
}

static void serve(const char *method, const char *path, const char *body,
                  struct api_blocking_answer *answer)
{
    static const char folder[] = "/api/v1/namespaces/kubeedge/secrets";
    const char *name =
        strncmp(path, folder, sizeof(folder) - 1) == 0 ? path + sizeof(folder) - 1 : NULL;
    if (strcmp(path, "/api/v1/namespaces") == 0) {
        fake.has_namespace = fake.may_make_namespace;
        refuse(answer, fake.may_make_namespace ? 201 : 403);
    } else if (name && strcmp(method, "POST") == 0 && !*name) {
        create(json_loads(body, 0, NULL), answer);
    } else if (name && strcmp(method, "PATCH") == 0) {
        patch(name + 1, json_loads(body, 0, NULL), answer);
    } else if (name && strcmp(method, "GET") == 0) {
        json_t *secret = json_object_get(fake.secrets, name + 1);
        if (secret)
            respond(answer, 200, json_incref(secret));
        else
            refuse(answer, 404);
    } else {
        fail_msg("%s %s", method, path);
    }
}

static int call(void *context, const char *method, const char *path, const char *content_type,
                const char *body, struct api_blocking_answer *answer, struct errbuf *e)
{
    assert_ptr_equal(&fake, context);
    assert_int_equal(body != NULL, content_type != NULL);
    *answer = (struct api_blocking_answer){0};
    unsigned number = ++fake.requests;
    if (fake.error) {
        errbuf_set(e, "unreachable");
        return fake.error;
    }
    if (number == fake.other_at)
        fake.other(&fake);
    if (number == fake.refuse_at)
        refuse(answer, fake.refuse_status);
    else
        serve(method, path, body, answer);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    fake = (struct fake){.secrets = json_object(), .has_namespace = true};
    store = (struct join_store){call, &fake, "kubeedge"};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(fake.secrets);
    return 0;
}

static void set_data(const char *name, const char *key, const void *bytes, size_t size)
{
    json_t *secret = json_object_get(fake.secrets, name);
    if (!secret) {
        secret =
            json_pack("{s:{s:s},s:s,s:{}}", "metadata", "name", name, "type", "Opaque", "data");
        json_object_set_new(fake.secrets, name, secret);
    }
    char *text = secret_base64(bytes, size);
    json_object_set_new(json_object_get(secret, "data"), key, json_string(text));
    secret_text_free(text);
    stamp(secret);
}

static char *dump_secrets(void)
{
    return json_dumps(fake.secrets, JSON_SORT_KEYS);
}

/* ---- what tests ask for ---- */

static GENERAL_NAMES *names_of(const char *address)
{
    const struct option_list none = {.count = 0}, addresses = {{address}, 1};
    struct errbuf e = {{0}};
    GENERAL_NAMES *names = join_names_create(&none, &addresses, &e);
    assert_non_null(names);
    return names;
}

static struct errbuf error;

static int get_ca(struct join_pair *ca)
{
    error.text[0] = '\0';
    return join_store_ca(&store, NOW, ca, &error);
}

static int get_server(const struct join_pair *ca, const char *address, bool may_renew,
                      struct join_pair *server)
{
    GENERAL_NAMES *names = names_of(address);
    int rc = join_store_server(&store, ca, names, may_renew, NOW, server, &error);
    GENERAL_NAMES_free(names);
    return rc;
}

static void must(int rc)
{
    if (rc < 0)
        fail_msg("%d: %s", rc, error.text);
}

static void assert_says(const char *text)
{
    if (!strstr(error.text, text))
        fail_msg("'%s' does not say '%s'", error.text, text);
}

/* ---- the CA ---- */

static void test_the_first_makes_it_the_second_takes_it(void **state)
{
    struct join_pair first, second;
    (void)state;
    must(get_ca(&first));
    must(get_ca(&second));
    assert_int_equal(1, fake.creates);
    assert_int_equal(first.certificate_der.size, second.certificate_der.size);
    assert_memory_equal(first.certificate_der.at, second.certificate_der.at,
                        first.certificate_der.size);
    assert_memory_equal(first.key_der.at, second.key_der.at, first.key_der.size);
    join_pair_free(&first);
    join_pair_free(&second);
}

static struct join_pair others;

static void other_makes_ca(struct fake *f)
{
    struct errbuf e = {{0}};
    (void)f;
    assert_int_equal(0, join_make_ca(NOW, &others, &e));
    set_data("casecret", "cadata", others.certificate_der.at, others.certificate_der.size);
    set_data("casecret", "cakeydata", others.key_der.at, others.key_der.size);
}

/* Both have seen that there is none; the other one is first. */
static void test_who_comes_second_uses_the_firsts(void **state)
{
    struct join_pair ca;
    (void)state;
    fake.other_at = 2;
    fake.other = other_makes_ca;
    must(get_ca(&ca));
    assert_int_equal(0, fake.creates);
    assert_memory_equal(others.certificate_der.at, ca.certificate_der.at, ca.certificate_der.size);
    join_pair_free(&ca);
    join_pair_free(&others);
}

static void test_without_a_namespace(void **state)
{
    struct join_pair ca;
    (void)state;
    fake.has_namespace = false;
    assert_int_equal(-EACCES, get_ca(&ca));
    assert_says("namespace kubeedge: 403: no, says the server");
    fake.may_make_namespace = true;
    must(get_ca(&ca));
    join_pair_free(&ca);
}

static void test_what_is_stored_and_broken_stays(void **state)
{
    struct join_pair ca;
    (void)state;
    set_data("casecret", "cadata", "nonsense", 8);
    char *before = dump_secrets();
    assert_int_equal(-EINVAL, get_ca(&ca));
    assert_says("Secret kubeedge/casecret: data.cakeydata is missing or not base64");
    set_data("casecret", "cakeydata", "nonsense", 8);
    free(before);
    before = dump_secrets();
    assert_int_equal(-EINVAL, get_ca(&ca));
    assert_says("Secret kubeedge/casecret: the certificate is not DER");
    char *after = dump_secrets();
    assert_string_equal(before, after);
    assert_int_equal(0, fake.creates + fake.patches);
    free(before);
    free(after);
}

static void test_refusals_of_the_api_server(void **state)
{
    struct join_pair ca;
    (void)state;
    fake.refuse_status = 403;
    for (fake.refuse_at = 1; fake.refuse_at <= 2; fake.refuse_at++) {
        fake.requests = 0;
        assert_int_equal(-EACCES, get_ca(&ca));
        assert_says("Secret kubeedge/casecret: 403: no, says the server");
    }
    fake.error = -ETIMEDOUT;
    assert_int_equal(-ETIMEDOUT, get_ca(&ca));
    assert_says("Secret kubeedge/casecret: unreachable");
}

/* It is there when we want to make it, and gone when we look. */
static void test_somebody_who_is_always_faster(void **state)
{
    struct join_pair ca;
    (void)state;
    fake.refuse_at = 2;
    fake.refuse_status = 409;
    must(get_ca(&ca));
    join_pair_free(&ca);
    json_object_clear(fake.secrets);
    fake.always_conflicts = true;
    assert_int_equal(-EAGAIN, get_ca(&ca));
    assert_says("Secret kubeedge/casecret: somebody changes it all the time");
}

/* ---- the server certificate ---- */

static void test_a_server_certificate(void **state)
{
    struct join_pair ca, first, second;
    (void)state;
    must(get_ca(&ca));
    must(get_server(&ca, "192.0.2.1", false, &first));
    /* Another name, and nobody asked for a new one: the stored one is used. */
    must(get_server(&ca, "192.0.2.2", false, &second));
    assert_memory_equal(first.certificate_der.at, second.certificate_der.at,
                        first.certificate_der.size);
    join_pair_free(&second);
    assert_int_equal(0, fake.patches);
    must(get_server(&ca, "192.0.2.2", true, &second));
    assert_int_equal(1, fake.patches);
    assert_int_not_equal(0, X509_cmp(first.certificate, second.certificate));
    join_pair_free(&first);
    must(join_store_read_server(&store, &ca, NOW, &first, &error));
    assert_int_equal(0, X509_cmp(first.certificate, second.certificate));
    join_pair_free(&first);
    /* It has what is wanted now: no other. */
    must(get_server(&ca, "192.0.2.1", true, &first));
    assert_int_equal(1, fake.patches);
    join_pair_free(&first);
    join_pair_free(&second);
    join_pair_free(&ca);
}

static struct join_pair *renewing_ca;

static void other_renews(struct fake *f)
{
    struct join_pair server;
    f->other_at = 0;
    unsigned requests = f->requests;
    must(get_server(renewing_ca, "192.0.2.3", true, &server));
    f->requests = requests;
    join_pair_free(&server);
}

/* Both read it, the other one writes first: our write is refused, and what we write then has the
 * other's name too. */
static void test_two_renew_at_once(void **state)
{
    struct join_pair ca, server;
    char missing[300];
    (void)state;
    must(get_ca(&ca));
    must(get_server(&ca, "192.0.2.1", false, &server));
    join_pair_free(&server);
    renewing_ca = &ca;
    fake.requests = 0;
    fake.other_at = 2;
    fake.other = other_renews;
    must(get_server(&ca, "192.0.2.2", true, &server));
    assert_int_equal(2, fake.patches);
    for (int i = 1; i <= 3; i++) {
        char address[32];
        snprintf(address, sizeof(address), "192.0.2.%d", i);
        GENERAL_NAMES *names = names_of(address);
        assert_false(join_names_missing(server.certificate, names, missing, sizeof(missing)));
        GENERAL_NAMES_free(names);
    }
    join_pair_free(&server);
    join_pair_free(&ca);
}

static void test_a_server_certificate_of_another_ca(void **state)
{
    struct join_pair ca, other, server;
    struct errbuf e = {{0}};
    (void)state;
    must(get_ca(&ca));
    assert_int_equal(0, join_make_ca(NOW, &other, &e));
    must(get_server(&other, "192.0.2.1", false, &server));
    join_pair_free(&server);
    assert_int_equal(-EINVAL, get_server(&ca, "192.0.2.1", false, &server));
    assert_says("Secret kubeedge/cloudcoresecret: the certificate is not signed by the CA");
    assert_says("--renew-server-cert");
    assert_int_equal(-EINVAL, join_store_read_server(&store, &ca, NOW, &server, &error));
    must(get_server(&ca, "192.0.2.1", true, &server));
    join_pair_free(&server);
    json_object_del(fake.secrets, "cloudcoresecret");
    assert_int_equal(-ENOENT, join_store_read_server(&store, &ca, NOW, &server, &error));
    join_pair_free(&ca);
    join_pair_free(&other);
}

/* ---- the token ---- */

static int64_t stored_expiry(void)
{
    json_t *data = json_object_get(json_object_get(fake.secrets, "tokensecret"), "data");
    const char *text = json_string_value(json_object_get(data, "tokendata"));
    struct secret_bytes token;
    int64_t expires_s;
    assert_int_equal(0, secret_bytes_from_base64(&token, text, strlen(text)));
    assert_int_equal(0, join_token_expiry((char *)token.at, token.size, &expires_s));
    secret_bytes_free(&token);
    return expires_s;
}

static void test_tokens_get_successors(void **state)
{
    struct join_pair ca;
    (void)state;
    must(get_ca(&ca));
    assert_int_equal(1, join_store_token(&store, &ca, REFRESH, NOW, &error));
    assert_int_equal(NOW + 2 * REFRESH, stored_expiry());
    assert_int_equal(0, join_store_token(&store, &ca, REFRESH, NOW + REFRESH - 1, &error));
    assert_int_equal(1, join_store_token(&store, &ca, REFRESH, NOW + REFRESH, &error));
    assert_int_equal(NOW + 3 * REFRESH, stored_expiry());
    /* What is no token of this CA is replaced, whatever it is. */
    set_data("tokensecret", "tokendata", "nonsense", 8);
    assert_int_equal(1, join_store_token(&store, &ca, REFRESH, NOW, &error));
    json_object_clear(json_object_get(json_object_get(fake.secrets, "tokensecret"), "data"));
    assert_int_equal(1, join_store_token(&store, &ca, REFRESH, NOW, &error));
    assert_int_equal(0, join_store_token(&store, &ca, REFRESH, NOW, &error));
    join_pair_free(&ca);
}

static void other_writes_token(struct fake *f)
{
    f->other_at = 0;
    assert_int_equal(1, join_store_token(&store, renewing_ca, REFRESH, NOW, &error));
}

/* Of replicas that find the token old at one moment, one writes. */
static void test_one_writes_the_token(void **state)
{
    struct join_pair ca;
    (void)state;
    must(get_ca(&ca));
    set_data("tokensecret", "tokendata", "old", 3);
    renewing_ca = &ca;
    fake.requests = 0;
    fake.other_at = 2;
    fake.other = other_writes_token;
    assert_int_equal(0, join_store_token(&store, &ca, REFRESH, NOW, &error));
    assert_int_equal(1, fake.patches);
    join_pair_free(&ca);
}

/* ---- without memory ---- */

static int everything(void)
{
    struct join_pair ca = {0}, server = {0};
    int rc = get_ca(&ca);
    if (rc == 0)
        rc = get_server(&ca, "192.0.2.1", true, &server);
    if (rc == 0) {
        rc = join_store_token(&store, &ca, REFRESH, NOW, &error);
        join_pair_free(&server);
    }
    join_pair_free(&ca);
    return rc;
}

/* Whatever fails, what was stored before is used the next time; nothing is made twice. */
static void test_without_memory(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 2000; n++) {
        json_object_clear(fake.secrets);
        fake.creates = 0;
        heap_fail_nth(n);
        int rc = everything();
        if (!heap_fail_end()) {
            assert_true(rc >= 0);
            assert_int_equal(3, fake.creates);
            return;
        }
        if (rc >= 0)
            continue; /* the fake's own, or one that does without */
        assert_true(error.text[0] != '\0');
        must(everything());
        assert_int_equal(3, fake.creates);
    }
    fail();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_makes_it_the_second_takes_it),
        TEST(test_who_comes_second_uses_the_firsts),
        TEST(test_without_a_namespace),
        TEST(test_what_is_stored_and_broken_stays),
        TEST(test_refusals_of_the_api_server),
        TEST(test_somebody_who_is_always_faster),
        TEST(test_a_server_certificate),
        TEST(test_two_renew_at_once),
        TEST(test_a_server_certificate_of_another_ca),
        TEST(test_tokens_get_successors),
        TEST(test_one_writes_the_token),
        TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
