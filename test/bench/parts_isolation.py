"""Nobody can hold up another: what the others feel when a few make trouble, against the same others when all is quiet.

Lease latency is what the edges see (from the write to the answer), lease age what the API server sees."""

import time

LATITUDE_MS = 50        # p99 may be so much above the quiet one
GRACE_S = 40            # a node whose lease is older turns NotReady


class Others:
    """The nodes that do nothing wrong."""

    def __init__(self, bench, lab, hub, devapi):
        size = bench.size
        self.devapi, self.n = devapi, size.others
        self.fleet = lab.fleet(hub, size.others, "--connect-rate", size.connect_rate, "--source-addresses", "16",
                               *size.others_flags, name="others")
        self.fleet.wait_ready(90)
        time.sleep(size.others_settle_s)

    def reset(self):
        self.fleet.command("reset")
        code, _ = self.devapi.call("POST", "/devapi/leases/reset", {})
        assert code == 200

    def felt(self):
        """(latency histogram of their renewals, the oldest that a lease of theirs has been, in seconds)"""
        # A window may be shorter than the time between two renewals of a small fleet.
        report = self.fleet.wait_for("they have renewed",
                                     lambda r: r["kinds"]["lease_update"]["latency"]["count"] > 0, 15)
        nodes = self.devapi.get("/devapi/leases")["nodes"]
        ages = [lease["max_age_ms"] for node, lease in nodes.items() if node.startswith("others-")]
        assert len(ages) == self.n, f"{len(ages)} leases of {self.n}"
        updates = report["kinds"]["lease_update"]
        assert updates["never_answered"] == 0, updates
        return updates["latency"], max(ages) / 1e3


def isolation(bench):
    size, table = bench.size, bench.table
    table.section(f"Isolation: leases of the other {size.others:,} nodes")
    with bench.lab() as lab:
        devapi = lab.devapi()
        hub = lab.hub(devapi)
        others = Others(bench, lab, hub, devapi)
        bench.say("quiet")
        others.reset()
        bench.sleep(size.isolation_s)
        quiet = others.felt()
        report(table, "quiet", quiet, None)
        for name, make in (("event writes stalled 10 s, 50 nodes flood events", stalled_events),
                           ("one node patches as fast as it can", one_flood),
                           (f"{size.crowd} nodes join at once, {size.crowds} times", crowds)):
            bench.say(name)
            report(table, name, make(bench, lab, hub, devapi, others), quiet)
            devapi.faults(stall={})
        others.reset()
        bench.sleep(size.isolation_s)
        report(table, "quiet again", others.felt(), quiet)
        others.fleet.stop()


def report(table, name, felt, quiet):
    latency, age = felt
    limit = quiet[0]["p99_ms"] + LATITUDE_MS if quiet else None
    table.add(f"{name}: latency p50", latency["p50_ms"], "ms", note=f"{latency['count']:,} renewals")
    table.add(f"{name}: latency p99", latency["p99_ms"], "ms", limit)
    table.add(f"{name}: oldest lease", age, "s", GRACE_S if quiet else None)


def stalled_events(bench, lab, hub, devapi, others):
    """The flood runs before; the window begins once the lane is full of stalled writes."""
    size = bench.size
    flood = lab.fleet(hub, size.flooders, "--event-rate", "20", name="flood")
    flood.wait_connected()
    flood.wait_for("events flow", lambda r: r["kinds"]["event"]["sent"] > 5 * size.flooders)
    devapi.faults(stall={"event": "10s"})
    lab.wait("event writes are stalled", lambda: devapi.stats()["kinds"]["event"]["stalled"] >= 16)
    others.reset()
    bench.sleep(size.isolation_s)
    felt = others.felt()
    assert devapi.stats()["kinds"]["event"]["stalled"] > 0, "the stall did not last"
    devapi.faults(stall={})
    flood.stop()
    return felt


def one_flood(bench, lab, hub, devapi, others):
    flood = lab.fleet(hub, 1, "--flood", "1", "--flood-kind", "nodepatch", name="one")
    flood.wait_connected()
    lab.wait("the flood is held back", lambda: hub.metrics().get("isthmus_paused_sessions") > 0)
    others.reset()
    bench.sleep(bench.size.isolation_s)
    felt = others.felt()
    flood.stop()
    return felt


def crowds(bench, lab, hub, devapi, others):
    """Their certificates are made before; the windows are from the dials until the last Node is registered."""
    size = bench.size
    fleets = [lab.fleet(hub, size.crowd, "--start-stopped", "--source-addresses", "16", name=f"crowd{i}")
              for i in range(size.crowds)]
    for fleet in fleets:
        fleet.wait_for("it listens to commands", lambda r: True)
    others.reset()
    for fleet in fleets:
        fleet.command("start")
        fleet.wait_for("all are registered", lambda r: r["nodes"]["ever_registered"] == size.crowd, 60)
    felt = others.felt()
    for fleet in fleets:
        joined = fleet.stop()
        assert joined["connections"]["dials"] == size.crowd, "some had to dial twice"
    return felt
