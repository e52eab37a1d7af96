/* fuzz-sources: hub/envelope.c test/lib/jsonref.c */
/* fuzz-sources: base/jsonscan.c base/jsonscan_text.c base/jsonscan_number.c */
/* Any bytes as one JSON value: the scanner must agree with jansson about them, whole and step by
 * step. */
#include "test/lib/jsonref.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const path[] = {"metadata", "name", NULL};
    struct json_span value;
    const char *wrong = jsonref_check_value((const char *)data, size);
    if (wrong) {
        fprintf(stderr, "%s\n", wrong);
        abort();
    }
    /* What is found in a text, the text has whole. */
    if (jsonscan_find((const char *)data, size, path, &value) == 0 &&
        !jsonref_accepts((const char *)data, size, true))
        abort();
    return 0;
}
