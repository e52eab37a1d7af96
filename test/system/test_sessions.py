"""Who is let in, who stays, who is closed: identity, takeover, silence, certificates that change, an orderly stop."""

import shutil
import socket
import ssl
import threading
import time
from signal import SIGHUP, SIGTERM

import pytest

from lab.certs import Authority
from lab.edge import Closed, Edge, Refused, envelope, keepalive
from lab.processes import PATIENCE, wait_until
from test_fleet import assert_answered, assert_no_loss

# What a TLS client sees when it is refused: at once, or with TLS 1.3 at its first read.
TLS_REFUSAL = (ssl.SSLError, ConnectionError, Closed)


def refused_by(hub, reason, connect, expected):
    before = hub.refused(reason)
    with pytest.raises(expected):
        connect()
    wait_until(f"the refusal is counted as {reason}", lambda: hub.refused(reason) == before + 1)


# ---- identity ----

@pytest.mark.sanitize
def test_without_certificate_nobody_enters(hub, authority):
    refused_by(hub, "tls", lambda: Edge(hub, authority, "n", client_certificate=False), TLS_REFUSAL)
    assert hub.connections() == 0


def test_a_foreign_authority_is_refused(hub, authority, tmp_path):
    foreign = Authority(tmp_path / "foreign")
    refused_by(hub, "tls", lambda: Edge(hub, authority, "n", certificate=foreign.node("n")), TLS_REFUSAL)


def test_a_server_certificate_is_no_client_certificate(hub, authority):
    wrong = authority.node("n", usage="serverAuth", stem="wrong-usage")
    refused_by(hub, "tls", lambda: Edge(hub, authority, "n", certificate=wrong), TLS_REFUSAL)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_an_old_tls_version_is_refused(hub, authority):
    before = hub.refused("tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", hub.port), 10) as raw, pytest.raises(TLS_REFUSAL):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    wait_until("it is counted", lambda: hub.refused("tls") == before + 1)


@pytest.mark.parametrize("node_id", ["other", "N", "n%20", "n/../other", "", "system:node:n"])
def test_the_node_id_must_be_the_certificates(hub, authority, node_id):
    with pytest.raises((Refused, Closed)) as error:
        Edge(hub, authority, "n", node_id=node_id or "\t")
    if error.type is Refused:
        assert 400 <= error.value.status < 500
    assert hub.connections() == 0
    refusals = hub.metrics().by("isthmus_edge_refused_total", "reason")
    assert sum(refusals.values()) == 1 and set(refusals) <= {"wrong_node", "bad_request"}, refusals


def test_a_certificate_that_names_no_node_is_refused(hub, authority):
    nameless = authority.node("n", subject="/O=KubeEdge/CN=kubeedge.io", stem="legacy")
    with pytest.raises((Refused, Closed)):
        Edge(hub, authority, "n", certificate=nameless)
    assert hub.refused("wrong_node") + hub.refused("tls") == 1


def test_legacy_certificates_are_taken_when_allowed(lab, devapi, authority):
    hub = lab.hub(devapi, "--legacy-client-certs=true")
    nameless = authority.node("n", subject="/O=KubeEdge/CN=kubeedge.io", stem="legacy")
    with Edge(hub, authority, "n", certificate=nameless) as edge:
        assert edge.query_lease()["content"]["Err"]["ErrStatus"]["code"] == 404


@pytest.mark.parametrize("request_text", [
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /x/n/events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "GET /x/n/events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "nonsense\r\n\r\n",
    "GET /x HTTP/1.1\r\nX: " + "y" * 70000 + "\r\n\r\n",
], ids=["plain-get", "post", "no-node-id", "garbage", "huge-header"])
def test_what_is_no_upgrade_is_refused(hub, authority, request_text):
    edge = Edge(hub, authority, "n", upgrade=False)
    try:
        edge.socket.sendall(request_text.encode())
        head = edge.socket.recv(4096)
    except (ssl.SSLError, ConnectionError):
        head = b""
    assert not head.startswith(b"HTTP/1.1 101")
    edge.socket.close()
    wait_until("it is counted", lambda: sum(
        hub.metrics().by("isthmus_edge_refused_total", "reason").values()) == 1)
    assert hub.connections() == 0


def test_max_connections_are_refused_before_tls(lab, devapi, authority):
    hub = lab.hub(devapi, "--max-connections", "3")
    edges = [Edge(hub, authority, f"n{i}") for i in range(3)]
    before = time.monotonic()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Edge(hub, authority, "n3")
    assert time.monotonic() - before < 5 * PATIENCE
    assert hub.refused("max_connections") == 1
    edges[0].query_lease()
    edges[1].socket.close()
    wait_until("a place is free", lambda: hub.connections() == 2)
    edges.append(Edge(hub, authority, "n3"))
    edges[3].query_lease()


# ---- takeover ----

@pytest.mark.sanitize
def test_the_newest_connection_wins(lab, devapi, authority):
    """On four threads, so that old and new are seldom on the same one."""
    hub = lab.hub(devapi, "--hub-threads", "4")
    old = Edge(hub, authority, "n")
    for _ in range(12):
        new = Edge(hub, authority, "n")
        old.wait_closed()
        assert new.query_lease()["content"]["Err"]["ErrStatus"]["reason"] == "NotFound"
        old.socket.close()
        old = new
    assert hub.closed("replaced") == 12
    assert hub.connections() == 1


@pytest.mark.sanitize
def test_many_connections_at_once_leave_one(lab, devapi, authority):
    hub = lab.hub(devapi, "--hub-threads", "4")
    authority.node("n")
    edges, lock = [], threading.Lock()

    def connect():
        edge = Edge(hub, authority, "n", timeout=20 * PATIENCE)
        with lock:
            edges.append(edge)

    threads = [threading.Thread(target=connect) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(edges) == 16
    wait_until("one is left", lambda: hub.connections() == 1)
    assert hub.closed("replaced") == 15
    answers = 0
    for edge in edges:
        try:
            edge.query_lease()
            answers += 1
        except (Closed, OSError):
            pass
        edge.socket.close()
    assert answers == 1


def test_what_the_old_one_had_asked_does_not_reach_the_new_one(lab, devapi, authority):
    """Its answer is dropped and counted; ids of another session are nothing to the new one."""
    hub = lab.hub(devapi)
    devapi.faults(latency="1s")
    old = Edge(hub, authority, "n")
    asked = old.send(envelope("kube-node-lease/lease/n", "query"))
    wait_until("it has arrived", lambda: hub.metrics().sum("isthmus_messages_received_total") == 1)
    new = Edge(hub, authority, "n")
    own = new.send(envelope("kube-node-lease/lease/n", "query"))
    first = new.receive()
    while first["header"].get("parent_msg_id") is None:
        first = new.receive()
    assert first["header"]["parent_msg_id"] == own != asked
    metrics = hub.settle()
    assert metrics.get("isthmus_messages_dropped_total", reason="session_gone") == 1


def test_two_edges_of_one_name_harm_nobody_else(lab, hub):
    good = lab.fleet(hub, 50, "--time-scale", "4", name="good")
    good.wait_ready()
    twins = lab.fleet(hub, 4, "--misbehave", "duplicate-node", "--time-scale", "20", name="twins")
    wait_until("they replace each other", lambda: hub.closed("replaced") >= 3)
    twins.stop()
    report = good.stop()
    assert_answered(report)
    assert_no_loss(report)


# ---- silence ----

@pytest.mark.sanitize
def test_a_silent_edge_is_closed_and_a_living_one_is_not(lab, devapi, authority):
    hub = lab.hub(devapi, "--keepalive-timeout", "3s")
    with Edge(hub, authority, "silent") as silent, Edge(hub, authority, "living") as living:
        begun = time.monotonic()
        silent.send(keepalive())
        while hub.closed("keepalive_timeout") == 0:
            living.send(keepalive())
            time.sleep(0.5)
            assert time.monotonic() - begun < 10 * PATIENCE
        assert time.monotonic() - begun > 2.5
        silent.wait_closed()
        living.query_lease()
    assert hub.closed("keepalive_timeout") == 1


# ---- what changes while it runs ----

def rotating_hub(lab, devapi, *flags):
    lab.authority.server("first")
    lab.authority.server("second")
    files = lab.folder / "tls.crt", lab.folder / "tls.key"
    lab.authority.copy_server("first", *files)
    return lab.hub(devapi, *flags, certificate=files)


@pytest.mark.sanitize
def test_a_new_certificate_is_used_after_sighup_and_sessions_stay(lab, devapi, authority):
    hub = rotating_hub(lab, devapi)
    with Edge(hub, authority, "old") as old:
        authority.copy_server("second", hub.certificate, hub.key)
        hub.process.signal(SIGHUP)

        def sees_new():
            with Edge(hub, authority, "new") as new:
                new.query_lease()
                return new.peer_certificate() != old.peer_certificate()
        wait_until("new connections see the new certificate", sees_new)
        old.query_lease()
    assert hub.metrics().by("isthmus_edge_closed_total", "reason").keys() <= {"peer", "replaced"}


def test_a_broken_certificate_changes_nothing(lab, devapi, authority):
    hub = rotating_hub(lab, devapi)
    before = ssl.PEM_cert_to_DER_cert(hub.certificate.read_text())
    hub.certificate.write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    logged = len(hub.log_text())
    hub.process.signal(SIGHUP)
    wait_until("it says so", lambda: "tls" in hub.log_text()[logged:].lower())
    with Edge(hub, authority, "n") as edge:
        assert edge.peer_certificate() == before
        edge.query_lease()


def test_a_bundle_of_two_authorities_takes_the_edges_of_both(lab, devapi, authority, tmp_path):
    other = Authority(tmp_path / "other")
    bundle = tmp_path / "ca-bundle.crt"
    shutil.copy(authority.ca, bundle)
    hub = lab.hub(devapi, "--tls-ca", bundle)
    with pytest.raises(TLS_REFUSAL):
        Edge(hub, authority, "n", certificate=other.node("n"))
    bundle.write_text(authority.ca.read_text() + other.ca.read_text())
    hub.process.signal(SIGHUP)

    def enters():
        try:
            with Edge(hub, authority, "n", certificate=other.node("n")) as edge:
                return edge.query_lease()
        except TLS_REFUSAL:
            return None
    wait_until("the other authority's edges enter", enters)
    with Edge(hub, authority, "m") as edge:
        edge.query_lease()


# ---- the end ----

@pytest.mark.sanitize
def test_what_was_received_is_carried_out_before_the_end(lab, devapi, authority):
    hub = lab.hub(devapi)
    devapi.faults(stall={"event": "2s"})
    edges = [Edge(hub, authority, f"n{i}") for i in range(5)]
    for i, edge in enumerate(edges):
        for j in range(4):
            name = f"n{i}.{j}"
            edge.send(envelope(f"default/event/{name}", "insert", {
                "metadata": {"name": name, "namespace": "default"}, "reason": "Test", "type": "Normal",
                "involvedObject": {"kind": "Node", "name": f"n{i}", "uid": f"n{i}"},
                "source": {"component": "kubelet", "host": f"n{i}"}, "message": "x", "count": 1,
                "firstTimestamp": None, "lastTimestamp": None}))
    wait_until("all have arrived", lambda: hub.metrics().get(
        "isthmus_messages_received_total", kind="event_insert") == 20)
    wait_until("the API server holds them up", lambda: devapi.stats()["stalled"] > 0)
    assert devapi.writes().get("event", {}).get("create", 0) == 0
    hub.process.signal(SIGTERM)
    codes = {edge.wait_closed(20 * PATIENCE) for edge in edges}
    hub.wait()
    assert codes == {1001}
    assert devapi.writes()["event"]["create"] == 20


@pytest.mark.sanitize
def test_it_stops_orderly_under_load(lab, devapi, hub):
    fleet = lab.fleet(hub, 100, "--event-rate", "5", "--query-rate", "5", "--time-scale", "4")
    fleet.wait_connected()
    begun = time.monotonic()
    hub.stop()
    assert time.monotonic() - begun < 35 * PATIENCE
    report = fleet.stop()
    codes = report["connections"]["close_codes"]
    assert codes.get("1001", 0) + codes.get("1012", 0) == 100, codes  # released one by one, and the rest
    assert report["messages"]["answered_twice"] == 0
    assert report["oddities"]["misdelivered"] + report["oddities"]["unknown_answers"] == 0
