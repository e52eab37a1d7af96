/* fuzz-sources: apiclient/config.c apiclient/kubeconfig.c apiclient/settings.c apiclient/tls.c */
/* fuzz-sources: base/errbuf.c base/log.c */
/* Any bytes as a kubeconfig: it is taken, and then says where the API server is, or it is refused
 * with a text. Files that it names are opened, but only regular ones are read. */
#include "apiclient/config.h"
#include "apiclient/settings.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* No file is below it: what paths say is relative to here. */
#define NOWHERE "/proc/self/fdinfo/none"

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void check_settings(const struct apisettings *s)
{
    require(s->host && *s->host && s->port && *s->port, "taken without a server");
    require(!strpbrk(s->host, " /?#@\r\n") && !strpbrk(s->port, " /?#@\r\n"),
            "an address with more in it");
    require(!(s->ca_pem && s->ca_file) && !(s->cert_pem && s->cert_file) &&
                !(s->key_pem && s->key_file),
            "inline and as a file at once");
    require(!(s->insecure && (s->ca_pem || s->ca_file)), "insecure and yet with an authority");
    require(!s->cert_pem == !s->key_pem || s->cert_file || s->key_file, "half of a pair");
    require(!s->token || apisettings_is_token(s->token), "a token that is none");
}

static void check_config(const char *text, size_t size)
{
    struct apiconfig *config = NULL;
    struct errbuf e = {0};
    int rc = apiconfig_parse_kubeconfig(text, size, NOWHERE, &config, &e);
    require(rc <= 0 && (rc == 0) == (config != NULL), "a verdict that does not fit its result");
    require(rc == 0 || e.text[0], "refused without a text");
    if (rc == 0)
        require(strncmp(apiconfig_server(config), "https://", 8) == 0, "taken without TLS");
    apiconfig_put(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct apisettings settings = {0};
    struct errbuf e = {0};
    char *text = malloc(size ? size : 1); /* ends with the bytes */
    require(text != NULL, "no memory");
    memcpy(text, data, size);
    int rc = apisettings_parse_kubeconfig(text, size, NOWHERE, &settings, &e);
    require(rc == 0 || (rc == -EINVAL && e.text[0]), "refused without a text");
    if (rc == 0)
        check_settings(&settings);
    check_config(text, size);
    apisettings_fini(&settings);
    free(text);
    return 0;
}
