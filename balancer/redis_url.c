/* See redis_url.h. The parts are cut from the outside in: scheme, user and password, then what the
 * scheme wants. Whatever is wrong is named by its part, never quoted: it might be a password that
 * somebody forgot to encode. */
#include "balancer/redis_url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 6379
#define DB_MAX       1000000

struct part {
    const char *at;
    size_t size;
};

static int fail(struct errbuf *e, const char *why)
{
    errbuf_set(e, "%s", why);
    return -EINVAL;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decodes into `out`; false when it is too long, malformed or holds a NUL. */
static bool decode(struct part part, char *out, size_t room)
{
    size_t size = 0;
    for (size_t i = 0; i < part.size; i++) {
        int byte = (unsigned char)part.at[i];
        if (byte == '%') {
            if (i + 2 >= part.size)
                return false;
            int high = hex_digit(part.at[i + 1]), low = hex_digit(part.at[i + 2]);
            if (high < 0 || low < 0)
                return false;
            byte = high * 16 + low;
            i += 2;
        }
        if (byte == 0 || size + 1 >= room)
            return false;
        out[size++] = (char)byte;
    }
    out[size] = '\0';
    return true;
}

static bool read_number(struct part part, uint32_t most, uint32_t *value)
{
    uint64_t sum = 0;
    if (part.size == 0 || part.size > 9)
        return false;
    for (size_t i = 0; i < part.size; i++) {
        if (part.at[i] < '0' || part.at[i] > '9')
            return false;
        sum = sum * 10 + (uint64_t)(part.at[i] - '0');
    }
    *value = (uint32_t)sum;
    return sum <= most;
}

static struct part until(const char *at, const char *stops)
{
    return (struct part){at, strcspn(at, stops)};
}

static const char *last_at_sign(struct part part)
{
    return memrchr(part.at, '@', part.size);
}

/* "user:password", "user" or ":password" */
static int read_user(struct part info, struct redis_url *url, struct errbuf *e)
{
    const char *colon = memchr(info.at, ':', info.size);
    struct part user = {info.at, colon ? (size_t)(colon - info.at) : info.size};
    if (!decode(user, url->user, sizeof(url->user)))
        return fail(e, "the user is too long or badly percent-encoded");
    if (!colon)
        return 0;
    struct part password = {colon + 1, info.size - user.size - 1};
    if (!decode(password, url->password, sizeof(url->password)))
        return fail(e, "the password is too long or badly percent-encoded");
    url->has_password = password.size > 0;
    return 0;
}

static bool consists_of(struct part part, const char *allowed)
{
    for (size_t i = 0; i < part.size; i++)
        if (!memchr(allowed, part.at[i], strlen(allowed)))
            return false;
    return part.size > 0;
}

/* A name or IPv4 address; in brackets an IPv6 address, with a zone perhaps. */
static bool is_host(struct part host, bool is_bracketed)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (!is_bracketed)
        return consists_of(host, name);
    const char *zone = memchr(host.at, '%', host.size);
    struct part address = {host.at, zone ? (size_t)(zone - host.at) : host.size};
    return consists_of(address, "0123456789abcdefABCDEF:.") &&
           memchr(address.at, ':', address.size) &&
           (!zone || consists_of((struct part){zone + 1, host.size - address.size - 1}, name));
}

/* "host", "host:port", "[address]:port" */
static int read_host(struct part at, struct redis_url *url, struct errbuf *e)
{
    struct part host, port = {0};
    bool is_bracketed = at.size > 0 && at.at[0] == '[';
    const char *end = is_bracketed ? memchr(at.at, ']', at.size) : NULL;
    if (is_bracketed && !end)
        return fail(e, "a '[' without its ']' in the host");
    if (is_bracketed) {
        host = (struct part){at.at + 1, (size_t)(end - at.at) - 1};
        port = (struct part){end + 1, at.size - host.size - 2};
    } else {
        host = (struct part){at.at, 0};
        while (host.size < at.size && at.at[host.size] != ':')
            host.size++;
        port = (struct part){at.at + host.size, at.size - host.size};
    }
    if (!is_host(host, is_bracketed) || host.size >= sizeof(url->host))
        return fail(e, "the host is missing or malformed (a '/', '@' or ':' in a password must be "
                       "percent-encoded)");
    memcpy(url->host, host.at, host.size);
    url->host[host.size] = '\0';
    uint32_t number = DEFAULT_PORT;
    if (port.size > 0 &&
        (port.at[0] != ':' ||
         !read_number((struct part){port.at + 1, port.size - 1}, 65535, &number) || number == 0))
        return fail(e, "the port must be 1 to 65535");
    url->port = (uint16_t)number;
    return 0;
}

static int read_network(const char *rest, struct redis_url *url, struct errbuf *e)
{
    struct part authority = until(rest, "/?#");
    const char *sign = last_at_sign(authority);
    const char *tail = authority.at + authority.size;
    int rc = 0;
    if (sign) {
        rc = read_user((struct part){authority.at, (size_t)(sign - authority.at)}, url, e);
        authority = (struct part){sign + 1, (size_t)(tail - sign) - 1};
    }
    if (rc == 0)
        rc = read_host(authority, url, e);
    if (rc != 0)
        return rc;
    if (*tail == '/' && tail[1] == '\0')
        tail++;
    if (*tail == '\0')
        return 0;
    if (*tail != '/' || !read_number((struct part){tail + 1, strlen(tail + 1)}, DB_MAX, &url->db))
        return fail(e, "behind the host only /DB may follow, a number");
    return 0;
}

static int read_unix(const char *rest, struct redis_url *url, struct errbuf *e)
{
    struct part authority = until(rest, "/");
    if (authority.size > 0 && authority.at[authority.size - 1] != '@')
        return fail(e, "a unix URL has three slashes: unix:///run/redis.sock");
    if (authority.size > 0) {
        int rc = read_user((struct part){authority.at, authority.size - 1}, url, e);
        if (rc != 0)
            return rc;
    }
    struct part path = until(rest + authority.size, "?#");
    if (path.size < 2 || !decode(path, url->path, sizeof(url->path)))
        return fail(e, "the socket's path is missing, too long (107 bytes) or badly encoded");
    const char *tail = path.at + path.size;
    if (*tail == '\0')
        return 0;
    if (strncmp(tail, "?db=", 4) != 0 ||
        !read_number((struct part){tail + 4, strlen(tail + 4)}, DB_MAX, &url->db))
        return fail(e, "behind the socket's path only ?db=N may follow");
    return 0;
}

int redis_url_parse(const char *text, struct redis_url *url, struct errbuf *e)
{
    memset(url, 0, sizeof(*url));
    if (strncmp(text, "redis://", 8) == 0) {
        url->scheme = REDIS_SCHEME_TCP;
        return read_network(text + 8, url, e);
    }
    if (strncmp(text, "rediss://", 9) == 0) {
        url->scheme = REDIS_SCHEME_TLS;
        return read_network(text + 9, url, e);
    }
    if (strncmp(text, "unix://", 7) == 0) {
        url->scheme = REDIS_SCHEME_UNIX;
        return read_unix(text + 7, url, e);
    }
    return fail(e, "must begin with redis://, rediss:// or unix://");
}

/* ---- printing ---- */

struct out {
    char *at, *end; /* `end` is the last byte, for the NUL */
};

static void put_text(struct out *out, const char *text)
{
    while (*text && out->at < out->end)
        *out->at++ = *text++;
    *out->at = '\0';
}

/* What is not plain is encoded again, so that nothing can forge a line of the log. */
static void put_encoded(struct out *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        char plain[] = {(char)c, '\0'}, escaped[] = {'%', hex[c >> 4], hex[c & 15], '\0'};
        put_text(out, c > ' ' && c < 127 && !strchr("%@:?#\"\\", c) ? plain : escaped);
    }
}

static void put_number(struct out *out, const char *before, uint32_t number)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", number);
    put_text(out, before);
    put_text(out, text);
}

void redis_url_print(const struct redis_url *url, char *printed)
{
    static const char *const names[] = {"redis://", "rediss://", "unix://"};
    struct out out = {printed, printed + REDIS_URL_PRINTED - 1};
    put_text(&out, names[url->scheme]);
    put_encoded(&out, url->user);
    if (url->user[0] || url->has_password)
        put_text(&out, url->has_password ? ":***@" : "@");
    if (url->scheme == REDIS_SCHEME_UNIX) {
        put_encoded(&out, url->path);
        if (url->db != 0)
            put_number(&out, "?db=", url->db);
        return;
    }
    bool is_v6 = strchr(url->host, ':') != NULL;
    put_text(&out, is_v6 ? "[" : "");
    put_text(&out, url->host);
    put_text(&out, is_v6 ? "]" : "");
    put_number(&out, ":", url->port);
    put_number(&out, "/", url->db);
}
