/* Paths that are no resources: health, version and discovery, enough for kubectl. Loop thread only.
 */
#include "isthmus/version.h"
#include "test/devapi/handler.h"
#include "test/devapi/server.h"

#include <string.h>

static void answer_json(struct dev_exchange *x, json_t *value)
{
    struct dev_text text = {0};
    if (value)
        dev_text_json(&text, value);
    else
        text.failed = true;
    json_decref(value);
    dev_answer_text(x, 200, "application/json", &text);
}

static void answer_version(struct dev_exchange *x)
{
    answer_json(x, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "major", "1", "minor", "32", "gitVersion",
                             "v1.32.0-devapi", "gitCommit", isthmus_version(), "goVersion", "none",
                             "platform", "linux"));
}

static json_t *group_versions(const char *group, const char *version)
{
    char both[128];
    snprintf(both, sizeof(both), "%s/%s", group, version);
    return json_pack("{s:s,s:[{s:s,s:s}],s:{s:s,s:s}}", "name", group, "versions", "groupVersion",
                     both, "version", version, "preferredVersion", "groupVersion", both, "version",
                     version);
}

static void answer_groups(struct dev_exchange *x)
{
    json_t *groups = json_array();
    for (int i = 0; i < DEV_KIND_COUNT; i++) {
        const struct dev_kind *k = dev_kind((enum dev_kind_index)i);
        bool is_listed = k->group[0] == '\0';
        for (int before = 0; before < i; before++)
            is_listed =
                is_listed || strcmp(dev_kind((enum dev_kind_index)before)->group, k->group) == 0;
        if (!is_listed)
            json_array_append_new(groups, group_versions(k->group, k->version));
    }
    answer_json(x, json_pack("{s:s,s:s,s:o}", "kind", "APIGroupList", "apiVersion", "v1", "groups",
                             groups));
}

static json_t *verbs(bool is_subresource)
{
    return is_subresource ? json_pack("[s,s,s]", "get", "patch", "update")
                          : json_pack("[s,s,s,s,s,s,s,s]", "create", "delete", "deletecollection",
                                      "get", "list", "patch", "update", "watch");
}

static json_t *resource(const struct dev_kind *k, const char *subresource)
{
    char name[64];
    snprintf(name, sizeof(name), "%s%s%s", k->plural, subresource[0] ? "/" : "", subresource);
    json_t *r = json_pack("{s:s,s:s,s:b,s:s,s:o}", "name", name, "singularName",
                          subresource[0] ? "" : k->singular, "namespaced", (int)k->is_namespaced,
                          "kind", k->kind, "verbs", verbs(subresource[0] != '\0'));
    if (!subresource[0] && k->short_name[0])
        json_object_set_new(r, "shortNames", json_pack("[s]", k->short_name));
    return r;
}

/* False: there is no such group and version. */
static bool answer_resources(struct dev_exchange *x, const char *group_version)
{
    json_t *list = json_array();
    for (int i = 0; i < DEV_KIND_COUNT; i++) {
        const struct dev_kind *k = dev_kind((enum dev_kind_index)i);
        if (strcmp(k->api_version, group_version) != 0)
            continue;
        json_array_append_new(list, resource(k, ""));
        if (k->has_status)
            json_array_append_new(list, resource(k, "status"));
    }
    if (json_array_size(list) == 0) {
        json_decref(list);
        return false;
    }
    answer_json(x, json_pack("{s:s,s:s,s:s,s:o}", "kind", "APIResourceList", "apiVersion", "v1",
                             "groupVersion", group_version, "resources", list));
    return true;
}

static bool is_health(const char *path)
{
    return strcmp(path, "/healthz") == 0 || strcmp(path, "/livez") == 0 ||
           strcmp(path, "/readyz") == 0;
}

bool dev_handle_discovery(struct dev_exchange *x, const char *path)
{
    if (is_health(path)) {
        dev_answer_string(x, 200, "ok");
        return true;
    }
    if (strcmp(path, "/version") == 0) {
        answer_version(x);
        return true;
    }
    if (strcmp(path, "/api") == 0) {
        answer_json(x, json_pack("{s:s,s:[s]}", "kind", "APIVersions", "versions", "v1"));
        return true;
    }
    if (strcmp(path, "/apis") == 0) {
        answer_groups(x);
        return true;
    }
    if (strncmp(path, "/api/", 5) == 0 && !strchr(path + 5, '/'))
        return answer_resources(x, path + 5);
    const char *slash = strncmp(path, "/apis/", 6) == 0 ? strchr(path + 6, '/') : NULL;
    if (slash && slash[1] && !strchr(slash + 1, '/'))
        return answer_resources(x, path + 6);
    return false;
}
