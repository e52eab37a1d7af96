"""Who did what, as the API server's audit log has it: what an edge asks for is asked under its own
name, and the hub's own name does little else than watch."""

import pytest

from stack.edge import NODES

pytestmark = pytest.mark.needs("impersonation")

# What the hub does under its own name; everything else it does for a node.
OWN = {
    ("patch", "nodes"),
    *((verb, kind) for verb in ("get", "list", "watch")
      for kind in ("nodes", "pods", "configmaps", "secrets", "objectsyncs", "clusterobjectsyncs")),
    *((verb, kind) for verb in ("create", "update", "patch", "delete")
      for kind in ("objectsyncs", "clusterobjectsyncs")),
}


@pytest.fixture(scope="module")
def requests(nodes, cluster, hub, pytestconfig):
    """The hub's requests that were about something, with who they were made for."""
    if pytestconfig.getoption("--impersonation") == "off":
        pytest.skip("the hub acts under its own name")
    # test_rights.py asks under the same account, but is no hub.
    made = [entry for entry in cluster.audit() if entry["user"]["username"] == hub.user
            and entry.get("userAgent", "").startswith("isthmus/") and "objectRef" in entry]
    assert made
    return made


def node_of(entry):
    name = entry.get("impersonatedUser", {}).get("username", "")
    return name[len("system:node:"):] if name.startswith("system:node:") else None


def target(entry):
    return entry["objectRef"]["resource"], entry["objectRef"].get("subresource")


@pytest.mark.parametrize("name", NODES)
def test_edge_acts_under_its_own_name(requests, name):
    done = {(entry["verb"], *target(entry)) for entry in requests if node_of(entry) == name}
    assert {("create", "nodes", None), ("patch", "nodes", "status"),
            ("create", "leases", None), ("get", "leases", None)} <= done
    groups = {tuple(entry["impersonatedUser"]["groups"]) for entry in requests if node_of(entry) == name}
    assert all("system:nodes" in each for each in groups)


def test_nodes_touch_only_their_own(requests):
    for entry in requests:
        node = node_of(entry)
        if node and entry["objectRef"]["resource"] in ("nodes", "leases"):
            # A create carries its name in the body only.
            assert entry["objectRef"].get("name", node) == node


def test_hub_does_little_under_its_own_name(requests):
    strange = {(entry["verb"], *target(entry)) for entry in requests
               if node_of(entry) is None and (entry["verb"], entry["objectRef"]["resource"]) not in OWN}
    assert not strange


def test_nothing_was_forbidden(requests):
    refused = [(entry["verb"], entry["requestURI"], node_of(entry), entry["responseStatus"].get("message"))
               for entry in requests if entry["responseStatus"]["code"] == 403]
    assert not refused
