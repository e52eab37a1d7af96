"""Joining as EdgeCore does it, step by step: the token, the CA, a certificate for a request, its renewal."""

import base64
import hashlib
import http.client
import ssl
import subprocess

from lab.certs import openssl
from lab.processes import program

SECRETS = "/api/v1/namespaces/kubeedge/secrets"


def secret(devapi, name):
    """{key: bytes} of a Secret, None when there is none."""
    code, body = devapi.call("GET", f"{SECRETS}/{name}")
    if code == 404:
        return None
    assert code == 200, body
    assert body["type"] == "Opaque"
    return {key: base64.b64decode(value) for key, value in body["data"].items()}


def put_secret(devapi, name, **data):
    devapi.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubeedge"}})
    return devapi.create(SECRETS, {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "kubeedge"}, "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()}})


def run_token(devapi, *flags):
    """(exit code, standard output, standard error) of `isthmus token`."""
    done = subprocess.run([str(program("isthmus")), "token", "--kubeconfig", str(devapi.kubeconfig), *flags],
                          capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def token(devapi):
    code, out, err = run_token(devapi)
    assert (code, err) == (0, ""), err
    assert out.endswith("\n") and out.count("\n") == 1
    return out.strip()


def ask(hub, method, path, headers=None, body=None, certificate=None, ca=None, source=None):
    """(status, bytes); a GET may have a body, as EdgeCore's has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        context.load_verify_locations(ca)
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(*certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", hub.https_port, context=context, timeout=20,
                                             source_address=(source, 0) if source else None)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def ask_certificate(hub, node, csr, jwt=None, certificate=None, ca=None, **headers):
    headers = {"Nodename": node, **headers} if node is not None else headers
    if jwt is not None:
        headers["Authorization"] = f"Bearer {jwt}"
    return ask(hub, "GET", "/edge.crt", headers, csr, certificate, ca)


class Request:
    """A key and a PKCS#10 request to it, as EdgeCore makes them."""

    def __init__(self, folder, node, subject=None, key=("ec", "ec_paramgen_curve:P-256"), extensions=(), stem=None):
        stem = stem or f"join-{node}"
        self.node, self.folder = node, folder
        self.key_path, path = folder / f"{stem}.key", folder / f"{stem}.csr"
        self.certificate_path = folder / f"{stem}.crt"
        subject = subject or f"/C=CN/ST=Zhejiang/L=Hangzhou/O=system:nodes/CN=system:node:{node}"
        more = [word for extension in extensions for word in ("-addext", extension)]
        openssl("req", "-new", "-newkey", key[0], "-pkeyopt", key[1], "-nodes", "-keyout", self.key_path, "-out", path,
                "-outform", "DER", "-subj", subject, *more)
        self.der = path.read_bytes()

    def keep(self, certificate):
        """(certificate, key) as files."""
        self.certificate_path.write_text(ssl.DER_cert_to_PEM_cert(certificate))
        return self.certificate_path, self.key_path


class Joined:
    """What an edge has after it joined. Stands for an Authority where an Edge wants one."""

    def __init__(self, hub, devapi, node, folder, text=None):
        text = text or token(devapi)
        ca_hash, jwt = text.split(".", 1)
        status, der = ask(hub, "GET", "/ca.crt")
        assert status == 200 and hashlib.sha256(der).hexdigest() == ca_hash
        self.ca = folder / f"join-{node}-ca.crt"
        self.ca.write_text(ssl.DER_cert_to_PEM_cert(der))
        self.request = Request(folder, node)
        status, certificate = ask_certificate(hub, node, self.request.der, jwt, ca=self.ca)
        assert status == 200, certificate
        self.der = certificate
        self.certificate = self.request.keep(certificate)

    def node(self, _):
        return self.certificate
