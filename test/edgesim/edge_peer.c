/* See edge_peer.h. */
#include "test/edgesim/edge_peer.h"

/* 127.0.1.1 and on; .0 and .255 are left out only for readers of packet dumps. */
#define FIRST_SOURCE 0x7f000101u

static void on_timer(uv_timer_t *timer)
{
    struct edge_peer *p = timer->data;
    p->armed_us = EDGE_NEVER;
    edge_peer_step(p);
}

static void arm(struct edge_peer *p, uint64_t due_us, uint64_t now_us)
{
    if (due_us == p->armed_us)
        return;
    p->armed_us = due_us;
    if (due_us == EDGE_NEVER) {
        uv_timer_stop(&p->timer);
        return;
    }
    uint64_t wait_ms = due_us > now_us ? (due_us - now_us + 999) / 1000 : 0;
    uv_update_time(p->timer.loop);
    uv_timer_start(&p->timer, on_timer, wait_ms, 0);
}

static uint64_t tick(struct edge_peer *p, uint64_t now_us)
{
    uint64_t due_us = edge_tick(&p->edge, now_us);
    while (p->has_failed_dial) {
        p->has_failed_dial = false;
        edge_dial_failed(&p->edge, now_us);
        due_us = edge_tick(&p->edge, now_us);
    }
    return due_us;
}

void edge_peer_step(struct edge_peer *p)
{
    uint64_t now_us = edge_clock_us();
    if (p->is_paused)
        return;
    uint64_t due_us = tick(p, now_us);
    if (p->conn && p->odd.kind != EDGE_ODD_NONE) {
        uint64_t odd_us = edge_odd_tick(&p->odd, &p->edge, p->conn, now_us);
        due_us = odd_us < due_us ? odd_us : due_us;
    }
    arm(p, due_us, now_us);
}

/* --- what an edge does to the world --- */

static uint32_t source_of(const struct edge_peer *p)
{
    uint64_t addresses = p->fleet->options->source_addresses;
    return addresses ? FIRST_SOURCE + (uint32_t)(p->edge.index % addresses) : 0;
}

static void io_dial(struct edge *e, uint64_t now_us)
{
    struct edge_peer *p = e->peer;
    struct edge_fleet *f = p->fleet;
    enum edge_dial_failure why;
    struct edge_dial dial = {.target = &f->targets[p->next_target++ % f->target_count],
                             .node = e->name,
                             .cert_node = e->name,
                             .certs = &f->certs,
                             .cert = &p->cert,
                             .tries = e->link.tries,
                             .source = source_of(p)};
    edge_odd_dial(&p->odd, &dial, &f->foreign);
    p->conn = edge_conn_dial(&f->net, &dial, p, &why);
    e->dialed_us = now_us;
    if (!p->conn) {
        f->stats.dial_failures[why]++;
        p->has_failed_dial = true;
    }
}

static void io_hang_up(struct edge *e, enum edge_end why)
{
    struct edge_peer *p = e->peer;
    if (!p->conn)
        return;
    if (why == EDGE_END_WRITE_ERROR && edge_conn_is_stuck(p->conn, edge_clock_us()))
        why = EDGE_END_WRITE_STUCK;
    if (e->link.state == EDGE_LINK_UP)
        p->fleet->stats.ends[why]++;
    edge_conn_close(p->conn, why != EDGE_END_DROPPED);
    p->conn = NULL;
}

static bool io_write(struct edge *e, const char *text, size_t size, uint64_t now_us)
{
    struct edge_peer *p = e->peer;
    if (p->odd.is_silent)
        return true;
    return p->conn && edge_conn_send(p->conn, text, size, now_us);
}

static bool io_is_blocked(const struct edge *e)
{
    const struct edge_peer *p = e->peer;
    return p->conn && edge_conn_is_blocked(p->conn);
}

static const struct edge_io peer_io = {io_dial, io_hang_up, io_write, io_is_blocked};

/* --- what the connection tells --- */

static void on_open(void *owner)
{
    struct edge_peer *p = owner;
    uint64_t now_us = edge_clock_us();
    edge_histogram_add(&p->fleet->stats.dial_time, now_us - p->edge.dialed_us);
    edge_odd_opened(&p->odd, p->conn, now_us);
    edge_connected(&p->edge, now_us);
    edge_peer_step(p);
}

static void on_failed(void *owner, enum edge_dial_failure why)
{
    struct edge_peer *p = owner;
    p->conn = NULL;
    p->fleet->stats.dial_failures[why]++;
    edge_dial_failed(&p->edge, edge_clock_us());
    edge_peer_step(p);
}

static void check_all_served(struct edge_fleet *f, uint64_t now_us)
{
    if (f->stats.all_served_us == 0 && f->stats.served_nodes == f->count)
        f->stats.all_served_us = now_us - f->begun_us;
}

static void on_message(void *owner, const char *text, size_t size)
{
    struct edge_peer *p = owner;
    uint64_t now_us = edge_clock_us();
    if (p->odd.is_silent && p->odd.kind == EDGE_ODD_HALF_OPEN)
        return;
    edge_message(&p->edge, text, size, now_us);
    check_all_served(p->fleet, now_us);
    edge_peer_step(p);
}

static void on_drained(void *owner)
{
    edge_peer_step(owner);
}

static void on_end(void *owner, enum edge_end why)
{
    struct edge_peer *p = owner;
    p->conn = NULL;
    p->odd.is_silent = false;
    p->fleet->stats.ends[why]++;
    edge_closed(&p->edge, edge_clock_us());
    edge_peer_step(p);
}

const struct edge_conn_events edge_peer_events = {on_open, on_failed, on_message, on_drained,
                                                  on_end};

/* --- life --- */

int edge_peer_init(struct edge_peer *p, struct edge_fleet *f, const char *name, uint32_t index)
{
    p->fleet = f;
    p->armed_us = EDGE_NEVER;
    p->next_target = index;
    uv_timer_init(&f->loop, &p->timer);
    p->timer.data = p;
    int rc = edge_init(&p->edge, &f->config, &peer_io, &f->stats, &f->scratch, name, index);
    p->edge.peer = p;
    return rc;
}

void edge_peer_fini(struct edge_peer *p)
{
    if (p->edge.name)
        edge_fini(&p->edge);
    edge_cert_free(&p->cert);
}

void edge_peer_drop(struct edge_peer *p)
{
    uint64_t now_us = edge_clock_us();
    if (!edge_is_connected(&p->edge))
        return;
    io_hang_up(&p->edge, EDGE_END_DROPPED);
    edge_closed(&p->edge, now_us);
    edge_peer_step(p);
}

void edge_peer_pause(struct edge_peer *p, bool paused)
{
    p->is_paused = paused;
    if (p->conn)
        edge_conn_set_reading(p->conn, !paused);
    if (paused) {
        p->armed_us = EDGE_NEVER;
        uv_timer_stop(&p->timer);
    } else {
        edge_peer_step(p);
    }
}

void edge_peer_stop(struct edge_peer *p)
{
    p->armed_us = EDGE_NEVER;
    uv_timer_stop(&p->timer);
    edge_stop(&p->edge, edge_clock_us());
}
