"""What people, probes and scrapers see: the admin endpoint, the CA for edges that join, flags, signals, exit codes."""

import http.client
import json
import os
import socket
import ssl
import subprocess
from signal import SIGHUP, SIGTERM

import pytest

from lab.edge import Edge
from lab.processes import PATIENCE, free_port, program, wait_until
from lab.programs import prometheus_check

PAGES = ["/", "/status", "/metrics", "/livez", "/readyz", "/readyz?verbose", "/healthz", "/acceptz"]


# ---- pages ----

@pytest.mark.sanitize
def test_metrics_are_as_prometheus_wants_them(lab, hub):
    fleet = lab.fleet(hub, 20, "--event-rate", "2", "--query-rate", "2", "--time-scale", "4")
    fleet.wait_ready()
    code, text = hub.admin("/metrics")
    assert code == 200
    assert prometheus_check(text) == ""
    metrics = hub.metrics()
    assert metrics.get("isthmus_edge_connections") == 20
    assert metrics.get("isthmus_ready") == 1
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "isthmus_build_info",
            "isthmus_answer_seconds"} <= metrics.types.keys()
    assert all(name.startswith(("isthmus_", "process_")) for name in metrics.types)


@pytest.mark.sanitize
def test_nothing_there_names_a_node(lab, hub):
    fleet = lab.fleet(hub, 10, "--event-rate", "2", "--query-rate", "2", "--query-kind", "both",
                      "--time-scale", "4", prefix="secret-place-")
    fleet.wait_ready()
    for page in PAGES:
        assert "secret-place" not in hub.admin(page)[1], page


def test_status_tells_everything_in_one_document(lab, hub):
    fleet = lab.fleet(hub, 10, "--event-rate", "2", "--time-scale", "4")
    fleet.wait_ready()

    def has_history():
        found = hub.status()
        return found if len(found["history"]["connections"]) >= 2 else None
    status = wait_until("a history of two steps", has_history)
    assert status["edges"]["connected"] == 10
    assert (status["replica"], status["state"]) == ("hub", "serving")
    assert status["live"] and status["ready"] and status["accepting"]
    lanes = {lane["name"]: lane for lane in status["lanes"]}
    assert {"liveness", "status", "query", "event"} <= lanes.keys()
    assert all({"received_per_s", "waiting", "in_flight", "p50_ms", "p99_ms"} <= x.keys()
               for x in lanes.values())
    assert {"version", "uptime_s", "rates", "api", "kinds", "outcomes", "refused", "closed",
            "dropped", "process", "threads", "history"} <= status.keys()
    assert status["kinds"]["node_insert"] == 10
    assert all(t["silent_ms"] < 10000 for t in status["threads"])
    assert len(status["history"]["received_per_s"]["liveness"]) == \
        len(status["history"]["connections"])


def test_the_page_may_load_nothing_from_elsewhere(hub):
    response, body = hub.ask_admin("GET", "/")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/html")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    text = body.decode()
    assert "</html>" in text
    for elsewhere in ("src=\"http", "href=\"http", "src='http", "url(http", "@import"):
        assert elsewhere not in text


@pytest.mark.sanitize
def test_head_says_what_get_says_without_the_body(hub):
    for page in PAGES:
        got, body = hub.ask_admin("GET", page)
        head, nothing = hub.ask_admin("HEAD", page)
        assert (got.status, head.status, nothing) == (200, 200, b""), page
        assert body, page
        assert head.headers["Content-Type"] == got.headers["Content-Type"], page


def test_it_only_reads(hub):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for page in ("/", "/status", "/metrics", "/nothing"):
            assert hub.ask_admin(method, page)[0].status == 405, (method, page)
    assert hub.admin("/livez")[0] == 200


@pytest.mark.sanitize
def test_one_connection_serves_requests_with_bodies_and_without(hub):
    connection = http.client.HTTPConnection("127.0.0.1", hub.admin_port, timeout=10)
    for method, path, body, status in [("POST", "/", None, 405), ("GET", "/livez", None, 200), ("POST", "/", "x" * 900, 405),
                                       ("HEAD", "/livez", None, 200), ("PUT", "/", None, 405), ("GET", "/livez", None, 200)]:
        connection.request(method, path, body)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, method != "HEAD"), (method, path)
    connection.close()


def test_what_is_not_there_is_not_found(hub):
    for path in ("/nothing", "/status/", "/metricsx", "/..%2fstatus/x", "/debug/pprof", "/ca.crt", "/edge.crt"):
        assert hub.ask_admin("GET", path)[0].status == 404, path


@pytest.mark.sanitize
def test_bad_requests_harm_nobody(hub, devapi, lab):
    lab.authority.node("n")
    with Edge(hub, lab.authority, "n") as edge:
        for text in (b"\0\0\0\0\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                     b"GET " + b"/a" * 5000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
                     b"GET / HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
                     b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"z" * 70000,
                     b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nHost"):
            with socket.create_connection(("127.0.0.1", hub.admin_port), 10) as client:
                client.settimeout(20 * PATIENCE)
                try:
                    client.sendall(text)
                    client.shutdown(socket.SHUT_WR)
                    answer = client.recv(4096)
                except OSError:
                    answer = b""  # it has closed already
                assert not answer.startswith(b"HTTP/1.1 5"), (text[:40], answer)
        assert edge.query_lease()
    assert hub.admin("/livez") == (200, "ok\n")


def test_more_clients_than_it_takes_shut_nobody_out(hub):
    """Connections that say nothing are closed in time; meanwhile edges are served, and probes soon are again."""
    idle = [socket.create_connection(("127.0.0.1", hub.admin_port), 10) for _ in range(100)]

    def answers():
        try:
            return hub.admin("/livez")[0] == 200
        except OSError:
            return False
    with Edge(hub, hub.authority, "n") as edge:
        edge.query_lease()
    wait_until("it answers again", answers, 30)
    for client in idle:
        client.close()


# ---- health ----

def test_each_check_has_its_line(hub):
    assert hub.admin("/livez") == hub.admin("/readyz") == hub.admin("/acceptz") == (200, "ok\n")
    code, text = hub.admin("/readyz?verbose")
    assert code == 200
    lines = text.splitlines()
    assert lines[-1] == "ok"
    assert {"[+]loops ok", "[+]serving ok", "[+]api-server ok"} <= set(lines)
    assert "[+]room ok" in hub.admin("/acceptz?verbose")[1]


def test_a_lost_api_server_makes_it_unready_not_dead(lab, devapi, hub):
    with Edge(hub, lab.authority, "n") as edge:
        devapi.stop()
        wait_until("it is not ready", lambda: hub.admin("/readyz")[0] == 503, 60)
        code, text = hub.admin("/readyz")
        assert (code, "[-]api-server" in text, text.endswith("not ok\n")) == (503, True, True)
        assert hub.admin("/livez")[0] == 200
        assert not hub.status()["api"]["healthy"]
        devapi.start()
        wait_until("it is ready again", lambda: hub.admin("/readyz")[0] == 200, 60)
        edge.query_lease()


def test_a_full_one_accepts_nobody_and_is_ready(lab, devapi):
    hub = lab.hub(devapi, "--max-connections", "2")
    edges = [Edge(hub, lab.authority, f"n{i}") for i in range(2)]
    wait_until("it is full", lambda: hub.admin("/acceptz")[0] == 503)
    assert "[-]room" in hub.admin("/acceptz")[1]
    assert hub.admin("/readyz")[0] == 200
    edges[0].socket.close()
    wait_until("there is room again", lambda: hub.admin("/acceptz")[0] == 200)


# ---- the CA ----

@pytest.mark.sanitize
def test_the_ca_for_edges_that_join(lab, devapi, authority):
    hub = lab.hub(devapi, https=True)
    status, body, _ = hub.ask_https("GET", "/ca.crt")
    assert status == 200
    assert body == ssl.PEM_cert_to_DER_cert(authority.ca.read_text())
    for path in ("/", "/metrics", "/status", "/ca.crt/", "/nothing"):
        assert hub.ask_https("GET", path)[0] == 404, path


# ---- files that change ----

@pytest.mark.sanitize
def test_replaced_certificates_are_used_by_themselves_and_sessions_stay(lab, devapi, authority):
    """No signal: the hub looks by itself, on both ports."""
    authority.server("before")
    authority.server("after")
    files = lab.folder / "tls.crt", lab.folder / "tls.key"
    authority.copy_server("before", *files)
    hub = lab.hub(devapi, certificate=files, https=True)
    before, after = (ssl.PEM_cert_to_DER_cert((authority.folder / f"{stem}.crt").read_text())
                     for stem in ("before", "after"))
    with Edge(hub, authority, "old") as old:
        assert old.peer_certificate() == before == hub.ask_https("GET", "/ca.crt")[2]
        authority.copy_server("after", *files)

        def is_new():
            with Edge(hub, authority, "new") as new:
                new.query_lease()
                return new.peer_certificate() == after
        wait_until("new connections see the new one", is_new, 60, every=0.5)
        wait_until("so does who joins", lambda: hub.ask_https("GET", "/ca.crt")[2] == after)
        old.query_lease()
    closed = hub.metrics().by("isthmus_edge_closed_total", "reason")
    assert closed.keys() <= {"peer", "replaced"}
    assert "reloaded" in hub.log_text()


def test_sighup_reads_a_changed_kubeconfig(lab, devapi, authority):
    """The same server, by credentials of no worth: the hub goes on with its sessions and says what is wrong."""
    hub = lab.hub(devapi)
    good = devapi.kubeconfig.read_text()
    with Edge(hub, authority, "n") as edge:
        devapi.kubeconfig.write_text("not: a kubeconfig\n")
        hub.process.signal(SIGHUP)
        wait_until("it says so", lambda: "reload_failed" in hub.log_text())
        edge.query_lease()
        devapi.kubeconfig.write_text(good)
        hub.process.signal(SIGHUP)
        wait_until("it is reloaded", lambda: "reloaded" in hub.log_text())
        edge.query_lease()


# ---- the end ----

def test_while_it_stops_it_says_so(lab, devapi, authority):
    hub = lab.hub(devapi)
    devapi.faults(stall={"lease": "4s"})
    with Edge(hub, authority, "n") as edge:
        edge.send({"header": {"msg_id": "1", "timestamp": 1}, "content": {
            "metadata": {"name": "n", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n"}},
            "route": {"source": "edged", "group": "meta", "operation": "insert",
                      "resource": "kube-node-lease/lease/n"}})
        wait_until("it is under way", lambda: devapi.stats()["stalled"] > 0)
        hub.process.signal(SIGTERM)
        wait_until("it is stopping", lambda: "stopping" in hub.log_text())
        edge.wait_closed(30)
    hub.wait()
    assert "stopped" in hub.log_text()


def test_a_second_signal_ends_it_at_once(lab, devapi, authority):
    hub = lab.hub(devapi, "--drain-timeout", "10m")
    devapi.faults(stall={"lease": "10m"})
    with Edge(hub, authority, "n") as edge:
        edge.send({"header": {"msg_id": "1", "timestamp": 1}, "content": {
            "metadata": {"name": "n", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n"}},
            "route": {"source": "edged", "group": "meta", "operation": "insert",
                      "resource": "kube-node-lease/lease/n"}})
        wait_until("it is under way", lambda: devapi.stats()["stalled"] > 0)
        hub.process.signal(SIGTERM)
        wait_until("it is stopping", lambda: "stopping" in hub.log_text())
        wait_until("the second signal is not waited for", lambda: hub.process.popen.poll() is not None or
                   hub.process.signal(SIGTERM), 20, every=0.2)
    assert hub.process.popen.wait() == -SIGTERM


# ---- flags and exit codes ----

def run(*arguments, environment=None):
    done = subprocess.run([program("isthmus"), *map(str, arguments)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=30 * PATIENCE, check=False,
                          env={**os.environ, **(environment or {})})
    return done.returncode, done.stdout, done.stderr


def test_version_and_help_are_answers():
    code, out, err = run("--version")
    assert (code, err) == (0, "") and out.startswith("isthmus ")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for flag in ("kubeconfig", "websocket-address", "tls-ca", "max-connections", "impersonate",
                 "keepalive-timeout", "log-format"):
        assert f"--{flag}" in out
    assert "ISTHMUS_" in out


@pytest.mark.parametrize("flags, says", [
    (["--no-such-flag"], "unknown flag --no-such-flag"),
    (["--max-conections", "1"], "did you mean --max-connections?"),
    (["--max-connections", "many"], "max-connections"),
    (["--keepalive-timeout", "soon"], "keepalive-timeout"),
    (["--websocket-address", "nowhere"], "websocket-address"),
    (["--log-format", "xml"], "log-format"),
    (["stray"], "stray"),
    (["--hub-threads"], "hub-threads"),
])
def test_a_wrong_flag_is_named_and_ends_with_2(flags, says):
    code, out, err = run(*flags)
    assert code == 2, err
    assert out == "" and says in err and err.startswith("isthmus: ")
    assert len(err.strip().splitlines()) <= 2


def test_a_wrong_environment_is_named():
    code, _, err = run(environment={"ISTHMUS_MAX_CONNECTIONS": "many"})
    assert code == 2 and "MAX_CONNECTIONS" in err.upper()


def good_flags(lab, devapi, authority):
    certificate, key = authority.server()
    return {"--kubeconfig": devapi.kubeconfig, "--tls-ca": authority.ca, "--tls-cert": certificate,
            "--tls-key": key, "--websocket-address": f"127.0.0.1:{free_port()}",
            "--admin-address": f"127.0.0.1:{free_port()}", "--https-address": "",
            "--control-socket": lab.folder / "c.sock"}


@pytest.mark.parametrize("flag, value, says", [
    ("--kubeconfig", "/nonexistent/kubeconfig", "/nonexistent/kubeconfig"),
    ("--tls-ca", "/nonexistent/ca", "/nonexistent/ca"),
    ("--tls-cert", "/dev/null", "/dev/null"),
    ("--tls-key", "/nonexistent/key", "/nonexistent/key"),
    ("--websocket-address", "192.0.2.1:1", "websocket-address"),
    ("--admin-address", "192.0.2.1:1", "admin-address"),
])
def test_what_keeps_it_from_starting_is_said_and_ends_with_1(lab, devapi, authority, flag, value, says):
    flags = {**good_flags(lab, devapi, authority), flag: value}
    code, out, err = run(*(x for pair in flags.items() for x in pair))
    assert code == 1, err
    assert out == "" and says in err
    assert err.strip().splitlines()[-1].startswith("isthmus: ")


def test_a_key_of_another_certificate_is_refused(lab, devapi, authority):
    _, other = authority.server("other")
    flags = {**good_flags(lab, devapi, authority), "--tls-key": other}
    code, _, err = run(*(x for pair in flags.items() for x in pair))
    assert code == 1 and "key" in err


def test_a_port_that_is_taken_is_said(lab, devapi, authority, hub):
    flags = {**good_flags(lab, devapi, authority),
             "--admin-address": f"127.0.0.1:{hub.admin_port}"}
    code, _, err = run(*(x for pair in flags.items() for x in pair))
    assert code == 1
    assert "admin-address" in err and "in use" in err.lower()


def test_log_lines_can_be_json(lab, devapi, authority):
    hub = lab.hub(devapi, "--log-format", "json")
    with Edge(hub, authority, "n") as edge:
        edge.query_lease()
    wait_until("the end of a session is logged", lambda: "edge_closed" in hub.log_text())
    lines = [json.loads(line) for line in hub.log_text().splitlines()]
    assert {"started", "edge_closed"} <= {line["event"] for line in lines if "event" in line} | \
        {line.get("msg") for line in lines}
