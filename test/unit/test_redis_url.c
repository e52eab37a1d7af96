/* --redis: what is taken, what is refused, and that no password is shown. */
#include "balancer/redis_url.h"

#include "isthmus/balance.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct redis_url url;

static void take(const char *text, const char *shown)
{
    char printed[REDIS_URL_PRINTED];
    struct errbuf e = {{0}};
    if (redis_url_parse(text, &url, &e) != 0)
        fail_msg("%s: %s", text, e.text);
    redis_url_print(&url, printed);
    assert_string_equal(printed, shown);
}

static void test_network(void **state)
{
    (void)state;
    take("redis://store", "redis://store:6379/0");
    assert_int_equal(url.scheme, REDIS_SCHEME_TCP);
    assert_string_equal(url.host, "store");
    assert_int_equal(url.port, 6379);
    assert_false(url.has_password);
    take("redis://10.0.0.1:7000/5", "redis://10.0.0.1:7000/5");
    assert_int_equal(url.port, 7000);
    assert_int_equal(url.db, 5);
    take("redis://store/", "redis://store:6379/0");
    take("redis://[::1]:6380", "redis://[::1]:6380/0");
    assert_string_equal(url.host, "::1");
    take("redis://[fe80::1%eth0]/2", "redis://[fe80::1%eth0]:6379/2");
    take("rediss://store.example", "rediss://store.example:6379/0");
    assert_int_equal(url.scheme, REDIS_SCHEME_TLS);
}

static void test_secrets(void **state)
{
    (void)state;
    take("redis://hub:geheim@store", "redis://hub:***@store:6379/0");
    assert_string_equal(url.user, "hub");
    assert_string_equal(url.password, "geheim");
    assert_true(url.has_password);
    take("redis://:geheim@store", "redis://:***@store:6379/0");
    assert_string_equal(url.user, "");
    take("redis://hub@store", "redis://hub@store:6379/0");
    assert_false(url.has_password);
    take("redis://a%3Ab:p%40s%2Fs%25:@store", "redis://a%3Ab:***@store:6379/0");
    assert_string_equal(url.user, "a:b");
    assert_string_equal(url.password, "p@s/s%:");
    take("redis://u:p@w@store", "redis://u:***@store:6379/0"); /* the last @ counts */
    assert_string_equal(url.password, "p@w");
    take("redis://a%0Ab@store", "redis://a%0Ab@store:6379/0");
}

static void test_unix(void **state)
{
    (void)state;
    take("unix:///run/redis.sock", "unix:///run/redis.sock");
    assert_int_equal(url.scheme, REDIS_SCHEME_UNIX);
    assert_string_equal(url.path, "/run/redis.sock");
    take("unix://u:p@/run/a%20b?db=3", "unix://u:***@/run/a%20b?db=3");
    assert_string_equal(url.path, "/run/a b");
    assert_int_equal(url.db, 3);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "must begin with"},
        {"store:6379", "must begin with"},
        {"http://store", "must begin with"},
        {"redis://", "the host is missing"},
        {"redis:///0", "the host is missing"},
        {"redis://st ore", "the host is missing or malformed"},
        {"redis://:ge/heim@store", "the host is missing"},
        {"redis://[::1", "a '[' without its ']'"},
        {"redis://[store]", "the host is missing or malformed"},
        {"redis://[::1%]", "the host is missing or malformed"},
        {"redis://store:0", "the port must be"},
        {"redis://store:65536", "the port must be"},
        {"redis://store:", "the port must be"},
        {"redis://store:geheim", "the port must be"},
        {"redis://[::1]geheim", "the port must be"},
        {"redis://store/a", "only /DB may follow"},
        {"redis://store/1/2", "only /DB may follow"},
        {"redis://store/9999999999", "only /DB may follow"},
        {"redis://store?db=1", "only /DB may follow"},
        {"redis://a%zz@store", "the user is too long or badly"},
        {"redis://a%0@store", "the user is too long or badly"},
        {"redis://:geheim%@store", "the password is too long or badly"},
        {"redis://:geheim%00@store", "the password is too long or badly"},
        {"unix://run/redis.sock", "three slashes"},
        {"unix:///", "path is missing"},
        {"unix:///run/s?db=x", "only ?db=N may follow"},
        {"unix:///run/s#a", "only ?db=N may follow"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct errbuf e = {{0}};
        assert_int_equal(redis_url_parse(bad[i].text, &url, &e), -EINVAL);
        if (!strstr(e.text, bad[i].says))
            fail_msg("%s: '%s' does not say '%s'", bad[i].text, e.text, bad[i].says);
        assert_null(strstr(e.text, "geheim"));
    }
}

static void test_long(void **state)
{
    (void)state;
    char text[2000], printed[REDIS_URL_PRINTED];
    memset(text, 'x', sizeof(text));
    memcpy(text, "redis://:", 9);
    strcpy(text + 9 + REDIS_SECRET_SIZE, "@store");
    assert_int_equal(redis_url_parse(text, &url, NULL), -EINVAL);
    strcpy(text + 9 + REDIS_SECRET_SIZE - 1, "@store");
    assert_int_equal(redis_url_parse(text, &url, NULL), 0);
    assert_int_equal(strlen(url.password), REDIS_SECRET_SIZE - 1);
    memset(text + 8, '"', 511); /* each printed as three characters: cut, but whole */
    strcpy(text + 8 + 511, "@store");
    assert_int_equal(redis_url_parse(text, &url, NULL), 0);
    redis_url_print(&url, printed);
    assert_int_equal(strlen(printed), REDIS_URL_PRINTED - 1);
    memset(text + 8, 'h', 256);
    strcpy(text + 8 + 256, ":1");
    assert_int_equal(redis_url_parse(text, &url, NULL), -EINVAL);
    memset(text, 'p', 200);
    memcpy(text, "unix:///", 8);
    text[7 + 108] = '\0';
    assert_int_equal(redis_url_parse(text, &url, NULL), -EINVAL);
    text[7 + 107] = '\0';
    assert_int_equal(redis_url_parse(text, &url, NULL), 0);
}

static void test_groups(void **state)
{
    (void)state;
    char name[65];
    assert_true(balance_is_group_name(NULL) && balance_is_group_name(""));
    assert_true(balance_is_group_name("West.1_a-b"));
    assert_false(balance_is_group_name("a}b") || balance_is_group_name("a b"));
    memset(name, 'a', 64);
    name[64] = '\0';
    assert_false(balance_is_group_name(name));
    assert_true(balance_is_group_name(name + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network), cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_unix),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_long),    cmocka_unit_test(test_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
