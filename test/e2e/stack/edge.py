"""EdgeCore: a real edge node with a pretended container runtime, one process each."""

import json
import os
import re
import sqlite3

from .processes import Process, free_port

# What MetaManager says of a message that came down, and was no answer.
_PUSH = re.compile(r"get a message \{Header:\{ID:\S* ParentID: Timestamp:\d+ ResourceVersion:(?P<version>\d*) .*? "
                   r"Router:\{Source:(edgecontroller|synccontroller) Destination: Group:resource "
                   r"Operation:(?P<operation>\w+) Resource:(?P<resource>[^ }]+)\}")

# The nodes of a run; conftest.py says what sets them apart.
NODES = ["edge-1", "edge-2", "edge-3"]


class Edge:
    """One edge node with folders of its own, and a certificate made beforehand if there is an authority
    to make it; without one the node has to join."""

    def __init__(self, peers, name, authority, hub, work_dir, log_dir, flags=()):
        self.name = name
        self.root_dir = os.path.join(work_dir, name)
        files = []
        if authority:
            cert, key = authority.node(name)
            files = ["--ca", authority.crt, "--cert", cert, "--key", key]
        self.process = Process("edgecore-" + name, [
            os.path.join(peers, "edgecore"), "--name", name, "--root-dir", self.root_dir,
            "--websocket-server", hub.websocket, "--http-server", "https://" + hub.https,
            "--read-only-port", free_port(), "--v=2", *files, *flags], log_dir)

    def start(self):
        self.process.start()
        return self

    def database(self, kind):
        """{"namespace/kind/name": object} of what the edge has stored of one kind: what it would start
        its pods from without a hub."""
        path = os.path.join(self.root_dir, "edgecore.db")
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            rows = connection.execute("select key, value from meta where type = ?", (kind,)).fetchall()
        except sqlite3.OperationalError as error:
            raise OSError(f"{path}: {error}") from error
        finally:
            connection.close()
        return {key: json.loads(value) for key, value in rows}

    def stored(self, key):
        """One object of the edge's database, or None."""
        return self.database(key.split("/")[1]).get(key)

    def pushes(self, since=0):
        """(operation, resource, version) of what its hub has pushed to it, in order, from its log after
        that had the size `since`. The version is 0 where there was none."""
        return [(found["operation"], found["resource"], int(found["version"] or 0))
                for line in self.process.log_since(since).splitlines() if (found := _PUSH.search(line))]

    def stop(self):
        return self.process.stop()
