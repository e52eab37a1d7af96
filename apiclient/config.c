/* The configuration object: where its material comes from, and what of it is in force now.
 *
 * Happy path: the source (a kubeconfig file, a kubeconfig in memory, a service account) is read
 * into settings, the files that the settings name are read, an SSL_CTX is made of it all, and only
 * then it replaces what was in force. The generations tell clients, without a lock, that there is
 * something new. Failure modes: whatever fails while reloading leaves the old in force. A reload
 * that names another server is refused: clients keep the address. Threading: any thread. A mutex
 * guards what changes; it is held while small local files are read, never for the network. */
#include "apiclient/config.h"

#include "apiclient/settings.h"
#include "apiclient/tls.h"
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES      (1024 * 1024)
#define SERVICE_ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

enum source_kind { SOURCE_FILE, SOURCE_MEMORY, SOURCE_SERVICE_ACCOUNT };

struct source {
    enum source_kind kind;
    char *path; /* FILE: of the kubeconfig */
    char *text; /* MEMORY */
    size_t size;
    char *dir; /* what relative paths are relative to; SERVICE_ACCOUNT: where its files are */
    char *host, *port; /* SERVICE_ACCOUNT */
};

/* Everything read, and made of it. */
struct material {
    struct apisettings settings;
    char *ca_pem, *cert_pem, *key_pem, *token;
    SSL_CTX *tls;
};

/* Texts handed out as borrowed for as long as the config lives. */
struct retired {
    struct retired *next;
    char *text;
};

struct apiconfig {
    _Atomic unsigned references;
    _Atomic uint64_t token_generation, tls_generation;
    struct source source;
    char *server, *authority, *host, *port, *base_path;
    pthread_mutex_t lock; /* guards what follows */
    struct material material;
    struct retired *retired;
    uint64_t read_ms; /* the last reload; 0: none yet */
};

/* ---- reading ---- */

static int read_whole(int fd, char **text, size_t *size)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size > MAX_FILE_BYTES)
        return -EFBIG;
    size_t room = (size_t)st.st_size + 4096; /* it may grow meanwhile */
    char *buffer = malloc(room + 1);
    if (!buffer)
        return -ENOMEM;
    size_t used = 0;
    ssize_t got;
    while (used < room && (got = read(fd, buffer + used, room - used)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int rc = -errno;
            free(buffer);
            return rc;
        }
        used += (size_t)got;
    }
    buffer[used] = '\0';
    *text = buffer;
    *size = used;
    return 0;
}

/* A small regular file as text. NULs are refused: what follows one would silently be lost. */
static int read_file(const char *path, char **text, size_t *size, struct errbuf *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int rc = fd < 0 ? -errno : read_whole(fd, text, size);
    if (fd >= 0)
        close(fd);
    if (rc == 0 && strlen(*text) != *size) {
        apisettings_free_secret(*text);
        *text = NULL;
        rc = -EBADMSG;
    }
    if (rc == -EINVAL)
        errbuf_set(e, "%s: not a regular file", path);
    else if (rc == -EBADMSG)
        errbuf_set(e, "%s: holds a NUL character", path);
    else if (rc != 0)
        errbuf_set(e, "%s: %s", path, strerror(-rc));
    return rc;
}

static int read_pem(const char *pem, const char *file, char **out, struct errbuf *e)
{
    size_t size;
    *out = NULL;
    if (pem) {
        *out = strdup(pem);
        return *out ? 0 : -ENOMEM;
    }
    return file ? read_file(file, out, &size, e) : 0;
}

static int read_token_file(const char *file, char **out, struct errbuf *e)
{
    char *text;
    size_t size;
    int rc = read_file(file, &text, &size, e);
    if (rc != 0)
        return rc;
    size_t from = strspn(text, " \t\r\n");
    while (size > from && strchr(" \t\r\n", text[size - 1]))
        text[--size] = '\0';
    if (apisettings_is_token(text + from)) {
        *out = strdup(text + from);
        rc = *out ? 0 : -ENOMEM;
    } else {
        errbuf_set(e, "%s: does not hold a token", file);
        rc = -EINVAL;
    }
    apisettings_free_secret(text);
    return rc;
}

static int read_token(const struct apisettings *s, char **out, struct errbuf *e)
{
    *out = NULL;
    int rc = s->token_file ? read_token_file(s->token_file, out, e) : 0;
    if (*out || !s->token)
        return rc;
    *out = strdup(s->token);
    return *out ? 0 : -ENOMEM;
}

static int read_settings(const struct source *source, struct apisettings *s, struct errbuf *e)
{
    if (source->kind == SOURCE_SERVICE_ACCOUNT)
        return apisettings_in_cluster(source->host, source->port, source->dir, s, e);
    if (source->kind == SOURCE_MEMORY)
        return apisettings_parse_kubeconfig(source->text, source->size, source->dir, s, e);

    char *text;
    size_t size;
    int rc = read_file(source->path, &text, &size, e);
    if (rc == 0) {
        rc = apisettings_parse_kubeconfig(text, size, source->dir, s, e);
        apisettings_free_secret(text);
        if (rc != 0)
            errbuf_wrap(e, "%s", source->path);
    }
    if (rc != 0)
        errbuf_wrap(e, "kubeconfig");
    return rc;
}

static const char *verify_name(const struct apisettings *s)
{
    return s->tls_server_name ? s->tls_server_name : s->host;
}

static void material_fini(struct material *m)
{
    apisettings_fini(&m->settings);
    free(m->ca_pem);
    free(m->cert_pem);
    apisettings_free_secret(m->key_pem);
    apisettings_free_secret(m->token);
    SSL_CTX_free(m->tls);
    *m = (struct material){0};
}

static int material_read(const struct source *source, struct material *m, struct errbuf *e)
{
    *m = (struct material){0};
    int rc = read_settings(source, &m->settings, e);
    if (rc == 0)
        rc = read_pem(m->settings.ca_pem, m->settings.ca_file, &m->ca_pem, e);
    if (rc == 0)
        rc = read_pem(m->settings.cert_pem, m->settings.cert_file, &m->cert_pem, e);
    if (rc == 0)
        rc = read_pem(m->settings.key_pem, m->settings.key_file, &m->key_pem, e);
    if (rc == 0)
        rc = read_token(&m->settings, &m->token, e);
    if (rc == -ENOMEM)
        errbuf_set(e, "out of memory");
    if (rc != 0)
        material_fini(m);
    return rc;
}

static int material_make_tls(struct material *m, struct errbuf *e)
{
    struct apitls_settings t = {.verify_name = verify_name(&m->settings),
                                .insecure = m->settings.insecure,
                                .ca_pem = m->ca_pem,
                                .cert_pem = m->cert_pem,
                                .key_pem = m->key_pem};
    return apitls_context_create(&t, &m->tls, e);
}

/* ---- life ---- */

static void source_fini(struct source *s)
{
    free(s->path);
    if (s->text)
        OPENSSL_cleanse(s->text, s->size);
    free(s->text);
    free(s->dir);
    free(s->host);
    free(s->port);
}

static void config_free(struct apiconfig *c)
{
    material_fini(&c->material);
    while (c->retired) {
        struct retired *next = c->retired->next;
        free(c->retired->text);
        free(c->retired);
        c->retired = next;
    }
    source_fini(&c->source);
    free(c->server);
    free(c->authority);
    free(c->host);
    free(c->port);
    free(c->base_path);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static uint64_t clock_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* What never changes afterwards, from what was read first. */
static int fix_address(struct apiconfig *c)
{
    const struct apisettings *s = &c->material.settings;
    const char *open = strchr(s->host, ':') ? "[" : "", *close = *open ? "]" : "";
    c->host = strdup(s->host);
    c->port = strdup(s->port);
    c->base_path = strdup(s->base_path);
    if (!c->host || !c->port || !c->base_path)
        return -ENOMEM;
    if (asprintf(&c->authority, "%s%s%s:%s", open, s->host, close, s->port) < 0) {
        c->authority = NULL;
        return -ENOMEM;
    }
    if (asprintf(&c->server, "https://%s", c->authority) < 0) {
        c->server = NULL;
        return -ENOMEM;
    }
    return 0;
}

/* Takes `source`. */
static int config_create(struct source *source, struct apiconfig **out, struct errbuf *e)
{
    struct apiconfig *c = calloc(1, sizeof(*c));
    if (!c) {
        source_fini(source);
        errbuf_set(e, "out of memory");
        return -ENOMEM;
    }
    c->source = *source;
    atomic_init(&c->references, 1);
    atomic_init(&c->token_generation, 1);
    atomic_init(&c->tls_generation, 1);
    int rc = pthread_mutex_init(&c->lock, NULL);
    assert(rc == 0);

    rc = material_read(&c->source, &c->material, e);
    if (rc == 0)
        rc = material_make_tls(&c->material, e);
    if (rc == 0) {
        rc = fix_address(c);
        if (rc != 0)
            errbuf_set(e, "out of memory");
    }
    if (rc != 0) {
        config_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

static int out_of_memory(struct source *source, struct errbuf *e)
{
    source_fini(source);
    errbuf_set(e, "out of memory");
    return -ENOMEM;
}

int apiconfig_load_kubeconfig(const char *path, struct apiconfig **config, struct errbuf *e)
{
    const char *slash = strrchr(path, '/');
    struct source source = {.kind = SOURCE_FILE, .path = strdup(path)};
    if (slash)
        source.dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!source.path || (slash && !source.dir))
        return out_of_memory(&source, e);
    return config_create(&source, config, e);
}

int apiconfig_parse_kubeconfig(const char *text, size_t size, const char *dir,
                               struct apiconfig **config, struct errbuf *e)
{
    struct source source = {.kind = SOURCE_MEMORY, .text = malloc(size + 1), .size = size};
    if (dir)
        source.dir = strdup(dir);
    if (!source.text || (dir && !source.dir))
        return out_of_memory(&source, e);
    memcpy(source.text, text, size);
    source.text[size] = '\0';
    return config_create(&source, config, e);
}

int apiconfig_load_service_account(const char *host, const char *port, const char *dir,
                                   struct apiconfig **config, struct errbuf *e)
{
    struct source source = {.kind = SOURCE_SERVICE_ACCOUNT,
                            .host = strdup(host ? host : ""),
                            .port = strdup(port ? port : ""),
                            .dir = strdup(dir)};
    if (!source.host || !source.port || !source.dir)
        return out_of_memory(&source, e);
    return config_create(&source, config, e);
}

int apiconfig_load_in_cluster(struct apiconfig **config, struct errbuf *e)
{
    return apiconfig_load_service_account(getenv("KUBERNETES_SERVICE_HOST"),
                                          getenv("KUBERNETES_SERVICE_PORT"), SERVICE_ACCOUNT_DIR,
                                          config, e);
}

void apiconfig_get(struct apiconfig *c)
{
    unsigned before = atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
    assert(before > 0);
}

void apiconfig_put(struct apiconfig *c)
{
    if (c && atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) == 1)
        config_free(c);
}

/* ---- reloading ---- */

static bool is_same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_same_tls(const struct material *a, const struct material *b)
{
    return a->settings.insecure == b->settings.insecure &&
           is_same(verify_name(&a->settings), verify_name(&b->settings)) &&
           is_same(a->ca_pem, b->ca_pem) && is_same(a->cert_pem, b->cert_pem) &&
           is_same(a->key_pem, b->key_pem);
}

/* Keeps the CA text that may be borrowed when it is about to be replaced by another; takes it out
 * of `m`. */
static int retire_ca(struct apiconfig *c)
{
    struct retired *r = malloc(sizeof(*r));
    if (!r)
        return -ENOMEM;
    *r = (struct retired){.next = c->retired, .text = c->material.ca_pem};
    c->retired = r;
    c->material.ca_pem = NULL;
    return 0;
}

/* Puts `fresh` in force; takes what it uses of it. */
static int adopt(struct apiconfig *c, struct material *fresh, struct errbuf *e)
{
    const struct apisettings *s = &fresh->settings;
    if (strcmp(s->host, c->host) != 0 || strcmp(s->port, c->port) != 0 ||
        strcmp(s->base_path, c->base_path) != 0) {
        errbuf_set(e, "it names another server than %s; that needs a restart", c->server);
        return -EINVAL;
    }
    bool tls_changed = !is_same_tls(&c->material, fresh);
    if (tls_changed) {
        int rc = material_make_tls(fresh, e);
        if (rc != 0)
            return rc;
    } else {
        SSL_CTX_up_ref(c->material.tls);
        fresh->tls = c->material.tls;
    }
    if (is_same(c->material.ca_pem, fresh->ca_pem)) {
        free(fresh->ca_pem);
        fresh->ca_pem = c->material.ca_pem;
        c->material.ca_pem = NULL;
    } else if (c->material.ca_pem && retire_ca(c) != 0) {
        errbuf_set(e, "out of memory");
        return -ENOMEM;
    }

    if (!is_same(c->material.token, fresh->token))
        atomic_fetch_add(&c->token_generation, 1);
    if (tls_changed)
        atomic_fetch_add(&c->tls_generation, 1);
    struct material old = c->material;
    c->material = *fresh;
    *fresh = old;
    return 0;
}

static int reload_locked(struct apiconfig *c, struct errbuf *e)
{
    c->read_ms = clock_ms();
    struct material fresh;
    int rc = material_read(&c->source, &fresh, e);
    if (rc != 0)
        return rc;
    rc = adopt(c, &fresh, e);
    material_fini(&fresh);
    return rc;
}

int apiconfig_reload(struct apiconfig *c, struct errbuf *e)
{
    pthread_mutex_lock(&c->lock);
    int rc = reload_locked(c, e);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

void apiconfig_refresh(struct apiconfig *c, uint64_t min_age_ms)
{
    struct errbuf e = {0};
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    if (clock_ms() - c->read_ms >= min_age_ms)
        rc = reload_locked(c, &e);
    pthread_mutex_unlock(&c->lock);
    if (rc != 0)
        log_limited(LOG_LEVEL_WARN, "api_credentials_not_reloaded", F_STR("server", c->server),
                    F_STR("error", e.text));
}

/* ---- asking ---- */

const char *apiconfig_server(const struct apiconfig *c)
{
    return c->server;
}

const char *apiconfig_ca_pem(const struct apiconfig *c)
{
    struct apiconfig *writable = (struct apiconfig *)c; /* the lock is no part of its value */
    pthread_mutex_lock(&writable->lock);
    const char *pem = c->material.ca_pem;
    pthread_mutex_unlock(&writable->lock);
    return pem;
}

const char *apiconfig_host(const struct apiconfig *c)
{
    return c->host;
}

const char *apiconfig_port(const struct apiconfig *c)
{
    return c->port;
}

const char *apiconfig_authority(const struct apiconfig *c)
{
    return c->authority;
}

const char *apiconfig_base_path(const struct apiconfig *c)
{
    return c->base_path;
}

uint64_t apiconfig_token_generation(const struct apiconfig *c)
{
    return atomic_load_explicit(&c->token_generation, memory_order_acquire);
}

uint64_t apiconfig_tls_generation(const struct apiconfig *c)
{
    return atomic_load_explicit(&c->tls_generation, memory_order_acquire);
}

int apiconfig_bearer(struct apiconfig *c, char **bearer, uint64_t *generation)
{
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    *generation = apiconfig_token_generation(c);
    *bearer = NULL;
    if (c->material.token && asprintf(bearer, "Bearer %s", c->material.token) < 0) {
        *bearer = NULL;
        rc = -ENOMEM;
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

SSL *apiconfig_ssl(struct apiconfig *c, uint64_t *generation)
{
    pthread_mutex_lock(&c->lock);
    *generation = apiconfig_tls_generation(c);
    SSL *ssl = apitls_connection_create(c->material.tls, verify_name(&c->material.settings));
    pthread_mutex_unlock(&c->lock);
    return ssl;
}
