"""What an edge can ask its hub, upstream kind by kind, each with good, missing, conflicting and
broken input: the questions of the conformance run, in the order in which they are asked.

"{node}" in a resource or a content stands for the node that asks, so that two nodes can ask the same of two
hubs on one API server and find the same things there.
"""

import base64
import dataclasses
import subprocess
import typing

NAMESPACE = "conformance"
LEASE = "kube-node-lease/lease/{node}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
# Long enough for any answer that comes at all; silence costs as much.
PATIENCE_SECONDS = 6.0
SILENCE_SECONDS = 2.5


@dataclasses.dataclass
class Question:
    id: str
    resource: str
    operation: str
    content: typing.Any = None          # or a function of the Asker
    source: str = "edged"
    group: str = "meta"
    before: typing.Callable = None      # of the Asker: makes things so
    effect: typing.Callable = None      # of the Asker: what became of it at the API server
    wait: float = PATIENCE_SECONDS


def fill(value, node):
    """The value with "{node}" replaced everywhere."""
    if isinstance(value, dict):
        return {key: fill(item, node) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, node) for item in value]
    return value.replace("{node}", node) if isinstance(value, str) else value


# ---- what is there before the first question ----

def objects(node, elsewhere):
    """A pod bound to the node, what it mentions, and things of others."""
    def named(kind, name, version="v1", **more):
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **more}

    def pod(name, where, **spec):
        return named("Pod", name, spec={
            "nodeName": where, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "none.invalid/none", **spec.pop("container", {})}], **spec})

    for name in (node, f"{node}-foreign"):
        yield named("ConfigMap", name, data={"key": "value"})
        yield named("Secret", name, stringData={"key": "value"})
        yield {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "hostPath": {"path": "/nowhere"}, "claimRef": {"namespace": NAMESPACE, "name": name}}}
        yield named("PersistentVolumeClaim", name, spec={
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}})
        where = node if name == node else elsewhere
        yield {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
               "spec": {"attacher": "none.invalid", "nodeName": where, "source": {"persistentVolumeName": name}}}
    mentions = {"envFrom": [{"configMapRef": {"name": node}}, {"secretRef": {"name": node}}]}
    claim = {"name": "claim", "persistentVolumeClaim": {"claimName": node}}
    yield pod(node, node, container=mentions, volumes=[claim])
    for name in ("reported", "deleted"):
        yield pod(f"{node}-{name}", node)
    for name in ("foreign", "strange"):
        yield pod(f"{node}-{name}", elsewhere)


# ---- contents ----

def node_object(**status):
    return {"metadata": {"name": "{node}", "creationTimestamp": None,
                         "labels": {"kubernetes.io/hostname": "{node}", "kubernetes.io/os": "linux",
                                    "node-role.kubernetes.io/agent": "", "node-role.kubernetes.io/edge": "",
                                    "site": "harbour"},
                         "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
            "spec": {},
            "status": {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                       "conditions": [{"type": "Ready", "status": "True", "reason": "EdgeReady",
                                       "lastHeartbeatTime": "2023-11-14T22:13:20Z",
                                       "lastTransitionTime": "2023-11-14T22:13:20Z",
                                       "message": "edge is posting ready status"}],
                       "addresses": [{"type": "Hostname", "address": "{node}"}], **status}}


def lease_object(version=None, renewed="2023-11-14T22:13:20.000000Z"):
    meta = {"name": "{node}", "namespace": "kube-node-lease", "creationTimestamp": None}
    if version:
        meta["resourceVersion"] = version
    return {"metadata": meta, "spec": {"holderIdentity": "{node}", "leaseDurationSeconds": 40,
                                       "renewTime": renewed}}


def current_lease(asker):
    version = asker.admin.get(f"{LEASES}/{asker.node}")["metadata"]["resourceVersion"]
    return lease_object(version, "2023-11-14T22:13:30.000000Z")


def event_object(name, **more):
    return {"metadata": {"name": name, "namespace": NAMESPACE, "creationTimestamp": None},
            "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": "{node}"},
            "reason": "Pulled", "message": "already present", "type": "Normal", "count": 1,
            "source": {"component": "kubelet", "host": "{node}"},
            "firstTimestamp": "2023-11-14T22:13:20Z", "lastTimestamp": "2023-11-14T22:13:20Z",
            "eventTime": None, "reportingComponent": "", "reportingInstance": "", **more}


def token_request(bound_to):
    def content(asker):
        spec = {"audiences": None, "expirationSeconds": 3607}
        if bound_to:
            pod = asker.admin.get(asker.path("pods", bound_to))
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"],
                                      "uid": pod["metadata"]["uid"]}
        return {"metadata": {"creationTimestamp": None}, "spec": spec,
                "status": {"token": "", "expirationTimestamp": None}}
    return content


def of_pod(name, make):
    """A content made from the pod as it is now, or from none."""
    return lambda asker: make(asker.admin.find(asker.path("pods", name)))


def delete_options(uid):
    return {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}


def mirror_pod(asker):
    uid = asker.admin.get(f"/api/v1/nodes/{asker.node}")["metadata"]["uid"]
    return {"metadata": {"name": "{node}-mirror", "namespace": NAMESPACE,
                         "annotations": {"kubernetes.io/config.mirror": "abc"},
                         "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "{node}", "uid": uid,
                                              "controller": True}]},
            "spec": {"nodeName": "{node}", "containers": [{"name": "main", "image": "none.invalid/none"}]}}


def certificate_request(asker):
    made = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
         "/dev/null", "-subj", f"/O=system:nodes/CN=system:node:{asker.node}",
         "-addext", f"subjectAltName=DNS:{asker.node}"],
        capture_output=True, check=True).stdout
    return {"metadata": {"name": "{node}", "creationTimestamp": None},
            "spec": {"request": base64.b64encode(made).decode(), "signerName": "kubernetes.io/kubelet-serving",
                     "usages": ["digital signature", "server auth"]}, "status": {}}


WRONG_UID = "00000000-0000-4000-8000-000000000000"
RUNNING = {"status": {"phase": "Running"}}


# ---- what becomes of it ----

def has_event(name, field):
    def effect(asker):
        found = asker.admin.find(asker.path("events", name))
        return found and found.get(field)
    return effect


def has_pod(name):
    return lambda asker: asker.admin.find(asker.path("pods", name)) is not None


def has_node(asker):
    return asker.admin.find(f"/api/v1/nodes/{asker.node}") is not None


def drop_node(asker):
    """As an administrator removes a node: its hub may close the session."""
    if has_node(asker):
        asker.admin.delete(f"/api/v1/nodes/{asker.node}")
    asker.settle()
    asker.reconnect()


# ---- the questions ----

def node_questions():
    node, patch, status = "null/node/{node}", "null/nodepatch/{node}", "default/nodestatus/{node}"
    ready = '{"status":{"conditions":[{"type":"Ready","status":"True","reason":"EdgeReady"}]}}'
    report = {"UID": "", "Status": {"phase": "Running", "capacity": {"cpu": "8"}}, "ExtendResources": None}
    return [
        Question("node query, missing", "default/node/{node}", "query"),
        Question("nodepatch, missing", patch, "patch", ready),
        Question("node update, missing", "default/node/{node}", "update", node_object()),
        Question("nodestatus update, missing", status, "update", report),
        Question("nodestatus insert, broken", status, "insert", "no object"),
        Question("nodestatus insert, good", status, "insert", node_object(), effect=has_node),
        Question("nodestatus insert, again", status, "insert", node_object()),
        Question("node insert, broken", node, "insert", "no object", before=drop_node, effect=has_node),
        Question("node insert, no content", node, "insert", None, effect=has_node),
        Question("node insert, good", node, "insert", node_object(), before=drop_node, effect=has_node),
        Question("node insert, again", node, "insert", node_object()),
        Question("node insert, another's name inside", node, "insert",
                 {**node_object(), "metadata": {"name": "somebody-else"}}),
        Question("node query, good", "default/node/{node}", "query"),
        Question("nodepatch, good", patch, "patch", ready),
        Question("nodepatch, nothing", patch, "patch", "{}"),
        Question("nodepatch, namespace of 1.22", "default/nodepatch/{node}", "patch", ready),
        Question("nodepatch, base64 of 1.12.0", patch, "patch",
                 "eyJzdGF0dXMiOnsiY29uZGl0aW9ucyI6W3sidHlwZSI6IlJlYWR5Iiwic3RhdHVzIjoiVHJ1ZSJ9XX19"),
        Question("nodepatch, broken", patch, "patch", '{"status":'),
        Question("nodepatch, wrong type", patch, "patch", '{"status":7}'),
        Question("node update, good", "default/node/{node}", "update", {
            "metadata": {"name": "{node}", "labels": {"site": "pier"}, "annotations": {"note": "moved"}}}),
        Question("node update, broken", "default/node/{node}", "update", "no object"),
        Question("nodestatus update, good", status, "update", report),
        Question("nodestatus update, broken", status, "update", "no object"),
        Question("node query, another's", "default/node/elsewhere", "query"),
        Question("nodepatch, another's", "null/nodepatch/elsewhere", "patch", ready),
    ]


def lease_questions():
    return [
        Question("lease query, missing", LEASE, "query", before=lambda asker: asker.make_objects()),
        Question("lease update, missing", LEASE, "update", lease_object("1")),
        Question("lease insert, broken", LEASE, "insert", "no object"),
        Question("lease insert, good", LEASE, "insert", lease_object()),
        Question("lease insert, again", LEASE, "insert", lease_object()),
        Question("lease query, good", LEASE, "query", before=lambda asker: asker.settle()),
        Question("lease update, good", LEASE, "update", current_lease),
        Question("lease update, stale", LEASE, "update", lease_object("1")),
        Question("lease update, broken", LEASE, "update", 7),
        Question("lease query, another's", "kube-node-lease/lease/elsewhere", "query"),
        Question("lease query, no name", "kube-node-lease/lease", "query", wait=SILENCE_SECONDS),
    ]


def pod_questions():
    def patch(pod):
        return f"{NAMESPACE}/podpatch/{pod}"

    def status(uid, **more):
        return {"UID": uid, "Name": "{node}-reported", "Status": {"phase": "Running", **more}}

    one, two = "{node}-reported", "{node}-deleted"
    running = '{"metadata":{"uid":"%s"},"status":{"phase":"Running"}}'
    return [
        Question("podpatch, good", patch(one), "patch",
                 of_pod(one, lambda pod: running % pod["metadata"]["uid"])),
        Question("podpatch, another life", patch(one), "patch", running % WRONG_UID),
        Question("podpatch, missing", patch("{node}-none"), "patch", running % WRONG_UID),
        Question("podpatch, broken", patch(one), "patch", '{"status":'),
        Question("podpatch, another's", patch("{node}-foreign"), "patch", '{"status":{"phase":"Running"}}'),
        Question("podstatus update, good", f"{NAMESPACE}/podstatus/{one}", "update",
                 of_pod(one, lambda pod: status(pod["metadata"]["uid"]))),
        Question("podstatus update, another life", f"{NAMESPACE}/podstatus/{one}", "update", status(WRONG_UID)),
        Question("podstatus update, broken", f"{NAMESPACE}/podstatus/{one}", "update", "no object"),
        Question("pod insert, good", f"{NAMESPACE}/pod/{{node}}-mirror", "insert", mirror_pod,
                 effect=has_pod("{node}-mirror")),
        Question("pod insert, again", f"{NAMESPACE}/pod/{{node}}-mirror", "insert", mirror_pod),
        Question("pod insert, broken", f"{NAMESPACE}/pod/{{node}}-mirror2", "insert", "no object"),
        Question("pod delete, conflict", f"{NAMESPACE}/pod/{two}", "delete", delete_options(WRONG_UID),
                 effect=has_pod(two)),
        Question("pod delete, broken", f"{NAMESPACE}/pod/{two}", "delete", 7, effect=has_pod(two)),
        Question("pod delete, another's", f"{NAMESPACE}/pod/{{node}}-foreign", "delete",
                 of_pod("{node}-foreign", lambda pod: delete_options(pod["metadata"]["uid"]) if pod else None),
                 effect=has_pod("{node}-foreign")),
        Question("pod delete, good", f"{NAMESPACE}/pod/{two}", "delete",
                 of_pod(two, lambda pod: delete_options(pod["metadata"]["uid"])), effect=has_pod(two)),
        Question("pod delete, missing", f"{NAMESPACE}/pod/{two}", "delete", delete_options(WRONG_UID)),
        Question("pod query", f"{NAMESPACE}/pod/{{node}}", "query", wait=SILENCE_SECONDS),
    ]


def query_questions():
    asked = []
    for kind, namespace in (("configmap", NAMESPACE), ("secret", NAMESPACE), ("persistentvolumeclaim", NAMESPACE),
                            ("persistentvolume", "null"), ("volumeattachment", "default")):
        asked += [
            Question(f"{kind} query, good", f"{namespace}/{kind}/{{node}}", "query"),
            Question(f"{kind} query, missing", f"{namespace}/{kind}/{{node}}-none", "query"),
            Question(f"{kind} query, another's", f"{namespace}/{kind}/{{node}}-foreign", "query"),
        ]
    token = f"{NAMESPACE}/serviceaccounttoken/default"
    csr = "default/certificatesigningrequest/{node}"
    return asked + [
        Question("configmap query, path tricks", f"{NAMESPACE}/configmap/..", "query"),
        Question("serviceaccounttoken query, good", token, "query", token_request("{node}")),
        Question("serviceaccounttoken query, unbound", token, "query", token_request(None)),
        Question("serviceaccounttoken query, another's", token, "query", token_request("{node}-strange")),
        Question("serviceaccounttoken query, missing", f"{NAMESPACE}/serviceaccounttoken/none", "query",
                 token_request("{node}")),
        Question("serviceaccounttoken query, broken", token, "query", "no object"),
        Question("certificatesigningrequest query, missing", csr, "query"),
        Question("certificatesigningrequest insert, broken", csr, "insert", "no object"),
        Question("certificatesigningrequest insert, good", csr, "insert", certificate_request),
        Question("certificatesigningrequest insert, again", csr, "insert", certificate_request),
        Question("certificatesigningrequest query, good", csr, "query"),
        Question("k8s/ca.crt query", "k8s/ca.crt", "query", source="metamanager"),
    ]


def event_questions():
    name = "{node}.1"
    resource = f"{NAMESPACE}/event/{name}"
    patch = {"event": event_object(name), "patchData": '{"count":2}'}
    silent = {"wait": SILENCE_SECONDS}
    return [
        Question("event insert, good", resource, "insert", event_object(name),
                 effect=has_event(name, "count"), **silent),
        Question("event patch, good", resource, "patch", patch, effect=has_event(name, "count"), **silent),
        Question("event update, good", resource, "update", event_object(name, count=3),
                 effect=has_event(name, "count"), **silent),
        Question("event patch, missing", f"{NAMESPACE}/event/{{node}}.2", "patch",
                 {"event": event_object("{node}.2"), "patchData": '{"count":2}'},
                 effect=has_event("{node}.2", "count"), **silent),
        Question("event insert, broken", f"{NAMESPACE}/event/{{node}}.3", "insert", "no object", **silent),
    ]


def make_device(asker):
    """A device at the node, for DeviceController to take reports about."""
    api = "devices.kubeedge.io/v1beta1"
    asker.admin.apply({"apiVersion": api, "kind": "DeviceModel", "metadata": {"name": asker.node}, "spec": {
        "protocol": "none", "properties": [{"name": "level", "type": "INT", "accessMode": "ReadWrite"}]}})
    asker.admin.apply({"apiVersion": api, "kind": "Device", "metadata": {"name": asker.node}, "spec": {
        "deviceModelRef": {"name": asker.node}, "nodeName": asker.node, "protocol": {"protocolName": "none"},
        "properties": [{"name": "level"}]}})
    asker.settle()


def unserved_questions():
    """What of CloudCore is not served: device twins, MetaServer, node jobs, the rule router."""
    twin, silent = {"source": "twin", "group": "resource"}, {"wait": SILENCE_SECONDS}
    level = {"level": {"actual": {"value": "7", "metadata": {"timestamp": 1700000000}}, "metadata": {"type": "INT"}}}

    def metaserver(verb, key="/core/v1/configmaps/conformance/null"):
        return {"ID": "5f3c", "Key": key, "Verb": verb, "Nodename": "{node}", "Option": "e30=", "ReqBody": None,
                "Subresource": "", "RespBody": None, "Status": "InApplying", "Reason": "",
                "Error": {"ErrStatus": {"metadata": {}}}, "Timestamp": "0001-01-01T00:00:00Z"}

    asks = {"source": "metaserver", "group": "dynamiccontroller", **silent}
    return [
        Question("device twin membership", "membership/detail", "get", '{"event_id":"","timestamp":1700000000}',
                 **twin, **silent),
        Question("device twin update", "device/default/{node}/twin/edge_updated", "update",
                 {"event_id": "", "timestamp": 1700000000, "twin": level}, before=make_device, **twin, **silent),
        Question("device state update", "device/default/{node}/state/update", "update",
                 {"event_id": "", "timestamp": 1700000000, "device": {"name": "{node}", "state": "online"}},
                 **twin, **silent),
        Question("MetaServer list", "null", "null", metaserver("list"), **asks),
        Question("MetaServer watch", "null", "null", metaserver("watch"), **asks),
        Question("node job", "operations.kubeedge.io/v1alpha2/nodeupgradejob/none/node/{node}",
                 "UpdateNodeActionStatus", {"action": "Check", "succ": True}, source="websocket", group="hub",
                 **silent),
        Question("rule router upload", "/a/b", "upload", "eyJ9", source="servicebus", group="user", **silent),
        Question("rulestatus update", "default/rulestatus/none", "update", {}, **silent),
        Question("volumeattachment insert", "default/volumeattachment/{node}", "insert", {}, **silent),
        Question("unknown kind", f"{NAMESPACE}/teapot/{{node}}", "query", **silent),
        Question("reserved source", f"{NAMESPACE}/configmap/{{node}}", "query", source="cloudhub", **silent),
        Question("viaduct ping", "null", "ping", "", **silent),
    ]


def questions():
    return (node_questions() + lease_questions() + pod_questions() + query_questions() + event_questions()
            + unserved_questions())
