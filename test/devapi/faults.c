/* See faults.h. */
#include "test/devapi/faults.h"
#include "isthmus/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* xorshift64*: good enough to pick victims, and the same seed picks the same ones. */
static double draw(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (double)((x * 0x2545F4914F6CDD1Dull) >> 11) * 0x1p-53;
}

static enum dev_outcome outcome(const struct dev_faults *f, uint64_t *state)
{
    if (f->reset_rate > 0 && draw(state) < f->reset_rate)
        return draw(state) < 0.5 ? DEV_RESET_BEFORE : DEV_RESET_AFTER;
    if (f->throttle_rate > 0 && draw(state) < f->throttle_rate)
        return DEV_THROTTLE;
    if (f->error_rate > 0 && draw(state) < f->error_rate)
        return DEV_FAIL;
    return DEV_SERVE;
}

struct dev_fate dev_faults_decide(const struct dev_faults *f, const struct dev_kind *kind,
                                  enum dev_verb verb, uint64_t *random_state)
{
    struct dev_fate fate = {.outcome = outcome(f, random_state), .delay_ms = f->latency_ms};
    fate.goes_away = f->goaway_rate > 0 && draw(random_state) < f->goaway_rate;
    if (dev_verb_is_write(verb) && f->stall_ms[kind->index] > fate.delay_ms)
        fate.delay_ms = f->stall_ms[kind->index];
    return fate;
}

int dev_faults_set_stall(struct dev_faults *f, const char *text, struct errbuf *e)
{
    char name[64];
    const char *equals = strchr(text, '=');
    uint64_t ms;
    if (!equals || (size_t)(equals - text) >= sizeof(name)) {
        errbuf_set(e, "stall '%s': want KIND=DURATION, as in event=8s", text);
        return -EINVAL;
    }
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = '\0';
    const struct dev_kind *kind = dev_kind_by_name(name);
    if (!kind || options_parse_duration(equals + 1, &ms) != 0) {
        errbuf_set(e, "stall '%s': %s", text, kind ? "bad duration" : "unknown kind");
        return -EINVAL;
    }
    f->stall_ms[kind->index] = ms;
    return 0;
}

static int set_duration(uint64_t *to, const char *key, const json_t *value, struct errbuf *e)
{
    const char *text = json_string_value(value);
    if (json_is_integer(value) && json_integer_value(value) == 0)
        text = "0";
    if (text && options_parse_duration(text, to) == 0)
        return 0;
    errbuf_set(e, "%s: want a duration, as in \"20ms\"", key);
    return -EINVAL;
}

static int set_rate(double *to, const char *key, const json_t *value, struct errbuf *e)
{
    double rate = json_is_number(value) ? json_number_value(value) : -1;
    if (rate < 0 || rate > 1) {
        errbuf_set(e, "%s: want a number from 0 to 1", key);
        return -EINVAL;
    }
    *to = rate;
    return 0;
}

static int set_stalls(struct dev_faults *f, const json_t *stalls, struct errbuf *e)
{
    const char *name;
    json_t *value;
    if (!json_is_object(stalls)) {
        errbuf_set(e, "stall: want an object, as in {\"event\":\"8s\"}");
        return -EINVAL;
    }
    memset(f->stall_ms, 0, sizeof(f->stall_ms));
    json_object_foreach ((json_t *)(uintptr_t)stalls, name, value) {
        const struct dev_kind *kind = dev_kind_by_name(name);
        if (!kind) {
            errbuf_set(e, "stall: unknown kind '%s'", name);
            return -EINVAL;
        }
        int rc = set_duration(&f->stall_ms[kind->index], name, value, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int set_one(struct dev_faults *f, const char *key, const json_t *value, struct errbuf *e)
{
    if (strcmp(key, "latency") == 0)
        return set_duration(&f->latency_ms, key, value, e);
    if (strcmp(key, "error-rate") == 0)
        return set_rate(&f->error_rate, key, value, e);
    if (strcmp(key, "throttle-rate") == 0)
        return set_rate(&f->throttle_rate, key, value, e);
    if (strcmp(key, "reset-rate") == 0)
        return set_rate(&f->reset_rate, key, value, e);
    if (strcmp(key, "goaway-rate") == 0)
        return set_rate(&f->goaway_rate, key, value, e);
    if (strcmp(key, "stall") == 0)
        return set_stalls(f, value, e);
    if (strcmp(key, "retry-after") == 0) {
        uint64_t ms = 0;
        int rc = set_duration(&ms, key, value, e);
        f->retry_after_s = (ms + 999) / 1000;
        return rc;
    }
    errbuf_set(e, "unknown fault '%s'", key);
    return -EINVAL;
}

int dev_faults_update(struct dev_faults *f, const json_t *changes, struct errbuf *e)
{
    struct dev_faults changed = *f;
    const char *key;
    json_t *value;
    if (!json_is_object(changes)) {
        errbuf_set(e, "want a JSON object");
        return -EINVAL;
    }
    json_object_foreach ((json_t *)(uintptr_t)changes, key, value) {
        int rc = set_one(&changed, key, value, e);
        if (rc != 0)
            return rc;
    }
    *f = changed;
    return 0;
}

static json_t *duration(uint64_t ms)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRIu64 "ms", ms);
    return json_string(text);
}

json_t *dev_faults_describe(const struct dev_faults *f)
{
    json_t *stalls = json_object();
    for (size_t i = 0; stalls && i < DEV_KIND_COUNT; i++) {
        if (f->stall_ms[i] > 0)
            json_object_set_new(stalls, dev_kind((enum dev_kind_index)i)->singular,
                                duration(f->stall_ms[i]));
    }
    return json_pack("{s:o,s:f,s:f,s:f,s:f,s:o,s:o}", "latency", duration(f->latency_ms),
                     "error-rate", f->error_rate, "throttle-rate", f->throttle_rate, "reset-rate",
                     f->reset_rate, "goaway-rate", f->goaway_rate, "retry-after",
                     duration(f->retry_after_s * 1000), "stall", stalls);
}
