/* The hub's flags: the names and defaults others rely on, what is derived from the machine, and
 * what is refused. */
#include "hub/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const struct config_machine machine = {
    .cores = 4, .open_files = 20000, .host_name = "host-1"};
static struct errbuf error;

static int load(struct config *c, const struct config_machine *m, char **words)
{
    struct options_result r;
    int argc = 0;
    while (words[argc])
        argc++;
    *c = (struct config){0};
    int rc = options_parse(config_options, "TESTCONFIG", argc, words, c, &r, false, &error);
    return rc ? rc : config_complete(c, m, &error);
}

#define FILES        "--tls-ca=ca", "--tls-cert=c", "--tls-key=k"
#define LOAD(c, ...) load((c), &machine, (char *[]){"isthmus", FILES, ##__VA_ARGS__, NULL})

static void expect_refused(const char *text, int rc)
{
    assert_int_equal(rc, -EINVAL);
    if (!strstr(error.text, text))
        fail_msg("'%s' does not say '%s'", error.text, text);
}

static void test_contract(void **state)
{
    (void)state;
    static const char *const names[] = {"kubeconfig",
                                        "websocket-address",
                                        "https-address",
                                        "admin-address",
                                        "tls-ca",
                                        "tls-cert",
                                        "tls-key",
                                        "hub-threads",
                                        "upstream-threads",
                                        "upstream-inflight",
                                        "max-connections",
                                        "accept-rate",
                                        "handshakes-inflight",
                                        "max-message-bytes",
                                        "keepalive-timeout",
                                        "impersonate",
                                        "replica-id",
                                        "control-socket",
                                        "log-format",
                                        "log-level",
                                        "redis",
                                        "redis-group",
                                        "redis-password-file",
                                        "redis-timeout",
                                        "balance",
                                        "drain-timeout"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bool found = false;
        for (const struct option_spec *s = config_options; s->name || s->help; s++)
            found = found || (s->name && strcmp(s->name, names[i]) == 0);
        if (!found)
            fail_msg("--%s is missing", names[i]);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct config c;
    assert_int_equal(LOAD(&c), 0);
    assert_null(c.kubeconfig);
    assert_true(c.impersonate);
    assert_string_equal(c.websocket_address, "[::]:10000");
    assert_string_equal(c.https_address, "[::]:10002");
    assert_string_equal(c.admin_address, "[::]:9440");
    assert_int_equal(c.keepalive_timeout_ms, 45000);
    assert_int_equal(c.edge_timeout_ms, 60000);
    assert_int_equal(c.hub_threads, 4);
    assert_int_equal(c.upstream_threads, 2);
    assert_int_equal(c.accept_rate, 2800);
    assert_int_equal(c.max_connections, 19000);
    assert_string_equal(c.replica_id, "host-1");
    assert_null(c.advertise_address); /* the upstream pool finds it */
    assert_string_equal(c.name_space, "kubeedge");
    assert_int_equal(c.token_refresh_ms, 12 * 3600 * 1000);
    assert_int_equal(c.edge_cert_ms, 365LL * 86400 * 1000);
    assert_string_equal(c.log_level, "info");
}

/* The defaults stand in two places: where the plan's own tests and the simulator find them, and in
 * the table of flags. */
static void test_balancing(void **state)
{
    (void)state;
    struct config c;
    static const struct balancer_config fallback =
        BALANCER_CONFIG_DEFAULT; /* zeroed between its fields */
    assert_int_equal(LOAD(&c), 0);
    assert_memory_equal(&c.balancing, &fallback, sizeof(fallback));
    assert_null(c.redis);
    assert_string_equal(c.redis_group, "default");
    assert_int_equal(c.redis_timeout_ms, 2000);

    assert_int_equal(LOAD(&c, "--balance=dry-run", "--balance-weight=50", "--balance-tolerance=0.1",
                          "--bridge-seconds=0", "--drain-timeout=10s",
                          "--redis=redis://hub:secret@[::1]:6380/2", "--redis-group=west.1"),
                     0);
    assert_int_equal(c.balancing.mode, BALANCER_DRY_RUN);
    assert_int_equal(c.balancing.weight, 50);
    assert_true(c.balancing.tolerance > 0.09 && c.balancing.tolerance < 0.11);
    assert_int_equal(c.balancing.bridge_ms, 0);
    assert_int_equal(c.balancing.drain_timeout_ms, 10000);
    assert_int_equal(LOAD(&c, "--balance=off", "--drain-timeout=1h"), 0);
    assert_int_equal(c.balancing.mode, BALANCER_OFF);
}

static void test_balancing_refusals(void **state)
{
    (void)state;
    struct config c;
    expect_refused("--balance: must be on, dry-run or off", LOAD(&c, "--balance=yes"));
    expect_refused("--balance-weight: 0: must be from 1", LOAD(&c, "--balance-weight=0"));
    expect_refused("--balance-period must be", LOAD(&c, "--balance-period=50ms"));
    expect_refused("--inflight-timeout must be", LOAD(&c, "--inflight-timeout=10s"));
    expect_refused("--max-refusals", LOAD(&c, "--max-refusals=5"));
    expect_refused("--edge-away: must be at least", LOAD(&c, "--edge-away=0"));
    expect_refused("--redis-timeout: must be at least", LOAD(&c, "--redis-timeout=0"));
    expect_refused("--redis: must begin with redis://", LOAD(&c, "--redis=localhost:6379"));
    expect_refused("--redis: the port must be", LOAD(&c, "--redis=redis://:geheim@host:0"));
    assert_null(strstr(error.text, "geheim"));
    expect_refused("--redis-group: must be", LOAD(&c, "--redis-group={a}"));
}

static void test_machines(void **state)
{
    (void)state;
    struct config c;
    char *words[] = {"isthmus", FILES, NULL};
    struct config_machine m = machine;
    m.cores = 1;
    m.open_files = 1024;
    assert_int_equal(load(&c, &m, words), 0);
    assert_int_equal(c.hub_threads, 1);
    assert_int_equal(c.upstream_threads, 1);
    assert_int_equal(c.max_connections, 1024 - 128);

    m.cores = 256;
    m.open_files = 1 << 20;
    assert_int_equal(load(&c, &m, words), 0);
    assert_int_equal(c.hub_threads, 16);
    assert_int_equal(c.upstream_threads, 8);
    assert_int_equal(c.max_connections, (1 << 20) - 2048);

    m.cores = 2; /* more threads than cores make no more handshakes */
    char *threads[] = {"isthmus", FILES, "--hub-threads=8", NULL};
    assert_int_equal(load(&c, &m, threads), 0);
    assert_int_equal(c.accept_rate, 1400);

    m.open_files = 100;
    expect_refused("--max-connections: 0 do not fit the limit of 100", load(&c, &m, words));
    m = machine;
    m.host_name = "";
    expect_refused("--replica-id: is empty", load(&c, &m, words));
}

static void test_refusals(void **state)
{
    (void)state;
    struct config c;
    char *no_files[] = {"isthmus", NULL};
    assert_int_equal(load(&c, &machine, no_files), 0);
    assert_false(config_has_tls_files(&c));
    expect_refused("--tls-ca: is required", LOAD(&c, "--tls-ca="));
    expect_refused("--tls-cert: is required", LOAD(&c, "--tls-cert="));
    expect_refused("--tls-key: is required", LOAD(&c, "--tls-key="));
    expect_refused("--renew-server-cert: is for", LOAD(&c, "--renew-server-cert"));
    expect_refused("--namespace: must be", LOAD(&c, "--namespace=a/b"));
    expect_refused("--namespace: must be", LOAD(&c, "--namespace="));
    expect_refused("--token-refresh: must be at least 1000ms", LOAD(&c, "--token-refresh=0"));
    assert_int_equal(
        LOAD(&c, "--advertise-address=192.0.2.1", "--advertise-address=hub", "--dns-name=a.b"), 0);
    assert_string_equal(c.advertise_address, "192.0.2.1");
    assert_int_equal(c.advertise_addresses.count, 2);
    assert_true(config_has_tls_files(&c));
    expect_refused("--hub-threads: 65: must be from 0 to 64", LOAD(&c, "--hub-threads=65"));
    expect_refused("--websocket-address: 'here'", LOAD(&c, "--websocket-address=here"));
    expect_refused("--websocket-address: ''", LOAD(&c, "--websocket-address="));
    expect_refused("--max-connections: 19950", LOAD(&c, "--max-connections=19950"));
    expect_refused("--keepalive-timeout: must be at least 1000ms",
                   LOAD(&c, "--keepalive-timeout=500ms"));
    expect_refused("--drain-timeout: must be at least 100ms", LOAD(&c, "--drain-timeout=0"));
    expect_refused("--node-burst", LOAD(&c, "--node-rate=500"));
    expect_refused("--node-queue-bytes", LOAD(&c, "--node-queue-bytes=4096"));
    expect_refused("--reassembly-bytes", LOAD(&c, "--reassembly-bytes=65536"));
    expect_refused("--send-bytes", LOAD(&c, "--send-bytes=65536"));
    expect_refused("--queue-bytes", LOAD(&c, "--queue-bytes=65536"));
    expect_refused("--replica-id: must be", LOAD(&c, "--replica-id=a b"));
    expect_refused("--log-level: must be", LOAD(&c, "--log-level=loud"));
    expect_refused("--log-format: must be", LOAD(&c, "--log-format=xml"));
    expect_refused("--allowed-node-labels", LOAD(&c, "--allowed-node-labels="));
}

static void test_proxies(void **state)
{
    (void)state;
    struct config c;
    assert_int_equal(LOAD(&c, "--proxy-protocol-from=10.0.0.0/8", "--proxy-protocol-from=fd00::/64",
                          "--proxy-protocol-from=127.0.0.1"),
                     0);
    assert_int_equal(c.proxy_protocol_from.count, 3);
    static const char *const bad[] = {"10.0.0.0/33", "::/129", "10.0.0/8",
                                      "10.0.0.0/",   "host",   "1.1.1.1/-1",
                                      "1.1.1.1/8x",  "",       "1.1.1.1/0008"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char flag[64];
        snprintf(flag, sizeof(flag), "--proxy-protocol-from=%s", bad[i]);
        expect_refused("is not an address or CIDR", LOAD(&c, flag));
    }
}

static void test_turned_off(void **state)
{
    (void)state;
    struct config c;
    assert_int_equal(LOAD(&c, "--https-address=", "--admin-address=", "--control-socket="), 0);
    assert_string_equal(c.control_socket, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contract),  cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_balancing), cmocka_unit_test(test_balancing_refusals),
        cmocka_unit_test(test_machines),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_proxies),   cmocka_unit_test(test_turned_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
