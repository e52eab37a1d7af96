/* See errbuf.h. */
#include "isthmus/errbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void errbuf_set(struct errbuf *e, const char *format, ...)
{
    if (!e)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
}

void errbuf_wrap(struct errbuf *e, const char *format, ...)
{
    if (!e)
        return;
    char inner[sizeof(e->text)];
    memcpy(inner, e->text, sizeof(inner));

    va_list args;
    va_start(args, format);
    int used = vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    if (used < 0 || (size_t)used >= sizeof(e->text) - 3)
        return;
    memcpy(e->text + used, ": ", 2);
    size_t room = sizeof(e->text) - (size_t)used - 3;
    size_t size = strnlen(inner, room);
    memcpy(e->text + used + 2, inner, size);
    e->text[(size_t)used + 2 + size] = '\0';
}
