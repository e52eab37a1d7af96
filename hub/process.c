/* See process.h. From /proc, as Prometheus' client libraries do it. */
#include "hub/process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The whole small file, NUL-terminated. */
static const char *read_file(const char *path, char *text, size_t room)
{
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(text, 1, room - 1, file) : 0;
    text[n] = '\0';
    if (file)
        fclose(file);
    return text;
}

/* The n-th word from `text` on, 0 the first. */
static const char *word(const char *text, int n)
{
    for (; *text && n > 0; n--) {
        text += strcspn(text, " ");
        text += strspn(text, " ");
    }
    return text;
}

static double boot_time_s(void)
{
    char text[8192];
    const char *line = strstr(read_file("/proc/stat", text, sizeof(text)), "\nbtime ");
    return line ? strtod(line + 7, NULL) : 0;
}

/* The fields after the name, which may itself hold spaces and parentheses; see proc(5). */
static void read_stat(struct process_stats *stats)
{
    char text[1024];
    static double boot_s; /* does not change */
    const double ticks = (double)sysconf(_SC_CLK_TCK);
    const char *rest = strrchr(read_file("/proc/self/stat", text, sizeof(text)), ')');
    if (!rest)
        return;
    if (boot_s == 0)
        boot_s = boot_time_s();
    stats->cpu_s = (strtod(word(rest, 12), NULL) + strtod(word(rest, 13), NULL)) / ticks;
    stats->threads = strtoull(word(rest, 18), NULL, 10);
    stats->start_time_s = boot_s + strtod(word(rest, 20), NULL) / ticks;
    stats->virtual_bytes = strtoull(word(rest, 21), NULL, 10);
    stats->resident_bytes = strtoull(word(rest, 22), NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t count_open_files(void)
{
    uint64_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n > 3 ? n - 3 : 0; /* ".", ".." and the directory's own */
}

void process_read(struct process_stats *stats)
{
    struct rlimit limit;
    *stats = (struct process_stats){0};
    read_stat(stats);
    stats->open_files = count_open_files();
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        stats->max_files = limit.rlim_cur;
}
