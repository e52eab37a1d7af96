/* JSON patch, RFC 6902; see patch.h. */
#include "test/devapi/patch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A JSON pointer, resolved down to the container of its last token. */
struct place {
    json_t *container; /* borrowed; NULL: the whole document */
    char *token;       /* owned */
    size_t index;      /* arrays */
    bool is_end;       /* "-" */
};

/* Decodes ~1 and ~0 in place and ends the token. Returns what follows its slash, or NULL. */
static char *cut_token(char *token)
{
    char *to = token;
    for (char *from = token;; from++) {
        if (*from == '/' || *from == '\0') {
            char *rest = *from ? from + 1 : NULL;
            *to = '\0';
            return rest;
        }
        if (from[0] == '~' && (from[1] == '0' || from[1] == '1'))
            *to++ = *++from == '0' ? '~' : '/';
        else
            *to++ = *from;
    }
}

static int array_index(const char *token, size_t *index)
{
    if (token[0] < '0' || token[0] > '9' || (token[0] == '0' && token[1]) || strlen(token) > 9)
        return -EINVAL;
    char *end;
    *index = strtoul(token, &end, 10);
    return *end ? -EINVAL : 0;
}

static json_t *child(json_t *container, const char *token)
{
    size_t index;
    if (json_is_object(container))
        return json_object_get(container, token);
    if (json_is_array(container) && array_index(token, &index) == 0)
        return json_array_get(container, index);
    return NULL;
}

static int resolve(json_t *document, const char *pointer, struct place *p, struct errbuf *e)
{
    *p = (struct place){0};
    if (!pointer || (pointer[0] && pointer[0] != '/')) {
        errbuf_set(e, "bad path");
        return -EINVAL;
    }
    if (!pointer[0])
        return 0;
    char *copy = strdup(pointer + 1);
    if (!copy)
        return -ENOMEM;
    p->container = document;
    for (char *token = copy;;) {
        char *rest = cut_token(token);
        if (!rest) {
            p->token = strdup(token);
            free(copy);
            if (!p->token)
                return -ENOMEM;
            break;
        }
        p->container = child(p->container, token);
        if (!p->container) {
            free(copy);
            errbuf_set(e, "path %s does not exist", pointer);
            return -ENOENT;
        }
        token = rest;
    }
    p->is_end = json_is_array(p->container) && strcmp(p->token, "-") == 0;
    if (json_is_object(p->container) || p->is_end ||
        (json_is_array(p->container) && array_index(p->token, &p->index) == 0))
        return 0;
    errbuf_set(e, "path %s does not exist", pointer);
    free(p->token);
    p->token = NULL;
    return -ENOENT;
}

static json_t *value_at(json_t *document, const struct place *p)
{
    if (!p->container)
        return document;
    return p->is_end ? NULL : child(p->container, p->token);
}

/* Takes `value`. */
static int add(json_t **document, const struct place *p, json_t *value, bool is_replace)
{
    if (!value)
        return -ENOMEM;
    int rc;
    if (!p->container) {
        json_decref(*document);
        *document = value;
        return 0;
    }
    if (json_is_object(p->container))
        rc = json_object_set_new(p->container, p->token, value);
    else if (p->is_end)
        rc = json_array_append_new(p->container, value);
    else if (is_replace)
        rc = json_array_set_new(p->container, p->index, value);
    else
        rc = json_array_insert_new(p->container, p->index, value);
    return rc == 0 ? 0 : -ENOENT;
}

static int drop(const struct place *p)
{
    if (!p->container)
        return -EINVAL;
    if (json_is_object(p->container))
        return json_object_del(p->container, p->token) == 0 ? 0 : -ENOENT;
    return !p->is_end && json_array_remove(p->container, p->index) == 0 ? 0 : -ENOENT;
}

/* move and copy: `from` leads to what is taken. */
static int transfer(json_t **document, const json_t *step, bool is_move, struct errbuf *e)
{
    struct place from, to;
    int rc = resolve(*document, json_string_value(json_object_get(step, "from")), &from, e);
    if (rc != 0)
        return rc;
    json_t *found = value_at(*document, &from);
    json_t *value = found ? json_deep_copy(found) : NULL;
    rc = found ? (value ? 0 : -ENOMEM) : -ENOENT;
    if (rc == 0 && is_move)
        rc = drop(&from);
    free(from.token);
    if (rc == 0)
        rc = resolve(*document, json_string_value(json_object_get(step, "path")), &to, e);
    if (rc != 0) {
        json_decref(value);
        return rc;
    }
    rc = add(document, &to, value, false);
    free(to.token);
    return rc;
}

static int apply(json_t **document, const char *op, const json_t *step, struct errbuf *e)
{
    if (strcmp(op, "move") == 0 || strcmp(op, "copy") == 0)
        return transfer(document, step, op[0] == 'm', e);

    struct place p;
    int rc = resolve(*document, json_string_value(json_object_get(step, "path")), &p, e);
    if (rc != 0)
        return rc;
    const json_t *value = json_object_get(step, "value");
    json_t *found = value_at(*document, &p);
    if (strcmp(op, "remove") == 0)
        rc = found ? drop(&p) : -ENOENT;
    else if (!value)
        rc = -EINVAL;
    else if (strcmp(op, "test") == 0)
        rc = found && json_equal(found, value) ? 0 : -ENOENT;
    else if (strcmp(op, "add") == 0)
        rc = add(document, &p, json_deep_copy(value), false);
    else if (strcmp(op, "replace") == 0)
        rc = found ? add(document, &p, json_deep_copy(value), true) : -ENOENT;
    else
        rc = -EINVAL;
    free(p.token);
    return rc;
}

int dev_patch_json(json_t **document, const json_t *patch, struct errbuf *e)
{
    size_t i;
    json_t *step;
    if (!json_is_array(patch)) {
        errbuf_set(e, "a JSON patch is an array");
        return -EINVAL;
    }
    json_array_foreach (patch, i, step) {
        const char *op = json_string_value(json_object_get(step, "op"));
        const char *path = json_string_value(json_object_get(step, "path"));
        errbuf_set(e, "%s operation does not apply: doc is missing path or value: %s",
                   op ? op : "(no)", path ? path : "(none)");
        int rc = op ? apply(document, op, step, e) : -EINVAL;
        if (rc != 0)
            return rc;
    }
    return 0;
}
