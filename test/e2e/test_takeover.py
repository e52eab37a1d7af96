"""The same cluster and the same edges are served by CloudCore, then by Isthmus, then by CloudCore again. Each
finds certificates, token and records where the other left them; the pods go on."""

import base64

import pytest

from stack.cluster import NAMESPACE, ready
from stack.edge import Edge
from stack.hub import CloudCore, Isthmus
from stack.pods import (PODS, SYNCS, annotate, configmap, containers, out_of_order, pod, wait_running, wait_same)
from stack.processes import EDGE_SECONDS, free_port, wait_until

pytestmark = [pytest.mark.cloudcore, pytest.mark.needs("join"), pytest.mark.disturbs]

NODES = ["moved-1", "moved-2"]
KEPT = [f"stays-{name}" for name in NODES]
# Up to 15 s until the edge notices, 30 s of sleep, some tries 5 s apart.
RETURN_SECONDS = 100


@pytest.fixture(scope="module")
def ports():
    return free_port(), free_port()


@pytest.fixture(scope="module")
def one_after_another(pytestconfig, cluster, peers, log_dir, ports):
    """serve(NAME) ends the hub that serves the edges and starts the one with that name, at the same address."""
    program = pytestconfig.getoption("--hub-program")
    hubs = {
        "cloudcore": CloudCore(peers, cluster, None, log_dir, "takeover-cloudcore", ports),
        # Nobody else is there to take the edges meanwhile.
        "isthmus": Isthmus(program, cluster, None, log_dir, "takeover-isthmus", ports,
                           ["--bridge-seconds", "0", "--drain-timeout", "10s"]),
    }
    serving = []

    def serve(name):
        for hub in serving:
            hub.process.stop(20)
        serving[:] = [hubs[name].start()]
        return hubs[name]

    yield serve
    for hub in serving:
        hub.process.kill()


@pytest.fixture(scope="module")
def edges(cluster, one_after_another, peers, work_dir, log_dir):
    """Two nodes that have joined CloudCore, with a pod each."""
    original = one_after_another("cloudcore")
    token = wait_until("CloudCore has made a token", lambda: cluster.admin.find(
        f"/api/v1/namespaces/{NAMESPACE}/secrets/tokensecret"), 20)
    token = base64.b64decode(token["data"]["tokendata"]).decode()
    started = [Edge(peers, name, None, original, work_dir, log_dir, ["--token", token]).start() for name in NODES]
    try:
        for name in NODES:
            wait_until(f"{name} is Ready", lambda: ready(cluster.node(name)) == "True", EDGE_SECONDS)
            wait_until(f"{name} has a lease", lambda: cluster.lease(name), EDGE_SECONDS)
        cluster.admin.apply(configmap("cargo", crates="1"))
        for name, node in zip(KEPT, NODES):
            cluster.admin.apply(pod(name, node, "cargo"))
        wait_running(cluster, KEPT)
        yield started
    finally:
        for edge in started:
            edge.process.kill()


def records(cluster):
    """{object's uid: acknowledged version} of what is on record for our nodes."""
    found = cluster.admin.get(f"{SYNCS}/objectsyncs")["items"]
    return {item["metadata"]["name"].split(".", 1)[1]: item.get("status", {}).get("objectResourceVersion")
            for item in found if item["metadata"]["name"].split(".")[0] in NODES}


def back(hub, cluster):
    """Waits until the edges are connected and have done something that went through."""
    wait_until("the edges are connected", lambda: hub.edges_connected() == len(NODES), RETURN_SECONDS, 0.5)
    renewed = {name: cluster.lease(name)["spec"]["renewTime"] for name in NODES}
    for name in NODES:
        wait_until(f"{name} renews its lease",
                   lambda: cluster.lease(name)["spec"]["renewTime"] != renewed[name], 90, 0.5)


def work(cluster, edges, tag):
    """Changes of every sort come through."""
    cluster.admin.apply(configmap("cargo", crates=tag))
    for name, node in zip(KEPT, NODES):
        annotate(cluster, f"{PODS}/{name}", seen=tag)
        cluster.admin.apply(pod(f"{tag}-{node}", node, "cargo"))
    wait_running(cluster, [f"{tag}-{node}" for node in NODES])
    wait_same(cluster, edges, EDGE_SECONDS)
    for node in NODES:
        cluster.admin.delete(f"{PODS}/{tag}-{node}")
    for node in NODES:
        wait_until("the pod is gone", lambda: cluster.admin.find(f"{PODS}/{tag}-{node}") is None, EDGE_SECONDS)


def test_there_and_back(cluster, edges, one_after_another):
    work(cluster, edges, "first")
    before = containers(cluster, KEPT)
    pids = [edge.process.pid for edge in edges]

    acknowledged = records(cluster)
    positions = [edge.process.log_size() for edge in edges]
    back(one_after_another("isthmus"), cluster)
    wait_same(cluster, edges, EDGE_SECONDS)
    assert containers(cluster, KEPT) == before
    for edge, position, name in zip(edges, positions, KEPT):
        check_resent(cluster, edge, position, name, acknowledged)
    work(cluster, edges, "second")

    back(one_after_another("cloudcore"), cluster)
    work(cluster, edges, "third")
    assert containers(cluster, KEPT) == before
    assert [edge.process.pid for edge in edges] == pids
    assert not [wrong for edge in edges for wrong in out_of_order(edge)]


def check_resent(cluster, edge, position, kept, acknowledged):
    """Isthmus has sent the node nothing that CloudCore had on record as acknowledged, and nothing twice."""
    sent = [push for push in edge.pushes(position) if push[1] != f"null/node/{edge.name}"]
    assert len({resource for _, resource, _ in sent}) == len(sent), sent
    uid = cluster.admin.get(f"{PODS}/{kept}")["metadata"]["uid"]
    for _, resource, version in sent:
        assert resource == f"default/pod/{kept}", f"{resource} was sent again"
        assert version > int(acknowledged[uid]), "a version that was acknowledged was sent again"


def test_nothing_is_left_over(cluster, edges):
    for name in KEPT:
        cluster.admin.delete(f"{PODS}/{name}")
    for name in KEPT:
        wait_until("the pod is gone", lambda: cluster.admin.find(f"{PODS}/{name}") is None, EDGE_SECONDS)
    for edge in edges:
        wait_until("the edge has no pod", lambda: not edge.database("pod"), EDGE_SECONDS)
    cluster.admin.delete("/api/v1/namespaces/default/configmaps/cargo")
    wait_until("there is no record of anything that is gone", lambda: not leftovers(cluster), EDGE_SECONDS)


def leftovers(cluster):
    """Records of our nodes whose object does not exist."""
    alive = {item["metadata"]["uid"] for kind in ("pods", "configmaps", "secrets")
             for item in cluster.admin.get(f"/api/v1/{kind}")["items"]}
    return records(cluster).keys() - alive
