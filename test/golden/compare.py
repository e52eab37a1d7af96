"""When an answer equals the recorded one: in everything but what cannot be the same, and the differences that are meant.

Set aside as what it is, not left out: times (where one stood, one must stand), uids and resource versions (the same two must
always go together, see replay.py; a header's version must be its object's), tokens.

Differences that are meant:
 1. managedFields: the API server notes the name of the client that wrote, and devapi keeps no such record.
 2. kind and apiVersion of an object or a Status inside ObjectResp: CloudCore's typed client loses them, the hub passes on
    what the API server said.
 3. The annotation `cloudcore` has another address, and the hub notes the replica's name beside it.
 4. A lease that is not found: CloudCore looks into its informer's cache, whose error says "lease", the API server's "leases".
 5. Members that are null: Go writes out some times that are not set, devapi leaves them out.
 6. The taint of a new node and a token's audience are the API server's own: devapi has no admission plug-in
    TaintNodesByCondition, and another name for itself.
 7. A query that failed is answered with operation `error` and a text, not stored by EdgeCore as if it were the object
    (kubeedge-protocol 4.4). No question of the recorded sessions is one.
"""

import copy
import re

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
OWN_AUDIENCE = re.compile(r"^https://kubernetes\.default\.svc(\.cluster\.local)?$")
NEW_NODE_TAINTS = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
REPLICA_ANNOTATION = "isthmus.io/replica"


def plain(value, uids, path=()):
    """With what cannot be the same replaced; `uids` gives a recorded uid's counterpart."""
    if isinstance(value, dict):
        return {k: plain(v, uids, path + (k,)) for k, v in value.items()
                if v is not None and k != "managedFields" and k != REPLICA_ANNOTATION}
    if isinstance(value, list):
        return [plain(v, uids, path) for v in value]
    if isinstance(value, str):
        if path[-1] == "resourceVersion":
            return "<version>"
        if path[-1] == "token" and value:
            return "<token>"
        if path[-2:] == ("annotations", "cloudcore"):
            return "<address>"
        if path[-1] == "audiences" and OWN_AUDIENCE.match(value):
            return "<audience>"
        if TIME.match(value):
            return "<time>"
        return uids.get(value, value)
    return value


def without_types(value, expected):
    """Difference 2."""
    value = copy.deepcopy(value)
    if not isinstance(value, dict) or value.keys() != {"Object", "Err"}:
        return value
    for here, there in ((value["Object"], expected["Object"]),
                        ((value["Err"] or {}).get("ErrStatus"), (expected["Err"] or {}).get("ErrStatus"))):
        for key in ("kind", "apiVersion"):
            if here and there and key not in there:
                assert here.pop(key, None), f"an object without {key}"
    return value


def as_the_api_says(expected, line):
    """Differences 4 and 6."""
    expected = copy.deepcopy(expected)
    if line.kind == "lease" and expected["Err"]:
        status = expected["Err"]["ErrStatus"]
        assert status["details"]["kind"] == "lease" and status["message"].startswith("lease.")
        status["details"]["kind"] = "leases"
        status["message"] = status["message"].replace("lease.", "leases.", 1)
    if line.kind == "node" and line.operation == "insert":
        assert expected["Object"]["spec"].pop("taints") == NEW_NODE_TAINTS
    return expected


def object_of(content):
    found = content.get("Object", content) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def envelope_differences(line, answer):
    """`line` is the recorded answer."""
    header = answer["header"]
    if answer["route"] != line.message["route"]:
        yield f"route {answer['route']}, not {line.message['route']}"
    has = "resourceversion" in header
    if has != ("resourceversion" in line.message["header"]):
        yield f"a header with{'' if has else 'out'} a version"
    if has and header["resourceversion"] != object_of(answer["content"])["metadata"]["resourceVersion"]:
        yield "the header's version is not the object's"
    if not set(header) <= {"msg_id", "parent_msg_id", "timestamp", "resourceversion"}:
        yield f"header {header}"


def content_differences(line, expected, content, uids):
    """Of the answer to the line."""
    before = plain(as_the_api_says(expected, line), uids, ("content",))
    after = plain(without_types(content, expected), {}, ("content",))
    yield from differences(before, after, "content")


def differences(before, after, where):
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            if key not in after:
                yield f"{where}.{key}: missing, was {before[key]!r}"
            elif key not in before:
                yield f"{where}.{key}: new, {after[key]!r}"
            else:
                yield from differences(before[key], after[key], f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (one, other) in enumerate(zip(before, after)):
            yield from differences(one, other, f"{where}[{i}]")
    elif before != after:
        yield f"{where}: {after!r}, was {before!r}"
