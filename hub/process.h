/* What the kernel says of this process. Any thread. */
#ifndef HUB_PROCESS_H
#define HUB_PROCESS_H

#include <stdint.h>

struct process_stats {
    uint64_t resident_bytes, virtual_bytes;
    double cpu_s;        /* user and system, of all threads, since the start */
    double start_time_s; /* since the epoch */
    uint64_t threads, open_files, max_files;
};

/* What cannot be read stays zero. Counts the open files: some milliseconds at tens of thousands. */
void process_read(struct process_stats *stats);

#endif
