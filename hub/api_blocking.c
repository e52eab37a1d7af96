/* See api_blocking.h. */
#include "hub/api_blocking.h"

#include "isthmus/log.h"
#include "isthmus/version.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPT_MS 5000 /* of one request, before it is sent again */
#define PAUSE_MS   500

struct call {
    uv_loop_t *loop;
    bool is_done;
    int error;
    struct api_blocking_answer *answer;
};

int api_blocking_open(struct api_blocking *b, struct apiconfig *config, uint64_t within_ms,
                      struct errbuf *e)
{
    char agent[96];
    snprintf(agent, sizeof(agent), "isthmus/%s", isthmus_version());
    const struct apiclient_options options = {.channels = {{.connections = 1, .max_streams = 1}},
                                              .channel_count = 1,
                                              .connect_timeout_ms = ATTEMPT_MS,
                                              .user_agent = agent};
    *b = (struct api_blocking){.deadline_ns = uv_hrtime() + within_ms * 1000000};
    int rc = uv_loop_init(&b->loop);
    if (rc != 0) {
        errbuf_set(e, "event loop: %s", uv_strerror(rc));
        return rc;
    }
    rc = apiclient_create(&b->loop, config, &options, &b->client, e);
    if (rc != 0) {
        uv_run(&b->loop, UV_RUN_DEFAULT);
        uv_loop_close(&b->loop);
    }
    return rc;
}

static void on_closed(void *context)
{
    (void)context;
}

void api_blocking_close(struct api_blocking *b)
{
    apiclient_close(b->client, on_closed, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&b->loop);
    assert(rc == 0);
}

void api_blocking_answer_free(struct api_blocking_answer *answer)
{
    if (answer->body)
        OPENSSL_cleanse(answer->body, answer->size);
    free(answer->body);
    *answer = (struct api_blocking_answer){0};
}

static void on_answer(void *context, const struct apiresponse *response)
{
    struct call *call = context;
    call->is_done = true;
    call->error = response->error;
    uv_stop(call->loop); /* also when the turn has its waiting still ahead */
    if (response->error != 0)
        return;
    call->answer->body = malloc(response->size + 1);
    if (!call->answer->body) {
        call->error = -ENOMEM;
        return;
    }
    memcpy(call->answer->body, response->body, response->size);
    call->answer->body[response->size] = '\0';
    call->answer->size = response->size;
    call->answer->status = response->status;
}

/* One attempt. */
static int send_once(struct api_blocking *b, const struct apirequest *wanted,
                     struct api_blocking_answer *answer)
{
    struct call call = {.loop = &b->loop, .answer = answer};
    struct apirequest request = *wanted;
    uint64_t now_ns = uv_hrtime();
    uint64_t left_ms = now_ns < b->deadline_ns ? (b->deadline_ns - now_ns) / 1000000 + 1 : 1;
    *answer = (struct api_blocking_answer){0};
    uv_update_time(&b->loop);
    request.deadline_ms = uv_now(&b->loop) + (left_ms < ATTEMPT_MS ? left_ms : ATTEMPT_MS);
    request.done = on_answer;
    request.context = &call;
    int rc = apiclient_request(b->client, &request, NULL);
    while (rc == 0 && !call.is_done)
        uv_run(&b->loop, UV_RUN_DEFAULT);
    return rc != 0 ? rc : call.error;
}

static bool may_help_to_wait(int error, const struct api_blocking_answer *answer)
{
    return error != 0 ? error != -ENOMEM && error != -EINVAL && error != -EACCES
                      : answer->status == 429 || answer->status >= 500;
}

int api_blocking_call(struct api_blocking *b, const char *method, const char *path,
                      const char *content_type, const char *body,
                      struct api_blocking_answer *answer, struct errbuf *e)
{
    const struct apirequest request = {.method = method,
                                       .path = path,
                                       .content_type = content_type,
                                       .body = body,
                                       .body_size = body ? strlen(body) : 0,
                                       .retry = API_RETRY_UNSENT};
    for (;;) {
        int rc = send_once(b, &request, answer);
        if (!may_help_to_wait(rc, answer) || uv_hrtime() + PAUSE_MS * 1000000ULL > b->deadline_ns) {
            if (rc != 0)
                errbuf_set(e, "%s %s: %s", method, path, apiclient_error_text(rc));
            return rc;
        }
        log_limited(LOG_LEVEL_WARN, "waiting_for_api", F_STR("method", method), F_STR("path", path),
                    F_STR("error", rc != 0 ? apiclient_error_text(rc) : "try again later"),
                    F_U64("status", answer->status));
        api_blocking_answer_free(answer);
        uv_sleep(PAUSE_MS);
    }
}

void api_blocking_explain(const struct api_blocking_answer *answer, struct errbuf *e)
{
    static const char *const path[] = {"message", NULL};
    struct json_span message;
    if (jsonscan_find(answer->body, answer->size, path, &message) == 0 &&
        message.kind == JSON_KIND_STRING)
        errbuf_set(e, "%u: %.*s", answer->status, (int)(message.size < 300 ? message.size : 300),
                   message.at);
    else
        errbuf_set(e, "the API server answered %u", answer->status);
}
