/* isthmus token: the join token that the hubs keep in the Secret tokensecret, read with the
 * caller's own rights. */
#include "hub/api_blocking.h"
#include "hub/join_token.h"
#include "hub/resource.h"
#include "hub/secret_bytes.h"
#include "hub/subcommands.h"
#include "isthmus/log.h"
#include "isthmus/options.h"
#include "isthmus/version.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WITHIN_MS 15000

struct token_options {
    const char *kubeconfig, *name_space;
};

static const struct option_spec specs[] = {
    {"kubeconfig", OPTION_STRING, OPTION(struct token_options, kubeconfig), NULL, "FILE",
     "How to reach the API server; without it the pod's service account is used.", 0, 0},
    {"namespace", OPTION_STRING, OPTION(struct token_options, name_space), "kubeedge", "NAME",
     "Where the hubs' Secrets are.", 0, 0},
    {.name = NULL},
};

static int read_token(const struct api_blocking_answer *answer, struct secret_bytes *token,
                      struct errbuf *e)
{
    static const char *const path[] = {"data", "tokendata", NULL};
    struct json_span data;
    if (answer->status == 404) {
        errbuf_set(e, "there is none yet: it is made by the first hub that starts");
        return -ENOENT;
    }
    if (answer->status != 200) {
        api_blocking_explain(answer, e);
        return -EACCES;
    }
    if (jsonscan_find(answer->body, answer->size, path, &data) == 0 &&
        data.kind == JSON_KIND_STRING && secret_bytes_from_base64(token, data.at, data.size) == 0)
        return 0;
    errbuf_set(e, "it has no data.tokendata");
    return -EBADMSG;
}

/* One that has run out would only puzzle the edge that is given it. */
static int check_expiry(const struct secret_bytes *token, struct errbuf *e)
{
    int64_t expires_s;
    if (join_token_expiry((char *)token->at, token->size, &expires_s) != 0) {
        errbuf_set(e, "what is in it is no join token");
        return -EBADMSG;
    }
    if (expires_s > (int64_t)time(NULL))
        return 0;
    errbuf_set(e, "the token in it has expired: does a hub run that can write it?");
    return -ESTALE;
}

static int fetch(const struct token_options *o, struct apiconfig *api, struct secret_bytes *token,
                 struct errbuf *e)
{
    struct api_blocking b;
    struct api_blocking_answer answer;
    char path[512];
    const struct text_span name = {o->name_space, strlen(o->name_space)};
    if (!resource_name_is_subdomain(&name)) {
        errbuf_set(e, "--namespace: '%.200s' is no name of one", o->name_space);
        return -EINVAL;
    }
    snprintf(path, sizeof(path), "/api/v1/namespaces/%.253s/secrets/tokensecret", o->name_space);
    int rc = api_blocking_open(&b, api, WITHIN_MS, e);
    if (rc != 0)
        return rc;
    rc = api_blocking_call(&b, "GET", path, NULL, NULL, &answer, e);
    if (rc == 0) {
        rc = read_token(&answer, token, e);
        if (rc == 0)
            rc = check_expiry(token, e);
        if (rc != 0)
            errbuf_wrap(e, "Secret %s/tokensecret", o->name_space);
        api_blocking_answer_free(&answer);
    }
    api_blocking_close(&b);
    return rc;
}

static int print_token(const struct token_options *o, struct errbuf *e)
{
    struct apiconfig *api;
    struct secret_bytes token = {0};
    int rc = o->kubeconfig ? apiconfig_load_kubeconfig(o->kubeconfig, &api, e)
                           : apiconfig_load_in_cluster(&api, e);
    if (rc != 0)
        return rc;
    rc = fetch(o, api, &token, e);
    if (rc == 0)
        printf("%.*s\n", (int)token.size, (char *)token.at);
    secret_bytes_free(&token);
    apiconfig_put(api);
    return rc;
}

int subcommand_token(int argc, char **argv)
{
    struct token_options o = {0};
    struct options_result result = {0};
    struct errbuf e = {{0}};
    if (options_parse(specs, "ISTHMUS", argc, argv, &o, &result, false, &e) != 0) {
        fprintf(stderr, "isthmus token: %s\n", e.text);
        return 2;
    }
    if (result.wants_help || result.wants_version) {
        if (result.wants_help)
            options_print_help(stdout, "isthmus token [FLAG ...]", "Prints a join token.", specs,
                               "ISTHMUS");
        else
            printf("isthmus %s\n", isthmus_version());
        return 0;
    }
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_WARN, STDERR_FILENO);
    if (print_token(&o, &e) == 0)
        return 0;
    fprintf(stderr, "isthmus token: %s\n", e.text);
    return 1;
}
