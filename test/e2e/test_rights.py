"""What deploy/rbac*.yaml gives the hub's account, asked of the real API server without a hub.

Everything EdgeCore asks must be possible under the account as shipped, nothing of another node, and
nothing the account does not need.
"""

import pytest

from stack.api import ApiError
from stack.cluster import HUB_USER
from stack.processes import wait_until

SELF, OTHER = "rights-a", "rights-b"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
PODS = "/api/v1/namespaces/default/pods"
STRATEGIC = "application/strategic-merge-patch+json"


def code(call, *args, **kwargs):
    """The status code of a call: 200 for any success."""
    try:
        call(*args, **kwargs)
        return 200
    except ApiError as error:
        return error.code


@pytest.fixture(scope="module", name="account")
def hub_account(cluster):
    return cluster.client(token=cluster.hub_token())


@pytest.fixture(scope="module")
def as_self(account, pytestconfig):
    if pytestconfig.getoption("--impersonation") == "off":
        pytest.skip("the account does not impersonate")
    return account.as_node(SELF, groups=impersonated_groups(pytestconfig))


def impersonated_groups(pytestconfig):
    """With constrained impersonation the API server adds the group, and refuses it from others."""
    return () if pytestconfig.getoption("--impersonation") == "constrained" else ("system:nodes",)


def node(name):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def lease(name):
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}}


def event(name):
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Node", "name": SELF}, "reason": "Starting", "type": "Normal"}


@pytest.fixture(scope="module")
def things(cluster):
    """Two nodes with a pod, a ConfigMap, a Secret and a lease each, made by the administrator."""
    admin = cluster.admin
    for name in (SELF, OTHER):
        admin.apply(node(name))
        admin.apply({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
                     "metadata": {"name": name, "namespace": "default"}})
        admin.apply({"apiVersion": "v1", "kind": "Secret", "stringData": {"k": "v"},
                     "metadata": {"name": name, "namespace": "default"}})
        admin.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                     "spec": {"nodeName": name, "containers": [{
                         "name": "main", "image": "none", "envFrom": [
                             {"configMapRef": {"name": name}}, {"secretRef": {"name": name}}]}]}})
    admin.create(LEASES, lease(OTHER))
    yield
    for name in (SELF, OTHER):
        code(admin.request, "DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")
        code(admin.delete, f"/api/v1/nodes/{name}")
        code(admin.delete, f"{LEASES}/{name}")


@pytest.fixture(scope="module")
def known(things, as_self):
    """The Node authorizer's graph trails the binding of a pod a little."""
    wait_until("the Node authorizer knows the pod",
               lambda: code(as_self.get, f"/api/v1/namespaces/default/secrets/{SELF}") == 200, 20)


def test_node_acts_for_itself(things, as_self):
    assert code(as_self.create, "/api/v1/nodes", node(SELF)) == 409  # allowed, and already there
    assert code(as_self.get, f"/api/v1/nodes/{SELF}") == 200
    status = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "EdgeReady"}]}}
    assert code(as_self.patch, f"/api/v1/nodes/{SELF}/status", status, STRATEGIC) == 200
    annotation = {"metadata": {"annotations": {"e2e": "own"}}}
    assert code(as_self.patch, f"/api/v1/nodes/{SELF}", annotation, STRATEGIC) == 200


def test_node_keeps_its_lease(things, as_self):
    created = as_self.create(LEASES, lease(SELF))
    assert as_self.get(f"{LEASES}/{SELF}")["metadata"]["uid"] == created["metadata"]["uid"]
    assert code(as_self.request, "PUT", f"{LEASES}/{SELF}", created) == 200
    assert code(as_self.get, f"{LEASES}/{OTHER}") == 403


def test_node_writes_events(things, as_self):
    written = as_self.create("/api/v1/namespaces/default/events", event("rights.1"))
    assert code(as_self.request, "PUT", "/api/v1/namespaces/default/events/rights.1", written) == 200
    patch = {"count": 2}
    assert code(as_self.patch, "/api/v1/namespaces/default/events/rights.1", patch, STRATEGIC) == 200


@pytest.mark.parametrize("kind", ["configmaps", "secrets"])
def test_node_reads_what_its_pods_mention(known, as_self, kind):
    assert code(as_self.get, f"/api/v1/namespaces/default/{kind}/{SELF}") == 200
    assert code(as_self.get, f"/api/v1/namespaces/default/{kind}/{OTHER}") == 403
    assert code(as_self.get, f"/api/v1/namespaces/default/{kind}") == 403


def test_node_reports_and_removes_its_pods(known, as_self, cluster):
    status = {"status": {"phase": "Running"}}
    assert code(as_self.patch, f"{PODS}/{SELF}/status", status, STRATEGIC) == 200
    assert code(as_self.patch, f"{PODS}/{OTHER}/status", status, STRATEGIC) == 403
    assert code(as_self.delete, f"{PODS}/{OTHER}") == 403
    assert code(as_self.get, f"{PODS}/{SELF}") == 200


def test_node_gets_tokens_for_its_pods_only(known, as_self, cluster):
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    pod = cluster.admin.get(f"{PODS}/{SELF}")

    def request(bound):
        spec = {"expirationSeconds": 3600}
        if bound:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": SELF,
                                      "uid": pod["metadata"]["uid"]}
        return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    assert code(as_self.create, path, request(bound=True)) == 200
    assert code(as_self.create, path, request(bound=False)) == 403


@pytest.mark.parametrize("path", ["/api/v1/persistentvolumes/none",
                                  "/api/v1/namespaces/default/persistentvolumeclaims/none",
                                  "/apis/storage.k8s.io/v1/volumeattachments/none"])
def test_node_is_not_told_of_foreign_volumes(known, as_self, path):
    # Refused by the Node authorizer and not by the account's rights, which would say "impersonate".
    with pytest.raises(ApiError) as refused:
        as_self.get(path)
    assert refused.value.code == 403
    assert "impersonat" not in str(refused.value)


def test_node_asks_for_certificates(things, as_self):
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    assert code(as_self.get, f"{path}/none") == 404
    assert code(as_self.create, path, {"apiVersion": "certificates.k8s.io/v1",
                                       "kind": "CertificateSigningRequest",
                                       "metadata": {"name": "rights"}, "spec": {}}) in (400, 422)


def test_node_does_nothing_to_another(things, as_self):
    status = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Forged"}]}}
    assert code(as_self.patch, f"/api/v1/nodes/{OTHER}/status", status, STRATEGIC) == 403
    assert code(as_self.patch, f"/api/v1/nodes/{OTHER}", {"metadata": {}}, STRATEGIC) == 403
    assert code(as_self.delete, f"/api/v1/nodes/{OTHER}") == 403


def test_node_may_not_give_itself_a_role(things, as_self):
    labels = {"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}}
    assert code(as_self.patch, f"/api/v1/nodes/{SELF}", labels, STRATEGIC) == 403


def test_account_does_what_the_hub_does_for_itself(things, account, cluster):
    labels = {"metadata": {"labels": {"node-role.kubernetes.io/edge": "",
                                      "node-role.kubernetes.io/agent": ""},
                           "annotations": {"cloudcore": "127.0.0.1"}}}
    assert code(account.patch, f"/api/v1/nodes/{OTHER}", labels) == 200
    for path in ("nodes", "pods", "configmaps", "secrets"):
        assert code(account.get, f"/api/v1/{path}?limit=1") == 200, path
    bridged = account.get(f"{LEASES}/{OTHER}")
    assert code(account.request, "PUT", f"{LEASES}/{OTHER}", bridged) == 200


@pytest.mark.parametrize("method,path", [
    ("GET", "/api/v1/namespaces/kube-system/serviceaccounts"),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ("GET", "/apis/apps/v1/deployments"),
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
    ("DELETE", "/api/v1/nodes/" + OTHER),
    ("DELETE", "/api/v1/namespaces/default/secrets/" + OTHER),
    ("DELETE", f"{LEASES}/{OTHER}"),
])
def test_account_may_not(things, account, method, path):
    assert code(account.request, method, path) == 403


@pytest.mark.parametrize("headers", [
    {"Impersonate-User": "system:node:x", "Impersonate-Group": "system:masters"},
    {"Impersonate-User": "system:node:x", "Impersonate-Group": "system:authenticated"},
    {"Impersonate-User": "system:node:x", "Impersonate-Uid": "1"},
    {"Impersonate-User": "system:serviceaccount:kube-system:namespace-controller"},
])
def test_account_is_nobody_greater(account, headers):
    with pytest.raises(ApiError) as refused:
        account.with_headers(headers).get("/api/v1/nodes/" + SELF)
    assert refused.value.code == 403
    assert HUB_USER in str(refused.value)


def test_constrained_account_is_only_nodes(account, pytestconfig):
    if pytestconfig.getoption("--impersonation") != "constrained":
        pytest.skip("only constrained impersonation can say that")
    for headers in ({"Impersonate-User": "kubernetes-admin"},
                    {"Impersonate-User": "system:node:x", "Impersonate-Group": "system:nodes"}):
        assert code(account.with_headers(headers).get, "/api/v1/nodes") == 403
    # Not even as a node what no edge asks for.
    assert code(account.as_node(SELF, groups=()).get, "/api/v1/nodes") == 403
