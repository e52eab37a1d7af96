/* Where Redis is, as one URL:
 *
 *     redis://[[user]:password@]host[:port][/db]      rediss://... the same over TLS
 *     unix://[[user]:password@]/path[?db=N]
 *
 * User, password and path may be percent-encoded. No error text and nothing that is printed holds
 * any of the password. Pure. */
#ifndef BALANCER_REDIS_URL_H
#define BALANCER_REDIS_URL_H

#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDIS_SECRET_SIZE 512 /* user or password, with the final NUL */
#define REDIS_URL_PRINTED 1024

enum redis_scheme { REDIS_SCHEME_TCP, REDIS_SCHEME_TLS, REDIS_SCHEME_UNIX };

struct redis_url {
    enum redis_scheme scheme;
    char host[256]; /* a name or an address, IPv6 without brackets; "" for unix */
    uint16_t port;
    char path[108]; /* of the socket; "" otherwise */
    uint32_t db;
    bool has_password;
    char user[REDIS_SECRET_SIZE]; /* "": the default user */
    char password[REDIS_SECRET_SIZE];
};

/* 0, or -EINVAL and `e`. `url` is left half-filled then. */
int redis_url_parse(const char *text, struct redis_url *url, struct errbuf *e)
    __attribute__((warn_unused_result));

/* As it may be shown: "redis://hub:***@store:6379/0"; the user's name is shown, the password is
 * not. `out` has room for REDIS_URL_PRINTED bytes. */
void redis_url_print(const struct redis_url *url, char *out);

#endif
