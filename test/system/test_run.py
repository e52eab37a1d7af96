"""`make run`: everything starts, the summary is true, and nothing is left behind, however it ends."""

import os
import pathlib
import re
import signal
import subprocess
import urllib.request

import pytest

from lab.processes import PATIENCE, ROOT, free_port, wait_until


class Run:
    def __init__(self, folder, **settings):
        self.folder, self.admin_port = folder, free_port()
        environment = {**os.environ, "TMPDIR": str(folder), "NODES": "20", "REPLICAS": "1",
                       "ADMIN_PORT": str(self.admin_port), "API_PORT": str(free_port()),
                       "WEBSOCKET_PORT": str(free_port()), **settings}
        # A name of its own, for it holds files; a session of its own, as a terminal gives it; and Ctrl-C means something, also
        # where these tests run in the background of a shell, which ignores it there.
        self.output = folder / "output"
        with open(self.output, "wb") as out:
            self.popen = subprocess.Popen([ROOT / "scripts" / "run.sh"], stdout=out, stderr=out,
                                          stdin=subprocess.DEVNULL, env=environment,
                                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                                          start_new_session=True)

    def text(self):
        return self.output.read_text()

    def wait_for(self, pattern, timeout=60):
        def look():
            assert self.popen.poll() is None or re.search(pattern, self.text()), self.text()
            return re.search(pattern, self.text())
        return wait_until(pattern, look, timeout * PATIENCE)

    def wait(self, timeout=60):
        return self.popen.wait(timeout)

    def children(self):
        """{program: pid} of what works in its folder."""
        found = {}
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                # redis-server writes its title over its arguments.
                about = [(path / "cmdline").read_bytes().decode(), os.readlink(path / "cwd")]
                name = (path / "comm").read_text().strip()
            except OSError:
                continue
            if any(str(self.folder / "isthmus-run.") in text for text in about):
                found[name] = int(path.name)
        return found

    def folders(self):
        return list(self.folder.glob("isthmus-run.*"))

    def close(self):
        """Its children end with it, even when it is killed."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(10)
        wait_until("no child is left", lambda: not self.children(), 40)


@pytest.fixture
def run(tmp_path):
    started = []

    def start(**settings):
        started.append(Run(tmp_path, **settings))
        return started[-1]
    yield start
    for item in started:
        item.close()


def test_it_shows_a_fleet_and_ends_cleanly_on_ctrl_c(run):
    it = run()
    it.wait_for(r"connected 20/20 ready 20 ")
    assert f"http://127.0.0.1:{it.admin_port}/" in it.text()
    assert re.search(r"kubectl --kubeconfig \S+/kubeconfig get nodes,pods", it.text())
    with urllib.request.urlopen(f"http://127.0.0.1:{it.admin_port}/", timeout=10) as page:
        assert b"<title>Isthmus</title>" in page.read()
    assert set(it.children()) >= {"isthmus", "devapi", "edgesim"}
    os.killpg(it.popen.pid, signal.SIGINT)
    assert it.wait() == 0, it.text()
    assert it.text().rstrip().endswith("done")
    assert not it.children() and not it.folders()


# All of it at a tenth of real time.
FAST_HUB = ("--balance-period 500ms --observe-seconds 3s --inflight-timeout 9s --release-window 1s --bridge-seconds 9s "
            "--bridge-period 1s --edge-away 3s --edge-redial 500ms --move-cooldown 20s --release-max-fraction 0.3 "
            "--keepalive-timeout 5s")


def test_the_show_of_three_replicas_ends_even(run):
    it = run(REPLICAS="3", NODES="60", KILL_AFTER="2", START_AFTER="9", HUB_FLAGS=FAST_HUB,
             EDGE_FLAGS="--time-scale 10")
    it.wait_for(r"isthmus-1 is killed\. Its 20 edges")
    it.wait_for(r"connected 60/60 .* isthmus-0=30 isthmus-1=- isthmus-2=30")
    it.wait_for(r"isthmus-1 is started again")
    it.wait_for(r"The load is even again", 90)
    it.wait_for(r"connected 60/60 ready 60 .* isthmus-0=20 isthmus-1=20 isthmus-2=20")
    assert set(it.children()) >= {"isthmus", "devapi", "edgesim", "redis-server", "haproxy"}
    os.killpg(it.popen.pid, signal.SIGINT)
    assert it.wait() == 0, it.text()
    assert not it.children() and not it.folders()


def test_it_ends_by_itself_after_its_duration(run):
    it = run(DURATION="1", NODES="5")
    assert it.wait(60 * PATIENCE) == 0, it.text()
    assert not it.children() and not it.folders()


def test_a_port_in_use_is_passed_over(run, devapi):
    it = run(API_PORT=str(devapi.port), NODES="5")
    port = int(it.wait_for(r"devapi at https://127.0.0.1:(\d+)").group(1))
    assert port > devapi.port
    it.wait_for(r"connected 5/5 ")


def test_a_hub_that_dies_is_noticed_and_its_log_shown(run):
    it = run(HUB_FLAGS="--log-level debug", NODES="5")
    it.wait_for(r"connected 5/5 ")
    os.kill(it.children()["isthmus"], signal.SIGKILL)
    assert it.wait() == 1
    assert "isthmus-0 has ended" in it.text() and "edge_connected" in it.text()
    assert not it.children()
    assert (it.folders()[0] / "isthmus-0.log").exists()


def test_wrong_flags_of_the_hub_are_shown(run):
    it = run(HUB_FLAGS="--no-such-flag 1")
    assert it.wait() == 1
    assert "no-such-flag" in it.text()
    assert not it.children()


def test_children_do_not_outlive_a_killed_script(run):
    it = run(NODES="5")
    it.wait_for(r"connected 5/5 ")
    it.popen.kill()
    it.popen.wait(10)
    wait_until("no child is left", lambda: not it.children(), 40)
