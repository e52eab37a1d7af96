"""Nobody can hold up another: neither a slow kind of write, nor a flood, nor a crowd that joins."""

import pytest

from lab.processes import PATIENCE, is_sanitized, wait_until
from test_fleet import assert_answered, assert_no_loss

SMALL = is_sanitized()
OTHERS = 40 if SMALL else 100


def lease_updates(devapi, prefix, nodes):
    """{node: how many of its renewals the API server has accepted}"""
    users = devapi.get("/devapi/writes?kind=lease")["users"]
    return {f"{prefix}{i}": users.get(f"system:node:{prefix}{i}", {}).get("lease", {}).get("update", 0)
            for i in range(nodes)}


@pytest.mark.sanitize
def test_stalled_event_writes_hold_up_no_lease(lab, devapi):
    """The cause is asserted, not the time: while not one event write has ended since the stall began, each of the
    others has renewed its lease, from request to answer."""
    hub = lab.hub(devapi)
    others = lab.fleet(hub, OTHERS, "--time-scale", "5", name="others")
    others.wait_ready()
    flood = lab.fleet(hub, 50, "--event-rate", "20", name="flood")
    flood.wait_connected()
    wait_until("events flow", lambda: devapi.writes("event").get("event", {}).get("create", 0) > 100)
    devapi.faults(stall={"event": f"{10 * PATIENCE}s"})
    wait_until("event writes are stalled", lambda: devapi.stats()["kinds"]["event"]["stalled"] >= 16)
    # What was under way when the stall began has ended long before this.
    wait_until("the lane is full of stalled writes", lambda: hub.metrics().get(
        "isthmus_upstream_waiting", lane="event") > 50)

    events = devapi.writes("event")["event"]["create"]
    before = lease_updates(devapi, "others-", OTHERS)
    answered = others.stats()["kinds"]["lease_update"]["answered_once"]

    def all_renewed():
        now = lease_updates(devapi, "others-", OTHERS)
        return all(now[node] > before[node] for node in before)
    wait_until("each of the others has renewed its lease", all_renewed, 9)
    others.wait_for("and was told so", lambda r: r["kinds"]["lease_update"]["answered_once"] >=
                    answered + OTHERS * 9 // 10, 9)
    stats = devapi.stats()
    assert devapi.writes("event")["event"]["create"] == events, "the stall was over too early"
    assert stats["kinds"]["event"]["stalled"] > 0

    # What nobody waits for is given up, oldest first, and counted.
    wait_until("events overflow", lambda: hub.metrics().get(
        "isthmus_messages_dropped_total", reason="event_overflow") > 0, 30)
    devapi.faults(stall={})
    report, flooded = others.stop(), flood.stop()
    assert_answered(report)
    assert_no_loss(report)
    assert_answered(flooded)
    assert_no_loss(flooded)

    # Not one event is lost without being counted.
    metrics = hub.settle(90)
    received = metrics.get("isthmus_messages_received_total", kind="event_insert")
    assert received == flooded["kinds"]["event"]["sent"] - flooded["kinds"]["event"]["unwritten"]
    outcomes = {o: metrics.get("isthmus_messages_finished_total", kind="event_insert", outcome=o)
                for o in ("carried_out", "dropped")}
    assert sum(outcomes.values()) == received
    assert outcomes["dropped"] == metrics.get("isthmus_messages_dropped_total",
                                              reason="event_overflow")
    assert outcomes["carried_out"] == devapi.writes("event")["event"]["create"]


@pytest.mark.parametrize("kind", ["event", "nodepatch", "configmap"])
def test_one_node_that_floods_costs_the_others_nothing(lab, devapi, hub, kind):
    # A node may only read what its pods mention; a forbidden question is asked again for a while, which is no flood.
    devapi.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": {
        "nodeName": "flood-0", "containers": [{"name": "c", "image": "i"}]}})
    others = lab.fleet(hub, OTHERS, "--time-scale", "5", "--query-rate", "2", name="others")
    others.wait_ready()
    flood = lab.fleet(hub, 1, "--flood", "1", "--flood-kind", kind, name="flood")
    flood.wait_connected()
    wait_until("its flood is held back",
               lambda: hub.metrics().get("isthmus_paused_sessions") > 0)
    before = others.stats()["kinds"]["lease_update"]["answered_once"]
    others.wait_for("each renews its lease twice", lambda r:
                    r["kinds"]["lease_update"]["answered_once"] >= before + 2 * OTHERS)
    report = others.stop()
    flooded = flood.stop()
    assert_answered(report)
    assert_no_loss(report)
    assert_no_loss(flooded)
    # At --node-rate it is read, no faster.
    received = hub.metrics().sum("isthmus_messages_received_total", kind={
        "event": "event_insert", "nodepatch": "nodepatch", "configmap": "configmap_query"}[kind])
    assert received > 60
    hub.settle(90)


@pytest.mark.sanitize
def test_a_crowd_that_joins_disturbs_nobody(lab, devapi, hub):
    crowd_size = 150 if SMALL else 500
    others = lab.fleet(hub, OTHERS, "--time-scale", "5", "--query-rate", "2", name="others")
    others.wait_ready()
    before = others.stats()["kinds"]["lease_update"]["answered_once"]
    crowd = lab.fleet(hub, crowd_size, name="crowd")
    crowd.wait_for("all are served", lambda r: r["nodes"]["served"] == crowd_size, 30)
    others.wait_for("each renews its lease twice", lambda r:
                    r["kinds"]["lease_update"]["answered_once"] >= before + 2 * OTHERS)
    crowd.wait_ready(60)
    joined, report = crowd.stop(), others.stop()
    assert joined["connections"]["dials"] == crowd_size, "some had to dial twice"
    for one in (joined, report):
        assert_answered(one)
        assert_no_loss(one)
    assert report["lease_gap"]["too_long"] == 0
