"""Replays recorded sessions of real EdgeCores: the hub answers as the recorded cloud did (see compare.py for what that means)."""

import json

from lab.edge import Edge
from lab.processes import ROOT

from compare import content_differences, differences, envelope_differences, plain
from replay import Replay
from session import Session
from world import follow

ANSWERED = {"lease", "node", "nodepatch", "podpatch", "pod", "configmap", "secret", "serviceaccounttoken"}


def start(lab, session, name, node):
    """An API server that holds what the recorded one held, a hub before it, and the edge."""
    seed = lab.folder / "seed.json"
    seed.write_text(json.dumps(session.first_seen("pod", "configmap", "secret")))
    devapi = lab.devapi("--seed-file", seed)
    hub = lab.hub(devapi, name=name)
    replay = Replay(session, hub, lab.authority, node)
    replay.connect()
    return devapi, hub, replay


def check_sums(hub, session, replay, unsent=()):
    """Everything was taken as what it is: no message was dropped, none answered that asked nothing."""
    replay.nothing_more_comes()
    metrics = hub.settle()
    assert metrics.sum("isthmus_messages_dropped_total") == 0
    assert metrics.by("isthmus_edge_closed_total", "reason").keys() <= {"peer"}
    keepalives = [x for x in session.lines if x.operation == "keepalive" and x not in unsent]
    local = metrics.by("isthmus_messages_local_total", "reason")
    assert local["keepalive"] == len(keepalives)
    asked = [x for x in session.answers.values() if session.sent[x.parent] not in unsent]
    assert metrics.sum("isthmus_messages_received_total") == len(asked) + 1
    assert {x.kind for x in asked} == ANSWERED - ({"secret"} if replay.node == "edge-node-1" else set())


def test_the_captured_session_is_answered_as_cloudcore_did(lab):
    session = Session("captures/edgecore-session.jsonl")
    devapi, hub, replay = start(lab, session, "hub", "hollow-2")
    lines = session.lines
    # CloudCore was killed: what the edge wrote from then on until it had connected again went nowhere.
    back = next(i for i, x in enumerate(lines) if x.time == "20:00:59.999")
    lost = [x for x in lines[:back] if x.is_sent and x.time > "20:00:20"]
    assert [x.operation for x in lost] == ["update", "keepalive"]
    pushes = {x.id for x in lines if session.is_push(x)}
    wrong = []
    for line in lines:
        if line is lines[back]:
            replay.connect()
        if line in lost or line.parent in pushes:
            continue  # what is pushed is the hub's own affair, so are its acknowledgements
        if session.is_push(line):
            follow(devapi, line)
        if not line.is_sent:
            continue
        answer = replay.send(line)
        if answer:
            expected = session.answers[line.id]
            found = [*envelope_differences(expected, answer),
                     *content_differences(line, expected.content, answer["content"], replay.uids.known)]
            wrong += [f"{line}: {text}" for text in found]
    assert not wrong, "\n".join(wrong)
    check_sums(hub, session, replay, lost)
    assert devapi.call("GET", "/api/v1/namespaces/default/pods")[1]["items"] == []


def test_the_session_of_edgemark_is_answered(lab):
    """Its cloud was a small test server: it gave back what it was given, and let no time for a pod's end. So all else that it
    said must be there, and an API server may have more to say."""
    session = Session("vectors/session-edgemark.jsonl")
    devapi, hub, replay = start(lab, session, "hub", "edge-node-1")
    pushes = {x.id for x in session.lines if session.is_push(x)}
    wrong = []
    for line in session.lines:
        if session.is_push(line) and line.operation == "update":
            follow(devapi, line)
        if not line.is_sent or line.parent in pushes:
            continue
        answer = replay.send(line)
        if answer:
            expected = session.answers[line.id]
            before = plain(expected.content, replay.uids.known, ("content",))
            after = plain(answer["content"], {}, ("content",))
            found = [*envelope_differences(expected, answer),
                     *(x for x in differences(before, after, "content")
                       if ": new, " not in x and ".deletionGracePeriodSeconds: 30, was 0" not in x)]
            wrong += [f"{line}: {text}" for text in found]
    assert not wrong, "\n".join(wrong)
    check_sums(hub, session, replay)


def vector(name):
    return json.loads((ROOT / f"test/vectors/{name}.json").read_text())


def test_a_failed_query_is_an_error_that_edgecore_does_not_store(lab, devapi, hub):
    """As kubeedge-protocol 4.4 advises, and unlike CloudCore, whose answer is the vector."""
    asked, recorded = vector("up-12-configmap-query"), vector("down-36-configmap-notfound")
    volume = {"name": "v", "configMap": {"name": asked["route"]["resource"].split("/")[2]}}
    devapi.create("/api/v1/namespaces/default/pods", {
        "metadata": {"name": "p"}, "spec": {"nodeName": "n", "volumes": [volume],
                                            "containers": [{"name": "c", "image": "i"}]}})
    with Edge(hub, lab.authority, "n") as edge:
        answer = edge.ask({part: asked[part] for part in ("header", "route", "content")})
    assert answer["route"] == {**recorded["route"], "operation": "error"}
    assert answer["content"] == recorded["content"]["ErrStatus"]["message"]
    assert set(answer["header"]) == {"msg_id", "parent_msg_id", "timestamp"}
