/* See join.h. Here: where the certificates come from, and their upkeep.
 *
 * From Secrets. At start everything is read or made (join_store.h), and waited for. Afterwards a
 * chore does the same every few minutes and on SIGHUP: the token gets a successor half-way to its
 * end, and a server certificate that another replica was told to renew is taken into use. The CA is
 * kept for life: a hub never follows to another one.
 *
 * From files: they are read again when they change. Without the CA's key there are neither tokens
 * nor certificates. */
#include "hub/join.h"

#include "hub/api_blocking.h"
#include "hub/httpd.h"
#include "hub/join_parts.h"
#include "hub/join_store.h"
#include "hub/socket.h"
#include "hub/tls.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define START_WITHIN_MS  60000
#define CHORE_WITHIN_MS  10000
#define CHORE_PERIOD_MS  600000
#define CHORES_A_REFRESH 8

static int64_t now_s(void)
{
    return (int64_t)time(NULL);
}

static int call_api(void *context, const char *method, const char *path, const char *content_type,
                    const char *body, struct api_blocking_answer *answer, struct errbuf *e)
{
    return api_blocking_call(context, method, path, content_type, body, answer, e);
}

static int64_t refresh_s(const struct join *join)
{
    return (int64_t)(join->config->token_refresh_ms + 999) / 1000;
}

/* ---- at start ---- */

/* Those of the flags; without any this machine's own address. */
static GENERAL_NAMES *wanted_names(const struct config *config, struct errbuf *e)
{
    char own[64];
    struct option_list addresses = config->advertise_addresses;
    if (addresses.count == 0 && config->dns_names.count == 0) {
        socket_local_address(own, sizeof(own));
        addresses.items[addresses.count++] = own;
    }
    GENERAL_NAMES *names = join_names_create(&config->dns_names, &addresses, e);
    if (!names)
        errbuf_wrap(e, "--advertise-address or --dns-name");
    return names;
}

static int use_pair(struct join *join, const struct join_pair *server, struct errbuf *e)
{
    int rc =
        tls_material_create(server->certificate, server->key, join->ca.certificate, &join->tls, e);
    if (rc != 0)
        return rc;
    rc = secret_bytes_copy(&join->chore.known, server->certificate_der.at,
                           server->certificate_der.size);
    if (rc != 0)
        errbuf_set(e, "no memory");
    return rc;
}

static int load_with(struct join *join, const struct join_store *store, const GENERAL_NAMES *names,
                     struct errbuf *e)
{
    struct join_pair server = {0};
    int rc = join_store_ca(store, now_s(), &join->ca, e);
    if (rc == 0)
        rc = join_store_server(store, &join->ca, names, join->config->renew_server_cert, now_s(),
                               &server, e);
    if (rc == 0)
        rc = use_pair(join, &server, e);
    join_pair_free(&server);
    if (rc != 0)
        return rc;
    rc = join_store_token(store, &join->ca, refresh_s(join), now_s(), e);
    return rc < 0 ? rc : 0;
}

static int load_secrets(struct join *join, struct errbuf *e)
{
    struct api_blocking api;
    const struct join_store store = {call_api, &api, join->config->name_space};
    GENERAL_NAMES *names = wanted_names(join->config, e);
    if (!names)
        return -EINVAL;
    int rc = api_blocking_open(&api, join->api, START_WITHIN_MS, e);
    if (rc == 0) {
        rc = load_with(join, &store, names, e);
        api_blocking_close(&api);
    }
    GENERAL_NAMES_free(names);
    return rc;
}

int join_create(const struct config *config, struct apiconfig *api, struct join **out,
                struct errbuf *e)
{
    struct join *join = calloc(1, sizeof(*join));
    if (!join) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    join->config = config;
    join->api = api;
    int rc = config_has_tls_files(config) ? tls_material_load(config, &join->tls, e)
                                          : load_secrets(join, e);
    if (rc != 0) {
        join_destroy(join);
        return rc;
    }
    *out = join;
    return 0;
}

struct tls_material *join_tls(struct join *join)
{
    return join->tls;
}

/* ---- new certificates ---- */

/* Everybody gets `tls` or nobody; takes it. */
static int change_tls(struct join *join, struct tls_material *tls, struct errbuf *e)
{
    int rc = join->changed(join->changed_context, tls, e);
    if (rc == 0 && join->httpd)
        rc = httpd_replace_tls(join->httpd, tls);
    if (rc != 0) {
        tls_material_put(tls);
        return rc;
    }
    tls_material_put(join->tls);
    join->tls = tls;
    return 0;
}

static int take_renewed(struct join *join, struct join_chore *chore, struct errbuf *e)
{
    struct tls_material *tls;
    struct secret_bytes known;
    int rc = secret_bytes_copy(&known, chore->server.certificate_der.at,
                               chore->server.certificate_der.size);
    if (rc != 0) {
        errbuf_set(e, "no memory");
        return rc;
    }
    rc = tls_material_create(chore->server.certificate, chore->server.key, join->ca.certificate,
                             &tls, e);
    if (rc == 0)
        rc = change_tls(join, tls, e);
    if (rc != 0) {
        secret_bytes_free(&known);
        return rc;
    }
    secret_bytes_free(&chore->known);
    chore->known = known;
    log_info("server_certificate_changed", F_STR("namespace", join->config->name_space));
    return 0;
}

/* ---- the chore ---- */

static bool is_known(const struct join_chore *chore)
{
    const struct secret_bytes *der = &chore->server.certificate_der;
    return der->size == chore->known.size && memcmp(der->at, chore->known.at, der->size) == 0;
}

/* A thread of the pool; the loop meanwhile only reads what is not the chore's. */
static void do_chore(uv_work_t *work)
{
    struct join *join = work->data;
    struct join_chore *chore = &join->chore;
    struct api_blocking api;
    const struct join_store store = {call_api, &api, join->config->name_space};
    chore->rc = api_blocking_open(&api, join->api, CHORE_WITHIN_MS, &chore->error);
    if (chore->rc != 0)
        return;
    chore->rc = join_store_token(&store, &join->ca, refresh_s(join), now_s(), &chore->error);
    if (chore->rc >= 0)
        chore->rc =
            join_store_read_server(&store, &join->ca, now_s(), &chore->server, &chore->error);
    if (chore->rc == 0 && is_known(chore))
        join_pair_free(&chore->server);
    api_blocking_close(&api);
}

static void begin_chore(struct join *join);

static void on_timer(uv_timer_t *timer)
{
    begin_chore(timer->data);
}

/* The replicas do not look at the same moment. */
static void plan_chore(struct join *join)
{
    uint32_t random = 0;
    uint64_t period_ms = join->config->token_refresh_ms / CHORES_A_REFRESH;
    if (period_ms > CHORE_PERIOD_MS)
        period_ms = CHORE_PERIOD_MS;
    (void)RAND_bytes((unsigned char *)&random, sizeof(random));
    uv_timer_start(&join->timer, on_timer, period_ms / 2 + random % (period_ms / 2), 0);
}

static void on_chore_done(uv_work_t *work, int status)
{
    struct join *join = work->data;
    struct join_chore *chore = &join->chore;
    chore->is_running = false;
    if (status == 0 && !join->is_closing) {
        if (chore->rc == 0 && chore->server.certificate)
            chore->rc = take_renewed(join, chore, &chore->error);
        if (chore->rc < 0)
            log_warn("join_secrets_not_seen_to", F_STR("error", chore->error.text));
    }
    join_pair_free(&chore->server);
    if (join->is_closing)
        return;
    if (chore->is_wanted_again)
        begin_chore(join);
    else
        plan_chore(join);
}

static void begin_chore(struct join *join)
{
    struct join_chore *chore = &join->chore;
    chore->is_wanted_again = chore->is_running;
    if (chore->is_running)
        return;
    chore->work.data = join;
    chore->rc = 0;
    chore->error = (struct errbuf){{0}};
    chore->is_running = uv_queue_work(join->loop, &chore->work, do_chore, on_chore_done) == 0;
    if (!chore->is_running)
        plan_chore(join);
}

/* ---- life ---- */

int join_start(struct join *join, uv_loop_t *loop, struct hub *hub, join_tls_changed changed,
               void *context, struct errbuf *e)
{
    int rc = uv_timer_init(loop, &join->timer);
    if (rc != 0) {
        errbuf_set(e, "event loop: %s", uv_strerror(rc));
        return rc;
    }
    join->timer.data = join;
    join->loop = loop;
    join->hub = hub;
    join->changed = changed;
    join->changed_context = context;
    if (join_can_sign(join))
        plan_chore(join);
    return join_endpoint_open(join, e);
}

int join_reload(struct join *join, struct errbuf *e)
{
    struct tls_material *tls;
    if (join_can_sign(join)) {
        begin_chore(join);
        return 0;
    }
    int rc = tls_material_load(join->config, &tls, e);
    return rc != 0 ? rc : change_tls(join, tls, e);
}

uint16_t join_port(const struct join *join)
{
    return join->httpd ? httpd_port(join->httpd) : 0;
}

void join_close(struct join *join)
{
    if (!join || !join->loop || join->is_closing)
        return;
    join->is_closing = true;
    if (join->chore.is_running) /* if it has begun it ends within CHORE_WITHIN_MS */
        (void)uv_cancel((uv_req_t *)&join->chore.work);
    uv_close((uv_handle_t *)&join->timer, NULL);
    join_endpoint_close(join);
}

void join_destroy(struct join *join)
{
    if (!join)
        return;
    assert(!join->chore.is_running && !join->lookups);
    httpd_destroy(join->httpd);
    tls_material_put(join->tls);
    join_pair_free(&join->ca);
    secret_bytes_free(&join->chore.known);
    free(join);
}
