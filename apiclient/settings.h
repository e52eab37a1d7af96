/* What a kubeconfig or the in-cluster environment says, before any file it names is read. Pure; any
 * thread. */
#ifndef APICLIENT_SETTINGS_H
#define APICLIENT_SETTINGS_H

#include "isthmus/errbuf.h"

#include <stdbool.h>
#include <stddef.h>

/* All strings are owned; NULL where absent. Of a _pem and its _file at most one is set. */
struct apisettings {
    char *host; /* without brackets */
    char *port;
    char *base_path; /* of the server's URL, "/k8s/clusters/c-1"; without a slash at its end */
    char *tls_server_name;
    bool insecure;
    char *ca_pem, *ca_file;
    char *cert_pem, *cert_file;
    char *key_pem, *key_file;
    char *token, *token_file; /* both: the file is preferred while it can be read */
};

void apisettings_fini(struct apisettings *s);

/* Fills a zeroed `s`; on an error what was filled is for apisettings_fini(). `dir` (may be NULL:
 * the working directory) is what relative paths are relative to. 0, -EINVAL (`e` says what),
 * -ENOMEM. */
int apisettings_parse_kubeconfig(const char *text, size_t size, const char *dir,
                                 struct apisettings *s, struct errbuf *e)
    __attribute__((warn_unused_result));

/* "https://host:port/path" to its parts in `s`. 0, -EINVAL, -ENOMEM. */
int apisettings_set_server(struct apisettings *s, const char *url, struct errbuf *e)
    __attribute__((warn_unused_result));

/* A pod's own service account; `dir` is where its files are, host and port from the environment. */
int apisettings_in_cluster(const char *host, const char *port, const char *dir,
                           struct apisettings *s, struct errbuf *e)
    __attribute__((warn_unused_result));

/* free(), after wiping it. */
void apisettings_free_secret(char *text);

/* Whether a bearer token can stand in a header: printable ASCII without blanks. */
bool apisettings_is_token(const char *token);

#endif
