/* See control.h. A request is its connection: it lives until its answer has been written, its peer
 * has left, or its time is over, and until whoever has to answer it has done so.
 *
 * Bounds: CONNECTIONS_MAX at once, a line of LINE_BYTES, EXCHANGE_MS from the connection to its
 * end. */
#include "hub/control.h"

#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#define CONNECTIONS_MAX 16
#define LINE_BYTES      512
#define EXCHANGE_MS     10000

struct control {
    uv_loop_t *loop;
    uv_pipe_t listener;
    struct control_handler handler;
    struct control_request *requests;
    unsigned count;
    bool is_closing;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

struct control_request {
    struct control *control;
    struct control_request *prev, *next;
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_write_t write;
    unsigned handles; /* not closed yet */
    bool is_closing, is_asked, is_answered;
    char *text; /* the answer */
    size_t size;
    char line[LINE_BYTES];
};

/* ---- the end of a request ---- */

static void free_when_done(struct control_request *r)
{
    if (r->handles > 0 || (r->is_asked && !r->is_answered))
        return;
    DL_DELETE(r->control->requests, r);
    r->control->count--;
    free(r->text);
    free(r);
}

static void on_closed(uv_handle_t *handle)
{
    struct control_request *r = handle->data;
    r->handles--;
    free_when_done(r);
}

static void end(struct control_request *r)
{
    if (r->is_closing)
        return;
    r->is_closing = true;
    uv_close((uv_handle_t *)&r->pipe, on_closed);
    uv_close((uv_handle_t *)&r->timer, on_closed);
}

static void on_late(uv_timer_t *timer)
{
    end(timer->data);
}

/* ---- answering ---- */

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    end(write->data);
}

void control_answer(struct control_request *r, json_t *json)
{
    assert(r->is_asked && !r->is_answered);
    r->is_answered = true;
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(json);
    r->text = text ? text : strdup("{\"error\":\"no memory\"}");
    if (r->is_closing || !r->text) {
        end(r);
        free_when_done(r);
        return;
    }
    uv_buf_t buffers[] = {uv_buf_init(r->text, (unsigned)strlen(r->text)),
                          uv_buf_init((char[]){"\n"}, 1)};
    r->write.data = r;
    if (uv_write(&r->write, (uv_stream_t *)&r->pipe, buffers, 2, on_written) != 0)
        end(r);
}

void control_error(struct control_request *r, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    control_answer(r, json_pack("{s:s}", "error", text));
}

/* ---- reading ---- */

static bool is_printable(const char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~')
            return false;
    }
    return true;
}

static void ask(struct control_request *r)
{
    const struct control_handler *h = &r->control->handler;
    uv_read_stop((uv_stream_t *)&r->pipe);
    r->is_asked = true;
    r->line[strcspn(r->line, "\r\n")] = '\0';
    if (!is_printable(r->line)) {
        control_error(r, "not a request");
        return;
    }
    char *argument = r->line + strcspn(r->line, " ");
    if (*argument)
        *argument++ = '\0';
    h->request(h->context, r, r->line, argument);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct control_request *r = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(r->line + r->size, (unsigned)(sizeof(r->line) - 1 - r->size));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct control_request *r = stream->data;
    (void)buffer;
    if (n < 0) { /* a line too long shows as no room left */
        end(r);
        return;
    }
    if (memchr(r->line + r->size, '\0', (size_t)n)) {
        end(r);
        return;
    }
    r->size += (size_t)n;
    if (memchr(r->line, '\n', r->size))
        ask(r);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct control *c = listener->data;
    struct control_request *r = status == 0 ? calloc(1, sizeof(*r)) : NULL;
    if (!r)
        return;
    r->control = c;
    DL_APPEND(c->requests, r);
    c->count++;
    int rc = uv_pipe_init(c->loop, &r->pipe, 0);
    assert(rc == 0);
    rc = uv_timer_init(c->loop, &r->timer);
    assert(rc == 0);
    r->handles = 2;
    r->pipe.data = r->timer.data = r;
    if (uv_accept(listener, (uv_stream_t *)&r->pipe) != 0 || c->count > CONNECTIONS_MAX ||
        uv_timer_start(&r->timer, on_late, EXCHANGE_MS, 0) != 0 ||
        uv_read_start((uv_stream_t *)&r->pipe, on_room, on_read) != 0)
        end(r);
}

/* ---- life ---- */

/* True when somebody answers there. */
static bool is_in_use(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
    if (fd >= 0)
        close(fd);
    return is;
}

static void make_folder(const char *path)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return;
    *slash = '\0';
    mkdir(folder, 0700); /* if that fails, bind() says why */
}

/* Bound under a umask that keeps everybody else out from the first moment; other threads do not run
 * yet. */
static int bind_socket(struct control *c, struct errbuf *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat there;
    memcpy(address.sun_path, c->path, sizeof(c->path));
    if (is_in_use(&address)) {
        errbuf_set(e, "--control-socket %s: another process listens there", c->path);
        return -EADDRINUSE;
    }
    make_folder(c->path);
    if (lstat(c->path, &there) == 0 && !S_ISSOCK(there.st_mode)) {
        errbuf_set(e, "--control-socket %s: there is something else than a socket", c->path);
        return -EEXIST;
    }
    unlink(c->path);
    mode_t before = umask(0177);
    int rc = uv_pipe_bind(&c->listener, c->path);
    umask(before);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&c->listener, CONNECTIONS_MAX, on_connection);
    if (rc != 0)
        errbuf_set(e, "--control-socket %s: %s", c->path, uv_strerror(rc));
    return rc;
}

int control_create(uv_loop_t *loop, const char *path, const struct control_handler *handler,
                   struct control **control, struct errbuf *e)
{
    struct control *c = calloc(1, sizeof(*c));
    if (!c) {
        errbuf_set(e, "no memory");
        return -ENOMEM;
    }
    c->loop = loop;
    c->handler = *handler;
    if (strlen(path) >= sizeof(c->path)) {
        errbuf_set(
            e,
            "--control-socket: longer than the %zu characters that a Unix socket's path may have",
            sizeof(c->path) - 1);
        free(c);
        return -ENAMETOOLONG;
    }
    strncpy(c->path, path, sizeof(c->path) - 1);
    int rc = uv_pipe_init(loop, &c->listener, 0);
    assert(rc == 0);
    c->listener.data = c;
    rc = bind_socket(c, e);
    if (rc == 0) {
        *control = c;
        return 0;
    }
    c->path[0] = '\0';
    control_close(c);
    uv_run(loop, UV_RUN_NOWAIT);
    control_destroy(c);
    return rc;
}

void control_close(struct control *c)
{
    struct control_request *r, *next;
    if (!c || c->is_closing)
        return;
    c->is_closing = true;
    if (c->path[0])
        unlink(c->path);
    uv_close((uv_handle_t *)&c->listener, NULL);
    DL_FOREACH_SAFE (c->requests, r, next)
        end(r);
}

void control_destroy(struct control *c)
{
    assert(!c || !c->requests);
    free(c);
}

/* ---- the other side ---- */

static int connect_to(const char *path, struct errbuf *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = EXCHANGE_MS / 1000};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errbuf_set(e, "%s: too long for a Unix socket", path);
        return -1;
    }
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    errbuf_set(e, "%s: %s (is a hub running with this --control-socket?)", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static json_t *read_answer(int fd, struct errbuf *e)
{
    FILE *stream = fdopen(fd, "r");
    json_t *json = stream ? json_loadf(stream, 0, NULL) : NULL;
    if (stream)
        fclose(stream);
    else
        close(fd);
    const char *error = json_string_value(json_object_get(json, "error"));
    if (!json)
        errbuf_set(e, "the hub gave no answer");
    if (!error)
        return json;
    errbuf_set(e, "%s", error);
    json_decref(json);
    return NULL;
}

json_t *control_ask(const char *path, const char *line, struct errbuf *e)
{
    char text[LINE_BYTES];
    int size = snprintf(text, sizeof(text), "%s\n", line);
    if (size < 0 || (size_t)size >= sizeof(text)) {
        errbuf_set(e, "the request is too long");
        return NULL;
    }
    int fd = connect_to(path, e);
    if (fd < 0)
        return NULL;
    if (send(fd, text, (size_t)size, MSG_NOSIGNAL) != size) {
        errbuf_set(e, "%s: %s", path, strerror(errno));
        close(fd);
        return NULL;
    }
    return read_answer(fd, e);
}
