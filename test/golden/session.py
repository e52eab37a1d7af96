"""A recorded session of a real EdgeCore: its lines, who answered whom, and the objects it shows."""

import json

from lab.processes import ROOT


class Line:
    def __init__(self, number, record):
        self.number, self.time = number, record["t"]
        self.is_sent = record["dir"] in ("send", "up")
        self.message = record["msg"]
        header, route = self.message["header"], self.message.get("route") or {}
        self.id, self.parent = header.get("msg_id"), header.get("parent_msg_id")
        self.operation, self.resource = route.get("operation", ""), route.get("resource", "")
        self.content = self.message.get("content")

    @property
    def kind(self):
        """The second segment: pod, configmap, ..."""
        return "/".join(self.resource.split("/")[1:2])

    def __repr__(self):
        return f"line {self.number} ({self.time}): {self.operation} {self.resource}"


class Session:
    def __init__(self, path):
        with open(ROOT / "test" / path, encoding="utf-8") as file:
            self.lines = [Line(n, json.loads(text)) for n, text in enumerate(file, 1)]
        self.sent = {x.id: x for x in self.lines if x.is_sent}
        self.answers = {x.parent: x for x in self.lines if not x.is_sent and x.parent}

    def is_push(self, line):
        return not line.is_sent and not line.parent

    def first_seen(self, *kinds):
        """The objects of these kinds as the edge first got them, for an API server that has them from the beginning."""
        found = {}
        for line in self.lines:
            if not line.is_sent and line.kind in kinds and isinstance(line.content, dict):
                found.setdefault(line.resource, line.content)
        return list(found.values())
