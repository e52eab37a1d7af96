"""The hub goes away and comes back; the edges find it again by themselves."""

import time

import pytest

from stack.cluster import ready
from stack.edge import NODES
from stack.processes import EDGE_SECONDS, wait_until

pytestmark = [pytest.mark.long, pytest.mark.disturbs]


def test_edges_come_back_after_a_crash(nodes, fleet, hub, cluster):
    before = {name: edge.process.pid for name, edge in fleet.edges.items()}
    hub.process.kill()
    hub.start()
    came_up = time.monotonic()
    # Up to 15 s until an edge writes and notices, then it sleeps 30 s.
    wait_until("all edges are connected", lambda: hub.edges_connected() == len(NODES), 75)
    took = time.monotonic() - came_up
    leases = {name: cluster.lease(name)["spec"]["renewTime"] for name in NODES}
    for name in NODES:
        # A renewal that was lost waits out its 60 s before it is repeated.
        wait_until(f"{name} renews its lease",
                   lambda: cluster.lease(name)["spec"]["renewTime"] != leases[name], 75)
        wait_until(f"{name} is Ready", lambda: ready(cluster.node(name)) == "True", EDGE_SECONDS)
        fleet.edges[name].process.check()
        assert fleet.edges[name].process.pid == before[name]
    print(f"all edges were back after {took:.0f} s")
