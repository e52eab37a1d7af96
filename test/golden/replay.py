"""The edge's side of a recorded session, message by message, against a hub.

What the edge had learned from the recorded cloud, it would have learned otherwise here: ids of messages, uids and resource
versions of objects. So these are noted in pairs as the answers come, and replaced in what is sent. All else goes out as it was
recorded, and each question is answered before the next line is sent, as it was then."""

import json

from lab.edge import Edge


class Pairs:
    """Recorded value -> value of this run, and it must stay so."""

    def __init__(self, what):
        self.what, self.known = what, {}

    def note(self, recorded, here):
        if recorded and here:
            assert self.known.setdefault(recorded, here) == here, \
                f"{self.what} {recorded} was {self.known[recorded]}, now {here}"


class Replay:
    def __init__(self, session, hub, authority, node):
        self.session, self.hub, self.authority, self.node = session, hub, authority, node
        self.uids, self.versions, self.ids = Pairs("uid"), Pairs("version"), Pairs("message")
        self.edge = None
        self.pushed = []

    def connect(self):
        if self.edge:
            self.edge.socket.close()
        self.edge = Edge(self.hub, self.authority, self.node)

    # ---- what the edge would have learned ----

    def learn(self, recorded, here):
        """Walks two answers side by side."""
        if isinstance(recorded, dict) and isinstance(here, dict):
            for key in recorded.keys() & here.keys():
                if key == "uid" and isinstance(here[key], str):
                    self.uids.note(recorded[key], here[key])
                elif key == "resourceVersion":
                    self.versions.known[recorded[key]] = here[key]
                else:
                    self.learn(recorded[key], here[key])
        elif isinstance(recorded, list) and isinstance(here, list):
            for one, other in zip(recorded, here):
                self.learn(one, other)

    def as_of_here(self, line):
        message = json.loads(json.dumps(line.message))
        parent = message["header"].get("parent_msg_id")
        if parent:
            message["header"]["parent_msg_id"] = self.ids.known[parent]
        metadata = (message.get("content") or {}).get("metadata", {}) \
            if isinstance(message.get("content"), dict) else {}
        if "resourceVersion" in metadata:
            metadata["resourceVersion"] = self.versions.known[metadata["resourceVersion"]]
        text = json.dumps(message, separators=(",", ":"))
        for recorded, here in self.uids.known.items():
            text = text.replace(recorded, here)
        return text

    # ---- line by line ----

    def send(self, line):
        """Returns the answer, when the recorded cloud gave one; what was pushed meanwhile is kept apart."""
        self.edge.send_text(self.as_of_here(line) + "\n")
        expected = self.session.answers.get(line.id)
        if not expected:
            return None
        while True:
            message = self.edge.receive(20)
            parent = message["header"].get("parent_msg_id")
            if not parent:
                self.pushed.append(message)
                continue
            assert parent == line.id, f"an answer to {parent}, which asked nothing: {message}"
            self.ids.note(expected.id, message["header"]["msg_id"])
            self.learn(expected.content, message["content"])
            return message

    def nothing_more_comes(self):
        """Nothing but pushes, up to the answer to one last question."""
        last = self.edge.query_lease()
        assert last["content"]["Object"]

    def close(self):
        if self.edge:
            self.edge.socket.close()
