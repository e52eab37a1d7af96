/* kubeconfig(5), as client-go's clientcmd reads it: libyaml makes a tree of it, which is looked
 * into by key.
 *
 * Happy path: current-context names a context, which names a cluster and a user; what these two say
 * becomes `struct apisettings`. What we do not support and what would change who we are or whom we
 * talk to (exec, auth-provider, passwords, `as`, proxy-url) is refused with a clear text, never
 * skipped in silence. Data given inline wins over a file, as in client-go. Failure: -EINVAL with
 * the path of keys that led there. Pure; any thread. */
#include "apiclient/settings.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAX_KUBECONFIG_BYTES (1024 * 1024)

struct reader {
    yaml_document_t document;
    const char *dir;
    struct apisettings *s;
    struct errbuf *e;
};

static int fail(struct reader *r, const char *text)
{
    errbuf_set(r->e, "%s", text);
    return -EINVAL;
}

static const char *scalar_text(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

static bool is_null(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    const char *text = scalar_text(node);
    return !*text || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0;
}

/* The value of a key of a mapping; NULL where it is absent or null, and where `map` is none. */
static yaml_node_t *member(struct reader *r, const yaml_node_t *map, const char *key)
{
    if (!map || map->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        yaml_node_t *k = yaml_document_get_node(&r->document, p->key);
        if (!k || k->type != YAML_SCALAR_NODE || strcmp(scalar_text(k), key) != 0)
            continue;
        yaml_node_t *v = yaml_document_get_node(&r->document, p->value);
        return v && !is_null(v) ? v : NULL;
    }
    return NULL;
}

/* A string member, borrowed from the document; *text is NULL where it is absent or empty. */
static int string_member(struct reader *r, const yaml_node_t *map, const char *key,
                         const char **text)
{
    *text = NULL;
    yaml_node_t *node = member(r, map, key);
    if (!node)
        return 0;
    if (node->type != YAML_SCALAR_NODE) {
        errbuf_set(r->e, "%s: not a string", key);
        return -EINVAL;
    }
    if (strlen(scalar_text(node)) != node->data.scalar.length) {
        errbuf_set(r->e, "%s: holds a NUL character", key);
        return -EINVAL;
    }
    if (node->data.scalar.length > 0)
        *text = scalar_text(node);
    return 0;
}

static int bool_member(struct reader *r, const yaml_node_t *map, const char *key, bool *value)
{
    const char *text;
    int rc = string_member(r, map, key, &text);
    if (rc != 0)
        return rc;
    *value = text && strcmp(text, "true") == 0;
    if (text && !*value && strcmp(text, "false") != 0) {
        errbuf_set(r->e, "%s: neither true nor false", key);
        return -EINVAL;
    }
    return 0;
}

/* The `kind` (cluster, user, context) of the list's entry with this name. */
static int named_entry(struct reader *r, const char *list, const char *kind, const char *name,
                       yaml_node_t **entry)
{
    yaml_node_t *items = member(r, yaml_document_get_root_node(&r->document), list);
    if (!items || items->type != YAML_SEQUENCE_NODE) {
        errbuf_set(r->e, "%s: no such list", list);
        return -EINVAL;
    }
    for (yaml_node_item_t *i = items->data.sequence.items.start; i < items->data.sequence.items.top;
         i++) {
        yaml_node_t *item = yaml_document_get_node(&r->document, *i);
        yaml_node_t *item_name = member(r, item, "name");
        if (!item_name || item_name->type != YAML_SCALAR_NODE ||
            strcmp(scalar_text(item_name), name) != 0)
            continue;
        *entry = member(r, item, kind);
        if (*entry && (*entry)->type == YAML_MAPPING_NODE)
            return 0;
        errbuf_set(r->e, "%s '%s': has no '%s' mapping", list, name, kind);
        return -EINVAL;
    }
    errbuf_set(r->e, "%s: there is none named '%s'", list, name);
    return -EINVAL;
}

static bool is_base64_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* EVP_DecodeBlock takes much for base64 that is not; so what goes in is checked first. Line ends
 * are allowed, as Go does. */
static int base64_decode(const char *text, char **data)
{
    size_t size = 0, room = strlen(text);
    char *clean = malloc(room + 1);
    char *out = malloc(room / 4 * 3 + 4);
    int rc = -ENOMEM;
    if (!clean || !out)
        goto fail;

    rc = -EINVAL;
    unsigned padding = 0;
    for (; *text; text++) {
        if (*text == '\n' || *text == '\r' || *text == ' ')
            continue;
        if (*text == '=')
            padding++;
        else if (padding > 0 || !is_base64_char(*text))
            goto fail;
        clean[size++] = *text;
    }
    if (size == 0 || size % 4 != 0 || padding > 2)
        goto fail;
    int written = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)clean, (int)size);
    if (written < (int)padding)
        goto fail;
    out[written - (int)padding] = '\0';
    if (strlen(out) != (size_t)(written - (int)padding))
        goto fail; /* PEM is text */
    OPENSSL_cleanse(clean, room);
    free(clean);
    *data = out;
    return 0;
fail:
    if (clean)
        OPENSSL_cleanse(clean, size);
    free(clean);
    free(out);
    return rc;
}

static int set_copy(struct reader *r, const char *text, char **to)
{
    *to = strdup(text);
    if (*to)
        return 0;
    errbuf_set(r->e, "out of memory");
    return -ENOMEM;
}

static int set_path(struct reader *r, const char *path, char **to)
{
    if (path[0] == '/' || !r->dir)
        return set_copy(r, path, to);
    if (asprintf(to, "%s/%s", r->dir, path) >= 0)
        return 0;
    *to = NULL;
    errbuf_set(r->e, "out of memory");
    return -ENOMEM;
}

/* KEY-data as base64 of PEM, or KEY as a path. */
static int pem_member(struct reader *r, const yaml_node_t *map, const char *key,
                      const char *data_key, char **pem, char **file)
{
    const char *text;
    int rc = string_member(r, map, data_key, &text);
    if (rc == 0 && text) {
        rc = base64_decode(text, pem);
        if (rc != 0)
            errbuf_set(r->e, "%s: %s", data_key,
                       rc == -ENOMEM ? "out of memory" : "not base64 of PEM text");
        return rc;
    }
    if (rc == 0)
        rc = string_member(r, map, key, &text);
    return rc == 0 && text ? set_path(r, text, file) : rc;
}

static int read_cluster(struct reader *r, const yaml_node_t *cluster)
{
    const char *server, *name;
    if (member(r, cluster, "proxy-url"))
        return fail(r, "proxy-url: proxies are not supported");
    int rc = string_member(r, cluster, "server", &server);
    if (rc == 0 && !server)
        return fail(r, "server: missing");
    if (rc == 0)
        rc = apisettings_set_server(r->s, server, r->e);
    if (rc == 0)
        rc = bool_member(r, cluster, "insecure-skip-tls-verify", &r->s->insecure);
    if (rc == 0)
        rc = pem_member(r, cluster, "certificate-authority", "certificate-authority-data",
                        &r->s->ca_pem, &r->s->ca_file);
    if (rc == 0 && r->s->insecure && (r->s->ca_pem || r->s->ca_file))
        return fail(
            r, "insecure-skip-tls-verify: makes no sense together with a certificate authority");
    if (rc == 0)
        rc = string_member(r, cluster, "tls-server-name", &name);
    if (rc == 0 && name)
        rc = set_copy(r, name, &r->s->tls_server_name);
    return rc;
}

static int refuse_unsupported_user(struct reader *r, const yaml_node_t *user)
{
    static const struct {
        const char *key, *text;
    } refused[] = {
        {"exec", "exec: credential plugins are not supported; use a certificate or a token"},
        {"auth-provider", "auth-provider: not supported; use a certificate or a token"},
        {"username",
         "username: basic authentication is not supported; use a certificate or a token"},
        {"password",
         "password: basic authentication is not supported; use a certificate or a token"},
        {"as", "as: acting as somebody else is not supported here"},
        {"as-uid", "as-uid: acting as somebody else is not supported here"},
        {"as-groups", "as-groups: acting as somebody else is not supported here"},
        {"as-user-extra", "as-user-extra: acting as somebody else is not supported here"},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (member(r, user, refused[i].key))
            return fail(r, refused[i].text);
    }
    return 0;
}

static int read_token(struct reader *r, const yaml_node_t *user)
{
    const char *token, *file;
    int rc = string_member(r, user, "tokenFile", &file);
    if (rc == 0 && file)
        rc = set_path(r, file, &r->s->token_file);
    if (rc == 0)
        rc = string_member(r, user, "token", &token);
    if (rc != 0 || !token)
        return rc;
    if (!apisettings_is_token(token))
        return fail(r, "token: holds a character that cannot be in one");
    return set_copy(r, token, &r->s->token);
}

static int read_user(struct reader *r, const yaml_node_t *user)
{
    int rc = refuse_unsupported_user(r, user);
    if (rc == 0)
        rc = pem_member(r, user, "client-certificate", "client-certificate-data", &r->s->cert_pem,
                        &r->s->cert_file);
    if (rc == 0)
        rc = pem_member(r, user, "client-key", "client-key-data", &r->s->key_pem, &r->s->key_file);
    if (rc != 0)
        return rc;
    bool has_cert = r->s->cert_pem || r->s->cert_file, has_key = r->s->key_pem || r->s->key_file;
    if (has_cert != has_key)
        return fail(r, has_cert ? "client-certificate: without a client-key"
                                : "client-key: without a client-certificate");
    return read_token(r, user);
}

static int read_document(struct reader *r)
{
    yaml_node_t *root = yaml_document_get_root_node(&r->document);
    if (!root || root->type != YAML_MAPPING_NODE)
        return fail(r, "not a kubeconfig: the file is not a mapping");

    const char *context_name, *cluster_name, *user_name;
    yaml_node_t *context, *cluster, *user;
    int rc = string_member(r, root, "current-context", &context_name);
    if (rc == 0 && !context_name)
        return fail(r, "current-context: missing");
    if (rc == 0)
        rc = named_entry(r, "contexts", "context", context_name, &context);
    if (rc == 0)
        rc = string_member(r, context, "cluster", &cluster_name);
    if (rc == 0)
        rc = string_member(r, context, "user", &user_name);
    if (rc != 0)
        return rc;
    if (!cluster_name) {
        errbuf_set(r->e, "context '%s': names no cluster", context_name);
        return -EINVAL;
    }
    rc = named_entry(r, "clusters", "cluster", cluster_name, &cluster);
    if (rc != 0)
        return rc;
    rc = read_cluster(r, cluster);
    if (rc != 0) {
        errbuf_wrap(r->e, "cluster '%s'", cluster_name);
        return rc;
    }
    if (!user_name)
        return 0; /* anonymous, as client-go has it */
    rc = named_entry(r, "users", "user", user_name, &user);
    if (rc != 0)
        return rc;
    rc = read_user(r, user);
    if (rc != 0)
        errbuf_wrap(r->e, "user '%s'", user_name);
    return rc;
}

int apisettings_parse_kubeconfig(const char *text, size_t size, const char *dir,
                                 struct apisettings *s, struct errbuf *e)
{
    struct reader r = {.dir = dir, .s = s, .e = e};
    if (size > MAX_KUBECONFIG_BYTES)
        return fail(&r, "larger than 1 MiB");

    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        errbuf_set(e, "out of memory");
        return -ENOMEM;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    int rc;
    if (!yaml_parser_load(&parser, &r.document)) {
        bool no_memory = parser.error == YAML_MEMORY_ERROR;
        errbuf_set(e, "line %zu: %s", parser.problem_mark.line + 1,
                   parser.problem ? parser.problem : "not YAML");
        rc = no_memory ? -ENOMEM : -EINVAL;
    } else {
        rc = read_document(&r);
        yaml_document_delete(&r.document);
    }
    yaml_parser_delete(&parser);
    return rc;
}
