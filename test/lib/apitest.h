/* What the tests of the API client share: a server, a client, and requests whose answers are kept.
 */
#ifndef TEST_LIB_APITEST_H
#define TEST_LIB_APITEST_H

#include "isthmus/apiclient.h"
#include "test/lib/h2server.h"

struct apitest {
    uv_loop_t loop;
    struct testcert ca, server_cert, client_cert;
    struct h2server server;
    struct apiconfig *config;
    struct apiclient *client;
    struct apiclient_options options;
    bool is_closed;
    /* What a test's on_request keeps in mind. */
    unsigned count;
    struct h2conn *last_conn; /* that was sent a GOAWAY */
    int32_t last_id;
    struct h2stream *held;
    struct h2stream *held_list[256];
    unsigned held_count;
};

/* One answer. */
struct apitest_answer {
    unsigned calls; /* of `done` */
    int error;
    unsigned status, attempts;
    bool is_json, may_have_happened;
    uint64_t retry_after_ms;
    char *body; /* for apitest_answer_fini() */
    size_t size;
};

/* `server`'s certificate and context are filled in unless set; any client_ca_pem stands for the
 * test's own CA. Times are short: PING after 100 ms, dead after 100 ms more, connect within 1 s,
 * retries from 5 ms on. */
void apitest_init(struct apitest *t, const struct h2server_options *server);
/* The client of t->options; apitest_init() makes none. */
void apitest_client(struct apitest *t);
void apitest_fini(struct apitest *t);

/* A kubeconfig for the server; `cluster` is YAML to add to the cluster ("tls-server-name: x,"),
 * `user` the YAML of the user
 * ("token: x"); the caller frees. */
char *apitest_kubeconfig(const struct apitest *t, const char *host, const char *cluster,
                         const char *user);
/* "client-certificate-data: ..., client-key-data: ..." of a certificate; the caller frees. */
char *apitest_identity(const struct testcert *cert);
/* Makes it the configuration of the next client; takes `text`. */
void apitest_config(struct apitest *t, char *text);

/* A GET with 5 s of time; what is not set stays zero. */
struct apirequest apitest_get(struct apitest *t, const char *path, struct apitest_answer *answer);
void apitest_keep(void *answer, const struct apiresponse *response); /* an apiclient_cb */
void apitest_answer_fini(struct apitest_answer *answer);

/* Runs the loop until *count is at least `wanted`; fails the test after 10 s. */
void apitest_wait(struct apitest *t, const unsigned *count, unsigned wanted);
/* Runs the loop for so long. */
void apitest_run_for(struct apitest *t, uint64_t ms);
/* Sends it and waits for its answer. */
void apitest_do(struct apitest *t, const struct apirequest *request);

#endif
