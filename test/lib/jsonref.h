/* What the scanner and the envelope should have said, by jansson: the oracle of the differential
 * tests and of the fuzzers. */
#ifndef TEST_JSONREF_H
#define TEST_JSONREF_H

#include "hub/envelope.h"

#include <stdbool.h>
#include <stddef.h>

/* Whether a text is one JSON value (with white space around it) that the scanner must accept:
 * jansson accepts it, it has no raw NUL byte and is not too deep. */
bool jsonref_accepts(const char *text, size_t size, bool accept_nul);

/* Scans with every function of jsonscan.h and compares with jansson. NULL, or what differs. */
const char *jsonref_check_value(const char *text, size_t size);

/* Scans an envelope and compares with what jansson reads from it. NULL, or what differs. `rc` gets
 * the scan's result. */
const char *jsonref_check_envelope(const char *text, size_t size, int *rc);

#endif
