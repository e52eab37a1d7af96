"""The bench can measure each of its figures. What they are with small counts on a busy machine says nothing, and is not looked at."""

import os
import re
import subprocess

from lab.processes import ROOT

FIGURES = (
    "before the first edge", "each idle edge, 200 connected", "TLS, upgrade and session", "ratio to the bare loop",
    "node query", "nodepatch", "new edges: all are served after", "after a restart: handshakes that timed out",
    "quiet: latency p99", "event writes stalled", "one node patches", "nodes join at once", "API client", "times cheaper")


def test_every_figure_of_the_bench_can_be_measured():
    done = subprocess.run([ROOT / "test/bench/run.sh", "--quick"], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "B": os.environ.get("B", "build")}, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    assert "NOT MEASURED" not in done.stdout
    for figure in FIGURES:
        assert figure in done.stdout, figure
    assert len(re.findall(r" (OK|OVER)\b", done.stdout)) > 15
