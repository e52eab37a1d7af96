/* See resource.h. One table of character classes decides what may stand where. */
#include "hub/resource.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum char_class {
    CHAR_ALNUM = 1,   /* lower-case letter or digit: begins and ends DNS names */
    CHAR_DASH = 2,    /* inside a DNS label */
    CHAR_DOT = 4,     /* between the labels of a subdomain */
    CHAR_SEGMENT = 8, /* in any name at all */
    CHAR_PLAIN = 16,  /* stands for itself in a URL path (RFC 3986, unreserved) */
};

static unsigned char_classes(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
        return CHAR_ALNUM | CHAR_SEGMENT | CHAR_PLAIN;
    if (c >= 'A' && c <= 'Z')
        return CHAR_SEGMENT | CHAR_PLAIN;
    if (c == '-')
        return CHAR_DASH | CHAR_SEGMENT | CHAR_PLAIN;
    if (c == '.')
        return CHAR_DOT | CHAR_SEGMENT | CHAR_PLAIN;
    if (c == '_' || c == '~')
        return CHAR_SEGMENT | CHAR_PLAIN;
    if (c <= 0x20 || c >= 0x7F || c == '/' || c == '%' || c == '?' || c == '#' || c == '\\')
        return 0;
    return CHAR_SEGMENT;
}

static bool has_class(char c, unsigned classes)
{
    return char_classes((unsigned char)c) & classes;
}

bool text_span_equals(const struct text_span *s, const char *text)
{
    size_t size = strlen(text);
    return s->size == size && memcmp(s->at, text, size) == 0;
}

/* One label after another, with dots between them where `dots` allows it: each begins and ends with
 * a letter or digit. */
static bool is_dns_name(const struct text_span *s, size_t max, unsigned dots)
{
    if (s->size == 0 || s->size > max)
        return false;
    unsigned before = CHAR_DOT; /* as if one stood in front: a label begins */
    for (size_t i = 0; i < s->size; i++) {
        unsigned now = char_classes((unsigned char)s->at[i]) & (CHAR_ALNUM | CHAR_DASH | dots);
        if (!now || (now == CHAR_DASH && before == CHAR_DOT) ||
            (now == CHAR_DOT && before != CHAR_ALNUM))
            return false;
        before = now;
    }
    return before == CHAR_ALNUM;
}

bool resource_name_is_subdomain(const struct text_span *name)
{
    return is_dns_name(name, RESOURCE_MAX_NAME, CHAR_DOT);
}

bool resource_name_is_segment(const struct text_span *name)
{
    if (name->size == 0 || name->size > RESOURCE_MAX_NAME)
        return false;
    for (size_t i = 0; i < name->size; i++)
        if (!has_class(name->at[i], CHAR_SEGMENT))
            return false;
    return !text_span_equals(name, ".") && !text_span_equals(name, "..");
}

/* Takes what stands before the next slash, or the rest; `rest` becomes what is behind it, at NULL
 * if no slash came. */
static struct text_span take_segment(struct text_span *rest)
{
    const char *slash = memchr(rest->at, '/', rest->size);
    struct text_span segment = *rest;
    if (!slash) {
        *rest = (struct text_span){0};
        return segment;
    }
    segment.size = (size_t)(slash - segment.at);
    rest->at += segment.size + 1;
    rest->size -= segment.size + 1;
    return segment;
}

int resource_parse(const char *text, size_t size, struct resource *r)
{
    struct text_span rest = {text, size};
    *r = (struct resource){.ns = {0}};
    if (size == 0 || size > RESOURCE_MAX_NAMESPACE + RESOURCE_MAX_TYPE + RESOURCE_MAX_NAME + 2)
        return -EBADMSG;
    struct text_span ns = take_segment(&rest);
    if (!rest.at || !is_dns_name(&ns, RESOURCE_MAX_NAMESPACE, 0))
        return -EBADMSG;
    struct text_span type = take_segment(&rest);
    if (!is_dns_name(&type, RESOURCE_MAX_TYPE, CHAR_DOT))
        return -EBADMSG;
    /* A fourth segment leaves a slash in what should be the name. */
    if (rest.at && !resource_name_is_segment(&rest))
        return -EBADMSG;
    *r = (struct resource){.ns = ns, .type = type, .name = rest};
    return 0;
}

/* ---- paths ---- */

struct kind {
    const char *prefix, *plural;
    bool is_namespaced;
};

#define KIND_ROW(id, prefix, plural, is_namespaced)                                                \
    [RESOURCE_##id] = {prefix, plural, is_namespaced},
static const struct kind kinds[RESOURCE_KIND_COUNT] = {RESOURCE_KINDS(KIND_ROW)};
#undef KIND_ROW

bool resource_is_namespaced(enum resource_kind kind)
{
    return kinds[kind].is_namespaced;
}

/* Text that grows in a buffer of fixed size and remembers that it did not fit. */
struct path {
    char *to;
    size_t size, room;
    bool is_full;
};

static void append(struct path *p, const char *bytes, size_t size)
{
    if (p->is_full || size >= p->room - p->size) { /* one is for the NUL */
        p->is_full = true;
        return;
    }
    memcpy(p->to + p->size, bytes, size);
    p->size += size;
}

static void append_text(struct path *p, const char *text)
{
    append(p, text, strlen(text));
}

static void append_escaped(struct path *p, const struct text_span *s)
{
    static const char digits[] = "0123456789ABCDEF";
    append_text(p, "/");
    for (size_t i = 0; i < s->size; i++) {
        unsigned char c = (unsigned char)s->at[i];
        const char escape[3] = {'%', digits[c >> 4], digits[c & 15]};
        if (char_classes(c) & CHAR_PLAIN)
            append(p, &s->at[i], 1);
        else
            append(p, escape, sizeof(escape));
    }
}

static bool is_absent_or_segment(const struct text_span *s)
{
    return !s || s->size == 0 || resource_name_is_segment(s);
}

int resource_api_path(enum resource_kind kind, const struct text_span *ns,
                      const struct text_span *name, const char *subresource, char *to, size_t room)
{
    assert(kind > RESOURCE_NONE && kind < RESOURCE_KIND_COUNT);
    if (!is_absent_or_segment(ns) || !is_absent_or_segment(name))
        return -EINVAL;
    const struct kind *k = &kinds[kind];
    struct path p = {.to = to, .room = room, .is_full = room == 0};
    append_text(&p, k->prefix);
    if (k->is_namespaced && ns && ns->size > 0) {
        append_text(&p, "/namespaces");
        append_escaped(&p, ns);
    }
    append_text(&p, "/");
    append_text(&p, k->plural);
    if (name && name->size > 0) {
        append_escaped(&p, name);
        if (subresource) {
            append_text(&p, "/");
            append_text(&p, subresource);
        }
    }
    if (p.is_full)
        return -ENAMETOOLONG;
    to[p.size] = '\0';
    return (int)p.size;
}

/* FNV-1a, 64 bits. */
static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    return hash;
}

uint64_t resource_hash(enum resource_kind kind, const struct text_span *ns,
                       const struct text_span *name)
{
    if (kind == RESOURCE_NONE)
        return 0;
    const char first = (char)kind;
    uint64_t hash = hash_bytes(0xcbf29ce484222325, &first, 1);
    if (resource_is_namespaced(kind))
        hash = hash_bytes(hash, ns->at, ns->size);
    hash = hash_bytes(hash, "/", 1);
    return hash_bytes(hash, name->at, name->size) | 1;
}

uint64_t resource_version(const char *text, size_t size)
{
    uint64_t version = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9' || version > UINT64_MAX / 10 - 1)
            return 0;
        version = version * 10 + (uint64_t)(text[i] - '0');
    }
    return version;
}
