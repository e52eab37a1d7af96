/* See edge_control.h. */
#include "test/edgesim/edge_control.h"
#include "test/edgesim/edge_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#define LINE_MAX_BYTES 512
#define CLIENTS_MAX    16

struct client {
    uv_pipe_t pipe;
    uv_write_t write;
    struct client *prev, *next;
    struct edge_control *control; /* NULL once closed */
    char line[LINE_MAX_BYTES];
    size_t size;
    char *answer; /* being written */
};

struct edge_control {
    uv_pipe_t pipe;
    struct edge_fleet *fleet;
    struct client *clients;
    size_t client_count;
    char *path;
};

/* --- commands --- */

static json_t *done(const char *key, uint64_t count)
{
    json_t *o = json_object();
    json_object_set_new(o, "ok", json_true());
    if (key)
        json_object_set_new(o, key, json_integer((json_int_t)count));
    return o;
}

static json_t *refused(const char *why)
{
    json_t *o = json_object();
    json_object_set_new(o, "ok", json_false());
    json_object_set_new(o, "error", json_string(why));
    return o;
}

static json_t *drop(struct edge_fleet *f, const char *argument)
{
    char *end;
    double fraction = strtod(argument, &end);
    if (end == argument || *end || !(fraction > 0 && fraction <= 1))
        return refused("drop: a fraction above 0, up to 1");
    return done("dropped", edge_fleet_drop(f, fraction));
}

json_t *edge_control_answer(struct edge_fleet *f, const char *line)
{
    char command[16] = "", argument[64] = "", *end;
    if (sscanf(line, "%15s %63s", command, argument) < 1)
        return refused("no command");
    unsigned long number = strtoul(argument, &end, 10);
    if (strcmp(command, "drop") == 0)
        return drop(f, argument);
    if (*end || number > UINT32_MAX)
        return refused("the argument is not a number");
    if (strcmp(command, "stats") == 0)
        return edge_report_json(f, false);
    if (strcmp(command, "nodes") == 0)
        return edge_report_nodes(f, (uint32_t)number);
    if (strcmp(command, "pause") == 0)
        return done("paused", edge_fleet_pause(f, (uint32_t)number, true));
    if (strcmp(command, "resume") == 0)
        return done("resumed", edge_fleet_pause(f, (uint32_t)number, false));
    if (strcmp(command, "start") == 0) {
        edge_fleet_start_more(f, (uint32_t)number);
        return done("wanted", f->wanted);
    }
    if (strcmp(command, "reset") == 0) {
        edge_fleet_reset_stats(f);
        return done(NULL, 0);
    }
    if (strcmp(command, "stop") == 0)
        return done("stopping", f->count);
    return refused(
        "commands are stats, nodes [N], start [N], drop FRACTION, pause N, resume, reset, stop");
}

/* --- clients --- */

static void free_client(uv_handle_t *handle)
{
    struct client *c = handle->data;
    free(c->answer);
    free(c);
}

static void close_client(struct client *c)
{
    if (uv_is_closing((uv_handle_t *)&c->pipe))
        return;
    if (c->control) {
        DL_DELETE(c->control->clients, c);
        c->control->client_count--;
    }
    uv_close((uv_handle_t *)&c->pipe, free_client);
}

static void take_lines(struct client *c);

static void on_written(uv_write_t *write, int status)
{
    struct client *c = write->data;
    free(c->answer);
    c->answer = NULL;
    if (status != 0 || !c->control)
        close_client(c);
    else
        take_lines(c);
}

static void answer(struct client *c, const char *line)
{
    json_t *o = edge_control_answer(c->control->fleet, line);
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(o);
    size_t size = text ? strlen(text) : 0;
    c->answer = text ? realloc(text, size + 2) : NULL;
    if (!c->answer) {
        free(text);
        close_client(c);
        return;
    }
    c->answer[size] = '\n';
    uv_buf_t buffer = uv_buf_init(c->answer, (unsigned)size + 1);
    c->write.data = c;
    if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &buffer, 1, on_written) != 0)
        close_client(c);
}

/* One command at a time: the next is taken when its answer has left. */
static void take_lines(struct client *c)
{
    char *stop = c->answer || !c->control ? NULL : memchr(c->line, '\n', c->size);
    if (!stop) {
        if (c->size == sizeof(c->line) && !c->answer)
            close_client(c);
        return;
    }
    char line[LINE_MAX_BYTES];
    size_t size = (size_t)(stop - c->line);
    memcpy(line, c->line, size);
    line[size] = '\0';
    c->size -= size + 1;
    memmove(c->line, stop + 1, c->size);
    struct edge_fleet *f = c->control->fleet;
    answer(c, line);
    if (strncmp(line, "stop", 4) == 0)
        edge_fleet_stop(f);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct client *c = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(c->line + c->size, (unsigned)(sizeof(c->line) - c->size));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct client *c = stream->data;
    (void)buffer;
    if (n < 0) {
        close_client(c);
        return;
    }
    c->size += (size_t)n;
    take_lines(c);
}

static void on_client(uv_stream_t *server, int status)
{
    struct edge_control *control = server->data;
    struct client *c = status == 0 ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return;
    uv_pipe_init(server->loop, &c->pipe, 0);
    c->pipe.data = c;
    if (uv_accept(server, (uv_stream_t *)&c->pipe) != 0 || control->client_count == CLIENTS_MAX) {
        uv_close((uv_handle_t *)&c->pipe, free_client);
        return;
    }
    c->control = control;
    control->client_count++;
    DL_APPEND(control->clients, c);
    uv_read_start((uv_stream_t *)&c->pipe, on_room, on_read);
}

/* --- life --- */

static void free_control(uv_handle_t *handle)
{
    struct edge_control *control = handle->data;
    free(control->path);
    free(control);
}

int edge_control_open(struct edge_control **result, struct edge_fleet *f, const char *path,
                      struct errbuf *e)
{
    struct stat st;
    struct edge_control *control = calloc(1, sizeof(*control));
    if (!control || !(control->path = strdup(path))) {
        free(control);
        return -ENOMEM;
    }
    control->fleet = f;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    uv_pipe_init(&f->loop, &control->pipe, 0);
    control->pipe.data = control;
    mode_t mask = umask(0077);
    int rc = uv_pipe_bind(&control->pipe, path);
    umask(mask);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&control->pipe, CLIENTS_MAX, on_client);
    if (rc != 0) {
        errbuf_set(e, "--control %s: %s", path, uv_strerror(rc));
        uv_close((uv_handle_t *)&control->pipe, free_control);
        return rc;
    }
    *result = control;
    return 0;
}

void edge_control_close(struct edge_control *control)
{
    struct client *c, *tmp;
    if (!control)
        return;
    DL_FOREACH_SAFE (control->clients, c, tmp) {
        DL_DELETE(control->clients, c);
        c->control = NULL;
        /* One that waits for its answer to `stop` is closed when that has left. */
        if (!c->answer)
            close_client(c);
    }
    unlink(control->path);
    uv_close((uv_handle_t *)&control->pipe, free_control);
}
