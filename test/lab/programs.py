"""devapi, isthmus and edgesim as tests use them."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import threading
import time
import urllib.parse

import yaml

from lab.metrics import Metrics
from lab.processes import PATIENCE, ROOT, SANITIZER, Process, free_port, program, wait_until

# Kinds of the hub's own making: they are nobody's message.
OWN_KINDS = {"node_connected"}


class Devapi:
    def __init__(self, folder, *flags):
        self.folder, self.flags = folder, flags
        self.port = free_port()
        self.kubeconfig = folder / "kubeconfig"
        self.process = None
        self.local = threading.local()

    def start(self):
        self.kubeconfig.unlink(missing_ok=True)
        self.process = Process("devapi", [
            program("devapi"), "--address", f"127.0.0.1:{self.port}", "--kubeconfig-out",
            self.kubeconfig, "--cert-dir", self.folder / "devapi-certs", *self.flags], self.folder)
        wait_until("devapi listens",
                   lambda: self.kubeconfig.exists() or not self.process.is_running())
        assert self.process.is_running(), self.process.log_text()
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        paths = {}
        for name, data in (("ca", cluster["certificate-authority-data"]),
                           ("cert", user["client-certificate-data"]),
                           ("key", user["client-key-data"])):
            paths[name] = self.folder / f"admin-{name}.pem"
            paths[name].write_bytes(base64.b64decode(data))
        self.tls = ssl.create_default_context(cafile=str(paths["ca"]))
        self.tls.load_cert_chain(paths["cert"], paths["key"])
        self.local = threading.local()
        return self

    def stop(self, number=signal.SIGTERM):
        code = self.process.stop(20, number)
        assert number == signal.SIGKILL or code == 0, f"devapi ended with {code}"

    def call(self, method, path, body=None, kind="application/json"):
        """(status, decoded body), over one HTTP/1.1 connection for each thread."""
        connection = getattr(self.local, "connection", None)
        if not connection:
            connection = self.local.connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, context=self.tls, timeout=30)
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, data, {"Content-Type": kind} if data else {})
            response = connection.getresponse()
            text = response.read()
        except Exception:
            self.local.connection = None
            connection.close()
            raise
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text.decode()

    def get(self, path):
        code, body = self.call("GET", path)
        assert code == 200, (path, code, body)
        return body

    def create(self, path, body):
        code, made = self.call("POST", path, body)
        assert code == 201, (path, code, made)
        return made

    def faults(self, **changes):
        """faults(stall={"event": "10s"}, error_rate=0.1)"""
        code, body = self.call("PUT", "/devapi/faults",
                               {k.replace("_", "-"): v for k, v in changes.items()})
        assert code == 200, body

    def stats(self):
        return self.get("/devapi/stats")

    def writes(self, kind=None, user=None):
        """{"lease": {"update": 7}, ...} of all, or of one user."""
        query = {"kind": kind, "user": user} if user else {"kind": kind, "summary": "1"}
        found = self.get("/devapi/writes?" + urllib.parse.urlencode(
            {k: v for k, v in query.items() if v}))
        return found["users"].get(user, {}) if user else found["total"]

    def leases(self):
        return self.get("/devapi/leases?summary=1")


class Hub:
    def __init__(self, folder, authority, devapi, *flags, name="hub", certificate=None,
                 https=False, environment=None, files=True):
        """Without `files` CA and certificate live in Secrets; devapi has them then."""
        self.folder, self.authority, self.devapi, self.name = folder, authority, devapi, name
        self.flags, self.environment = flags, environment or {}
        self.port, self.admin_port = free_port(), free_port()
        self.https_port = free_port() if https or not files else None
        self.certificate, self.key = (certificate or authority.server()) if files else (None, None)
        # A Unix socket's name must be short; pytest's folders are not.
        self.socket_path = f"/tmp/lab-{os.getpid()}-{id(self):x}.sock"
        self.process = None

    def arguments(self):
        files = ["--tls-ca", self.authority.ca, "--tls-cert", self.certificate, "--tls-key", self.key]
        return [program("isthmus"), "--kubeconfig", self.devapi.kubeconfig,
                "--websocket-address", f"127.0.0.1:{self.port}",
                "--admin-address", f"127.0.0.1:{self.admin_port}",
                "--https-address", f"127.0.0.1:{self.https_port}" if self.https_port else "",
                "--control-socket", self.socket_path, "--replica-id", self.name,
                *(files if self.certificate else []),
                "--drain-timeout", "2s", "--bridge-seconds", "0", *self.flags]

    def start(self, ready=True):
        suppressions = ROOT / "test"
        options = {
            "ASAN_OPTIONS": "detect_leaks=1:exitcode=99",
            "LSAN_OPTIONS": f"suppressions={suppressions}/lsan.supp:print_suppressions=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "TSAN_OPTIONS": f"suppressions={suppressions}/tsan.supp:exitcode=99:second_deadlock_stack=1",
        }
        self.process = Process(self.name, self.arguments(), self.folder, {**options, **self.environment})
        wait_until("the hub answers", lambda: self._answers(ready) or not self.process.is_running(), 20)
        assert self.process.is_running(), self.process.log_text()
        return self

    def _answers(self, ready):
        try:
            return self.admin("/readyz" if ready else "/livez")[0] == 200
        except OSError:
            return False

    def ask_admin(self, method, path, body=None):
        """(response, whose headers can be read; bytes)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def admin(self, path):
        """(status, text)"""
        response, body = self.ask_admin("GET", path)
        return response.status, body.decode()

    def ask_https(self, method, path):
        """(status, bytes, the server's certificate as DER) of the port where edges that join ask."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.https_port, context=context, timeout=10)
        try:
            connection.request(method, path)
            certificate = connection.sock.getpeercert(binary_form=True)
            response = connection.getresponse()
            return response.status, response.read(), certificate
        finally:
            connection.close()

    def metrics(self):
        code, text = self.admin("/metrics")
        assert code == 200
        return Metrics(text)

    def status(self):
        code, text = self.admin("/status")
        assert code == 200
        return json.loads(text)

    def connections(self):
        return self.metrics().get("isthmus_edge_connections")

    def closed(self, reason):
        return self.metrics().get("isthmus_edge_closed_total", reason=reason)

    def refused(self, reason):
        return self.metrics().get("isthmus_edge_refused_total", reason=reason)

    def log_text(self):
        return self.process.log_text()

    def stop(self, timeout=40):
        if self.process.is_running():
            self.process.signal(signal.SIGTERM)
        self.wait(timeout)

    def wait(self, timeout=40):
        """A stop on request is orderly: exit code 0, and nothing that a sanitizer could say."""
        code = self.process.wait(timeout)
        text = self.log_text()
        found = SANITIZER.search(text)
        assert not found, text[max(found.start() - 200, 0):found.start() + 6000]
        assert code == 0, f"the hub ended with {code}"

    # ---- accounts ----

    def is_quiet(self):
        """Everything that was received has come to an end."""
        return not open_messages(self.metrics())

    def settle(self, timeout=30):
        wait_until("every message has come to an end", self.is_quiet, timeout)
        return self.metrics()


def open_messages(metrics):
    """{kind: received and not finished}"""
    received = metrics.by("isthmus_messages_received_total", "kind")
    finished = metrics.by("isthmus_messages_finished_total", "kind")
    kinds = (received.keys() | finished.keys()) - OWN_KINDS
    return {k: received.get(k, 0) - finished.get(k, 0) for k in kinds
            if received.get(k, 0) != finished.get(k, 0)}


class Fleet:
    """edgesim. `wait()` and `stop()` return its report."""

    def __init__(self, folder, hub, nodes, *flags, name="fleet", authority=None, prefix=None,
                 token=None):
        """With a token its edges join, instead of being given certificates."""
        self.folder, self.name = folder, name
        self.report_path = folder / f"{name}.json"
        # A Unix socket's name must be short; pytest's folders are not.
        self.socket_path = f"/tmp/lab-{os.getpid()}-{id(self):x}.sock"
        authority = authority or hub.authority
        certificates = ["--ca", hub.authority.ca, "--cert-dir", authority.folder]
        if token:
            certificates = ["--join", f"127.0.0.1:{hub.https_port}", "--token", token]
        self.arguments = [
            program("edgesim"), "--server", f"127.0.0.1:{hub.port}", *certificates, "--nodes", nodes, "--prefix", prefix or f"{name}-",
            "--control", self.socket_path, "--json", self.report_path, *flags]
        self.nodes = nodes
        self.process = None

    def start(self):
        self.process = Process(self.name, self.arguments, self.folder)
        return self

    def command(self, line):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(self.socket_path)
            client.sendall(line.encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                chunk = client.recv(1 << 20)
                assert chunk, "edgesim closed its control socket"
                data += chunk
        return json.loads(data)

    def stats(self):
        try:
            return self.command("stats")
        except (FileNotFoundError, ConnectionRefusedError):
            assert self.process.is_running(), self.process.log_text()
            return None

    def wait_for(self, what, condition, timeout=30):
        """Until condition(report so far) is true."""
        def check():
            report = self.stats()
            return report if report and condition(report) else None
        return wait_until(f"{self.name}: {what}", check, timeout, every=0.1)

    def wait_ready(self, timeout=40):
        return self.wait_for(f"{self.nodes} Ready", lambda r: r["nodes"]["ready"] == self.nodes, timeout)

    def wait_connected(self, timeout=30):
        return self.wait_for(f"{self.nodes} connected",
                             lambda r: r["nodes"]["connected"] == self.nodes, timeout)

    def wait(self, timeout=120, code=0):
        ended = self.process.wait(timeout)
        assert ended == code, f"{self.name} ended with {ended}: {self.process.log_text()[-2000:]}"
        return json.loads(self.report_path.read_text())

    def stop(self):
        if self.process.is_running():
            self.process.signal(signal.SIGTERM)
        return self.wait(30)


def prometheus_check(text):
    """What promtool says against it; "" when all is well."""
    import subprocess
    tool = shutil.which("promtool")
    assert tool, "promtool is not installed (Debian: prometheus)"
    done = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True,
                          timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def sleep(seconds):
    """For what has to last, not for what one could wait for."""
    time.sleep(seconds * (1 if PATIENCE == 1 else 1.5))
