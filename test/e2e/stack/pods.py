"""Pods and what they mention, and whether a node has exactly what the API server has."""

from .processes import EDGE_SECONDS, wait_until

PODS = "/api/v1/namespaces/default/pods"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
SYNCS = "/apis/reliablesyncs.kubeedge.io/v1alpha1"


def pod(name, node, configmap=None):
    """A pod bound to a node; with a ConfigMap if it is given the name of one."""
    container = {"name": "main", "image": "registry.invalid/lamp:1"}
    if configmap:
        container["envFrom"] = [{"configMapRef": {"name": configmap}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}}


def configmap(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": data}


def annotate(cluster, path, **annotations):
    cluster.admin.patch(path, {"metadata": {"annotations": annotations}})


def wait_running(cluster, names, timeout=EDGE_SECONDS):
    for name in names:
        wait_until(f"{name} runs", lambda: (cluster.admin.find(f"{PODS}/{name}") or {}).get(
            "status", {}).get("phase") == "Running", timeout)


def containers(cluster, names):
    """{pod: (container id, restarts)}"""
    found = {}
    for name in names:
        status = cluster.admin.get(f"{PODS}/{name}")["status"]["containerStatuses"][0]
        found[name] = status["containerID"], status["restartCount"]
    return found


def essence(item):
    """What of an object an edge must have right: not its status, which the edge itself reports, nor what
    only the API server keeps."""
    meta = item["metadata"]
    return {"uid": meta.get("uid"), "labels": meta.get("labels"), "annotations": meta.get("annotations"),
            "deleted": "deletionTimestamp" in meta, "spec": item.get("spec"), "data": item.get("data")}


def on_the_server(cluster, node):
    """{"namespace/kind/name": essence} of the pods bound to a node, the ConfigMaps they mention, and the node."""
    wanted = {f"null/node/{node}": essence(cluster.node(node))}
    for item in cluster.admin.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")["items"]:
        space = item["metadata"]["namespace"]
        wanted[f"{space}/pod/{item['metadata']['name']}"] = essence(item)
        for name in _mentioned(item):
            found = cluster.admin.find(f"/api/v1/namespaces/{space}/configmaps/{name}")
            if found:
                wanted[f"{space}/configmap/{name}"] = essence(found)
    return wanted


def _mentioned(item):
    return [source["configMapRef"]["name"] for container in item["spec"]["containers"]
            for source in container.get("envFrom", []) if "configMapRef" in source]


def on_the_edge(edge):
    """The same of what the edge has stored. ConfigMaps that no pod mentions any more may stay there, as
    they do with CloudCore."""
    stored = {}
    for kind in ("pod", "node", "configmap"):
        stored.update({key: essence(item) for key, item in edge.database(kind).items()})
    return stored


def difference(cluster, edge):
    """What is wrong on the edge, in words; "" if it has exactly what the API server has."""
    wanted, stored = on_the_server(cluster, edge.name), on_the_edge(edge)
    wrong = [f"{key} is missing" for key in wanted if key not in stored]
    wrong += [f"{key} is left over" for key in stored if key not in wanted and "/configmap/" not in key]
    for key in wanted.keys() & stored.keys():
        wrong += [f"{key} has another {part}: {stored[key][part]} for {wanted[key][part]}"
                  for part in wanted[key] if wanted[key][part] != stored[key][part]]
    return "; ".join(wrong)


def wait_same(cluster, edges, timeout):
    """Until each edge has exactly what the API server has; says what is wrong if it does not come to that."""
    try:
        for edge in edges:
            wait_until("the same objects", lambda: not difference(cluster, edge), timeout, 0.5)
    except Exception as error:
        raise AssertionError("; ".join(f"{edge.name}: {wrong}" for edge in edges
                                       if (wrong := difference(cluster, edge)))) from error


def out_of_order(edge):
    """Pushes of an older version after a newer one of the same object: (resource, newer, older)."""
    newest, found = {}, []
    for operation, resource, version in edge.pushes():
        if operation == "delete":
            newest.pop(resource, None)
        elif version < newest.get(resource, 0):
            found.append((resource, newest[resource], version))
        else:
            newest[resource] = version
    return found
