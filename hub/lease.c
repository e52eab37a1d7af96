/* See lease.h. */
#include "hub/lease.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define US_PER_S 1000000

/* Exactly so many digits. */
static const char *digits(const char *at, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++, at++) {
        if (*at < '0' || *at > '9')
            return NULL;
        *value = *value * 10 + (*at - '0');
    }
    return at;
}

static const char *literal(const char *at, char c)
{
    return at && *at == c ? at + 1 : NULL;
}

/* Two digits behind a separator. */
static const char *part(const char *at, char before, int *value)
{
    at = literal(at, before);
    return at ? digits(at, 2, value) : NULL;
}

static const char *fraction(const char *at, int64_t *us)
{
    int64_t unit = US_PER_S / 10;
    size_t n = strspn(at, "0123456789");
    if (n == 0 || n > 9)
        return NULL;
    for (size_t i = 0; i < n; i++, unit /= 10)
        *us += (at[i] - '0') * unit;
    return at + n;
}

int lease_time_parse(const char *text, int64_t *us)
{
    struct tm t = {0};
    int year, month;
    int64_t behind = 0;
    const char *at = digits(text, 4, &year);
    at = at ? part(at, '-', &month) : NULL;
    at = part(at, '-', &t.tm_mday);
    at = part(at, 'T', &t.tm_hour);
    at = part(at, ':', &t.tm_min);
    at = part(at, ':', &t.tm_sec);
    if (at && *at == '.')
        at = fraction(at + 1, &behind);
    at = literal(at, 'Z');
    if (!at || *at || year < 1970 || month < 1 || month > 12 || t.tm_mday < 1 || t.tm_mday > 31 ||
        t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 60)
        return -EINVAL;
    t.tm_year = year - 1900;
    t.tm_mon = month - 1;
    *us = (int64_t)timegm(&t) * US_PER_S + behind;
    return 0;
}

void lease_time_format(int64_t us, char text[LEASE_TIME_BYTES])
{
    time_t seconds = (time_t)(us / US_PER_S);
    struct tm t;
    gmtime_r(&seconds, &t);
    size_t n = strftime(text, LEASE_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(text + n, LEASE_TIME_BYTES - n, ".%06dZ", (int)(us % US_PER_S));
}

int lease_advance(json_t *lease, uint64_t elapsed_ms)
{
    char text[LEASE_TIME_BYTES];
    json_t *spec = json_object_get(lease, "spec");
    const char *renewed = json_string_value(json_object_get(spec, "renewTime"));
    int64_t us;
    if (!renewed || lease_time_parse(renewed, &us) != 0)
        return -EINVAL;
    lease_time_format(us + (int64_t)elapsed_ms * 1000, text);
    return json_object_set_new(spec, "renewTime", json_string(text)) == 0 ? 0 : -ENOMEM;
}
