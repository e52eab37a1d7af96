/* Numbers of the JSON scanner: integers must fit 64 bits, reals a double. Both are told from the
 * digits alone: no conversion, no locale, no copy with a NUL behind it. */
#include "base/jsonscan_parts.h"

#include <errno.h>
#include <string.h>

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && is_digit((unsigned char)*p))
        p++;
    return p;
}

/* At least one. */
static const char *need_digits(const char *p, const char *end)
{
    const char *behind = skip_digits(p, end);
    return behind > p ? behind : NULL;
}

/* `digits` is an integer without its sign and without leading zeros. */
static bool fits_int64(const char *digits, size_t count, bool is_negative)
{
    static const char max[] = "9223372036854775807", min[] = "9223372036854775808";
    const size_t limit = sizeof(max) - 1;
    if (count != limit)
        return count < limit;
    return memcmp(digits, is_negative ? min : max, limit) <= 0;
}

/* 2^1024 - 2^970: the least value that rounds to infinity instead of DBL_MAX (a tie goes to even,
 * which is infinity). */
static const char least_overflow[] =
    "17976931348623158079372897140530341507993413271003782693617377898044496829276475"
    "09466490179775872070963302864166928879109465555478519404026306574886715058206819"
    "08902000708383676273854845817711531764475730270069855571366959622842914819860834"
    "936475292719074168444365510704342711559699508093042880177904174497792";

/* Compares digits (a '.' among them is passed over) with those of least_overflow, both with the
 * first significant digit in front and of the same magnitude. Needs no locale, no buffer and no
 * rounding, as strtod() would. */
static bool reaches_overflow(const char *p, const char *end)
{
    const char *limit = least_overflow;
    for (; p < end && *limit; p++) {
        if (*p == '.')
            continue;
        if (*p != *limit)
            return *p > *limit;
        limit++;
    }
    return *limit == '\0';
}

/* Far beyond any real exponent, far below where sums of it and a text's length could overflow. */
#define EXPONENT_CAP INT64_C(1000000000000000)

static int64_t read_exponent(const char *p, const char *end)
{
    bool is_negative = *p == '-';
    int64_t value = 0;
    for (p += *p == '-' || *p == '+'; p < end && value < EXPONENT_CAP; p++)
        value = value * 10 + (*p - '0');
    return is_negative ? -value : value;
}

/* The mantissa `at` .. `mantissa_end` is digits, perhaps with a '.', and the exponent, if any,
 * follows behind its 'e'. */
static bool fits_double(const char *at, const char *mantissa_end, const char *end)
{
    int64_t exponent = mantissa_end < end ? read_exponent(mantissa_end + 1, end) : 0;
    const char *point = memchr(at, '.', (size_t)(mantissa_end - at));
    const char *first = at;
    while (first < mantissa_end && (*first == '0' || *first == '.'))
        first++;
    if (first == mantissa_end)
        return true; /* zero, whatever its exponent */
    if (!point)
        point = mantissa_end;
    /* The power of ten of the first significant digit. */
    exponent += first < point ? point - first - 1 : point - first;
    if (exponent != 308)
        return exponent < 308;
    return !reaches_overflow(first, mantissa_end);
}

const char *jsonscan_skip_number(const char *p, const char *end, enum json_kind *kind)
{
    bool is_negative = *p == '-';
    const char *digits = p + is_negative;
    /* A digit behind a leading zero is left over, and nothing lets a digit follow a value. */
    p = peek(digits, end) == '0' ? digits + 1 : need_digits(digits, end);
    if (!p)
        return NULL;
    int next = peek(p, end);
    if (next != '.' && next != 'e' && next != 'E') {
        *kind = JSON_KIND_INTEGER;
        return fits_int64(digits, (size_t)(p - digits), is_negative) ? p : NULL;
    }
    *kind = JSON_KIND_REAL;
    if (next == '.' && !(p = need_digits(p + 1, end)))
        return NULL;
    const char *mantissa_end = p;
    next = peek(p, end);
    if (next == 'e' || next == 'E') {
        next = peek(++p, end);
        if (!(p = need_digits(p + (next == '+' || next == '-'), end)))
            return NULL;
    }
    return fits_double(digits, mantissa_end, p) ? p : NULL;
}

int jsonscan_integer(const struct json_span *s, int64_t *value)
{
    *value = 0;
    if (s->kind != JSON_KIND_INTEGER)
        return -EINVAL;
    bool is_negative = s->size > 0 && *s->at == '-';
    uint64_t magnitude = 0;
    for (size_t i = is_negative; i < s->size; i++)
        magnitude = magnitude * 10 + (uint64_t)(s->at[i] - '0');
    *value = (int64_t)(is_negative ? 0 - magnitude : magnitude);
    return 0;
}
