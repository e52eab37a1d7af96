"""Nodes join with nothing but a token and addresses, at hubs that made CA, certificate and token themselves."""

import base64
import hashlib
import os
import subprocess

import pytest

from stack.cluster import NAMESPACE, ready
from stack.edge import Edge
from stack.processes import EDGE_SECONDS, wait_until

pytestmark = [pytest.mark.needs("join"), pytest.mark.disturbs]

SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
NODE = "join-1"
# EdgeCore renews after 70 to 90 % of it.
CERTIFICATE_SECONDS = 75


@pytest.fixture(scope="module")
def hubs(make_hub, cluster):
    """Three, started at the same moment on a cluster that has nothing of theirs."""
    assert cluster.admin.find(f"{SECRETS}/casecret") is None
    started = [make_hub(f"join-hub-{letter}", "--edge-cert-lifetime", f"{CERTIFICATE_SECONDS}s", joins=True)
               for letter in "abc"]
    try:
        for hub in started:
            hub.process.start()
        for hub in started:
            hub.wait_ready()
        yield started
    finally:
        for hub in started:
            hub.process.signal(15)
        for hub in started:
            hub.process.wait(5)


@pytest.fixture(scope="module")
def token(pytestconfig, cluster, hubs):
    """As an operator gets it, with rights of their own."""
    kubeconfig = cluster.kubeconfig("operator", cert=cluster.admin_cert)
    done = subprocess.run([pytestconfig.getoption("--hub-program"), "token", "--kubeconfig", kubeconfig],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def start_edge(peers, work_dir, log_dir):
    """start_edge(NAME, HUB, FLAG...), with the folder that NAME had before, if it had one."""
    started = []

    def start(name, hub, *flags):
        edge = Edge(peers, name, None, hub, work_dir, log_dir, flags).start()
        started.append(edge)
        return edge

    yield start
    for edge in started:
        edge.process.kill()


@pytest.fixture(scope="module")
def joined(start_edge, hubs, token, cluster):
    edge = start_edge(NODE, hubs[0], "--token", token)
    wait_until(f"{NODE} is Ready", lambda: ready(cluster.node(NODE)) == "True", EDGE_SECONDS)
    return edge


def secret(cluster, name):
    return {key: base64.b64decode(value)
            for key, value in cluster.admin.get(f"{SECRETS}/{name}")["data"].items()}


def certificate_of(edge):
    with open(os.path.join(edge.root_dir, "edge.crt"), "rb") as file:
        return file.read()


def test_three_hubs_agree_on_one_authority(hubs, cluster):
    authority = secret(cluster, "casecret")["cadata"]
    for hub in hubs:
        assert hub.join("/ca.crt") == authority


def test_token_names_the_authority(token, cluster):
    assert token == secret(cluster, "tokensecret")["tokendata"].decode()
    assert token.split(".")[0] == hashlib.sha256(secret(cluster, "casecret")["cadata"]).hexdigest()


def test_node_joins_with_a_token(joined, cluster):
    node = cluster.node(NODE)
    assert node["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
    text = subprocess.run(["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253"],
                          input=certificate_of(joined), capture_output=True, check=True).stdout.decode()
    assert text.strip() == f"subject=CN=system:node:{NODE},O=system:nodes"


def test_node_renews_its_certificate(joined, cluster, hubs):
    """With the old one for identity, and comes back with the new one."""
    first = certificate_of(joined)
    wait_until("another certificate", lambda: certificate_of(joined) != first, CERTIFICATE_SECONDS + 20, 0.5)
    wait_until("the node is back", lambda: hubs[0].edges_connected() == 1, EDGE_SECONDS)
    lease = cluster.lease(NODE)["spec"]["renewTime"]
    wait_until("the lease is renewed", lambda: cluster.lease(NODE)["spec"]["renewTime"] != lease, 80)


def test_another_hub_takes_the_node(joined, start_edge, hubs, cluster):
    """It knows the node by the certificate that the first one gave; the token is not needed any more."""
    joined.stop()
    start_edge(NODE, hubs[1])
    wait_until("the second hub has the node", lambda: hubs[1].edges_connected() == 1, 30)
    lease = cluster.lease(NODE)["spec"]["renewTime"]
    wait_until("the lease is renewed", lambda: cluster.lease(NODE)["spec"]["renewTime"] != lease, EDGE_SECONDS)


def test_wrong_token_ends_the_edge(start_edge, hubs, token, cluster):
    """As with CloudCore: EdgeCore ends itself, so that its supervisor tells the operator."""
    ca_hash, header, claims, _ = token.split(".")
    edge = start_edge("join-stranger", hubs[0], "--token", ".".join([ca_hash, header, claims, "A" * 43]))
    wait_until("EdgeCore has ended", lambda: not edge.process.running(), 30)
    assert "token_signature" in hubs[0].process.log_tail(20)
    assert cluster.node("join-stranger") is None
