"""What CloudCore pushed in the recorded session, the hub pushes too, when the same happens to the same objects.

Pushes come of changes, not of messages, so they are compared object by object: through which states the edge was led, and
what the last message of each state said. Differences that are meant, besides those of compare.py:
 - A pod's first push is an insert. CloudCore sends one only if the pod was bound when it was created; to an edge both are "set".
 - What CloudCore sends again for a status that the edge itself had reported is not sent.
 - A pod's ConfigMaps and Secrets are pushed before the pod; CloudCore waits until the edge asks for them.
"""

import json

from compare import differences, plain
from lab.processes import wait_until
from lab.store import StoreEdge
from session import Session
from world import follow, is_deleted, path_of

NODE = "hollow-2"


def state_of(message):
    if message["route"]["operation"] == "delete":
        return "deleted"
    return "terminating" if is_deleted(message["content"]) else "there"


def states(messages):
    """[(state, its last message)], without repetitions."""
    found = []
    for message in messages:
        if found and found[-1][0] == state_of(message):
            found[-1] = (state_of(message), message)
        else:
            found.append((state_of(message), message))
    return found


def recorded_pushes(session):
    found = {}
    for line in session.lines:
        if session.is_push(line):
            found.setdefault(line.resource, []).append(line.message)
    return found


def play(devapi, edge, line):
    """Has happen what the push tells of, and waits until the edge was told."""
    state = state_of(line.message)
    follow(devapi, line)
    if state == "deleted":
        code, _ = devapi.call("DELETE", path_of(line), {"gracePeriodSeconds": 0})
        assert code == 200
    wait_until(f"the edge is told of {line}",
               lambda: state in [s for s, _ in states(edge.seen(line.resource))], 20)


def test_the_pushes_of_the_captured_session(lab):
    session = Session("captures/edgecore-session.jsonl")
    recorded = recorded_pushes(session)
    seed = lab.folder / "seed.json"
    seed.write_text(json.dumps(session.first_seen("node", "pod", "configmap", "secret")))
    devapi = lab.devapi("--seed-file", seed)
    hub = lab.hub(devapi)
    with StoreEdge(hub, lab.authority, NODE) as edge:
        for line in session.lines:
            if session.is_push(line):
                play(devapi, edge, line)
        wait_until("the edge has the Node as it is", lambda: edge.rows[f"null/node/{NODE}"]["metadata"]
                   == devapi.get(f"/api/v1/nodes/{NODE}")["metadata"], 20)
        uids = {}
        for resource, messages in recorded.items():
            here = edge.seen(resource)
            uids[messages[0]["content"]["metadata"]["uid"]] = here[0]["content"]["metadata"]["uid"]
        wrong = []
        for resource, messages in recorded.items():
            theirs, ours = states(messages), states(edge.seen(resource))
            assert [s for s, _ in theirs] == [s for s, _ in ours], resource
            for (state, before), (_, after) in zip(theirs, ours):
                wrong += [f"{resource} {state}: {text}" for text in compare(before, after, uids)]
    assert not wrong, "\n".join(wrong)


def compare(before, after, uids):
    assert after["header"].keys() == before["header"].keys()
    assert after["header"]["resourceversion"] == after["content"]["metadata"]["resourceVersion"]
    routes = [{**m["route"], "operation": m["route"]["operation"].replace("insert", "update")} for m in (before, after)]
    assert routes[0] == routes[1]
    # Statuses are the edge's own reports; here nobody reports any. The edge's own deletion of the pod, which is what makes the
    # grace period 0, comes at once here.
    contents = [{k: v for k, v in m["content"].items() if k != "status"} for m in (before, after)]
    for content in contents:
        content["metadata"] = {k: v for k, v in content["metadata"].items() if k != "deletionGracePeriodSeconds"}
    return differences(plain(contents[0], uids, ("content",)), plain(contents[1], {}, ("content",)), "content")
