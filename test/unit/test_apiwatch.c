/* List and watch, against a server that does what it is told. What the callbacks hear is kept as
 * one text. */
#include "test/lib/apitest.h"
#include "test/lib/heap.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct scene;
typedef void (*answer_fn)(struct scene *s, struct h2stream *stream);

struct scene {
    struct apitest t;
    const answer_fn *script; /* one for each request, NULL at the end */
    unsigned lists, watches; /* requests seen */
    char requests[8192];     /* their queries, a line each */
    struct apiwatch *watch;
    struct apiwatch_options options;
    char heard[16384];
    unsigned objects, synced, states;
    const char *stop_at; /* what is heard when the watch is to be stopped */
    bool close_instead;
};

static void hear(struct scene *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void hear(struct scene *s, const char *format, ...)
{
    size_t used = strlen(s->heard);
    va_list args;
    va_start(args, format);
    vsnprintf(s->heard + used, sizeof(s->heard) - used, format, args);
    va_end(args);
    if (!s->stop_at || !strstr(s->heard, s->stop_at))
        return;
    s->stop_at = NULL;
    if (s->close_instead) {
        apiclient_close(s->t.client, NULL, NULL);
        s->t.client = NULL;
    } else {
        apiwatch_stop(s->watch);
    }
    s->watch = NULL;
    s->synced++; /* whoever waits need not any more */
}

static void on_begin(void *context)
{
    hear(context, "begin ");
}

static void on_synced(void *context)
{
    struct scene *s = context;
    s->synced++;
    hear(s, "synced ");
}

static void on_object(void *context, enum apiwatch_event_type type, const struct apiwatch_object *o)
{
    struct scene *s = context;
    assert_int_equal(o->json[0], '{');
    assert_int_equal(o->json[o->size - 1], '}');
    s->objects++;
    hear(s, "%c%.*s/%.*s@%.*s ", "+~-"[type], (int)o -> namespace_.size, o->namespace_.at,
         (int)o->name.size, o->name.at, (int)o->resource_version.size, o->resource_version.at);
}

static void on_state(void *context, bool healthy, const char *text)
{
    struct scene *s = context;
    s->states++;
    hear(s, "[%s%s] ", healthy ? "" : "!", text);
}

/* The query without the timeout, which must be 5 to 10 minutes. */
static void note_request(struct scene *s, const char *path)
{
    const char *timeout = strstr(path, "&timeoutSeconds=");
    size_t used = strlen(s->requests), before = timeout ? (size_t)(timeout - path) : strlen(path);
    const char *rest = "";
    if (timeout) {
        unsigned seconds = (unsigned)atoi(timeout + strlen("&timeoutSeconds="));
        assert_in_range(seconds, 300, 600);
        rest = strchr(timeout + 1, '&');
    }
    snprintf(s->requests + used, sizeof(s->requests) - used, "%.*s%s\n", (int)before, path, rest);
}

static void on_request(void *context, struct h2stream *stream)
{
    struct scene *s = context;
    note_request(s, stream->path);
    if (strstr(stream->path, "watch=true"))
        s->watches++;
    else
        s->lists++;
    if (*s->script)
        (*s->script++)(s, stream);
    else
        s->t.held = stream; /* beyond the script: silence */
}

static void scene_init(struct scene *s, const answer_fn *script)
{
    *s = (struct scene){.script = script};
    apitest_init(&s->t, &(struct h2server_options){.on_request = on_request, .context = s});
    apitest_client(&s->t);
    s->options = (struct apiwatch_options){
        .path = "/api/v1/pods",
        .relist_min_ms = 5,
        .callbacks = {.list_begin = on_begin,
                      .object = on_object,
                      .synced = on_synced,
                      .state = on_state},
        .context = s,
    };
}

static void scene_start(struct scene *s)
{
    assert_int_equal(apiwatch_start(s->t.client, &s->options, &s->watch), 0);
    assert_string_equal(s->heard, ""); /* nothing from within */
}

static void scene_fini(struct scene *s)
{
    if (s->watch)
        apiwatch_stop(s->watch);
    apitest_fini(&s->t);
}

/* ---- what the server answers ---- */

#define POD(ns, name, rv)                                                                          \
    "{\"metadata\":{\"name\":\"" name "\",\"namespace\":\"" ns "\",\"uid\":\"u-" name              \
    "\",\"resourceVersion\":\"" rv "\"},\"spec\":{\"a\":[1,2,{}]}}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"
#define BOOKMARK(rv)                                                                               \
    EVENT("BOOKMARK", "{\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"" rv "\"}}")

static void list_of_two(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_json(stream, 200,
                  "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[" POD(
                      "n", "a", "3") "," POD("n", "b", "4") "]}\n");
}

static void empty_list(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_json(stream, 200, "{\"items\":null,\"metadata\":{\"resourceVersion\":\"20\"}}");
}

static void first_page(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_json(
        stream, 200,
        "{\"metadata\":{\"resourceVersion\":\"9\",\"continue\":\"a/b+c=\"},\"items\":[" POD(
            "n", "a", "3") "]}");
}

static void last_page(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_json(stream, 200,
                  "{\"metadata\":{\"resourceVersion\":\"9\"},\"items\":[" POD("n", "b", "4") "]}");
}

static void gone(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_json(
        stream, 410,
        "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too old\"}");
}

static void forbidden(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_json(
        stream, 403,
        "{\"kind\":\"Status\",\"reason\":\"Forbidden\",\"message\":\"pods is \\\"forbidden\\\"\"}");
}

static void unavailable(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_respond(stream, 503, "text/plain", NULL, "no\n", 3);
}

static void watch_and_stay(struct scene *s, struct h2stream *stream)
{
    s->t.held = stream;
    h2stream_begin(stream, 200, "application/json", -1);
}

static void send_text(struct h2stream *stream, const char *text)
{
    h2stream_send(stream, text, strlen(text));
}

static void watch_an_event(struct scene *s, struct h2stream *stream)
{
    watch_and_stay(s, stream);
    send_text(stream, EVENT("ADDED", POD("n", "c", "11")));
    h2stream_end(stream);
}

static void watch_expired(struct scene *s, struct h2stream *stream)
{
    watch_and_stay(s, stream);
    send_text(
        stream,
        EVENT("ERROR",
              "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"old\"}"));
    h2stream_end(stream);
}

static void watch_error_500(struct scene *s, struct h2stream *stream)
{
    watch_and_stay(s, stream);
    send_text(stream, BOOKMARK("15"));
    send_text(stream, EVENT("ERROR", "{\"kind\":\"Status\",\"code\":500,\"message\":\"etcd\"}"));
}

static void watch_garbage(struct scene *s, struct h2stream *stream)
{
    watch_and_stay(s, stream);
    send_text(stream, "{\"type\":\"ADDED\",\"object\":[]}\n");
}

static void watch_and_break(struct scene *s, struct h2stream *stream)
{
    watch_and_stay(s, stream);
    send_text(stream, BOOKMARK("17"));
    send_text(stream, "{\"type\":\"ADDED\",\"obj");
    s->t.held_list[0] = stream;
}

static void watch_and_end(struct scene *s, struct h2stream *stream)
{
    watch_and_stay(s, stream);
    h2stream_end(stream);
}

/* ---- tests ---- */

static void test_lists_in_pages_then_watches(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {first_page, last_page, watch_and_stay, NULL};
    scene_init(&s, script);
    s.options.query = "labelSelector=a%3Db";
    s.options.page_size = 7;
    scene_start(&s);
    apitest_wait(&s.t, &s.states, 1);
    send_text(s.t.held,
              EVENT("MODIFIED", POD("n", "a", "12")) EVENT("DELETED", POD("n", "b", "13")));
    apitest_wait(&s.t, &s.objects, 4);
    assert_string_equal(s.heard, "begin +n/a@3 +n/b@4 synced [watching] ~n/a@12 -n/b@13 ");
    assert_string_equal(
        s.requests,
        "/api/v1/pods?labelSelector=a%3Db&limit=7\n"
        "/api/v1/pods?labelSelector=a%3Db&limit=7&continue=a%2Fb%2Bc%3D\n"
        "/api/v1/pods?labelSelector=a%3Db&watch=true&allowWatchBookmarks=true&resourceVersion=9\n");
    scene_fini(&s);
}

static void test_events_byte_by_byte(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {empty_list, watch_and_stay, NULL};
    scene_init(&s, script);
    scene_start(&s);
    apitest_wait(&s.t, &s.states, 1);
    static const char text[] = EVENT("ADDED", POD("n", "a", "21"))
        BOOKMARK("22") "\n" EVENT("NEW", "{}") EVENT("MODIFIED", POD("n", "a", "23"));
    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        h2stream_send(s.t.held, text + i, 1);
        if (i % 3 == 0)
            uv_run(&s.t.loop, UV_RUN_NOWAIT);
    }
    apitest_wait(&s.t, &s.objects, 2);
    assert_string_equal(s.heard, "begin synced [watching] +n/a@21 ~n/a@23 ");
    scene_fini(&s);
}

static void test_resumes_where_it_was(void **state)
{
    (void)state;
    static struct scene s;
    /* ended in good order, broken off, refused for now, an error that passes: the version is kept
     * each time */
    static const answer_fn script[] = {list_of_two, watch_an_event,  watch_and_break,
                                       unavailable, watch_error_500, watch_and_stay,
                                       NULL};
    scene_init(&s, script);
    scene_start(&s);
    apitest_wait(&s.t, &s.watches, 2);
    h2conn_abort(s.t.held->conn);
    apitest_wait(&s.t, &s.watches, 5);
    apitest_wait(&s.t, &s.states, 6);
    assert_int_equal(s.lists, 1);
    assert_string_equal(s.heard,
                        "begin +n/a@3 +n/b@4 synced [watching] +n/c@11 "
                        "[!watch: the connection to the API server was lost] [!watch: 503] "
                        "[watching] [!watch: the server reports an error] [watching] ");
    assert_non_null(strstr(s.requests, "resourceVersion=10\n"));
    assert_non_null(strstr(s.requests, "resourceVersion=11\n"));
    assert_non_null(strstr(s.requests, "resourceVersion=15\n"));
    scene_fini(&s);
}

static void test_expired_means_list_anew(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {list_of_two, gone,           empty_list, watch_expired,
                                       empty_list,  watch_and_stay, NULL};
    scene_init(&s, script);
    scene_start(&s);
    apitest_wait(&s.t, &s.states, 4);
    assert_string_equal(
        s.heard, "begin +n/a@3 +n/b@4 synced [!expired (410), relisting] begin synced [watching] "
                 "[!expired (410), relisting] begin synced [watching] ");
    assert_int_equal(s.lists, 3);
    scene_fini(&s);
}

static void test_what_it_cannot_understand(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {list_of_two, watch_garbage,  empty_list, forbidden,
                                       empty_list,  watch_and_stay, NULL};
    scene_init(&s, script);
    scene_start(&s);
    apitest_wait(&s.t, &s.states, 4);
    assert_string_equal(
        s.heard, "begin +n/a@3 +n/b@4 synced [watching] [!watch: an event cannot be understood, "
                 "relisting] begin synced [!watch: 403 Forbidden: pods is \"forbidden\"] "
                 "begin synced [watching] ");
    scene_fini(&s);
}

static void not_a_list(struct scene *s, struct h2stream *stream)
{
    (void)s;
    h2stream_json(stream, 200,
                  "{\"items\":[" POD("n", "a", "1") "],\"metadata\":{\"resourceVersion\":\"1\"}");
}

static void test_lists_that_fail(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {forbidden,   not_a_list,  unavailable,    first_page,
                                       unavailable, list_of_two, watch_and_stay, NULL};
    scene_init(&s, script);
    scene_start(&s);
    apitest_wait(&s.t, &s.synced, 1);
    assert_string_equal(s.heard, "[!list: 403 Forbidden: pods is \"forbidden\"] begin +n/a@1 "
                                 "[!list: the answer is not a list] "
                                 "[!list: 503] begin +n/a@3 begin +n/a@3 +n/b@4 synced ");
    scene_fini(&s);
}

/* A continue token that expires means the first page again, and after two such lists no more pages.
 */
static void test_lists_that_expire(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {first_page,  gone,           first_page, gone,
                                       list_of_two, watch_and_stay, NULL};
    scene_init(&s, script);
    scene_start(&s);
    apitest_wait(&s.t, &s.synced, 1);
    assert_string_equal(
        s.heard,
        "begin +n/a@3 [!list: 410 Expired: too old] begin +n/a@3 begin +n/a@3 +n/b@4 synced ");
    assert_non_null(strstr(s.requests, "limit=0\n"));
    scene_fini(&s);
}

static void test_events_have_a_bound(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {empty_list, watch_and_stay, empty_list, watch_and_stay,
                                       NULL};
    scene_init(&s, script);
    s.options.max_event_bytes = 10000;
    scene_start(&s);
    apitest_wait(&s.t, &s.states, 1);
    char *line = calloc(1, 20001);
    memset(line, ' ', 20000);
    memcpy(line, "{\"type\":\"ADDED\",\"object\":", 24);
    send_text(s.t.held, line);
    free(line);
    apitest_wait(&s.t, &s.synced, 2);
    assert_int_equal(s.lists, 2);
    scene_fini(&s);
}

/* A server that ends each watch at once is not asked in a tight loop. */
static void test_watches_that_end_at_once(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {empty_list, watch_and_end, watch_and_end, watch_and_stay,
                                       NULL};
    scene_init(&s, script);
    scene_start(&s);
    apitest_wait(&s.t, &s.states, 5);
    assert_string_equal(
        s.heard,
        "begin synced [watching] [!watch: it ends as soon as it begins] [watching] [!watch: it "
        "ends as soon as it begins] [watching] ");
    assert_int_equal(s.lists, 1);
    scene_fini(&s);
}

/* In whatever callback: stopped means stopped, and the memory is gone afterwards (the sanitizer
 * looks). */
static void test_stop_anywhere(void **state)
{
    (void)state;
    static const answer_fn script[] = {list_of_two, watch_an_event, forbidden, NULL};
    static const char *const moments[] = {"begin ",      "+n/a@3 ",  "+n/b@4 ", "synced ",
                                          "[watching] ", "+n/c@11 ", "[!watch"};
    for (int i = 0; i < 14; i++) {
        static struct scene s;
        scene_init(&s, script);
        s.stop_at = moments[i / 2];
        s.close_instead = i % 2;
        scene_start(&s);
        apitest_wait(&s.t, &s.synced, i / 2 < 3 ? 1 : 2);
        assert_null(s.watch);
        size_t heard = strlen(s.heard);
        apitest_run_for(&s.t, 20);
        assert_int_equal(strlen(s.heard), heard);
        scene_fini(&s);
    }
}

/* As if by somebody else, at any time. */
static void test_stop_between(void **state)
{
    (void)state;
    static const answer_fn script[] = {first_page,     last_page, watch_an_event, gone, empty_list,
                                       watch_and_stay, NULL};
    for (int turns = 0; turns < 40; turns += 3) {
        static struct scene s;
        scene_init(&s, script);
        scene_start(&s);
        for (int i = 0; i < turns; i++)
            uv_run(&s.t.loop, UV_RUN_NOWAIT);
        if (turns % 2) {
            apiclient_close(s.t.client, NULL, NULL);
            s.t.client = NULL;
        } else {
            apiwatch_stop(s.watch);
        }
        s.watch = NULL;
        scene_fini(&s);
    }
}

static void test_bad_options(void **state)
{
    (void)state;
    static struct scene s;
    static const answer_fn script[] = {NULL};
    scene_init(&s, script);
    s.options.path = "pods";
    assert_int_equal(apiwatch_start(s.t.client, &s.options, &s.watch), -EINVAL);
    s.options.path = "/pods";
    s.options.channel = 1;
    assert_int_equal(apiwatch_start(s.t.client, &s.options, &s.watch), -EINVAL);
    s.watch = NULL;
    scene_fini(&s);
}

static void by_path(struct scene *s, struct h2stream *stream)
{
    if (strstr(stream->path, "watch=true"))
        watch_and_stay(s, stream);
    else if (strstr(stream->path, "continue="))
        last_page(s, stream);
    else
        first_page(s, stream);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    static const answer_fn script[] = {by_path, by_path, by_path, by_path, by_path, by_path, NULL};
    bool failed = true;
    for (unsigned n = 1; failed; n++) {
        static struct scene s;
        scene_init(&s, script);
        heap_fail_nth(n);
        int rc = apiwatch_start(s.t.client, &s.options, &s.watch);
        if (rc == 0)
            apitest_wait(&s.t, &s.watches, 1); /* one way or the other it gets there */
        failed = heap_fail_end();
        assert_int_equal(rc, rc == 0 ? 0 : -ENOMEM);
        if (rc != 0)
            s.watch = NULL;
        if (!failed)
            assert_memory_equal(s.heard, "begin +n/a@3 +n/b@4 synced ", 27);
        scene_fini(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_in_pages_then_watches),
        cmocka_unit_test(test_events_byte_by_byte),
        cmocka_unit_test(test_resumes_where_it_was),
        cmocka_unit_test(test_expired_means_list_anew),
        cmocka_unit_test(test_what_it_cannot_understand),
        cmocka_unit_test(test_lists_that_fail),
        cmocka_unit_test(test_lists_that_expire),
        cmocka_unit_test(test_events_have_a_bound),
        cmocka_unit_test(test_watches_that_end_at_once),
        cmocka_unit_test(test_stop_anywhere),
        cmocka_unit_test(test_stop_between),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
