"""docs/balancing.md names every reason and every flag of the balancer."""

import re

from lab.processes import ROOT

DOCS = (ROOT / "docs/balancing.md").read_text()


def test_every_reason_and_phase():
    source = (ROOT / "balancer/names.c").read_text()
    reasons = re.findall(r'\[BALANCER_WHY_\w+\] = \{"(\w+)"', source)
    phases = re.findall(r'\[BALANCER_(?:DETECT|RELEASE|OBSERVE|BACKOFF|DRAIN)\] = "(\w+)"', source)
    assert len(reasons) > 20 and len(phases) == 5
    assert not [name for name in reasons + phases if f"`{name}`" not in DOCS]


def test_every_flag():
    header = (ROOT / "include/isthmus/balancer.h").read_text()
    struct = header[header.index("struct balancer_config {"):header.index("/* The defaults")]
    flags = set(re.findall(r"--[a-z-]+[a-z]", struct))
    assert len(flags) >= 18
    assert not [flag for flag in flags if f"`{flag}`" not in DOCS]
