"""Recorded bytes, as KubeEdge's own library wrote them, sent to the hub as they are."""

import json

import pytest

from lab.edge import Edge
from lab.processes import ROOT

VECTORS = ROOT / "test/vectors"
NODE = "edge-node-1"


def expected_head(text):
    """(status line, the headers that matter) of an answer to an upgrade"""
    first, *rest = text.strip().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in rest)
    return first.split(" ", 2)[:2], {k: headers[k] for k in ("upgrade", "connection")}, \
        [line.split(": ", 1)[1] for line in rest if line.lower().startswith("sec-websocket-accept")]


def test_upgrade_and_fragments_of_the_go_client(lab, hub):
    """One message in three masked fragments behind the request; the hub answers both."""
    edge = Edge(hub, lab.authority, NODE, upgrade=False)
    edge.socket.sendall((VECTORS / "handshake-request.txt").read_bytes())
    head = b""
    while b"\r\n\r\n" not in head:
        head += edge.socket.recv(4096)
    head, edge.buffer = head.split(b"\r\n\r\n", 1)
    assert expected_head(head.decode()) == \
        expected_head((VECTORS / "handshake-response.txt").read_text())
    edge.socket.sendall((VECTORS / "frames-edge-9k.bin").read_bytes())
    answer = edge.answer_to("00000000-0000-4000-8000-000000000060")
    assert answer["route"]["resource"] == "default/podpatch/web-0"
    assert answer["content"]["Err"]["ErrStatus"]["status"] == "Failure"  # 9,000 times x is no patch
    edge.socket.close()


# What nobody waits for is not answered.
SILENT = {"up-01-keepalive", "up-10-event-insert", "up-11-event-patch", "up-16-ack", "up-17-error",
          "up-20-upload-bytes", "up-21-metaserver-list", "up-22-membership-get"}


@pytest.mark.parametrize("fragment", [4096, 56])
def test_each_message_is_answered_or_not_as_it_wants(lab, hub, fragment):
    """One after another on one session, whatever the API server thinks of it; also in fragments that end within
    a character."""
    vectors = [json.loads(path.read_text()) for path in sorted(VECTORS.glob("up-*.json"))]
    assert len(vectors) == 25
    with Edge(hub, lab.authority, NODE) as edge:
        for vector in vectors:
            name, header = vector["name"], vector["header"]
            edge.send_text((VECTORS / f"{name}.bin").read_bytes(), fragment)
            if name in SILENT:
                continue
            answer = edge.answer_to(header["msg_id"])
            assert answer["route"]["group"] == "resource", name
            assert answer["route"]["operation"] in ("response", "error"), name
            kind = vector["route"]["resource"].split("/")[1]
            expected = vector["route"]["resource"].replace("nodestatus", "node") \
                if kind == "nodestatus" else vector["route"]["resource"]
            assert answer["route"]["resource"] == expected, name
        # Nothing came that was not asked for.
        edge.query_lease()
    metrics = hub.settle()
    local = metrics.by("isthmus_messages_local_total", "reason")
    assert sum(local.values()) == len(SILENT) - 2  # events go upstream
    assert metrics.by("isthmus_edge_closed_total", "reason").keys() <= {"peer"}
