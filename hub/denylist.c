/* See denylist.h. One allocation holds the text, another the sorted pointers into it. */
#include "hub/denylist.h"

#include "hub/resource.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((long)64 * 1024 * 1024)

struct denylist {
    char *text;         /* owned; the names in it are NUL-terminated */
    const char **names; /* sorted */
    size_t count, room;
};

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void denylist_destroy(struct denylist *list)
{
    if (!list)
        return;
    free(list->names);
    free(list->text);
    free(list);
}

static int add(struct denylist *list, const char *name)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 16;
        const char **names = realloc(list->names, room * sizeof(*names));
        if (!names)
            return -ENOMEM;
        list->names = names;
        list->room = room;
    }
    list->names[list->count++] = name;
    return 0;
}

/* One line, which is ours to cut. */
static int take_line(struct denylist *list, char *line, size_t number, struct errbuf *e)
{
    line[strcspn(line, "#")] = '\0';
    line += strspn(line, " \t\r");
    size_t size = strcspn(line, " \t\r");
    if (size == 0)
        return 0;
    struct text_span name = {line, size};
    bool is_alone = line[size + strspn(line + size, " \t\r")] == '\0';
    if (!is_alone || !resource_name_is_subdomain(&name)) {
        errbuf_set(e, "line %zu: not the name of a node", number);
        return -EINVAL;
    }
    line[size] = '\0';
    return add(list, line);
}

static int take_lines(struct denylist *list, size_t size, struct errbuf *e)
{
    char *line = list->text, *end = list->text + size;
    int rc = 0;
    if (memchr(list->text, '\0', size)) {
        errbuf_set(e, "not a text");
        return -EINVAL;
    }
    for (size_t number = 1; rc == 0 && line < end; number++) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        *stop = '\0';
        rc = take_line(list, line, number, e);
        line = stop + 1;
    }
    return rc;
}

int denylist_parse(const char *text, size_t size, struct denylist **out, struct errbuf *e)
{
    struct denylist *list = calloc(1, sizeof(*list));
    int rc = -ENOMEM;
    if (list && (list->text = malloc(size + 1))) {
        if (size > 0)
            memcpy(list->text, text, size);
        rc = take_lines(list, size, e);
    }
    if (rc != 0) {
        if (rc == -ENOMEM)
            errbuf_set(e, "no memory");
        denylist_destroy(list);
        return rc;
    }
    if (list->count > 0)
        qsort(list->names, list->count, sizeof(*list->names), compare);
    *out = list;
    return 0;
}

static int read_file(FILE *file, char **text, size_t *size)
{
    long end = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (end < 0 || fseek(file, 0, SEEK_SET) != 0)
        return -errno;
    if (end > MAX_BYTES)
        return -EFBIG;
    *text = malloc((size_t)end + 1);
    if (!*text)
        return -ENOMEM;
    *size = fread(*text, 1, (size_t)end, file);
    return ferror(file) ? -EIO : 0;
}

int denylist_load(const char *path, struct denylist **list, struct errbuf *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    int rc = file ? read_file(file, &text, &size) : -errno;
    if (file)
        fclose(file);
    if (rc != 0)
        errbuf_set(e, "%s", strerror(-rc));
    else
        rc = denylist_parse(text, size, list, e);
    free(text);
    if (rc != 0)
        errbuf_wrap(e, "%s", path);
    return rc;
}

bool denylist_has(const struct denylist *list, const char *name)
{
    return list && list->count > 0 &&
           bsearch(&name, list->names, list->count, sizeof(*list->names), compare) != NULL;
}

size_t denylist_count(const struct denylist *list)
{
    return list->count;
}

const char *denylist_at(const struct denylist *list, size_t i)
{
    return list->names[i];
}
