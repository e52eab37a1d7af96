/* See edge_misbehave.h. */
#include "test/edgesim/edge_misbehave.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BURST             64
#define CHUNK_BYTES       16384
#define CLAIMED_BYTES     (UINT64_C(1) << 30)
#define NESTING           100000
#define HALF_OPEN_PERIODS 3
#define LONG_NAME_BYTES   3000 /* no name is that long, a resource may be */

static const char *const names[] = {
#define X(id, name) [EDGE_ODD_##id] = name,
    EDGE_MISBEHAVIOURS_X(X)
#undef X
};

int edge_misbehaviour_parse(const char *name, enum edge_misbehaviour *kind)
{
    for (int i = 0; i < EDGE_MISBEHAVIOURS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *kind = (enum edge_misbehaviour)i;
            return 0;
        }
    }
    return -EINVAL;
}

void edge_odd_init(struct edge_odd *odd, enum edge_misbehaviour kind, double time_scale,
                   const char *victim)
{
    *odd = (struct edge_odd){.kind = kind,
                             .period_us = (uint64_t)(1000000 / time_scale),
                             .due_us = EDGE_NEVER,
                             .victim = victim};
}

void edge_odd_dial(const struct edge_odd *odd, struct edge_dial *dial, struct edge_certs *foreign)
{
    if (odd->kind == EDGE_ODD_NO_CERT)
        dial->cert_node = NULL;
    else if (odd->kind == EDGE_ODD_FOREIGN_CA)
        dial->certs = foreign;
    else if (odd->kind == EDGE_ODD_WRONG_NODE_ID)
        dial->node = odd->victim;
    dial->stalls_handshake = odd->kind == EDGE_ODD_SLOW_HANDSHAKE;
}

void edge_odd_opened(struct edge_odd *odd, struct edge_conn *c, uint64_t now_us)
{
    bool is_half_open = odd->kind == EDGE_ODD_HALF_OPEN;
    odd->is_silent = odd->kind == EDGE_ODD_SLOW_WRITER || odd->kind == EDGE_ODD_OVERSIZED ||
                     odd->kind == EDGE_ODD_ENDLESS_FRAGMENTS;
    if (odd->is_silent)
        odd->step = 0; /* a new stream; lists of tricks go on where they were */
    odd->due_us = now_us + odd->period_us * (is_half_open ? HALF_OPEN_PERIODS : 1);
    if (odd->kind == EDGE_ODD_SLOW_READER)
        edge_conn_set_reading(c, false);
}

/* --- questions nobody should ask --- */

struct trick {
    const char *source, *operation, *resource,
        *content; /* %V in a resource or content is the victim's name */
};

static const struct trick unknown_kinds[] = {
    {"edged", "query", "default/frobnicate/x", NULL},
    {"edged", "explode", "default/configmap/x", NULL},
    {"edged", "update", "default/gadget/x", "{\"metadata\":{\"name\":\"x\"}}"},
    {"nobody", "query", "null", NULL},
    {"edgecontroller", "query", "default/configmap/x", NULL},
    {"edged", "", "", NULL},
    {"twin", "get", "membership/detail", "\"{}\""},
    {"metaserver", "null", "null",
     "{\"ID\":\"1\",\"Key\":\"/core/v1/secrets/null/null\",\"Verb\":\"list\"}"},
};

static const struct trick foreign_resources[] = {
    {"edged", "patch", "null/nodepatch/%V",
     "\"{\\\"status\\\":{\\\"phase\\\":\\\"Terminated\\\"}}\""},
    {"edged", "query", "kube-node-lease/lease/%V", NULL},
    {"edged", "update", "kube-node-lease/lease/%V",
     "{\"metadata\":{\"name\":\"%V\",\"namespace\":\"kube-node-lease\"},\"spec\":{"
     "\"holderIdentity\":\"evil\"}}"},
    {"edged", "query", "default/node/%V", NULL},
    {"edged", "insert", "null/node/%V",
     "{\"metadata\":{\"name\":\"%V\"},\"spec\":{},\"status\":{}}"},
    {"edged", "query", "kube-system/secret/bootstrap-token", NULL},
    {"edged", "query", "kubeedge/secret/casecret", NULL},
    {"edged", "query", "kube-system/configmap/kubeadm-config", NULL},
    {"edged", "delete", "kube-system/pod/kube-proxy", "{\"gracePeriodSeconds\":0}"},
    {"edged", "patch", "kube-system/podpatch/kube-proxy",
     "\"{\\\"status\\\":{\\\"phase\\\":\\\"Failed\\\"}}\""},
    {"edged", "query", "kube-system/serviceaccounttoken/admin",
     "{\"metadata\":{},\"spec\":{\"audiences\":null,\"expirationSeconds\":3600},\"status\":{}}"},
    {"edged", "query", "node/%V/default/configmap/x", NULL},
    {"edged", "insert", "default/pod/static",
     "{\"metadata\":{\"name\":\"static\",\"namespace\":\"default\"},\"spec\":{\"nodeName\":\"%V\","
     "\"containers\":[]}}"},
};

static const struct trick path_tricks[] = {
    {"edged", "query", "default/configmap/../secrets/x", NULL},
    {"edged", "query", "default/configmap/..", NULL},
    {"edged", "query", "../../nodes/configmap/%V", NULL},
    {"edged", "query", "default/configmap/%%2e%%2e%%2fsecrets%%2fx", NULL},
    {"edged", "query", "default/configmap/x?watch=true", NULL},
    {"edged", "query", "default/configmap/x#y", NULL},
    {"edged", "query", "default/configmap/", NULL},
    {"edged", "query", "/configmap/x", NULL},
    {"edged", "query", "default//x", NULL},
    {"edged", "query", "default/configmap/x/y", NULL},
    {"edged", "query", "default/configmap/x\\r\\nHost: evil", NULL},
    {"edged", "query", "default/configmap/x y", NULL},
    {"edged", "query", "default/configmap/\\u002e\\u002e/secrets", NULL},
    {"edged", "query", "default/configmap/%L", NULL},
    {"edged", "patch", "null/nodepatch/%V/../x", "\"{}\""},
    {"edged", "update", "kube-node-lease/lease/x/../%V", "{\"metadata\":{},\"spec\":{}}"},
};

static void expand(struct edge_text *t, const char *pattern, const char *victim)
{
    for (const char *p = pattern; *p; p++) {
        if (*p != '%') {
            edge_text_append(t, p, 1);
        } else if (*++p == 'V') {
            edge_text_str(t, victim);
        } else if (*p == 'L') {
            for (int i = 0; i < LONG_NAME_BYTES; i++)
                edge_text_append(t, "a", 1);
        } else {
            edge_text_append(t, p, 1);
        }
    }
    edge_text_append(t, "", 1);
}

static void ask(struct edge_odd *odd, struct edge *e, const struct trick *trick, uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    struct edge_text resource, content;
    edge_text_init(&resource);
    edge_text_init(&content);
    expand(&resource, trick->resource, odd->victim);
    if (trick->content)
        expand(&content, trick->content, odd->victim);
    edge_ask_begin(e, id);
    if (edge_text_ok(&resource) && edge_text_ok(&content)) {
        const struct edge_route route = {trick->source, "meta", trick->operation, resource.at};
        edge_message_raw(e->scratch, &a, id, &route, content.at);
        edge_ask_send(e, EDGE_KIND_ODD, EDGE_ASKER_LOAD, 0, now_us);
        e->stats->odd_sent++;
    }
    edge_text_fini(&resource);
    edge_text_fini(&content);
}

/* --- messages that are none --- */

static void inject(struct edge *e, struct edge_conn *c, uint8_t opcode, const char *bytes,
                   size_t size, uint64_t now_us)
{
    const struct edge_frame frame = {.opcode = opcode, .fin = true, .payload = bytes, .size = size};
    edge_conn_send_frame(c, &frame, now_us);
    e->stats->odd_sent++;
    e->stats->odd_bytes += size;
}

static void inject_nesting(struct edge *e, struct edge_conn *c, uint64_t now_us)
{
    char *deep = malloc(2 * NESTING + 1);
    struct edge_author a = edge_author(e, now_us);
    const struct edge_route route = {"edged", "meta", "update", "default/configmap/x"};
    char id[EDGE_ID_SIZE];
    if (!deep)
        return;
    memset(deep, '[', NESTING);
    memset(deep + NESTING, ']', NESTING);
    deep[2 * NESTING] = '\0';
    edge_tell_begin(e, id);
    edge_message_raw(e->scratch, &a, id, &route, deep);
    free(deep);
    inject(e, c, WSLAY_TEXT_FRAME, e->scratch->at, e->scratch->size, now_us);
}

/* A good message in the wrong frame, what is left of one, or one with a name that is none. */
static void inject_message(struct edge *e, struct edge_conn *c, enum edge_misbehaviour kind,
                           uint64_t now_us)
{
    char id[EDGE_ID_SIZE];
    struct edge_author a = edge_author(e, now_us);
    const char *resource = "default/configmap/kube-root-ca.crt";
    if (kind == EDGE_ODD_INVALID_UTF8)
        resource = "default/configmap/\xff\xfe-not-utf8";
    if (kind == EDGE_ODD_NUL_NAME)
        resource = "default/configmap/x\\u0000y";
    edge_tell_begin(e, id);
    edge_message_query(e->scratch, &a, id, resource);
    size_t size = e->scratch->size;
    if (kind == EDGE_ODD_TRUNCATED_JSON)
        size = size * 2 / 3;
    inject(e, c, kind == EDGE_ODD_BINARY ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, e->scratch->at,
           size, now_us);
}

/* --- streams without an end --- */

static void oversize(struct edge_odd *odd, struct edge *e, struct edge_conn *c, uint64_t now_us)
{
    static const char chunk[CHUNK_BYTES];
    if (odd->step++ == 0) {
        const struct edge_frame first = {.opcode = WSLAY_TEXT_FRAME,
                                         .fin = true,
                                         .payload = chunk,
                                         .size = 1,
                                         .claimed_size = CLAIMED_BYTES};
        edge_conn_send_frame(c, &first, now_us);
    }
    for (int i = 0; i < BURST && !edge_conn_is_blocked(c); i++) {
        if (!edge_conn_send_raw(c, chunk, sizeof(chunk), now_us))
            return;
        e->stats->odd_bytes += sizeof(chunk);
    }
    e->stats->odd_sent++;
}

static void fragment(struct edge_odd *odd, struct edge *e, struct edge_conn *c, uint64_t now_us)
{
    for (int i = 0; i < BURST && !edge_conn_is_blocked(c); i++) {
        const struct edge_frame frame = {.opcode = odd->step++ == 0 ? WSLAY_TEXT_FRAME
                                                                    : WSLAY_CONTINUATION_FRAME,
                                         .payload = " ",
                                         .size = odd->step % 2};
        if (!edge_conn_send_frame(c, &frame, now_us))
            return;
        e->stats->odd_bytes += frame.size;
    }
    e->stats->odd_sent++;
}

static void trickle(struct edge_odd *odd, struct edge *e, struct edge_conn *c, uint64_t now_us)
{
    static const char byte = ' ';
    if (odd->step++ == 0) {
        const struct edge_frame first = {.opcode = WSLAY_TEXT_FRAME,
                                         .fin = true,
                                         .payload = "{",
                                         .size = 1,
                                         .claimed_size = 60000};
        edge_conn_send_frame(c, &first, now_us);
    } else {
        edge_conn_send_raw(c, &byte, 1, now_us);
    }
    e->stats->odd_bytes++;
}

static void ask_unread(struct edge *e, struct edge_conn *c, uint64_t now_us)
{
    for (int i = 0; i < BURST && !edge_conn_is_blocked(c); i++) {
        char id[EDGE_ID_SIZE];
        struct edge_author a = edge_author(e, now_us);
        edge_tell_begin(e, id);
        edge_message_node_query(e->scratch, &a, id);
        if (!edge_conn_send(c, e->scratch->at, e->scratch->size, now_us))
            return;
        e->stats->odd_sent++;
    }
}

#define NEXT_OF(list, step) (&(list)[(step) % (sizeof(list) / sizeof((list)[0]))])

static void act(struct edge_odd *odd, struct edge *e, struct edge_conn *c, uint64_t now_us)
{
    switch (odd->kind) {
    case EDGE_ODD_SLOW_READER:
        ask_unread(e, c, now_us);
        break;
    case EDGE_ODD_SLOW_WRITER:
        trickle(odd, e, c, now_us);
        break;
    case EDGE_ODD_OVERSIZED:
        oversize(odd, e, c, now_us);
        break;
    case EDGE_ODD_ENDLESS_FRAGMENTS:
        fragment(odd, e, c, now_us);
        break;
    case EDGE_ODD_GARBAGE:
        inject(e, c, WSLAY_TEXT_FRAME, "this is no JSON at all {{{\n", 27, now_us);
        break;
    case EDGE_ODD_DEEP_NESTING:
        inject_nesting(e, c, now_us);
        break;
    case EDGE_ODD_TRUNCATED_JSON:
    case EDGE_ODD_INVALID_UTF8:
    case EDGE_ODD_NUL_NAME:
    case EDGE_ODD_BINARY:
        inject_message(e, c, odd->kind, now_us);
        break;
    case EDGE_ODD_UNKNOWN_KIND:
        ask(odd, e, NEXT_OF(unknown_kinds, odd->step++), now_us);
        break;
    case EDGE_ODD_FOREIGN_RESOURCE:
        ask(odd, e, NEXT_OF(foreign_resources, odd->step++), now_us);
        break;
    case EDGE_ODD_PATH_TRICKS:
        ask(odd, e, NEXT_OF(path_tricks, odd->step++), now_us);
        break;
    case EDGE_ODD_HALF_OPEN:
        odd->is_silent = true;
        break;
    default:
        break;
    }
}

/* Those that press the wire do it ten times as often as those that try one trick after another. */
static uint64_t period(const struct edge_odd *odd)
{
    bool presses = odd->kind == EDGE_ODD_OVERSIZED || odd->kind == EDGE_ODD_ENDLESS_FRAGMENTS ||
                   odd->kind == EDGE_ODD_SLOW_READER;
    return presses ? odd->period_us / 10 : odd->period_us;
}

uint64_t edge_odd_tick(struct edge_odd *odd, struct edge *e, struct edge_conn *c, uint64_t now_us)
{
    if (odd->kind == EDGE_ODD_NONE)
        return EDGE_NEVER;
    if (odd->kind == EDGE_ODD_SLOW_HANDSHAKE) {
        if (odd->due_us == EDGE_NEVER || now_us >= odd->due_us) {
            edge_conn_trickle(c);
            odd->due_us = now_us + odd->period_us;
        }
        return odd->due_us;
    }
    if (now_us >= odd->due_us) {
        act(odd, e, c, now_us);
        odd->due_us = now_us + period(odd);
    }
    return odd->due_us;
}
