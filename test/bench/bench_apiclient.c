/* What a request costs the API client: CPU of the client's thread for each PATCH of 2 KB with an
 * answer of 2 KB, over TLS, against a server in another process.
 *
 *     bench_apiclient [REQUESTS [IN_FLIGHT]]
 *
 * Prints one line for each number of requests in flight: `apiclient_patch_us in_flight=64
 * cpu_us=12.3 per_s=34567`. */
#include "isthmus/apiclient.h"
#include "isthmus/log.h"
#include "test/lib/h2server.h"

#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BODY_BYTES 2048
#define NODES      1000

struct bench {
    uv_loop_t loop;
    struct apiclient *client;
    char body[BODY_BYTES];
    unsigned wanted, sent, done, failed;
};

static void answer(void *context, struct h2stream *stream)
{
    h2stream_respond(stream, 200, "application/json", NULL, context, BODY_BYTES);
}

/* The server's process: tells its port through the pipe and serves until it is killed. */
static void serve(int pipe_fd, const struct testcert *cert, char *body)
{
    uv_loop_t loop;
    struct h2server server;
    uv_loop_init(&loop);
    h2server_start(&server, &loop,
                   &(struct h2server_options){.cert = cert, .on_request = answer, .context = body});
    if (write(pipe_fd, &server.port, sizeof(server.port)) == sizeof(server.port))
        uv_run(&loop, UV_RUN_DEFAULT);
    _exit(1);
}

static void send_one(struct bench *b);

static void on_done(void *context, const struct apiresponse *r)
{
    struct bench *b = context;
    b->done++;
    b->failed += r->error != 0 || r->status != 200 || r->size != BODY_BYTES;
    if (b->sent < b->wanted)
        send_one(b);
}

static void send_one(struct bench *b)
{
    char path[64], user[64];
    unsigned node = b->sent++ % NODES;
    snprintf(path, sizeof(path), "/api/v1/nodes/edge-%u/status", node);
    snprintf(user, sizeof(user), "system:node:edge-%u", node);
    struct apirequest r = {.method = "PATCH",
                           .path = path,
                           .content_type = "application/strategic-merge-patch+json",
                           .body = b->body,
                           .body_size = BODY_BYTES,
                           .impersonate_user = user,
                           .impersonate_group = "system:nodes",
                           .deadline_ms = uv_now(&b->loop) + 60000,
                           .retry = API_RETRY_REPEATABLE,
                           .done = on_done,
                           .context = b};
    if (apiclient_request(b->client, &r, NULL) != 0)
        b->failed++, b->done++;
}

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void run(struct bench *b, unsigned requests, unsigned in_flight)
{
    b->sent = b->done = b->failed = 0;
    b->wanted = requests;
    double cpu = cpu_us();
    uint64_t start = uv_hrtime();
    for (unsigned i = 0; i < in_flight; i++)
        send_one(b);
    while (b->done < b->wanted)
        uv_run(&b->loop, UV_RUN_ONCE);
    double seconds = (double)(uv_hrtime() - start) / 1e9;
    printf("apiclient_patch_us in_flight=%u cpu_us=%.1f per_s=%.0f failed=%u\n", in_flight,
           (cpu_us() - cpu) / requests, requests / seconds, b->failed);
    fflush(stdout);
}

static struct apiconfig *make_config(const struct testcert *ca, int port)
{
    char text[4096], *base64 = testcert_base64(ca->cert_pem);
    snprintf(text, sizeof(text),
             "{current-context: c, contexts: [{name: c, context: {cluster: k}}], clusters: [{name: "
             "k, cluster: "
             "{server: 'https://127.0.0.1:%d', certificate-authority-data: %s}}]}",
             port, base64);
    OPENSSL_free(base64);
    struct apiconfig *config;
    struct errbuf e;
    if (apiconfig_parse_kubeconfig(text, strlen(text), NULL, &config, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return config;
}

int main(int argc, char **argv)
{
    unsigned requests = argc > 1 ? (unsigned)atoi(argv[1]) : 50000;
    static struct bench b;
    struct testcert ca, cert;
    int fds[2], port;
    log_configure(LOG_FORMAT_TEXT, LOG_LEVEL_ERROR, 2);
    testcert_make(&ca, "bench-ca", NULL);
    testcert_make(&cert, "bench", &ca);
    memset(b.body, 'x', sizeof(b.body));
    memcpy(b.body, "{\"a\":\"", 6);
    memcpy(b.body + sizeof(b.body) - 2, "\"}", 2);
    if (pipe(fds) != 0)
        return 1;
    pid_t server = fork();
    if (server == 0)
        serve(fds[1], &cert, b.body);
    if (server < 0 || read(fds[0], &port, sizeof(port)) != sizeof(port))
        return 1;

    uv_loop_init(&b.loop);
    struct apiconfig *config = make_config(&ca, port);
    struct apiclient_options options = {
        .channels = {{.connections = 2, .max_streams = 64, .max_waiting = 4096}},
        .channel_count = 1};
    struct errbuf e;
    if (apiclient_create(&b.loop, config, &options, &b.client, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    run(&b, 1000, 64); /* warm */
    if (argc > 2) {
        run(&b, requests, (unsigned)atoi(argv[2]));
    } else {
        run(&b, requests / 10, 1);
        run(&b, requests, 8);
        run(&b, requests, 64);
        run(&b, requests, 256);
    }
    apiclient_close(b.client, NULL, NULL);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    uv_loop_close(&b.loop);
    apiconfig_put(config);
    testcert_fini(&ca);
    testcert_fini(&cert);
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    return b.failed ? 1 : 0;
}
