"""Processes of the stack: started with a log file, watched, and ended by their own pid.

A child that outlives its test run would hold ports and memory for the next one, so the kernel is
told to kill it with its parent, and stop() waits a bounded time before it kills.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


# What an edge has to do may take so long: now and then EdgeCore loses an answer between its own modules ("no goroutine
# is ready for receive"), and repeats its question after 60 s.
EDGE_SECONDS = 180


class StackError(Exception):
    """Something of the stack did not come up or went away."""


def wait_until(what, condition, timeout, interval=0.1):
    """Polls condition() until it gives something true, and returns that.

    Exceptions of the kind a starting server causes count as "not yet"; the last one is told when
    the time is over.
    """
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            result = condition()
            if result:
                return result
        except (OSError, StackError, KeyError) as error:
            last = error
        if time.monotonic() > deadline:
            raise StackError(f"{what}: not within {timeout} s" + (f" (last: {last})" if last else ""))
        time.sleep(interval)


_taken = set()


def free_port():
    """A TCP port that nobody listens on, below the range that outgoing connections take from. Runs side
    by side are each given a range of their own (run.sh)."""
    first, last = os.environ.get("ISTHMUS_E2E_PORTS", "20000-31999").split("-")
    for _ in range(200):
        port = random.randint(int(first), int(last))
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port
    raise StackError("no free port")


class Process:
    """One running program and its log."""

    def __init__(self, name, command, log_dir, env=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.log_path = os.path.join(log_dir, name + ".log")
        self.env = {**os.environ, **(env or {})}
        self.popen = None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))
        return self

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen is not None and self.popen.poll() is None

    def check(self):
        """Raises if the program has ended by itself."""
        if not self.running():
            raise StackError(f"{self.name} ended with status {self.popen.poll()}; "
                             f"end of its log:\n{self.log_tail(20)}")

    def wait_for(self, condition, timeout):
        """Waits for condition() as long as the program runs."""
        deadline = time.monotonic() + timeout
        while True:
            self.check()
            try:
                return wait_until(self.name, condition, 0.5)
            except StackError:
                if time.monotonic() > deadline:
                    raise

    def signal(self, number):
        if self.running():
            self.popen.send_signal(number)

    def stop(self, timeout=5):
        """Asks the program to end, then kills it. Returns its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait(5)

    def wait(self, timeout):
        if self.popen is None:
            return None
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait(5)

    def memory_mib(self):
        """Resident memory now."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        return 0.0

    def log_size(self):
        return os.path.getsize(self.log_path)

    def log_since(self, size):
        """What was logged after the log had this size."""
        with open(self.log_path, "rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")

    def log_tail(self, lines):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""


def listening(port, host="127.0.0.1"):
    """Whether a connection to the port is accepted."""
    with socket.create_connection((host, port), timeout=1):
        return True
