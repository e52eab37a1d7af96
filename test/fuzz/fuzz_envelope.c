/* fuzz-sources: hub/envelope.c hub/route.c hub/resource.c hub/content.c test/lib/jsonref.c */
/* fuzz-sources: base/jsonscan.c base/jsonscan_text.c base/jsonscan_number.c */
/* Any bytes as a message: the envelope must have the values jansson reads, and what is made of it -
 * route, API path, raw bytes - must keep its promises. */
#include "hub/content.h"
#include "hub/route.h"
#include "test/lib/jsonref.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NODE "edge-1"

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* Only plain characters and escapes; as many segments as it was made of. */
static void check_path(const struct route *route)
{
    const struct upstream_kind_info *kind = &upstream_kinds[route->kind];
    char path[RESOURCE_PATH_MAX];
    if (kind->object == RESOURCE_NONE)
        return;
    int size =
        resource_api_path(kind->object, &route->ns, &route->name, "status", path, sizeof(path));
    require(size > 0, "no path for a message that goes upstream");
    require((size_t)size == strlen(path), "the path's length is another");
    require(!strpbrk(path, "?#\\ ") && !strstr(path, "/.."), "the path has tricks in it");
}

static void check_route(const struct envelope *e)
{
    struct route route;
    route_classify(e, NODE, sizeof(NODE) - 1, &route);
    require((route.class == ROUTE_UPSTREAM) == (route.reason == ROUTE_REASON_NONE),
            "class and reason disagree");
    require((route.class == ROUTE_UPSTREAM) == (route.kind != UPSTREAM_KIND_COUNT),
            "class and kind disagree");
    if (route.class != ROUTE_UPSTREAM)
        return;
    if (upstream_kinds[route.kind].name_rule == NAME_OWN_NODE)
        require(text_span_equals(&route.name, NODE), "another node's resource goes upstream");
    check_path(&route);
}

static void check_content(const struct json_span *content)
{
    size_t size;
    char *to = malloc(content->size + CONTENT_DELETE_EXTRA);
    require(to != NULL, "no memory");
    if (content_patch(content, to, &size) == 0)
        require(size <= content->size && to[0] == '{', "a patch grew or is no object");
    if (content_delete_options(content, to, &size) == 0)
        require(size <= content->size + CONTENT_DELETE_EXTRA && to[0] == '{',
                "options grew or are no object");
    free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int rc;
    struct envelope e;
    const char *wrong = jsonref_check_envelope((const char *)data, size, &rc);
    require(!wrong, wrong);
    if (envelope_scan((const char *)data, size, &e) != 0)
        return 0;
    check_route(&e);
    check_content(&e.content);
    return 0;
}
