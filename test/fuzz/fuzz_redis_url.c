/* fuzz-sources: balancer/redis_url.c base/errbuf.c */
/* Any text as the URL of a Redis: what is taken keeps within its limits and is printed as a URL
 * that says the same; neither that nor an error's text holds the password. */
#include "balancer/redis_url.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MARK "q9x7Secret"

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void check_url(const struct redis_url *url)
{
    bool is_unix = url->scheme == REDIS_SCHEME_UNIX;
    require(memchr(url->host, '\0', sizeof(url->host)) != NULL &&
                memchr(url->path, '\0', sizeof(url->path)) != NULL &&
                memchr(url->user, '\0', sizeof(url->user)) != NULL &&
                memchr(url->password, '\0', sizeof(url->password)) != NULL,
            "a text without an end");
    require(is_unix ? url->path[0] == '/' : url->host[0] && url->port, "a place that is none");
}

static void check_print(const struct redis_url *url)
{
    char shown[REDIS_URL_PRINTED];
    struct redis_url again;
    struct errbuf e = {{0}};
    redis_url_print(url, shown);
    require(strlen(shown) < sizeof(shown), "a text without an end");
    require(!strstr(shown, MARK) || strstr(url->user, MARK) || strstr(url->host, MARK) ||
                strstr(url->path, MARK),
            "the password is shown");
    if (redis_url_parse(shown, &again, &e) != 0)
        return; /* what is shown may be shortened, or hold what had to be encoded */
    require(again.scheme == url->scheme && again.has_password == url->has_password,
            "what is shown says something else");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_url url;
    struct errbuf e = {{0}};
    char *text = malloc(size + 1); /* ends with the bytes */
    require(text != NULL, "no memory");
    memcpy(text, data, size);
    text[size] = '\0';
    int rc = redis_url_parse(text, &url, &e);
    require(rc == 0 || (rc == -EINVAL && e.text[0]), "refused without a text");
    if (rc == 0) {
        check_url(&url);
        check_print(&url);
    } else {
        char *password = strstr(text, ":" MARK "@");
        require(!password || !strstr(e.text, MARK), "an error shows the password");
    }
    free(text);
    return 0;
}
