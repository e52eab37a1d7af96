"""An edge driven by hand that asks its hub questions, and the answers in a form that can be compared
between two hubs: without what differs between any two runs."""

import re
import time

from lab.edge import Closed, Edge, envelope, keepalive

from .questions import NAMESPACE, fill, objects
from .processes import wait_until

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
# The volume of a pod's service account.
_SUFFIX = re.compile(r"kube-api-access-[a-z0-9]{5}")
# Another value in any two answers.
_VARYING = {"resourceVersion": "VERSION", "token": "TOKEN", "creationTimestamp": "TIME", "request": "CSR"}
# Set by controllers when they come to it, and how the API server keeps its books.
_SKIPPED = {"managedFields", "taints", "node.alpha.kubernetes.io/ttl", "beta.kubernetes.io/os",
            "beta.kubernetes.io/arch", "msg_id", "parent_msg_id", "timestamp"}
_NO_ANSWER = "no answer"


class Asker:
    """One node, its hub, and the administrator's view of the same cluster."""

    def __init__(self, hub, authority, node, elsewhere, admin):
        self.hub, self.authority, self.node, self.elsewhere = hub, authority, node, elsewhere
        self.admin = admin
        self.edge = None

    def reconnect(self):
        self.close()
        self.edge = Edge(self.hub, self.authority, self.node)

    def close(self):
        if self.edge:
            self.edge.socket.close()

    def path(self, kind, name):
        """Of an object among those that the questions are about."""
        return f"/api/v1/namespaces/{NAMESPACE}/{kind}/{fill(name, self.node)}"

    def settle(self):
        """CloudCore answers some questions from a cache that trails the API server."""
        time.sleep(1)

    def make_objects(self):
        for item in objects(self.node, self.elsewhere):
            self.admin.apply(item)
        as_node = self.admin.as_node(self.node)
        wait_until("the Node authorizer knows the pod",
                   lambda: as_node.text("GET", self.path("secrets", self.node))[0] == 200, 20)
        self.settle()

    def ask(self, question):
        """Returns what came of it: (short description, everything comparable)."""
        if question.before:
            question.before(self)
        content = question.content(self) if callable(question.content) else question.content
        message = fill(envelope(question.resource, question.operation, content, question.source, question.group),
                       self.node)
        try:
            # CloudCore closes a session that sends none for 30 s.
            self.edge.send(keepalive())
            answer = self._answer(self.edge.send(message), question.wait)
        except (Closed, OSError):
            self.reconnect()
            return "connection closed", {"closed": True}
        whole = normal(without_general(answer), self.node)
        said = describe(answer)
        if question.effect:
            effect = question.effect(self)
            whole["effect"] = effect
            said += f"; then {_plain(effect)}"
        return said, whole

    def _answer(self, message_id, wait):
        """The answer's envelope, or {} if none came in time. Acknowledges whatever wants it."""
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self.edge.receive(left)
            except TimeoutError:
                break
            header, route = message["header"], message["route"]
            parent = header.get("parent_msg_id")
            if route["operation"] != "response" or message["content"] != "OK":
                self.edge.send(envelope(route.get("resource", ""), "response", "OK", route.get("source", ""),
                                        route.get("group", ""), header["msg_id"]))
            if parent == message_id:
                return message
        return {}


def _plain(value):
    if value is None:
        return "nothing"
    return ("there" if value else "not there") if isinstance(value, bool) else str(value)


def without_general(answer):
    """The answer without what docs/compatibility.md says of all answers of its form: objects and
    Statuses of Isthmus carry kind and apiVersion, beside an error there is no empty object, and a
    Node has one annotation more."""
    content = answer.get("content")
    if not isinstance(content, dict):
        return answer
    if not {"Object", "Err"} <= content.keys():
        return {**answer, "content": _without_replica(content)}
    content = {**content, "Object": _without_replica(_without_type(content["Object"]))}
    if content["Err"]:
        content["Object"] = None
        if "ErrStatus" in content["Err"]:
            content["Err"] = {"ErrStatus": _without_type(content["Err"]["ErrStatus"])}
    return {**answer, "content": content}


def _without_type(item):
    if not isinstance(item, dict):
        return item
    return {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}


def _without_replica(item):
    annotations = ((item or {}).get("metadata") or {}).get("annotations")
    if not annotations:
        return item
    kept = {key: value for key, value in annotations.items() if key != "isthmus.io/replica"}
    return {**item, "metadata": {**item["metadata"], "annotations": kept}}


def normal(value, node, key=None):
    """The value without what differs between any two runs."""
    if isinstance(value, dict):
        return {k: normal(v, node, k) for k, v in value.items() if k not in _SKIPPED}
    if isinstance(value, list):
        return [normal(item, node) for item in value]
    if key in _VARYING and value:
        return _VARYING[key]
    if isinstance(value, str):
        if key == "resourceversion":
            return "VERSION"
        text = _SUFFIX.sub("kube-api-access", _UUID.sub("UID", _TIME.sub("TIME", value)))
        return text.replace(node, "NODE")
    return value


def describe(answer):
    """An answer in a few words."""
    if not answer:
        return _NO_ANSWER
    operation, content = answer["route"]["operation"], answer["content"]
    return ("" if operation == "response" else operation + ": ") + _describe_content(content)


def _describe_content(content):
    if isinstance(content, dict):
        if {"Object", "Err"} <= content.keys():
            return _describe_status(content["Err"]) if content["Err"] else "Object"
        if "ErrStatus" in content:
            return _describe_status(content)
        return _kind(content)
    if content in ("OK", "ack"):
        return content
    if isinstance(content, str) and content.startswith("-----BEGIN"):
        return "PEM"
    return "text" if isinstance(content, str) else str(content)


def _describe_status(error):
    status = error.get("ErrStatus")
    if status is None:
        return f"error without a status {error}" if error else "{}"
    return f"{status.get('code', 'no code')} {status.get('reason', 'without a reason')}"


def _kind(item):
    return "null" if item is None else item.get("kind", "without kind" if item else "{}")


def differing(one, other, path=""):
    """The paths at which two values differ, as words."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted(one.keys() | other.keys()):
            below = f"{path}.{key}" if path else key
            if key not in one or key not in other:
                found.append(below)
            else:
                found += differing(one[key], other[key], below)
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [p for i, pair in enumerate(zip(one, other)) for p in differing(*pair, f"{path}[{i}]")]
    return [] if one == other else [path]
