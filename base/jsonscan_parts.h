/* The parts of the JSON scanner (isthmus/jsonscan.h): what its files see of each other.
 *
 * The skip_ functions take a position and the end, and return the position behind what they
 * skipped, or NULL if it is not well-formed. They never read at or behind the end: the text need
 * not be NUL-terminated. */
#ifndef BASE_JSONSCAN_PARTS_H
#define BASE_JSONSCAN_PARTS_H

#include "isthmus/jsonscan.h"

#define NO_BYTE (-1)

static inline int peek(const char *p, const char *end)
{
    return p < end ? (unsigned char)*p : NO_BYTE;
}

static inline bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

enum string_flags { STRING_HAS_ESCAPES = 1, STRING_HAS_NUL = 2 };

/* From behind the opening quote to the closing one, which is where it returns to. Adds enum
 * string_flags to `flags`. */
const char *jsonscan_skip_string(const char *p, const char *end, unsigned *flags);

/* At a digit or a minus. */
const char *jsonscan_skip_number(const char *p, const char *end, enum json_kind *kind);

#endif
