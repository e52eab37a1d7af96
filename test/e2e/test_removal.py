"""A node that is deleted loses its session; a node on the deny list is kept out until it is taken off."""

import os
import signal

import pytest

from stack.cluster import ready
from stack.edge import Edge
from stack.processes import EDGE_SECONDS, wait_until

pytestmark = [pytest.mark.needs("impersonation"), pytest.mark.disturbs]

NODE = "removal-1"


@pytest.fixture(scope="module")
def deny_list(work_dir):
    path = os.path.join(work_dir, "deny")
    write(path, "")
    return path


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


@pytest.fixture(scope="module", name="hub")
def strict_hub(make_hub, deny_list):
    started = make_hub("hub-strict", "--deny-nodes", deny_list)
    try:
        yield started.start()
    finally:
        started.process.kill()


@pytest.fixture(scope="module")
def edge(hub, peers, authority, work_dir, log_dir):
    edge = Edge(peers, NODE, authority, hub, work_dir, log_dir)
    yield edge
    edge.process.kill()


def test_denied_node_is_kept_out_until_it_is_taken_off(edge, hub, deny_list, cluster):
    write(deny_list, f"{NODE}\n")
    hub.process.signal(signal.SIGHUP)
    edge.start()
    wait_until("the node is refused", lambda: "reason=denied" in hub.process.log_tail(50), 30)
    assert cluster.node(NODE) is None
    write(deny_list, "")
    hub.process.signal(signal.SIGHUP)
    # Five tries 5 s apart, then 30 s of sleep.
    wait_until("the node is Ready", lambda: ready(cluster.node(NODE)) == "True", EDGE_SECONDS)


def test_deleted_node_loses_its_session(edge, hub, cluster):
    wait_until("the node has a session", lambda: hub.edges_connected() == 1, EDGE_SECONDS)
    cluster.admin.delete(f"/api/v1/nodes/{NODE}")
    wait_until("the session ends", lambda: "reason=node_deleted" in hub.process.log_tail(50), 30)
