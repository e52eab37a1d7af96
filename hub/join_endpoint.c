/* See join.h. Here: the HTTPS endpoint. What to answer is judged by join_request.c and
 * join_limit.c; this carries requests to them and asks the API server what they cannot know.
 *
 * A request that needs the API server (is the node there? does it live?) becomes a lookup, which
 * ends with its answer, or when the peer leaves; lookups are bounded by the client's queue. */
#include "hub/httpd.h"
#include "hub/hub.h"
#include "hub/hub_metrics.h"
#include "hub/join_parts.h"
#include "hub/join_request.h"
#include "hub/resource.h"
#include "hub/socket.h"
#include "hub/tls.h"
#include "isthmus/log.h"
#include "isthmus/version.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#define CONNECTIONS     256
#define ACCEPT_RATE     200 /* TLS handshakes a second: an eighth of a core */
#define TIMEOUT_MS      10000
#define BODY_BYTES      16384 /* a request with an RSA key of 4096 bits has 1,700 */
#define BURST_S         4     /* seconds' worth of requests that may come at once */
#define NODE_RATE       5 /* requests a second with one certificate: EdgeCore renews once a year */
#define LOOKUP_MS       5000
#define LOOKUPS_WAITING 256
#define NAME_BYTES      (RESOURCE_MAX_NAME + 1)

#define DER_TYPE  "application/octet-stream"
#define NODE_PATH "/node/"
#define TASK_PATH "/task/"

enum lookup_kind { LOOKUP_NODE, LOOKUP_LEASE };

struct join_lookup {
    struct join_lookup *prev, *next;
    struct join *join;
    enum lookup_kind kind;
    struct httpd_exchange *exchange;
    struct apicall *call;
    EVP_PKEY *key; /* LEASE: whose certificate is asked for */
    char node[NAME_BYTES], remote[ADDRESS_TEXT_BYTES];
};

/* ---- answers ---- */

static void account(enum join_result result, const char *node, const char *remote)
{
    count(JOIN_REQUESTS, result, 1);
    unsigned status = join_result_status(result);
    if (status == 200 || status == 404)
        return;
    log_limited(LOG_LEVEL_WARN, "join_refused", F_STR("reason", join_result_names[result]),
                F_STR("remote", remote), F_STR("node", node ? node : ""));
}

static void answer(struct httpd_response *r, enum join_result result, const char *node,
                   const char *remote)
{
    account(result, node, remote);
    httpd_answer_text(r, join_result_status(result), join_result_text(result));
}

static void answer_der(struct httpd_response *r, const unsigned char *der, size_t size)
{
    r->body = malloc(size);
    if (!r->body) {
        httpd_answer_text(r, 500, "no memory\n");
        return;
    }
    memcpy(r->body, der, size);
    r->status = 200;
    r->content_type = DER_TYPE;
    r->size = size;
}

static void answer_ca(const struct join *join, struct httpd_response *r, const char *remote)
{
    unsigned char *der;
    int size = tls_material_authority_der(join->tls, &der);
    if (size < 0) {
        answer(r, JOIN_INTERNAL, NULL, remote);
        return;
    }
    account(JOIN_CA_SENT, NULL, remote);
    answer_der(r, der, (size_t)size);
    OPENSSL_free(der);
}

/* `how` is JOIN_ISSUED or JOIN_RENEWED. */
static void answer_certificate(const struct join *join, enum join_result how, const char *node,
                               EVP_PKEY *key, const char *remote, struct httpd_response *r)
{
    unsigned char *der;
    char serial[JOIN_SERIAL_BYTES];
    uint64_t lifetime_s = join->config->edge_cert_ms / 1000;
    int64_t now_s = (int64_t)time(NULL);
    int size = join_make_node(&join->ca, node, key, now_s, lifetime_s, &der, serial);
    if (size < 0) {
        answer(r, JOIN_INTERNAL, node, remote);
        return;
    }
    account(how, node, remote);
    log_info("certificate_issued", F_STR("node", node), F_STR("how", join_result_names[how]),
             F_STR("remote", remote), F_STR("serial", serial),
             F_I64("expires_s", now_s + (int64_t)lifetime_s));
    answer_der(r, der, (size_t)size);
    OPENSSL_free(der);
}

/* ---- lookups ---- */

static void lookup_free(struct join_lookup *l)
{
    DL_DELETE(l->join->lookups, l);
    EVP_PKEY_free(l->key);
    free(l);
}

static void on_gone(void *context)
{
    struct join_lookup *l = context;
    apiclient_cancel(l->call);
    account(JOIN_GONE, l->node, l->remote);
    lookup_free(l);
}

static enum join_result judge_node(const struct apiresponse *response)
{
    if (response->error != 0)
        return JOIN_API_ERROR;
    return response->status == 200   ? JOIN_NODE_FOUND
           : response->status == 404 ? JOIN_NODE_NOT_FOUND
                                     : JOIN_API_ERROR;
}

static enum join_result judge_lease(const struct join_lookup *l, const struct apiresponse *response)
{
    int fresh = -EIO;
    if (hub_has_node(l->join->hub, l->node))
        return JOIN_NODE_CONNECTED;
    if (response->error == 0 && response->status == 404)
        fresh = 0;
    else if (response->error == 0 && response->status == 200)
        fresh = join_lease_is_fresh(response->body, response->size, (int64_t)time(NULL));
    return fresh < 0 ? JOIN_API_ERROR : fresh ? JOIN_NODE_ALIVE : JOIN_ISSUED;
}

static void on_looked_up(void *context, const struct apiresponse *response)
{
    struct join_lookup *l = context;
    struct httpd_response r = {0};
    enum join_result result =
        l->kind == LOOKUP_NODE ? judge_node(response) : judge_lease(l, response);
    if (result == JOIN_API_ERROR)
        log_limited(LOG_LEVEL_WARN, "join_lookup_failed", F_STR("node", l->node),
                    F_U64("status", response->status),
                    F_STR("error", response->error ? apiclient_error_text(response->error) : ""));
    if (result == JOIN_ISSUED)
        answer_certificate(l->join, result, l->node, l->key, l->remote, &r);
    else
        answer(&r, result, l->node, l->remote);
    httpd_answer(l->exchange, &r);
    lookup_free(l);
}

static int ask(struct join_lookup *l)
{
    static const char *const folders[] = {
        [LOOKUP_NODE] = "/api/v1/nodes",
        [LOOKUP_LEASE] = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
    };
    char path[RESOURCE_PATH_MAX]; /* a node's name needs no escaping */
    snprintf(path, sizeof(path), "%s/%s", folders[l->kind], l->node);
    const struct apirequest request = {.method = "GET",
                                       .path = path,
                                       .deadline_ms = uv_now(l->join->loop) + LOOKUP_MS,
                                       .retry = API_RETRY_REPEATABLE,
                                       .done = on_looked_up,
                                       .context = l};
    return apiclient_request(l->join->client, &request, &l->call);
}

/* Takes `key`. The answer follows, or is there when no question could be asked. */
static void look_up(struct join *join, enum lookup_kind kind, const char *node, EVP_PKEY *key,
                    const char *remote, const struct httpd_request *q, struct httpd_response *r)
{
    struct join_lookup *l = calloc(1, sizeof(*l));
    if (!l) {
        EVP_PKEY_free(key);
        answer(r, JOIN_INTERNAL, node, remote);
        return;
    }
    l->join = join;
    l->kind = kind;
    l->key = key;
    snprintf(l->node, sizeof(l->node), "%s", node);
    snprintf(l->remote, sizeof(l->remote), "%s", remote);
    DL_APPEND(join->lookups, l);
    int rc = ask(l);
    if (rc != 0) {
        answer(r, rc == -ENOBUFS ? JOIN_TOO_BUSY : JOIN_API_ERROR, node, remote);
        lookup_free(l);
        return;
    }
    l->exchange = httpd_defer(q, on_gone, l);
}

/* ---- requests ---- */

/* JOIN_ISSUED or JOIN_RENEWED and the key to certify, for EVP_PKEY_free(); or why not. */
static enum join_result judge(struct join *join, const struct join_request *request, EVP_PKEY **key)
{
    if (!join_can_sign(join))
        return JOIN_NO_CA_KEY;
    enum join_result how = join_check_credentials(request, &join->ca.key_der, (int64_t)time(NULL));
    if (how != JOIN_ISSUED && how != JOIN_RENEWED)
        return how;
    if (hub_denies(join->hub, request->node))
        return JOIN_NODE_DENIED;
    enum join_result result = join_check_csr(request, key);
    if (result != JOIN_ISSUED)
        return result;
    bool is_taken = how == JOIN_ISSUED && !join->config->allow_reissue &&
                    hub_has_node(join->hub, request->node);
    if (is_taken)
        EVP_PKEY_free(*key);
    return is_taken ? JOIN_NODE_CONNECTED : how;
}

static void on_edge_certificate(struct join *join, const struct httpd_request *q,
                                const char *remote, struct httpd_response *r)
{
    char node[NAME_BYTES], authorization[4096], usages[64];
    EVP_PKEY *key = NULL;
    struct join_request request = {
        .node = httpd_header(q, "nodename:", node, sizeof(node)),
        .authorization = httpd_header(q, "authorization:", authorization, sizeof(authorization)),
        .usages = httpd_header(q, "extkeyusages:", usages, sizeof(usages)),
        .csr = (const unsigned char *)q->body,
        .csr_size = q->body_size};
    request.certificate = httpd_client_certificate(q, &request.is_verified);
    enum join_result result = judge(join, &request, &key);
    OPENSSL_cleanse(authorization, sizeof(authorization));
    if (result == JOIN_ISSUED && !join->config->allow_reissue) {
        look_up(join, LOOKUP_LEASE, request.node, key, remote, q, r);
    } else if (result == JOIN_ISSUED || result == JOIN_RENEWED) {
        answer_certificate(join, result, request.node, key, remote, r);
        EVP_PKEY_free(key);
    } else
        answer(r, result, request.node, remote);
}

static void on_node_check(struct join *join, const struct httpd_request *q, const char *remote,
                          struct httpd_response *r)
{
    const char *name = q->path + sizeof(NODE_PATH) - 1;
    const struct text_span span = {name, strlen(name)};
    if (span.size >= NAME_BYTES || !resource_name_is_subdomain(&span))
        answer(r, JOIN_NODE_NOT_FOUND, NULL, remote); /* as the API server would say */
    else
        look_up(join, LOOKUP_NODE, name, NULL, remote, q, r);
}

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static void route(struct join *join, const struct httpd_request *q, const char *remote,
                  struct httpd_response *r)
{
    bool is_get = q->method == HTTPD_GET;
    if (is_get && strcmp(q->path, "/ca.crt") == 0)
        answer_ca(join, r, remote);
    else if (is_get && strcmp(q->path, "/edge.crt") == 0)
        on_edge_certificate(join, q, remote, r);
    else if (is_get && begins_with(q->path, NODE_PATH))
        on_node_check(join, q, remote, r);
    else if (q->method == HTTPD_POST &&
             (strcmp(q->path, "/nodeupgrade") == 0 || begins_with(q->path, TASK_PATH)))
        answer(r, JOIN_NOT_SERVED, NULL, remote);
    else
        answer(r, JOIN_UNKNOWN_PATH, NULL, remote);
}

/* Who shows a certificate of ours is known by it, and has a limit of its own instead of its
 * address's and everybody's. */
static enum join_limit_verdict take_turn(struct join *join, const struct httpd_request *q)
{
    bool is_verified;
    unsigned char digest[EVP_MAX_MD_SIZE];
    struct in6_addr node;
    uint64_t now_ms = uv_now(join->loop);
    const X509 *certificate = httpd_client_certificate(q, &is_verified);
    if (!is_verified || X509_digest(certificate, EVP_sha256(), digest, NULL) != 1)
        return join_limit_take(&join->strangers, &q->peer->sin6_addr, now_ms);
    memcpy(&node, digest, sizeof(node));
    return join_limit_take(&join->nodes, &node, now_ms);
}

static bool is_admitted(struct join *join, const struct httpd_request *q, const char *remote,
                        struct httpd_response *r)
{
    switch (take_turn(join, q)) {
    case JOIN_LIMIT_PASSES:
        return true;
    case JOIN_LIMIT_ADDRESS:
        answer(r, JOIN_ADDRESS_RATE_LIMITED, NULL, remote);
        return false;
    default:
        answer(r, JOIN_RATE_LIMITED, NULL, remote);
        return false;
    }
}

static void on_request(void *context, const struct httpd_request *q, struct httpd_response *r)
{
    struct join *join = context;
    char remote[ADDRESS_TEXT_BYTES];
    address_format(q->peer, remote);
    if (is_admitted(join, q, remote, r))
        route(join, q, remote, r);
}

/* A handshake costs a thousand times what this does. Twice as many connections as requests may
 * come, so that who asks too often is told so by an answer first. */
static bool on_connection(void *context, const struct sockaddr_in6 *peer)
{
    struct join *join = context;
    if (join_limit_take(&join->connections, &peer->sin6_addr, uv_now(join->loop)) ==
        JOIN_LIMIT_PASSES)
        return true;
    count(JOIN_REQUESTS, JOIN_CONNECTION_LIMITED, 1);
    return false;
}

static void on_refused(void *context, unsigned status)
{
    (void)context;
    (void)status;
    count(JOIN_REQUESTS, JOIN_HTTP, 1);
}

/* ---- life ---- */

static int open_client(struct join *join, struct errbuf *e)
{
    char agent[96];
    snprintf(agent, sizeof(agent), "isthmus/%s", isthmus_version());
    const struct apiclient_options options = {
        .channels = {{.connections = 1, .max_streams = 32, .max_waiting = LOOKUPS_WAITING}},
        .channel_count = 1,
        .connect_timeout_ms = LOOKUP_MS,
        .user_agent = agent,
    };
    return apiclient_create(join->loop, join->api, &options, &join->client, e);
}

int join_endpoint_open(struct join *join, struct errbuf *e)
{
    const struct config *c = join->config;
    uint64_t seed = 0;
    const struct httpd_options options = {.address = c->https_address,
                                          .tls = join->tls,
                                          .max_connections = CONNECTIONS,
                                          .accept_rate = ACCEPT_RATE,
                                          .timeout_ms = TIMEOUT_MS,
                                          .max_body_bytes = BODY_BYTES,
                                          .handler = on_request,
                                          .refused = on_refused,
                                          .admit = on_connection,
                                          .context = join};
    if (!c->https_address || !*c->https_address)
        return 0;
    (void)RAND_bytes((unsigned char *)&seed, sizeof(seed));
    uint64_t now_ms = uv_now(join->loop);
    join_limit_init(&join->strangers, c->join_rate, c->join_address_rate, BURST_S, seed, now_ms);
    join_limit_init(&join->nodes, 0, NODE_RATE, BURST_S, seed, now_ms);
    join_limit_init(&join->connections, 0, 2 * c->join_address_rate, BURST_S, seed, now_ms);
    int rc = open_client(join, e);
    if (rc == 0)
        rc = httpd_create(join->loop, &options, &join->httpd, e);
    if (rc != 0)
        errbuf_wrap(e, "--https-address");
    return rc;
}

static void on_client_closed(void *context)
{
    (void)context;
}

/* First the client: it ends every lookup with -ECANCELED, which is still answered. */
void join_endpoint_close(struct join *join)
{
    if (join->client)
        apiclient_close(join->client, on_client_closed, NULL);
    join->client = NULL;
    if (join->httpd)
        httpd_close(join->httpd);
}
