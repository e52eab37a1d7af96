/* See table.h. */
#include "test/devapi/table.h"
#include "test/devapi/leases.h"
#include "test/devapi/server.h"

#include <string.h>
#include <time.h>

static const char node_columns[] =
    "[{\"name\":\"Name\",\"type\":\"string\",\"format\":\"name\",\"description\":\"\",\"priority\":"
    "0},"
    "{\"name\":\"Status\",\"type\":\"string\",\"format\":\"\",\"description\":\"\",\"priority\":0},"
    "{\"name\":\"Roles\",\"type\":\"string\",\"format\":\"\",\"description\":\"\",\"priority\":0},"
    "{\"name\":\"Lease\",\"type\":\"string\",\"format\":\"\",\"description\":\"\",\"priority\":0},"
    "{\"name\":\"Age\",\"type\":\"string\",\"format\":\"\",\"description\":\"\",\"priority\":0}]";
static const char pod_columns[] =
    "[{\"name\":\"Name\",\"type\":\"string\",\"format\":\"name\",\"description\":\"\",\"priority\":"
    "0},"
    "{\"name\":\"Status\",\"type\":\"string\",\"format\":\"\",\"description\":\"\",\"priority\":0},"
    "{\"name\":\"Age\",\"type\":\"string\",\"format\":\"\",\"description\":\"\",\"priority\":0},"
    "{\"name\":\"Node\",\"type\":\"string\",\"format\":\"\",\"description\":\"\",\"priority\":0}]";

bool dev_table_is_wanted(const struct dev_exchange *x)
{
    bool has_table = x->path.kind->index == DEV_NODE || x->path.kind->index == DEV_POD;
    return has_table && !x->path.subresource[0] && x->accept && strstr(x->accept, "as=Table") &&
           strstr(x->accept, "v=v1;");
}

/* "12s", "34m", "5h", "6d" */
static void put_duration(struct dev_text *out, int64_t seconds)
{
    static const struct {
        int64_t limit, unit;
        char name;
    } units[] = {{120, 1, 's'}, {7200, 60, 'm'}, {172800, 3600, 'h'}, {INT64_MAX, 86400, 'd'}};
    size_t i = 0;
    seconds = seconds < 0 ? 0 : seconds;
    while (seconds >= units[i].limit)
        i++;
    dev_text_printf(out, "\"%lld%c\"", (long long)(seconds / units[i].unit), units[i].name);
}

static void put_age(struct dev_text *out, const struct dev_object *o)
{
    struct tm tm = {0};
    const char *end = strptime(o->facts->created, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end)
        put_duration(out, (int64_t)time(NULL) - (int64_t)timegm(&tm));
    else
        dev_text_str(out, "\"<unknown>\"");
}

static void put_roles(struct dev_text *out, const struct dev_object *o)
{
    static const char prefix[] = "node-role.kubernetes.io/";
    size_t count = 0;
    dev_text_str(out, "\"");
    for (const char *at = o->facts->labels; *at;) {
        if (strncmp(at, prefix, sizeof(prefix) - 1) == 0)
            dev_text_printf(out, "%s%s", count++ ? "," : "", at + sizeof(prefix) - 1);
        at += strlen(at) + 1;
        at += strlen(at) + 1;
    }
    dev_text_str(out, count ? "\"" : "<none>\"");
}

/* The Ready condition, as long as the lease is fresh: what the node-lifecycle controller would make
 * of it. */
static const char *node_state(const struct dev_object *o, bool is_fresh)
{
    json_t *status = json_loadb(o->json + o->status_at, o->status_size, JSON_ALLOW_NUL, NULL);
    const char *state = "NotReady";
    size_t i;
    json_t *c;
    json_array_foreach (json_object_get(status, "conditions"), i, c) {
        const char *type = json_string_value(json_object_get(c, "type"));
        const char *value = json_string_value(json_object_get(c, "status"));
        if (is_fresh && type && value && strcmp(type, "Ready") == 0 && strcmp(value, "True") == 0)
            state = "Ready";
    }
    json_decref(status);
    return state;
}

static void put_node(struct dev_exchange *x, const struct dev_object *o, struct dev_text *out)
{
    uint64_t age_ms;
    bool has_lease = dev_lease_age(x->server, o->facts->name, &age_ms);
    bool is_fresh = has_lease && age_ms <= dev_lease_grace(x->server);
    dev_text_printf(out, "\"%s\",\"%s\",", o->facts->name, node_state(o, is_fresh));
    put_roles(out, o);
    dev_text_str(out, ",");
    if (has_lease)
        put_duration(out, (int64_t)(age_ms / 1000));
    else
        dev_text_str(out, "\"<none>\"");
    dev_text_str(out, ",");
    put_age(out, o);
}

static void put_pod(const struct dev_object *o, struct dev_text *out)
{
    dev_text_printf(out, "\"%s\",", o->facts->name);
    dev_text_quoted(out, o->facts->is_terminating ? "Terminating" : o->phase);
    dev_text_str(out, ",");
    put_age(out, o);
    dev_text_str(out, ",");
    dev_text_quoted(out, o->facts->node_name[0] ? o->facts->node_name : "<none>");
}

void dev_table_write(struct dev_exchange *x, struct dev_object *const *objects, size_t count,
                     const char *metadata, struct dev_text *out)
{
    bool is_node = x->path.kind->index == DEV_NODE;
    dev_text_printf(out,
                    "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":%s,"
                    "\"columnDefinitions\":%s,\"rows\":[",
                    metadata, is_node ? node_columns : pod_columns);
    for (size_t i = 0; i < count; i++) {
        const struct dev_object *o = objects[i];
        dev_text_str(out, i ? ",{\"cells\":[" : "{\"cells\":[");
        if (is_node)
            put_node(x, o, out);
        else
            put_pod(o, out);
        dev_text_printf(out,
                        "],\"object\":{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":"
                        "\"meta.k8s.io/v1\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\"}}}",
                        o->facts->name, o->facts->namespace_);
    }
    dev_text_str(out, "]}\n");
}
