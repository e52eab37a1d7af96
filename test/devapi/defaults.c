/* See defaults.h. */
#include "test/devapi/defaults.h"
#include "test/devapi/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOKEN_PATH "/var/run/secrets/kubernetes.io/serviceaccount"

/* Takes `value`. */
static int set_missing(json_t *object, const char *key, json_t *value)
{
    const json_t *have = json_object_get(object, key);
    if (have && !json_is_null(have)) {
        json_decref(value);
        return 0;
    }
    return json_object_set_new(object, key, value);
}

static json_t *object_at(json_t *root, const char *key)
{
    if (!json_is_object(json_object_get(root, key)))
        json_object_set_new(root, key, json_object());
    return json_object_get(root, key);
}

/* ---- pods ---- */

static int default_container(json_t *container)
{
    const char *image = json_string_value(json_object_get(container, "image"));
    const char *tag = image ? strrchr(image, ':') : NULL;
    bool is_latest = !tag || strchr(tag, '/') || strcmp(tag, ":latest") == 0;
    return set_missing(container, "resources", json_object()) |
           set_missing(container, "terminationMessagePath", json_string("/dev/termination-log")) |
           set_missing(container, "terminationMessagePolicy", json_string("File")) |
           set_missing(container, "imagePullPolicy",
                       json_string(is_latest ? "Always" : "IfNotPresent"));
}

static int default_volume(json_t *volume)
{
    static const char *const types[] = {"configMap", "secret", "projected", "downwardAPI"};
    int rc = 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        json_t *source = json_object_get(volume, types[i]);
        if (json_is_object(source))
            rc |= set_missing(source, "defaultMode", json_integer(420));
    }
    return rc;
}

/* The token volume that the ServiceAccount admission plug-in adds. */
static int add_token_volume(json_t *spec)
{
    char name[32], uuid[37];
    size_t i;
    json_t *container, *volume;
    const char *const lists[] = {"containers", "initContainers"};
    if (json_is_false(json_object_get(spec, "automountServiceAccountToken")))
        return 0;
    if (set_missing(spec, "volumes", json_array()) != 0)
        return -ENOMEM;
    json_t *volumes = json_object_get(spec, "volumes");
    json_array_foreach (volumes, i, volume) {
        const char *has = json_string_value(json_object_get(volume, "name"));
        if (has && strncmp(has, "kube-api-access-", 16) == 0)
            return 0;
    }
    dev_uuid(uuid);
    snprintf(name, sizeof(name), "kube-api-access-%.5s", uuid);
    volume = json_pack(
        "{s:s,s:{s:[{s:{s:i,s:s}},{s:{s:s,s:[{s:s,s:s}]}},{s:{s:[{s:s,s:{s:s,s:s}}]}}],s:i}}",
        "name", name, "projected", "sources", "serviceAccountToken", "expirationSeconds", 3607,
        "path", "token", "configMap", "name", "kube-root-ca.crt", "items", "key", "ca.crt", "path",
        "ca.crt", "downwardAPI", "items", "path", "namespace", "fieldRef", "apiVersion", "v1",
        "fieldPath", "metadata.namespace", "defaultMode", 420);
    int rc = json_array_append_new(volumes, volume);
    for (size_t list = 0; list < 2; list++) {
        json_array_foreach (json_object_get(spec, lists[list]), i, container) {
            rc |= set_missing(container, "volumeMounts", json_array());
            rc |= json_array_append_new(
                json_object_get(container, "volumeMounts"),
                json_pack("{s:s,s:b,s:s}", "name", name, "readOnly", 1, "mountPath", TOKEN_PATH));
        }
    }
    return rc;
}

static int default_pod(json_t *root)
{
    json_t *metadata = json_object_get(root, "metadata"), *spec = object_at(root, "spec");
    bool is_mirror =
        json_object_get(json_object_get(metadata, "annotations"), "kubernetes.io/config.mirror");
    size_t i;
    json_t *item;
    int rc = set_missing(spec, "restartPolicy", json_string("Always")) |
             set_missing(spec, "terminationGracePeriodSeconds", json_integer(30)) |
             set_missing(spec, "dnsPolicy", json_string("ClusterFirst")) |
             set_missing(spec, "securityContext", json_object()) |
             set_missing(spec, "schedulerName", json_string("default-scheduler")) |
             set_missing(spec, "enableServiceLinks", json_true()) |
             set_missing(spec, "preemptionPolicy", json_string("PreemptLowerPriority")) |
             set_missing(spec, "priority", json_integer(0));
    if (!is_mirror) {
        rc |= set_missing(spec, "serviceAccountName", json_string("default"));
        rc |= json_object_set(spec, "serviceAccount", json_object_get(spec, "serviceAccountName"));
        rc |= add_token_volume(spec);
    }
    json_array_foreach (json_object_get(spec, "containers"), i, item)
        rc |= default_container(item);
    json_array_foreach (json_object_get(spec, "initContainers"), i, item)
        rc |= default_container(item);
    json_array_foreach (json_object_get(spec, "volumes"), i, item)
        rc |= default_volume(item);
    rc |= json_object_set_new(metadata, "generation", json_integer(1));
    rc |= json_object_set_new(root, "status",
                              json_pack("{s:s,s:s}", "phase", "Pending", "qosClass", "BestEffort"));
    return rc;
}

/* ---- the others ---- */

static int default_namespace(json_t *root)
{
    json_t *metadata = json_object_get(root, "metadata");
    int rc = set_missing(metadata, "labels", json_object());
    rc |= json_object_set(json_object_get(metadata, "labels"), "kubernetes.io/metadata.name",
                          json_object_get(metadata, "name"));
    rc |= json_object_set_new(root, "spec", json_pack("{s:[s]}", "finalizers", "kubernetes"));
    return rc | json_object_set_new(root, "status", json_pack("{s:s}", "phase", "Active"));
}

/* stringData is written only: it ends up in data. */
static int default_secret(json_t *root)
{
    const char *key;
    json_t *value;
    int rc = set_missing(root, "type", json_string("Opaque"));
    json_t *plain = json_object_get(root, "stringData");
    if (json_is_object(plain))
        rc |= set_missing(root, "data", json_object());
    json_object_foreach (plain, key, value) {
        struct dev_text encoded = {0};
        dev_text_base64(&encoded, (const unsigned char *)json_string_value(value),
                        json_string_length(value));
        const char *text = dev_text_cstr(&encoded);
        rc |= json_object_set_new(json_object_get(root, "data"), key,
                                  text ? json_string(text) : NULL);
        dev_text_fini(&encoded);
    }
    (void)json_object_del(root, "stringData");
    return rc;
}

int dev_defaults_apply(const struct dev_kind *kind, json_t *root, const char *user)
{
    int rc = 0;
    if (kind->is_custom) {
        (void)json_object_del(root, "status");
        rc = json_object_set_new(json_object_get(root, "metadata"), "generation", json_integer(1));
    }
    switch (kind->index) {
    case DEV_POD:
        rc = default_pod(root);
        break;
    case DEV_NODE:
        rc = set_missing(root, "spec", json_object()) | set_missing(root, "status", json_object());
        break;
    case DEV_NAMESPACE:
        rc = default_namespace(root);
        break;
    case DEV_SECRET:
        rc = default_secret(root);
        break;
    case DEV_CSR:
        rc = json_object_set_new(object_at(root, "spec"), "username", json_string(user)) |
             json_object_set_new(root, "status", json_object());
        break;
    case DEV_PERSISTENTVOLUME:
    case DEV_PERSISTENTVOLUMECLAIM:
        rc = json_object_set_new(root, "status", json_pack("{s:s}", "phase", "Pending"));
        break;
    default:
        break;
    }
    return rc == 0 ? 0 : -ENOMEM;
}
