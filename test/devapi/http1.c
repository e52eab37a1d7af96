/* HTTP/1.1 for curl, kubectl and scripts: one exchange at a time on a connection, what is pipelined
 * behind it waits unread in a bounded buffer. Parsed by http_parser. Loop thread only. */
#include "isthmus/log.h"
#include "test/devapi/conn.h"
#include "test/devapi/handler.h"
#include "test/devapi/server.h"

#include <errno.h>
#include <http_parser.h>
#include <stdlib.h>
#include <string.h>

#define PIPELINE_BYTES (4 * 1024 * 1024)
#define CHUNK_BYTES    (16 * 1024)

struct h1 {
    http_parser parser;
    struct dev_exchange *x;  /* being read or answered */
    struct dev_text waiting; /* input behind the current request */
    struct dev_text head;    /* output that is not body: status lines, 100-continue */
    struct dev_text url, field, value;
    bool is_value, is_complete, is_streaming, is_chunked, wants_close, is_closing, expects;
};

static struct h1 *h1_of(const struct dev_conn *c)
{
    return c->session;
}

/* ---- answers ---- */

static const char *reason_of(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 413:
        return "Request Entity Too Large";
    case 415:
        return "Unsupported Media Type";
    case 422:
        return "Unprocessable Entity";
    case 429:
        return "Too Many Requests";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Status";
    }
}

static void h1_respond(struct dev_exchange *x)
{
    struct h1 *h = h1_of(x->conn);
    h->is_chunked = x->length < 0;
    dev_text_printf(&h->head, "HTTP/1.1 %u %s\r\nContent-Type: %s\r\n", x->status,
                    reason_of(x->status), x->reply_type);
    if (h->is_chunked)
        dev_text_str(&h->head, "Transfer-Encoding: chunked\r\n");
    else
        dev_text_printf(&h->head, "Content-Length: %lld\r\n", (long long)x->length);
    if (x->retry_after_s > 0)
        dev_text_printf(&h->head, "Retry-After: %u\r\n", x->retry_after_s);
    if (h->wants_close)
        dev_text_str(&h->head, "Connection: close\r\n");
    dev_text_str(&h->head, "\r\n");
    h->is_streaming = true;
    dev_conn_mark(x->conn);
}

static void h1_wake(struct dev_exchange *x)
{
    dev_conn_mark(x->conn);
}

static void h1_reset(struct dev_exchange *x)
{
    dev_conn_break(x->conn);
}

static void h1_goaway(struct dev_exchange *x)
{
    h1_of(x->conn)->wants_close = true;
}

static const struct dev_transport transport = {
    .respond = h1_respond, .wake = h1_wake, .reset = h1_reset, .goaway = h1_goaway};

/* ---- requests ---- */

static int on_begin(http_parser *parser)
{
    struct dev_conn *c = parser->data;
    struct h1 *h = h1_of(c);
    h->x = dev_exchange_create(c->server, c, &transport);
    dev_text_clear(&h->url);
    dev_text_clear(&h->field);
    dev_text_clear(&h->value);
    h->is_value = h->is_complete = h->expects = false;
    return h->x ? 0 : -1;
}

static int on_url(http_parser *parser, const char *at, size_t size)
{
    struct h1 *h = h1_of(parser->data);
    dev_text_add(&h->url, at, size);
    return h->url.size > CHUNK_BYTES ? -1 : 0;
}

static int end_header(struct h1 *h)
{
    bool is_taken = true;
    if (h->is_value && h->field.at) {
        const char *value = dev_text_cstr(&h->value);
        is_taken =
            value && dev_exchange_header(h->x, h->field.at, h->field.size, value, h->value.size);
        if (is_taken && h->field.size == 6 && strncasecmp(h->field.at, "expect", 6) == 0)
            h->expects = true;
        dev_text_clear(&h->field);
        dev_text_clear(&h->value);
    }
    h->is_value = false;
    return is_taken ? 0 : -1;
}

static int on_field(http_parser *parser, const char *at, size_t size)
{
    struct h1 *h = h1_of(parser->data);
    int rc = h->is_value ? end_header(h) : 0;
    dev_text_add(&h->field, at, size);
    return h->field.size > CHUNK_BYTES ? -1 : rc;
}

static int on_value(http_parser *parser, const char *at, size_t size)
{
    struct h1 *h = h1_of(parser->data);
    h->is_value = true;
    dev_text_add(&h->value, at, size);
    return h->value.size > 2 * CHUNK_BYTES ? -1 : 0;
}

static int on_headers(http_parser *parser)
{
    struct dev_conn *c = parser->data;
    struct h1 *h = h1_of(c);
    const char *method = http_method_str((enum http_method)parser->method);
    const char *url = dev_text_cstr(&h->url);
    if (end_header(h) != 0 || !url ||
        !dev_exchange_header(h->x, ":method", 7, method, strlen(method)) ||
        !dev_exchange_header(h->x, ":path", 5, url, h->url.size))
        return -1;
    h->wants_close = !http_should_keep_alive(parser);
    if (h->expects)
        dev_text_str(&h->head, "HTTP/1.1 100 Continue\r\n\r\n");
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t size)
{
    return dev_exchange_body(h1_of(parser->data)->x, at, size) ? 0 : -1;
}

static int on_complete(http_parser *parser)
{
    h1_of(parser->data)->is_complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {.on_message_begin = on_begin,
                                              .on_url = on_url,
                                              .on_header_field = on_field,
                                              .on_header_value = on_value,
                                              .on_headers_complete = on_headers,
                                              .on_body = on_body,
                                              .on_message_complete = on_complete};

/* Parses what waits, up to the end of one request. */
static int parse_some(struct dev_conn *c)
{
    struct h1 *h = h1_of(c);
    if (h->is_complete || h->waiting.size == 0)
        return 0;
    size_t n = http_parser_execute(&h->parser, &settings, h->waiting.at, h->waiting.size);
    enum http_errno error = HTTP_PARSER_ERRNO(&h->parser);
    if (error != HPE_OK && error != HPE_PAUSED) {
        log_limited(LOG_LEVEL_WARN, "http1_error", F_STR("why", http_errno_description(error)));
        return -EPROTO;
    }
    if (error == HPE_PAUSED)
        http_parser_pause(&h->parser, 0);
    memmove(h->waiting.at, h->waiting.at + n, h->waiting.size - n);
    h->waiting.size -= n;
    if (h->is_complete)
        dev_handle(h->x);
    return 0;
}

/* ---- protocol ---- */

static int h1_start(struct dev_conn *c)
{
    struct h1 *h = calloc(1, sizeof(*h));
    if (!h)
        return -ENOMEM;
    http_parser_init(&h->parser, HTTP_REQUEST);
    h->parser.data = c;
    c->session = h;
    return 0;
}

static int h1_input(struct dev_conn *c, const char *bytes, size_t size)
{
    struct h1 *h = h1_of(c);
    if (h->waiting.size + size > PIPELINE_BYTES)
        return -ENOBUFS;
    dev_text_add(&h->waiting, bytes, size);
    return h->waiting.failed ? -ENOMEM : parse_some(c);
}

static void finish(struct dev_conn *c)
{
    struct h1 *h = h1_of(c);
    dev_exchange_destroy(h->x);
    h->x = NULL;
    h->is_streaming = h->is_complete = false;
    if (h->wants_close)
        h->is_closing = true;
    else if (parse_some(c) != 0)
        c->is_broken = true;
}

static void add_body(struct h1 *h, struct dev_text *out)
{
    char chunk[CHUNK_BYTES];
    bool is_end = false;
    size_t n = h->x->source->read(h->x->source, chunk, sizeof(chunk), &is_end);
    if (h->is_chunked && n > 0)
        dev_text_printf(out, "%zx\r\n", n);
    dev_text_add(out, chunk, n);
    if (h->is_chunked && n > 0)
        dev_text_str(out, "\r\n");
    if (h->is_chunked && is_end)
        dev_text_str(out, "0\r\n\r\n");
    if (is_end)
        finish(h->x->conn);
}

static void h1_output(struct dev_conn *c, struct dev_text *out)
{
    struct h1 *h = h1_of(c);
    dev_text_add(out, h->head.at, h->head.size);
    dev_text_clear(&h->head);
    if (h->is_streaming)
        add_body(h, out);
}

static bool h1_is_done(struct dev_conn *c)
{
    return h1_of(c)->is_closing;
}

static void h1_stop(struct dev_conn *c)
{
    struct h1 *h = h1_of(c);
    if (!h)
        return;
    if (h->x)
        dev_exchange_destroy(h->x);
    dev_text_fini(&h->waiting);
    dev_text_fini(&h->head);
    dev_text_fini(&h->url);
    dev_text_fini(&h->field);
    dev_text_fini(&h->value);
    free(h);
    c->session = NULL;
}

const struct dev_protocol dev_http1 = {.start = h1_start,
                                       .input = h1_input,
                                       .output = h1_output,
                                       .is_done = h1_is_done,
                                       .stop = h1_stop};
