"""What happened around the recorded edge: users and controllers changed objects, and the edge was told. What it was told is
done to devapi's objects at that point, so that the next answers can show it."""

PATHS = {"node": "/api/v1/nodes/{name}", "pod": "/api/v1/namespaces/{ns}/pods/{name}",
         "configmap": "/api/v1/namespaces/{ns}/configmaps/{name}"}
MERGE = "application/merge-patch+json"


def path_of(line):
    ns, kind, name = line.resource.split("/")
    return PATHS[kind].format(ns=ns, name=name)


def is_deleted(content):
    return "deletionTimestamp" in content["metadata"]


def patch(devapi, path, body):
    code, answer = devapi.call("PATCH", path, body, MERGE)
    assert code == 200, (path, code, answer)


def follow(devapi, line):
    """`line` is a push."""
    if line.operation == "delete":
        return  # the last known object; the edge itself had asked for it
    path, content = path_of(line), line.content
    if line.kind == "configmap":
        patch(devapi, path, {"data": content["data"]})
    elif line.kind == "node":
        patch(devapi, path, {"metadata": {"annotations": content["metadata"]["annotations"]},
                             "spec": {"taints": content["spec"].get("taints")}})
        patch(devapi, path + "/status", {"status": {"conditions": content["status"]["conditions"]}})
    elif line.kind == "pod" and is_deleted(content):
        code, pod = devapi.call("GET", path)
        if code == 200 and not is_deleted(pod):
            code, _ = devapi.call("DELETE", path, {"gracePeriodSeconds": 30})
            assert code == 200, path
