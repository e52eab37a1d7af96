"""EdgeCore: a real edge node with a pretended container runtime, one process each."""

import os

from .processes import Process, free_port

# The nodes of a run; conftest.py says what sets them apart.
NODES = ["edge-1", "edge-2", "edge-3"]


class Edge:
    """One edge node with a certificate made beforehand and folders of its own."""

    def __init__(self, peers, name, authority, hub, work_dir, log_dir, flags=()):
        self.name = name
        self.root_dir = os.path.join(work_dir, name)
        cert, key = authority.node(name)
        self.process = Process("edgecore-" + name, [
            os.path.join(peers, "edgecore"), "--name", name, "--root-dir", self.root_dir,
            "--websocket-server", hub.websocket, "--http-server", "https://" + hub.https,
            "--ca", authority.crt, "--cert", cert, "--key", key,
            "--read-only-port", free_port(), "--v=2", *flags], log_dir)

    def start(self):
        self.process.start()
        return self

    def stop(self):
        return self.process.stop()
