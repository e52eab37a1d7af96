"""An admission webhook that takes its time over Events, as a policy engine in trouble does."""

import base64
import http.server
import json
import ssl
import threading
import time

from .processes import free_port

NAME = "isthmus-slow-events"
PATH = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{NAME}"


class SlowEvents:
    """While it is entered, every write of an Event takes the API server `seconds` longer."""

    def __init__(self, cluster, seconds):
        self.cluster, self.seconds = cluster, seconds
        self.port = free_port()
        handler = type("Handler", (_Handler,), {"seconds": seconds})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.server.daemon_threads = True
        # Who asked may have given up meanwhile.
        self.server.handle_error = lambda *_: None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*cluster.ca.issue("webhook", "/CN=webhook", "serverAuth", ["IP:127.0.0.1"]))
        # The handshake in the connection's own thread, not in the one that accepts.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True, name="webhook").start()
        with open(self.cluster.ca.crt, "rb") as file:
            bundle = base64.b64encode(file.read()).decode()
        self.cluster.admin.apply({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": NAME}, "webhooks": [{
                "name": "events.isthmus.invalid", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "failurePolicy": "Ignore", "timeoutSeconds": 30,
                "clientConfig": {"url": f"https://127.0.0.1:{self.port}/", "caBundle": bundle},
                "rules": [{"apiGroups": ["", "events.k8s.io"], "apiVersions": ["*"], "resources": ["events"],
                           "operations": ["CREATE", "UPDATE"], "scope": "*"}]}]})
        # The API server reads its webhooks anew about a second later.
        time.sleep(2)
        return self

    def __exit__(self, *_):
        self.cluster.admin.delete(PATH)
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seconds = 0.0

    def do_POST(self):  # noqa: N802, the name is http.server's
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.seconds)
        answer = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
            "uid": review["request"]["uid"], "allowed": True}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass
