"""An edge that keeps what is pushed to it, as EdgeCore's database does, and acknowledges it."""

import threading
import time

from lab.edge import Closed, Edge, envelope, keepalive
from lab.processes import wait_until


class StoreEdge:
    """Reads in a thread of its own. `pushes` is everything that was pushed, resends included, in order; `rows` what the edge
    has now: {"default/pod/web": object}. A push with an older version than the row's is an error of the hub's."""

    def __init__(self, hub, authority, node, *, acknowledges=True, rows=None):
        self.node, self.acknowledges = node, acknowledges
        self.pushes, self.rows, self.versions, self.disorder = [], dict(rows or {}), {}, []
        self.close_code, self.is_closed = None, False
        self.edge = Edge(hub, authority, node)
        self.edge.send(keepalive())
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        last = time.monotonic()
        while True:
            try:
                if time.monotonic() - last > 10:
                    last = time.monotonic()
                    self.edge.send(keepalive())
                self._take(self.edge.receive(1))
            except TimeoutError:
                continue
            except (Closed, OSError) as closed:
                self.close_code = getattr(closed, "code", None)
                self.is_closed = True
                return

    def _take(self, message):
        header, route = message["header"], message["route"]
        if "parent_msg_id" in header:
            return
        with self.lock:
            self.pushes.append(message)
            self._store(header, route, message["content"])
        if self.acknowledges and (self.acknowledges is True or self.acknowledges(message)):
            self.edge.send(envelope(route["resource"], "response", "OK", source=route["source"],
                                    group=route["group"], parent=header["msg_id"]))

    def _store(self, header, route, content):
        resource, version = route["resource"], int(header.get("resourceversion") or 0)
        if route["operation"] == "delete":
            row = self.rows.get(resource)
            if "/pod/" not in resource or (row and row["metadata"]["uid"] == content["metadata"]["uid"]):
                self.rows.pop(resource, None)
            return
        if version < self.versions.get(resource, 0):
            self.disorder.append((resource, self.versions[resource], version))
        self.versions[resource] = max(version, self.versions.get(resource, 0))
        self.rows[resource] = content

    def seen(self, resource, operation=None):
        with self.lock:
            return [m for m in self.pushes if m["route"]["resource"] == resource
                    and operation in (None, m["route"]["operation"])]

    def wait_row(self, resource, condition=lambda row: True, timeout=20):
        return wait_until(f"{self.node} has {resource}",
                          lambda: resource in self.rows and condition(self.rows[resource]) and self.rows[resource],
                          timeout)

    def wait_gone(self, resource, timeout=20):
        wait_until(f"{self.node} has no {resource}", lambda: resource not in self.rows, timeout)

    def close(self):
        self.edge.socket.close()
        self.thread.join(5)
        assert not self.disorder, self.disorder
        return self.rows

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.edge.socket.close()
        self.thread.join(5)
        if kind is None:
            assert not self.disorder, self.disorder
