"""Twelve nodes behind HAProxy and three hubs: planned moves lose no node its Ready condition and no pod
its containers, while pods change."""

import os
import threading
import time

import pytest

from stack.cluster import GRACE_SECONDS, ready
from stack.edge import Edge
from stack.observe import lost_events, not_ready, oldest_lease, renewals
from stack.pods import PODS, annotate, configmap, containers, out_of_order, pod, wait_running, wait_same
from stack.processes import EDGE_SECONDS, wait_until
from stack.replicas import Redis, Replicas

DRAIN_SECONDS = 240
# Two beats to see it, a release with a round of its own for each third of the fleet at most, 30 s away.
BALANCED_SECONDS = 240

# Beats as they are; but twelve nodes are few, and a test has no five minutes between two moves of a node.
BALANCE = ["--release-max-fraction", "0.34", "--move-cooldown", "30s", "--max-refusals", "0"]

NAMES = [f"fleet-{number:02d}" for number in range(1, 13)]


@pytest.fixture(scope="module", name="redis")
def redis_server(work_dir, log_dir):
    server = Redis(work_dir, log_dir)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module", name="replicas")
def three_hubs(make_hub, redis, work_dir, log_dir):
    flags = ["--redis", redis.url, *BALANCE]
    hubs = Replicas([make_hub(f"hub-{letter}", *flags) for letter in "abc"], work_dir, log_dir)
    try:
        yield hubs.start()
    finally:
        hubs.stop()


@pytest.fixture(scope="module")
def twelve(cluster, watches, replicas, peers, authority, work_dir, log_dir):
    """The EdgeCores, all Ready and with their leases."""
    edges = {}
    try:
        for name in NAMES:
            edges[name] = Edge(peers, name, authority, replicas, work_dir, log_dir).start()
        for name in NAMES:
            wait_until(f"{name} is Ready", lambda: ready(cluster.node(name)) == "True", EDGE_SECONDS)
        for name in NAMES:
            wait_until(f"{name} has a lease", lambda: cluster.lease(name), EDGE_SECONDS)
        yield edges
    finally:
        for edge in edges.values():
            edge.process.signal(15)
        for edge in edges.values():
            edge.process.wait(5)


@pytest.fixture(scope="module")
def cargo(twelve, cluster):
    """A pod on each node, all with the same ConfigMap."""
    cluster.admin.apply(configmap("cargo", crates="0"))
    names = [f"cargo-{node}" for node in NAMES]
    for name, node in zip(names, NAMES):
        cluster.admin.apply(pod(name, node, "cargo"))
    wait_running(cluster, names)
    return names


def cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_all_are_ready_and_spread(twelve, replicas):
    assert replicas.edges_connected() == len(NAMES)
    assert min(replicas.shares()) >= 1
    before = sum(cpu_seconds(edge.process) for edge in twelve.values())
    began = time.monotonic()
    time.sleep(10)
    used = (sum(cpu_seconds(edge.process) for edge in twelve.values()) - before) / (time.monotonic() - began)
    memory = [edge.process.memory_mib() for edge in twelve.values()]
    print(f"twelve EdgeCores: {sum(memory):.0f} MiB, {100 * used:.1f} % of a core")


def test_rolling_restart_and_rebalance(twelve, cargo, cluster, replicas, watches):
    """One replica after another is stopped and started again, as an upgrade does it; the last one has
    nothing then, and the others let go of what is its share."""
    before = containers(cluster, cargo)
    began = time.monotonic()
    for hub in replicas.hubs:
        changing = threading.Thread(target=change, args=(cluster, cargo, hub.process.name))
        changing.start()
        assert hub.stop(DRAIN_SECONDS) == 0, f"{hub.process.name}: the stop was not orderly"
        changing.join()
        hub.start()
        wait_until("all edges are connected", lambda: replicas.edges_connected() == len(NAMES), 90, 0.5)
        print(f"{hub.process.name} again after {time.monotonic() - began:.0f} s, shares {replicas.shares()}")
    restarted = time.monotonic()
    shares = replicas.shares()
    assert max(shares) - min(shares) > 2, f"nothing to balance in {shares}"
    wait_until("every replica has its share",
               lambda: replicas.shares() == [len(NAMES) // 3] * 3, BALANCED_SECONDS, 0.5)
    print(f"even {time.monotonic() - restarted:.0f} s later")
    settle(twelve, watches, time.monotonic())
    stayed_ready(twelve, watches, began)
    assert replicas.shares() == [len(NAMES) // 3] * 3

    wait_same(cluster, twelve.values(), EDGE_SECONDS)
    assert containers(cluster, cargo) == before
    assert not [wrong for edge in twelve.values() for wrong in out_of_order(edge)]


def change(cluster, names, tag):
    """Once now, and once while the nodes of a hub are on their way to another."""
    for number in range(2):
        cluster.admin.apply(configmap("cargo", crates=f"{tag} {number}"))
        for name, node in zip(names, NAMES):
            annotate(cluster, f"{PODS}/{name}", seen=f"{tag} {number}")
            cluster.admin.apply(pod(f"{tag}-{number}-{node}", node, "cargo"))
            if number > 0:
                cluster.admin.delete(f"{PODS}/{tag}-{number - 1}-{node}")
        time.sleep(15)


def settle(edges, watches, since):
    """Waits until every node has renewed its lease itself: a lost renewal waits out its 60 s first."""
    for name in edges:
        wait_until(f"{name} renews its lease",
                   lambda: len([1 for when, _ in renewals(watches["leases"], name) if when > since]) >= 2, 90, 0.5)


def stayed_ready(edges, watches, since):
    """No node was lost between then and now, nor anywhere near it, and none was restarted."""
    now = time.monotonic()
    ages = {name: oldest_lease(watches["leases"], name, since, now) for name in edges}
    print("oldest leases: " + ", ".join(f"{age:.1f}" for age in sorted(ages.values())) + " s")
    lost = {name: states for name in edges if (states := not_ready(watches["nodes"], name, since))}
    assert not lost
    assert not lost_events(watches["events"], edges, since)
    assert max(ages.values()) < GRACE_SECONDS
    for edge in edges.values():
        edge.process.check()
