/* fuzz-sources: hub/resource.c */
/* Any bytes as a resource: what is accepted has exactly the parts it was made of, and makes a path
 * that leads nowhere else. */
#include "hub/resource.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* The parts with slashes between them are the text. */
static void check_parts(const struct resource *r, const char *text, size_t size)
{
    char again[RESOURCE_PATH_MAX];
    int length = snprintf(again, sizeof(again), "%.*s/%.*s%s%.*s", (int)r->ns.size, r->ns.at,
                          (int)r->type.size, r->type.at, r->name.size ? "/" : "", (int)r->name.size,
                          r->name.size ? r->name.at : "");
    require((size_t)length == size && memcmp(again, text, size) == 0, "the parts are not the text");
}

static int unhex(char c)
{
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* What the API server will see as one segment. */
static void check_segment(const char *segment, size_t size, const struct text_span *expected)
{
    char plain[RESOURCE_MAX_NAME + 1];
    size_t count = 0;
    for (size_t i = 0; i < size; i++) {
        require(count < sizeof(plain), "a segment is too long");
        if (segment[i] == '%') {
            require(i + 2 < size, "a broken escape");
            plain[count++] = (char)(unhex(segment[i + 1]) << 4 | unhex(segment[i + 2]));
            i += 2;
        } else
            plain[count++] = segment[i];
    }
    require(count == expected->size && memcmp(plain, expected->at, count) == 0,
            "a segment is not the name");
}

static void check_path(const struct resource *r)
{
    static const char front[] = "/api/v1/namespaces/", middle[] = "/pods/";
    char path[RESOURCE_PATH_MAX];
    int rc = resource_api_path(RESOURCE_POD, &r->ns, &r->name, NULL, path, sizeof(path));
    require(rc > 0, "a legal resource has no path");
    require(memcmp(path, front, sizeof(front) - 1) == 0, "the path begins elsewhere");
    char *ns = path + sizeof(front) - 1, *ns_end = strchr(ns, '/');
    require(ns_end != NULL, "the path ends early");
    check_segment(ns, (size_t)(ns_end - ns), &r->ns);
    if (r->name.size == 0)
        return;
    require(memcmp(ns_end, middle, sizeof(middle) - 1) == 0, "the path goes elsewhere");
    char *name = ns_end + sizeof(middle) - 1;
    require(!strpbrk(name, "/?#\\"), "the name leaves its segment");
    check_segment(name, strlen(name), &r->name);
}

/* Whatever a name is, a path with it is refused or stays inside. */
static void check_raw_name(const char *text, size_t size)
{
    struct text_span ns = {"default", 7}, name = {text, size};
    char path[RESOURCE_PATH_MAX];
    int rc = resource_api_path(RESOURCE_SECRET, &ns, &name, NULL, path, sizeof(path));
    if (rc > 0 && size > 0) {
        struct resource r = {.ns = ns, .name = name};
        check_path(&r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct resource r;
    check_raw_name(text, size);
    if (resource_parse(text, size, &r) != 0)
        return 0;
    check_parts(&r, text, size);
    check_path(&r);
    return 0;
}
