"""Ill-behaved peers: each is refused or closed with a counted reason, and costs the good ones nothing."""

import socket

import pytest

from lab.edge import Edge
from lab.processes import wait_until
from test_fleet import assert_answered, assert_no_loss

GOOD, BAD = 100, 5

# How short its patience with a single peer is made for these tests.
PATIENCE_FLAGS = ("--handshake-timeout", "2s", "--message-timeout", "2s", "--write-timeout", "2s",
                  "--keepalive-timeout", "6s")

CLOSED, REFUSED, LOCAL = ("isthmus_edge_closed_total", "isthmus_edge_refused_total",
                          "isthmus_messages_local_total")

# What counts it: one of these reasons, and no others but the ordinary ones.
PEERS = {
    "slow-handshake": (REFUSED, {"handshake_timeout"}),
    "slow-reader": (CLOSED, {"slow_reader"}),
    "slow-writer": (CLOSED, {"message_timeout"}),
    "oversized": (CLOSED, {"message_too_large"}),
    "endless-fragments": (CLOSED, {"message_timeout", "protocol", "message_too_large"}),
    "garbage": (CLOSED, {"invalid_message"}),
    "truncated-json": (CLOSED, {"invalid_message"}),
    "deep-nesting": (CLOSED, {"invalid_message"}),
    "invalid-utf8": (CLOSED, {"invalid_message", "protocol"}),
    "nul-name": (CLOSED, {"invalid_message"}),
    "binary": (CLOSED, {"invalid_message"}),
    "wrong-node-id": (REFUSED, {"wrong_node"}),
    "no-cert": (REFUSED, {"tls"}),
    "foreign-ca": (REFUSED, {"tls"}),
    "half-open": (CLOSED, {"keepalive_timeout"}),
    "unknown-kind": (LOCAL, {"unknown_kind", "bad_operation", "bad_resource", "reserved_source",
                             "empty", "twin", "metaserver"}),
    "foreign-resource": (LOCAL, {"foreign_node"}),
    "path-tricks": (LOCAL, {"bad_resource", "bad_name", "foreign_node"}),
}
# Its socket takes some megabytes before the hub notices that nobody reads.
LOADS = {"slow-reader": ("--big-messages", "300000")}
# Who only talks nonsense is not heard, but not closed either.
STAY = {"unknown-kind", "foreign-resource", "path-tricks"}


@pytest.mark.sanitize
@pytest.mark.parametrize("peer", PEERS)
def test_an_ill_behaved_peer_is_dealt_with_alone(lab, devapi, peer):
    hub = lab.hub(devapi, *PATIENCE_FLAGS)
    good = lab.fleet(hub, GOOD, "--time-scale", "5", "--query-rate", "2", name="good")
    good.wait_ready()
    scale = "1" if peer == "half-open" else "10"
    flags = LOADS.get(peer, ())
    bad = lab.fleet(hub, BAD, "--misbehave", peer, "--time-scale", scale, *flags, name="bad")
    family, reasons = PEERS[peer]

    def counted():
        found = hub.metrics().by(family, "reason")
        return sum(found.get(r, 0) for r in reasons) >= BAD
    wait_until(f"{peer} is counted as {sorted(reasons)}", counted, 30)
    before = good.stats()["kinds"]
    good.wait_for("each renews its lease and is answered, while they go on",
                  lambda r: all(r["kinds"][k]["answered_once"] >= before[k]["answered_once"] + GOOD
                                for k in ("lease_update", "node_query")))
    metrics = hub.metrics()
    bad_report, report = bad.stop(), good.stop()

    closed = set(metrics.by(CLOSED, "reason"))
    assert closed <= ({"peer"} | (reasons if family == CLOSED else set())), closed
    if peer in STAY:
        assert_no_loss(bad_report)
        assert bad_report["misbehaviour"]["sent"] > 0
    if family == REFUSED:
        assert bad_report["connections"]["connects"] == 0

    assert_answered(report)
    assert_no_loss(report)
    assert report["nodes"]["ready"] == GOOD
    hub.settle()


def test_peers_that_say_nothing_keep_nobody_out(lab, devapi):
    """They hold their handshakes open for a minute; fewer than --handshakes-inflight are no hindrance."""
    hub = lab.hub(devapi, "--handshake-timeout", "60s", "--accept-wait", "60s")
    silent = [socket.create_connection(("127.0.0.1", hub.port), 10) for _ in range(200)]
    try:
        with Edge(hub, lab.authority, "late") as edge:
            edge.query_lease()
        wait_until("all of them are in progress",
                   lambda: hub.metrics().get("isthmus_handshakes_in_progress") == len(silent))
    finally:
        for one in silent:
            one.close()


def test_foreign_things_are_not_touched(lab, devapi):
    """Neither by what the hub refuses itself nor by what it leaves to the API server."""
    hub = lab.hub(devapi)
    devapi.create("/api/v1/namespaces", {"metadata": {"name": "kubeedge"}})
    devapi.create("/api/v1/namespaces/kubeedge/secrets", {"metadata": {"name": "casecret"},
                                                          "data": {"k": "c2VjcmV0LXZhbHVl"}})
    bad = lab.fleet(hub, 3, "--misbehave", "foreign-resource", "--time-scale", "20", name="bad")
    bad.wait_for("every trick has been tried",
                 lambda r: r["misbehaviour"]["sent"] >= 3 * 13 * 2, 60)
    bad.stop()
    hub.settle(60)
    written = devapi.get("/devapi/writes")["users"]
    for i in range(3):
        writes = written.get(f"system:node:bad-{i}", {})
        assert set(writes) <= {"node", "node/status", "lease", "event"}, writes
        assert writes.get("node", {}).get("create", 0) <= 1
    leases = devapi.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")["items"]
    assert all(x["spec"]["holderIdentity"] == x["metadata"]["name"] for x in leases)
    for node in devapi.get("/api/v1/nodes")["items"]:
        assert node["status"].get("phase") != "Terminated"


def test_path_tricks_reach_no_other_path(lab, devapi):
    hub = lab.hub(devapi)
    bad = lab.fleet(hub, 3, "--misbehave", "path-tricks", "--time-scale", "20", name="bad")
    bad.wait_for("every trick has been tried", lambda r: r["misbehaviour"]["sent"] >= 3 * 16 * 2, 60)
    bad.stop()
    hub.settle(60)
    asked = {(r["kind"], r["verb"]) for r in devapi.stats()["requests"]}
    # What the hub asks for itself.
    asked = {(k, v) for k, v in asked if v not in ("list", "watch") and not k.endswith("objectsync")}
    assert asked <= {("node", "get"), ("node", "create"), ("node", "patch"), ("lease", "get"),
                     ("lease", "create"), ("lease", "update"), ("configmap", "get"),
                     ("event", "create")}, asked
