/* A client of the Kubernetes API: HTTP/2 by nghttp2 over OpenSSL on the caller's libuv loop. Usable on its own; it knows
 * nothing of edges.
 *
 * One `struct apiclient` belongs to one loop and one thread: every function that takes it is called there, every callback runs
 * there, and nothing blocks. `struct apiconfig` is shared by the clients of a process.
 *
 * Requests travel on channels. A channel is a few connections that nobody else uses, each with at most max_streams requests
 * at once: what is urgent never waits behind what is stalled. */
#ifndef ISTHMUS_APICLIENT_H
#define ISTHMUS_APICLIENT_H

#include "isthmus/errbuf.h"
#include "isthmus/jsonscan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* ---- configuration ---- */

/* Where the API server is, whom to trust and who we are. Refcounted; any thread. */
struct apiconfig;

/* kubeconfig(5) as client-go reads it: current-context, certificate-authority(-data), insecure-skip-tls-verify,
 * tls-server-name, client-certificate(-data), client-key(-data), token, tokenFile. Relative paths are relative to the file.
 * `exec`, `auth-provider`, username/password and proxy-url are refused with a clear text. `path` is borrowed until return. */
int apiconfig_load_kubeconfig(const char *path, struct apiconfig **config, struct errbuf *e)
    __attribute__((warn_unused_result));
/* The same from memory, for tests and the fuzzer; `dir` is what relative paths are relative to. */
int apiconfig_parse_kubeconfig(const char *text, size_t size, const char *dir, struct apiconfig **config,
                               struct errbuf *e) __attribute__((warn_unused_result));
/* KUBERNETES_SERVICE_HOST/PORT and /var/run/secrets/kubernetes.io/serviceaccount. */
int apiconfig_load_in_cluster(struct apiconfig **config, struct errbuf *e) __attribute__((warn_unused_result));
void apiconfig_get(struct apiconfig *config);
void apiconfig_put(struct apiconfig *config);
/* "https://host:port", for the log. Borrowed as long as the config lives. */
const char *apiconfig_server(const struct apiconfig *config);
/* The CA certificates as PEM (k8s/ca.crt asks for it); borrowed. NULL when there are none. */
const char *apiconfig_ca_pem(const struct apiconfig *config);
/* Re-reads what lies in files: tokens, certificates, CA. On failure the old stays in force and `e` says why. New connections
 * use the new material; requests use a new token at once. Also done by itself: token files every minute and on a 401. */
int apiconfig_reload(struct apiconfig *config, struct errbuf *e) __attribute__((warn_unused_result));

/* ---- client ---- */

#define API_MAX_CHANNELS 8

struct apiclient;

struct apiclient_channel {
    unsigned connections; /* at most so many, opened as they are needed */
    unsigned max_streams; /* requests at once on each; the server's SETTINGS may lower it */
    unsigned max_waiting; /* requests that wait for a stream; beyond: -ENOBUFS at once. 0: 1024 */
};

struct apiclient_options {
    struct apiclient_channel channels[API_MAX_CHANNELS];
    unsigned channel_count;
    uint64_t connect_timeout_ms;  /* 0: 10 s; TCP, TLS and SETTINGS together */
    uint64_t ping_idle_ms;        /* 0: 5 s without a byte received while requests run: PING */
    uint64_t ping_timeout_ms;     /* 0: 5 s without its answer: the connection is dead (with TCP_USER_TIMEOUT) */
    unsigned retry_budget_percent; /* 0: 10; retries may be at most this part of the requests (plus a small burst) */
    uint64_t retry_min_ms;        /* 0: 200 ms; the backoff of retries doubles from here, with jitter, to 10 s */
    size_t max_response_bytes;    /* 0: 64 MiB; a larger answer fails with -EMSGSIZE */
    const char *user_agent;       /* borrowed until return */
};

/* Counted by the client, read by the owner's thread. All since creation. */
struct apiclient_stats {
    uint64_t requests, responses, retries, retries_denied;
    uint64_t resent; /* sent again because the server provably had not processed them */
    uint64_t goaways, resets, connects, connect_failures, dead_peers,
        token_reloads, bytes_in, bytes_out;
    unsigned connections, streams, waiting; /* now */
};

int apiclient_create(uv_loop_t *loop, struct apiconfig *config, const struct apiclient_options *options,
                     struct apiclient **client, struct errbuf *e) __attribute__((warn_unused_result));
/* Requests in flight end with -ECANCELED before it returns, watches without a further callback; `closed` runs when the last
 * handle is gone, the memory too. */
void apiclient_close(struct apiclient *client, void (*closed)(void *context), void *context);
void apiclient_stats(const struct apiclient *client, struct apiclient_stats *stats);

/* ---- one request ---- */

struct apiresponse {
    int error;           /* 0: there is an answer of the server; else why there is none: -ETIMEDOUT (deadline), -ECONNREFUSED,
                            -ECONNRESET, -EPROTO (not HTTP/2, see apiclient_error_text), -EHOSTUNREACH, -ENOBUFS, -ECANCELED,
                            -EMSGSIZE, -EACCES (TLS verification) */
    unsigned status;     /* HTTP status */
    bool is_json;        /* content-type is application/json */
    const char *body;    /* borrowed until the callback returns; NUL-terminated beyond size */
    size_t size;
    uint64_t retry_after_ms; /* what the server asked for; 0: nothing */
    unsigned attempts;   /* how often it was sent: 0 if never */
    bool may_have_happened; /* error != 0: the server may have carried it out */
};

typedef void (*apiclient_cb)(void *context, const struct apiresponse *response);

enum apirequest_retry {
    API_RETRY_NEVER,     /* only what the server provably did not process (GOAWAY, REFUSED_STREAM) is sent again */
    API_RETRY_UNSENT,    /* also 429 and failed connects: it was not carried out */
    API_RETRY_REPEATABLE /* also 500, 502, 503, 504 and lost connections: carrying it out twice does no harm */
};

struct apirequest {
    const char *method;       /* "GET" ... */
    const char *path;         /* with query; already escaped */
    const char *content_type; /* NULL without body */
    const void *body;
    size_t body_size;
    const char *impersonate_user;  /* NULL: as ourselves */
    const char *impersonate_group; /* NULL: none */
    unsigned channel;
    uint64_t deadline_ms;       /* on the loop's clock (uv_now); required. Ends with -ETIMEDOUT by then */
    uint64_t retry_until_ms;    /* no retry is started after this; 0: deadline_ms */
    enum apirequest_retry retry;
    apiclient_cb done;          /* exactly once, never from within apiclient_request() */
    void *context;
};

/* A handle for apiclient_cancel(); dead once `done` has run. */
struct apicall;

/* Everything in `request` but the body is copied; the body is borrowed until `done`. 0, -ENOMEM, -ENOBUFS, -EINVAL (then `done`
 * does not run), -ECANCELED after apiclient_close(). `call` may be NULL. */
int apiclient_request(struct apiclient *client, const struct apirequest *request, struct apicall **call)
    __attribute__((warn_unused_result));
/* `done` will not run. The stream is reset; whether the server carried it out is unknown. */
void apiclient_cancel(struct apicall *call);

/* What to tell a person about an error of apiresponse: a constant text. Any thread. */
const char *apiclient_error_text(int error);

/* ---- list and watch ---- */

enum apiwatch_event_type { API_WATCH_ADDED, API_WATCH_MODIFIED, API_WATCH_DELETED };

struct apiwatch_object {
    const char *json; /* the object as it came; borrowed until the callback returns */
    size_t size;
    struct json_span resource_version, name, namespace_, uid; /* spans into json; size 0 where absent */
};

struct apiwatch_callbacks {
    /* A (re)list begins: what is not reported until `synced` is gone. A list that fails half-way begins anew. */
    void (*list_begin)(void *context);
    /* One object of the list (as ADDED) or one watch event. */
    void (*object)(void *context, enum apiwatch_event_type type, const struct apiwatch_object *object);
    /* The list is complete; events follow from here on. */
    void (*synced)(void *context);
    /* The state changed: `text` says what ("watching", "list: 403 Forbidden: ...", "expired (410), relisting"). */
    void (*state)(void *context, bool healthy, const char *text);
};

struct apiwatch_options {
    const char *path;        /* "/api/v1/pods"; copied */
    const char *query;       /* "labelSelector=...", already escaped, or NULL; copied */
    unsigned channel;
    unsigned page_size;      /* of a list; 0: 500 */
    size_t max_event_bytes;  /* 0: 8 MiB; of one watch event. A larger one means a new list */
    uint64_t relist_min_ms;  /* 0: 1 s; backoff doubles from here, with jitter, to 30 s */
    struct apiwatch_callbacks callbacks;
    void *context;
};

struct apiwatch;

/* Lists in pages, watches with bookmarks from the list's version, resumes from the last version seen, and lists anew
 * (jittered) after 410. Runs until apiwatch_stop(). As client-go's Reflector (tools/cache/reflector.go) behaves. */
int apiwatch_start(struct apiclient *client, const struct apiwatch_options *options, struct apiwatch **watch)
    __attribute__((warn_unused_result));
/* No callback runs afterwards. Allowed in the watch's own callbacks too; not after apiclient_close(), which stops it itself. */
void apiwatch_stop(struct apiwatch *watch);

#endif
