/* The simulated edges' connections below the messages: the upgrade, the frames against those of the
 * real peers, control frames, and certificates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/edgesim/edge_conn_parts.h"

static struct {
    struct edge_net net;
    struct edge_stats stats;
    struct edge_conn conn;
    char *message;
    size_t size;
    int messages, ends, opened;
    enum edge_end end;
    uv_loop_t loop;
} w;

static void on_open(void *owner)
{
    (void)owner;
    w.opened++;
}

static void on_failed(void *owner, enum edge_dial_failure why)
{
    (void)owner;
    fail_msg("dial failed: %s", edge_dial_failure_name(why));
}

static void on_message(void *owner, const char *text, size_t size)
{
    (void)owner;
    free(w.message);
    w.message = malloc(size + 1);
    memcpy(w.message, text, size);
    w.size = size;
    w.messages++;
}

static void on_drained(void *owner)
{
    (void)owner;
}

static void on_end(void *owner, enum edge_end why)
{
    (void)owner;
    w.ends++;
    w.end = why;
}

static const struct edge_conn_events events = {on_open, on_failed, on_message, on_drained, on_end};

static char *read_vector(const char *name, size_t *size)
{
    char path[128];
    char *bytes = malloc(65536);
    snprintf(path, sizeof(path), "test/vectors/%s", name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    *size = fread(bytes, 1, 65535, file);
    bytes[*size] = '\0';
    fclose(file);
    return bytes;
}

/* A connection that is open as far as frames are concerned. Something unsent lies in it, so that
 * what it writes only adds to that and TLS is never reached. */
static void open_connection(void)
{
    struct errbuf e;
    int fd[2];
    memset(&w, 0, sizeof(w));
    assert_int_equal(pipe(fd), 0);
    close(fd[1]);
    uv_loop_init(&w.loop);
    /* Any authority will do: nothing is dialed. */
    char path[] = "/tmp/edgesim-ca-XXXXXX";
    int ca = mkstemp(path);
    struct edge_certs certs;
    assert_int_equal(edge_certs_open_foreign(&certs, &e), 0);
    FILE *file = fdopen(ca, "w");
    PEM_write_X509(file, certs.ca);
    fclose(file);
    edge_certs_close(&certs);
    assert_int_equal(edge_net_init(&w.net, &w.loop, path, 0, &e), 0);
    unlink(path);
    w.net.stats = &w.stats;
    w.net.events = &events;
    w.net.write_deadline_us = UINT64_MAX / 2;
    w.conn.net = &w.net;
    w.conn.state = EDGE_CONN_OPEN;
    w.conn.polled = UV_READABLE | UV_WRITABLE;
    w.conn.fd = fd[0];
    edge_text_append(&w.conn.out, "-", 1);
}

static void close_connection(void)
{
    edge_conn_decoder_free(&w.conn);
    edge_text_fini(&w.conn.out);
    edge_text_fini(&w.conn.in);
    edge_net_fini(&w.net);
    uv_loop_close(&w.loop);
    close(w.conn.fd);
    free(w.message);
    w.message = NULL;
}

static int setup(void **state)
{
    (void)state;
    open_connection();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_connection();
    return 0;
}

/* --- the upgrade --- */

/* As the real edge's request, but for the key, which is random, and the port. */
static void test_upgrade_request(void **state)
{
    (void)state;
    size_t size;
    char *real = read_vector("handshake-request.txt", &size);
    struct edge_target target = {.host = "127.0.0.1", .authority = "127.0.0.1:35543"};
    struct edge_dial dial = {.target = &target, .node = "edge-node-1", .tries = 1};
    edge_text_clear(&w.conn.out);
    assert_true(edge_conn_upgrade_request(&w.conn, &dial));
    edge_text_append(&w.conn.out, "", 1);
    char *ours = w.conn.out.at, *our_key = strstr(ours, "Sec-WebSocket-Key: ") + 19;
    char *real_key = strstr(real, "Sec-WebSocket-Key: ") + 19;
    assert_int_equal(strcspn(our_key, "\r"), 24);
    memset(our_key, 'k', 24);
    memset(real_key, 'k', 24);
    assert_string_equal(ours, real);
    free(real);
}

/* On the second to fifth dial of a round EdgeCore repeats the line. */
static void test_upgrade_request_of_later_dials(void **state)
{
    (void)state;
    struct edge_target target = {.host = "127.0.0.1", .authority = "127.0.0.1:1"};
    struct edge_dial dial = {.target = &target, .node = "n", .tries = 3};
    edge_text_clear(&w.conn.out);
    assert_true(edge_conn_upgrade_request(&w.conn, &dial));
    edge_text_append(&w.conn.out, "", 1);
    assert_non_null(
        strstr(w.conn.out.at,
               "Connectionuse: msg\r\nConnectionuse: msg\r\nConnectionuse: msg\r\nNode_id: n\r\n"));
}

static void test_upgrade_answer_with_a_frame_behind_it(void **state)
{
    (void)state;
    static const char frame[] = "\x81\x02{}";
    char answer[256];
    w.conn.state = EDGE_CONN_UPGRADING;
    strcpy(w.conn.accept, "usCdqEp3HyQbY4/yYXTLCzfCjK4=");
    int n =
        snprintf(answer, sizeof(answer),
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "sec-websocket-accept:  usCdqEp3HyQbY4/yYXTLCzfCjK4=\r\n\r\n%s",
                 frame);
    for (int i = 0; i < n; i++) { /* byte by byte, until it is open */
        if (w.opened) {
            edge_conn_feed(&w.conn, answer + i, (size_t)(n - i));
            break;
        }
        edge_conn_upgrade_feed(&w.conn, answer + i, 1);
    }
    assert_int_equal(w.opened, 1);
    assert_int_equal(w.messages, 1);
    assert_int_equal(w.size, 2);

    /* All at once. */
    w.conn.state = EDGE_CONN_UPGRADING;
    edge_conn_upgrade_feed(&w.conn, answer, (size_t)n);
    assert_int_equal(w.opened, 2);
    assert_int_equal(w.messages, 2);
}

/* --- frames --- */

static void test_frames_of_the_go_server(void **state)
{
    (void)state;
    size_t size;
    char *frames = read_vector("frames-cloud-9k.bin", &size);
    static const size_t steps[] = {1, 2, 3, 7, 100, 4096, 65536};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        for (size_t at = 0; at < size; at += steps[i]) {
            size_t n = size - at < steps[i] ? size - at : steps[i];
            edge_conn_feed(&w.conn, frames + at, n);
        }
        assert_int_equal(w.messages, (int)i + 1);
        /* One frame of a four-byte header with everything, and an empty one. */
        assert_int_equal(w.size, size - 4 - 2);
        assert_memory_equal(w.message, frames + 4, w.size);
        assert_null(w.conn.decoder); /* nothing is kept between frames */
    }
    assert_int_equal(w.ends, 0);
    free(frames);
}

struct frame {
    const char *payload;
    size_t header, size;
    unsigned first;
};

/* A client's frame at `at`, unmasked in place. */
static struct frame read_frame(char *at)
{
    const unsigned char *p = (const unsigned char *)at;
    struct frame f = {.first = p[0], .size = p[1] & 0x7fu, .header = 2};
    assert_true(p[1] & 0x80);
    assert_true(f.size < 127);
    if (f.size == 126) {
        f.size = (size_t)p[2] << 8 | p[3];
        f.header = 4;
    }
    for (size_t i = 0; i < f.size; i++)
        at[f.header + 4 + i] = (char)(at[f.header + 4 + i] ^ at[f.header + (i & 3)]);
    f.header += 4;
    f.payload = at + f.header;
    return f;
}

static void test_frames_as_the_go_client_writes_them(void **state)
{
    (void)state;
    size_t size, message_size = 0;
    char *real = read_vector("frames-edge-9k.bin", &size), message[16384];
    struct frame frames[8];
    int count = 0;
    for (size_t at = 0; at < size; count++) {
        frames[count] = read_frame(real + at);
        memcpy(message + message_size, frames[count].payload, frames[count].size);
        message_size += frames[count].size;
        at += frames[count].header + frames[count].size;
    }
    assert_int_equal(count, 3);
    assert_true(edge_conn_send(&w.conn, message, message_size, 0));
    assert_int_equal(w.conn.out.size, size + 1);
    char *at = w.conn.out.at + 1;
    for (int i = 0; i < count; i++) {
        struct frame ours = read_frame(at);
        assert_int_equal(ours.first, frames[i].first);
        assert_int_equal(ours.size, frames[i].size);
        assert_memory_equal(ours.payload, frames[i].payload, ours.size);
        at += ours.header + ours.size;
    }
    free(real);
}

static void test_ping_is_answered_within_a_message(void **state)
{
    (void)state;
    edge_conn_feed(&w.conn, "\x01\x01{\x89\x02hi\x80\x01}", 3 + 4 + 3);
    assert_int_equal(w.messages, 1);
    assert_memory_equal(w.message, "{}", 2);
    struct frame pong = read_frame(w.conn.out.at + 1);
    assert_int_equal(pong.first, 0x8a);
    assert_int_equal(pong.size, 2);
    assert_memory_equal(pong.payload, "hi", 2);
}

static void expect_end(const char *bytes, size_t size, enum edge_end why)
{
    close_connection();
    open_connection();
    /* A real handle, for this connection is going to close it. */
    struct edge_conn *c = calloc(1, sizeof(*c));
    *c = w.conn;
    c->owner = c;
    c->poll.data = c;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    c->fd = fd[0];
    assert_int_equal(uv_poll_init(&w.loop, &c->poll, c->fd), 0);
    edge_text_init(&c->out);
    edge_text_append(&c->out, "-", 1);
    edge_conn_feed(c, bytes, size);
    assert_int_equal(w.ends, 1);
    assert_int_equal(w.end, why);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    close(fd[1]);
}

static void test_ends(void **state)
{
    (void)state;
    expect_end("\x88\x02\x03\xe9", 4, EDGE_END_CLOSE_FRAME);
    assert_int_equal(w.stats.close_codes_1000_1015[1], 1);
    expect_end("\x88\x00", 2, EDGE_END_CLOSE_FRAME);
    assert_int_equal(w.stats.close_codes_1000_1015[5], 1);
    expect_end("\x81\x81kkkk\x10", 7, EDGE_END_PROTOCOL); /* a server does not mask */
    expect_end("\x80\x01x", 3, EDGE_END_PROTOCOL);        /* the continuation of nothing */
    expect_end("\xc1\x01x", 3, EDGE_END_PROTOCOL);        /* a reserved bit */
    expect_end("\x83\x01x", 3, EDGE_END_PROTOCOL);        /* an opcode nobody knows */
    expect_end("\x09\x00", 2, EDGE_END_PROTOCOL);         /* a ping in fragments */
}

static void test_stuck_writes_fail(void **state)
{
    (void)state;
    w.net.write_deadline_us = 15000000;
    w.conn.out_since_us = 1000000;
    assert_true(edge_conn_send(&w.conn, "{}\n", 3, 15000000));
    assert_false(edge_conn_send(&w.conn, "{}\n", 3, 16000001));
}

/* --- certificates --- */

static void test_issued_certificates(void **state)
{
    (void)state;
    struct errbuf e;
    struct edge_certs certs;
    struct edge_cert cache = {0};
    SSL *ssl = SSL_new(w.net.tls);
    assert_int_equal(edge_certs_open_foreign(&certs, &e), 0);
    assert_int_equal(edge_certs_use(&certs, ssl, "node.with-dots", &cache), 0);
    X509 *cert = SSL_get_certificate(ssl);
    char subject[200];
    X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject));
    assert_string_equal(subject, "/O=system:nodes/CN=system:node:node.with-dots");
    assert_int_equal(X509_verify(cert, X509_get0_pubkey(certs.ca)), 1);
    assert_int_equal(X509_check_purpose(cert, X509_PURPOSE_SSL_CLIENT, 0), 1);
    assert_int_equal(SSL_check_private_key(ssl), 1);
    /* The second time it is the same one. */
    SSL *again = SSL_new(w.net.tls);
    assert_int_equal(edge_certs_use(&certs, again, "node.with-dots", &cache), 0);
    assert_int_equal(X509_cmp(cert, SSL_get_certificate(again)), 0);
    SSL_free(ssl);
    SSL_free(again);
    edge_cert_free(&cache);
    edge_certs_close(&certs);
}

static void test_certificates_from_files(void **state)
{
    (void)state;
    struct errbuf e;
    struct edge_certs made, certs;
    struct edge_cert cache = {0};
    char dir[] = "/tmp/edgesim-certs-XXXXXX", crt[64], key[64];
    assert_non_null(mkdtemp(dir));
    assert_int_equal(edge_certs_open_foreign(&made, &e), 0);
    snprintf(crt, sizeof(crt), "%s/n.crt", dir);
    snprintf(key, sizeof(key), "%s/n.key", dir);
    FILE *file = fopen(crt, "w");
    PEM_write_X509(file, made.ca);
    fclose(file);
    file = fopen(key, "w");
    PEM_write_PrivateKey(file, made.ca_key, NULL, NULL, 0, NULL, NULL);
    fclose(file);

    assert_int_equal(edge_certs_open(&certs, dir, &e), 0);
    SSL *ssl = SSL_new(w.net.tls);
    assert_int_equal(edge_certs_use(&certs, ssl, "n", &cache), 0);
    assert_int_equal(X509_cmp(SSL_get_certificate(ssl), made.ca), 0);
    assert_null(cache.der);
    assert_int_equal(edge_certs_use(&certs, ssl, "m", &cache),
                     -ENOENT); /* no file, and no authority */
    SSL_free(ssl);
    edge_certs_close(&certs);
    edge_certs_close(&made);
    unlink(crt);
    unlink(key);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_upgrade_request, setup, teardown),
        cmocka_unit_test_setup_teardown(test_upgrade_request_of_later_dials, setup, teardown),
        cmocka_unit_test_setup_teardown(test_upgrade_answer_with_a_frame_behind_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_frames_of_the_go_server, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frames_as_the_go_client_writes_them, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ping_is_answered_within_a_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stuck_writes_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_issued_certificates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_certificates_from_files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
