"""The way down: what the API server has reaches the edges that want it, in order, and nobody else."""

import base64
import signal
import time

import pytest

from lab.edge import Edge, Refused
from lab.processes import wait_until
from lab.store import StoreEdge

SYNCS = "/apis/reliablesyncs.kubeedge.io/v1alpha1"


def make_node(api, name, **labels):
    return api.create("/api/v1/nodes", {"metadata": {"name": name, "labels": {
        "node-role.kubernetes.io/edge": "", **labels}}})


def make_pod(api, name, node, mentions=(), namespace="default"):
    container = {"name": "main", "image": "image", "envFrom": [], "env": []}
    volumes = []
    for kind, what in mentions:
        if kind == "configmap":
            volumes.append({"name": f"v{len(volumes)}", "configMap": {"name": what}})
        else:
            container["envFrom"].append({"secretRef": {"name": what}})
    return api.create(f"/api/v1/namespaces/{namespace}/pods", {
        "metadata": {"name": name}, "spec": {"nodeName": node, "containers": [container], "volumes": volumes}})


def make_configmap(api, name, namespace="default", **data):
    return api.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name}, "data": data})


def make_secret(api, name, namespace="default", **data):
    return api.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": name}, "data": {
        key: base64.b64encode(value.encode()).decode() for key, value in data.items()}})


def patch(api, path, body):
    code, made = api.call("PATCH", path, body, "application/merge-patch+json")
    assert code == 200, made
    return made


def records(api, node, namespace="default"):
    """{uid: version} of a node's ObjectSyncs."""
    found = api.get(f"{SYNCS}/namespaces/{namespace}/objectsyncs?limit=5000")["items"]
    return {item["metadata"]["name"].rsplit(".", 1)[1]: item.get("status", {}).get("objectResourceVersion")
            for item in found if item["metadata"]["name"].rsplit(".", 1)[0] == node}


def wait_recorded(api, node, obj):
    uid, version = obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
    wait_until(f"{node} has a record of {obj['metadata']['name']} at {version}",
               lambda: records(api, node).get(uid) == version, 15)


def wait_synced(hub):
    wait_until("the index is complete", lambda: hub.status()["down"]["synced"], 20)


def wait_nothing_waits(hub):
    def is_quiet():
        down = hub.status()["down"]
        return not (down["waiting"] or down["in_flight"] or down["record_writes_waiting"])
    wait_until("nothing waits", is_quiet, 30)


def test_a_pod_and_what_it_mentions_reach_its_node_only(lab, hub, devapi, authority):
    for name in ("node-a", "node-b"):
        make_node(devapi, name)
    configmap = make_configmap(devapi, "settings", colour="red")
    make_configmap(devapi, "unmentioned", colour="grey")
    secret = make_secret(devapi, "key", key="k1")
    with StoreEdge(hub, authority, "node-a") as a, StoreEdge(hub, authority, "node-b") as b:
        pod = make_pod(devapi, "web", "node-a", [("configmap", "settings"), ("secret", "key")])
        row = a.wait_row("default/pod/web")
        assert row == devapi.get("/api/v1/namespaces/default/pods/web")
        assert a.seen("default/pod/web")[0]["route"] == {
            "source": "edgecontroller", "group": "resource", "operation": "insert", "resource": "default/pod/web"}
        assert a.seen("default/pod/web")[0]["header"]["resourceversion"] == pod["metadata"]["resourceVersion"]
        # What it mentions came before it.
        assert a.rows["default/configmap/settings"] == configmap
        assert a.rows["default/secret/key"]["data"] == secret["data"]
        for obj in (pod, configmap, secret):
            wait_recorded(devapi, "node-a", obj)

        changed = patch(devapi, "/api/v1/namespaces/default/configmaps/settings", {"data": {"colour": "blue"}})
        a.wait_row("default/configmap/settings", lambda row: row["data"]["colour"] == "blue")
        patch(devapi, "/api/v1/namespaces/default/secrets/key", {"data": {"key": "azI="}})
        a.wait_row("default/secret/key", lambda row: row["data"] != secret["data"])
        wait_recorded(devapi, "node-a", changed)
        a.wait_row("null/node/node-a")
        b.wait_row("null/node/node-b")
        assert set(b.rows) == {"null/node/node-b"}
        assert "default/configmap/unmentioned" not in a.rows
        wait_nothing_waits(hub)


def test_node_updates_reach_the_edge(hub, devapi, authority):
    make_node(devapi, "node-a")
    with StoreEdge(hub, authority, "node-a") as a:
        a.wait_row("null/node/node-a")
        patch(devapi, "/api/v1/nodes/node-a", {"metadata": {"labels": {"zone": "north"}}})
        a.wait_row("null/node/node-a", lambda row: row["metadata"]["labels"].get("zone") == "north")
        assert {m["route"]["operation"] for m in a.seen("null/node/node-a")} == {"update"}
        found = devapi.get(f"{SYNCS}/clusterobjectsyncs")["items"]
        assert [i["spec"] for i in found] == [{"objectAPIVersion": "v1", "objectKind": "Node", "objectName": "node-a"}]


def test_a_graceful_deletion_comes_to_its_end(hub, devapi, authority):
    make_node(devapi, "node-a")
    with StoreEdge(hub, authority, "node-a") as a:
        pod = make_pod(devapi, "web", "node-a")
        a.wait_row("default/pod/web")
        wait_recorded(devapi, "node-a", pod)
        path = "/api/v1/namespaces/default/pods/web"
        assert devapi.call("DELETE", path)[0] == 200
        row = a.wait_row("default/pod/web", lambda row: "deletionTimestamp" in row["metadata"])
        assert a.seen("default/pod/web")[-1]["route"]["operation"] == "update"
        code, _ = devapi.call("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": row["metadata"]["uid"]}})
        assert code == 200
        a.wait_gone("default/pod/web")
        last = a.seen("default/pod/web", "delete")[-1]
        assert last["content"]["metadata"]["uid"] == pod["metadata"]["uid"]
        wait_until("the record is gone", lambda: pod["metadata"]["uid"] not in records(devapi, "node-a"), 10)
        wait_nothing_waits(hub)
        # A pod of the same name is another one.
        again = make_pod(devapi, "web", "node-a")
        a.wait_row("default/pod/web", lambda row: row["metadata"]["uid"] == again["metadata"]["uid"])


def test_what_changed_while_away_is_there_on_return(hub, devapi, authority):
    make_node(devapi, "node-a")
    make_configmap(devapi, "kept", v="1")
    make_configmap(devapi, "changed", v="1")
    make_configmap(devapi, "deleted", v="1")
    mentions = [("configmap", name) for name in ("kept", "changed", "deleted")]
    with StoreEdge(hub, authority, "node-a") as a:
        gone = make_pod(devapi, "gone", "node-a", mentions)
        stays = make_pod(devapi, "stays", "node-a", mentions)
        for pod in (gone, stays):
            a.wait_row(f"default/pod/{pod['metadata']['name']}")
            wait_recorded(devapi, "node-a", pod)
        wait_nothing_waits(hub)
        rows = a.close()
    patch(devapi, "/api/v1/namespaces/default/configmaps/changed", {"data": {"v": "2"}})
    assert devapi.call("DELETE", "/api/v1/namespaces/default/configmaps/deleted")[0] == 200
    assert devapi.call("DELETE", "/api/v1/namespaces/default/pods/gone", {"gracePeriodSeconds": 0})[0] == 200
    make_pod(devapi, "fresh", "node-a")
    with StoreEdge(hub, authority, "node-a", rows=rows) as a:
        a.wait_row("default/pod/fresh")
        a.wait_row("default/configmap/changed", lambda row: row["data"]["v"] == "2")
        a.wait_gone("default/pod/gone")
        a.wait_gone("default/configmap/deleted")
        wait_nothing_waits(hub)
        # What has not changed is not sent again.
        assert not a.seen("default/pod/stays") and not a.seen("default/configmap/kept")
        assert gone["metadata"]["uid"] not in records(devapi, "node-a")


def test_a_new_hub_goes_on_from_the_records(lab, devapi, authority):
    make_node(devapi, "node-a")
    make_configmap(devapi, "settings", v="1")
    first = lab.hub(devapi, name="first")
    with StoreEdge(first, authority, "node-a") as a:
        for name in ("one", "two"):
            pod = make_pod(devapi, name, "node-a", [("configmap", "settings")])
            wait_recorded(devapi, "node-a", pod)
        wait_nothing_waits(first)
        rows = a.rows
    first.process.kill()
    assert devapi.call("DELETE", "/api/v1/namespaces/default/pods/two", {"gracePeriodSeconds": 0})[0] == 200
    second = lab.hub(devapi, name="second")
    with StoreEdge(second, authority, "node-a", rows=rows) as a:
        a.wait_gone("default/pod/two")
        wait_nothing_waits(second)
        a.wait_row("null/node/node-a")
        assert {m["route"]["resource"] for m in a.pushes} == {"null/node/node-a", "default/pod/two"}


def test_a_silent_node_delays_only_itself(hub, devapi, authority):
    for name in ("silent", "prompt"):
        make_node(devapi, name)
    make_configmap(devapi, "shared", v="0")
    with StoreEdge(hub, authority, "silent", acknowledges=False) as silent, \
            StoreEdge(hub, authority, "prompt") as prompt:
        for name in ("silent", "prompt"):
            make_pod(devapi, f"pod-{name}", name, [("configmap", "shared")])
        prompt.wait_row("default/pod/pod-prompt")
        for v in range(1, 6):
            patch(devapi, "/api/v1/namespaces/default/configmaps/shared", {"data": {"v": str(v)}})
            prompt.wait_row("default/configmap/shared", lambda row, v=v: row["data"]["v"] == str(v))
        # The same bytes, and only one message.
        wait_until("it is sent again", lambda: len(silent.pushes) >= 2, 10)
        assert len({m["header"]["msg_id"] for m in silent.pushes}) == 1
        assert silent.pushes[0] == silent.pushes[1]
        # Once it acknowledges, it gets the newest of everything and nothing in between.
        silent.acknowledges = True
        silent.wait_row("default/pod/pod-silent")
        silent.wait_row("default/configmap/shared", lambda row: row["data"]["v"] == "5")
        assert len(silent.seen("default/configmap/shared")) <= 3
        wait_nothing_waits(hub)


def test_deleting_the_node_ends_its_session_and_its_records(hub, devapi, authority):
    make_node(devapi, "node-a")
    with StoreEdge(hub, authority, "node-a") as a:
        a.wait_row("null/node/node-a")
        assert devapi.call("DELETE", "/api/v1/nodes/node-a")[0] == 200
        wait_until("the session ends", lambda: a.is_closed, 10)
        assert a.close_code == 1008
        assert hub.closed("node_deleted") == 1


def test_downstream_can_be_turned_off(lab, devapi, authority):
    hub = lab.hub(devapi, "--downstream=false")
    make_node(devapi, "node-a")
    with StoreEdge(hub, authority, "node-a") as a:
        make_pod(devapi, "web", "node-a")
        time.sleep(0.5)
        assert a.pushes == [] and hub.status()["down"] is None


def test_denied_nodes_are_kept_out(lab, devapi, authority, tmp_path):
    denied = tmp_path / "denied"
    denied.write_text("# nobody yet\nnode-b\n")
    hub = lab.hub(devapi, "--deny-nodes", denied)
    with pytest.raises(Refused) as refused:
        Edge(hub, authority, "node-b")
    assert refused.value.status == 403
    wait_until("the refusal is counted", lambda: hub.refused("denied") == 1, 5)
    with StoreEdge(hub, authority, "node-a") as a:
        denied.write_text("node-a\n")
        hub.process.signal(signal.SIGHUP)
        wait_until("node-a is closed", lambda: a.is_closed, 10)
        assert hub.closed("denied") == 1
    Edge(hub, authority, "node-b").socket.close()
    # A list that is wrong changes nothing.
    denied.write_text("no name at all\n")
    hub.process.signal(signal.SIGHUP)
    wait_until("it is said", lambda: "reload_failed" in hub.log_text(), 5)
    with pytest.raises(Refused):
        Edge(hub, authority, "node-a")
