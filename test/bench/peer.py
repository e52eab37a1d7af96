"""CloudCore and Isthmus side by side: the same load from edgesim, on the same kube-apiserver, in one run.

    make bench-peer            or: test/bench/peer.sh [--nodes N] [--only HUB] [--into FILE] [--json FILE]

One after the other each hub takes in the same fleet, serves it, gets queries, patches, pods and events that
the API server is slow to store, and is restarted. Both columns are printed with their ratio. CPU is that of
the hub's process; the time a number took says little on a machine that also runs the load and the API server.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "test" / "e2e"), str(ROOT / "test")]

# pylint: disable=wrong-import-position
from lab.processes import program  # noqa: E402
from lab.programs import Fleet  # noqa: E402
from stack.api import Watch  # noqa: E402
from stack.cluster import Cluster, ready  # noqa: E402
from stack.hub import CloudCore, Isthmus, prepare  # noqa: E402
from stack.pki import Authority  # noqa: E402
from stack.processes import wait_until  # noqa: E402
from stack.replicas import Replicas  # noqa: E402
from stack.slow import SlowEvents  # noqa: E402

LOAD_NODES = 50
QUERY_RATE = 10        # a second and node
PATCH_INTERVAL = "250ms"
WINDOW_SECONDS = 20
STALL_SECONDS = 8
STALL_WINDOW_SECONDS = 45
READY_SECONDS = 240
RESTART_SECONDS = 300
# An edge that lost a renewal repeats it after 60 s; until then it may still turn NotReady.
NOT_READY_SECONDS = 70
TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    """What a process has used between two moments."""

    def __init__(self, process):
        self.process = process
        self.cpu, self.at = self._cpu(), time.monotonic()

    def _cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def seconds(self):
        return self._cpu() - self.cpu

    def rate(self):
        """Seconds of CPU a second."""
        return self.seconds() / (time.monotonic() - self.at)


def say(text):
    print(f"peer: {text}", file=sys.stderr, flush=True)


class Side:
    """One sort of hub and what is found out about it: rows of {name: value}. make(NAME) makes one."""

    def __init__(self, make, cluster, authority, folder, nodes):
        self.make, self.cluster, self.authority, self.folder, self.nodes = make, cluster, authority, folder, nodes
        self.hub = make("a")
        self.rows = {}
        self.steady = 0.0
        self.base = None

    def measure(self):
        self.hub.start()
        time.sleep(5)
        self.rows["memory idle, MB"] = idle = self._memory()
        self.rows["threads"] = self._threads()
        with self._fleet("base", self.nodes) as self.base:
            self._take_in(idle)
            self._load("query", "node_query", "--query-rate", QUERY_RATE)
            self._load("patch", "nodepatch", "--nodepatch-interval", PATCH_INTERVAL)
            self._pods()
            self._stall()
        # What the stall left behind is no business of the next measurement.
        self.hub.process.kill()
        self._clean()
        self.hub.start()
        self._restart()
        self._clean()
        return self.rows

    def close(self):
        self.hub.process.kill()

    @contextlib.contextmanager
    def _fleet(self, name, nodes, *flags, server=None):
        server = server or self.hub
        # edgesim makes the certificates of its nodes itself.
        server.authority = self.authority
        fleet = Fleet(self.folder, server, nodes, *flags, name=name, prefix=f"{name}-").start()
        try:
            yield fleet
        finally:
            fleet.process.kill()

    def _memory(self):
        return self.hub.process.memory_mib() * 1.048576

    def _threads(self):
        return len(os.listdir(f"/proc/{self.hub.process.pid}/task"))

    def _take_in(self, idle):
        usage = Usage(self.hub.process)
        self.base.wait_ready(READY_SECONDS)
        took, used = time.monotonic() - usage.at, usage.seconds()
        self.rows["all edges Ready after, s"] = took
        time.sleep(10)
        steady = Usage(self.hub.process)
        self.base.command("reset")
        time.sleep(WINDOW_SECONDS)
        self.steady = steady.rate()
        report = self.base.stats()
        leases = report["kinds"]["lease_update"]
        self.rows["CPU to take an edge in, ms"] = 1000 * (used - self.steady * took) / self.nodes
        self.rows["memory for each edge, KB"] = 1000 * (self._memory() - idle) / self.nodes
        self.rows["CPU per lease renewal, us"] = 1e6 * self.steady * WINDOW_SECONDS / leases["answered_once"]
        self._latency("lease renewal", leases)

    def _latency(self, what, kind):
        self.rows[f"{what}, p50 ms"] = kind["latency"].get("p50_ms")
        self.rows[f"{what}, p99 ms"] = kind["latency"].get("p99_ms")

    def _load(self, what, kind, *flags):
        """A second, small fleet asks; what the hub uses beyond what it used without counts."""
        with self._fleet(what, LOAD_NODES, *flags) as fleet:
            fleet.wait_ready(READY_SECONDS)
            fleet.command("reset")
            usage = Usage(self.hub.process)
            time.sleep(WINDOW_SECONDS)
            used = usage.seconds() - self.steady * (time.monotonic() - usage.at)
            found = fleet.stats()["kinds"][kind]
        self.rows[f"CPU per {what}, us"] = 1e6 * used / max(found["answered_once"], 1)
        self._latency(what, found)

    def _pods(self):
        if "downstream" not in self.hub.can:
            return
        admin = self.cluster.admin
        count = min(self.nodes, 200)
        usage = Usage(self.hub.process)
        for number in range(count):
            admin.create("/api/v1/namespaces/default/pods", {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"},
                "spec": {"nodeName": f"base-{number}", "terminationGracePeriodSeconds": 0,
                         "containers": [{"name": "main", "image": "none.invalid/none"}]}})
        self.base.wait_for("pods run", lambda r: r["pods"]["running"] >= count, READY_SECONDS)
        used = usage.seconds() - self.steady * (time.monotonic() - usage.at)
        self.rows["CPU per delivered pod, ms"] = 1000 * used / count
        self.rows["pods delivered and running after, s"] = time.monotonic() - usage.at

    def _stall(self):
        """Events take eight seconds to be stored; nobody else should notice."""
        with SlowEvents(self.cluster, STALL_SECONDS):
            with self._fleet("event", LOAD_NODES, "--event-rate", 5) as fleet:
                fleet.wait_connected(60)
                time.sleep(10)
                self.base.command("reset")
                time.sleep(STALL_WINDOW_SECONDS)
                leases = self.base.stats()["kinds"]["lease_update"]
        self._latency("lease renewal while events stall", leases)
        sent = max(leases["sent"], 1)
        self.rows["lease renewals answered while events stall, %"] = 100 * leases["answered_once"] / sent

    def _restart(self):
        """Two of them behind HAProxy; one is stopped as its supervisor stops it, and started again."""
        pair = Replicas([self.hub, self.make("b")], str(self.folder), str(self.folder / "logs"))
        pair.hubs[1].start()
        pair.proxy.start()
        watch = Watch(self.cluster.admin, "/api/v1/nodes")
        try:
            with self._fleet("pair", self.nodes, server=pair.proxy) as fleet:
                fleet.wait_ready(READY_SECONDS)
                began = time.monotonic()
                self.hub.process.stop(RESTART_SECONDS)
                self.hub.start()
                fleet.wait_for("all are served", lambda r: r["nodes"]["served"] == self.nodes, RESTART_SECONDS)
                self.rows["restart of one of two: all served after, s"] = time.monotonic() - began
                time.sleep(NOT_READY_SECONDS)
        finally:
            watch.stop()
            pair.proxy.stop()
            pair.hubs[1].process.kill()
        lost = {node["metadata"]["name"] for when, _, node in list(watch.events) if when > began
                and node["metadata"]["name"].startswith("pair-") and ready(node) == "Unknown"}
        self.rows["restart of one of two: nodes NotReady"] = len(lost)

    def _clean(self):
        admin = self.cluster.admin
        for path in ("/api/v1/namespaces/default/pods?gracePeriodSeconds=0", "/api/v1/nodes",
                     "/api/v1/namespaces/default/events",
                     "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"):
            admin.request("DELETE", path, timeout=120)
        wait_until("nodes are gone", lambda: not admin.get("/api/v1/nodes?limit=1")["items"], 60)


def table(sides):
    """The rows of both, the ratio last."""
    first, second = sides
    lines = [f"| {'':48} | {first:>10} | {second:>10} | {'ratio':>7} |", "|---|---:|---:|---:|"]
    for name, one in sides[first].items():
        other = sides[second].get(name)
        ratio = f"{one / other:7.1f}" if one and other and not name.endswith("%") else ""
        lines.append(f"| {name:48} | {_number(one):>10} | {_number(other):>10} | {ratio:>7} |")
    return "\n".join(lines)


def _number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def replace(document, text):
    """Puts the text between the marks of the document."""
    begin, end = "<!-- peer:begin -->\n", "<!-- peer:end -->"
    old = document.read_text()
    head, rest = old.split(begin)
    document.write_text(head + begin + text + end + rest.split(end, 1)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", required=True)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--into", type=pathlib.Path, help="a document; what stands between its marks is replaced")
    parser.add_argument("--only", choices=["cloudcore", "isthmus"])
    args = parser.parse_args()

    folder = pathlib.Path(tempfile.mkdtemp(prefix="isthmus-peer-"))
    logs = folder / "logs"
    logs.mkdir()
    cluster = Cluster(args.peers, str(folder), str(logs))
    authority = Authority(str(folder / "edge-pki"), "peer-edges")
    sides = {}
    try:
        cluster.start()
        prepare(cluster, str(ROOT), "plain")
        hubs = {"cloudcore": lambda which: CloudCore(args.peers, cluster, authority, str(logs), f"cloudcore-{which}"),
                "isthmus": lambda which: Isthmus(program("isthmus"), cluster, authority, str(logs), f"hub-{which}")}
        for name, make in hubs.items():
            if args.only in (None, name):
                say(f"measuring {name}")
                side = Side(make, cluster, authority, folder, args.nodes)
                try:
                    sides[name] = side.measure()
                finally:
                    side.close()
        if len(sides) == 2:
            text = f"{args.nodes} edges; {os.cpu_count()} cores for hub, edges and API server.\n\n{table(sides)}\n"
            print(text)
            if args.into:
                replace(args.into, text)
        else:
            print(json.dumps(sides, indent=1))
        if args.json:
            args.json.write_text(json.dumps({"nodes": args.nodes, **sides}, indent=1))
    except BaseException:
        say(f"logs are in {logs}")
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
