"""CPU seconds of the hub for one of something: an edge taken in, a query, a patch. Beside them what they stand on: the bare TLS
handshake, the API client alone, the scanner."""

import json
import re
import statistics
import subprocess

from bench.probes import Span
from lab.processes import Process, free_port, program, wait_until


def taking_in(bench):
    """The same fleet (the same certificates and sources, keepalives only, all at once) dials the hub and a bare accept
    loop in turn; what registration of a Node adds is measured on its own."""
    table, size = bench.table, bench.size
    n = size.arrivals
    table.section(f"CPU of the hub to take one edge in (median of {size.rounds} rounds of {n:,})")
    with bench.lab() as lab:
        hub = lab.hub(lab.devapi())
        pid, bare, taken, whole = hub.process.pid, [], [], []
        for i in range(size.rounds):
            bench.say(f"round {i + 1} of {size.rounds}")
            bare.append(bare_accept(lab, n, f"bare{i}"))
            taken.append(hub_accept(lab, hub, n, f"in{i}"))
        for i in range(2):
            whole.append(registration(lab, hub, n, f"reg{i}"))
        idle = bench.idle(pid)
    hub_us, bare_us = (statistics.median(x) * 1e6 for x in (taken, bare))
    table.add("TLS, upgrade and session", hub_us / 1e3, "ms", 0.6,
              f"{min(taken) * 1e3:.3f} to {max(taken) * 1e3:.3f}; with the Node's GET that each connect causes")
    table.add("bare OpenSSL accept loop", bare_us / 1e3, "ms", note=f"{min(bare) * 1e3:.3f} to {max(bare) * 1e3:.3f}")
    ratio = statistics.median(t / b for t, b in zip(taken, bare))
    table.add("ratio to the bare loop", ratio, "x", 1.3)
    table.add("until its Node is registered, too", statistics.median(cpu for cpu, _ in whole) * 1e3, "ms",
              note=f"{whole[0][1]:.1f} API requests for each edge")
    table.add("the hub without edges", idle * 1e3, "ms/s")


def dial_flags():
    return ("--start-stopped", "--source-addresses", "16", "--log-level", "error")


def bare_accept(lab, n, name):
    authority = lab.authority
    certificate, key = authority.server()
    port = free_port()
    server = Process(f"{name}-accept", [program("bench/bench_accept"), port, authority.ca, certificate, key, n],
                     lab.folder)
    try:
        fleet = lab.fleet(Address(port, authority), n, "--kubelet=false", *dial_flags(), name=name)
        fleet.wait_for("it listens to commands", lambda r: True)
        fleet.command("start")
        code = server.wait(60)
        assert code == 0, server.log_text()
        result = json.loads(server.log_text())
        fleet.stop()
    finally:
        server.kill()
    assert result["failed"] == 0, result
    return result["cpu_us_each"] / 1e6


class Address:
    """What a fleet wants to know of a hub."""

    def __init__(self, port, authority):
        self.port, self.authority = port, authority


def hub_accept(lab, hub, n, name):
    """Until all are in and what they caused has ended; the cost of their leaving is not in it."""
    fleet = lab.fleet(hub, n, "--kubelet=false", *dial_flags(), name=name)
    fleet.wait_for("it listens to commands", lambda r: True)
    span = Span(hub.process.pid)
    fleet.command("start")
    fleet.wait_connected(60)
    hub.settle()
    span.end()
    report = fleet.stop()
    assert not any(report["connections"]["dial_failures"].values()), report["connections"]
    wait_until("they are gone", lambda: hub.connections() == 0, 30)
    return span.cpu / n


def registration(lab, hub, n, name):
    """(CPU seconds, API requests) for each edge, until each has its Node."""
    def requests():
        return hub.metrics().sum("isthmus_api_requests_total")
    fleet = lab.fleet(hub, n, *dial_flags(), name=name)
    fleet.wait_for("it listens to commands", lambda r: True)
    span, before = Span(hub.process.pid), requests()
    fleet.command("start")
    fleet.wait_for("all are registered", lambda r: r["nodes"]["ever_registered"] == n, 60)
    hub.settle()
    span.end()
    asked = requests() - before
    fleet.stop()
    wait_until("they are gone", lambda: hub.connections() == 0, 30)
    return span.cpu / n, asked / n


def messages(bench):
    """A steady load of one kind, counted by the hub; what the same edges cost without it is taken off."""
    table, size = bench.table, bench.size
    table.section(f"CPU of the hub for each message ({size.askers} edges, {size.ask_rate}/s each; "
                  f"median of {size.ask_rounds} rounds of {size.ask_s} s)")
    with bench.lab() as lab:
        hub = lab.hub(lab.devapi())
        idle = cost(bench, lab, hub, "idle", None)
        loads = (
            ("node query", "node_query", 40, ("--query-rate", size.ask_rate)),
            ("nodepatch", "nodepatch", 60, ("--nodepatch-interval", f"{1000 // size.ask_rate}ms")),
            ("nodepatch of 8 KB", "nodepatch", None,
             ("--nodepatch-interval", f"{1000 // size.ask_rate}ms", "--big-messages", "50")),
            ("event", "event_insert", None, ("--event-rate", size.ask_rate)),
        )
        for what, kind, limit, flags in loads:
            bench.say(what)
            rounds = cost(bench, lab, hub, kind.replace("_", "-"), kind, *flags)
            each = [(cpu - idle[0][0] * seconds) / count * 1e6 for cpu, count, seconds in rounds]
            rate = statistics.median(count / seconds for _, count, seconds in rounds)
            table.add(what, statistics.median(each), "us", limit,
                      f"{min(each):.1f} to {max(each):.1f}, at {rate:,.0f}/s")


def finished(hub, kind):
    return hub.metrics().sum("isthmus_messages_finished_total", kind=kind)


def cost(bench, lab, hub, name, kind, *flags):
    """[(CPU seconds, messages, seconds)] of each round; without a kind [(CPU seconds a second,)]."""
    size = bench.size
    fleet = lab.fleet(hub, size.askers, *flags, name=f"{name}-{len(lab.started)}", prefix="asker-")
    fleet.wait_ready(60)
    pid = hub.process.pid
    if not kind:
        result = [(bench.idle(pid),)]
    else:
        result = []
        for _ in range(size.ask_rounds):
            begun = finished(hub, kind)
            span = Span(pid)
            bench.sleep(size.ask_s)
            span.end()
            result.append((span.cpu, finished(hub, kind) - begun, span.seconds))
        assert all(count > 0 for _, count, _ in result), f"no {kind} ended"
    report = fleet.stop()
    never = sum(k.get("never_answered", 0) for k in report["kinds"].values())
    assert never == 0, f"{never} messages were never answered"
    wait_until("they are gone", lambda: hub.connections() == 0, 30)
    return result


def run_part(name, *arguments):
    done = subprocess.run([program(f"bench/{name}"), *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout


def parts(bench):
    """What the figures above are made of, alone."""
    table, size = bench.table, bench.size
    table.section("Parts alone")
    for line in run_part("bench_envelope", size.scans).splitlines():
        found = re.match(r"(\S+)\s+(\d+) bytes .* ([\d.]+) us\s+jansson\s+([\d.]+) us\s+ratio\s+([\d.]+)", line)
        what, octets, scanner, jansson, ratio = found.groups()
        table.add(f"scan, route and unescape a {what} of {octets} bytes", float(scanner), "us",
                  note=f"{ratio} times cheaper than jansson's parse ({jansson} us)")
    for line in run_part("bench_apiclient", size.api_requests).splitlines()[1:]:
        in_flight, cpu, failed = re.search(r"in_flight=(\d+) cpu_us=([\d.]+) .*failed=(\d+)", line).groups()
        assert failed == "0", line
        table.add(f"API client: PATCH of 2 KB, answer of 2 KB, {in_flight} in flight", float(cpu), "us")
