"""Pods come down to the node, run there, follow their ConfigMap, and go."""

import os

import pytest

from stack.processes import wait_until

pytestmark = pytest.mark.needs("downstream")

NODE = "edge-1"
LABEL = {"app": "harbour-light"}
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/harbour-light"


def workload():
    meta = {"name": "harbour-light", "namespace": "default"}
    container = {
        "name": "main", "image": "registry.invalid/lamp:1",
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": meta["name"], "key": "password"}}}],
        "volumeMounts": [{"name": "settings", "mountPath": "/settings"}],
    }
    pod = {"metadata": {"labels": LABEL}, "spec": {
        "nodeSelector": {"kubernetes.io/hostname": NODE}, "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "settings", "configMap": {"name": meta["name"]}}]}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"colour": "green"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"password": "tide"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
            "replicas": 1, "selector": {"matchLabels": LABEL}, "template": pod}},
    ]


def pods(cluster):
    return cluster.admin.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dharbour-light")["items"]


def running(cluster):
    found = [pod for pod in pods(cluster) if pod["status"].get("phase") == "Running"]
    return found[0] if len(found) == 1 and len(pods(cluster)) == 1 else None


@pytest.fixture(scope="module")
def deployed(nodes, cluster):
    for manifest in workload():
        cluster.admin.apply(manifest)
    pod = wait_until("the pod runs", lambda: running(cluster), 60)
    assert pod["spec"]["nodeName"] == NODE
    return pod


def volumes(fleet, pod):
    return os.path.join(fleet.edges[NODE].root_dir, "kubelet", "pods", pod["metadata"]["uid"], "volumes")


def file_says(fleet, pod, text):
    path = os.path.join(volumes(fleet, pod), "kubernetes.io~configmap", "settings", "colour")
    with open(path, encoding="ascii") as file:
        return file.read() == text


def test_pod_runs_with_what_it_mentions(deployed, fleet):
    assert deployed["status"]["containerStatuses"][0]["containerID"]
    wait_until("the ConfigMap is there", lambda: file_says(fleet, deployed, "green"), 10)
    projected = os.path.join(volumes(fleet, deployed), "kubernetes.io~projected")
    account = os.path.join(projected, os.listdir(projected)[0])
    assert {"token", "ca.crt", "namespace"} <= set(os.listdir(account))


def test_change_of_the_configmap_arrives(deployed, fleet, cluster):
    changed = workload()[0]
    changed["data"]["colour"] = "red"
    cluster.admin.apply(changed)
    # The kubelet looks at its volumes about once a minute.
    wait_until("the change is there", lambda: file_says(fleet, deployed, "red"), 120, 0.5)


def test_scaling_down_ends_the_pod(deployed, cluster, fleet):
    cluster.admin.patch(DEPLOYMENT, {"spec": {"replicas": 0}})
    wait_until("the pod is gone", lambda: not pods(cluster), 60)
    folder = os.path.dirname(volumes(fleet, deployed))
    wait_until("the edge removed it too", lambda: not os.path.exists(folder), 60)
