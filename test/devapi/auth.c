/* See auth.h. */
#include "test/devapi/auth.h"
#include "test/devapi/authz.h"
#include "test/devapi/server.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

struct token {
    struct token *next;
    char *line; /* owns the strings */
    const char *token, *user;
    char *groups; /* comma-separated; "" if none */
};

struct dev_tokens {
    struct token *list;
};

void dev_tokens_destroy(struct dev_tokens *tokens)
{
    if (!tokens)
        return;
    struct token *t, *next;
    LL_FOREACH_SAFE (tokens->list, t, next) {
        free(t->line);
        free(t);
    }
    free(tokens);
}

static int add_line(struct dev_tokens *tokens, const char *text)
{
    struct token *t = calloc(1, sizeof(*t));
    if (!t || !(t->line = strdup(text))) {
        free(t);
        return -ENOMEM;
    }
    char *rest = t->line;
    t->token = strsep(&rest, ",");
    t->user = rest ? strsep(&rest, ",") : NULL;
    if (rest)
        strsep(&rest, ","); /* the uid */
    t->groups = rest ? rest : t->line + strlen(t->line);
    if (t->groups[0] == '"') {
        t->groups++;
        t->groups[strcspn(t->groups, "\"")] = '\0';
    }
    LL_PREPEND(tokens->list, t);
    return t->token[0] && t->user && t->user[0] ? 0 : -EINVAL;
}

int dev_tokens_load(const char *path, struct dev_tokens **out, struct errbuf *e)
{
    char line[4096];
    FILE *file = fopen(path, "re");
    struct dev_tokens *tokens = file ? calloc(1, sizeof(*tokens)) : NULL;
    if (!tokens) {
        int rc = file ? -ENOMEM : -errno;
        if (file)
            fclose(file);
        errbuf_set(e, "token file %s: %s", path, strerror(-rc));
        return rc;
    }
    int rc = 0;
    for (unsigned number = 1; rc == 0 && fgets(line, sizeof(line), file); number++) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] && line[0] != '#')
            rc = add_line(tokens, line);
        if (rc != 0)
            errbuf_set(e, "token file %s: line %u: want TOKEN,USER,UID[,\"GROUPS\"]", path, number);
    }
    fclose(file);
    if (rc != 0) {
        dev_tokens_destroy(tokens);
        return rc;
    }
    *out = tokens;
    return 0;
}

static bool same_token(const char *a, const char *b)
{
    size_t size = strlen(a);
    return size == strlen(b) && CRYPTO_memcmp(a, b, size) == 0;
}

static const struct token *token_find(const struct dev_tokens *tokens, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (!tokens || !authorization || strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
        return NULL;
    const struct token *t;
    LL_FOREACH (tokens->list, t) {
        if (same_token(t->token, authorization + sizeof(scheme) - 1))
            return t;
    }
    return NULL;
}

static bool has_group(char *const *groups, unsigned count, const char *group)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(groups[i], group) == 0)
            return true;
    }
    return false;
}

static bool lists_group(const char *groups, const char *group)
{
    size_t size = strlen(group);
    for (const char *at = groups; (at = strstr(at, group)); at += size) {
        if ((at == groups || at[-1] == ',') && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return false;
}

bool dev_authenticate(struct dev_exchange *x, struct dev_error *e)
{
    const struct dev_conn *c = x->conn;
    const struct token *t = token_find(x->server->tokens, x->authorization);
    bool is_node;
    if (t) {
        x->user = t->user;
        is_node = lists_group(t->groups, "system:nodes");
    } else if (c->user && !x->authorization) {
        x->user = c->user;
        is_node = has_group(c->groups, c->group_count, "system:nodes");
    } else {
        dev_error_plain(e, 401, "Unauthorized", "Unauthorized");
        return false;
    }
    x->node = dev_node_of(x->user, is_node);
    if (!x->impersonate_user)
        return true;
    if (x->node) {
        dev_error_plain(
            e, 403, "Forbidden",
            "users \"%.200s\" is forbidden: User \"%.200s\" cannot impersonate resource "
            "\"users\" in API group \"\" at the cluster scope",
            x->impersonate_user, x->user);
        return false;
    }
    x->user = x->impersonate_user;
    x->node = dev_node_of(
        x->user, has_group(x->impersonate_groups, x->impersonate_group_count, "system:nodes"));
    return true;
}
