/* fuzz-sources: hub/proxyproto.c */
/* Any bytes as the beginning of a connection: the verdict must not depend on what follows the
 * header, nor on how the bytes come in, and waiting must end. */
#include "hub/proxyproto.h"

#include <errno.h>
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

static int parse_copy(const uint8_t *data, size_t size, struct proxy_header *header)
{
    uint8_t *copy = malloc(size ? size : 1); /* ends with the bytes */
    require(copy != NULL, "no memory");
    memcpy(copy, data, size);
    int rc = proxyproto_parse(copy, size, header);
    free(copy);
    return rc;
}

static void check_header(const uint8_t *data, size_t header_size, const struct proxy_header *whole)
{
    struct proxy_header alone;
    require(parse_copy(data, header_size, &alone) == (int)header_size, "the header alone is none");
    require(alone.has_source == whole->has_source && alone.is_local == whole->is_local &&
                memcmp(&alone.source, &whole->source, sizeof(alone.source)) == 0,
            "the header alone says something else");
    sa_family_t family = whole->source.ss_family;
    require(!whole->has_source || family == AF_INET || family == AF_INET6,
            "a source of no known family");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header whole, part;
    int rc = parse_copy(data, size, &whole);
    require(rc <= (int)size && rc <= PROXYPROTO_MAX, "a header longer than what there is");
    require(rc != 0 || size < PROXYPROTO_MAX, "waits for ever");
    require(rc >= 0 || rc == -EBADMSG || rc == -EMSGSIZE, "an unknown error");
    if (rc > 0)
        check_header(data, (size_t)rc, &whole);
    /* The same bytes one after another, the first of them at least. */
    for (size_t cut = 0; cut < size && cut < 300; cut++) {
        int early = parse_copy(data, cut, &part);
        require(early == 0 || early == rc, "a verdict that is not the last one");
        require(early <= 0 || cut >= (size_t)early, "a header before its end");
    }
    return 0;
}
