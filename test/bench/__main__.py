"""The numbers of the design, measured on this machine in one run, with their limits beside them.

    B=build test/bench/run.sh [--quick] [--only PART]... [--markdown] [--into FILE]

The real programs run: devapi, isthmus, edgesim, all on loopback and on the same CPUs. So figures are memory, CPU time of the
hub's process for one of something, and ratios; times on the clock stand where the design asks for them. Every load is bounded in
count and every wait in time. Exit code: 0 also when a limit is missed, for this measures; 1 when something could not be measured.
"""

import argparse
import contextlib
import pathlib
import shutil
import sys
import tempfile
import time
import traceback
import types

from bench import figures, parts_cpu, parts_isolation, parts_memory
from bench.probes import idle_rate
from lab.certs import Authority
from lab.fixtures import Lab
from lab.processes import wait_until

PARTS = {
    "memory": parts_memory.idle_edges,
    "accept": parts_cpu.taking_in,
    "messages": parts_cpu.messages,
    "storm": parts_memory.storm,
    "isolation": parts_isolation.isolation,
    "parts": parts_cpu.parts,
}

FULL = types.SimpleNamespace(
    memory=(2000, 10000, 18000), idle_flags=(), connect_rate="500", idle_s=10, still_s=5,
    rounds=5, arrivals=2000,
    askers=200, ask_rate=25, ask_s=5, ask_rounds=3,
    storm=10000, storm_flags=(),
    others=2000, others_flags=(), others_settle_s=10, isolation_s=25, flooders=50, crowd=500, crowds=3,
    scans=5000, api_requests=30000)
# Says only whether each figure can be had: periods of the edges are shorter, fleets small.
QUICK = types.SimpleNamespace(
    memory=(50, 100, 200), idle_flags=("--time-scale", "10"), connect_rate="500", idle_s=1, still_s=1,
    rounds=1, arrivals=50,
    askers=20, ask_rate=20, ask_s=1, ask_rounds=1,
    storm=100, storm_flags=("--time-scale", "10"),
    others=50, others_flags=("--time-scale", "10"), others_settle_s=1, isolation_s=3, flooders=10, crowd=30, crowds=1,
    scans=100, api_requests=500)


class BenchLab(Lab):
    """A lab that says nothing of pytest."""

    wait = staticmethod(wait_until)


class Bench:
    def __init__(self, size, folder):
        self.size, self.folder, self.table = size, folder, figures.Table()
        self.authority = Authority(folder / "pki")
        self.authority.server()
        self.part, self.begun = "", time.monotonic()

    def say(self, text):
        print(f"[{time.monotonic() - self.begun:4.0f} s] {self.part}: {text}", file=sys.stderr, flush=True)

    def sleep(self, seconds):
        time.sleep(seconds)

    def idle(self, pid):
        return idle_rate(pid, self.size.idle_s)

    @contextlib.contextmanager
    def lab(self):
        """What it started has ended when it is left, in order or not."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.part}-", dir=self.folder))
        lab = BenchLab(folder, self.authority)
        try:
            yield lab
            lab.close()
        except BaseException:
            for item in lab.started:
                if item.process:
                    item.process.kill()
                    print(f"--- {item.process.name}\n{item.process.log_text()[-2000:]}", file=sys.stderr)
            raise

    def run(self, part):
        self.part = part
        self.say("begins")
        try:
            PARTS[part](self)
        except Exception as problem:  # the other parts are worth having
            traceback.print_exc()
            self.table.failed(part, str(problem).split("\n", maxsplit=1)[0] or type(problem).__name__)


def main():
    parser = argparse.ArgumentParser(prog="test/bench/run.sh", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="small counts: shows that each figure can be had")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--into", metavar="FILE", help="put the Markdown table between the marks in this file too")
    options = parser.parse_args()

    heading = figures.machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="isthmus-bench-"))
    try:
        bench = Bench(QUICK if options.quick else FULL, folder)
        for part in options.only or PARTS:
            bench.run(part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = bench.table
    heading[0] += f" The run took {time.monotonic() - bench.begun:.0f} s."
    print(table.markdown(heading) if options.markdown else table.text(heading))
    if options.into:
        figures.replace_in(options.into, table.markdown(heading))
    return 1 if table.failures else 0


if __name__ == "__main__":
    sys.exit(main())
