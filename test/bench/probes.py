"""CPU time and memory of other processes, from the kernel."""

import contextlib
import re
import statistics
import time

from lab.processes import wait_until

KIB = 1024


def cpu_s(pid):
    """CPU seconds of a whole process so far, all threads, user and system, to the nanosecond: the kernel's clock of it
    (clock_getcpuclockid(3), which Python does not have)."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) * KIB


def threads(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"Threads:\s+(\d+)", file.read()).group(1))


def slab_bytes():
    """What the kernel holds in small objects, sockets among them: of the whole machine."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(r"Slab:\s+(\d+)", file.read()).group(1)) * KIB


class Span:
    """What a process used between two moments."""

    def __init__(self, pid):
        self.pid, self.begun, self.cpu_begun = pid, time.monotonic(), cpu_s(pid)
        self.seconds = self.cpu = 0.0

    def end(self):
        self.cpu = cpu_s(self.pid) - self.cpu_begun
        self.seconds = time.monotonic() - self.begun
        return self


def idle_rate(pid, seconds):
    """CPU seconds a second, while nothing but the usual happens."""
    span = Span(pid)
    time.sleep(seconds)
    span.end()
    return span.cpu / span.seconds


def settled_rss(pid, still_s, timeout=40):
    """Once it has not grown or shrunk by half a per cent for a while: the hub gives memory back some seconds after the
    last handshake."""
    seen = [rss_bytes(pid)]

    def still():
        seen.append(rss_bytes(pid))
        recent = seen[-int(still_s / 0.5):]
        return len(recent) >= still_s / 0.5 and max(recent) - min(recent) <= 0.005 * max(recent)
    with contextlib.suppress(AssertionError):   # under load it may move for ever: then the median is as good
        wait_until("memory is still", still, timeout, every=0.5)
    return statistics.median(seen[-int(still_s / 0.5):])
