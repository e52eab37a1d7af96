"""The table: what was measured, the limit beside it, and whether it holds. No measuring here."""

import dataclasses
import datetime
import math
import os
import platform
import re
import subprocess

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclasses.dataclass
class Figure:
    what: str
    value: float
    unit: str = ""
    limit: float = None     # at most; None: there is none, the figure explains others
    note: str = ""

    def verdict(self):
        if self.limit is None:
            return ""
        return "OK" if self.value <= self.limit else "OVER"


def number(value):
    """Three digits that matter."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits else f"{value:,.0f}"


class Table:
    """Sections of figures, in the order in which they were measured."""

    def __init__(self):
        self.sections = []
        self.failures = []

    def section(self, title):
        self.sections.append((title, []))

    def add(self, what, value, unit="", limit=None, note=""):
        self.sections[-1][1].append(Figure(what, value, unit, limit, note))

    def failed(self, part, why):
        self.failures.append(f"{part}: {why}")

    def figures(self):
        return [f for _, figures in self.sections for f in figures]

    def _rows(self):
        for title, figures in self.sections:
            for f in figures:
                measured = f"{number(f.value)} {f.unit}".strip()
                limit = "" if f.limit is None else f"<= {number(f.limit)} {f.unit}".strip()
                yield title, (f.what, measured, limit, f.verdict(), f.note)

    def text(self, heading):
        rows = list(self._rows())
        widths = [max((len(cells[i]) for _, cells in rows), default=0) for i in range(4)]
        lines, last = [*heading, ""], None
        for title, cells in rows:
            if title != last:
                lines.append(title)
                last = title
            columns = [cells[0].ljust(widths[0]), cells[1].rjust(widths[1]), cells[2].ljust(widths[2]),
                       cells[3].ljust(widths[3]), cells[4]]
            lines.append("  " + "  ".join(columns).rstrip())
        lines += [f"NOT MEASURED  {failure}" for failure in self.failures]
        return "\n".join(lines)

    def markdown(self, heading):
        lines = [*heading, "", "| figure | measured | limit | | |", "|---|---:|---:|---|---|"]
        last = None
        for title, cells in self._rows():
            if title != last:
                lines.append(f"| **{title}** | | | | |")
                last = title
            what, measured, limit, verdict, note = cells
            lines.append(f"| {what} | {measured} | {limit.replace('<=', '≤')} | {verdict} | {note} |")
        lines += ["", *(f"Not measured: {failure}" for failure in self.failures)] if self.failures else []
        return "\n".join(lines)


def replace_in(path, markdown):
    """Between the two marks in the file; fails when they are not there."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text, count = marked.subn(lambda _: f"{BEGIN}\n{markdown}\n{END}", text)
    assert count == 1, f"{path} has not one {BEGIN} ... {END}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def machine():
    """Where and when, in one sentence or two."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    with open("/proc/meminfo", encoding="ascii") as file:
        gib = int(re.search(r"MemTotal:\s+(\d+)", file.read()).group(1)) / 2**20
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=False)
    now = datetime.datetime.now(datetime.timezone.utc)
    return [f"{now:%Y-%m-%d %H:%M} UTC; {len(os.sched_getaffinity(0))} CPUs "
            f"({model.group(1) if model else platform.machine()}), {gib:.0f} GiB; Linux "
            f"{platform.release()}, {' '.join(openssl.stdout.split()[:2])}; load average of the last minute "
            f"{os.getloadavg()[0]:.1f} before it began."]
