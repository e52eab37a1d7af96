/* See edge_report.h. */
#include "test/edgesim/edge_report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* Three decimals: a microsecond. */
static double ms_of(uint64_t us)
{
    return (double)us / 1000;
}

static double seconds_of(uint64_t us)
{
    return round((double)us / 1000) / 1000;
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *histogram_json(const struct edge_histogram *h)
{
    json_t *o = json_object();
    json_object_set_new(o, "count", number(h->count));
    if (h->count == 0)
        return o;
    json_object_set_new(o, "mean_ms",
                        json_real(round(ms_of(h->sum) / (double)h->count * 1000) / 1000));
    json_object_set_new(o, "min_ms", json_real(ms_of(h->min)));
    json_object_set_new(o, "p50_ms", json_real(ms_of(edge_histogram_quantile(h, 0.5))));
    json_object_set_new(o, "p90_ms", json_real(ms_of(edge_histogram_quantile(h, 0.9))));
    json_object_set_new(o, "p99_ms", json_real(ms_of(edge_histogram_quantile(h, 0.99))));
    json_object_set_new(o, "max_ms", json_real(ms_of(h->max)));
    return o;
}

/* --- messages --- */

static uint64_t pending_of(const struct edge_kind_stats *k)
{
    uint64_t known = k->once + k->twice + k->never + k->lost;
    return k->ids > known ? k->ids - known : 0;
}

static void sum_kinds(const struct edge_stats *s, struct edge_kind_stats *sum)
{
    *sum = (struct edge_kind_stats){0};
    for (int i = 0; i < EDGE_KINDS; i++) {
        const struct edge_kind_stats *k = &s->kinds[i];
        sum->sent += k->sent;
        sum->unwritten += k->unwritten;
        sum->ids += k->ids;
        sum->once += k->once;
        sum->twice += k->twice;
        sum->never += k->never;
        sum->lost += k->lost;
        sum->late += k->late;
        sum->errors += k->errors;
        sum->repeated += k->repeated;
        sum->failed_local += k->failed_local;
    }
}

static json_t *kind_json(const struct edge_kind_stats *k, bool expects_answer)
{
    json_t *o = json_object();
    json_object_set_new(o, "sent", number(k->sent));
    json_object_set_new(o, "unwritten", number(k->unwritten));
    if (!expects_answer)
        return o;
    json_object_set_new(o, "ids", number(k->ids));
    json_object_set_new(o, "answered_once", number(k->once));
    json_object_set_new(o, "answered_twice", number(k->twice));
    json_object_set_new(o, "never_answered", number(k->never));
    json_object_set_new(o, "lost_with_link", number(k->lost));
    json_object_set_new(o, "pending", number(pending_of(k)));
    json_object_set_new(o, "answered_late", number(k->late));
    json_object_set_new(o, "errors", number(k->errors));
    json_object_set_new(o, "repeated", number(k->repeated));
    json_object_set_new(o, "failed_locally", number(k->failed_local));
    return o;
}

static json_t *kinds_json(const struct edge_stats *s)
{
    json_t *o = json_object();
    for (int i = 0; i < EDGE_KINDS; i++) {
        bool expects_answer = edge_kind_expects_answer((enum edge_kind)i);
        json_t *kind = kind_json(&s->kinds[i], expects_answer);
        if (expects_answer)
            json_object_set_new(kind, "latency", histogram_json(&s->kinds[i].latency));
        json_object_set_new(o, edge_kind_name((enum edge_kind)i), kind);
    }
    return o;
}

static json_t *totals_json(const struct edge_stats *s)
{
    struct edge_kind_stats sum;
    sum_kinds(s, &sum);
    json_t *o = kind_json(&sum, true);
    json_object_set_new(o, "messages_in", number(s->messages_in));
    json_object_set_new(o, "messages_out", number(s->messages_out));
    json_object_set_new(o, "bytes_in", number(s->bytes_in));
    json_object_set_new(o, "bytes_out", number(s->bytes_out));
    return o;
}

/* --- connections, leases, pushes, oddities --- */

static json_t *connections_json(const struct edge_stats *s)
{
    json_t *o = json_object(), *failures = json_object(), *ends = json_object(),
           *codes = json_object();
    for (int i = 0; i < EDGE_DIAL_FAILURES; i++)
        json_object_set_new(failures, edge_dial_failure_name((enum edge_dial_failure)i),
                            number(s->dial_failures[i]));
    for (int i = 0; i < EDGE_ENDS; i++)
        json_object_set_new(ends, edge_end_name((enum edge_end)i), number(s->ends[i]));
    for (int i = 0; i < 16; i++) {
        char code[16];
        snprintf(code, sizeof(code), "%d", 1000 + i);
        if (s->close_codes_1000_1015[i])
            json_object_set_new(codes, code, number(s->close_codes_1000_1015[i]));
    }
    if (s->close_codes_other)
        json_object_set_new(codes, "other", number(s->close_codes_other));
    json_object_set_new(o, "dials", number(s->dials));
    json_object_set_new(o, "connects", number(s->connects));
    json_object_set_new(o, "dial_failures", failures);
    json_object_set_new(o, "ends", ends);
    json_object_set_new(o, "close_codes", codes);
    json_object_set_new(o, "tls12", number(s->tls12));
    json_object_set_new(o, "tls13", number(s->tls13));
    json_object_set_new(o, "dial_to_upgrade", histogram_json(&s->dial_time));
    json_object_set_new(o, "upgrade_to_first_answer", histogram_json(&s->served_time));
    json_object_set_new(o, "away", histogram_json(&s->away_time));
    return o;
}

static json_t *lease_json(const struct edge_stats *s)
{
    json_t *o = histogram_json(&s->lease_gap);
    json_object_set_new(o, "too_long", number(s->lease_gaps_too_long));
    return o;
}

static json_t *pushes_json(const struct edge_stats *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "all", number(s->pushes));
    json_object_set_new(o, "pod", number(s->pushes_pod));
    json_object_set_new(o, "node", number(s->pushes_node));
    json_object_set_new(o, "configmap", number(s->pushes_configmap));
    json_object_set_new(o, "secret", number(s->pushes_secret));
    json_object_set_new(o, "other", number(s->pushes_other));
    json_object_set_new(o, "deletes", number(s->push_deletes));
    json_object_set_new(o, "repeats", number(s->push_repeats));
    json_object_set_new(o, "order_violations", number(s->order_violations));
    json_object_set_new(o, "foreign_pods", number(s->foreign_pods));
    return o;
}

static json_t *oddities_json(const struct edge_stats *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "unknown_answers", number(s->unknown_answers));
    json_object_set_new(o, "misdelivered", number(s->misdelivered));
    json_object_set_new(o, "wrong_resource", number(s->wrong_resource));
    json_object_set_new(o, "bad_messages", number(s->bad_messages));
    json_object_set_new(o, "bad_objects", number(s->bad_objects));
    json_object_set_new(o, "viaduct_controls", number(s->viaduct_controls));
    json_object_set_new(o, "outbox_dropped", number(s->outbox_dropped));
    json_object_set_new(o, "events_skipped", number(s->events_skipped));
    json_object_set_new(o, "queries_skipped", number(s->queries_skipped));
    return o;
}

static json_t *nodes_json(const struct edge_fleet *f, const struct edge_sample *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "all", number(f->count));
    json_object_set_new(o, "started", number(f->started));
    json_object_set_new(o, "connected", number(s->connected));
    json_object_set_new(o, "served", number(s->served));
    json_object_set_new(o, "ready", number(s->ready));
    json_object_set_new(o, "ever_served", number(f->stats.served_nodes));
    json_object_set_new(o, "ever_registered", number(f->stats.registered_nodes));
    json_object_set_new(o, "ever_leased", number(f->stats.leased_nodes));
    return o;
}

static json_t *samples_json(const struct edge_fleet *f)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < f->sample_count; i++) {
        const struct edge_sample *s = &f->samples[i];
        json_t *o = json_object();
        json_object_set_new(o, "t_s", json_real(seconds_of((uint64_t)s->t_ms * 1000)));
        json_object_set_new(o, "connected", number(s->connected));
        json_object_set_new(o, "served", number(s->served));
        json_object_set_new(o, "ready", number(s->ready));
        json_object_set_new(o, "messages_in", number(s->messages_in));
        json_object_set_new(o, "messages_out", number(s->messages_out));
        json_array_append_new(list, o);
    }
    return list;
}

json_t *edge_report_json(struct edge_fleet *f, bool with_samples)
{
    const struct edge_stats *s = &f->stats;
    uint64_t now_us = f->is_stopping ? f->ended_us : edge_clock_us();
    struct edge_sample sample = f->is_stopping ? f->last : edge_fleet_sample(f);
    json_t *o = json_object(), *pods = json_object(), *odd = json_object();
    json_object_set_new(o, "elapsed_s", json_real(seconds_of(now_us - f->begun_us)));
    json_object_set_new(o, "time_scale", json_real(f->options->time_scale));
    json_object_set_new(o, "nodes", nodes_json(f, &sample));
    json_object_set_new(o, "all_dialed_s",
                        f->ramped_us ? json_real(seconds_of(f->ramped_us - f->begun_us))
                                     : json_null());
    json_object_set_new(o, "all_served_s",
                        s->all_served_us ? json_real(seconds_of(s->all_served_us)) : json_null());
    json_object_set_new(o, "messages", totals_json(s));
    json_object_set_new(o, "kinds", kinds_json(s));
    json_object_set_new(o, "connections", connections_json(s));
    json_object_set_new(o, "lease_gap", lease_json(s));
    json_object_set_new(o, "pushes", pushes_json(s));
    json_object_set_new(pods, "seen", number(s->pods_seen));
    json_object_set_new(pods, "running", number(s->pods_running));
    json_object_set_new(pods, "gone", number(s->pods_gone));
    json_object_set_new(o, "pods", pods);
    json_object_set_new(o, "oddities", oddities_json(s));
    json_object_set_new(odd, "name", json_string(f->options->misbehave));
    json_object_set_new(odd, "sent", number(s->odd_sent));
    json_object_set_new(odd, "bytes", number(s->odd_bytes));
    json_object_set_new(o, "misbehaviour", odd);
    if (with_samples)
        json_object_set_new(o, "samples", samples_json(f));
    return o;
}

json_t *edge_report_nodes(struct edge_fleet *f, uint32_t limit)
{
    json_t *list = json_array();
    uint64_t now_us = edge_clock_us();
    for (uint32_t i = 0; i < f->count && (limit == 0 || i < limit); i++) {
        const struct edge_peer *p = &f->peers[i];
        const struct edge *e = &p->edge;
        json_t *o = json_object();
        json_object_set_new(o, "name", json_string(e->name));
        json_object_set_new(o, "link", json_string(edge_link_state_name(e->link.state)));
        json_object_set_new(o, "served", json_boolean(edge_is_connected(e) && e->is_served));
        json_object_set_new(o, "ready", json_boolean(edge_is_ready(e, now_us)));
        json_object_set_new(o, "paused", json_boolean(p->is_paused));
        json_object_set_new(o, "lease_age_s",
                            e->renewed_us ? json_real(seconds_of(now_us - e->renewed_us))
                                          : json_null());
        json_object_set_new(o, "pending", number(e->requests.pending));
        json_array_append_new(list, o);
    }
    return list;
}

int edge_report_write(struct edge_fleet *f)
{
    const char *path = f->options->json;
    if (!path)
        return 0;
    json_t *o = edge_report_json(f, true);
    size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
    int rc = path[0] == '-' && path[1] == '\0' ? json_dumpf(o, stdout, flags)
                                               : json_dump_file(o, path, flags);
    json_decref(o);
    return rc == 0 ? 0 : -EIO;
}

/* --- for people --- */

void edge_report_line(struct edge_fleet *f, const struct edge_sample *s)
{
    const struct edge_histogram *lease = &f->stats.kinds[EDGE_KIND_LEASE_UPDATE].latency;
    struct edge_kind_stats sum;
    sum_kinds(&f->stats, &sum);
    uint32_t passed_ms = s->t_ms - f->last.t_ms ? s->t_ms - f->last.t_ms : 1;
    printf("%s%5u s  connected %u/%u  ready %u  up %" PRIu64 "/s  down %" PRIu64
           "/s  renewal p50 %.1f p99 %.1f ms  "
           "longest gap %.1f s  never %" PRIu64 "  twice %" PRIu64 "  lost %" PRIu64 "%s",
           isatty(1) ? "\r\033[K" : "", s->t_ms / 1000, s->connected, f->count, s->ready,
           (s->messages_out - f->last.messages_out) * 1000 / passed_ms,
           (s->messages_in - f->last.messages_in) * 1000 / passed_ms,
           ms_of(edge_histogram_quantile(lease, 0.5)), ms_of(edge_histogram_quantile(lease, 0.99)),
           (double)f->stats.lease_gap.max / 1e6, sum.never, sum.twice, sum.lost,
           isatty(1) ? "" : "\n");
    fflush(stdout);
}

static void print_kind(const struct edge_stats *s, enum edge_kind kind)
{
    const struct edge_kind_stats *k = &s->kinds[kind];
    if (k->sent == 0)
        return;
    printf("  %-16s sent %-9" PRIu64, edge_kind_name(kind), k->sent);
    if (edge_kind_expects_answer(kind))
        printf(" once %-9" PRIu64 " twice %-4" PRIu64 " never %-5" PRIu64 " lost %-5" PRIu64
               " errors %-6" PRIu64 " p50 %.2f p99 %.2f max %.1f ms",
               k->once, k->twice, k->never, k->lost, k->errors,
               ms_of(edge_histogram_quantile(&k->latency, 0.5)),
               ms_of(edge_histogram_quantile(&k->latency, 0.99)), ms_of(k->latency.max));
    printf("\n");
}

void edge_report_summary(struct edge_fleet *f)
{
    const struct edge_stats *s = &f->stats;
    printf("%sconnected %u of %u, ready %u; dials %" PRIu64 ", connections %" PRIu64
           "; all served after %s%.3f s\n",
           f->options->progress && isatty(1) ? "\n" : "", f->last.connected, f->count,
           f->last.ready, s->dials, s->connects, s->all_served_us ? "" : "never ",
           seconds_of(s->all_served_us));
    for (int i = 0; i < EDGE_KINDS; i++)
        print_kind(s, (enum edge_kind)i);
    printf("  lease gaps: p50 %.1f p99 %.1f max %.1f s, too long %" PRIu64 "; pushes %" PRIu64
           ", out of order %" PRIu64 "\n",
           ms_of(edge_histogram_quantile(&s->lease_gap, 0.5)) / 1000,
           ms_of(edge_histogram_quantile(&s->lease_gap, 0.99)) / 1000,
           ms_of(s->lease_gap.max) / 1000, s->lease_gaps_too_long, s->pushes, s->order_violations);
}

static bool expect(bool holds, const char *what, uint64_t value)
{
    if (!holds)
        fprintf(stderr, "edgesim: expectation failed: %s: %" PRIu64 "\n", what, value);
    return holds;
}

/* Ends that were not ours. */
static uint64_t foreign_ends(const struct edge_stats *s)
{
    uint64_t ends = 0;
    for (int i = 0; i < EDGE_ENDS; i++)
        ends += s->ends[i];
    return ends - s->ends[EDGE_END_STOPPED] - s->ends[EDGE_END_DROPPED];
}

bool edge_report_expectations(struct edge_fleet *f)
{
    const struct edge_options *o = f->options;
    const struct edge_stats *s = &f->stats;
    struct edge_kind_stats sum;
    bool ok = true;
    sum_kinds(s, &sum);
    if (o->expect_all_answered) {
        ok &= expect(sum.never == 0, "questions never answered", sum.never);
        ok &= expect(sum.twice == 0, "questions answered twice", sum.twice);
        ok &= expect(s->misdelivered + s->unknown_answers == 0, "answers to nobody's question",
                     s->misdelivered + s->unknown_answers);
        ok &= expect(s->order_violations == 0, "pushes out of order", s->order_violations);
    }
    if (o->expect_all_ready)
        ok &= expect(f->last.ready == f->count, "edges ready at the end", f->last.ready);
    if (o->expect_no_loss)
        ok &= expect(foreign_ends(s) == 0, "connections that ended", foreign_ends(s));
    if (o->expect_refused)
        ok &= expect(s->connects == 0, "connections", s->connects);
    if (o->expect_lease_gap_ms)
        ok &= expect(s->lease_gap.max <= o->expect_lease_gap_ms * 1000, "longest lease gap in ms",
                     s->lease_gap.max / 1000);
    return ok;
}
