/* Strategic merge patch of a status, text against text; see patch.h.
 *
 * Most writes of a fleet are these, and most of what they cost is building and freeing trees; so
 * the two texts are walked side by side and spliced. Whatever is out of the ordinary is left to the
 * tree version, which the unit tests hold this to. */
#include "isthmus/jsonscan.h"
#include "test/devapi/patch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MEMBERS_MAX  48
#define ELEMENTS_MAX 48
#define DEPTH_MAX    6
#define PATH_BYTES   256
#define ORDER        "$setElementOrder/"

struct member {
    struct json_span key, value;
    bool is_used;
};

struct members {
    struct member at[MEMBERS_MAX];
    size_t count;
};

struct job {
    const struct dev_kind *kind;
    struct dev_text *out;
};

static bool same_bytes(const struct json_span *a, const char *text, size_t size)
{
    return a->size == size && memcmp(a->at, text, size) == 0;
}

/* A value as it stands in the text, strings with their quotes. */
static void copy_raw(const struct job *job, const struct json_span *value)
{
    bool is_string = value->kind == JSON_KIND_STRING;
    dev_text_add(job->out, value->at - is_string, value->size + 2u * is_string);
}

static struct member *find(struct members *m, const char *key, size_t size)
{
    for (size_t i = 0; i < m->count; i++) {
        if (same_bytes(&m->at[i].key, key, size))
            return &m->at[i];
    }
    return NULL;
}

static int read_members(const struct json_span *object, struct members *m)
{
    struct jsonscan scan;
    struct member one = {.is_used = false};
    jsonscan_init(&scan, object->at, object->size);
    scan.accept_nul = true;
    m->count = 0;
    int rc = jsonscan_enter_object(&scan);
    while (rc == 0 && (rc = jsonscan_next_member(&scan, &one.key)) == 1) {
        rc = jsonscan_value(&scan, &one.value);
        if (rc != 0 || one.key.has_escapes || m->count == MEMBERS_MAX ||
            find(m, one.key.at, one.key.size))
            return -ENOTSUP;
        m->at[m->count++] = one;
    }
    return rc == 0 ? 0 : -ENOTSUP;
}

static bool contains(const struct json_span *value, const char *text)
{
    return memmem(value->at, value->size, text, strlen(text)) != NULL;
}

/* A patch's value with nothing to merge it into. In containers, nulls and directives would have to
 * be taken out. */
static int copy_plain(const struct job *job, const struct json_span *value)
{
    bool is_container = value->kind == JSON_KIND_OBJECT || value->kind == JSON_KIND_ARRAY;
    if (is_container && (contains(value, "\"$") || contains(value, "null")))
        return -ENOTSUP;
    copy_raw(job, value);
    return 0;
}

static void put_key(const struct job *job, const struct json_span *key)
{
    if (job->out->size > 0 && !job->out->failed && job->out->at[job->out->size - 1] != '{')
        dev_text_add(job->out, ",", 1);
    copy_raw(job, key);
    dev_text_add(job->out, ":", 1);
}

static int merge_objects(const struct job *job, const struct json_span *old,
                         const struct json_span *patch, const char *path, unsigned depth);

/* ---- lists ---- */

struct element {
    struct json_span value, key;
    long other; /* patch elements: index in old, or -1 */
};

struct elements {
    struct element at[ELEMENTS_MAX];
    size_t count;
};

/* The element's merge key; without it, or with one that is not plain, this is not for us. */
static int read_key(struct element *e, const char *merge_key)
{
    const char *const path[] = {merge_key, NULL};
    bool has_key = e->value.kind == JSON_KIND_OBJECT &&
                   jsonscan_find(e->value.at, e->value.size, path, &e->key) == 0;
    return has_key && !e->key.has_escapes ? 0 : -ENOTSUP;
}

static int read_elements(const struct json_span *array, const char *merge_key,
                         struct elements *list)
{
    struct jsonscan scan;
    jsonscan_init(&scan, array->at, array->size);
    scan.accept_nul = true;
    list->count = 0;
    int rc = jsonscan_enter_array(&scan);
    while (rc == 0 && (rc = jsonscan_next_element(&scan)) == 1) {
        if (list->count == ELEMENTS_MAX)
            return -ENOTSUP;
        struct element *e = &list->at[list->count];
        rc = jsonscan_value(&scan, &e->value);
        if (rc == 0)
            rc = read_key(e, merge_key);
        if (rc != 0)
            return -ENOTSUP;
        e->other = -1;
        list->count++;
    }
    return rc == 0 ? 0 : -ENOTSUP;
}

static long index_of(const struct elements *list, const struct json_span *key)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct json_span *have = &list->at[i].key;
        if (have->kind == key->kind && same_bytes(have, key->at, key->size))
            return (long)i;
    }
    return -1;
}

/* The merged list, before it is written: old elements first, each with its patch, then the new
 * ones. */
struct merged {
    struct {
        long old, patch; /* -1: none */
        const struct json_span *key;
    } at[2 * ELEMENTS_MAX];
    size_t count;
};

static int pair(struct elements *old, struct elements *patch, struct merged *m)
{
    m->count = 0;
    for (size_t i = 0; i < old->count; i++) {
        if (index_of(old, &old->at[i].key) != (long)i)
            return -ENOTSUP;
        m->at[m->count].old = (long)i;
        m->at[m->count].patch = index_of(patch, &old->at[i].key);
        m->at[m->count++].key = &old->at[i].key;
    }
    for (size_t i = 0; i < patch->count; i++) {
        if (index_of(patch, &patch->at[i].key) != (long)i)
            return -ENOTSUP;
        if (index_of(old, &patch->at[i].key) >= 0)
            continue;
        m->at[m->count].old = -1;
        m->at[m->count].patch = (long)i;
        m->at[m->count++].key = &patch->at[i].key;
    }
    return 0;
}

static long position(const struct merged *m, const struct json_span *key)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->at[i].key->kind == key->kind && same_bytes(m->at[i].key, key->at, key->size))
            return (long)i;
    }
    return -1;
}

/* As order_list() in patch_strategic.c, on indices. */
static void sort_by(const struct merged *m, const struct elements *order, size_t *sequence)
{
    size_t named[2 * ELEMENTS_MAX], others[2 * ELEMENTS_MAX];
    size_t named_count = 0, other_count = 0, i = 0, j = 0;
    for (size_t k = 0; k < order->count; k++) {
        long at = position(m, &order->at[k].key);
        if (at >= 0)
            named[named_count++] = (size_t)at;
    }
    for (size_t k = 0; k < m->count; k++) {
        if (index_of(order, m->at[k].key) < 0)
            others[other_count++] = k;
    }
    for (size_t k = 0; k < named_count + other_count; k++) {
        bool takes_left = j == other_count;
        if (i < named_count && j < other_count) {
            long l = m->at[named[i]].old, r = m->at[others[j]].old;
            takes_left = l < 0 || r < 0 || l < r;
        }
        sequence[k] = takes_left ? named[i++] : others[j++];
    }
}

static int write_merged(const struct job *job, const struct elements *old,
                        const struct elements *patch, const struct merged *m,
                        const size_t *sequence, const char *path, unsigned depth)
{
    int rc = 0;
    dev_text_add(job->out, "[", 1);
    for (size_t k = 0; rc == 0 && k < m->count; k++) {
        long o = m->at[sequence[k]].old, p = m->at[sequence[k]].patch;
        if (k > 0)
            dev_text_add(job->out, ",", 1);
        if (p < 0)
            copy_raw(job, &old->at[o].value);
        else if (o < 0)
            rc = copy_plain(job, &patch->at[p].value);
        else
            rc = merge_objects(job, &old->at[o].value, &patch->at[p].value, path, depth);
    }
    dev_text_add(job->out, "]", 1);
    return rc;
}

/* `order` may be NULL. */
static int merge_lists(const struct job *job, const struct json_span *old,
                       const struct json_span *patch, const struct json_span *order,
                       const char *merge_key, const char *path, unsigned depth)
{
    struct elements before, changes, wanted = {.count = 0};
    struct merged merged;
    size_t sequence[2 * ELEMENTS_MAX];
    int rc = read_elements(old, merge_key, &before);
    if (rc == 0)
        rc = read_elements(patch, merge_key, &changes);
    if (rc == 0 && order)
        rc = read_elements(order, merge_key, &wanted);
    for (size_t i = 0; rc == 0 && i < wanted.count; i++) {
        if (index_of(&wanted, &wanted.at[i].key) != (long)i)
            rc = -ENOTSUP;
    }
    if (rc == 0)
        rc = pair(&before, &changes, &merged);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < merged.count; i++)
        sequence[i] = i;
    if (order)
        sort_by(&merged, &wanted, sequence);
    return write_merged(job, &before, &changes, &merged, sequence, path, depth);
}

/* ---- objects ---- */

static struct member *order_of(struct members *patch, const struct json_span *key)
{
    char name[PATH_BYTES];
    int size = snprintf(name, sizeof(name), ORDER "%.*s", (int)key->size, key->at);
    return size < (int)sizeof(name) ? find(patch, name, (size_t)size) : NULL;
}

static int check_directives(struct members *patch)
{
    for (size_t i = 0; i < patch->count; i++) {
        const struct json_span *key = &patch->at[i].key;
        size_t prefix = sizeof(ORDER) - 1;
        if (key->size == 0 || key->at[0] != '$')
            continue;
        /* An order alone, for a list that is not touched, is rare. */
        if (key->size <= prefix || memcmp(key->at, ORDER, prefix) != 0 ||
            !find(patch, key->at + prefix, key->size - prefix))
            return -ENOTSUP;
        patch->at[i].is_used = true;
    }
    return 0;
}

/* A member that both have. */
static int merge_member(const struct job *job, const struct member *old,
                        const struct member *change, struct members *patch, const char *path,
                        unsigned depth)
{
    const struct json_span *value = &change->value;
    if (value->kind == JSON_KIND_NULL && !dev_patch_keeps_null(path))
        return 0;
    put_key(job, &old->key);
    if (value->kind == JSON_KIND_OBJECT && old->value.kind == JSON_KIND_OBJECT)
        return merge_objects(job, &old->value, value, path, depth);
    const char *merge_key =
        value->kind == JSON_KIND_ARRAY ? dev_patch_merge_key(job->kind, path) : NULL;
    const struct member *order = merge_key ? order_of(patch, &old->key) : NULL;
    if (!merge_key || old->value.kind != JSON_KIND_ARRAY)
        return order ? -ENOTSUP : copy_plain(job, value);
    if (!merge_key[0] || (order && order->value.kind != JSON_KIND_ARRAY))
        return -ENOTSUP;
    return merge_lists(job, &old->value, value, order ? &order->value : NULL, merge_key, path,
                       depth);
}

static int join_path(char *out, const char *path, const struct json_span *key)
{
    int size = snprintf(out, PATH_BYTES, "%s.%.*s", path, (int)key->size, key->at);
    return size >= 0 && size < PATH_BYTES ? 0 : -ENOTSUP;
}

static int merge_old(const struct job *job, struct members *old, struct members *patch,
                     const char *path, unsigned depth)
{
    char inner[PATH_BYTES];
    for (size_t i = 0; i < old->count; i++) {
        struct member *change = find(patch, old->at[i].key.at, old->at[i].key.size);
        if (!change) {
            put_key(job, &old->at[i].key);
            copy_raw(job, &old->at[i].value);
            continue;
        }
        change->is_used = true;
        int rc = join_path(inner, path, &change->key);
        if (rc == 0)
            rc = merge_member(job, &old->at[i], change, patch, inner, depth);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int add_new(const struct job *job, struct members *patch, const char *path)
{
    char inner[PATH_BYTES];
    for (size_t i = 0; i < patch->count; i++) {
        struct member *m = &patch->at[i];
        if (m->is_used)
            continue;
        int rc = join_path(inner, path, &m->key);
        if (rc == 0 && m->value.kind == JSON_KIND_NULL && !dev_patch_keeps_null(inner))
            continue;
        if (rc == 0 && order_of(patch, &m->key)) /* to be sorted first */
            rc = -ENOTSUP;
        if (rc == 0) {
            put_key(job, &m->key);
            rc = copy_plain(job, &m->value);
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int merge_objects(const struct job *job, const struct json_span *old,
                         const struct json_span *patch, const char *path, unsigned depth)
{
    struct members before, changes;
    if (depth == DEPTH_MAX)
        return -ENOTSUP;
    int rc = read_members(old, &before);
    if (rc == 0)
        rc = read_members(patch, &changes);
    if (rc == 0)
        rc = check_directives(&changes);
    if (rc != 0)
        return rc;
    dev_text_add(job->out, "{", 1);
    rc = merge_old(job, &before, &changes, path, depth + 1);
    if (rc == 0)
        rc = add_new(job, &changes, path);
    dev_text_add(job->out, "}", 1);
    return rc;
}

int dev_patch_status(const struct dev_kind *kind, const char *status, size_t size,
                     const char *patch, size_t patch_size, struct dev_text *out)
{
    const struct job job = {.kind = kind, .out = out};
    const struct json_span old = {.at = size ? status : "{}", .size = size ? size : 2};
    const struct json_span change = {.at = patch, .size = patch_size};
    int rc = merge_objects(&job, &old, &change, "status", 0);
    return rc != 0 ? rc : out->failed ? -ENOMEM : 0;
}
