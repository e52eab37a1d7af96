/* HTTP/2 by nghttp2, the server's side. A stream is an exchange. See conn.h for how bytes flow.
 * Loop thread only. */
#include "isthmus/log.h"
#include "test/devapi/conn.h"
#include "test/devapi/handler.h"
#include "test/devapi/server.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define MAX_STREAMS    100 /* as kube-apiserver */
#define STREAM_WINDOW  (256 * 1024)
#define SESSION_WINDOW (4 * 1024 * 1024)
#define OUTPUT_BYTES   (64 * 1024)

struct h2 {
    nghttp2_session *session;
    bool owes_goaway;
    struct dev_exchange *exchanges; /* a list by sibling_next: nghttp2 does not tell what is open
                                       when a session ends */
};

static nghttp2_session *session_of(const struct dev_exchange *x)
{
    return ((struct h2 *)x->conn->session)->session;
}

/* ---- answers ---- */

static ssize_t read_source(nghttp2_session *session, int32_t stream, uint8_t *to, size_t size,
                           uint32_t *flags, nghttp2_data_source *data, void *context)
{
    (void)session;
    (void)stream;
    (void)context;
    struct dev_exchange *x = data->ptr;
    bool is_end = false;
    size_t n = x->source->read(x->source, (char *)to, size, &is_end);
    if (is_end)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (n == 0)
        return NGHTTP2_ERR_DEFERRED;
    return (ssize_t)n;
}

static nghttp2_nv header(const char *name, const char *value)
{
    /* Names are constants, values are copied: both live until nghttp2_submit_response() returns. */
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value),
                        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

static void h2_respond(struct dev_exchange *x)
{
    char status[8], length[24], retry[16];
    nghttp2_nv headers[5];
    size_t count = 0;
    snprintf(status, sizeof(status), "%u", x->status);
    headers[count++] = header(":status", status);
    headers[count++] = header("content-type", x->reply_type);
    if (x->length >= 0) {
        snprintf(length, sizeof(length), "%lld", (long long)x->length);
        headers[count++] = header("content-length", length);
    }
    if (x->retry_after_s > 0) {
        snprintf(retry, sizeof(retry), "%u", x->retry_after_s);
        headers[count++] = header("retry-after", retry);
    }
    nghttp2_data_provider provider = {.source = {.ptr = x}, .read_callback = read_source};
    if (nghttp2_submit_response(session_of(x), x->stream, headers, count, &provider) != 0)
        dev_conn_break(x->conn);
    dev_conn_mark(x->conn);
}

static void h2_wake(struct dev_exchange *x)
{
    nghttp2_session_resume_data(session_of(x), x->stream); /* fails only if nothing is deferred */
    dev_conn_mark(x->conn);
}

static void h2_reset(struct dev_exchange *x)
{
    nghttp2_submit_rst_stream(session_of(x), NGHTTP2_FLAG_NONE, x->stream, NGHTTP2_INTERNAL_ERROR);
    dev_conn_mark(x->conn);
}

static void h2_goaway(struct dev_exchange *x)
{
    ((struct h2 *)x->conn->session)->owes_goaway = true;
    dev_conn_mark(x->conn);
}

/* As Go's server: the streams seen so far are finished; what the client has opened beyond them is
 * not processed. Only when output is made, because input that is still being read may open streams
 * that are carried out at once. */
static void put_goaway(struct h2 *h)
{
    if (!h->owes_goaway)
        return;
    h->owes_goaway = false;
    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                          NULL, 0);
}

static const struct dev_transport transport = {
    .respond = h2_respond, .wake = h2_wake, .reset = h2_reset, .goaway = h2_goaway};

/* ---- requests ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct dev_conn *c = context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct dev_exchange *x = dev_exchange_create(c->server, c, &transport);
    if (!x)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    x->stream = frame->hd.stream_id;
    nghttp2_session_set_stream_user_data(session, x->stream, x);
    DL_APPEND2(((struct h2 *)c->session)->exchanges, x, sibling_prev, sibling_next);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)flags;
    (void)context;
    struct dev_exchange *x = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!x)
        return 0;
    bool is_taken =
        dev_exchange_header(x, (const char *)name, name_size, (const char *)value, value_size);
    return is_taken ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t size, void *context)
{
    (void)flags;
    (void)context;
    struct dev_exchange *x = nghttp2_session_get_stream_user_data(session, stream);
    if (x && !dev_exchange_body(x, (const char *)bytes, size))
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_INTERNAL_ERROR);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    (void)context;
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct dev_exchange *x = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (x)
        dev_handle(x);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *context)
{
    (void)error;
    struct dev_conn *c = context;
    struct dev_exchange *x = nghttp2_session_get_stream_user_data(session, stream);
    if (!x)
        return 0;
    nghttp2_session_set_stream_user_data(session, stream, NULL);
    DL_DELETE2(((struct h2 *)c->session)->exchanges, x, sibling_prev, sibling_next);
    dev_exchange_destroy(x);
    return 0;
}

static nghttp2_session_callbacks *callbacks_get(void)
{
    static nghttp2_session_callbacks *callbacks;
    if (callbacks || nghttp2_session_callbacks_new(&callbacks) != 0)
        return callbacks;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    return callbacks;
}

/* ---- protocol ---- */

static void h2_stop(struct dev_conn *c)
{
    struct h2 *h = c->session;
    if (!h)
        return;
    nghttp2_session_del(h->session);
    while (h->exchanges) {
        struct dev_exchange *x = h->exchanges;
        DL_DELETE2(h->exchanges, x, sibling_prev, sibling_next);
        dev_exchange_destroy(x);
    }
    free(h);
    c->session = NULL;
}

static int h2_start(struct dev_conn *c)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, MAX_STREAMS},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 32 * 1024},
    };
    nghttp2_session_callbacks *callbacks = callbacks_get();
    struct h2 *h = callbacks ? calloc(1, sizeof(*h)) : NULL;
    if (!h)
        return -ENOMEM;
    if (nghttp2_session_server_new(&h->session, callbacks, c) != 0) {
        free(h);
        return -ENOMEM;
    }
    c->session = h;
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, 3) != 0 ||
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, SESSION_WINDOW) !=
            0) {
        h2_stop(c);
        return -ENOMEM;
    }
    return 0;
}

static int h2_input(struct dev_conn *c, const char *bytes, size_t size)
{
    struct h2 *h = c->session;
    ssize_t n = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes, size);
    if (n >= 0)
        return 0;
    log_limited(LOG_LEVEL_WARN, "http2_error", F_STR("why", nghttp2_strerror((int)n)));
    return -EPROTO;
}

static void h2_output(struct dev_conn *c, struct dev_text *out)
{
    struct h2 *h = c->session;
    put_goaway(h);
    while (out->size < OUTPUT_BYTES) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(h->session, &bytes);
        if (n < 0)
            c->is_broken = true;
        if (n <= 0)
            return;
        dev_text_add(out, (const char *)bytes, (size_t)n);
    }
}

static bool h2_is_done(struct dev_conn *c)
{
    struct h2 *h = c->session;
    return !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
}

const struct dev_protocol dev_http2 = {.start = h2_start,
                                       .input = h2_input,
                                       .output = h2_output,
                                       .is_done = h2_is_done,
                                       .stop = h2_stop};
