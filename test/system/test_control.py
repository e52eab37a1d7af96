"""The control socket and the subcommands that use it: status, drain, undrain, explain."""

import json
import os
import stat
import subprocess

import pytest

from lab.processes import program, wait_until

NODES = 20


def isthmus(hub, *words, code=0):
    """What a subcommand prints, and that it ends as expected."""
    done = subprocess.run([program("isthmus"), *words, "--control-socket", hub.socket_path],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def served(lab, devapi):
    """A hub with some Ready nodes."""
    hub = lab.hub(devapi, "--drain-timeout", "30s")
    fleet = lab.fleet(hub, NODES, "--time-scale", "10")
    fleet.wait_ready()
    return hub, fleet


def test_only_its_owner_may_open_the_socket(hub):
    assert stat.S_IMODE(os.stat(hub.socket_path).st_mode) == 0o600
    hub.stop()
    assert not os.path.exists(hub.socket_path)


def test_status_in_words_and_as_json(served):
    hub, _ = served
    text = isthmus(hub, "status")
    assert f"edges: {NODES} connected" in text and "serving" in text and "balancing: detect" in text, text
    assert json.loads(isthmus(hub, "status", "--json"))["edges"]["connected"] == NODES


def test_explain(served, devapi):
    hub, _ = served
    assert "fleet-3 is here, from 127." in isthmus(hub, "explain", "fleet-3")
    assert json.loads(isthmus(hub, "explain", "--json", "fleet-3"))["where"] == "here"
    assert "there is no node nobody" in isthmus(hub, "explain", "nobody", code=1)
    assert "needs the name of a node" in isthmus(hub, "explain", "../secrets", code=1)
    devapi.create("/api/v1/nodes", {"metadata": {"name": "stranger", "annotations": {
        "isthmus.io/replica": "hub-b", "cloudcore": "192.0.2.9"}}})
    assert "connected last to replica hub-b (192.0.2.9)" in isthmus(hub, "explain", "stranger")


@pytest.mark.sanitize
def test_drain_and_undrain(served):
    hub, fleet = served
    assert isthmus(hub, "drain", "--wait").startswith(f"draining, {NODES} edges connected")
    assert hub.connections() == 0
    assert hub.admin("/readyz")[0] == 503 and hub.admin("/acceptz")[0] == 503
    assert hub.admin("/livez")[0] == 200
    assert hub.closed("released") == NODES
    assert "was let go from here" in isthmus(hub, "explain", "fleet-3")
    assert isthmus(hub, "undrain").startswith("serving")
    fleet.wait_connected(60)
    assert hub.admin("/readyz")[0] == 200
    assert "is here" in isthmus(hub, "explain", "fleet-3")


def test_a_drain_bridges_even_those_that_are_kept(lab, devapi):
    """And says what it waits for when all have left."""
    hub = lab.hub(devapi, "--drain-timeout", "30s", "--bridge-seconds", "20s")
    fleet = lab.fleet(hub, NODES, "--time-scale", "10")
    fleet.wait_ready()
    code, node = devapi.call("PATCH", "/api/v1/nodes/fleet-3", {"metadata": {"annotations": {"isthmus.io/keep": ""}}},
                             "application/merge-patch+json")
    assert code == 200, node
    isthmus(hub, "drain", "--wait")
    assert hub.metrics().get("isthmus_releases_total", result="bridged") == NODES
    wait_until("it says what it waits for", lambda: "drain_waits" in hub.log_text(), 10)
    isthmus(hub, "undrain")
    fleet.wait_connected(60)


def test_words_that_make_no_sense(hub):
    assert "usage: isthmus explain" in isthmus(hub, "explain", code=2)
    assert "--jsn" in isthmus(hub, "status", "--jsn", code=2)
    hub.stop()
    assert "is a hub running with this --control-socket?" in isthmus(hub, "status", code=1)
