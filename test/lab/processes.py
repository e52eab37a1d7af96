"""Processes that a test starts: each with a log of its own, each ended by its own id within bounded time."""

import os
import pathlib
import random
import re
import socket
import subprocess
import time
from signal import SIGTERM

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a sanitizer writes when it has found something.
SANITIZER = re.compile(r"(ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:)")


def program(name):
    """$ISTHMUS_HUB stands for build/isthmus, to test another build of it with the same peers."""
    if name == "isthmus" and os.environ.get("ISTHMUS_HUB"):
        return pathlib.Path(os.environ["ISTHMUS_HUB"]).resolve()
    return (ROOT / os.environ.get("B", "build") / name).resolve()


def is_sanitized():
    """Such a hub is several times slower: fleets are smaller then, waits longer."""
    return bool(os.environ.get("ISTHMUS_SANITIZER"))


PATIENCE = 4 if is_sanitized() else 1


def wait_until(what, condition, timeout=20.0, every=0.05):
    """Returns the first true value of `condition`; fails with `what` when there is none in time."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout * PATIENCE:g} s: {what}"
        time.sleep(every)


CLAIMS = []


def claim(port):
    """Whether no other test on this machine has been given this port: until the process ends, by the name of a socket."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0isthmus-test-port-{port}")
    except OSError:
        mark.close()
        return False
    CLAIMS.append(mark)
    return True


def free_port():
    """Below the range from which the system gives ports to clients, and claimed: nobody takes it between two starts, nor
    before the first."""
    for _ in range(500):
        port = random.randint(12000, 31000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if claim(port):
                return port
    raise RuntimeError("no free port")


class Process:
    def __init__(self, name, arguments, folder, environment=None):
        self.name = name
        self.log_path = folder / f"{name}.log"
        self.begins_at = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.log = open(self.log_path, "ab")
        self.popen = subprocess.Popen(
            [str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            cwd=folder, env={**os.environ, **(environment or {})})

    @property
    def pid(self):
        return self.popen.pid

    def is_running(self):
        return self.popen.poll() is None

    def log_text(self):
        """Of this run."""
        with open(self.log_path, "rb") as file:
            file.seek(self.begins_at)
            return file.read().decode(errors="replace")

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout):
        try:
            return self.popen.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(10)
            raise AssertionError(
                f"{self.name} did not end within {timeout * PATIENCE:g} s") from None
        finally:
            self.log.close()

    def stop(self, timeout=20, number=SIGTERM):
        """Its exit code."""
        if self.is_running():
            self.signal(number)
        return self.wait(timeout)

    def kill(self):
        """For what is left when a test is over; says nothing."""
        if self.is_running():
            self.popen.kill()
        self.popen.wait(10)
        self.log.close()

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
