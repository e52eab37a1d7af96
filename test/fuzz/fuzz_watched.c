/* fuzz-sources: hub/podfacts.c hub/syncrecord.c hub/want.c hub/pushqueue.c hub/slab.c */
/* fuzz-sources: hub/resource.c */
/* fuzz-sources: base/jsonscan.c base/jsonscan_text.c base/jsonscan_number.c */
/* Any bytes as an object that a watch brought: what the index takes from it lies inside it, and
 * what it takes from a sync record leads back to that record. */
#include "hub/podfacts.h"
#include "hub/syncrecord.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct object {
    const char *text;
    size_t size;
};

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void check_inside(const struct object *o, const char *at, size_t size)
{
    require(size == 0 || (at >= o->text && at + size <= o->text + o->size), "from outside");
}

static void mention(void *context, enum resource_kind kind, const struct json_span *name)
{
    require(kind == RESOURCE_CONFIGMAP || kind == RESOURCE_SECRET, "an unknown kind");
    check_inside(context, name->at, name->size);
}

static void check_pod(struct object *o)
{
    uint64_t digest, again;
    struct json_span node = podfacts_node(o->text, o->size);
    check_inside(o, node.at, node.size);
    (void)podfacts_is_terminating(o->text, o->size);
    podfacts_mentions(o->text, o->size, mention, o);
    int rc = podfacts_digest(o->text, o->size, &digest);
    require(rc == 0 || rc == -EBADMSG, "an unknown error");
    if (rc == 0)
        require(podfacts_digest(o->text, o->size, &again) == 0 && again == digest,
                "another digest of the same");
}

static void check_record(const struct object *o)
{
    struct syncrecord r;
    int rc = syncrecord_read(o->text, o->size, &r);
    require(rc == 0 || rc == -EBADMSG, "an unknown error");
    if (rc != 0)
        return;
    check_inside(o, r.node.at, r.node.size);
    check_inside(o, r.key.ns.at, r.key.ns.size);
    check_inside(o, r.key.name.at, r.key.name.size);
    require(r.node.size > 0 && r.key.name.size > 0, "a record of nobody");
    require(r.has_status || r.version == 0, "a version without a status");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size ? size : 1); /* ends with the bytes */
    require(text != NULL, "no memory");
    memcpy(text, data, size);
    struct object o = {text, size};
    check_pod(&o);
    check_record(&o);
    free(text);
    return 0;
}
