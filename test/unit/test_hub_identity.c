/* Who an edge is: certificate subjects, node_id, and the refusals of the upgrade; addresses of
 * --proxy-protocol-from. */
#include "hub/identity.h"
#include "hub/socket.h"

#include <arpa/inet.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* ---- subjects ---- */

struct attribute {
    const char *name, *value;
    int size; /* -1: the text's */
};

static void read_subject(const struct attribute *attributes, struct identity *identity)
{
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_NAME_new();
    for (const struct attribute *a = attributes; a->name; a++)
        assert_int_equal(1, X509_NAME_add_entry_by_txt(subject, a->name, MBSTRING_UTF8,
                                                       (const unsigned char *)a->value, a->size, -1,
                                                       0));
    assert_int_equal(1, X509_set_subject_name(certificate, subject));
    identity_read(certificate, identity);
    X509_NAME_free(subject);
    X509_free(certificate);
}

static void test_a_node(void **state)
{
    const struct attribute subject[] = {{"C", "CN", -1},
                                        {"O", "other", -1},
                                        {"O", "system:nodes", -1},
                                        {"CN", "system:node:edge-1", -1},
                                        {NULL, NULL, 0}};
    struct identity identity;
    (void)state;
    read_subject(subject, &identity);
    assert_string_equal("system:node:edge-1", identity.common_name);
    assert_true(identity.is_node);
    assert_false(identity.is_legacy);
}

static void test_legacy_subjects(void **state)
{
    static const char *const organizations[] = {"KubeEdge", "kubeEdge"};
    struct identity identity;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct attribute subject[] = {
            {"O", organizations[i], -1}, {"CN", "kubeedge.io", -1}, {NULL, NULL, 0}};
        read_subject(subject, &identity);
        assert_true(identity.is_legacy);
        assert_false(identity.is_node);
    }
    const struct attribute other[] = {
        {"O", "other", -1}, {"CN", "kubeedge.io", -1}, {NULL, NULL, 0}};
    read_subject(other, &identity);
    assert_false(identity.is_legacy);
}

static void test_nobody(void **state)
{
    const struct attribute two_names[] = {{"O", "system:nodes", -1},
                                          {"CN", "system:node:edge-1", -1},
                                          {"CN", "system:node:edge-2", -1},
                                          {NULL, NULL, 0}};
    const struct attribute hidden[] = {
        {"O", "system:nodes", -1}, {"CN", "system:node:edge-1\0.evil", 24}, {NULL, NULL, 0}};
    const struct attribute empty[] = {{"C", "CN", -1}, {NULL, NULL, 0}};
    struct identity identity;
    (void)state;
    read_subject(two_names, &identity);
    assert_string_equal("", identity.common_name);
    read_subject(hidden, &identity);
    assert_string_equal("", identity.common_name);
    read_subject(empty, &identity);
    assert_string_equal("", identity.common_name);
    identity_read(NULL, &identity);
    assert_string_equal("", identity.common_name);
    assert_false(identity.is_node || identity.is_legacy);
}

/* ---- the upgrade ---- */

static const struct upgrade_request good = {.is_get = true,
                                            .wants_upgrade = true,
                                            .wants_websocket = true,
                                            .has_host = true,
                                            .has_key = true,
                                            .version = "13",
                                            .node_id = "edge-1",
                                            .connection_use = "msg"};
static const struct identity edge_1 = {.common_name = "system:node:edge-1", .is_node = true};

static struct upgrade_answer ask(struct upgrade_request request, struct identity identity,
                                 bool takes_legacy)
{
    struct upgrade_answer answer;
    upgrade_check(&request, &identity, takes_legacy, &answer);
    return answer;
}

static void expect(struct upgrade_request request, unsigned status, enum refuse_reason reason)
{
    struct upgrade_answer answer = ask(request, edge_1, false);
    assert_int_equal(status, answer.status);
    assert_int_equal(reason, answer.reason);
    assert_non_null(answer.text);
}

static void test_what_gorilla_refuses(void **state)
{
    struct upgrade_request r;
    (void)state;
    assert_int_equal(101, ask(good, edge_1, false).status);
    r = good, r.is_get = false;
    expect(r, 405, REFUSE_BAD_REQUEST);
    r = good, r.wants_upgrade = false;
    expect(r, 400, REFUSE_BAD_REQUEST);
    r = good, r.wants_websocket = false;
    expect(r, 400, REFUSE_BAD_REQUEST);
    r = good, r.has_host = false;
    expect(r, 400, REFUSE_BAD_REQUEST);
    r = good, r.has_key = false;
    expect(r, 400, REFUSE_BAD_REQUEST);
    r = good, r.version = NULL;
    expect(r, 400, REFUSE_BAD_REQUEST);
    r = good, r.version = "8";
    expect(r, 400, REFUSE_BAD_REQUEST);
}

static void test_headers_of_edgehub(void **state)
{
    static const char *const bad_names[] = {"",       "Edge-1",    "-edge",  "edge_1",
                                            "edge/1", "../edge-1", "edge 1", "edge-1."};
    struct upgrade_request r = good;
    (void)state;
    r.node_id = NULL;
    expect(r, 400, REFUSE_BAD_REQUEST);
    for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++) {
        r.node_id = bad_names[i];
        expect(r, 400, REFUSE_BAD_REQUEST);
    }
    r = good, r.connection_use = NULL;
    expect(r, 400, REFUSE_BAD_REQUEST);
    r = good, r.connection_use = "str";
    expect(r, 400, REFUSE_BAD_REQUEST);
}

static void test_the_certificate_decides(void **state)
{
    struct upgrade_request r = good;
    struct identity identity = edge_1;
    (void)state;
    r.node_id = "edge-10";
    expect(r, 403, REFUSE_WRONG_NODE);
    r.node_id = "edge";
    expect(r, 403, REFUSE_WRONG_NODE);
    identity.is_node = false; /* the name alone is not enough */
    assert_int_equal(403, ask(good, identity, false).status);
    identity = (struct identity){.common_name = "edge-1", .is_node = true};
    assert_int_equal(403, ask(good, identity, false).status);
    identity = (struct identity){.common_name = "", .is_node = true};
    assert_int_equal(403, ask(good, identity, true).status);
}

static void test_legacy_is_a_flag(void **state)
{
    const struct identity legacy = {.common_name = "kubeedge.io", .is_legacy = true};
    struct upgrade_request r = good;
    (void)state;
    assert_int_equal(403, ask(good, legacy, false).status);
    struct upgrade_answer answer = ask(good, legacy, true);
    assert_int_equal(101, answer.status);
    assert_true(answer.is_legacy);
    /* the flag lets nobody with a name take another */
    r.node_id = "edge-2";
    answer = ask(r, edge_1, true);
    assert_int_equal(403, answer.status);
    assert_false(ask(good, edge_1, true).is_legacy);
}

/* ---- networks ---- */

static bool has(const struct address_list *list, const char *text)
{
    struct in6_addr address;
    struct sockaddr_in6 mapped;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        address_map_v4(&v4, &mapped);
        address = mapped.sin6_addr;
    } else {
        assert_int_equal(1, inet_pton(AF_INET6, text, &address));
    }
    return address_list_has(list, &address);
}

static void test_networks(void **state)
{
    const struct option_list texts = {
        .items = {"10.1.0.0/16", "192.0.2.7", "2001:db8::/33", "172.16.0.0/12"}, .count = 4};
    struct address_list list;
    (void)state;
    assert_int_equal(0, address_list_parse(&list, &texts, NULL));
    assert_true(has(&list, "10.1.255.255"));
    assert_false(has(&list, "10.2.0.0"));
    assert_true(has(&list, "192.0.2.7"));
    assert_false(has(&list, "192.0.2.6"));
    assert_true(has(&list, "2001:db8:7fff::1"));
    assert_false(has(&list, "2001:db8:8000::1"));
    assert_true(has(&list, "172.31.0.1"));
    assert_false(has(&list, "172.32.0.1"));
    assert_false(has(&list, "::1"));
}

static void test_bad_networks(void **state)
{
    static const char *const bad[] = {"",         "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1",
                                      "10.0.0/8", "::/129",      "localhost", "::1/x"};
    struct errbuf e;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct option_list texts = {.items = {bad[i]}, .count = 1};
        struct address_list list;
        assert_int_not_equal(0, address_list_parse(&list, &texts, &e));
        assert_non_null(strstr(e.text, bad[i]));
    }
}

static void test_addresses_as_people_write_them(void **state)
{
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons(567), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {
        .sin_family = AF_INET, .sin_port = htons(8), .sin_addr.s_addr = htonl(0x01020304)};
    char text[ADDRESS_TEXT_BYTES];
    (void)state;
    address_format(&six, text);
    assert_string_equal("[::1]:567", text);
    address_map_v4(&four, &six);
    address_format(&six, text);
    assert_string_equal("1.2.3.4:8", text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_node),
        cmocka_unit_test(test_legacy_subjects),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_what_gorilla_refuses),
        cmocka_unit_test(test_headers_of_edgehub),
        cmocka_unit_test(test_the_certificate_decides),
        cmocka_unit_test(test_legacy_is_a_flag),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_bad_networks),
        cmocka_unit_test(test_addresses_as_people_write_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
