"""devapi as its clients see it: curl over HTTP/2 and HTTP/1.1, and Python's own client for the long way through the API.

    B=build pytest test/devapi/test_devapi.py

A clean exit is part of every test: with SAN=address,undefined a leak or an error fails the module."""
import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVAPI = pathlib.Path(os.environ.get("B", "build")) / "devapi"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, folder, *flags):
        self.folder = folder
        self.port = free_port()
        kubeconfig = folder / "kubeconfig"
        kubeconfig.unlink(missing_ok=True)
        self.log = open(folder / "log", "w")
        path = DEVAPI if DEVAPI.is_absolute() else ROOT / DEVAPI
        self.process = subprocess.Popen(
            [path, "--address", f"127.0.0.1:{self.port}", "--kubeconfig-out", kubeconfig, *flags],
            stderr=self.log)
        deadline = time.monotonic() + 20
        while not kubeconfig.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, "devapi did not start"
            time.sleep(0.02)
        config = yaml.safe_load(kubeconfig.read_text())
        self.files = {}
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        for name, data in (("ca", cluster["certificate-authority-data"]),
                           ("cert", user["client-certificate-data"]),
                           ("key", user["client-key-data"])):
            self.files[name] = folder / f"{name}.pem"
            self.files[name].write_bytes(base64.b64decode(data))
        self.tls = ssl.create_default_context(cafile=self.files["ca"])
        self.tls.load_cert_chain(self.files["cert"], self.files["key"])
        self.connection = None

    def stop(self):
        if self.connection:
            self.connection.close()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.log.close()
        text = (self.folder / "log").read_text()
        assert code == 0 and "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text

    def connect(self, timeout=20):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, timeout=timeout)

    def call(self, method, path, body=None, node=None, kind="application/json", headers=None):
        """(status, decoded body); over one connection that is kept."""
        headers = dict(headers or {})
        if node:
            headers |= {"Impersonate-User": f"system:node:{node}", "Impersonate-Group": "system:nodes"}
        if body is not None:
            headers["Content-Type"] = kind
            body = body if isinstance(body, (str, bytes)) else json.dumps(body)
        self.connection = self.connection or self.connect()
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except Exception:
            self.connection.close()
            self.connection = None
            raise
        self.headers = answer.headers
        if answer.headers.get("Content-Type") != "application/json":
            return answer.status, text.decode()
        return answer.status, json.loads(text)

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def curl(self, path, *arguments):
        command = ["curl", "-sS", "-m", "20", "--cacert", self.files["ca"], "--cert",
                   self.files["cert"], "--key", self.files["key"],
                   f"https://127.0.0.1:{self.port}{path}", *arguments]
        return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("devapi"), "--event-cap", "50", "--history", "200")
    yield server
    server.stop()


@pytest.fixture
def faulty(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()


def node(name, **labels):
    return {"metadata": {"name": name, "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def pod(name, node_name=None, **spec):
    spec = {"containers": [{"name": "c", "image": "nginx:1"}]} | spec
    if node_name:
        spec["nodeName"] = node_name
    return {"metadata": {"name": name}, "spec": spec}


def lease(name, renew="2026-11-23T19:58:27.000000Z", **metadata):
    return {"metadata": {"name": name, "namespace": "kube-node-lease"} | metadata,
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renew}}


LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
PODS = "/api/v1/namespaces/default/pods"


def created(api, path, body, **more):
    code, answer = api.call("POST", path, body, **more)
    assert code == 201, answer
    return answer


# ---- protocols ----

@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_curl_reads_and_writes(api, version):
    name = "curl" + version.replace("-", "").replace(".", "")
    body = json.dumps({"metadata": {"name": name}, "data": {"k": "v"}})
    path = "/api/v1/namespaces/default/configmaps"
    made = api.curl(path, version, "-d", body, "-H", "content-type: application/json", "-w",
                    "\n%{http_version} %{http_code}")
    assert made.stdout.splitlines()[-1] == ("2 201" if version == "--http2" else "1.1 201")
    assert json.loads(api.curl(f"{path}/{name}", version).stdout)["data"] == {"k": "v"}


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_large_bodies_pass(api, version, tmp_path):
    name = "large" + version.replace("-", "").replace(".", "")
    data = {"k": "x\"\\\n" * 400_000}
    (tmp_path / "body").write_text(json.dumps({"metadata": {"name": name}, "data": data}))
    path = "/api/v1/namespaces/default/configmaps"
    made = api.curl(path, version, "--data-binary", f"@{tmp_path}/body", "-H",
                    "content-type: application/json")
    assert json.loads(made.stdout)["data"] == data
    assert json.loads(api.curl(f"{path}/{name}", version).stdout)["data"] == data
    (tmp_path / "body").write_text("x" * 4_000_000)
    refused = api.curl(path, version, "--data-binary", f"@{tmp_path}/body", "-H",
                       "content-type: application/json")
    assert json.loads(refused.stdout)["code"] == 413
    api.call("DELETE", f"{path}/{name}")


def test_pipelined_requests_are_answered_in_order(api):
    with socket.create_connection(("127.0.0.1", api.port), 10) as raw:
        with api.tls.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n"
                        b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b""
            while chunk := tls.recv(65536):
                text += chunk
    assert re.findall(rb"HTTP/1.1 (\d+) ", text) == [b"200", b"200", b"404"]


def test_garbage_closes_only_its_connection(api):
    with socket.create_connection(("127.0.0.1", api.port), 10) as raw:
        raw.sendall(b"not tls at all\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(100):
                pass
    with socket.create_connection(("127.0.0.1", api.port), 10) as raw:
        with api.tls.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            tls.sendall(b"\x00\x01\x02 garbage\r\n\r\n")
            assert tls.recv(100) == b""
    assert api.get("/healthz") == (200, "ok")


def test_without_certificate_nothing_but_health(api):
    def bare(path):
        return json.loads(subprocess.run(
            ["curl", "-sS", "--cacert", api.files["ca"], f"https://127.0.0.1:{api.port}{path}"],
            capture_output=True, text=True).stdout or "null")
    assert bare("/api/v1/nodes")["code"] == 401
    assert bare("/devapi/stats")["code"] == 401
    assert bare("/version")["major"] == "1"


def test_kubectl(api):
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("no kubectl")
    created(api, "/api/v1/nodes", node("for-kubectl"))
    out = subprocess.run([kubectl, "--kubeconfig", api.folder / "kubeconfig", "get", "nodes"],
                         capture_output=True, text=True)
    assert re.search(r"^for-kubectl +NotReady +<none> +<none> +", out.stdout, re.M), out
    created(api, LEASES, lease("for-kubectl"))
    created(api, PODS, pod("for-kubectl", "for-kubectl"))
    out = subprocess.run([kubectl, "--kubeconfig", api.folder / "kubeconfig", "get", "nodes,pods"],
                         capture_output=True, text=True)
    assert re.search(r"^node/for-kubectl +Ready +<none> +0s +", out.stdout, re.M), out
    assert re.search(r"^pod/for-kubectl +Pending +", out.stdout, re.M), out


# ---- objects ----

def test_errors_are_those_of_kube_apiserver(api):
    code, status = api.get(f"{LEASES}/nobody")
    assert code == 404 and status == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": 'leases.coordination.k8s.io "nobody" not found', "reason": "NotFound",
        "details": {"name": "nobody", "group": "coordination.k8s.io", "kind": "leases"}, "code": 404}
    created(api, "/api/v1/nodes", node("twice"))
    code, status = api.call("POST", "/api/v1/nodes", node("twice"))
    assert (code, status["reason"]) == (409, "AlreadyExists")
    assert status["message"] == 'nodes "twice" already exists'
    assert api.call("POST", "/api/v1/nodes", "{")[0] == 400
    assert api.call("POST", "/api/v1/nodes", {"metadata": {"name": "Bad_Name"}})[1]["reason"] == "Invalid"
    assert api.call("POST", "/api/v1/nodes", {"kind": "Pod", "metadata": {"name": "x"}})[0] == 400
    assert api.call("POST", "/api/v1/namespaces/nowhere/pods", pod("p"))[1]["message"] == \
        'namespaces "nowhere" not found'
    assert api.get("/api/v1/unknown")[0] == 404
    assert api.call("POST", "/api/v1/nodes", "x", kind="application/vnd.kubernetes.protobuf")[0] == 415


def test_update_conflicts(api):
    first = created(api, LEASES, lease("conflicts"))
    assert first["metadata"]["resourceVersion"].isdigit() and len(first["metadata"]["uid"]) == 36
    path = f"{LEASES}/conflicts"
    code, second = api.call("PUT", path, lease("conflicts", "2026-11-23T19:58:37.000000Z",
                                               resourceVersion=first["metadata"]["resourceVersion"]))
    assert code == 200 and second["metadata"]["uid"] == first["metadata"]["uid"]
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    code, status = api.call("PUT", path, first)
    assert (code, status["reason"]) == (409, "Conflict")
    assert status["message"] == (
        'Operation cannot be fulfilled on leases.coordination.k8s.io "conflicts": the object has been '
        'modified; please apply your changes to the latest version and try again')
    code, status = api.call("PUT", path, lease("conflicts"))
    assert code == 422 and "must be specified for an update" in status["message"]
    second["metadata"]["uid"] = "another"
    code, status = api.call("PUT", path, second)
    assert code == 409 and "Precondition failed: UID in precondition: another" in status["message"]
    assert api.call("PUT", f"{LEASES}/made-by-put", lease("made-by-put"))[0] == 201
    assert api.call("PUT", "/api/v1/nodes/not-there", node("not-there"))[0] == 404
    assert api.call("PUT", path, lease("other"))[0] == 400


def test_nothing_changed_is_no_new_version(api):
    made = created(api, "/api/v1/nodes", node("still"))
    code, again = api.call("PATCH", "/api/v1/nodes/still/status", "{}", kind=STRATEGIC)
    assert code == 200 and again == made
    code, again = api.call("PATCH", "/api/v1/nodes/still/status", {"status": {
        "conditions": [{"type": "Ready", "status": "True"}]}}, kind=STRATEGIC)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_generated_names_differ(api):
    path = "/api/v1/namespaces/default/configmaps"
    names = {created(api, path, {"metadata": {"generateName": "g-"}})["metadata"]["name"]
             for _ in range(20)}
    assert len(names) == 20 and all(len(n) == 7 for n in names)


def test_status_subresource_changes_only_status(api):
    created(api, "/api/v1/nodes", node("sub") | {"spec": {"podCIDR": "10.0.0.0/24"}})
    code, changed = api.call("PATCH", "/api/v1/nodes/sub/status",
                             {"spec": {"podCIDR": "x"}, "metadata": {"annotations": {"a": "b"}},
                              "status": {"phase": "Running"}}, kind=STRATEGIC)
    assert code == 200 and changed["spec"] == {"podCIDR": "10.0.0.0/24"}
    assert changed["metadata"]["annotations"] == {"a": "b"} and changed["status"]["phase"] == "Running"
    code, changed = api.call("PATCH", "/api/v1/nodes/sub",
                             {"spec": {"podCIDR": "y"}, "status": {"phase": "x"}}, kind=MERGE)
    assert changed["spec"] == {"podCIDR": "y"} and changed["status"]["phase"] == "Running"


def test_object_syncs(api):
    path = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"
    made = created(api, path, {"apiVersion": "reliablesyncs.kubeedge.io/v1alpha1", "kind": "ObjectSync",
                               "metadata": {"name": "n.uid"}, "spec": {"objectName": "p"},
                               "status": {"objectResourceVersion": "9"}})
    assert "status" not in made
    made["status"] = {"objectResourceVersion": "7"}
    made["spec"] = {"objectName": "ignored"}
    code, changed = api.call("PUT", f"{path}/n.uid/status", made)
    assert code == 200 and changed["status"] == made["status"] and changed["spec"] == {"objectName": "p"}
    assert api.call("PATCH", f"{path}/n.uid", {}, kind=STRATEGIC)[0] == 415
    code, status = api.call("DELETE", f"{path}/n.uid", {"gracePeriodSeconds": 0})
    assert code == 200 and status["status"] == "Success"


def test_json_patch(api):
    created(api, "/api/v1/namespaces/default/configmaps",
            {"metadata": {"name": "jp"}, "data": {"a": "1"}})
    path = "/api/v1/namespaces/default/configmaps/jp"
    code, changed = api.call("PATCH", path, [{"op": "test", "path": "/data/a", "value": "1"},
                                             {"op": "add", "path": "/data/b~1c", "value": "2"},
                                             {"op": "remove", "path": "/data/a"}], kind=JSON_PATCH)
    assert code == 200 and changed["data"] == {"b/c": "2"}
    assert api.call("PATCH", path, [{"op": "test", "path": "/data/a", "value": "1"}],
                    kind=JSON_PATCH)[0] == 422


def test_pods_are_defaulted_and_end_gracefully(api):
    made = created(api, PODS, pod("graceful", "some-node"))
    assert made["spec"]["enableServiceLinks"] and made["status"]["phase"] == "Pending"
    mounted = [v["projected"]["defaultMode"] for v in made["spec"]["volumes"]]
    assert mounted == [420] and made["metadata"]["generation"] == 1
    uid = made["metadata"]["uid"]
    code, status = api.call("DELETE", f"{PODS}/graceful", {"preconditions": {"uid": "other"}})
    assert (code, status["reason"]) == (409, "Conflict")
    code, ending = api.call("DELETE", f"{PODS}/graceful")
    assert code == 200 and ending["metadata"]["deletionGracePeriodSeconds"] == 30
    assert "deletionTimestamp" in ending["metadata"]
    code, again = api.call("DELETE", f"{PODS}/graceful")
    assert again["metadata"]["resourceVersion"] == ending["metadata"]["resourceVersion"]
    code, last = api.call("PATCH", f"{PODS}/graceful/status",
                          {"metadata": {"uid": "other"}, "status": {}}, kind=STRATEGIC)
    assert code == 409 and "UID in object meta: " + uid in last["message"]
    code, gone = api.call("DELETE", f"{PODS}/graceful",
                          {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
    assert code == 200 and gone["metadata"]["uid"] == uid
    assert api.get(f"{PODS}/graceful")[0] == 404
    created(api, PODS, pod("unbound"))
    api.call("DELETE", f"{PODS}/unbound")
    assert api.get(f"{PODS}/unbound")[0] == 404


def test_finalizers_hold_a_deletion(api):
    path = "/api/v1/namespaces/default/configmaps"
    created(api, path, {"metadata": {"name": "held", "finalizers": ["a/b"]}})
    assert api.call("DELETE", f"{path}/held")[0] == 200
    code, held = api.get(f"{path}/held")
    assert code == 200 and held["metadata"]["deletionTimestamp"]
    api.call("PATCH", f"{path}/held", {"metadata": {"finalizers": None}}, kind=MERGE)
    assert api.get(f"{path}/held")[0] == 404


def test_binding_moves_a_pod_to_its_node(api):
    created(api, PODS, pod("to-bind"))
    code, _ = api.call("POST", f"{PODS}/to-bind/binding", {"target": {"kind": "Node", "name": "bn"}})
    assert code == 201
    code, found = api.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dbn")
    assert [p["metadata"]["name"] for p in found["items"]] == ["to-bind"]
    assert api.call("POST", f"{PODS}/to-bind/binding", {"target": {"name": "bn"}})[0] == 409


def test_events_are_bounded(api):
    path = "/api/v1/namespaces/default/events"
    for i in range(70):
        created(api, path, {"metadata": {"name": f"e{i}"}, "involvedObject": {"name": f"o{i % 2}"}})
    code, found = api.get(path)
    assert len(found["items"]) == 50
    created(api, path, {"metadata": {"name": "Web_0:x@y.17979cfe"}})
    assert api.get(f"{path}/Web_0%3Ax%40y.17979cfe")[0] == 200
    api.call("DELETE", f"{path}/Web_0:x@y.17979cfe")
    code, found = api.get(f"{path}?fieldSelector=involvedObject.name%3Do1")
    assert len(found["items"]) in (24, 25)


# ---- lists ----

def test_lists_select_and_page(api):
    for i in range(25):
        created(api, "/api/v1/nodes", node(f"page-{i:02}", set="paged", parity=str(i % 2)))
    query = "/api/v1/nodes?labelSelector=" + urllib.parse.quote("set=paged")
    names = [f"page-{i:02}" for i in range(25)]
    code, first = api.get(query + "&limit=10")
    assert [n["metadata"]["name"] for n in first["items"]] == names[:10]
    assert "kind" not in first["items"][0] and first["kind"] == "NodeList"
    api.call("DELETE", "/api/v1/nodes/page-20")
    code, second = api.get(query + "&limit=10&continue=" + first["metadata"]["continue"])
    code, third = api.get(query + "&limit=10&continue=" + second["metadata"]["continue"])
    pages = first["items"] + second["items"] + third["items"]
    assert [n["metadata"]["name"] for n in pages] == names, "pages show one moment"
    assert "continue" not in third["metadata"]
    assert third["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    code, status = api.get(query + "&continue=999.5")
    assert (code, status["reason"]) == (410, "Expired")
    for selector, count in (("set=paged,parity!=1", 12), ("parity in (0, 1),set", 24),
                            ("set notin (paged),parity", 0), ("!set,parity", 0)):
        code, found = api.get("/api/v1/nodes?labelSelector=" + urllib.parse.quote(selector))
        assert len(found["items"]) == count, selector
    assert api.get("/api/v1/nodes?labelSelector=" + urllib.parse.quote("a in b"))[0] == 400
    code, status = api.get("/api/v1/nodes?resourceVersion=99999999")
    assert code == 504 and "Too large resource version" in status["message"]


# ---- watches ----

class Watch:
    def __init__(self, api, path):
        self.connection = api.connect()
        self.connection.request("GET", path)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def next(self):
        line = self.answer.readline()
        return json.loads(line) if line else None

    def close(self):
        self.connection.close()


def test_watch_follows_and_resumes(api):
    code, listed = api.get("/api/v1/nodes")
    version = listed["metadata"]["resourceVersion"]
    watch = Watch(api, f"/api/v1/nodes?watch=1&resourceVersion={version}&labelSelector=w")
    made = created(api, "/api/v1/nodes", node("watched", w="1"))
    created(api, "/api/v1/nodes", node("unwatched"))
    api.call("PATCH", "/api/v1/nodes/watched", {"metadata": {"labels": {"x": "1"}}}, kind=MERGE)
    api.call("PATCH", "/api/v1/nodes/watched", {"metadata": {"labels": {"w": None}}}, kind=MERGE)
    api.call("PATCH", "/api/v1/nodes/watched", {"metadata": {"labels": {"w": "2"}}}, kind=MERGE)
    api.call("DELETE", "/api/v1/nodes/watched")
    events = [watch.next() for _ in range(5)]
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert events[0]["object"] == made
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions[0] < versions[1] < versions[3] < versions[4]
    watch.close()
    again = Watch(api, f"/api/v1/nodes?watch=1&resourceVersion={versions[1]}&labelSelector=w")
    assert [again.next()["type"] for _ in range(3)] == ["DELETED", "ADDED", "DELETED"]
    again.close()


def test_watch_too_old_is_gone(api):
    created(api, "/api/v1/nodes", node("busy"))
    code, listed = api.get("/api/v1/nodes")
    slow = Watch(api, "/api/v1/nodes?watch=1&resourceVersion=" + listed["metadata"]["resourceVersion"])
    for i in range(250):
        api.call("PATCH", "/api/v1/nodes/busy", {"metadata": {"labels": {"i": str(i)}}}, kind=MERGE)
    late = Watch(api, "/api/v1/nodes?watch=1&resourceVersion=" + listed["metadata"]["resourceVersion"])
    event = late.next()
    assert event["type"] == "ERROR" and event["object"]["code"] == 410
    assert event["object"]["reason"] == "Expired" and late.next() is None
    seen = [slow.next() for _ in range(250)]
    assert [e["object"]["metadata"]["labels"]["i"] for e in seen] == [str(i) for i in range(250)]
    slow.close()


def test_watch_from_now_bookmarks_and_timeout(api):
    started = time.monotonic()
    watch = Watch(api, "/api/v1/namespaces/kube-system/configmaps?watch=1&allowWatchBookmarks=true"
                       "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1")
    first = watch.next()
    assert first["type"] == "ADDED" and first["object"]["metadata"]["name"] == "kube-root-ca.crt"
    end = watch.next()
    assert end["type"] == "BOOKMARK"
    assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    while event := watch.next():
        assert event["type"] == "BOOKMARK"
    assert 0.9 < time.monotonic() - started < 5


def test_pod_watch_by_node(api):
    watch = Watch(api, "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dwatching")
    created(api, PODS, pod("elsewhere", "another"))
    created(api, PODS, pod("here", "watching"))
    assert watch.next()["object"]["metadata"]["name"] == "here"
    watch.close()


# ---- nodes' own things ----

def forbidden(answer):
    code, status = answer
    assert (code, status["reason"]) == (403, "Forbidden"), answer
    return status["message"]


def test_a_node_does_its_own(api):
    made = created(api, "/api/v1/nodes", node("own"), node="own")
    assert api.get("/api/v1/nodes/own", node="own")[0] == 200
    assert api.call("PATCH", "/api/v1/nodes/own/status", {"status": {"phase": "x"}}, node="own",
                    kind=STRATEGIC)[0] == 200
    created(api, LEASES, lease("own"), node="own")
    assert api.get(f"{LEASES}/own", node="own")[0] == 200
    created(api, "/api/v1/namespaces/default/events", {"metadata": {"name": "own-event"}}, node="own")
    mirror = pod("mirror-own", "own", automountServiceAccountToken=False)
    mirror["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": "own", "uid": made["metadata"]["uid"],
         "controller": True}]}
    created(api, PODS, mirror, node="own")
    assert api.get("/api/v1/pods?fieldSelector=spec.nodeName%3Down", node="own")[0] == 200


def test_a_node_does_nothing_to_others(api):
    created(api, "/api/v1/nodes", node("victim"))
    created(api, LEASES, lease("victim"))
    created(api, PODS, pod("victims", "victim"))
    assert forbidden(api.get("/api/v1/nodes/victim", node="thief")) == (
        'nodes "victim" is forbidden: User "system:node:thief" cannot get resource "nodes" in API group '
        '"" at the cluster scope: node \'thief\' cannot read \'victim\', only its own Node object')
    assert "cannot read all nodes" in forbidden(api.get("/api/v1/nodes", node="thief"))
    assert 'node "thief" is not allowed to modify node "victim"' in forbidden(
        api.call("PATCH", "/api/v1/nodes/victim/status", {"status": {}}, node="thief", kind=STRATEGIC))
    assert 'node "thief" is not allowed to modify node "victim"' in forbidden(
        api.call("POST", "/api/v1/nodes", node("victim"), node="thief"))
    assert "same name as the requesting node" in forbidden(
        api.call("PUT", f"{LEASES}/victim", lease("victim"), node="thief"))
    assert "same name as the requesting node" in forbidden(
        api.call("POST", LEASES, lease("victim2"), node="thief"))
    assert "no relationship found" in forbidden(api.get(f"{PODS}/victims", node="thief"))
    assert "can only update pod status for pods with spec.nodeName set to itself" in forbidden(
        api.call("PATCH", f"{PODS}/victims/status", {"status": {"phase": "Failed"}}, node="thief",
                 kind=STRATEGIC))
    assert "can only delete pods with spec.nodeName set to itself" in forbidden(
        api.call("DELETE", f"{PODS}/victims", node="thief"))
    assert "can only create mirror pods" in forbidden(
        api.call("POST", PODS, pod("x", "thief"), node="thief"))
    forbidden(api.get("/api/v1/namespaces/default/events", node="thief"))
    forbidden(api.call("DELETE", "/api/v1/nodes/victim", node="thief"))
    assert api.get("/devapi/stats", node="thief")[0] == 404
    code, unharmed = api.get(f"{PODS}/victims")
    assert unharmed["status"]["phase"] == "Pending"


def test_node_labels_are_restricted(api):
    assert forbidden(api.call("POST", "/api/v1/nodes", node(
        "labels", **{"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}),
        node="labels")) == (
        'nodes "labels" is forbidden: node "labels" is not allowed to set the following labels: '
        'node-role.kubernetes.io/agent, node-role.kubernetes.io/edge')
    created(api, "/api/v1/nodes", node("labels", **{
        "kubernetes.io/os": "linux", "mine.example/x": "y", "node.kubernetes.io/z": ""}), node="labels")
    change = {"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}}
    assert forbidden(api.call("PATCH", "/api/v1/nodes/labels", change, node="labels", kind=MERGE)) == (
        'nodes "labels" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/edge')
    assert "modify labels" in forbidden(api.call("PATCH", "/api/v1/nodes/labels/status", change,
                                                 node="labels", kind=STRATEGIC))
    assert "modify taints" in forbidden(api.call("PATCH", "/api/v1/nodes/labels", {
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}, node="labels", kind=MERGE))
    assert api.call("PATCH", "/api/v1/nodes/labels", change, kind=MERGE)[0] == 200


def test_a_node_reads_what_its_pods_mention(api):
    path = "/api/v1/namespaces/default"
    for kind, name in (("configmaps", "m1"), ("configmaps", "m2"), ("secrets", "s1"), ("secrets", "s2"),
                       ("persistentvolumeclaims", "pvc1")):
        created(api, f"{path}/{kind}", {"metadata": {"name": name}})
    created(api, "/api/v1/persistentvolumes", {"metadata": {"name": "pv1"}, "spec": {
        "claimRef": {"namespace": "default", "name": "pvc1"}}})
    made = created(api, PODS, pod("mentioning", "reader", volumes=[
        {"name": "v", "configMap": {"name": "m1"}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "pvc1"}}],
        containers=[{"name": "c", "image": "x", "env": [
            {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}]}]))
    for ours in ("configmaps/m1", "secrets/s1", "persistentvolumeclaims/pvc1",
                 "configmaps/kube-root-ca.crt"):
        assert api.get(f"{path}/{ours}", node="reader")[0] == 200, ours
    assert api.get("/api/v1/persistentvolumes/pv1", node="reader")[0] == 200
    assert forbidden(api.get(f"{path}/configmaps/m2", node="reader")) == (
        'configmaps "m2" is forbidden: User "system:node:reader" cannot get resource "configmaps" in API '
        'group "" in the namespace "default": no relationship found between node \'reader\' and this object')
    assert "no relationship" in forbidden(api.get(f"{path}/secrets/nonexistent", node="reader"))
    forbidden(api.get(f"{path}/secrets/s1", node="other"))
    assert "can only read" in forbidden(api.call("DELETE", f"{path}/secrets/s1", node="reader"))

    request = {"spec": {"expirationSeconds": 3607, "boundObjectRef": {
        "kind": "Pod", "apiVersion": "v1", "name": "mentioning", "uid": made["metadata"]["uid"]}}}
    code, token = api.call("POST", f"{path}/serviceaccounts/default/token", request, node="reader")
    assert code == 201 and token["kind"] == "TokenRequest" and token["status"]["token"].count(".") == 2
    assert token["spec"]["audiences"] and token["status"]["expirationTimestamp"]
    forbidden(api.call("POST", f"{path}/serviceaccounts/default/token", request, node="other"))
    assert "not bound to a pod" in forbidden(
        api.call("POST", f"{path}/serviceaccounts/default/token", {"spec": {}}, node="reader"))
    request["spec"]["boundObjectRef"]["uid"] = "other"
    assert "does not match the UID in record" in forbidden(
        api.call("POST", f"{path}/serviceaccounts/default/token", request, node="reader"))
    api.call("DELETE", f"{PODS}/mentioning", {"gracePeriodSeconds": 0})
    forbidden(api.get(f"{path}/configmaps/m1", node="reader"))


def test_certificate_requests(api):
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    made = created(api, path, {"metadata": {"name": "csr-x"}, "spec": {"request": "eA=="}}, node="csr")
    assert made["spec"]["username"] == "system:node:csr"
    made["status"] = {"conditions": [{"type": "Approved", "status": "True"}]}
    code, approved = api.call("PUT", f"{path}/csr-x/approval", made)
    assert code == 200 and approved["status"]["conditions"][0]["type"] == "Approved"
    assert api.get(f"{path}/csr-x", node="csr")[0] == 200


# ---- faults and counts ----

def set_faults(api, **faults):
    code, now = api.call("PUT", "/devapi/faults", {k.replace("_", "-"): v for k, v in faults.items()})
    assert code == 200, now
    return now


def test_faults_change_while_it_runs(faulty):
    created(faulty, "/api/v1/nodes", node("f"))
    assert faulty.call("PUT", "/devapi/faults", {"error-rate": 2})[0] == 400
    assert faulty.call("PUT", "/devapi/faults", {"nonsense": 1})[0] == 400
    assert set_faults(faulty, error_rate=1.0)["error-rate"] == 1
    assert faulty.get("/api/v1/nodes/f")[1]["reason"] == "InternalError"
    set_faults(faulty, error_rate=0, throttle_rate=1.0, retry_after="2s")
    code, status = faulty.get("/api/v1/nodes/f")
    assert (code, status["details"]["retryAfterSeconds"]) == (429, 2)
    assert faulty.headers["Retry-After"] == "2"
    set_faults(faulty, throttle_rate=0, latency="300ms")
    started = time.monotonic()
    assert faulty.get("/api/v1/nodes/f")[0] == 200
    assert time.monotonic() - started >= 0.3
    set_faults(faulty, latency="0", reset_rate=1.0)
    with pytest.raises((http.client.HTTPException, OSError)):
        faulty.get("/api/v1/nodes/f")
    assert "INTERNAL_ERROR" in faulty.curl("/api/v1/nodes/f", "--http2").stderr
    set_faults(faulty, reset_rate=0, goaway_rate=1.0)
    twice = faulty.curl("/api/v1/nodes/f", "--http2", "-w", "%{num_connects} ", "--next", "-sS", "--cacert",
                        faulty.files["ca"], "--cert", faulty.files["cert"], "--key", faulty.files["key"],
                        f"https://127.0.0.1:{faulty.port}/api/v1/nodes/f", "-w", "%{num_connects} ")
    assert twice.stdout.count('"kind":"Node"') == 2, twice
    assert twice.stdout.rstrip().endswith("1"), "the second request needed a connection of its own"


def test_resets_happen_before_and_after(faulty):
    set_faults(faulty, reset_rate=1.0)
    path = "/api/v1/namespaces/default/configmaps"
    for i in range(40):
        with pytest.raises((http.client.HTTPException, OSError)):
            faulty.call("POST", path, {"metadata": {"name": f"r{i}"}})
    set_faults(faulty, reset_rate=0)
    code, found = faulty.get(path)
    assert 5 < len(found["items"]) < 36


def test_stalled_writes_hold_up_nobody_else(faulty):
    set_faults(faulty, stall={"event": "1500ms"})
    path = "/api/v1/namespaces/default/events"
    created(faulty, "/api/v1/nodes", node("quick"))

    def write_event(i):
        connection = faulty.connect()
        started = time.monotonic()
        connection.request("POST", path, json.dumps({"metadata": {"name": f"s{i}"}}),
                           {"Content-Type": "application/json"})
        assert connection.getresponse().status == 201
        connection.close()
        return time.monotonic() - started

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(write_event, i) for i in range(8)]
        time.sleep(0.5)
        started = time.monotonic()
        assert faulty.call("PATCH", "/api/v1/nodes/quick/status", {"status": {"a": "b"}},
                           kind=STRATEGIC)[0] == 200
        assert faulty.get(path)[1]["items"] == []
        assert time.monotonic() - started < 0.4
        code, stats = faulty.get("/devapi/stats")
        assert stats["stalled"] == 8 and stats["kinds"]["event"]["stalled"] == 8
        assert all(1.4 < future.result() < 4 for future in running)
    abandoned = faulty.curl(path, "--http2", "-m", "0.3", "-d", '{"metadata":{"name":"given-up"}}', "-H",
                            "content-type: application/json")
    assert abandoned.returncode == 28
    time.sleep(0.2)
    assert faulty.get("/devapi/stats")[1]["abandoned"] == 1
    time.sleep(1.5)
    assert faulty.get(f"{path}/given-up")[0] == 404


def test_lease_ages(faulty):
    version = created(faulty, LEASES, lease("aging"), node="aging")["metadata"]["resourceVersion"]

    def renew(second):
        nonlocal version
        code, now = faulty.call("PUT", f"{LEASES}/aging", lease(
            "aging", f"2026-11-23T19:59:{second:02}.000000Z", resourceVersion=version), node="aging")
        assert code == 200
        version = now["metadata"]["resourceVersion"]

    def age():
        return faulty.get("/devapi/leases")[1]["nodes"]["aging"]

    time.sleep(0.4)
    assert 350 <= age()["age_ms"] < 3000
    renew(10)
    assert age()["age_ms"] < 300 and age()["max_age_ms"] >= 350
    time.sleep(0.3)
    renew(5)  # a renewTime that does not move forward is no renewal
    assert age()["age_ms"] >= 250
    assert faulty.call("POST", "/devapi/leases/reset")[0] == 200
    renew(20)
    code, summary = faulty.get("/devapi/leases?summary=1")
    assert summary["leases"] == 1 and summary["renewals"] == 1 and summary["not_ready"] == 0
    assert "nodes" not in summary and sum(b["count"] for b in summary["gaps"]) == 1


def test_writes_are_counted_by_kind_and_user(faulty):
    created(faulty, "/api/v1/nodes", node("n1"), node="n1")
    for i in range(3):
        faulty.call("PATCH", "/api/v1/nodes/n1/status", {"status": {"i": i}}, node="n1", kind=STRATEGIC)
    faulty.call("PATCH", "/api/v1/nodes/n1/status", {"status": {}}, node="n2", kind=STRATEGIC)
    created(faulty, "/api/v1/namespaces/default/events", {"metadata": {"name": "e"}}, node="n2")
    code, writes = faulty.get("/devapi/writes")
    assert writes["total"] == {"node": {"create": 1}, "node/status": {"patch": 3}, "event": {"create": 1}}
    assert writes["users"] == {"system:node:n1": {"node": {"create": 1}, "node/status": {"patch": 3}},
                               "system:node:n2": {"event": {"create": 1}}}
    code, writes = faulty.get("/devapi/writes?kind=event&summary=1")
    assert writes["total"] == {"event": {"create": 1}} and "users" not in writes
    requests = faulty.get("/devapi/stats")[1]["requests"]
    assert {"verb": "patch", "kind": "node", "code": 403, "count": 1} in requests


def test_seed_and_certificates_and_journal_and_tokens(tmp_path):
    seed = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "seeded", "resourceVersion": "5150",
                                                              "uid": "u-1", "labels": {"a": "b"}}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "made"}}]
    (tmp_path / "seed.json").write_text(json.dumps(seed))
    (tmp_path / "tokens").write_text('t0k3n,hub,1,"a,b"\nn0d3,system:node:seeded,2,system:nodes\n')
    flags = ["--seed-file", tmp_path / "seed.json", "--cert-dir", tmp_path / "certs", "--journal",
             tmp_path / "journal", "--token-file", tmp_path / "tokens"]
    server = Server(tmp_path, *flags)
    ca = server.files["ca"].read_bytes()
    code, seeded = server.get("/api/v1/nodes/seeded")
    assert seeded["metadata"]["resourceVersion"] == "5150" and seeded["metadata"]["uid"] == "u-1"
    assert server.get("/api/v1/namespaces/made/secrets/s")[0] == 200
    made = created(server, "/api/v1/nodes", node("later"))
    assert int(made["metadata"]["resourceVersion"]) > 5150
    bare = ssl.create_default_context(cafile=server.files["ca"])
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=bare)
    for token, expected in (("t0k3n", 200), ("n0d3", 403), ("wrong", 401)):
        connection.request("GET", "/api/v1/nodes/later", headers={"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        assert (answer.status, answer.read() and token) == (expected, token)
    connection.close()
    server.stop()
    line = (tmp_path / "journal").read_text().split()
    assert line[1:] == ["devapi-admin", "create", "node", "later", made["metadata"]["resourceVersion"]]
    again = Server(tmp_path, *flags)
    assert again.files["ca"].read_bytes() == ca
    again.stop()
