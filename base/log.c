/* See log.h. A line is composed on the stack and written by one write(2): threads need no lock, and what does not fit is cut
 * with the end marked. stderr that cannot take a line loses it; logging must never stop the service. */
#include "isthmus/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES      4096
#define SITE_PER_SECOND 5

static struct {
    enum log_format format;
    enum log_level level;
    int fd;
} config = {LOG_FORMAT_TEXT, LOG_LEVEL_INFO, STDERR_FILENO};

static const char *const level_names[] = {"DEBUG", "INFO", "WARN", "ERROR"};

struct line {
    char text[LINE_BYTES];
    size_t used;
};

void log_configure(enum log_format format, enum log_level level, int fd)
{
    config.format = format;
    config.level = level;
    config.fd = fd;
}

int log_level_parse(const char *name, enum log_level *level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

int log_format_parse(const char *name, enum log_format *format)
{
    if (strcmp(name, "text") == 0)
        *format = LOG_FORMAT_TEXT;
    else if (strcmp(name, "json") == 0)
        *format = LOG_FORMAT_JSON;
    else
        return -EINVAL;
    return 0;
}

bool log_enabled(enum log_level level)
{
    return level >= config.level;
}

/* Leaves room for the closing of a cut line. */
static void put(struct line *l, const char *bytes, size_t n)
{
    size_t room = sizeof(l->text) - 8 - l->used;
    if (n > room)
        n = room;
    memcpy(l->text + l->used, bytes, n);
    l->used += n;
}

static void put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* JSON escaping; also good for quoted text values. Bytes that are not printable ASCII or plain UTF-8 lead/continuation
 * bytes become \u00XX, so that a terminal is never driven by what a peer sent. */
static void put_escaped(struct line *l, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        char esc[8];
        if (c == '"' || c == '\\') {
            esc[0] = '\\';
            esc[1] = (char)c;
            put(l, esc, 2);
        } else if (c < 0x20 || c >= 0x7f) {
            int used = snprintf(esc, sizeof(esc), "\\u%04x", c);
            put(l, esc, (size_t)used);
        } else {
            put(l, s + i, 1);
        }
    }
}

static bool is_plain(const char *s, size_t n)
{
    if (n == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '=')
            return false;
    }
    return true;
}

static void put_string_value(struct line *l, const char *s, size_t n)
{
    if (config.format == LOG_FORMAT_TEXT && is_plain(s, n)) {
        put(l, s, n);
        return;
    }
    put(l, "\"", 1);
    put_escaped(l, s, n);
    put(l, "\"", 1);
}

static void put_value(struct line *l, const struct log_field *f)
{
    char number[32];
    switch (f->type) {
    case LOG_FIELD_STR:
        put_string_value(l, f->as.str ? f->as.str : "", f->as.str ? strlen(f->as.str) : 0);
        return;
    case LOG_FIELD_STRN:
        put_string_value(l, f->as.str, f->size);
        return;
    case LOG_FIELD_U64:
        snprintf(number, sizeof(number), "%" PRIu64, f->as.u64);
        break;
    case LOG_FIELD_I64:
        snprintf(number, sizeof(number), "%" PRId64, f->as.i64);
        break;
    case LOG_FIELD_F64:
        snprintf(number, sizeof(number), "%.6g", f->as.f64);
        break;
    case LOG_FIELD_BOOL:
        snprintf(number, sizeof(number), "%s", f->as.boolean ? "true" : "false");
        break;
    case LOG_FIELD_END:
        assert(!"END has no value");
    }
    put_str(l, number);
}

static void put_time(struct line *l)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    char text[48];
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    int more = snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
    put(l, text, n + (size_t)more);
}

static void put_head(struct line *l, enum log_level level, const char *event)
{
    if (config.format == LOG_FORMAT_JSON) {
        put_str(l, "{\"ts\":\"");
        put_time(l);
        put_str(l, "\",\"level\":\"");
        put_str(l, level_names[level]);
        put_str(l, "\",\"event\":\"");
        put_str(l, event);
        put_str(l, "\"");
        return;
    }
    put_time(l);
    put_str(l, " ");
    put_str(l, level_names[level]);
    put_str(l, " ");
    put_str(l, event);
}

static void put_field(struct line *l, const struct log_field *f)
{
    if (config.format == LOG_FORMAT_JSON) {
        put_str(l, ",\"");
        put_str(l, f->key);
        put_str(l, "\":");
    } else {
        put_str(l, " ");
        put_str(l, f->key);
        put_str(l, "=");
    }
    put_value(l, f);
}

void log_emit(enum log_level level, const char *event, const struct log_field *fields)
{
    struct line l = {.used = 0};
    put_head(&l, level, event);
    for (const struct log_field *f = fields; f->type != LOG_FIELD_END; f++) {
        /* A field is written whole or not at all, so that a JSON line stays JSON. */
        size_t before = l.used;
        put_field(&l, f);
        if (l.used >= sizeof(l.text) - 8) {
            l.used = before;
            break;
        }
    }
    if (config.format == LOG_FORMAT_JSON)
        l.text[l.used++] = '}';
    l.text[l.used++] = '\n';
    ssize_t written = write(config.fd, l.text, l.used);
    (void)written;
}

bool log_site_admit(struct log_site *site, uint64_t *suppressed)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    uint64_t second = (uint64_t)now.tv_sec + 1;

    if (atomic_exchange_explicit(&site->window_s, second, memory_order_relaxed) != second)
        atomic_store_explicit(&site->in_window, 0, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&site->in_window, 1, memory_order_relaxed) >= SITE_PER_SECOND) {
        atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
        return false;
    }
    *suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    return true;
}
