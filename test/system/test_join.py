"""Joining: Secrets that replicas make together, certificates for tokens, renewal, refusals, taking CloudCore's over."""

import base64
import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import json
import signal
import socket
import ssl
import subprocess
import time

import pytest

from lab.certs import openssl
from lab.edge import Closed, Edge, Refused
from lab.join import Joined, Request, ask, ask_certificate, put_secret, run_token, secret, token
from lab.processes import PATIENCE, ROOT, program, wait_until
from lab.programs import Hub

VECTORS = ROOT / "test/vectors/join"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@pytest.fixture
def hub(lab, devapi):
    return lab.hub(devapi, "--advertise-address", "127.0.0.1", files=False)


def results(hub):
    return hub.metrics().by("isthmus_join_requests_total", "result")


def vector(name):
    return (VECTORS / name).read_bytes()


def make_jwt(key, expires, algorithm="HS256", **claims):
    def encode(part):
        return base64.urlsafe_b64encode(part).rstrip(b"=")
    text = encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()) + b"." + \
        encode(json.dumps({"exp": expires, **claims}).encode())
    hashes = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
    return (text + b"." + encode(hmac.new(key, text, hashes[algorithm]).digest())).decode()


def describe(der, *options):
    done = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-nameopt", "RFC2253", *options], input=der,
                          capture_output=True, timeout=30, check=True)
    return done.stdout.decode()


def server_certificate(hub):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", hub.https_port), 10)) as connection:
        return connection.getpeercert(binary_form=True)


# ---- making and finding the Secrets ----

def start_together(lab, devapi, count, *flags):
    hubs = [Hub(lab.folder, lab.authority, devapi, "--advertise-address", "127.0.0.1", *flags, name=f"hub-{i}", files=False)
            for i in range(count)]
    lab.started.extend(hubs)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda one: one.start(), hubs))


@pytest.mark.sanitize
@pytest.mark.parametrize("stall", ["0", f"{800 * PATIENCE}ms"])
def test_three_replicas_on_an_empty_cluster_make_one_of_each(lab, devapi, stall):
    """With writes that take long all three have seen that there is nothing before the first of them is carried out."""
    devapi.faults(stall={"secret": stall, "namespace": stall})
    hubs = start_together(lab, devapi, 3)
    devapi.faults(stall={})
    assert len({ask(one, "GET", "/ca.crt") for one in hubs}) == 1
    assert len({server_certificate(one) for one in hubs}) == 1
    made = [line for one in hubs for line in one.log_text().splitlines() if "secret_created " in line]
    assert sorted(line.split("name=")[1] for line in made) == ["casecret", "cloudcoresecret", "tokensecret"]
    if stall != "0":
        late = [one for one in hubs if "secret_created_by_another namespace=kubeedge name=casecret" in one.log_text()]
        assert len(late) == 2
    # One token key: what one replica's Secret says, every replica takes, and the certificate is good everywhere.
    for i, one in enumerate(hubs):
        joined = Joined(one, devapi, f"edge-{i}", lab.folder)
        with Edge(hubs[(i + 1) % 3], joined, f"edge-{i}") as edge:
            edge.query_lease()


def test_what_is_made_has_cloudcores_form(hub, devapi):
    ca, server, text = secret(devapi, "casecret"), secret(devapi, "cloudcoresecret"), secret(devapi, "tokensecret")
    assert (set(ca), set(server), set(text)) == ({"cadata", "cakeydata"}, {"cloudcoredata", "cloudcorekeydata"}, {"tokendata"})
    assert ask(hub, "GET", "/ca.crt") == (200, ca["cadata"])
    assert server_certificate(hub) == server["cloudcoredata"]
    assert describe(ca["cadata"], "-subject", "-serial") == "subject=CN=KubeEdge\nserial=0400\n"
    assert "CN=KubeEdge,O=KubeEdge" in describe(server["cloudcoredata"], "-subject")
    assert "IP Address:127.0.0.1" in describe(server["cloudcoredata"], "-ext", "subjectAltName")
    key = subprocess.run(["openssl", "ec", "-inform", "DER", "-noout", "-text"], input=ca["cakeydata"],
                         capture_output=True, timeout=30, check=True).stdout.decode()
    assert "prime256v1" in key
    ca_hash, jwt = text["tokendata"].decode().split(".", 1)
    assert ca_hash == hashlib.sha256(ca["cadata"]).hexdigest()
    claims = json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "=="))
    assert set(claims) == {"exp"} and abs(claims["exp"] - time.time() - 86400) < 60
    signed, signature = jwt.rsplit(".", 1)
    mac = hmac.new(ca["cakeydata"], signed.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(signature + "=") == mac
    assert token(devapi) == text["tokendata"].decode()


def test_a_second_start_changes_nothing(lab, devapi):
    versions = []
    for _ in range(2):
        hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", files=False)
        versions.append([devapi.get(f"/api/v1/namespaces/kubeedge/secrets/{name}")["metadata"]["resourceVersion"]
                         for name in ("casecret", "cloudcoresecret", "tokensecret")])
        hub.stop()
    assert versions[0] == versions[1]


def test_no_key_reaches_a_log(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--log-level", "debug", files=False)
    Joined(hub, devapi, "edge-1", lab.folder)
    hub.process.signal(signal.SIGHUP)
    wait_until("it has read them again", lambda: "reloaded" in hub.log_text())
    log = hub.log_text()
    for name, key in (("casecret", "cakeydata"), ("cloudcoresecret", "cloudcorekeydata"), ("tokensecret", "tokendata")):
        value = secret(devapi, name)[key]
        assert base64.b64encode(value).decode() not in log and value.hex() not in log
    assert token(devapi).split(".", 1)[1] not in log


def test_cloudcores_installation_is_taken_over_unchanged(lab, devapi):
    made = [put_secret(devapi, "casecret", cadata=vector("ca.der"), cakeydata=vector("ca.key.der")),
            put_secret(devapi, "cloudcoresecret", cloudcoredata=vector("server.der"), cloudcorekeydata=vector("server.key.der")),
            put_secret(devapi, "tokensecret", tokendata=vector("token.txt"))]
    hub = lab.hub(devapi, "--advertise-address", "192.0.2.1", "--dns-name", "hub.example.com", files=False)
    assert "lacks_name" not in hub.log_text()
    assert ask(hub, "GET", "/ca.crt") == (200, vector("ca.der"))
    assert server_certificate(hub) == vector("server.der")
    assert secret(devapi, "tokensecret")["tokendata"] == vector("token.txt") == token(devapi).encode()
    jwt = vector("token.txt").decode().split(".", 1)[1]
    request = Request(lab.folder, "edge-1")
    status, certificate = ask_certificate(hub, "edge-1", vector("edge-1.csr.der"), jwt)
    assert status == 200, certificate
    # With a longer hash, too, as CloudCore takes it.
    assert ask_certificate(hub, "edge-1", request.der, make_jwt(vector("ca.key.der"), 2e9, "HS512"))[0] == 200
    for one in made:
        assert devapi.get(f"/api/v1/namespaces/kubeedge/secrets/{one['metadata']['name']}") == one


@pytest.mark.parametrize("broken, says", [
    ({"cadata": vector("ca.der")}, "data.cakeydata is missing"),
    ({"cadata": vector("ca.der"), "cakeydata": vector("server.key.der")}, "not the certificate's"),
    ({"cadata": b"nonsense", "cakeydata": vector("ca.key.der")}, "not DER"),
    ({"cadata": vector("server.der"), "cakeydata": vector("server.key.der")}, "not a CA's"),
])
def test_a_broken_secret_ends_the_start_and_stays(lab, devapi, broken, says):
    made = put_secret(devapi, "casecret", **broken)
    hub = Hub(lab.folder, lab.authority, devapi, files=False)
    lab.started.append(hub)
    with pytest.raises(AssertionError):
        hub.start()
    assert hub.process.wait(10) == 1
    assert says in hub.log_text() and "kubeedge/casecret" in hub.log_text()
    assert devapi.get("/api/v1/namespaces/kubeedge/secrets/casecret")["metadata"]["resourceVersion"] == \
        made["metadata"]["resourceVersion"]


def test_the_start_waits_for_the_api_server(lab):
    devapi = lab.devapi()
    devapi.stop()
    hub = Hub(lab.folder, lab.authority, devapi, "--advertise-address", "127.0.0.1", files=False)
    lab.started.append(hub)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        starting = pool.submit(hub.start)
        wait_until("it says that it waits", lambda: hub.process and "waiting_for_api" in hub.log_text())
        devapi.start()
        starting.result(60)
    assert secret(devapi, "casecret")


# ---- names of the server certificate ----

def test_missing_names_are_said_and_renewed_when_asked(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", files=False)
    joined = Joined(hub, devapi, "edge-1", lab.folder)
    before = server_certificate(hub)
    flags = ["--advertise-address", "127.0.0.2", "--advertise-address", "2001:db8::1", "--dns-name", "hub.example.com"]
    other = lab.hub(devapi, *flags, name="other", files=False)
    assert "server_certificate_lacks_name name=hub.example.com" in other.log_text()
    assert server_certificate(other) == before
    other.stop()

    other = lab.hub(devapi, *flags, "--renew-server-cert", name="other", files=False)
    after = server_certificate(other)
    names = describe(after, "-ext", "subjectAltName")
    for name in ("IP Address:127.0.0.1", "IP Address:127.0.0.2", "2001:DB8:0:0:0:0:0:1", "DNS:hub.example.com"):
        assert name in names
    # The edge that pinned the CA takes it, and the other replica does too, without a restart, and loses no session.
    with Edge(other, joined, "edge-1") as edge:
        edge.query_lease()
    with Edge(hub, joined, "edge-1") as edge:
        hub.process.signal(signal.SIGHUP)
        wait_until("it serves with the new one", lambda: server_certificate(hub) == after)
        edge.query_lease()
    assert hub.closed("peer") + hub.closed("shutdown") <= 1
    # Asked again, there is nothing to renew.
    other.stop()
    other = lab.hub(devapi, *flags, "--renew-server-cert", name="other", files=False)
    assert server_certificate(other) == after


def test_replicas_that_renew_together_do_not_take_names_away(lab, devapi):
    lab.hub(devapi, "--advertise-address", "127.0.0.1", files=False).stop()
    hubs = [Hub(lab.folder, lab.authority, devapi, "--advertise-address", f"127.0.1.{i}", "--renew-server-cert", name=f"hub-{i}",
                files=False) for i in range(3)]
    lab.started.extend(hubs)
    devapi.faults(stall={"secret": "300ms"})
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda one: one.start(), hubs))
    names = describe(secret(devapi, "cloudcoresecret")["cloudcoredata"], "-ext", "subjectAltName")
    for address in ("127.0.0.1", "127.0.1.0", "127.0.1.1", "127.0.1.2"):
        assert f"IP Address:{address}" in names


def test_a_server_certificate_of_another_ca_ends_the_start(lab, devapi, authority):
    certificate, key = authority.server("foreign")
    openssl("x509", "-in", certificate, "-outform", "DER", "-out", lab.folder / "f.der")
    openssl("ec", "-in", key, "-outform", "DER", "-out", lab.folder / "f.key.der")
    put_secret(devapi, "casecret", cadata=vector("ca.der"), cakeydata=vector("ca.key.der"))
    put_secret(devapi, "cloudcoresecret", cloudcoredata=(lab.folder / "f.der").read_bytes(),
               cloudcorekeydata=(lab.folder / "f.key.der").read_bytes())
    hub = Hub(lab.folder, lab.authority, devapi, files=False)
    lab.started.append(hub)
    with pytest.raises(AssertionError):
        hub.start()
    assert hub.process.wait(10) == 1
    assert "not signed by the CA" in hub.log_text() and "--renew-server-cert" in hub.log_text()
    renewed = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--renew-server-cert", name="renewed", files=False)
    Joined(renewed, devapi, "edge-1", lab.folder)


# ---- tokens ----

def test_tokens_rotate_and_old_ones_are_taken(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--token-refresh", "3s", files=False)
    lab.hub(devapi, "--advertise-address", "127.0.0.1", "--token-refresh", "3s", name="other", files=False)
    first = token(devapi)
    second = wait_until("there is another token", lambda: (token(devapi) != first) and token(devapi))
    request = Request(lab.folder, "edge-1")
    expires = json.loads(base64.urlsafe_b64decode(first.split(".")[2] + "=="))["exp"]
    if time.time() < expires - 1:
        assert ask_certificate(hub, "edge-1", request.der, first.split(".", 1)[1])[0] == 200
    assert ask_certificate(hub, "edge-1", request.der, second.split(".", 1)[1])[0] == 200
    wait_until("the first has expired", lambda: time.time() > expires)
    assert ask_certificate(hub, "edge-1", request.der, first.split(".", 1)[1])[0] == 401
    assert results(hub)["token_expired"] == 1
    # At any moment the stored one is good for about as long as it takes until the next.
    expires = json.loads(base64.urlsafe_b64decode(token(devapi).split(".")[2] + "=="))["exp"]
    assert expires - time.time() > 1


def test_a_stored_token_that_is_too_old_is_replaced_at_the_start(lab, devapi):
    put_secret(devapi, "casecret", cadata=vector("ca.der"), cakeydata=vector("ca.key.der"))
    old = hashlib.sha256(vector("ca.der")).hexdigest() + "." + make_jwt(vector("ca.key.der"), int(time.time()) + 3600)
    put_secret(devapi, "tokensecret", tokendata=old.encode())
    hub = lab.hub(devapi, files=False)
    assert token(devapi) != old
    assert ask_certificate(hub, "edge-1", Request(lab.folder, "edge-1").der, old.split(".", 1)[1])[0] == 200


def test_the_token_command(lab, devapi):
    code, out, err = run_token(devapi)
    assert (code, out) == (1, "") and "there is none yet" in err
    put_secret(devapi, "tokensecret", tokendata=b"nonsense")
    code, out, err = run_token(devapi)
    assert (code, out) == (1, "") and "no join token" in err
    assert run_token(devapi, "--namespace", "other")[0] == 1
    assert run_token(devapi, "--no-such-flag")[0] == 2
    done = subprocess.run([str(program("isthmus")), "token", "--kubeconfig", "/nonexistent"], capture_output=True,
                          text=True, timeout=30, check=False)
    assert done.returncode == 1 and "/nonexistent" in done.stderr
    old = "0" * 64 + "." + make_jwt(b"key", int(time.time()) - 5)
    devapi.call("PATCH", "/api/v1/namespaces/kubeedge/secrets/tokensecret",
                {"data": {"tokendata": base64.b64encode(old.encode()).decode()}}, "application/merge-patch+json")
    code, out, err = run_token(devapi)
    assert (code, out) == (1, "") and "has expired" in err


# ---- certificates ----

@pytest.mark.sanitize
def test_a_node_joins_connects_and_renews(lab, devapi, hub):
    joined = Joined(hub, devapi, "edge-1", lab.folder)
    text = describe(joined.der, "-subject", "-ext", "keyUsage,extendedKeyUsage", "-dates")
    assert "CN=system:node:edge-1,O=system:nodes" in text
    assert "Digital Signature, Key Encipherment" in text and "TLS Web Client Authentication" in text
    assert "Server" not in text
    openssl("verify", "-CAfile", joined.ca, "-purpose", "sslclient", joined.certificate[0])
    with Edge(hub, joined, "edge-1") as edge:
        edge.query_lease()
        # It is connected, and lives: renewing is fine all the same, with another key too, and without a token.
        again = Request(lab.folder, "edge-1", stem="again")
        status, certificate = ask_certificate(hub, "edge-1", again.der, certificate=joined.certificate, ca=joined.ca)
        assert status == 200 and certificate != joined.der
    joined.certificate = again.keep(certificate)
    with Edge(hub, joined, "edge-1") as edge:
        edge.query_lease()
    with pytest.raises(Refused):
        Edge(hub, joined, "edge-2")
    assert results(hub) == {"ca_sent": 1, "issued": 1, "renewed": 1}
    assert hub.log_text().count("certificate_issued node=edge-1") == 2


def test_a_certificate_has_the_lifetime_that_was_set(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--edge-cert-lifetime", "2s", files=False)
    joined = Joined(hub, devapi, "edge-1", lab.folder)
    wait_until("it has expired", lambda: ask_certificate(hub, "edge-1", joined.request.der,
                                                         certificate=joined.certificate)[0] == 401)
    assert results(hub)["certificate_invalid"] >= 1
    with pytest.raises((ssl.SSLError, ConnectionError, Closed)):
        Edge(hub, joined, "edge-1")


REFUSALS = {
    "no_credentials": lambda r, jwt: dict(jwt=None),
    "token_malformed": lambda r, jwt: dict(jwt="x.y"),
    "token_algorithm": lambda r, jwt: dict(jwt="eyJhbGciOiJub25lIn0.eyJleHAiOjE5NjcyMjU2MDB9.AAAA"),
    "token_signature": lambda r, jwt: dict(jwt=make_jwt(b"other", 2e9)),
    "token_expired": None,
    "node_name": lambda r, jwt: dict(node=None),
    "request_malformed": lambda r, jwt: dict(csr=b"nonsense"),
    "request_wrong_node": lambda r, jwt: dict(node="edge-2"),
    "request_usage": lambda r, jwt: dict(Extkeyusages="[1]"),
    "request_foreign_names": dict(extensions=["subjectAltName=DNS:hub.example.com"]),
    "request_ca": dict(extensions=["basicConstraints=CA:TRUE"]),
    "request_key": dict(key=("rsa", "rsa_keygen_bits:1024")),
}


@pytest.mark.sanitize
def test_refusals(lab, devapi, hub):
    jwt = token(devapi).split(".", 1)[1]
    good = Request(lab.folder, "edge-1")
    for reason, how in REFUSALS.items():
        arguments = {"node": "edge-1", "csr": good.der, "jwt": jwt}
        if reason == "token_expired":
            arguments["jwt"] = make_jwt(secret(devapi, "casecret")["cakeydata"], int(time.time()) - 1)
        elif isinstance(how, dict):
            arguments["csr"] = Request(lab.folder, "edge-1", stem="bad", **how).der
        else:
            arguments.update(how(good, jwt))
        status, text = ask_certificate(hub, **arguments)
        assert status == (401 if reason.startswith(("token", "no_cred")) else 403), (reason, text)
        assert len(text) > 10 and text.endswith(b"\n"), reason
        assert results(hub).get(reason) == 1, (reason, results(hub))
    # One bit of the request changed behind its subject: the signature is wrong.
    broken = bytearray(good.der)
    broken[-1] ^= 1
    assert ask_certificate(hub, "edge-1", bytes(broken), jwt)[0] == 403
    assert "join_refused reason=no_credentials" in hub.log_text()
    # And all that did the hub no harm.
    assert ask_certificate(hub, "edge-1", good.der, jwt)[0] == 200


def test_certificates_of_others(lab, devapi, hub, authority):
    jwt = token(devapi).split(".", 1)[1]
    request = Request(lab.folder, "edge-1")
    foreign = authority.node("edge-1")
    assert ask_certificate(hub, "edge-1", request.der, certificate=foreign)[0] == 401
    # A certificate makes the token irrelevant, as in CloudCore.
    assert ask_certificate(hub, "edge-1", request.der, jwt, certificate=foreign)[0] == 401
    other = Joined(hub, devapi, "edge-2", lab.folder)
    assert ask_certificate(hub, "edge-1", request.der, certificate=other.certificate)[0] == 401
    assert ask(hub, "GET", "/ca.crt", certificate=foreign)[0] == 200
    assert {k: v for k, v in results(hub).items() if k.startswith("cert")} == {"certificate_invalid": 2, "certificate_wrong_node": 1}


def put_lease(devapi, node, age_s):
    at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=age_s)
    devapi.call("DELETE", f"{LEASES}/{node}")
    devapi.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                           "metadata": {"name": node, "namespace": "kube-node-lease"},
                           "spec": {"holderIdentity": node, "leaseDurationSeconds": 40,
                                    "renewTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}})


def test_a_name_that_lives_is_given_to_nobody(lab, devapi, hub):
    jwt = token(devapi).split(".", 1)[1]
    joined = Joined(hub, devapi, "edge-1", lab.folder)
    thief = Request(lab.folder, "edge-1", stem="thief")
    with Edge(hub, joined, "edge-1") as edge:
        edge.query_lease()
        assert ask_certificate(hub, "edge-1", thief.der, jwt)[0] == 403
        assert results(hub)["node_connected"] == 1
    # Connected to another replica, or not seen for a moment: its lease is fresh.
    wait_until("its session has ended", lambda: hub.connections() == 0)
    put_lease(devapi, "edge-1", 10)
    assert ask_certificate(hub, "edge-1", thief.der, jwt)[0] == 403
    assert results(hub)["node_alive"] == 1
    put_lease(devapi, "edge-1", 60)
    assert ask_certificate(hub, "edge-1", thief.der, jwt)[0] == 200
    put_lease(devapi, "edge-1", 0)
    open_hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--allow-reissue", name="open", files=False)
    assert ask_certificate(open_hub, "edge-1", thief.der, jwt)[0] == 200


def test_a_denied_node_gets_no_certificate(lab, devapi):
    denied = lab.folder / "denied"
    denied.write_text("edge-1\n")
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--deny-nodes", denied, files=False)
    jwt = token(devapi).split(".", 1)[1]
    assert ask_certificate(hub, "edge-1", Request(lab.folder, "edge-1").der, jwt)[0] == 403
    assert ask_certificate(hub, "edge-1", b"x", "a.b.c")[0] == 401  # who has no token does not learn it
    assert results(hub) == {"node_denied": 1, "token_malformed": 1}
    Joined(hub, devapi, "edge-2", lab.folder)


def test_without_an_answer_of_the_api_server_nothing_is_issued(lab, devapi, hub):
    jwt = token(devapi).split(".", 1)[1]
    request = Request(lab.folder, "edge-1")
    assert ask(hub, "GET", "/node/edge-1") == (404, b"Node not found")
    devapi.stop(signal.SIGKILL)
    assert ask_certificate(hub, "edge-1", request.der, jwt)[0] == 500
    assert ask(hub, "GET", "/node/edge-1")[0] == 500
    assert ask(hub, "GET", "/ca.crt")[0] == 200
    assert results(hub)["api_error"] == 2


@pytest.mark.sanitize
def test_a_peer_that_does_not_wait_for_its_answer(lab, devapi, hub):
    jwt = token(devapi).split(".", 1)[1]
    request = Request(lab.folder, "edge-1")
    devapi.faults(latency="2s")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    head = (f"GET /edge.crt HTTP/1.1\r\nHost: x\r\nNodename: edge-1\r\nAuthorization: Bearer {jwt}\r\n"
            f"Content-Length: {len(request.der)}\r\n\r\n").encode()
    for more in (b"", b"GET /ca.crt HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 50000):
        raw = context.wrap_socket(socket.create_connection(("127.0.0.1", hub.https_port), 10))
        raw.sendall(head + request.der + more)
        if more:  # it did not wait for its answer: nobody else notices
            assert ask(hub, "GET", "/ca.crt")[0] == 200
        raw.close()
    wait_until("all three have ended", lambda: results(hub).get("issued", 0) + results(hub).get("gone", 0) == 3)
    devapi.faults(latency="0")
    assert ask_certificate(hub, "edge-1", request.der, jwt)[0] == 200


# ---- the rest of the endpoint ----

def test_node_check(devapi, hub):
    devapi.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}})
    assert ask(hub, "GET", "/node/edge-1") == (200, b"Node found")
    assert ask(hub, "GET", "/node/edge-2") == (404, b"Node not found")
    for path in ("/node/", "/node/Edge_1", "/node/a%2f..%2fb", "/node/" + "a" * 200):
        assert ask(hub, "GET", path)[0] == 404, path
    assert results(hub)["node_found"] == 1


def test_what_is_not_served(hub):
    assert ask(hub, "POST", "/nodeupgrade", body=b"{}")[0] == 404
    assert ask(hub, "POST", "/task/upgrade/name/x/node/y/status", body=b"{}")[0] == 404
    assert ask(hub, "POST", "/edge.crt", body=b"{}")[0] == 404
    assert ask(hub, "GET", "/")[0] == 404
    assert ask(hub, "PUT", "/ca.crt", body=b"x")[0] == 405
    assert ask(hub, "GET", "/edge.crt", body=b"x" * 20000)[0] == 413
    assert results(hub) == {"not_served": 2, "unknown_path": 2, "http": 2}


def test_who_shows_no_certificate_is_limited(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--join-address-rate", "15", "--join-rate", "100", files=False)
    joined = Joined(hub, devapi, "edge-1", lab.folder)
    statuses = [ask(hub, "GET", "/ca.crt")[0] for _ in range(70)]
    assert 429 in statuses and set(statuses) == {200, 429}
    assert results(hub)["address_rate_limited"] == statuses.count(429)
    # Another address, or a certificate, is not concerned; but has a limit of its own.
    statuses = [ask_certificate(hub, "edge-1", joined.request.der, certificate=joined.certificate)[0] for _ in range(30)]
    assert statuses[0] == 200 and 429 in statuses
    hub.stop()
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--join-address-rate", "0", "--join-rate", "2", files=False)
    statuses = [ask(hub, "GET", "/ca.crt")[0] for _ in range(12)]
    assert 429 in statuses and results(hub)["rate_limited"] == statuses.count(429)


@pytest.mark.sanitize
def test_who_connects_and_says_nothing_keeps_nobody_out(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--join-address-rate", "0", files=False)
    silent = []
    try:
        for _ in range(400):
            silent.append(socket.create_connection(("127.0.0.1", hub.https_port), 10))
        assert ask(hub, "GET", "/ca.crt")[0] == 200
        hub.status()
    finally:
        for one in silent:
            one.close()
    assert ask(hub, "GET", "/ca.crt")[0] == 200


def test_an_address_that_connects_all_the_time_is_cut_off_alone(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--join-address-rate", "2", files=False)
    for _ in range(60):
        socket.create_connection(("127.0.0.1", hub.https_port), 10).close()
    with pytest.raises(OSError):
        ask(hub, "GET", "/ca.crt")
    assert ask(hub, "GET", "/ca.crt", source="127.0.0.2")[0] == 200
    assert results(hub)["connection_limited"] >= 40
    wait_until("its bucket has filled", lambda: succeeds(hub))


def succeeds(hub):
    try:
        return ask(hub, "GET", "/ca.crt")[0] == 200
    except OSError:
        return False


def test_with_files_nothing_is_signed(lab, devapi, authority):
    hub = lab.hub(devapi, https=True)
    status, ca = ask(hub, "GET", "/ca.crt")
    assert status == 200 and ssl.DER_cert_to_PEM_cert(ca).split()[2:3] == authority.ca.read_text().split()[2:3]
    status, text = ask_certificate(hub, "edge-1", Request(lab.folder, "edge-1").der, "a.b.c")
    assert status == 500 and b"files" in text
    assert secret(devapi, "casecret") is None
    assert results(hub) == {"ca_sent": 1, "no_ca_key": 1}


def test_one_connection_joins_several_times(lab, devapi, hub):
    """A GET with a body, answered later, and the next request on the same connection."""
    jwt = token(devapi).split(".", 1)[1]
    request = Request(lab.folder, "edge-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", hub.https_port, context=context, timeout=20)
    for _ in range(5):
        connection.request("GET", "/edge.crt", request.der, {"Nodename": "edge-1", "Authorization": f"Bearer {jwt}"})
        response = connection.getresponse()
        assert response.status == 200 and len(response.read()) > 300
        connection.request("GET", "/node/edge-9")
        response = connection.getresponse()
        assert (response.status, response.read()) == (404, b"Node not found")
    connection.close()
    assert results(hub) == {"issued": 5, "node_not_found": 5}


def test_a_fleet_joins(lab, devapi):
    hub = lab.hub(devapi, "--advertise-address", "127.0.0.1", "--join-address-rate", "0", files=False)
    fleet = lab.fleet(hub, 40, token=token(devapi))
    fleet.wait_ready()
    report = fleet.stop()
    assert report["nodes"]["ready"] == 40
    assert results(hub) == {"ca_sent": 1, "issued": 40}
    # With another CA's token none does.
    fleet = lab.fleet(hub, 1, name="other", token="0" * 64 + "." + token(devapi).split(".", 1)[1])
    assert fleet.process.wait(20) == 1
    assert "is not the token's" in fleet.process.log_text()


def test_the_document_names_every_result(hub):
    text = (ROOT / "docs/joining.md").read_text()
    names = {dict(labels)["result"] for (name, labels) in hub.metrics().values if name == "isthmus_join_requests_total"}
    assert len(names) > 30
    assert not [name for name in names if f"`{name}`" not in text]
