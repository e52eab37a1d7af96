"""What a service manager is told: a hub under systemd's Type=notify-reload and WatchdogSec."""

import signal
import socket

from lab.processes import wait_until


class Manager:
    """Where NOTIFY_SOCKET points."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.told = []

    def read(self):
        while True:
            try:
                self.told.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return self.told

    def count(self, line):
        return sum(line in message for message in self.read())

    def wait_for(self, line, count=1):
        wait_until(f"{count} times {line}", lambda: self.count(line) >= count, 20)


def test_a_manager_is_told_how_the_hub_is(lab, devapi, tmp_path):
    # A Unix socket's name must be short; pytest's folders are not.
    manager = Manager(f"\0isthmus-{tmp_path.name}-{id(lab):x}")
    hub = lab.hub(devapi, environment={"NOTIFY_SOCKET": "@" + manager.path[1:],
                                       "WATCHDOG_USEC": "1000000"})
    manager.wait_for("READY=1")
    manager.wait_for("WATCHDOG=1", 3)
    hub.process.signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1")
    manager.wait_for("READY=1", 2)
    reload = next(m for m in manager.told if "RELOADING=1" in m)
    assert any(line.startswith("MONOTONIC_USEC=") and line[15:].isdigit() for line in reload)
    assert manager.count("STOPPING=1") == 0
    hub.stop()
    manager.wait_for("STOPPING=1")


def test_a_socket_nobody_could_mean_is_said_and_harms_nothing(lab, devapi):
    hub = lab.hub(devapi, environment={"NOTIFY_SOCKET": "nowhere"})
    assert "service_manager_not_told" in hub.log_text()
    hub.stop()
