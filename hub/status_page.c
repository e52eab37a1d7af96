/* See status_page.h. The Makefile makes the bytes of status_page.html. */
#include "hub/status_page.h"

static const unsigned char bytes[] = {
#include "status_page.inc"
};

const char *const status_page = (const char *)bytes;
const size_t status_page_size = sizeof(bytes);
