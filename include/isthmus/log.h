/* One line an event, key=value or JSON:
 *
 *     2026-11-24T10:00:00.123Z INFO edge_closed node=edge-7 reason=replaced connected_s=812
 *
 * An event name is a constant in snake_case; what varies goes into fields. Values are quoted and escaped as needed, so that
 * nothing a peer sends can forge a line. Never log bodies, tokens or keys. Any thread; a line is one write(2).
 *
 * log_limited() is for what a peer can provoke: at most a few lines a second for each call site, and the number of the
 * suppressed ones in the next line's `suppressed` field. */
#ifndef ISTHMUS_LOG_H
#define ISTHMUS_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum log_field_type { LOG_FIELD_END, LOG_FIELD_STR, LOG_FIELD_STRN, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_F64,
                      LOG_FIELD_BOOL };

struct log_field {
    enum log_field_type type;
    const char *key;
    union {
        const char *str;
        uint64_t u64;
        int64_t i64;
        double f64;
        bool boolean;
    } as;
    size_t size; /* of a STRN, in bytes */
};

#define F_STR(k, v)     {.type = LOG_FIELD_STR, .key = (k), .as.str = (v)}
#define F_STRN(k, v, n) {.type = LOG_FIELD_STRN, .key = (k), .as.str = (v), .size = (n)}
#define F_U64(k, v)     {.type = LOG_FIELD_U64, .key = (k), .as.u64 = (uint64_t)(v)}
#define F_I64(k, v)     {.type = LOG_FIELD_I64, .key = (k), .as.i64 = (int64_t)(v)}
#define F_F64(k, v)     {.type = LOG_FIELD_F64, .key = (k), .as.f64 = (v)}
#define F_BOOL(k, v)    {.type = LOG_FIELD_BOOL, .key = (k), .as.boolean = (v)}
#define F_END           {.type = LOG_FIELD_END}
/* Says nothing where there is nothing to say. */
#define F_SUPPRESSED(n) {.type = (n) ? LOG_FIELD_U64 : LOG_FIELD_END, .key = "suppressed", .as.u64 = (n)}

/* Where lines go and from which level on. Before the first call: text, info, stderr. Call before threads start. */
void log_configure(enum log_format format, enum log_level level, int fd);
int log_level_parse(const char *name, enum log_level *level);    /* 0 or -EINVAL */
int log_format_parse(const char *name, enum log_format *format); /* 0 or -EINVAL */

bool log_enabled(enum log_level level);
void log_emit(enum log_level level, const char *event, const struct log_field *fields);

struct log_site {
    _Atomic uint64_t window_s;
    _Atomic uint32_t in_window;
    _Atomic uint64_t suppressed;
};
/* Whether this site may speak now; `suppressed` then is how many lines it did not write since it last did. */
bool log_site_admit(struct log_site *site, uint64_t *suppressed);

#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__, F_END})
#define LOG_EMIT(level, event, ...)                                                                \
    do {                                                                                           \
        if (log_enabled(level))                                                                    \
            log_emit((level), (event), LOG_FIELDS(__VA_ARGS__));                                   \
    } while (0)
/* Each takes an event name and at least one field. */
#define log_debug(event, ...) LOG_EMIT(LOG_LEVEL_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...)  LOG_EMIT(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_warn(event, ...)  LOG_EMIT(LOG_LEVEL_WARN, event, __VA_ARGS__)
#define log_error(event, ...) LOG_EMIT(LOG_LEVEL_ERROR, event, __VA_ARGS__)

#define log_limited(level, event, ...)                                                             \
    do {                                                                                           \
        static struct log_site log_site_;                                                          \
        uint64_t log_suppressed_ = 0;                                                              \
        if (log_enabled(level) && log_site_admit(&log_site_, &log_suppressed_))                    \
            log_emit((level), (event),                                                             \
                     LOG_FIELDS(__VA_ARGS__, F_SUPPRESSED(log_suppressed_)));                      \
    } while (0)

#endif
