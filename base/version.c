/* See version.h. */
#include "isthmus/version.h"

#ifndef ISTHMUS_VERSION
#define ISTHMUS_VERSION "unknown"
#endif

const char *isthmus_version(void)
{
    return ISTHMUS_VERSION;
}
