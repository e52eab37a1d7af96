/* What connections share, and where they go. See edge_conn.h. */
#include "test/edgesim/edge_conn_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "isthmus/options.h"

#define READ_BUFFER_BYTES 65536

uint64_t edge_clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Masks need not be unpredictable here. */
static int make_mask(uint8_t *buf, size_t len, void *user_data)
{
    struct edge_net *net = user_data;
    net->mask_state =
        net->mask_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(net->mask_state >> (24 + 8 * (i & 3)));
    return 0;
}

static ssize_t take_frame(const uint8_t *data, size_t len, int flags, void *user_data)
{
    struct edge_net *net = user_data;
    (void)flags;
    edge_text_append(&net->wire, (const char *)data, len);
    return edge_text_ok(&net->wire) ? (ssize_t)len : -1;
}

static SSL_CTX *new_context(const char *ca_file, int max_tls, struct errbuf *e)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (!tls) {
        errbuf_set(e, "cannot make a TLS context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(tls, max_tls);
    SSL_CTX_set_options(tls, SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    if (!ca_file || SSL_CTX_load_verify_locations(tls, ca_file, NULL) == 1)
        return tls;
    errbuf_set(e, "%s: no certificate authority in it", ca_file);
    SSL_CTX_free(tls);
    return NULL;
}

int edge_net_new_encoder(struct edge_net *net)
{
    const struct wslay_frame_callbacks callbacks = {.send_callback = take_frame,
                                                    .genmask_callback = make_mask};
    if (net->encoder)
        wslay_frame_context_free(net->encoder);
    net->encoder = NULL;
    return wslay_frame_context_init(&net->encoder, &callbacks, net) == 0 ? 0 : -ENOMEM;
}

int edge_net_trust(struct edge_net *net, X509 *ca)
{
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(net->tls), ca) == 1 ? 0 : -ENOMEM;
}

int edge_net_init(struct edge_net *net, uv_loop_t *loop, const char *ca_file, int max_tls,
                  struct errbuf *e)
{
    *net = (struct edge_net){.loop = loop};
    edge_text_init(&net->wire);
    RAND_bytes((unsigned char *)&net->mask_state, sizeof(net->mask_state));
    net->read_buffer = malloc(READ_BUFFER_BYTES);
    net->tls = net->read_buffer ? new_context(ca_file, max_tls, e) : NULL;
    if (net->tls && edge_net_new_encoder(net) == 0)
        return 0;
    edge_net_fini(net);
    return -EINVAL;
}

void edge_net_fini(struct edge_net *net)
{
    if (net->encoder)
        wslay_frame_context_free(net->encoder);
    SSL_CTX_free(net->tls);
    edge_text_fini(&net->wire);
    free(net->read_buffer);
    *net = (struct edge_net){0};
}

static bool is_address(const char *host)
{
    unsigned char parsed[16];
    return inet_pton(AF_INET, host, parsed) == 1 || inet_pton(AF_INET6, host, parsed) == 1;
}

int edge_target_resolve(struct edge_target *target, const char *text, struct errbuf *e)
{
    uint16_t port;
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    *target = (struct edge_target){0};
    if (options_parse_address(text, target->host, &port) != 0 || target->host[0] == '\0') {
        errbuf_set(e, "'%s' is not HOST:PORT", text);
        return -EINVAL;
    }
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    int rc = getaddrinfo(target->host, service, &hints, &found);
    if (rc != 0) {
        errbuf_set(e, "%s: %s", text, gai_strerror(rc));
        return -ENOENT;
    }
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_size = found->ai_addrlen;
    target->is_name = !is_address(target->host);
    snprintf(target->authority, sizeof(target->authority),
             strchr(target->host, ':') ? "[%s]:%u" : "%s:%u", target->host, (unsigned)port);
    freeaddrinfo(found);
    return 0;
}
