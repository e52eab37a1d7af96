/* See selector.h. */
#include "test/devapi/selector.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum operator{ OP_EQUAL, OP_NOT_EQUAL, OP_IN, OP_NOT_IN, OP_EXISTS, OP_NOT_EXISTS };

struct requirement {
    struct requirement *next;
    enum operator op;
    bool is_field;
    char *key;
    char **values;
    size_t value_count;
};

struct dev_selector {
    struct requirement *requirements;
};

static void requirement_free(struct requirement *r)
{
    for (size_t i = 0; i < r->value_count; i++)
        free(r->values[i]);
    free(r->values);
    free(r->key);
    free(r);
}

void dev_selector_free(struct dev_selector *s)
{
    if (!s)
        return;
    struct requirement *r, *next;
    LL_FOREACH_SAFE (s->requirements, r, next)
        requirement_free(r);
    free(s);
}

static int add_value(struct requirement *r, const char *at, size_t size)
{
    char **values = realloc(r->values, (r->value_count + 1) * sizeof(*values));
    if (!values)
        return -ENOMEM;
    r->values = values;
    values[r->value_count] = strndup(at, size);
    if (!values[r->value_count])
        return -ENOMEM;
    r->value_count++;
    return 0;
}

/* ---- label selectors ---- */

struct lexer {
    const char *at, *text;
    struct errbuf *e;
};

static void skip_blanks(struct lexer *l)
{
    while (isspace((unsigned char)*l->at))
        l->at++;
}

static size_t word_size(const char *at)
{
    size_t size = 0;
    while (isalnum((unsigned char)at[size]) || (at[size] && strchr("-_./:", at[size])))
        size++;
    return size;
}

static bool take(struct lexer *l, const char *token)
{
    skip_blanks(l);
    size_t size = strlen(token);
    if (strncmp(l->at, token, size) != 0)
        return false;
    if (isalpha((unsigned char)token[0]) && word_size(l->at) != size)
        return false;
    l->at += size;
    return true;
}

static int fail(struct lexer *l, const char *wanted)
{
    errbuf_set(l->e, "unable to parse requirement: found '%.40s', expected: %s", l->at, wanted);
    return -EINVAL;
}

static int parse_set(struct lexer *l, struct requirement *r)
{
    if (!take(l, "("))
        return fail(l, "'('");
    do {
        skip_blanks(l);
        size_t size = word_size(l->at);
        int rc = add_value(r, l->at, size);
        if (rc != 0)
            return rc;
        l->at += size;
    } while (take(l, ","));
    return take(l, ")") ? 0 : fail(l, "',' or ')'");
}

static int parse_operator(struct lexer *l, struct requirement *r)
{
    if (take(l, "notin")) {
        r->op = OP_NOT_IN;
        return parse_set(l, r);
    }
    if (take(l, "in")) {
        r->op = OP_IN;
        return parse_set(l, r);
    }
    if (take(l, "!="))
        r->op = OP_NOT_EQUAL;
    else if (take(l, "==") || take(l, "="))
        r->op = OP_EQUAL;
    else {
        r->op = OP_EXISTS;
        return 0;
    }
    skip_blanks(l);
    size_t size = word_size(l->at);
    int rc = add_value(r, l->at, size);
    l->at += size;
    return rc;
}

static int parse_label(struct lexer *l, struct requirement *r)
{
    bool is_negated = take(l, "!");
    skip_blanks(l);
    size_t size = word_size(l->at);
    if (size == 0)
        return fail(l, "identifier");
    r->key = strndup(l->at, size);
    if (!r->key)
        return -ENOMEM;
    l->at += size;
    if (is_negated) {
        r->op = OP_NOT_EXISTS;
        return 0;
    }
    return parse_operator(l, r);
}

static int parse_labels(struct dev_selector *s, const char *text, struct errbuf *e)
{
    struct lexer l = {.at = text, .text = text, .e = e};
    skip_blanks(&l);
    if (!*l.at)
        return 0;
    do {
        struct requirement *r = calloc(1, sizeof(*r));
        if (!r)
            return -ENOMEM;
        LL_APPEND(s->requirements, r);
        int rc = parse_label(&l, r);
        if (rc != 0)
            return rc;
    } while (take(&l, ","));
    skip_blanks(&l);
    return *l.at ? fail(&l, "',' or 'end of string'") : 0;
}

/* ---- field selectors ---- */

static bool is_selectable(const struct dev_kind *kind, const char *field)
{
    static const struct dev_facts facts = {.name = "", .namespace_ = "", .node_name = ""};
    const struct dev_object probe = {.kind = kind, .facts = (struct dev_facts *)(uintptr_t)&facts};
    char value[256];
    return dev_object_field(&probe, field, value) != NULL;
}

/* FIELD=VALUE, FIELD==VALUE or FIELD!=VALUE between commas; "\," "\=" "\\" are escapes. */
static int parse_field(const struct dev_kind *kind, const char *at, size_t size,
                       struct requirement *r, struct errbuf *e)
{
    const char *equals = memchr(at, '=', size);
    if (!equals || equals == at) {
        errbuf_set(e, "invalid selector: '%.*s'; can't understand '%.*s'", (int)size, at, (int)size,
                   at);
        return -EINVAL;
    }
    size_t key_size = (size_t)(equals - at);
    const char *value = equals + 1;
    if (equals[-1] == '!') {
        r->op = OP_NOT_EQUAL;
        key_size--;
    } else if (value < at + size && *value == '=') {
        value++;
    }
    r->key = strndup(at, key_size);
    if (!r->key)
        return -ENOMEM;
    if (!is_selectable(kind, r->key)) {
        errbuf_set(e, "field label not supported: %s", r->key);
        return -EINVAL;
    }
    char *plain = malloc(size + 1);
    if (!plain)
        return -ENOMEM;
    size_t n = 0;
    for (const char *c = value; c < at + size; c++) {
        if (*c == '\\' && c + 1 < at + size)
            c++;
        plain[n++] = *c;
    }
    int rc = add_value(r, plain, n);
    free(plain);
    return rc;
}

static int parse_fields(struct dev_selector *s, const struct dev_kind *kind, const char *text,
                        struct errbuf *e)
{
    while (*text) {
        size_t size = 0;
        while (text[size] && text[size] != ',')
            size += text[size] == '\\' && text[size + 1] ? 2 : 1;
        struct requirement *r = size ? calloc(1, sizeof(*r)) : NULL;
        if (size && !r)
            return -ENOMEM;
        if (r) {
            r->is_field = true;
            LL_APPEND(s->requirements, r);
            int rc = parse_field(kind, text, size, r, e);
            if (rc != 0)
                return rc;
        }
        text += size + (text[size] == ',');
    }
    return 0;
}

int dev_selector_parse(const struct dev_kind *kind, const char *labels, const char *fields,
                       struct dev_selector **out, struct errbuf *e)
{
    struct dev_selector *s = calloc(1, sizeof(*s));
    *out = NULL;
    if (!s)
        return -ENOMEM;
    int rc = labels ? parse_labels(s, labels, e) : 0;
    if (rc == 0 && fields)
        rc = parse_fields(s, kind, fields, e);
    if (rc != 0 || !s->requirements) {
        dev_selector_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

/* ---- matching ---- */

static bool has_value(const struct requirement *r, const char *value)
{
    for (size_t i = 0; i < r->value_count; i++) {
        if (strcmp(r->values[i], value) == 0)
            return true;
    }
    return false;
}

static bool satisfies(const struct requirement *r, const struct dev_object *o)
{
    char buffer[256];
    const char *value =
        r->is_field ? dev_object_field(o, r->key, buffer) : dev_facts_label(o->facts, r->key);
    switch (r->op) {
    case OP_EXISTS:
        return value != NULL;
    case OP_NOT_EXISTS:
        return value == NULL;
    case OP_EQUAL:
    case OP_IN:
        return value && has_value(r, value);
    case OP_NOT_EQUAL:
    case OP_NOT_IN:
        return !value || !has_value(r, value);
    }
    return false;
}

bool dev_selector_matches(const struct dev_selector *s, const struct dev_object *o)
{
    if (!s)
        return true;
    const struct requirement *r;
    LL_FOREACH (s->requirements, r) {
        if (!satisfies(r, o))
            return false;
    }
    return true;
}

const char *dev_selector_field(const struct dev_selector *s, const char *field)
{
    if (!s)
        return NULL;
    const struct requirement *r;
    LL_FOREACH (s->requirements, r) {
        if (r->is_field && r->op == OP_EQUAL && strcmp(r->key, field) == 0)
            return r->values[0];
    }
    return NULL;
}
