"""Resident memory of the hub: empty, and for each idle edge. And the storm, which is about memory as much as about time."""

import time

from bench.probes import KIB, cpu_s, rss_bytes, settled_rss, slab_bytes, threads


def delivery_state(bench, step, without):
    """What the way down costs for each edge, before any pods: the same edges, with it."""
    size = bench.size
    with bench.lab() as lab:
        hub = lab.hub(lab.devapi("--history", "64"))
        pid = hub.process.pid
        empty = settled_rss(pid, size.still_s)
        bench.say(f"{step} edges connect, with the way down")
        fleet = lab.fleet(hub, step, "--connect-rate", size.connect_rate, "--source-addresses", "16", *size.idle_flags)
        fleet.wait_for(f"{step} are Ready", lambda r: r["nodes"]["ready"] >= step, 180)
        each = (settled_rss(pid, size.still_s) - empty) / step
        bench.table.add(f"delivery state of each, {step:,} connected", (each - without) / KIB, "KiB",
                        note="no pods; the difference that --downstream makes")
        fleet.stop()


def idle_edges(bench):
    """One fleet that grows. An idle edge is a registered one: it renews its lease and sends its keepalives. The way down
    has a line of its own."""
    table, size = bench.table, bench.size
    table.section("Memory of the hub, user space (VmRSS)")
    middle = {}
    with bench.lab() as lab:
        hub = lab.hub(lab.devapi("--history", "64"), "--downstream=false")
        pid = hub.process.pid
        empty, slab, steps = settled_rss(pid, size.still_s), slab_bytes(), size.memory
        table.add("before the first edge", empty / 2**20, "MiB", 16, f"{threads(pid)} threads")
        fleet = lab.fleet(hub, steps[-1], "--start-stopped", "--connect-rate", size.connect_rate,
                          "--source-addresses", "16", *size.idle_flags)
        fleet.wait_for("it listens to commands", lambda r: True)
        for step, before in zip(steps, (0, *steps)):
            bench.say(f"{step} edges connect")
            fleet.command(f"start {step - before}")
            fleet.wait_for(f"{step} are Ready", lambda r, n=step: r["nodes"]["ready"] >= n, 180)
            each = (settled_rss(pid, size.still_s) - empty) / step
            table.add(f"each idle edge, {step:,} connected", each / KIB, "KiB", 16)
            middle[step] = each
        held = fleet.stats()["nodes"]["connected"]
        table.add("in the kernel, for each end of a connection", (slab_bytes() - slab) / held / 2 / KIB, "KiB",
                  note="slab of the whole machine, divided by the two ends, both here")
        table.add("CPU for each idle edge", bench.idle(pid) * 1e6 / held, "us/s",
                  note="a lease every 10 s, a keepalive every 15 s, a status every 5 min")
        lost = sum(v for k, v in fleet.stop()["connections"]["ends"].items() if k != "stopped")
        table.add("connections that broke meanwhile", lost, "", 0)
    step = steps[len(steps) // 2]
    delivery_state(bench, step, middle[step])


def storm(bench):
    """All edges dial in the same instant. First they are new (and register their Nodes), then the hub is killed and
    started again: they notice at their next write, sleep 30 s, and come back in lockstep, as EdgeCore does."""
    table, n = bench.table, bench.size.storm
    table.section(f"Reconnect storm, {n:,} edges at once (they share the CPUs with the hub)")
    with bench.lab() as lab:
        devapi = lab.devapi("--history", "64")
        hub = lab.hub(devapi)
        fleet = lab.fleet(hub, n, "--start-stopped", "--source-addresses", "16", *bench.size.storm_flags)
        fleet.wait_for("it listens to commands", lambda r: True)
        bench.say(f"{n} new edges dial at once")
        before = cpu_s(hub.process.pid)
        fleet.command("start")
        report = fleet.wait_for(f"{n} are served", lambda r: r["nodes"]["ever_served"] == n, 150)
        describe(table, "new edges", report, report["all_served_s"] - report["all_dialed_s"])
        table.add("new edges: the hub's CPU for each", (cpu_s(hub.process.pid) - before) / n * 1e3, "ms",
                  note="with what was registered by then")
        table.add("resident memory at that moment", rss_bytes(hub.process.pid) / 2**20, "MiB")
        fleet.wait_for(f"{n} are Ready", lambda r: r["nodes"]["ready"] == n, 120)
        table.add("resident memory when all is quiet", settled_rss(hub.process.pid, bench.size.still_s) / 2**20, "MiB")

        bench.say("the hub is killed and started again")
        fleet.command("reset")
        hub.process.kill()
        hub.start()
        begun = time.monotonic()
        fleet.wait_for("all have noticed, and are connected again", lambda r: (
            r["connections"]["connects"] >= n and r["nodes"]["connected"] == n), 150)
        table.add("after a restart: all are connected after", time.monotonic() - begun, "s",
                  note="up to 10 s until the loss is noticed and 30 s of sleep are the edges' own")
        report = fleet.wait_for("all are served again", lambda r: r["nodes"]["served"] == n, 150)
        describe(table, "after a restart", report, time.monotonic() - begun,
                 "a renewal that was lost ends by the edge's own timeout of 60 s; then it asks again")


def describe(table, who, report, seconds, note=""):
    connections = report["connections"]
    table.add(f"{who}: all are served after", seconds, "s", note=note)
    table.add(f"{who}: handshakes that timed out at 30 s", connections["dial_failures"]["timeout"], "", 0)
    others = sum(v for k, v in connections["dial_failures"].items() if k != "timeout")
    table.add(f"{who}: other failed dials", others, "",
              note="turned away before TLS after --accept-wait, or nobody listened yet; they dial again")
    handshake = connections["dial_to_upgrade"]
    table.add(f"{who}: dial to upgrade, p50", handshake["p50_ms"] / 1e3, "s")
    table.add(f"{who}: dial to upgrade, longest", handshake["max_ms"] / 1e3, "s", 30)
