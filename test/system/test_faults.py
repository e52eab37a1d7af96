"""An API server that fails: every message still comes to one end, and all is well when it is well again."""

import json
import signal
import time

import pytest

from lab.edge import Edge, envelope
from lab.processes import PATIENCE, wait_until
from lab.programs import open_messages
from test_fleet import assert_no_loss

LOAD = ("--time-scale", "4", "--query-rate", "2", "--event-rate", "1", "--nodepatch-interval", "4s")


def code_counts(devapi):
    counts = {}
    for request in devapi.stats()["requests"]:
        counts[request["code"]] = counts.get(request["code"], 0) + request["count"]
    return counts


def assert_one_end_each(hub, report):
    """Questions: answered once. The hub: each message one outcome, and what it dropped has a reason."""
    messages = report["messages"]
    assert messages["answered_twice"] == messages["never_answered"] == 0, messages
    odd = report["oddities"]
    assert odd["misdelivered"] == odd["unknown_answers"] == odd["bad_messages"] == 0, odd
    metrics = hub.settle(90)
    assert open_messages(metrics) == {}
    reasons = metrics.by("isthmus_messages_dropped_total", "reason")
    reasons.pop("session_gone", 0), reasons.pop("send_failed", 0)
    assert sum(reasons.values()) == metrics.sum("isthmus_messages_finished_total", outcome="dropped")


@pytest.mark.sanitize
@pytest.mark.parametrize("faults", [
    {"error-rate": 0.2}, {"throttle-rate": 0.2}, {"reset-rate": 0.1}, {"goaway-rate": 0.05},
    {"error-rate": 0.05, "throttle-rate": 0.05, "reset-rate": 0.05, "goaway-rate": 0.02,
     "latency": "20ms"}], ids=["500", "429", "reset", "goaway", "all"])
def test_with_faults_every_message_has_one_end(lab, devapi, hub, faults):
    fleet = lab.fleet(hub, 60, *LOAD)
    fleet.wait_ready()
    devapi.call("PUT", "/devapi/faults", faults)
    before = fleet.stats()["messages"]["answered_once"]
    fleet.wait_for("a good deal is answered under faults",
                   lambda r: r["messages"]["answered_once"] > before + 1500, 90)
    codes = code_counts(devapi)
    devapi.call("PUT", "/devapi/faults", {key: 0 for key in faults})
    mark = fleet.stats()["kinds"]["lease_update"]
    fleet.wait_for("renewals go through again", lambda r: r["kinds"]["lease_update"]["answered_once"]
                   - r["kinds"]["lease_update"]["errors"] > mark["answered_once"] - mark["errors"] + 120, 60)
    report = fleet.stop()
    if "error-rate" in faults:
        assert codes.get(500, 0) > 20
    if "throttle-rate" in faults:
        assert codes.get(429, 0) > 20
    assert report["nodes"]["ready"] == 60
    assert_no_loss(report)
    assert_one_end_each(hub, report)


def test_retry_after_is_honoured(lab, devapi, hub, authority):
    with Edge(hub, authority, "n") as edge:
        edge.query_lease()
        devapi.faults(throttle_rate=1, retry_after="3s")
        begun = time.monotonic()
        asked = edge.send(envelope("kube-node-lease/lease/n", "query"))
        wait_until("it was throttled", lambda: code_counts(devapi).get(429, 0) >= 1)
        devapi.faults(throttle_rate=0)
        answer = edge.answer_to(asked, 20 * PATIENCE)
        assert answer["content"]["Err"]["ErrStatus"]["code"] == 404
        assert time.monotonic() - begun >= 2.9


def test_what_keeps_failing_is_answered_before_the_edge_gives_up(lab, devapi, authority):
    hub = lab.hub(devapi, "--edge-timeout", "5s")
    devapi.faults(error_rate=1)
    with Edge(hub, authority, "n") as edge:
        begun = time.monotonic()
        lease = edge.ask(envelope("kube-node-lease/lease/n", "query"), 20 * PATIENCE)
        assert lease["content"]["Object"] is None
        assert lease["content"]["Err"]["ErrStatus"]["code"] >= 500
        configmap = edge.ask(envelope("default/configmap/x", "query"), 20 * PATIENCE)
        assert configmap["route"]["operation"] == "error"
        assert isinstance(configmap["content"], str)
        assert time.monotonic() - begun < 12 * PATIENCE


def test_an_api_server_that_hangs_is_found_dead(lab, devapi, authority):
    """Nothing tells a client that its server is stopped in its tracks: it has to find out, within 15 s."""
    hub = lab.hub(devapi)
    with Edge(hub, authority, "n") as edge:
        edge.query_lease()
        devapi.process.signal(signal.SIGSTOP)
        try:
            asked = edge.send(envelope("kube-node-lease/lease/n", "query"))
            begun = time.monotonic()
            wait_until("it is not ready any more", lambda: hub.admin("/readyz")[0] != 200, 25)
            assert time.monotonic() - begun < 20 * PATIENCE
            assert hub.admin("/livez")[0] == 200
        finally:
            devapi.process.signal(signal.SIGCONT)
        edge.answer_to(asked, 60)
        wait_until("it is ready again", lambda: hub.admin("/readyz")[0] == 200, 30)


def take_over_state(devapi):
    """A restart that keeps what etcd would have kept."""
    kept = []
    for path, kind, version in (
            ("/api/v1/nodes?limit=5000", "Node", "v1"),
            ("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases?limit=5000", "Lease",
             "coordination.k8s.io/v1")):
        for item in devapi.get(path)["items"]:
            kept.append({**item, "kind": kind, "apiVersion": version})
    seed = devapi.folder / "seed.json"
    seed.write_text(json.dumps(kept))
    devapi.flags = ("--seed-file", seed)


@pytest.mark.sanitize
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["orderly", "killed"])
def test_the_hub_survives_a_restart_of_the_api_server(lab, devapi, hub, how):
    fleet = lab.fleet(hub, 60, *LOAD)
    fleet.wait_ready()
    fleet.wait_for("leases are renewed", lambda r: r["kinds"]["lease_update"]["answered_once"] > 60)
    take_over_state(devapi)
    devapi.stop(how)
    time.sleep(3)
    assert hub.process.is_running() and hub.connections() == 60
    devapi.start()
    before = fleet.stats()["kinds"]["lease_update"]["answered_once"]
    fleet.wait_for("renewals go through again",
                   lambda r: r["kinds"]["lease_update"]["answered_once"] > before + 180, 60)
    assert len(devapi.get("/api/v1/nodes?limit=1000")["items"]) == 60
    assert devapi.writes()["lease"]["update"] >= 60
    wait_until("it is ready again", lambda: hub.admin("/readyz")[0] == 200, 30)
    report = fleet.stop()
    assert_no_loss(report)
    assert_one_end_each(hub, report)
