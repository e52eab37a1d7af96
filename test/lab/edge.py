"""An edge driven by hand: one websocket over TLS, with every step open to be done wrong."""

import base64
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import time
import uuid

PROJECT = "e632aba927ea4ac2b575ec1603d56f10"
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, status, text):
        super().__init__(f"{status} {text}")
        self.status = status


class Closed(Exception):
    """The other side has closed; `code` of its close frame, None without one."""

    def __init__(self, code=None):
        super().__init__(f"closed, code {code}")
        self.code = code


def envelope(resource, operation, content=None, source="edged", group="meta", parent=None):
    header = {"msg_id": str(uuid.uuid4()), "timestamp": int(time.time() * 1000)}
    if parent:
        header["parent_msg_id"] = parent
    return {"header": header, "route": {"source": source, "group": group, "operation": operation,
                                        "resource": resource}, "content": content}


def keepalive():
    return envelope("node", "keepalive", "ping", source="websocket", group="resource")


class Edge:
    def __init__(self, hub, authority, node, *, certificate=None, node_id=None, before_tls=b"",
                 version=None, timeout=10, path=None, upgrade=True, client_certificate=True):
        self.node = node
        self.buffer, self.fragments = b"", []
        self.close_code = None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.ca)
        if version:
            context.minimum_version = context.maximum_version = version
        if client_certificate:
            context.load_cert_chain(*(certificate or authority.node(node)))
        raw = socket.create_connection(("127.0.0.1", hub.port), timeout)
        try:
            if before_tls:
                raw.sendall(before_tls)
            self.socket = context.wrap_socket(raw, server_hostname="127.0.0.1")
        except BaseException:
            raw.close()
            raise
        if upgrade:
            try:
                self._upgrade(node_id or node, path or f"/{PROJECT}/{node}/events")
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def peer_certificate(self):
        return self.socket.getpeercert(binary_form=True)

    def _upgrade(self, node_id, path):
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\n"
            f"Connection: Upgrade\r\nConnectionuse: msg\r\nNode_id: {node_id}\r\nProject_id: {PROJECT}\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = self.socket.recv(4096)
            if not chunk:
                raise Closed()
            head += chunk
        head, self.buffer = head.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            raise Refused(status, head.decode(errors="replace"))
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest())
        assert b"sec-websocket-accept: " + accept.lower() in head.lower(), head

    # ---- out ----

    def send_frame(self, payload, opcode=TEXT, final=True, claimed=None):
        mask = os.urandom(4)
        size = len(payload) if claimed is None else claimed
        head = bytes([(0x80 if final else 0) | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", size)
        wide = (mask * (len(payload) // 4 + 1))[:len(payload)]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(wide, "big")).to_bytes(
            len(payload), "big") if payload else b""
        self.socket.sendall(head + mask + masked)

    def send_text(self, text, fragment=4096):
        """As the Go client does: fragments of 4096 bytes."""
        data = text.encode() if isinstance(text, str) else text
        pieces = [data[i:i + fragment] for i in range(0, len(data), fragment)] or [b""]
        for i, piece in enumerate(pieces):
            self.send_frame(piece, TEXT if i == 0 else 0, i == len(pieces) - 1)

    def send(self, message):
        """Returns the message's id."""
        self.send_text(json.dumps(message, separators=(",", ":")) + "\n")
        return message["header"]["msg_id"]

    # ---- in ----

    def _fill(self, deadline):
        if not self.socket.pending():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise TimeoutError("nothing came")
        try:
            chunk = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError) as broken:
            raise Closed(self.close_code) from broken
        if not chunk:
            raise Closed(self.close_code)
        self.buffer += chunk

    def _take(self, size, deadline):
        while len(self.buffer) < size:
            self._fill(deadline)
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _frame(self, deadline):
        first, second = self._take(2, deadline)
        size = second & 0x7f
        assert not second & 0x80, "a server does not mask"
        if size == 126:
            size = struct.unpack(">H", self._take(2, deadline))[0]
        elif size == 127:
            size = struct.unpack(">Q", self._take(8, deadline))[0]
        return first & 0x0f, bool(first & 0x80), self._take(size, deadline)

    def receive_text(self, timeout=10):
        """The next whole text message; pings are answered, a close raises Closed."""
        deadline = time.monotonic() + timeout
        while True:
            opcode, final, payload = self._frame(deadline)
            if opcode == CLOSE:
                self.close_code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else None
                raise Closed(self.close_code)
            if opcode == PING:
                self.send_frame(payload, PONG)
            elif opcode in (0, TEXT):
                self.fragments.append(payload)
                if final:
                    whole, self.fragments = b"".join(self.fragments), []
                    return whole.decode()

    def receive(self, timeout=10):
        return json.loads(self.receive_text(timeout))

    def answer_to(self, message_id, timeout=10):
        """What else comes meanwhile is passed over."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.receive(max(deadline - time.monotonic(), 0.001))
            if message["header"].get("parent_msg_id") == message_id:
                return message

    def ask(self, message, timeout=10):
        return self.answer_to(self.send(message), timeout)

    def query_lease(self, timeout=10):
        """Something small that the hub must ask the API server about."""
        return self.ask(envelope(f"kube-node-lease/lease/{self.node}", "query"), timeout)

    def wait_closed(self, timeout=10):
        """The code of the close frame, None when the connection just ended."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self.receive_text(max(deadline - time.monotonic(), 0.001))
        except Closed as closed:
            return closed.code
