/* The status page, hub/status_page.html, as the build has put it in. */
#ifndef HUB_STATUS_PAGE_H
#define HUB_STATUS_PAGE_H

#include <stddef.h>

extern const char *const status_page;
extern const size_t status_page_size;

#endif
