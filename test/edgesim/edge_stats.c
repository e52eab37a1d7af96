/* See edge_stats.h. */
#include "test/edgesim/edge_stats.h"

static const struct {
    const char *name;
    bool expects_answer;
} kinds[] = {
#define X(id, name, answered) [EDGE_KIND_##id] = {name, answered},
    EDGE_KINDS_X(X)
#undef X
};

const char *edge_kind_name(enum edge_kind kind)
{
    return kinds[kind].name;
}

bool edge_kind_expects_answer(enum edge_kind kind)
{
    return kinds[kind].expects_answer;
}

const char *edge_dial_failure_name(enum edge_dial_failure failure)
{
    static const char *const names[] = {
#define X(id, name) [EDGE_DIAL_##id] = name,
        EDGE_DIAL_FAILURES_X(X)
#undef X
    };
    return names[failure];
}

const char *edge_end_name(enum edge_end end)
{
    static const char *const names[] = {
#define X(id, name) [EDGE_END_##id] = name,
        EDGE_ENDS_X(X)
#undef X
    };
    return names[end];
}
