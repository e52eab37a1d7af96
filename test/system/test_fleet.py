"""The main job: a fleet registers, stays Ready, and every message comes to exactly one end."""

import pytest

from lab.processes import is_sanitized
from lab.programs import OWN_KINDS

REGISTRATION = ("--event-rate", "0.5", "--query-rate", "1", "--query-kind", "both",
                "--nodepatch-interval", "5s")


def assert_answered(report, *but):
    """Every question was answered once, and no answer came to nobody's question."""
    for kind, k in report["kinds"].items():
        if "ids" in k and kind not in but:
            assert (k["answered_twice"], k["never_answered"], k["lost_with_link"]) == (0, 0, 0), (kind, k)
    odd = report["oddities"]
    assert (odd["unknown_answers"], odd["misdelivered"], odd["wrong_resource"], odd["bad_messages"],
            odd["bad_objects"]) == (0, 0, 0, 0, 0), odd


def assert_no_loss(report):
    ends = dict(report["connections"]["ends"])
    ends.pop("stopped"), ends.pop("dropped")
    assert not any(ends.values()), ends


@pytest.mark.sanitize
def test_a_fleet_turns_ready_and_every_question_is_answered_once(lab, hub, devapi):
    nodes = 100 if is_sanitized() else 300
    fleet = lab.fleet(hub, nodes, *REGISTRATION)
    fleet.wait_ready(60)
    fleet.wait_for("each renews its lease",
                   lambda r: r["kinds"]["lease_update"]["answered_once"] >= nodes)
    report = fleet.stop()
    assert report["nodes"]["ready"] == nodes
    assert_answered(report)
    assert_no_loss(report)
    assert report["lease_gap"]["too_long"] == 0
    found = devapi.get("/api/v1/nodes?limit=1000")["items"]
    assert len(found) == nodes
    for node in found:
        conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
        assert conditions["Ready"] == "True"
        assert "node-role.kubernetes.io/edge" in node["metadata"]["labels"]


@pytest.mark.sanitize
def test_the_sums_of_edges_hub_and_api_server_agree(lab, hub, devapi):
    fleet = lab.fleet(hub, 100, "--duration", "12s", "--time-scale", "3",
                      *REGISTRATION)
    report = fleet.wait(90)
    metrics = hub.settle()
    kinds, received = report["kinds"], metrics.by("isthmus_messages_received_total", "kind")

    # Each message of each kind that edges wrote has arrived at the hub.
    same = {"node_insert": "node_insert", "node_query": "node_query", "nodepatch": "nodepatch",
            "lease_query": "lease_query", "lease_insert": "lease_insert",
            "lease_update": "lease_update", "configmap_query": "configmap_query",
            "event": "event_insert"}
    for sent, arrived in same.items():
        assert kinds[sent]["sent"] - kinds[sent]["unwritten"] == received.get(arrived, 0), sent
    local = metrics.by("isthmus_messages_local_total", "reason")
    assert kinds["keepalive"]["sent"] == local["keepalive"]
    assert kinds["ack"]["sent"] == local["ack"]
    assert set(local) == {"keepalive", "ack"}

    # Each has one outcome, kinds with an answer an answer.
    finished = metrics.by("isthmus_messages_finished_total", "kind")
    for kind in finished.keys() - OWN_KINDS:
        assert finished[kind] == received[kind], kind
    outcomes = metrics.by("isthmus_messages_finished_total", "outcome")
    assert outcomes.get("dropped", 0) == 0
    # What was still on its way when the edges went is the only thing without an asker: it came too late to be written, or it
    # was written and not read any more. (What is pushed has no asker at all.)
    gone = metrics.by("isthmus_messages_dropped_total", "reason")
    late = gone.pop("session_gone", 0)
    unread = metrics.get("isthmus_messages_sent_total") - report["messages"]["messages_in"]
    assert unread >= 0
    assert report["messages"]["pending"] <= late + unread
    assert gone == {}
    once = sum(k["answered_once"] for k in kinds.values() if "answered_once" in k)
    assert outcomes["answered"] + outcomes.get("coalesced", 0) >= once
    assert metrics.get("isthmus_messages_finished_total", kind="event_insert",
                       outcome="carried_out") == received["event_insert"]

    # What the API server took is what the hub counted as taken, and what edges saw confirmed.
    writes = devapi.writes()
    assert writes["lease"]["create"] == kinds["lease_insert"]["answered_once"]
    update = kinds["lease_update"]
    confirmed = update["answered_once"] - update["errors"]
    assert confirmed <= writes["lease"]["update"] <= confirmed + update["pending"]
    assert writes["lease"]["update"] == metrics.get(
        "isthmus_api_requests_total", kind="lease_update", code="2xx")
    assert writes["event"]["create"] == received["event_insert"]
    assert writes["node"]["create"] == 100
    assert metrics.get("isthmus_edge_connections") == 0
    # The edges went; whether that is first read or noticed by an answer that cannot be written is a matter of luck.
    closed = metrics.by("isthmus_edge_closed_total", "reason")
    assert closed.keys() <= {"peer", "write_failed"} and sum(closed.values()) == 100


def test_nothing_waits_when_nothing_is_to_do(lab, hub):
    fleet = lab.fleet(hub, 50, "--time-scale", "4")
    fleet.wait_ready()
    metrics = hub.settle()
    for lane in ("liveness", "status", "query", "event", "own"):
        assert metrics.get("isthmus_upstream_waiting", lane=lane) == 0
        assert metrics.get("isthmus_upstream_in_flight", lane=lane) == 0
    assert metrics.get("isthmus_upstream_waiting_bytes") == 0
    assert metrics.get("isthmus_reassembly_bytes") == 0
    assert metrics.get("isthmus_paused_sessions") == 0
    assert metrics.get("isthmus_edge_connections") == 50
    fleet.stop()


@pytest.mark.parametrize("dialect", ["1.12.0", "1.12.1", "1.22"])
def test_old_edges_are_served_in_their_dialect(lab, hub, devapi, dialect):
    fleet = lab.fleet(hub, 20, "--edge-version", dialect, "--duration", "6s", "--time-scale",
                      "3", *REGISTRATION)
    report = fleet.wait(60)
    assert report["nodes"]["ready"] == 20
    assert_answered(report)
    assert_no_loss(report)
    assert report["kinds"]["nodepatch"]["answered_once"] > 0
    assert report["kinds"]["nodepatch"]["errors"] == 0
    assert devapi.writes()["node/status"]["patch"] > 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_tls_versions_are_spoken(lab, hub, version):
    report = lab.fleet(hub, 10, "--tls", version, "--duration", "4s").wait()
    assert report["connections"]["tls" + version.replace(".", "")] == 10
    assert_answered(report)


def test_big_messages_pass(lab, hub):
    """Messages of many fragments, both ways."""
    fleet = lab.fleet(hub, 5, "--big-messages", "150000", "--nodepatch-interval", "4s",
                      "--time-scale", "4", "--duration", "5s")
    report = fleet.wait(60)
    assert report["nodes"]["ready"] == 5
    assert report["messages"]["bytes_out"] > 5 * 3 * 150000
    assert_answered(report)
    assert_no_loss(report)
