"""The PROXY protocol: required from the addresses it is expected from, refused from all others."""

import socket
import ssl
import struct

import pytest

from lab.edge import Closed, Edge
from lab.processes import wait_until

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 10000\r\n"
REFUSAL = (ssl.SSLError, ConnectionError, Closed)


def v2(command=1, family=0x11, body=None):
    addresses = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + struct.pack(
        ">HH", 40000, 10000)
    body = addresses if body is None else body
    return V2 + bytes([0x20 | command, family]) + struct.pack(">H", len(body)) + body


@pytest.fixture
def proxied(lab, devapi):
    return lab.hub(devapi, "--proxy-protocol-from", "127.0.0.0/8", "--handshake-timeout", "2s")


@pytest.mark.parametrize("header", [
    V1, b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 10000\r\n", b"PROXY UNKNOWN\r\n", v2(),
    v2(command=0, family=0, body=b""), v2(body=v2()[16:] + b"\x04\x00\x01x"),
    v2(family=0x21, body=bytes(36)),
], ids=["v1-tcp4", "v1-tcp6", "v1-unknown", "v2", "v2-local", "v2-tlv", "v2-tcp6"])
def test_a_header_is_taken(proxied, authority, header):
    with Edge(proxied, authority, "n", before_tls=header) as edge:
        edge.query_lease()


def test_the_address_behind_the_proxy_is_logged(proxied, authority):
    with Edge(proxied, authority, "n", before_tls=V1) as edge:
        edge.query_lease()
        wait_until("the address is logged",
                   lambda: "remote=192.0.2.7:40000" in proxied.log_text())


@pytest.mark.sanitize
@pytest.mark.parametrize("header", [
    b"", b"PROXY \r\n", b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 10000\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 70000 10000\r\n", b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
    V2 + b"\x31\x11\x00\x0c" + bytes(12), v2(body=b"\x01"), V2[:8],
], ids=["missing", "empty", "no-cr", "bad-port", "endless", "v3", "short-body", "cut"])
def test_without_a_good_header_nobody_enters(proxied, authority, header):
    with pytest.raises((*REFUSAL, TimeoutError)):
        Edge(proxied, authority, "n", before_tls=header, timeout=8)
    wait_until("it is counted", lambda: proxied.refused("proxy_header") == 1)
    assert proxied.connections() == 0


def test_a_header_that_never_comes_does_not_hold_a_place(proxied):
    with socket.create_connection(("127.0.0.1", proxied.port), 10) as silent:
        wait_until("it is refused", lambda: proxied.refused("proxy_header") == 1)
        assert silent.recv(10) == b""


def test_elsewhere_a_header_is_garbage(hub, authority):
    with pytest.raises(REFUSAL):
        Edge(hub, authority, "n", before_tls=V1)
    wait_until("it is counted", lambda: hub.refused("tls") == 1)


def test_a_header_is_no_identity(proxied, authority):
    """It says where a connection comes from, not who it is."""
    with pytest.raises(REFUSAL):
        Edge(proxied, authority, "n", before_tls=V1, client_certificate=False)
    wait_until("it is counted", lambda: proxied.refused("tls") == 1)
