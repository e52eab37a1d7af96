/* PROXY headers, versions 1 and 2: whole, cut off at every byte, and malformed. */
#include "hub/proxyproto.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Out of memory of that size, so that the sanitizers see a byte too many. */
static int parse(const void *bytes, size_t size, struct proxy_header *header)
{
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    int rc = proxyproto_parse(copy, size, header);
    free(copy);
    return rc;
}

static void expect_source(const struct proxy_header *header, const char *address, int port)
{
    char text[INET6_ADDRSTRLEN] = "";
    assert_true(header->has_source);
    if (header->source.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&header->source;
        assert_non_null(inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text)));
        assert_int_equal(ntohs(in->sin_port), port);
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&header->source;
        assert_int_equal(header->source.ss_family, AF_INET6);
        assert_non_null(inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text)));
        assert_int_equal(ntohs(in6->sin6_port), port);
    }
    assert_string_equal(text, address);
}

/* More bytes are asked for until the last one is there, and what follows is left alone. */
static void expect_whole(const char *bytes, size_t size, struct proxy_header *header)
{
    char with_more[4600];
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_equal(parse(bytes, cut, header), 0);
        assert_false(header->has_source);
    }
    memcpy(with_more, bytes, size);
    memset(with_more + size, 0x16, 200);
    assert_int_equal(parse(with_more, size + 200, header), size);
    assert_int_equal(parse(bytes, size, header), size);
}

static void expect_bad(const char *bytes, size_t size)
{
    struct proxy_header header;
    int rc = parse(bytes, size, &header);
    if (rc != -EBADMSG)
        fail_msg("%.*s: %d", (int)size, bytes, rc);
    assert_false(header.has_source);
}

/* ---- version 1 ---- */

static void test_v1(void **state)
{
    (void)state;
    struct proxy_header header;
    static const char v4[] = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 10000\r\n";
    static const char v6[] = "PROXY TCP6 2001:db8::7 2001:db8::1 65535 0\r\n";
    static const char unknown[] = "PROXY UNKNOWN\r\n",
                      unknown_more[] = "PROXY UNKNOWN ffff:f... any thing  1\r\n";
    static const char longest[] = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                                  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    expect_whole(v4, sizeof(v4) - 1, &header);
    expect_source(&header, "192.0.2.7", 56324);
    assert_false(header.is_local);
    expect_whole(v6, sizeof(v6) - 1, &header);
    expect_source(&header, "2001:db8::7", 65535);
    expect_whole(longest, sizeof(longest) - 1, &header);
    expect_whole(unknown, sizeof(unknown) - 1, &header);
    assert_false(header.has_source);
    expect_whole(unknown_more, sizeof(unknown_more) - 1, &header);
    assert_false(header.has_source);
}

static void test_v1_refuses(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "GET / HTTP/1.1\r\n",
        "P\r\n",
        "PROXX",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
        "PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 host 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 999999\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        "PROXY UNKNOWNX\r\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
        expect_bad(lines[i], strlen(lines[i]));
    static const char with_nul[] = "PROXY TCP4 1.2.3.4\0 1.2.3.4 1 1\r\n";
    expect_bad(with_nul, sizeof(with_nul) - 1);
}

/* A line that does not end within 107 bytes never will. */
static void test_v1_too_long(void **state)
{
    (void)state;
    struct proxy_header header;
    char line[128];
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    assert_int_equal(parse(line, 106, &header), 0);
    expect_bad(line, 107);
    memcpy(line + 105, "\r\n", 2);
    assert_int_equal(parse(line, sizeof(line), &header), 107);
    memcpy(line + 105, "x\r\n", 3);
    expect_bad(line, sizeof(line));
}

/* ---- version 2 ---- */

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define INET_BODY "\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x27\x10"

/* Makes a header: command, family, body and its length. */
static size_t make(char *to, const char *command_family, const void *body, size_t size)
{
    memcpy(to, SIGNATURE, 12);
    memcpy(to + 12, command_family, 2);
    to[14] = (char)(size >> 8);
    to[15] = (char)size;
    memcpy(to + 16, body, size);
    return 16 + size;
}

static void test_v2(void **state)
{
    (void)state;
    struct proxy_header header;
    char bytes[512], body[300] = {0};
    size_t size = make(bytes, "\x21\x11", INET_BODY, 12);
    expect_whole(bytes, size, &header);
    expect_source(&header, "192.0.2.7", 56324);
    assert_false(header.is_local);

    assert_int_equal(inet_pton(AF_INET6, "2001:db8::7", body), 1);
    memcpy(body + 32, "\xdc\x04\x27\x10", 4);
    size = make(bytes, "\x21\x21", body, 36);
    expect_whole(bytes, size, &header);
    expect_source(&header, "2001:db8::7", 56324);

    size = make(bytes, "\x21\x12", INET_BODY, 12);
    expect_whole(bytes, size, &header);
    expect_source(&header, "192.0.2.7", 56324);
}

static void test_v2_without_source(void **state)
{
    (void)state;
    struct proxy_header header;
    char bytes[512], body[300] = {0};
    /* A health check of the balancer's own; whatever else it says is skipped. */
    expect_whole(bytes, make(bytes, "\x20\x00", "", 0), &header);
    assert_false(header.has_source);
    assert_true(header.is_local);
    expect_whole(bytes, make(bytes, "\x20\x11", INET_BODY "garbage", 19), &header);
    assert_false(header.has_source);
    assert_true(header.is_local);
    /* Unspecified, and Unix sockets. */
    expect_whole(bytes, make(bytes, "\x21\x00", "abc", 3), &header);
    assert_false(header.has_source);
    assert_false(header.is_local);
    expect_whole(bytes, make(bytes, "\x21\x31", body, 216), &header);
    assert_false(header.has_source);
}

static void test_v2_tlvs(void **state)
{
    (void)state;
    struct proxy_header header;
    char bytes[512];
    static const char body[] = INET_BODY "\x01\x00\x02h2\x04\x00\x00\x03\x00\x04\x01\x02\x03\x04";
    expect_whole(bytes, make(bytes, "\x21\x11", body, sizeof(body) - 1), &header);
    expect_source(&header, "192.0.2.7", 56324);
    /* One that ends behind the header, and ends of one. */
    for (size_t cut = 1; cut < 7; cut++)
        expect_bad(bytes, make(bytes, "\x21\x11", body, sizeof(body) - 1 - cut));
}

static void test_v2_refuses(void **state)
{
    (void)state;
    struct proxy_header header;
    char bytes[512], body[300] = {0};
    static const char *const commands[] = {"\x22\x11", "\x11\x11", "\x01\x11",
                                           "\x21\x41", "\x21\x13", "\x21\xff"};
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
        expect_bad(bytes, make(bytes, commands[i], INET_BODY, 12));
    expect_bad(bytes, make(bytes, "\x21\x11", INET_BODY, 11));
    expect_bad(bytes, make(bytes, "\x21\x21", body, 35));
    expect_bad(bytes, make(bytes, "\x21\x31", body, 215));
    /* A version is told as soon as its byte is there, a signature at its first wrong byte. */
    size_t size = make(bytes, "\x31\x11", INET_BODY, 12);
    assert_int_equal(parse(bytes, 12, &header), 0);
    expect_bad(bytes, 13);
    for (size_t at = 0; at < 12; at++) {
        make(bytes, "\x21\x11", INET_BODY, 12);
        bytes[at] ^= 1;
        expect_bad(bytes, at + 1);
        expect_bad(bytes, size);
    }
}

static void test_v2_size(void **state)
{
    (void)state;
    struct proxy_header header;
    static char bytes[16 + 65535], body[65535];
    make(bytes, "\x20\x00", body, PROXYPROTO_MAX - 16);
    assert_int_equal(parse(bytes, PROXYPROTO_MAX - 1, &header), 0);
    assert_int_equal(parse(bytes, PROXYPROTO_MAX, &header), PROXYPROTO_MAX);
    make(bytes, "\x20\x00", body, PROXYPROTO_MAX - 15);
    assert_int_equal(parse(bytes, 16, &header), -EMSGSIZE);
    make(bytes, "\x20\x00", body, 65535);
    assert_int_equal(parse(bytes, sizeof(bytes), &header), -EMSGSIZE);
}

static void test_other_protocols(void **state)
{
    (void)state;
    expect_bad("\x16\x03\x01\x02\x00", 5); /* a TLS hello */
    expect_bad("\0", 1);
    expect_bad("\x0d\x0d", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1),
        cmocka_unit_test(test_v1_refuses),
        cmocka_unit_test(test_v1_too_long),
        cmocka_unit_test(test_v2),
        cmocka_unit_test(test_v2_without_source),
        cmocka_unit_test(test_v2_tlvs),
        cmocka_unit_test(test_v2_refuses),
        cmocka_unit_test(test_v2_size),
        cmocka_unit_test(test_other_protocols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
