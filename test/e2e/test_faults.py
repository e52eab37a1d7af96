"""Something breaks while things change; afterwards each edge has exactly what the API server has, and has
seen no older version of anything after a newer one."""

import signal
import time

import pytest

from stack.cluster import ready
from stack.edge import Edge
from stack.pods import (CONFIGMAPS, PODS, annotate, configmap, containers, out_of_order, pod, wait_running,
                        wait_same)
from stack.processes import EDGE_SECONDS, wait_until

pytestmark = [pytest.mark.needs("downstream"), pytest.mark.disturbs]

NAMES = ["faults-1", "faults-2"]
KEPT = [f"kept-{name}" for name in NAMES]
API_AWAY_SECONDS = 60


@pytest.fixture(scope="module")
def edges(cluster, hub, peers, authority, work_dir, log_dir):
    """Two nodes with a pod each that lives through everything."""
    started = [Edge(peers, name, authority, hub, work_dir, log_dir).start() for name in NAMES]
    try:
        for name in NAMES:
            wait_until(f"{name} is Ready", lambda: ready(cluster.node(name)) == "True", EDGE_SECONDS)
        cluster.admin.apply(configmap("tides", level="0"))
        for name, node in zip(KEPT, NAMES):
            cluster.admin.apply(pod(name, node, "tides"))
        wait_running(cluster, KEPT)
        yield started
    finally:
        for edge in started:
            edge.process.kill()


@pytest.fixture
def change(cluster, edges, request):
    """change(): something of every sort, at every node; another call does it again, differently."""
    tag = request.node.name.removeprefix("test_").replace("_", "-")[:40]
    rounds = iter(range(1, 100))

    def make():
        number = next(rounds)
        cluster.admin.apply(configmap("tides", level=f"{tag} {number}"))
        for kept, node in zip(KEPT, NAMES):
            annotate(cluster, f"{PODS}/{kept}", seen=f"{tag} {number}")
            annotate(cluster, f"/api/v1/nodes/{node}", seen=f"{tag} {number}")
            cluster.admin.apply(pod(f"{tag}-{number}-{node}", node))
            if number > 1:
                cluster.admin.request("DELETE", f"{PODS}/{tag}-{number - 1}-{node}?gracePeriodSeconds=0")

    yield make
    for item in cluster.admin.get(PODS)["items"]:
        if item["metadata"]["name"].startswith(tag):
            cluster.admin.request("DELETE", f"{PODS}/{item['metadata']['name']}?gracePeriodSeconds=0")


@pytest.fixture
def same(cluster, edges, hub):
    """same(): waits until all is well again."""
    before = containers(cluster, KEPT)

    def check(restarted=()):
        wait_same(cluster, edges, EDGE_SECONDS)
        hub.process.check()
        for edge in edges:
            edge.process.check()
            assert not out_of_order(edge)
        # No container was started anew where the edge lived on.
        lived_on = [name for name, node in zip(KEPT, NAMES) if node not in restarted]
        assert containers(cluster, lived_on) == {name: before[name] for name in lived_on}

    return check


def test_apiserver_away_for_a_minute(cluster, change, same):
    change()
    cluster.apiserver.stop(20)
    time.sleep(API_AWAY_SECONDS)
    cluster.start_apiserver()
    change()
    same()


def test_etcd_stopped(cluster, change, same):
    change()
    cluster.etcd.signal(signal.SIGSTOP)
    time.sleep(15)
    cluster.etcd.signal(signal.SIGCONT)
    wait_until("the API server is well", lambda: cluster.admin.text("GET", "/readyz")[0] == 200, EDGE_SECONDS)
    change()
    same()


def test_watch_expired(cluster, hub, change, same):
    """The hub sleeps while the API server is restarted, whose watch cache then begins after what the hub
    has seen: its watches are answered 410, and it lists again."""
    change()
    position = hub.process.log_size()
    hub.process.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            change()
        cluster.apiserver.stop(20)
        cluster.start_apiserver()
        change()
    finally:
        hub.process.signal(signal.SIGCONT)
    same()
    assert "code=410" in hub.process.log_since(position), "no watch had expired"


def test_hub_killed_in_the_middle_of_deliveries(cluster, hub, edges, change, same):
    change()
    many = [f"burst-{number}" for number in range(30)]
    for number, name in enumerate(many):
        cluster.admin.apply(pod(name, NAMES[number % len(NAMES)], "tides"))
        if number == len(many) // 2:
            hub.process.kill()
            change()
    hub.start()
    wait_running(cluster, many, EDGE_SECONDS)
    same()
    for name in many:
        cluster.admin.delete(f"{PODS}/{name}")
    for name in many:
        wait_until(f"{name} is gone", lambda: cluster.admin.find(f"{PODS}/{name}") is None, EDGE_SECONDS)
    same()


def test_edgecore_killed(cluster, edges, change, same):
    """The other edge lives on. Its pods get time to run: EdgeCore stores a pod anew, for good, when it comes to the
    answer to its own status patch only after the pod's deletion."""
    change()
    edges[0].process.kill()
    for number in (1, 2):
        wait_running(cluster, [f"edgecore-killed-{number}-{NAMES[1]}"])
        if number == 2:
            cluster.admin.delete(f"{CONFIGMAPS}/tides")
        change()
    edges[0].start()
    same(restarted=NAMES[:1])
