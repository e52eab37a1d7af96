"""A node registers through the hub, turns Ready and stays Ready."""

import time

import pytest

from stack.cluster import GRACE_SECONDS
from stack.edge import NODES
from stack.observe import first_ready, lost_events, not_ready, renewal_gaps
from stack.processes import wait_until

RENEWAL_SECONDS = 10


@pytest.mark.parametrize("name", NODES)
def test_node_is_ready(nodes, name):
    conditions = {c["type"]: c for c in nodes[name]["status"]["conditions"]}
    assert conditions["Ready"]["status"] == "True"
    assert conditions["Ready"]["reason"] == "EdgeReady"
    assert "kubeedge" in nodes[name]["status"]["nodeInfo"]["kubeletVersion"]
    assert nodes[name]["status"]["addresses"]


@pytest.mark.parametrize("name", NODES)
def test_hub_sets_the_labels_a_node_may_not(nodes, name):
    labels = nodes[name]["metadata"]["labels"]
    assert labels["node-role.kubernetes.io/edge"] == ""
    assert labels["node-role.kubernetes.io/agent"] == ""
    assert labels["kubernetes.io/hostname"] == name


def test_labels_of_the_node_itself(nodes):
    labels = nodes["edge-2"]["metadata"]["labels"]
    assert labels["site"] == "harbour"
    assert labels["example.com/rack"] == "7"
    assert "site" not in nodes["edge-1"]["metadata"]["labels"]


@pytest.mark.parametrize("name", NODES)
def test_annotation_names_the_hub(nodes, cluster, name):
    wait_until("annotation cloudcore",
               lambda: cluster.node(name)["metadata"]["annotations"].get("cloudcore"), 10)


@pytest.mark.parametrize("name", NODES)
def test_lease_belongs_to_the_node(nodes, cluster, name):
    lease = cluster.lease(name)
    assert lease["spec"]["holderIdentity"] == name
    assert lease["spec"]["leaseDurationSeconds"] == 40
    owners = [(o["kind"], o["name"], o["uid"]) for o in lease["metadata"]["ownerReferences"]]
    assert owners == [("Node", name, nodes[name]["metadata"]["uid"])]


@pytest.mark.parametrize("name", NODES)
def test_status_patches_arrive(nodes, cluster, name):
    def patched():
        return [entry for entry in cluster.audit()
                if entry["verb"] == "patch" and entry.get("objectRef", {}).get("resource") == "nodes"
                and entry["objectRef"].get("subresource") == "status"
                and entry["objectRef"]["name"] == name
                and entry["responseStatus"]["code"] == 200]
    wait_until(f"a status patch of {name}", patched, 20)


def test_events_arrive(nodes, watches):
    def reported():
        return [event for _, _, event in list(watches["events"].events)
                if event["source"].get("component") == "kubelet" and event["source"].get("host") == "edge-3"]
    wait_until("an Event of edge-3", reported, 30)


def test_hub_counts_its_edges(nodes, hub):
    wait_until("the hub counts three edges", lambda: hub.edges_connected() == len(NODES), 10)


def test_stays_ready(nodes, watches, fleet, hub, pytestconfig):
    """Not once anything but Ready, no lease older than it may be, nobody restarted."""
    stay = pytestconfig.getoption("--stay")
    began = time.monotonic()
    while time.monotonic() - began < stay:
        hub.process.check()
        for edge in fleet.edges.values():
            edge.process.check()
        time.sleep(1)

    for name in NODES:
        lost = not_ready(watches["nodes"], name, first_ready(watches["nodes"], name))
        assert not lost, f"{name} was {lost}"
        gaps = renewal_gaps(watches["leases"], name, began, slack=RENEWAL_SECONDS)
        assert len(gaps) >= stay / RENEWAL_SECONDS - 2, f"{name}: only {len(gaps)} renewals in {stay} s"
        assert max(gaps) < GRACE_SECONDS / 2, f"{name}: renewals {max(gaps):.1f} s apart"
    assert not lost_events(watches["events"], NODES, began)
