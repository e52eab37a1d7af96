/* Resource names: what is taken apart, what is refused, and the URL paths made of them. */
#include "hub/resource.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct text_span span(const char *text)
{
    return (struct text_span){text, strlen(text)};
}

static void expect_parts(const char *text, const char *ns, const char *type, const char *name)
{
    struct resource r;
    if (resource_parse(text, strlen(text), &r) != 0)
        fail_msg("%s was refused", text);
    assert_true(text_span_equals(&r.ns, ns));
    assert_true(text_span_equals(&r.type, type));
    assert_int_equal(r.name.size, strlen(name));
    if (name[0])
        assert_true(text_span_equals(&r.name, name));
}

static void test_parse(void **state)
{
    (void)state;
    expect_parts("default/pod/web-0", "default", "pod", "web-0");
    expect_parts("null/node/edge.example.com", "null", "node", "edge.example.com");
    expect_parts("default/podstatus", "default", "podstatus", "");
    expect_parts("kube-node-lease/lease/n", "kube-node-lease", "lease", "n");
    expect_parts("k8s/ca.crt", "k8s", "ca.crt", "");
    expect_parts("membership/detail", "membership", "detail", "");
    expect_parts("a-b/event/Web_0:x@y.17979cfe", "a-b", "event", "Web_0:x@y.17979cfe");
}

static void test_parse_refuses(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "/",
                                        "//",
                                        "///",
                                        "default",
                                        "default/",
                                        "/pod",
                                        "/pod/x",
                                        "default//x",
                                        "default/pod/",
                                        "default/pod/x/",
                                        "default/pod/x/y",
                                        "default/pod/.",
                                        "default/pod/..",
                                        "./pod/x",
                                        "../pod/x",
                                        "default/../x",
                                        "default/./x",
                                        "default/pod/a%2fb",
                                        "default/pod/%2e%2e",
                                        "default/pod/a?b",
                                        "default/pod/a#b",
                                        "default/pod/a\\b",
                                        "default/pod/a b",
                                        "default/pod/a\x01",
                                        "default/pod/a\x7f",
                                        "default/pod/a\n",
                                        "default/pod/\xc3\xa9",
                                        "d\xc3\xa9/pod/x",
                                        "Default/pod/x",
                                        "default/Pod/x",
                                        "-a/pod/x",
                                        "a-/pod/x",
                                        "a.b/pod/x",
                                        "a_b/pod/x",
                                        "default/po_d/x",
                                        "default/.pod/x",
                                        "default/pod-/x",
                                        " default/pod/x",
                                        "default /pod/x"};
    struct resource r;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (resource_parse(texts[i], strlen(texts[i]), &r) != -EBADMSG)
            fail_msg("%s was accepted", texts[i]);
    assert_int_equal(resource_parse("default/pod/a\0b", 15, &r), -EBADMSG);
    assert_int_equal(resource_parse(NULL, 0, &r), -EBADMSG);
}

/* No byte but the plain ones gets into a name, wherever it stands. */
static void test_parse_every_byte(void **state)
{
    (void)state;
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
                                  "_~!$&'()*+,;=:@<>[]^`{|}\"";
    for (unsigned c = 0; c < 256; c++) {
        char text[] = "default/event/a?b";
        struct resource r;
        text[15] = (char)c;
        bool expected = c && strchr(allowed, (int)c);
        if ((resource_parse(text, sizeof(text) - 1, &r) == 0) != expected)
            fail_msg("byte 0x%02x", c);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    char text[600];
    struct resource r;
    for (int more = 0; more <= 1; more++) {
        int expected = more ? -EBADMSG : 0;
        int size = snprintf(text, sizeof(text), "%0*d/pod/x", RESOURCE_MAX_NAMESPACE + more, 0);
        assert_int_equal(resource_parse(text, (size_t)size, &r), expected);
        size = snprintf(text, sizeof(text), "default/%0*d/x", RESOURCE_MAX_TYPE + more, 0);
        assert_int_equal(resource_parse(text, (size_t)size, &r), expected);
        size = snprintf(text, sizeof(text), "default/pod/%0*d", RESOURCE_MAX_NAME + more, 0);
        assert_int_equal(resource_parse(text, (size_t)size, &r), expected);
    }
}

static bool is_subdomain(const char *text)
{
    struct text_span s = span(text);
    return resource_name_is_subdomain(&s);
}

static void test_subdomain(void **state)
{
    (void)state;
    static const char *const good[] = {
        "a", "0", "web-0", "a.b", "a--b", "xn--a.example.com", "kube-root-ca.crt", "1.2.3.4"};
    static const char *const bad[] = {"",   ".",   "..",   "-",    "-a",   "a-",
                                      "a.", ".a",  "a..b", "a.-b", "a-.b", "A",
                                      "aB", "a_b", "a:b",  "a/b",  "a b",  "\xc3\xa9"};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        if (!is_subdomain(good[i]))
            fail_msg("%s was refused", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (is_subdomain(bad[i]))
            fail_msg("%s was accepted", bad[i]);
}

static void expect_path(enum resource_kind kind, const char *ns, const char *name,
                        const char *subresource, const char *expected)
{
    char path[RESOURCE_PATH_MAX];
    struct text_span ns_span = span(ns), name_span = span(name);
    assert_int_equal(resource_api_path(kind, &ns_span, &name_span, subresource, path, sizeof(path)),
                     strlen(expected));
    assert_string_equal(path, expected);
}

static void test_paths(void **state)
{
    (void)state;
    expect_path(RESOURCE_NODE, "null", "n", NULL, "/api/v1/nodes/n");
    expect_path(RESOURCE_NODE, "default", "n", "status", "/api/v1/nodes/n/status");
    expect_path(RESOURCE_NODE, "", "", NULL, "/api/v1/nodes");
    expect_path(RESOURCE_POD, "default", "web-0", "status",
                "/api/v1/namespaces/default/pods/web-0/status");
    expect_path(RESOURCE_POD, "default", "", NULL, "/api/v1/namespaces/default/pods");
    expect_path(RESOURCE_POD, "", "", NULL, "/api/v1/pods");
    expect_path(RESOURCE_LEASE, "kube-node-lease", "n", NULL,
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n");
    expect_path(RESOURCE_SERVICEACCOUNT, "a", "b", "token",
                "/api/v1/namespaces/a/serviceaccounts/b/token");
    expect_path(RESOURCE_VOLUMEATTACHMENT, "default", "csi-1", NULL,
                "/apis/storage.k8s.io/v1/volumeattachments/csi-1");
    expect_path(RESOURCE_CSR, "default", "", NULL,
                "/apis/certificates.k8s.io/v1/certificatesigningrequests");
    expect_path(RESOURCE_EVENT, "a", "Pod_1~x:@{}.17", NULL,
                "/api/v1/namespaces/a/events/Pod_1~x%3A%40%7B%7D.17");
    assert_true(resource_is_namespaced(RESOURCE_SECRET));
    assert_false(resource_is_namespaced(RESOURCE_PERSISTENTVOLUME));
}

static void test_paths_refuse(void **state)
{
    (void)state;
    static const char *const tricks[] = {".",   "..",   "a/b", "a%2f",    "a?watch=1",
                                         "a#b", "a\\b", "a b", "\xc3\xa9"};
    struct text_span ns = span("default"), name;
    char path[RESOURCE_PATH_MAX];
    for (size_t i = 0; i < sizeof(tricks) / sizeof(*tricks); i++) {
        name = span(tricks[i]);
        assert_int_equal(resource_api_path(RESOURCE_POD, &ns, &name, NULL, path, sizeof(path)),
                         -EINVAL);
        assert_int_equal(resource_api_path(RESOURCE_POD, &name, &ns, NULL, path, sizeof(path)),
                         -EINVAL);
    }
}

static void test_path_room(void **state)
{
    (void)state;
    char path[64];
    struct text_span ns = span("default"), name = span("web:0");
    static const char whole[] = "/api/v1/namespaces/default/pods/web%3A0/status";
    for (size_t room = 0; room < sizeof(whole); room++)
        assert_int_equal(resource_api_path(RESOURCE_POD, &ns, &name, "status", path, room),
                         -ENAMETOOLONG);
    assert_int_equal(resource_api_path(RESOURCE_POD, &ns, &name, "status", path, sizeof(whole)),
                     sizeof(whole) - 1);
    assert_string_equal(path, whole);
}

/* The longest legal names, each character escaped. */
static void test_longest_path(void **state)
{
    (void)state;
    char ns_text[RESOURCE_MAX_NAMESPACE + 1], name_text[RESOURCE_MAX_NAME + 1],
        path[RESOURCE_PATH_MAX];
    memset(ns_text, 'a', sizeof(ns_text) - 1);
    memset(name_text, ':', sizeof(name_text) - 1);
    ns_text[RESOURCE_MAX_NAMESPACE] = name_text[RESOURCE_MAX_NAME] = '\0';
    struct text_span ns = span(ns_text), name = span(name_text);
    for (int kind = RESOURCE_NONE + 1; kind < RESOURCE_KIND_COUNT; kind++)
        assert_true(resource_api_path((enum resource_kind)kind, &ns, &name, "status", path,
                                      sizeof(path)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_parse_every_byte),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_subdomain),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_paths_refuse),
        cmocka_unit_test(test_path_room),
        cmocka_unit_test(test_longest_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
