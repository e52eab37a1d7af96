/* See settings.h. */
#include "apiclient/settings.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HOST 255

void apisettings_free_secret(char *text)
{
    if (text)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
}

void apisettings_fini(struct apisettings *s)
{
    free(s->host);
    free(s->port);
    free(s->base_path);
    free(s->tls_server_name);
    free(s->ca_pem);
    free(s->ca_file);
    free(s->cert_pem);
    free(s->cert_file);
    apisettings_free_secret(s->key_pem);
    free(s->key_file);
    apisettings_free_secret(s->token);
    free(s->token_file);
    *s = (struct apisettings){0};
}

bool apisettings_is_token(const char *token)
{
    if (!*token)
        return false;
    for (; *token; token++) {
        if (*token <= ' ' || *token > '~')
            return false;
    }
    return true;
}

static bool is_host_char(char c)
{
    return isalnum((unsigned char)c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
}

static int set_host(struct apisettings *s, const char *at, size_t size, struct errbuf *e)
{
    if (size == 0 || size > MAX_HOST) {
        errbuf_set(e, "server: no host name in the URL");
        return -EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        if (!is_host_char(at[i])) {
            errbuf_set(e, "server: the host name holds a character that cannot be in one");
            return -EINVAL;
        }
    }
    s->host = strndup(at, size);
    return s->host ? 0 : -ENOMEM;
}

static int set_port(struct apisettings *s, const char *at, size_t size, struct errbuf *e)
{
    unsigned value = 0;
    bool ok = size >= 1 && size <= 5;
    for (size_t i = 0; ok && i < size; i++) {
        ok = at[i] >= '0' && at[i] <= '9';
        value = value * 10 + (unsigned)(at[i] - '0');
    }
    if (!ok || value == 0 || value > 65535) {
        errbuf_set(e, "server: the port is not a number from 1 to 65535");
        return -EINVAL;
    }
    s->port = strndup(at, size);
    return s->port ? 0 : -ENOMEM;
}

static int set_base_path(struct apisettings *s, const char *path, struct errbuf *e)
{
    size_t size = strlen(path);
    while (size > 0 && path[size - 1] == '/')
        size--;
    for (size_t i = 0; i < size; i++) {
        if (path[i] <= ' ' || path[i] > '~' || path[i] == '?' || path[i] == '#') {
            errbuf_set(e, "server: the path of the URL holds a character that cannot be in one");
            return -EINVAL;
        }
    }
    s->base_path = strndup(path, size);
    return s->base_path ? 0 : -ENOMEM;
}

/* Where the host of "host:port" or "[v6]:port" ends; the port is NULL if there is none. */
static int split_authority(const char *at, size_t size, const char **host, size_t *host_size,
                           const char **port)
{
    *port = NULL;
    if (size > 0 && at[0] == '[') {
        const char *end = memchr(at, ']', size);
        if (!end)
            return -EINVAL;
        *host = at + 1;
        *host_size = (size_t)(end - at) - 1;
        if (end + 1 == at + size)
            return 0;
        if (end[1] != ':')
            return -EINVAL;
        *port = end + 2;
        return 0;
    }
    const char *colon = memchr(at, ':', size);
    *host = at;
    *host_size = colon ? (size_t)(colon - at) : size;
    if (colon)
        *port = colon + 1;
    return 0;
}

int apisettings_set_server(struct apisettings *s, const char *url, struct errbuf *e)
{
    static const char scheme[] = "https://";
    if (strncasecmp(url, scheme, sizeof(scheme) - 1) != 0) {
        errbuf_set(e, "server: only https:// is supported");
        return -EINVAL;
    }
    const char *at = url + sizeof(scheme) - 1;
    size_t size = strcspn(at, "/?#");
    if (memchr(at, '@', size)) {
        errbuf_set(e, "server: user name and password in the URL are not supported");
        return -EINVAL;
    }

    const char *host, *port;
    size_t host_size;
    if (split_authority(at, size, &host, &host_size, &port) != 0) {
        errbuf_set(e, "server: the address in brackets is not followed by a port");
        return -EINVAL;
    }
    int rc = set_host(s, host, host_size, e);
    if (rc == 0)
        rc = port ? set_port(s, port, (size_t)(at + size - port), e) : set_port(s, "443", 3, e);
    return rc ? rc : set_base_path(s, at + size, e);
}

static int join(const char *dir, const char *name, char **path)
{
    if (asprintf(path, "%s/%s", dir, name) < 0) {
        *path = NULL;
        return -ENOMEM;
    }
    return 0;
}

int apisettings_in_cluster(const char *host, const char *port, const char *dir,
                           struct apisettings *s, struct errbuf *e)
{
    if (!host || !*host || !port || !*port) {
        errbuf_set(
            e,
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is not a pod; "
            "name a kubeconfig");
        return -EINVAL;
    }
    int rc = set_host(s, host, strlen(host), e);
    if (rc == 0)
        rc = set_port(s, port, strlen(port), e);
    if (rc == 0)
        rc = set_base_path(s, "", e);
    if (rc == 0)
        rc = join(dir, "ca.crt", &s->ca_file);
    if (rc == 0)
        rc = join(dir, "token", &s->token_file);
    if (rc == -ENOMEM)
        errbuf_set(e, "out of memory");
    else if (rc != 0)
        errbuf_wrap(e, "KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT");
    return rc;
}
