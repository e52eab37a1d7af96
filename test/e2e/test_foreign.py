"""With its certificate a node opens nothing of another: every kind of message that an edge sends is sent about
the things of somebody else, through the hub, by an edge driven by hand."""

import pytest

from stack.asker import Asker
from stack.questions import (LEASE, NAMESPACE, SILENCE_SECONDS, Question, certificate_request, delete_options, fill,
                             lease_object, mirror_pod, node_object, objects, of_pod, token_request)
from stack.processes import wait_until

pytestmark = [pytest.mark.needs("impersonation"), pytest.mark.disturbs]

SELF, OTHER = "prying", "pried"
OTHERS_LEASE = LEASE.replace("{node}", OTHER)
READY = '{"status":{"conditions":[{"type":"Ready","status":"False","reason":"Forged"}]}}'
# Events and CertificateSigningRequests belong to nobody in Kubernetes: a node may write any Event and read any request.
QUESTIONS = [
    Question("node insert", f"null/node/{OTHER}", "insert", node_object(), wait=SILENCE_SECONDS),
    Question("node query", f"default/node/{OTHER}", "query", wait=SILENCE_SECONDS),
    Question("node update", f"default/node/{OTHER}", "update", {"metadata": {"name": OTHER, "labels": {"a": "b"}}},
             wait=SILENCE_SECONDS),
    Question("nodestatus insert", f"default/nodestatus/{OTHER}", "insert", node_object(), wait=SILENCE_SECONDS),
    Question("nodestatus update", f"default/nodestatus/{OTHER}", "update", {"UID": "", "Status": {"phase": "Running"}},
             wait=SILENCE_SECONDS),
    Question("nodepatch", f"null/nodepatch/{OTHER}", "patch", READY, wait=SILENCE_SECONDS),
    Question("lease query", OTHERS_LEASE, "query", wait=SILENCE_SECONDS),
    Question("lease insert", OTHERS_LEASE, "insert", lease_object(), wait=SILENCE_SECONDS),
    Question("lease update", OTHERS_LEASE, "update", lease_object(), wait=SILENCE_SECONDS),
    Question("lease update by its content", LEASE, "update", fill(lease_object(), OTHER)),
    Question("podpatch", f"{NAMESPACE}/podpatch/{OTHER}", "patch", '{"status":{"phase":"Failed"}}'),
    Question("podstatus update", f"{NAMESPACE}/podstatus/{OTHER}", "update", of_pod(
        OTHER, lambda pod: {"UID": pod["metadata"]["uid"], "Name": OTHER, "Status": {"phase": "Failed"}})),
    Question("pod insert", f"{NAMESPACE}/pod/{SELF}-mirror", "insert",
             lambda asker: {**mirror_pod(asker), "spec": {**mirror_pod(asker)["spec"], "nodeName": OTHER}}),
    Question("pod delete", f"{NAMESPACE}/pod/{OTHER}", "delete",
             of_pod(OTHER, lambda pod: delete_options(pod["metadata"]["uid"]))),
    *(Question(f"{kind} query", f"{namespace}/{kind}/{OTHER}", "query") for kind, namespace in (
        ("configmap", NAMESPACE), ("secret", NAMESPACE), ("persistentvolumeclaim", NAMESPACE),
        ("persistentvolume", "null"), ("volumeattachment", "default"))),
    Question("serviceaccounttoken query", f"{NAMESPACE}/serviceaccounttoken/default", "query", token_request(OTHER)),
    Question("certificatesigningrequest insert", f"default/certificatesigningrequest/{SELF}", "insert",
             lambda asker: certificate_request(Asker(None, None, OTHER, SELF, None))),
]


@pytest.fixture(scope="module", name="asker")
def two_nodes_with_things(cluster, hub, authority):
    """The one that asks is a node in good standing, with things of its own."""
    admin = cluster.admin
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for name in (SELF, OTHER):
        admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        admin.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                     "metadata": {"name": name, "namespace": "kube-node-lease"},
                     "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}})
    wait_until("the default service account", lambda: admin.find(
        f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"), 30)
    for name, other in ((SELF, OTHER), (OTHER, SELF)):
        for item in objects(name, other):
            admin.apply(item)
    asker = Asker(hub, authority, SELF, OTHER, admin)
    asker.reconnect()
    asker.make_objects()
    yield asker
    asker.close()


def versions(admin):
    """Of everything that belongs to the other node; what the cluster itself does to a Node does not count."""
    found = {"lease": admin.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{OTHER}")}
    for kind in ("pods", "configmaps", "secrets", "persistentvolumeclaims"):
        found[kind] = admin.get(f"/api/v1/namespaces/{NAMESPACE}/{kind}/{OTHER}")
    labels = admin.get(f"/api/v1/nodes/{OTHER}")["metadata"].get("labels")
    return {kind: item["metadata"]["resourceVersion"] for kind, item in found.items()}, labels


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_nothing_of_another_node(asker, question):
    before = versions(asker.admin)
    said, _ = asker.ask(question)
    assert said.startswith(("403", "400", "error:", "no answer")) or said == "text", said
    assert versions(asker.admin) == before


def test_what_is_ones_own_is_answered(asker):
    """The refusals above are not for want of standing."""
    said, _ = asker.ask(Question("own", f"{NAMESPACE}/secret/{SELF}", "query"))
    assert said == "Secret"
