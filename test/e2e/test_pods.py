"""Pods come down to the node with all that they mention, follow its changes, and go; what changed
while the node was away reaches it when it is back."""

import os

import pytest

from stack.processes import EDGE_SECONDS, wait_until

pytestmark = [pytest.mark.needs("downstream"), pytest.mark.disturbs]

NODE = "edge-1"
NAME = "harbour-light"
LABEL = {"app": NAME}
DEPLOYMENT = f"/apis/apps/v1/namespaces/default/deployments/{NAME}"
PODS = "/api/v1/namespaces/default/pods"
SYNCS = "/apis/reliablesyncs.kubeedge.io/v1alpha1"
# The kubelet looks at its volumes about once a minute, and up to half of that later.
VOLUME_SECONDS = 120
# Up to 15 s until an edge notices that its hub went, 30 s of sleep, five tries 5 s apart.
RETURN_SECONDS = 90


def workload():
    meta = {"name": NAME, "namespace": "default"}
    container = {
        "name": "main", "image": "registry.invalid/lamp:1",
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "password"}}}],
        "volumeMounts": [{"name": "settings", "mountPath": "/settings"}, {"name": "key", "mountPath": "/key"}],
    }
    pod = {"metadata": {"labels": LABEL}, "spec": {
        "nodeSelector": {"kubernetes.io/hostname": NODE}, "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "settings", "configMap": {"name": NAME}},
                    {"name": "key", "secret": {"secretName": NAME}}]}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"colour": "green"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"password": "tide"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
            "replicas": 1, "selector": {"matchLabels": LABEL}, "template": pod}},
    ]


def bare_pod(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "nodeName": NODE, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "registry.invalid/lamp:1"}]}}


def pods(cluster):
    return cluster.admin.get(f"{PODS}?labelSelector=app%3D{NAME}")["items"]


def running(cluster):
    found = [pod for pod in pods(cluster) if pod["status"].get("phase") == "Running"]
    return found[0] if len(found) == 1 and len(pods(cluster)) == 1 else None


@pytest.fixture(scope="module")
def edge(nodes, fleet):
    return fleet.edges[NODE]


@pytest.fixture(scope="module")
def deployed(nodes, cluster):
    for manifest in workload():
        cluster.admin.apply(manifest)
    pod = wait_until("the pod runs", lambda: running(cluster), EDGE_SECONDS)
    assert pod["spec"]["nodeName"] == NODE
    return pod


def volume(edge, pod, plugin):
    volumes = os.path.join(edge.root_dir, "kubelet", "pods", pod["metadata"]["uid"], "volumes")
    return os.path.join(volumes, "kubernetes.io~" + plugin)


def file_says(path, text):
    with open(path, encoding="ascii") as file:
        return file.read() == text


def synced_version(cluster, pod_or_other, kind="objectsyncs"):
    """The version in KubeEdge's record of what the node has acknowledged, or None."""
    meta = pod_or_other["metadata"]
    scope = f"/namespaces/{meta['namespace']}" if kind == "objectsyncs" else ""
    record = cluster.admin.find(f"{SYNCS}{scope}/{kind}/{NODE}.{meta['uid']}")
    return record and record.get("status", {}).get("objectResourceVersion")


def test_pod_runs_with_what_it_mentions(deployed, edge):
    assert deployed["status"]["containerStatuses"][0]["containerID"]
    settings = os.path.join(volume(edge, deployed, "configmap"), "settings", "colour")
    wait_until("the ConfigMap is there", lambda: file_says(settings, "green"), 10)
    key = os.path.join(volume(edge, deployed, "secret"), "key", "password")
    wait_until("the Secret is there", lambda: file_says(key, "tide"), 10)
    projected = volume(edge, deployed, "projected")
    account = os.path.join(projected, os.listdir(projected)[0])
    assert {"token", "ca.crt", "namespace"} <= set(os.listdir(account))


def test_record_of_the_pod_has_the_known_form(deployed, cluster):
    meta = deployed["metadata"]
    wait_until("the record says something", lambda: synced_version(cluster, deployed), 20)
    record = cluster.admin.get(f"{SYNCS}/namespaces/default/objectsyncs/{NODE}.{meta['uid']}")
    assert record["spec"] == {"objectAPIVersion": "v1", "objectKind": "Pod", "objectName": meta["name"]}
    assert int(record["status"]["objectResourceVersion"]) > 0


def test_record_of_the_node_has_the_known_form(deployed, cluster):
    node = cluster.node(NODE)
    wait_until("the record says something",
               lambda: synced_version(cluster, node, "clusterobjectsyncs"), 20)
    record = cluster.admin.get(f"{SYNCS}/clusterobjectsyncs/{NODE}.{node['metadata']['uid']}")
    assert record["spec"] == {"objectAPIVersion": "v1", "objectKind": "Node", "objectName": NODE}


def test_changes_arrive(deployed, edge, cluster):
    """Of the ConfigMap, the Secret, the pod and the node, all at once."""
    configmap, secret = workload()[:2]
    configmap["data"]["colour"] = "red"
    secret["stringData"]["password"] = "ebb"
    cluster.admin.apply(configmap)
    cluster.admin.apply(secret)
    name = deployed["metadata"]["name"]
    cluster.admin.patch(f"{PODS}/{name}", {"metadata": {"annotations": {"note": "seen"}}})
    cluster.admin.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"labels": {"berth": "7"}}})

    def has(key, check):
        wait_until(f"{key} is stored", lambda: (found := edge.stored(key)) and check(found), 30)
    has(f"default/configmap/{NAME}", lambda o: o["data"]["colour"] == "red")
    has(f"default/secret/{NAME}", lambda o: o["data"]["password"] == "ZWJi")
    has(f"default/pod/{name}", lambda o: o["metadata"]["annotations"].get("note") == "seen")
    has(f"null/node/{NODE}", lambda o: o["metadata"]["labels"].get("berth") == "7")
    settings = os.path.join(volume(edge, deployed, "configmap"), "settings", "colour")
    wait_until("the ConfigMap's file follows", lambda: file_says(settings, "red"), VOLUME_SECONDS, 0.5)
    key = os.path.join(volume(edge, deployed, "secret"), "key", "password")
    wait_until("the Secret's file follows", lambda: file_says(key, "ebb"), VOLUME_SECONDS, 0.5)


def test_what_changed_while_away_arrives(deployed, edge, cluster, hub):
    """The hub is gone for a while, as far as the edge is concerned; deletions are changes too."""
    for name in ("doomed", "kept"):
        cluster.admin.apply(bare_pod(name))
    for name in ("doomed", "kept"):
        wait_until(f"{name} runs", lambda: cluster.admin.get(f"{PODS}/{name}")["status"].get("phase") == "Running", EDGE_SECONDS)
    container = cluster.admin.get(f"{PODS}/kept")["status"]["containerStatuses"][0]["containerID"]
    hub.process.kill()
    cluster.admin.request("DELETE", f"{PODS}/doomed?gracePeriodSeconds=0")
    cluster.admin.apply(bare_pod("new"))
    configmap = workload()[0]
    configmap["data"]["colour"] = "white"
    cluster.admin.apply(configmap)
    cluster.admin.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"labels": {"berth": "8"}}})
    hub.start()

    wait_until("the new pod runs",
               lambda: cluster.admin.get(f"{PODS}/new")["status"].get("phase") == "Running", RETURN_SECONDS)
    wait_until("the deleted pod is gone", lambda: edge.stored("default/pod/doomed") is None, 30)
    wait_until("the ConfigMap is the new one",
               lambda: edge.stored(f"default/configmap/{NAME}")["data"]["colour"] == "white", 30)
    wait_until("the node is the new one",
               lambda: edge.stored(f"null/node/{NODE}")["metadata"]["labels"]["berth"] == "8", 30)
    kept = cluster.admin.get(f"{PODS}/kept")["status"]["containerStatuses"][0]
    assert (kept["containerID"], kept["restartCount"]) == (container, 0)


def test_scaling_down_ends_the_pod(deployed, cluster, edge):
    cluster.admin.patch(DEPLOYMENT, {"spec": {"replicas": 0}})
    wait_until("the pod is gone", lambda: not pods(cluster), EDGE_SECONDS)
    wait_until("the edge has forgotten it",
               lambda: edge.stored(f"default/pod/{deployed['metadata']['name']}") is None, 30)
    folder = os.path.dirname(os.path.dirname(volume(edge, deployed, "configmap")))
    wait_until("the edge removed its files", lambda: not os.path.exists(folder), EDGE_SECONDS)
    wait_until("its record is gone", lambda: synced_version(cluster, deployed) is None, 30)


def test_deletion_with_grace_goes_to_its_end(deployed, cluster, edge):
    for name in ("kept", "new"):
        cluster.admin.delete(f"{PODS}/{name}")
    for name in ("kept", "new"):
        wait_until(f"{name} is gone", lambda: cluster.admin.find(f"{PODS}/{name}") is None, EDGE_SECONDS)
        wait_until(f"the edge has forgotten {name}", lambda: edge.stored(f"default/pod/{name}") is None, 30)
