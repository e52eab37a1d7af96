/* See mentions.h. */
#include "test/devapi/mentions.h"

#include <string.h>

static void add(struct dev_text *out, char type, const json_t *name)
{
    const char *s = json_string_value(name);
    if (!s || !s[0])
        return;
    char head[2] = {type, '/'};
    dev_text_add(out, head, sizeof(head));
    dev_text_add(out, s, strlen(s) + 1);
}

static json_t *at(const json_t *object, const char *first, const char *second)
{
    return json_object_get(json_object_get(object, first), second);
}

static void add_container(struct dev_text *out, const json_t *container)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(container, "env"), i, item) {
        const json_t *from = json_object_get(item, "valueFrom");
        add(out, 's', at(from, "secretKeyRef", "name"));
        add(out, 'c', at(from, "configMapKeyRef", "name"));
    }
    json_array_foreach (json_object_get(container, "envFrom"), i, item) {
        add(out, 's', at(item, "secretRef", "name"));
        add(out, 'c', at(item, "configMapRef", "name"));
    }
}

/* Volume types whose secret is at TYPE.secretRef.name or another single place. */
static const struct {
    const char *type, *first, *second;
} volume_secrets[] = {
    {"azureFile", "secretName", NULL},   {"secret", "secretName", NULL},
    {"cephfs", "secretRef", "name"},     {"cinder", "secretRef", "name"},
    {"flexVolume", "secretRef", "name"}, {"rbd", "secretRef", "name"},
    {"scaleIO", "secretRef", "name"},    {"iscsi", "secretRef", "name"},
    {"storageos", "secretRef", "name"},  {"csi", "nodePublishSecretRef", "name"},
};

static void add_volume(struct dev_text *out, const json_t *volume)
{
    for (size_t i = 0; i < sizeof(volume_secrets) / sizeof(volume_secrets[0]); i++) {
        const json_t *found = at(volume, volume_secrets[i].type, volume_secrets[i].first);
        if (volume_secrets[i].second)
            found = json_object_get(found, volume_secrets[i].second);
        add(out, 's', found);
    }
    add(out, 'c', at(volume, "configMap", "name"));
    add(out, 'p', at(volume, "persistentVolumeClaim", "claimName"));

    size_t i;
    json_t *source;
    json_array_foreach (at(volume, "projected", "sources"), i, source) {
        add(out, 's', at(source, "secret", "name"));
        add(out, 'c', at(source, "configMap", "name"));
    }
}

void dev_mentions_add(struct dev_text *out, const json_t *spec)
{
    static const char *const lists[] = {"containers", "initContainers", "ephemeralContainers"};
    size_t i;
    json_t *item;
    for (size_t list = 0; list < 3; list++) {
        json_array_foreach (json_object_get(spec, lists[list]), i, item)
            add_container(out, item);
    }
    json_array_foreach (json_object_get(spec, "volumes"), i, item)
        add_volume(out, item);
    json_array_foreach (json_object_get(spec, "imagePullSecrets"), i, item)
        add(out, 's', json_object_get(item, "name"));
    add(out, 'a', json_object_get(spec, "serviceAccountName"));
}

bool dev_mentions_has(const char *mentions, char type, const char *name)
{
    for (const char *m = mentions; *m; m += strlen(m) + 1) {
        if (m[0] == type && strcmp(m + 2, name) == 0)
            return true;
    }
    return false;
}
