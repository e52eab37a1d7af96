"""The hubs under test: Isthmus, and the original CloudCore for comparison.

Both take the same certificate authority and server certificate, so that an EdgeCore can move from
one to the other without being told.
"""

import json
import os
import ssl
import urllib.request

from .cluster import HUB_USER, NAMESPACE
from .processes import Process, free_port, listening


class Isthmus:
    """The hub of this project, under the account and the rights that deploy/ ships."""

    # Which of the tests apply; see conftest.py.
    can = {"impersonation", "downstream", "join"}
    user = HUB_USER

    def __init__(self, program, cluster, authority, log_dir, name="hub", ports=None, flags=()):
        """Without an authority the hub makes its own, or takes the one that the cluster's Secrets have."""
        self.cluster = cluster
        websocket, https = ports or (free_port(), free_port())
        self.port, self.admin_port = websocket, free_port()
        self.websocket, self.https = f"127.0.0.1:{websocket}", f"127.0.0.1:{https}"
        files = ["--advertise-address", "127.0.0.1"]
        if authority:
            cert, key = server_certificate(authority)
            files = ["--tls-ca", authority.crt, "--tls-cert", cert, "--tls-key", key]
        self.process = Process(name, [
            program, "--kubeconfig", cluster.hub_kubeconfig(),
            "--websocket-address", self.websocket, "--https-address", self.https,
            "--admin-address", f"127.0.0.1:{self.admin_port}",
            "--control-socket", os.path.join(cluster.dir, name + ".sock"),
            "--replica-id", name, *files, *flags], log_dir)

    def start(self):
        self.process.start()
        self.wait_ready()
        return self

    def wait_ready(self):
        self.process.wait_for(lambda: self.http("/readyz"), 20)

    def join(self, path):
        """The body of an answer of the endpoint where nodes join, as EdgeCore first asks it: of a server
        that it cannot know yet."""
        with urllib.request.urlopen(f"https://{self.https}{path}", timeout=5,
                                    context=ssl._create_unverified_context()) as answer:
            return answer.read()

    def http(self, path):
        """The body of an answer of the admin endpoint; raises OSError for anything but 200."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def edges_connected(self):
        for line in self.http("/metrics").splitlines():
            if line.startswith("isthmus_edge_connections"):
                return int(float(line.split()[-1]))
        raise KeyError("isthmus_edge_connections")

    def stop(self, seconds=15):
        """The exit status; 0 if it could do in time all that a stop asks for."""
        return self.process.stop(seconds)


class CloudCore:
    """KubeEdge's own hub, with the administrator's rights: it is no subject of the tests. `modules`
    are switched on besides those that serve nodes and pods."""

    can = {"downstream"}

    def __init__(self, peers, cluster, authority, log_dir, name="cloudcore", ports=None, flags=(), modules=()):
        websocket, https = ports or (free_port(), free_port())
        self.port = websocket
        self.websocket, self.https = f"127.0.0.1:{websocket}", f"127.0.0.1:{https}"
        self.monitor_port = free_port()
        self.folder = os.path.join(cluster.dir, name)
        os.makedirs(self.folder, exist_ok=True)
        config = self._config(cluster, authority, https)
        config["modules"].update({module: {"enable": True} for module in modules})
        path = os.path.join(self.folder, "cloudcore.yaml")
        with open(path, "w", encoding="ascii") as file:
            json.dump(config, file, indent=1)
        self.process = Process(name, [os.path.join(peers, "cloudcore"), "--config", path, *flags], log_dir)

    def _config(self, cluster, authority, https):
        # Files that are not there: it takes what the cluster's Secrets have, or makes them.
        files = [os.path.join(self.folder, name) for name in ("ca.crt", "ca.key", "server.crt", "server.key")]
        if authority:
            files = [authority.crt, authority.key, *server_certificate(authority)]
        off = {"enable": False}
        return {
            "apiVersion": "cloudcore.config.kubeedge.io/v1alpha1", "kind": "CloudCore",
            "commonConfig": {"monitorServer": {"bindAddress": f"127.0.0.1:{self.monitor_port}"}},
            "kubeAPIConfig": {"kubeConfig": cluster.kubeconfig("cloudcore", cert=cluster.admin_cert)},
            "modules": {
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1"], "nodeLimit": 500,
                    "tlsCAFile": files[0], "tlsCAKeyFile": files[1],
                    "tlsCertFile": files[2], "tlsPrivateKeyFile": files[3],
                    "websocket": {"enable": True, "address": "127.0.0.1", "port": self.port},
                    "https": {"enable": True, "address": "127.0.0.1", "port": https},
                    "unixsocket": {"enable": True, "address": f"unix://{self.folder}/csi.sock"},
                },
                "cloudStream": off, "router": off, "dynamicController": off, "taskManager": off,
                "iptablesManager": {"enable": False, "mode": "external"},
            },
        }

    def start(self):
        self.process.start()
        # It sleeps up to ten seconds on purpose before it listens.
        self.process.wait_for(lambda: listening(self.port), 40)
        return self

    def edges_connected(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor_port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("KubeEdge_CloudHub_connected_nodes"):
                    return int(float(line.split()[-1]))
        return 0

    def stop(self):
        return self.process.stop(10)


def server_certificate(authority):
    """The certificate that edges see; one for all hubs of a run."""
    cert = os.path.join(authority.folder, "server.crt")
    key = os.path.join(authority.folder, "server.key")
    if not os.path.exists(cert):
        authority.issue("server", "/CN=isthmus", "serverAuth", ["IP:127.0.0.1", "DNS:localhost"])
    return cert, key


def prepare(cluster, root, impersonation):
    """What an operator applies before the hub starts."""
    deploy = os.path.join(root, "deploy")
    cluster.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.apply_crds()
    cluster.admin.apply_file(os.path.join(deploy, "rbac.yaml"))
    if impersonation == "constrained":
        cluster.admin.apply_file(os.path.join(deploy, "rbac-constrained.yaml"))
    if impersonation == "off":
        cluster.admin.apply_file(os.path.join(deploy, "rbac-without-impersonation.yaml"))
