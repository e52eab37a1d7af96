/* See backoff.h. */
#include "apiclient/backoff.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_RETRY_AFTER_S 86400
#define BUDGET_START      (20 * 100)
#define BUDGET_CAP        (100 * 100)
#define HTTP_DATE_SIZE    29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */

uint64_t apibackoff_delay_ms(unsigned attempt, uint64_t base_ms, uint64_t cap_ms, uint64_t random)
{
    uint64_t delay = base_ms;
    for (unsigned i = 0; i < attempt && delay < cap_ms; i++)
        delay = delay > cap_ms / 2 ? cap_ms : delay * 2;
    if (delay > cap_ms)
        delay = cap_ms;
    uint64_t half = delay / 2;
    uint64_t jittered = delay - half + (half ? random % (half + 1) : 0);
    return jittered ? jittered : 1;
}

static int parse_seconds(const char *text, size_t size, uint64_t *seconds)
{
    if (size == 0)
        return -EINVAL;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        if (value <= MAX_RETRY_AFTER_S)
            value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *seconds = value;
    return 0;
}

static int month_of(const char *name)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++) {
        if (memcmp(months + 3 * i, name, 3) == 0)
            return i;
    }
    return -1;
}

static int parse_date(const char *text, size_t size, int64_t *when_s)
{
    if (size != HTTP_DATE_SIZE)
        return -EINVAL;
    char copy[HTTP_DATE_SIZE + 1];
    memcpy(copy, text, HTTP_DATE_SIZE);
    copy[HTTP_DATE_SIZE] = '\0';

    char month[4];
    struct tm tm = {0};
    int used = 0;
    int fields = sscanf(copy, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &tm.tm_mday,
                        month, &tm.tm_year, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used);
    if (fields != 6 || used != HTTP_DATE_SIZE)
        return -EINVAL;
    tm.tm_mon = month_of(month);
    if (tm.tm_mon < 0 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_year < 1970 || tm.tm_hour < 0 ||
        tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
        return -EINVAL;
    tm.tm_year -= 1900;
    *when_s = (int64_t)timegm(&tm);
    return 0;
}

int apiretry_after_parse(const char *text, size_t size, int64_t now_s, uint64_t *delay_ms)
{
    while (size > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        size--;
    }
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t'))
        size--;

    uint64_t seconds;
    int64_t when_s;
    if (parse_seconds(text, size, &seconds) != 0) {
        if (parse_date(text, size, &when_s) != 0)
            return -EINVAL;
        seconds = when_s > now_s ? (uint64_t)(when_s - now_s) : 0;
    }
    if (seconds > MAX_RETRY_AFTER_S)
        seconds = MAX_RETRY_AFTER_S;
    *delay_ms = seconds * 1000;
    return 0;
}

void apiretry_budget_init(struct apiretry_budget *b, unsigned percent)
{
    b->percent = percent;
    b->hundredths = BUDGET_START;
}

void apiretry_budget_earn(struct apiretry_budget *b)
{
    b->hundredths += b->percent;
    if (b->hundredths > BUDGET_CAP)
        b->hundredths = BUDGET_CAP;
}

bool apiretry_budget_take(struct apiretry_budget *b)
{
    if (b->hundredths < 100)
        return false;
    b->hundredths -= 100;
    return true;
}

uint64_t apirandom_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
