"""The way down: what the API server has reaches the edges that want it, in order, and nobody else."""

import base64
import signal
import time

import pytest

from lab.edge import Edge, Refused, envelope
from lab.processes import PATIENCE, wait_until
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


def records(api, node, namespace="default", kind=None):
    """{uid: version} of a node's ObjectSyncs. Each pod mentions kube-root-ca.crt, so there is one of that, too."""
    found = api.get(f"{SYNCS}/namespaces/{namespace}/objectsyncs?limit=5000")["items"]
    return {item["metadata"]["name"].rsplit(".", 1)[1]: item.get("status", {}).get("objectResourceVersion")
            for item in found if item["metadata"]["name"].rsplit(".", 1)[0] == node
            and kind in (None, item["spec"]["objectKind"])}


def wait_recorded(api, node, obj):
    uid, version = obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
    wait_until(f"{node} has a record of {obj['metadata']['name']} at {version}",
               lambda: records(api, node).get(uid) == version, 15)


def wait_synced(hub):
    wait_until("the index is complete", lambda: hub.status()["down"]["synced"], 20)


def wait_nothing_waits(hub):
    """The figures may be 100 ms old, and what just began is not in them: so twice, with a while between."""
    def is_quiet():
        down = hub.status()["down"]
        return not (down["waiting"] or down["in_flight"] or down["record_writes_waiting"])
    def stays_quiet():
        if not is_quiet():
            return False
        time.sleep(0.3 * PATIENCE)
        return is_quiet()
    wait_until("nothing waits", stays_quiet, 30)


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


def test_a_deletion_is_not_forgotten_before_it_is_acknowledged(hub, devapi, authority):
    """The pod is deleted while the edge has yet to acknowledge it, and the edge goes before the deletion is through."""
    def is_no_pod(message):
        return "/pod/" not in message["route"]["resource"]

    def pod_events():
        return hub.metrics().get("isthmus_watch_objects_total", watch="pods")

    make_node(devapi, "node-a")
    with StoreEdge(hub, authority, "node-a", acknowledges=is_no_pod) as a:
        pod = make_pod(devapi, "web", "node-a")
        a.wait_row("default/pod/web")
        before = pod_events()
        devapi.call("DELETE", "/api/v1/namespaces/default/pods/web?gracePeriodSeconds=0")
        wait_until("the hub knows of the deletion", lambda: pod_events() > before)
        insert = a.seen("default/pod/web")[0]
        a.edge.send(envelope("default/pod/web", "response", "OK", source="edgecontroller", group="resource",
                             parent=insert["header"]["msg_id"]))
        wait_until("the deletion is pushed", lambda: a.seen("default/pod/web", "delete"))
        wait_until("there is a record of the pod", lambda: pod["metadata"]["uid"] in records(devapi, "node-a"))
    wait_until("the edge is gone", lambda: hub.connections() == 0)
    with StoreEdge(hub, authority, "node-a", rows={"default/pod/web": pod}) as a:
        a.wait_gone("default/pod/web")
        wait_until("the record is gone", lambda: pod["metadata"]["uid"] not in records(devapi, "node-a"))


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
        wait_until("its record is gone", lambda: gone["metadata"]["uid"] not in records(devapi, "node-a"), 10)


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


def pods_on(api, node):
    found = api.get("/api/v1/pods?limit=5000")["items"]
    return {f"{p['metadata']['namespace']}/pod/{p['metadata']['name']}": p["metadata"]["uid"]
            for p in found if p["spec"].get("nodeName") == node}


def pods_of(edge):
    return {key: row["metadata"]["uid"] for key, row in dict(edge.rows).items() if "/pod/" in key}


def wait_converged(api, edges, timeout=60):
    """Each edge ends with exactly the pods that the API server has for it."""
    def is_same():
        return all(pods_of(e) == pods_on(api, e.node) for e in edges)
    wait_until("every edge has exactly its pods", is_same, timeout, every=0.3)


def churn(api, nodes, rounds, offset=0):
    """Pods come, change and go."""
    for i in range(offset, offset + rounds):
        node = nodes[i % len(nodes)]
        make_pod(api, f"pod-{i}", node)
        if i % 3 == 1:
            patch(api, f"/api/v1/namespaces/default/pods/pod-{i}", {"metadata": {"labels": {"round": str(i)}}})
        if i % 4 == 2:
            code, _ = api.call("DELETE", f"/api/v1/namespaces/default/pods/pod-{i - 1}", {"gracePeriodSeconds": 0})
            assert code == 200


def test_a_hub_killed_in_the_middle_loses_nothing(lab, devapi, authority):
    nodes = [f"node-{i}" for i in range(4)]
    for name in nodes:
        make_node(devapi, name)
    rows = {name: {} for name in nodes}
    for attempt in range(3):
        hub = lab.hub(devapi, name=f"hub-{attempt}")
        edges = [StoreEdge(hub, authority, name, rows=rows[name]) for name in nodes]
        churn(devapi, nodes, 40, attempt * 40)
        hub.process.kill()
        for edge in edges:
            rows[edge.node] = edge.close()
    hub = lab.hub(devapi, name="hub-last")
    edges = [StoreEdge(hub, authority, name, rows=rows[name]) for name in nodes]
    wait_converged(devapi, edges)
    for edge in edges:
        wait_until(f"{edge.node} has a record of each pod and no other",
                   lambda e=edge: set(records(devapi, e.node, kind="Pod")) == set(pods_of(e).values()), 20)
        edge.close()


def test_an_expired_watch_is_made_good(lab, authority):
    devapi = lab.devapi("--history", "4")
    hub = lab.hub(devapi)
    nodes = ["node-a", "node-b"]
    for name in nodes:
        make_node(devapi, name)
    edges = [StoreEdge(hub, authority, name) for name in nodes]
    churn(devapi, nodes, 12)
    wait_converged(devapi, edges)
    wait_nothing_waits(hub)
    # Nothing is heard for so long that the hub gives the connections up; then much happens before it is back.
    devapi.process.signal(signal.SIGSTOP)
    wait_until("the watches are given up", lambda: not any(
        w["healthy"] for w in hub.status()["down"]["watches"] if w["name"] == "pods"), 30)
    hub.process.signal(signal.SIGSTOP)
    devapi.process.signal(signal.SIGCONT)
    churn(devapi, nodes, 30, 100)
    hub.process.signal(signal.SIGCONT)
    wait_until("the watch had expired", lambda: "expired (410)" in hub.log_text(), 30)
    wait_converged(devapi, edges)
    for edge in edges:
        edge.close()


def test_an_api_server_that_fails_now_and_then(hub, devapi, authority):
    nodes = ["node-a", "node-b"]
    for name in nodes:
        make_node(devapi, name)
    edges = [StoreEdge(hub, authority, name) for name in nodes]
    for edge in edges:
        edge.wait_row(f"null/node/{edge.node}")
    devapi.call("PUT", "/devapi/faults", {"error-rate": 0.1, "throttle-rate": 0.1, "reset-rate": 0.1, "retry-after": "1s"})

    def insist(act):
        for _ in range(50):
            try:
                return act()
            except Exception:  # it is the faults' doing
                continue
        raise AssertionError("nothing goes through")
    for i in range(40):
        insist(lambda i=i: devapi.call("POST", "/api/v1/namespaces/default/pods", {
            "metadata": {"name": f"pod-{i}"},
            "spec": {"nodeName": nodes[i % 2], "containers": [{"name": "c", "image": "i"}]}}))
    devapi.call("PUT", "/devapi/faults", {"error-rate": 0, "throttle-rate": 0, "reset-rate": 0})
    wait_converged(devapi, edges, 90)
    wait_nothing_waits(hub)
    for edge in edges:
        edge.close()


def test_a_node_that_moves_to_another_hub_goes_on_there(lab, devapi, authority):
    make_node(devapi, "node-a")
    make_configmap(devapi, "settings", v="1")
    first, second = lab.hub(devapi, name="first"), lab.hub(devapi, name="second")
    with StoreEdge(first, authority, "node-a") as a:
        pod = make_pod(devapi, "web", "node-a", [("configmap", "settings")])
        wait_recorded(devapi, "node-a", pod)
        wait_nothing_waits(first)
        # The second hub gets the node while the first still thinks it has it.
        with StoreEdge(second, authority, "node-a", rows=a.rows) as b:
            b.wait_row("null/node/node-a", lambda row: row["metadata"]["annotations"]["isthmus.io/replica"] == "second")
            wait_until("the first lets go", lambda: a.is_closed, 10)
            assert first.closed("replaced") == 1
            changed = patch(devapi, "/api/v1/namespaces/default/configmaps/settings", {"data": {"v": "2"}})
            b.wait_row("default/configmap/settings", lambda row: row["data"]["v"] == "2")
            wait_recorded(devapi, "node-a", changed)
            wait_nothing_waits(second)
            assert not b.seen("default/pod/web")
            assert second.connections() == 1 and second.closed("replaced") == 0


@pytest.mark.sanitize
def test_a_fleet_with_pods_sees_no_version_out_of_order(lab, hub, devapi):
    """edgesim's nodes run their pods: they patch their status, ask for what the pods mention, and delete them at the end."""
    fleet = lab.fleet(hub, 40)
    fleet.wait_ready()
    nodes = [n["metadata"]["name"] for n in devapi.get("/api/v1/nodes?limit=1000")["items"]]
    make_configmap(devapi, "shared", v="0")
    for i in range(120):
        make_pod(devapi, f"pod-{i}", nodes[i % 40], [("configmap", "shared")])
    fleet.wait_for("the pods run", lambda r: r["pods"]["running"] == 120, 60)
    for v in range(1, 6):
        patch(devapi, "/api/v1/namespaces/default/configmaps/shared", {"data": {"v": str(v)}})
        for i in range(v, 120, 7):
            patch(devapi, f"/api/v1/namespaces/default/pods/pod-{i}", {"metadata": {"labels": {"v": str(v)}}})
    for i in range(0, 120, 2):
        assert devapi.call("DELETE", f"/api/v1/namespaces/default/pods/pod-{i}")[0] == 200
    fleet.wait_for("half of them end", lambda r: r["pods"]["gone"] == 60, 60)
    wait_until("the API server has let them go",
               lambda: len(devapi.get("/api/v1/pods?limit=500")["items"]) == 60, 30)
    wait_nothing_waits(hub)
    report = fleet.stop()
    assert report["pushes"]["order_violations"] == 0
    assert report["pushes"]["foreign_pods"] == 0
    assert report["oddities"]["bad_messages"] == 0
    metrics = hub.metrics().by("isthmus_pushes_total", "outcome")
    assert metrics["acked"] >= 120 and metrics.get("given_up", 0) == 0


@pytest.mark.long
def test_records_of_a_deleted_node_are_collected(hub, devapi, authority):
    make_node(devapi, "node-a"), make_node(devapi, "node-b")
    for name in ("node-a", "node-b"):
        with StoreEdge(hub, authority, name) as edge:
            pod = make_pod(devapi, f"pod-{name}", name)
            edge.wait_row(f"default/pod/pod-{name}")
            wait_recorded(devapi, name, pod)
            wait_nothing_waits(hub)
    assert devapi.call("DELETE", "/api/v1/nodes/node-a")[0] == 200
    wait_until("its records are gone", lambda: not records(devapi, "node-a"), 90)
    names = [i["metadata"]["name"] for i in devapi.get(f"{SYNCS}/clusterobjectsyncs")["items"]]
    assert [n for n in names if n.startswith("node-a.")] == []
    assert records(devapi, "node-b") and [n for n in names if n.startswith("node-b.")]


def test_a_record_of_what_cannot_be_harms_nobody(hub, devapi, authority):
    make_node(devapi, "node-a")
    uid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
    devapi.create(f"{SYNCS}/namespaces/default/objectsyncs", {
        "metadata": {"name": f"node-a.{uid}"},
        "spec": {"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": "../a/b"}})
    with StoreEdge(hub, authority, "node-a") as a:
        make_pod(devapi, "web", "node-a")
        a.wait_row("default/pod/web")
        wait_nothing_waits(hub)
    assert uid in records(devapi, "node-a")


def test_without_the_kinds_of_records_deliveries_go_on(lab, authority):
    devapi = lab.devapi("--without-crds")
    hub = lab.hub(devapi)
    assert devapi.call("GET", f"{SYNCS}/objectsyncs")[0] == 404
    make_node(devapi, "node-a")
    with StoreEdge(hub, authority, "node-a") as a:
        make_pod(devapi, "web", "node-a")
        a.wait_row("default/pod/web")
        wait_nothing_waits(hub)
        assert devapi.call("DELETE", "/api/v1/namespaces/default/pods/web", {"gracePeriodSeconds": 0})[0] == 200
        a.wait_gone("default/pod/web")
    assert hub.status()["down"]["records"] is False
    assert hub.log_text().count("no_sync_records") == 1
    assert hub.metrics().sum("isthmus_record_writes_total") == 0


@pytest.mark.parametrize("is_there", [True, False], ids=["connected", "away"])
def test_a_name_that_is_used_again_means_the_new_object(lab, devapi, authority, is_there):
    """The pod that mentioned it is gone, but the edge keeps what it got."""
    make_node(devapi, "node-a")
    make_configmap(devapi, "settings", v="old")
    hub = lab.hub(devapi, name="first")
    path = "/api/v1/namespaces/default"

    def replace():
        assert devapi.call("DELETE", f"{path}/configmaps/settings")[0] == 200
        make_configmap(devapi, "settings", v="new")

    with StoreEdge(hub, authority, "node-a") as a:
        pod = make_pod(devapi, "web", "node-a", [("configmap", "settings")])
        wait_recorded(devapi, "node-a", pod)
        assert devapi.call("DELETE", f"{path}/pods/web", {"gracePeriodSeconds": 0})[0] == 200
        a.wait_gone("default/pod/web")
        wait_nothing_waits(hub)
        if is_there:
            replace()
            a.wait_row("default/configmap/settings", lambda row: row["data"]["v"] == "new")
        rows = a.rows
    if is_there:
        return
    hub.process.kill()
    replace()
    hub = lab.hub(devapi, name="second")
    with StoreEdge(hub, authority, "node-a", rows=rows) as a:
        a.wait_row("default/configmap/settings", lambda row: row["data"]["v"] == "new")
        wait_nothing_waits(hub)
        assert "delete" not in {m["route"]["operation"] for m in a.pushes}
        found = devapi.get(f"{path}/configmaps/settings")["metadata"]["uid"]
        assert set(records(devapi, "node-a", kind="ConfigMap")) >= {found}


def test_a_node_that_does_not_read_delays_nobody(lab, devapi, authority):
    hub = lab.hub(devapi, "--write-timeout", "3s")
    for name in ("deaf", "prompt"):
        make_node(devapi, name)
    big = {f"key-{i}": "x" * 100000 for i in range(9)}
    make_configmap(devapi, "shared", v="0", **big)
    deaf = Edge(hub, authority, "deaf")  # nobody reads from it
    with StoreEdge(hub, authority, "prompt") as prompt:
        for name in ("deaf", "prompt"):
            for i in range(3):
                make_configmap(devapi, f"{name}-{i}", **big)
            make_pod(devapi, f"pod-{name}", name, [("configmap", f"{name}-{i}") for i in range(3)] + [("configmap", "shared")])
        for v in range(1, 4):
            patch(devapi, "/api/v1/namespaces/default/configmaps/shared", {"data": {"v": str(v)}})
            prompt.wait_row("default/configmap/shared", lambda row, v=v: row["data"]["v"] == str(v), 5)
        prompt.wait_row("default/pod/pod-prompt")
        assert hub.status()["down"]["in_flight"] <= 1
    deaf.socket.close()
