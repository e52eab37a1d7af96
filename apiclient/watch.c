/* List and watch, as client-go's Reflector does it.
 *
 * Happy path: LISTING page after page, then WATCHING from the list's version with bookmarks; the
 * server ends a watch after five to ten minutes, and the next one goes on from the last version
 * seen. Failure modes: a lost connection, 429 and 5xx resume from that version after a backoff.
 * 410, as a status or as an ERROR event, means that the version is forgotten: list anew, after a
 * jittered wait, since everybody's watch expires at once. Any other refusal, and what cannot be
 * understood, lists anew as well. A list whose continue token has expired begins from the start; if
 * that happens again, with everything on one page, or it would never end. Threading: loop thread.
 * Callbacks may stop the watch or close the client: the memory stays until the last of our own
 * frames has returned (`depth`). */
#include "apiclient/internal.h"
#include "apiclient/watchparse.h"

#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define DEFAULT_PAGE_SIZE 500
#define DEFAULT_RELIST_MS 1000
#define MAX_RELIST_MS     30000
#define DEFAULT_MAX_EVENT ((size_t)8 * 1024 * 1024)
#define KEPT_LINE_BYTES   ((size_t)64 * 1024)
#define LIST_DEADLINE_MS  60000
#define WATCH_MIN_S       300
#define WATCH_MAX_S       600
#define WATCH_GRACE_MS    30000
#define SHORT_WATCH_MS    1000 /* after one that ends sooner we wait before the next */
#define PAGED_TRIES       2    /* lists that may expire half-way before paging is given up */

struct apiwatch {
    struct apiwatch *prev, *next;
    struct apiclient *client;
    struct apiwatch_options options; /* path and query are copies */
    char *path, *query;
    struct apicall *call;  /* the list or watch under way */
    struct apitimer timer; /* when to go on; set when there is no call */
    unsigned depth;        /* of our frames on the stack */
    bool is_stopped;

    char *version;          /* NULL: list first */
    char *continue_token;   /* NULL: the first page */
    unsigned expired_lists; /* in a row */

    char *line; /* the beginning of a line whose end has not come */
    size_t line_size, line_room;
    int64_t error_code; /* of an ERROR event; 0: none */
    bool is_bad_event;
    bool has_begun, has_events;
    uint64_t begun_ms;
    unsigned failures; /* in a row */

    bool has_state, is_healthy;
    char state[192];
};

static void go_on(struct apiwatch *w);

/* ---- memory and depth ---- */

static void watch_free(struct apiwatch *w)
{
    free(w->path);
    free(w->query);
    free(w->version);
    free(w->continue_token);
    free(w->line);
    free(w);
}

static void enter(struct apiwatch *w)
{
    w->depth++;
}

static void leave(struct apiwatch *w)
{
    if (--w->depth == 0 && w->is_stopped)
        watch_free(w);
}

void apiwatch_stop(struct apiwatch *w)
{
    if (w->is_stopped)
        return;
    w->is_stopped = true;
    if (w->call)
        apiclient_cancel(w->call);
    w->call = NULL;
    DL_DELETE(w->client->watches, w);
    apitimer_fini(&w->client->timers, &w->timer);
    if (w->depth == 0)
        watch_free(w);
}

void apiwatch_end_all(struct apiclient *client)
{
    while (client->watches)
        apiwatch_stop(client->watches);
}

/* ---- what the owner hears ---- */

static void set_state(struct apiwatch *w, bool healthy, const char *text)
{
    if (w->has_state && w->is_healthy == healthy && strcmp(w->state, text) == 0)
        return;
    w->has_state = true;
    w->is_healthy = healthy;
    snprintf(w->state, sizeof(w->state), "%s", text);
    log_limited(healthy ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "api_watch", F_STR("path", w->path),
                F_STR("state", w->state));
    if (w->options.callbacks.state)
        w->options.callbacks.state(w->options.context, healthy, w->state);
}

static void report(struct apiwatch *w, enum apiwatch_event_type type,
                   const struct apiwatch_object *object)
{
    if (w->options.callbacks.object)
        w->options.callbacks.object(w->options.context, type, object);
}

/* ---- time ---- */

static void wait_a_while(struct apiwatch *w, uint64_t at_least_ms)
{
    if (w->is_stopped)
        return;
    uint64_t delay_ms = apibackoff_delay_ms(w->failures++, w->options.relist_min_ms, MAX_RELIST_MS,
                                            apiclient_random(w->client));
    if (delay_ms < at_least_ms)
        delay_ms = at_least_ms;
    apitimer_set(&w->client->timers, &w->timer, apiclient_now(w->client) + delay_ms);
}

static void on_watch_timer(struct apitimer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct apiwatch *w = API_CONTAINER(timer, struct apiwatch, timer);
    enter(w);
    go_on(w);
    leave(w);
}

static void forget_version(struct apiwatch *w)
{
    free(w->version);
    free(w->continue_token);
    w->version = w->continue_token = NULL;
}

/* The value of a span as a new string in *to; the old one is kept when memory is short. */
static int replace(char **to, const struct json_span *span)
{
    char *text = realloc(*to, span->size + 1);
    if (!text)
        return -ENOMEM;
    *to = text;
    text[jsonscan_unescape(span, text)] = '\0';
    return 0;
}

/* ---- requests ---- */

static size_t escape(const char *text, char *to)
{
    static const char hex[] = "0123456789ABCDEF";
    char *at = to;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
            strchr("-._~", c)) {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    *at = '\0';
    return (size_t)(at - to);
}

/* PATH?QUERY&PARAMETERSescaped(VALUE); the caller frees. */
static char *make_target(const struct apiwatch *w, const char *parameters, const char *value)
{
    size_t room = strlen(w->path) + strlen(w->query) + strlen(parameters) + 3 * strlen(value) + 3;
    char *target = malloc(room);
    if (!target)
        return NULL;
    int used =
        snprintf(target, room, "%s?%s%s%s", w->path, w->query, *w->query ? "&" : "", parameters);
    escape(value, target + used);
    return target;
}

/* Takes `target`. */
static void start_request(struct apiwatch *w, char *target, uint64_t deadline_ms,
                          apicall_stream_cb on_data, apiclient_cb done)
{
    struct apirequest request = {.method = "GET",
                                 .path = target,
                                 .channel = w->options.channel,
                                 .deadline_ms = apiclient_now(w->client) + deadline_ms,
                                 .retry = API_RETRY_NEVER,
                                 .done = done,
                                 .context = w};
    int rc = target ? apicall_start(w->client, &request, on_data, &w->call) : -ENOMEM;
    free(target);
    if (rc == 0)
        return;
    w->call = NULL;
    set_state(w, false, apiclient_error_text(rc));
    wait_a_while(w, 0);
}

/* ---- failures ---- */

/* Says what went wrong, and goes on later. */
static void fail(struct apiwatch *w, const char *what, const struct apiresponse *response)
{
    char text[sizeof(w->state)], reason[160];
    if (response->error != 0) {
        snprintf(text, sizeof(text), "%s: %s", what, apiclient_error_text(response->error));
    } else {
        watchparse_status_text(response->body, response->size, reason, sizeof(reason));
        snprintf(text, sizeof(text), "%s: %u%s%s", what, response->status, reason[0] ? " " : "",
                 reason);
    }
    set_state(w, false, text);
    wait_a_while(w, response->retry_after_ms);
}

static void fail_with_text(struct apiwatch *w, const char *text)
{
    set_state(w, false, text);
    wait_a_while(w, 0);
}

/* ---- list ---- */

static bool on_item(void *context, const struct apiwatch_object *object)
{
    struct apiwatch *w = context;
    report(w, API_WATCH_ADDED, object);
    return !w->is_stopped;
}

static int keep_list_state(struct apiwatch *w, const struct watchparse_list *list)
{
    if (list->continue_token.size > 0)
        return replace(&w->continue_token, &list->continue_token);
    free(w->continue_token);
    w->continue_token = NULL;
    return replace(&w->version, &list->resource_version);
}

static void on_page(struct apiwatch *w, const struct apiresponse *response)
{
    struct watchparse_list list;
    if (!w->continue_token && w->options.callbacks.list_begin)
        w->options.callbacks.list_begin(w->options.context);
    if (w->is_stopped)
        return;
    int rc = watchparse_list(response->body, response->size, &list, on_item, w);
    if (w->is_stopped)
        return;
    if (rc == 0 && list.continue_token.size == 0 && list.resource_version.size == 0)
        rc = -EBADMSG;
    if (rc == 0)
        rc = keep_list_state(w, &list);
    if (rc != 0) {
        forget_version(w);
        fail_with_text(w, rc == -ENOMEM ? "list: out of memory" : "list: the answer is not a list");
        return;
    }
    if (w->version) {
        w->expired_lists = 0;
        if (w->options.callbacks.synced)
            w->options.callbacks.synced(w->options.context);
    }
    if (!w->is_stopped)
        go_on(w);
}

static void on_list_done(void *context, const struct apiresponse *response)
{
    struct apiwatch *w = context;
    w->call = NULL;
    enter(w);
    if (response->error == 0 && response->status == 200) {
        on_page(w, response);
    } else {
        w->expired_lists += response->status == 410;
        forget_version(w); /* of a list that fails half-way, too: pages must be of one version */
        fail(w, "list", response);
    }
    leave(w);
}

static void list_page(struct apiwatch *w)
{
    char parameters[64];
    const char *token = w->continue_token ? w->continue_token : "";
    unsigned limit = w->expired_lists < PAGED_TRIES ? w->options.page_size : 0;
    snprintf(parameters, sizeof(parameters), "limit=%u%s", limit, *token ? "&continue=" : "");
    start_request(w, make_target(w, parameters, token), LIST_DEADLINE_MS, NULL, on_list_done);
}

/* ---- watch ---- */

static int on_event(struct apiwatch *w, const char *line, size_t size)
{
    struct watchparse_event event;
    if (watchparse_event(line, size, &event) != 0) {
        w->is_bad_event = true;
        return -EBADMSG;
    }
    if (event.kind == WATCHPARSE_ERROR) {
        w->error_code = event.code ? event.code : 500;
        char text[160];
        watchparse_status_text(event.object.json, event.object.size, text, sizeof(text));
        log_limited(LOG_LEVEL_INFO, "api_watch_error", F_STR("path", w->path),
                    F_I64("code", event.code), F_STR("text", text));
        return -EBADMSG;
    }
    w->has_events = true;
    w->failures = 0;
    if (event.kind == WATCHPARSE_OBJECT)
        report(w, event.type, &event.object);
    if (w->is_stopped)
        return 1;
    if (event.kind != WATCHPARSE_UNKNOWN && event.object.resource_version.size > 0)
        return replace(&w->version, &event.object.resource_version);
    return 0;
}

static int keep_part(struct apiwatch *w, const char *data, size_t size)
{
    if (size > w->options.max_event_bytes - w->line_size) {
        w->is_bad_event = true;
        return -EMSGSIZE;
    }
    if (w->line_size + size > w->line_room) {
        size_t room = w->line_room ? w->line_room : 4096;
        while (room < w->line_size + size)
            room *= 2;
        char *line = realloc(w->line, room);
        if (!line)
            return -ENOMEM;
        w->line = line;
        w->line_room = room;
    }
    memcpy(w->line + w->line_size, data, size);
    w->line_size += size;
    return 0;
}

static void drop_line(struct apiwatch *w)
{
    w->line_size = 0;
    if (w->line_room > KEPT_LINE_BYTES) {
        free(w->line);
        w->line = NULL;
        w->line_room = 0;
    }
}

/* A whole line, the beginning of which may be in w->line. */
static int end_line(struct apiwatch *w, const char *data, size_t size)
{
    if (w->line_size == 0)
        return size > 0 ? on_event(w, data, size) : 0;
    int rc = keep_part(w, data, size);
    if (rc == 0)
        rc = on_event(w, w->line, w->line_size);
    drop_line(w);
    return rc;
}

static int split_lines(struct apiwatch *w, const char *data, size_t size)
{
    const char *end;
    int rc = 0;
    while (rc == 0 && size > 0 && (end = memchr(data, '\n', size)) != NULL) {
        size_t part = (size_t)(end - data);
        rc = end_line(w, data, part);
        data += part + 1;
        size -= part + 1;
    }
    return rc == 0 && size > 0 ? keep_part(w, data, size) : rc;
}

static int on_watch_data(void *context, const char *data, size_t size)
{
    struct apiwatch *w = context;
    enter(w);
    int rc = 0;
    if (!data) {
        w->has_begun = true;
        w->begun_ms = apiclient_now(w->client);
        set_state(w, true, "watching");
    } else {
        rc = split_lines(w, data, size);
    }
    if (w->is_stopped)
        rc = 1;
    leave(w);
    return rc;
}

static bool is_worth_resuming(const struct apiwatch *w, const struct apiresponse *response)
{
    if (w->is_bad_event)
        return false;
    int64_t code = w->error_code ? w->error_code : response->status;
    if (response->error != 0 && w->error_code == 0)
        return true;
    return code == 200 || code == 429 || code >= 500;
}

/* The server, or something in between, ended a watch in good order. */
static void on_ended(struct apiwatch *w)
{
    bool was_short = apiclient_now(w->client) - w->begun_ms < SHORT_WATCH_MS;
    if (was_short && !w->has_events)
        fail_with_text(w, "watch: it ends as soon as it begins");
    else if (was_short)
        wait_a_while(w, 0);
    else
        go_on(w);
}

static void on_watch_failed(struct apiwatch *w, const struct apiresponse *response)
{
    bool is_expired = w->error_code == 410 || (response->error == 0 && response->status == 410);
    if (!is_worth_resuming(w, response))
        forget_version(w);
    if (is_expired)
        fail_with_text(w, "expired (410), relisting");
    else if (w->is_bad_event)
        fail_with_text(w, "watch: an event cannot be understood, relisting");
    else if (w->error_code != 0)
        fail_with_text(w, "watch: the server reports an error");
    else
        fail(w, "watch", response);
}

static void on_watch_done(void *context, const struct apiresponse *response)
{
    struct apiwatch *w = context;
    w->call = NULL;
    drop_line(w);
    if (w->has_begun && apiclient_now(w->client) - w->begun_ms >= SHORT_WATCH_MS)
        w->failures = 0;
    enter(w);
    if (response->error == 0 && response->status == 200)
        on_ended(w);
    else
        on_watch_failed(w, response);
    leave(w);
}

static void watch(struct apiwatch *w)
{
    w->error_code = 0;
    w->is_bad_event = w->has_begun = w->has_events = false;
    unsigned timeout_s =
        WATCH_MIN_S + (unsigned)(apiclient_random(w->client) % (WATCH_MAX_S - WATCH_MIN_S + 1));
    char parameters[128];
    snprintf(parameters, sizeof(parameters),
             "watch=true&allowWatchBookmarks=true&timeoutSeconds=%u&resourceVersion=", timeout_s);
    start_request(w, make_target(w, parameters, w->version),
                  timeout_s * (uint64_t)1000 + WATCH_GRACE_MS, on_watch_data, on_watch_done);
}

static void go_on(struct apiwatch *w)
{
    assert(!w->call);
    if (w->version)
        watch(w);
    else
        list_page(w);
}

/* ---- life ---- */

int apiwatch_start(struct apiclient *client, const struct apiwatch_options *options,
                   struct apiwatch **out)
{
    if (client->is_closing)
        return -ECANCELED;
    if (!options->path || options->path[0] != '/' || options->channel >= client->channel_count)
        return -EINVAL;
    struct apiwatch *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->client = client;
    w->options = *options;
    w->path = strdup(options->path);
    w->query = strdup(options->query ? options->query : "");
    if (!w->path || !w->query || apitimer_init(&client->timers, &w->timer, on_watch_timer) != 0) {
        watch_free(w);
        return -ENOMEM;
    }
    w->options.path = w->path;
    w->options.query = w->query;
    if (!w->options.page_size)
        w->options.page_size = DEFAULT_PAGE_SIZE;
    if (!w->options.relist_min_ms)
        w->options.relist_min_ms = DEFAULT_RELIST_MS;
    if (!w->options.max_event_bytes)
        w->options.max_event_bytes = DEFAULT_MAX_EVENT;
    DL_APPEND(client->watches, w);
    apitimer_set(&client->timers, &w->timer, apiclient_now(client));
    *out = w;
    return 0;
}
