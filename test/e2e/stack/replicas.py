"""Several hubs behind HAProxy, which is all that edges know of them; redis-server for their balance."""

import csv
import io
import os
import socket

from .processes import Process, free_port, listening

PROXY = """\
global
    maxconn 1000
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend edges
    bind 127.0.0.1:{port}
    default_backend hubs
backend hubs
    balance {balance}
    {check}
    default-server check inter 500ms fall 2 rise 1
{servers}
"""


class Proxy:
    """HAProxy on layer 4. It has the two addresses that an EdgeCore asks a hub for."""

    def __init__(self, hubs, work_dir, log_dir, balance="leastconn"):
        port = free_port()
        self.port = port
        self.websocket, self.https = f"127.0.0.1:{port}", hubs[0].https
        self.socket_path = os.path.join(work_dir, "haproxy.sock")
        # CloudCore has no address to ask whether it is ready; there, who listens is.
        asks = all(hasattr(hub, "admin_port") for hub in hubs)
        check = "option httpchk GET /readyz" if asks else ""
        servers = "\n".join(f"    server {hub.process.name} {hub.websocket}" +
                            (f" port {hub.admin_port}" if asks else "") for hub in hubs)
        config = os.path.join(work_dir, "haproxy.cfg")
        with open(config, "w", encoding="ascii") as file:
            file.write(PROXY.format(socket=self.socket_path, port=port, balance=balance, check=check,
                                    servers=servers))
        self.process = Process("haproxy", ["haproxy", "-db", "-f", config], log_dir)

    def start(self):
        self.process.start()
        self.process.wait_for(lambda: listening(self.port), 10)
        return self

    def servers(self):
        """{server: {"status": "UP", "scur": "4", ...}} as HAProxy has it."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(self.socket_path)
            client.sendall(b"show stat\n")
            text = b""
            while chunk := client.recv(65536):
                text += chunk
        rows = csv.DictReader(io.StringIO(text.decode().lstrip("# ")))
        return {row["svname"]: row for row in rows
                if row["pxname"] == "hubs" and row["svname"] != "BACKEND"}

    def stop(self):
        return self.process.stop()


class Redis:
    """redis-server that keeps nothing."""

    def __init__(self, work_dir, log_dir):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = Process("redis", [
            "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", work_dir], log_dir)

    def start(self):
        self.process.start()
        self.process.wait_for(lambda: listening(self.port), 10)
        return self

    def stop(self):
        return self.process.stop()


class Replicas:
    """Hubs behind a proxy that look like one: `websocket`, `https` and `edges_connected` as one hub has them."""

    def __init__(self, hubs, work_dir, log_dir):
        self.hubs = hubs
        self.proxy = Proxy(self.hubs, work_dir, log_dir)
        self.websocket, self.https = self.proxy.websocket, self.proxy.https

    def start(self):
        for hub in self.hubs:
            hub.start()
        self.proxy.start()
        return self

    def shares(self):
        """How many edges each holds, in their order; 0 for one that does not run."""
        return [hub.edges_connected() if hub.process.running() else 0 for hub in self.hubs]

    def edges_connected(self):
        return sum(self.shares())

    def check(self):
        for hub in self.hubs:
            hub.process.check()

    def stop(self):
        """All at once, for each may take its time to let go of its edges."""
        self.proxy.stop()
        for hub in self.hubs:
            hub.process.signal(15)
        for hub in self.hubs:
            hub.process.wait(15)
