/* See podfacts.h. What is not as it should be is passed over: the API server has validated it, and
 * a later Kubernetes may know more than this. */
#include "hub/podfacts.h"

#include <errno.h>
#include <string.h>

/* ---- digest ---- */

static uint64_t mix(uint64_t hash, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    return (hash ^ size) * 0x100000001b3;
}

static bool is_one_of(const struct json_span *key, const char *const *names)
{
    for (; *names; names++) {
        if (jsonscan_equals(key, *names))
            return true;
    }
    return false;
}

/* The members of an object but for those named. */
static int mix_members(const struct json_span *object, const char *const *but, uint64_t *hash)
{
    struct jsonscan s;
    struct json_span key, value;
    jsonscan_init(&s, object->at, object->size);
    s.accept_nul = true;
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1) {
        rc = jsonscan_value(&s, &value);
        if (rc != 0 || is_one_of(&key, but))
            continue;
        *hash = mix(*hash, key.at, key.size);
        *hash = mix(*hash, value.at, value.size);
    }
    return rc;
}

int podfacts_digest(const char *json, size_t size, uint64_t *digest)
{
    static const char *const unheard[] = {"resourceVersion", "generation", "managedFields", NULL};
    static const char *const volumes[] = {"volumesAttached", NULL};
    struct jsonscan s;
    struct json_span key, value, found;
    uint64_t hash = 0xcbf29ce484222325;
    jsonscan_init(&s, json, size);
    s.accept_nul = true;
    int rc = jsonscan_enter_object(&s);
    while (rc == 0 && (rc = jsonscan_next_member(&s, &key)) == 1) {
        rc = jsonscan_value(&s, &value);
        if (rc != 0)
            break;
        if (jsonscan_equals(&key, "metadata"))
            rc = mix_members(&value, unheard, &hash);
        else if (jsonscan_equals(&key, "spec"))
            hash = mix(hash, value.at, value.size);
        else if (jsonscan_equals(&key, "status") &&
                 jsonscan_find(value.at, value.size, volumes, &found) == 0)
            hash = mix(hash, found.at, found.size);
    }
    *digest = hash;
    return rc == 0 ? 0 : -EBADMSG;
}

/* ---- single values ---- */

struct json_span podfacts_node(const char *json, size_t size)
{
    static const char *const path[] = {"spec", "nodeName", NULL};
    struct json_span found;
    if (jsonscan_find(json, size, path, &found) != 0 || found.kind != JSON_KIND_STRING)
        found.size = 0;
    return found;
}

bool podfacts_is_terminating(const char *json, size_t size)
{
    static const char *const path[] = {"metadata", "deletionTimestamp", NULL};
    struct json_span found;
    return jsonscan_find(json, size, path, &found) == 0 && found.kind == JSON_KIND_STRING;
}

/* ---- mentions ---- */

/* Where a name stands: "[]" goes through an array. */
struct place {
    enum resource_kind kind;
    const char *path[7];
};

#define IN_CONTAINERS(list)                                                                        \
    {RESOURCE_CONFIGMAP, {list, "[]", "envFrom", "[]", "configMapRef", "name"}},                   \
        {RESOURCE_SECRET, {list, "[]", "envFrom", "[]", "secretRef", "name"}},                     \
        {RESOURCE_CONFIGMAP, {list, "[]", "env", "[]", "valueFrom", "configMapKeyRef", "name"}},   \
    {                                                                                              \
        RESOURCE_SECRET,                                                                           \
        {                                                                                          \
            list, "[]", "env", "[]", "valueFrom", "secretKeyRef", "name"                           \
        }                                                                                          \
    }

static const struct place places[] = {
    {RESOURCE_CONFIGMAP, {"volumes", "[]", "configMap", "name"}},
    {RESOURCE_CONFIGMAP, {"volumes", "[]", "projected", "sources", "[]", "configMap", "name"}},
    {RESOURCE_SECRET, {"volumes", "[]", "secret", "secretName"}},
    {RESOURCE_SECRET, {"volumes", "[]", "projected", "sources", "[]", "secret", "name"}},
    {RESOURCE_SECRET, {"imagePullSecrets", "[]", "name"}},
    IN_CONTAINERS("containers"),
    IN_CONTAINERS("initContainers"),
    IN_CONTAINERS("ephemeralContainers"),
};

#define PLACE_DEPTH (sizeof(((struct place *)0)->path) / sizeof(char *))

struct search {
    const struct place *place;
    podfacts_cb mention;
    void *context;
};

static void descend(const struct search *search, const struct json_span *value, size_t depth);

static void descend_array(const struct search *search, const struct json_span *array, size_t depth)
{
    struct jsonscan s;
    struct json_span element;
    jsonscan_init(&s, array->at, array->size);
    s.accept_nul = true;
    int rc = jsonscan_enter_array(&s);
    while (rc == 0 && jsonscan_next_element(&s) == 1) {
        rc = jsonscan_value(&s, &element);
        if (rc == 0)
            descend(search, &element, depth);
    }
}

static void descend(const struct search *search, const struct json_span *value, size_t depth)
{
    const char *step = depth < PLACE_DEPTH ? search->place->path[depth] : NULL;
    struct json_span found;
    if (!step) {
        if (value->kind == JSON_KIND_STRING && value->size > 0)
            search->mention(search->context, search->place->kind, value);
    } else if (strcmp(step, "[]") == 0) {
        if (value->kind == JSON_KIND_ARRAY)
            descend_array(search, value, depth + 1);
    } else if (value->kind == JSON_KIND_OBJECT) {
        const char *const path[] = {step, NULL};
        if (jsonscan_find(value->at, value->size, path, &found) == 0)
            descend(search, &found, depth + 1);
    }
}

void podfacts_mentions(const char *json, size_t size, podfacts_cb mention, void *context)
{
    static const char *const path[] = {"spec", NULL};
    struct json_span spec;
    if (jsonscan_find(json, size, path, &spec) != 0)
        return;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const struct search search = {&places[i], mention, context};
        descend(&search, &spec, 0);
    }
}
