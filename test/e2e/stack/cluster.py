"""The control plane: etcd and the real kube-apiserver, controller manager and scheduler.

The API server authorizes with Node and RBAC, runs NodeRestriction, and writes an audit log, from
which the tests read who did what: the hub under its own name, or the hub for a node.
"""

import json
import os
import shutil
import tempfile

from .api import Api
from .pki import Authority, signing_key
from .processes import Process, StackError, free_port, listening, wait_until

# The strictest that Kubernetes had as a default; with 10 s renewals three may be lost.
GRACE_SECONDS = 40
NAMESPACE = "kubeedge"
SERVICE_ACCOUNT = "isthmus"
HUB_USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"

AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""


class Cluster:
    """A running control plane in a folder of its own."""

    def __init__(self, peers, work_dir, log_dir, feature_gates=""):
        self.kube = os.path.join(peers, "kube")
        self.peers = peers
        self.log_dir = log_dir
        self.dir = os.path.join(work_dir, "cluster")
        self.feature_gates = feature_gates
        self.processes = []
        self.port = free_port()
        self.audit_path = os.path.join(log_dir, "audit.jsonl")
        # etcd syncs each write; memory makes that cost nothing.
        self.etcd_dir = tempfile.mkdtemp(
            prefix="isthmus-etcd-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else work_dir)
        os.makedirs(self.dir, exist_ok=True)
        self._make_certificates()
        self.admin = self.client(self.admin_cert)

    def _make_certificates(self):
        self.ca = Authority(os.path.join(self.dir, "pki"), "e2e-cluster")
        self.server_cert = self.ca.issue("apiserver", "/CN=kube-apiserver", "serverAuth",
                                         ["IP:127.0.0.1", "DNS:localhost", "DNS:kubernetes.default.svc"])
        self.admin_cert = self.ca.issue("admin", "/O=system:masters/CN=e2e", "clientAuth")
        self.controllers_cert = self.ca.issue("controllers", "/CN=system:kube-controller-manager", "clientAuth")
        self.scheduler_cert = self.ca.issue("scheduler", "/CN=system:kube-scheduler", "clientAuth")
        self.account_key = signing_key(os.path.join(self.dir, "pki", "accounts.key"))

    def client(self, cert=None, token=None):
        return Api(self.port, self.ca.crt, cert=cert, token=token)

    def start(self):
        self._start_etcd()
        self.start_apiserver()
        self._start_controllers()
        self._start_scheduler()
        wait_until("default service account", lambda: self.admin.find(
            "/api/v1/namespaces/default/serviceaccounts/default"), 30)
        return self

    def _run(self, name, *command):
        process = Process(name, command, self.log_dir).start()
        self.processes.append(process)
        return process

    def _start_etcd(self):
        client, peer = free_port(), free_port()
        self.etcd_url = f"http://127.0.0.1:{client}"
        self.etcd = self._run(
            "etcd", "etcd", "--data-dir", self.etcd_dir, "--logger", "zap", "--log-level", "warn",
            "--listen-client-urls", self.etcd_url, "--advertise-client-urls", self.etcd_url,
            "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}")
        self.etcd.wait_for(lambda: listening(client), 20)

    def start_apiserver(self):
        """Starts the API server, or starts it again after it was stopped."""
        policy = os.path.join(self.dir, "audit-policy.yaml")
        with open(policy, "w", encoding="ascii") as file:
            file.write(AUDIT_POLICY)
        gates = [f"--feature-gates={self.feature_gates}"] if self.feature_gates else []
        self.apiserver = self._run(
            "kube-apiserver", self.kube, "apiserver",
            "--etcd-servers", self.etcd_url,
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}",
            # An endpoint on the loopback is refused, and nobody here asks for the kubernetes service.
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--client-ca-file", self.ca.crt,
            "--tls-cert-file", self.server_cert[0], "--tls-private-key-file", self.server_cert[1],
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-signing-key-file", self.account_key[0],
            "--service-account-key-file", self.account_key[1],
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--audit-policy-file", policy, "--audit-log-path", self.audit_path, "--audit-log-mode=blocking",
            "--cert-dir", os.path.join(self.dir, "apiserver"), *gates)
        self.apiserver.wait_for(lambda: self.admin.text("GET", "/readyz")[0] == 200, 60)

    def _start_controllers(self):
        kubeconfig = self.kubeconfig("controllers", cert=self.controllers_cert)
        self._run("kube-controller-manager", self.kube, "controller-manager",
                  "--kubeconfig", kubeconfig, "--leader-elect=false",
                  "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
                  "--cert-dir", os.path.join(self.dir, "controllers"),
                  "--use-service-account-credentials=true",
                  "--service-account-private-key-file", self.account_key[0],
                  "--root-ca-file", self.ca.crt,
                  "--cluster-signing-cert-file", self.ca.crt, "--cluster-signing-key-file", self.ca.key,
                  f"--node-monitor-grace-period={GRACE_SECONDS}s")

    def _start_scheduler(self):
        kubeconfig = self.kubeconfig("scheduler", cert=self.scheduler_cert)
        self._run("kube-scheduler", self.kube, "scheduler",
                  "--kubeconfig", kubeconfig, "--leader-elect=false",
                  "--cert-dir", os.path.join(self.dir, "scheduler"),
                  "--bind-address=127.0.0.1", f"--secure-port={free_port()}")

    def kubeconfig(self, name, cert=None, token_file=None):
        """Writes a kubeconfig (JSON is YAML too) and returns its path."""
        user = {"tokenFile": token_file} if token_file else {
            "client-certificate": cert[0], "client-key": cert[1]}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
            "clusters": [{"name": "e2e", "cluster": {"server": f"https://127.0.0.1:{self.port}",
                                                     "certificate-authority": self.ca.crt}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}],
        }
        path = os.path.join(self.dir, name + ".kubeconfig")
        with open(path, "w", encoding="ascii") as file:
            json.dump(config, file, indent=1)
        return path

    def hub_token(self):
        """A token of the service account that deploy/rbac.yaml gives its rights to."""
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{SERVICE_ACCOUNT}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                   "spec": {"expirationSeconds": 86400}}
        return self.admin.create(path, request)["status"]["token"]

    def hub_kubeconfig(self):
        token_file = os.path.join(self.dir, "hub.token")
        with open(token_file, "w", encoding="ascii") as file:
            file.write(self.hub_token())
        return self.kubeconfig("hub", token_file=token_file)

    def apply_crds(self):
        """KubeEdge's resource definitions, as its release carries them."""
        names = []
        for folder, _, files in sorted(os.walk(os.path.join(self.peers, "crds"))):
            for file in sorted(files):
                self.admin.apply_file(os.path.join(folder, file))
                names.append(file)
        if not names:
            raise StackError(f"no resource definitions in {self.peers}/crds")

    def node(self, name):
        return self.admin.find("/api/v1/nodes/" + name)

    def lease(self, node):
        return self.admin.find("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/" + node)

    def audit(self):
        """Every request so far, as the API server saw it."""
        entries = []
        with open(self.audit_path, encoding="utf-8") as file:
            for line in file:
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    break  # a line that is being written
        return entries

    def stop(self):
        for process in reversed(self.processes):
            process.signal(15)
        for process in reversed(self.processes):
            process.wait(2)
        shutil.rmtree(self.etcd_dir, ignore_errors=True)


def ready(node):
    """The Ready condition's status ("True", "False", "Unknown"), or None."""
    for condition in (node or {}).get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            return condition["status"]
    return None

