/* What it costs to look into a message: the scanner against jansson, on a nodepatch of 8 KB as a
 * real node sends it. Prints one line a message: microseconds for each, and how many times cheaper
 * the scanner is.
 *
 *   bench_envelope [ROUNDS]
 *
 * CPU time of this thread, the best of several batches: other load on the machine does not count.
 */
#include "hub/content.h"
#include "hub/envelope.h"
#include "hub/route.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NODE    "edge-1"
#define BATCHES 9

static char message[65536], scratch[65536];

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* A status with as many images as make `size` bytes of it. */
static json_t *make_status(size_t size)
{
    json_t *status = json_pack(
        "{s:{s:s,s:s,s:s}, s:[{s:s,s:s,s:s,s:s,s:s,s:s}], s:[{s:s,s:s}], s:{s:s,s:s,s:s,s:s}, "
        "s:[]}",
        "capacity", "cpu", "4", "memory", "8148464Ki", "pods", "110", "conditions", "type", "Ready",
        "status", "True", "lastHeartbeatTime", "2026-08-06T10:00:00Z", "lastTransitionTime",
        "2026-08-06T09:00:00Z", "reason", "EdgeReady", "message", "edge is posting ready status",
        "addresses", "type", "InternalIP", "address", "192.0.2.10", "nodeInfo", "architecture",
        "amd64", "kernelVersion", "6.1.0-31-amd64", "kubeletVersion", "v1.32.10-kubeedge-v1.23.1",
        "operatingSystem", "linux", "images");
    json_t *images = json_object_get(status, "images");
    for (size_t used = 900; images && used < size; used += 150) {
        char name[128];
        snprintf(name, sizeof(name),
                 "registry.example.com/edge/app-%zu@sha256:0123456789abcdef0123456789abcdef", used);
        json_array_append_new(images, json_pack("{s:[s,s],s:i}", "names", name,
                                                "registry.example.com/edge/app:v1.23.1",
                                                "sizeBytes", 123456789));
    }
    return status;
}

/* As EdgeCore sends it: the patch is a string in the JSON. */
static size_t make_nodepatch(size_t size)
{
    json_t *patch = json_pack("{s:o}", "status", make_status(size));
    char *text = json_dumps(patch, JSON_COMPACT);
    json_t *envelope =
        json_pack("{s:{s:s,s:I},s:{s:s,s:s,s:s,s:s},s:s}", "header", "msg_id",
                  "00000000-0000-4000-8000-000000000003", "timestamp", (json_int_t)1700000000003,
                  "route", "source", "edged", "group", "meta", "operation", "patch", "resource",
                  "null/nodepatch/" NODE, "content", text);
    size_t written = json_dumpb(envelope, message, sizeof(message), JSON_COMPACT);
    json_decref(envelope);
    json_decref(patch);
    free(text);
    return written <= sizeof(message) ? written : 0;
}

/* The same with the object inline: few escapes, many members. */
static size_t make_node(size_t size)
{
    json_t *envelope =
        json_pack("{s:{s:s,s:I},s:{s:s,s:s,s:s,s:s},s:{s:o}}", "header", "msg_id",
                  "00000000-0000-4000-8000-000000000002", "timestamp", (json_int_t)1700000000002,
                  "route", "source", "edged", "group", "meta", "operation", "insert", "resource",
                  "null/node/" NODE, "content", "status", make_status(size));
    size_t written = json_dumpb(envelope, message, sizeof(message), JSON_COMPACT);
    json_decref(envelope);
    return written <= sizeof(message) ? written : 0;
}

/* What the hub does with it, up to the bytes of the request. */
static bool by_scanner(size_t size)
{
    struct envelope e;
    struct route route;
    size_t patch_size;
    if (envelope_scan(message, size, &e) != 0)
        return false;
    route_classify(&e, NODE, sizeof(NODE) - 1, &route);
    return route.class == ROUTE_UPSTREAM && content_patch(&e.content, scratch, &patch_size) == 0;
}

/* The least that could be done with it by jansson. */
static bool by_jansson(size_t size)
{
    json_t *envelope = json_loadb(message, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    bool is_good = json_is_string(json_object_get(json_object_get(envelope, "route"), "resource"));
    json_decref(envelope);
    return is_good;
}

/* Microseconds a call; negative if one failed. */
static double measure(bool (*call)(size_t), size_t size, long rounds)
{
    double best = -1;
    for (int batch = 0; batch < BATCHES; batch++) {
        double begin = cpu_us();
        for (long i = 0; i < rounds; i++)
            if (!call(size))
                return -1;
        double each = (cpu_us() - begin) / (double)rounds;
        best = best < 0 || each < best ? each : best;
    }
    return best;
}

static bool report(const char *what, size_t size, long rounds)
{
    double scanner = measure(by_scanner, size, rounds),
           jansson = measure(by_jansson, size, rounds / 10 + 1);
    if (size == 0 || scanner < 0 || jansson < 0) {
        fprintf(stderr, "bench_envelope: the %s was not read\n", what);
        return false;
    }
    printf("%-10s %6zu bytes   scan, route, unescape %7.2f us   jansson %7.2f us   ratio %5.1f\n",
           what, size, scanner, jansson, jansson / scanner);
    return true;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 5000;
    bool is_good = rounds > 0 && report("nodepatch", make_nodepatch(7700), rounds);
    is_good = is_good && report("node", make_node(8200), rounds);
    return is_good ? 0 : 1;
}
