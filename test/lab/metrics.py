"""Reads the Prometheus text format, strictly enough to notice when it is wrong."""

import math
import re

SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


class Metrics:
    def __init__(self, text):
        self.types, self.values = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"two families {name}"
                self.types[name] = kind
            elif line and not line.startswith("#"):
                self._add(line)
        assert text.endswith("\n")

    def _add(self, line):
        match = SAMPLE.match(line)
        assert match, f"no sample: {line!r}"
        name, labels, value = match.groups()
        found = LABEL.findall(labels or "")
        assert len(LABEL.sub("", labels or "")) == 0, f"bad labels: {line!r}"
        key = (name, frozenset(found))
        assert key not in self.values, f"twice: {line!r}"
        self.values[key] = float(value)
        assert not math.isnan(self.values[key]), line

    def get(self, name, **labels):
        """The one sample with exactly these labels; 0 when there is none."""
        return int(self.values.get((name, frozenset(labels.items())), 0))

    def sum(self, name, **labels):
        """Of all samples that have these labels at least."""
        return int(sum(v for (n, have), v in self.values.items()
                       if n == name and frozenset(labels.items()) <= have))

    def by(self, name, label):
        """{label's value: sum}, without zeros."""
        result = {}
        for (n, labels), value in self.values.items():
            if n == name and value:
                key = dict(labels)[label]
                result[key] = result.get(key, 0) + int(value)
        return result
