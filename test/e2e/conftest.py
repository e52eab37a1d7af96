"""Options and fixtures of the end-to-end tests, and what is shown when one fails.

One control plane, one hub and a few EdgeCores serve the whole run. What a hub can do decides which
tests apply to it: a test marked `needs("downstream")` is skipped for one that does not push pods yet.
"""

import glob
import os
import shutil
import sys
import tempfile
import time

import pytest

sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # test/lab

from stack.api import Watch
from stack.cluster import Cluster, ready
from stack.edge import NODES, Edge
from stack.hub import CloudCore, Isthmus, prepare
from stack.pki import Authority
from stack.processes import EDGE_SECONDS, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

IMPERSONATE = {"plain": "--impersonate=true", "constrained": "--constrained-impersonation",
               "off": "--impersonate=false"}


def pytest_addoption(parser):
    group = parser.getgroup("isthmus")
    group.addoption("--peers", required=True, help="folder with kube, edgecore, cloudcore")
    group.addoption("--hub", choices=["isthmus", "cloudcore"], default="isthmus")
    group.addoption("--hub-program", default=os.path.join(ROOT, "build", "isthmus"))
    group.addoption("--hub-flag", action="append", default=[], help="one more flag for the hub")
    group.addoption("--impersonation", choices=["plain", "constrained", "off"], default="plain",
                    help="how the hub acts for nodes, and so which of deploy/rbac*.yaml it gets")
    group.addoption("--log-dir", default=os.path.join(ROOT, "build", "e2e"))
    group.addoption("--stay", type=float, default=120, help="seconds that nodes must stay Ready")
    group.addoption("--long", action="store_true", help="also the tests that take minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(ability): skipped for a hub without it")
    config.addinivalue_line("markers", "disturbs: may cost nodes their Ready condition; runs last")
    config.addinivalue_line("markers", "long: skipped without --long")
    config.addinivalue_line("markers", "cloudcore: needs the original CloudCore among the peers")
    os.makedirs(config.getoption("--log-dir"), exist_ok=True)


def pytest_collection_modifyitems(config, items):
    abilities = {"isthmus": Isthmus, "cloudcore": CloudCore}[config.getoption("--hub")].can
    items.sort(key=lambda item: item.get_closest_marker("disturbs") is not None)
    for item in items:
        for marker in item.iter_markers("needs"):
            if marker.args[0] not in abilities:
                item.add_marker(pytest.mark.skip(reason=f"the hub has no {marker.args[0]} yet"))
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; --long runs it"))


@pytest.fixture(scope="session")
def log_dir(pytestconfig):
    path = pytestconfig.getoption("--log-dir")
    for file in glob.glob(os.path.join(path, "*.log")) + glob.glob(os.path.join(path, "*.jsonl")):
        os.unlink(file)
    return path


@pytest.fixture(scope="session")
def work_dir():
    path = tempfile.mkdtemp(prefix="isthmus-e2e-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def peers(pytestconfig):
    return pytestconfig.getoption("--peers")


@pytest.fixture(scope="session")
def cluster(pytestconfig, peers, work_dir, log_dir):
    how = pytestconfig.getoption("--impersonation")
    gates = "ConstrainedImpersonation=true" if how == "constrained" else ""
    plane = Cluster(peers, work_dir, log_dir, gates)
    try:
        plane.start()
        prepare(plane, ROOT, how)
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def authority(work_dir):
    """The certificate authority that edges and hub trust."""
    return Authority(os.path.join(work_dir, "edge-pki"), "e2e-edges")


@pytest.fixture(scope="session")
def make_hub(pytestconfig, cluster, peers, authority, log_dir):
    """make_hub(NAME, FLAG...) makes the hub that was asked for; it is not started yet. One that joins
    nodes has its authority from the cluster's Secrets instead of the tests'."""
    flags = pytestconfig.getoption("--hub-flag")
    how = IMPERSONATE[pytestconfig.getoption("--impersonation")]

    def make(name, *more, joins=False):
        trusted = None if joins else authority
        if pytestconfig.getoption("--hub") == "cloudcore":
            return CloudCore(peers, cluster, trusted, log_dir, name, flags=[*flags, *more])
        program = pytestconfig.getoption("--hub-program")
        return Isthmus(program, cluster, trusted, log_dir, name, flags=[how, *flags, *more])

    return make


@pytest.fixture(scope="session")
def hub(make_hub):
    started = make_hub("hub")
    try:
        yield started.start()
    finally:
        started.stop()


class Fleet:
    """Starts EdgeCores and remembers when each turned Ready."""

    def __init__(self, start_edge):
        self._start_edge = start_edge
        self.edges = {}

    def add(self, name, *flags):
        self.edges[name] = self._start_edge(name, flags)
        return self.edges[name]

    def stop(self):
        for edge in self.edges.values():
            edge.process.signal(15)
        for edge in self.edges.values():
            edge.process.wait(5)


@pytest.fixture(scope="session")
def watches(cluster):
    """Everything that happens to nodes, leases and Events from before the first edge starts."""
    followed = {
        "nodes": Watch(cluster.admin, "/api/v1/nodes"),
        "leases": Watch(cluster.admin, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
        "events": Watch(cluster.admin, "/api/v1/events"),
    }
    yield followed
    for watch in followed.values():
        watch.stop()


@pytest.fixture(scope="session")
def nodes(watches, fleet, cluster):
    """The nodes, each Ready and with a lease; how long that may take is part of the test."""
    for name in NODES:
        wait_until(f"{name} registers", lambda: cluster.node(name), EDGE_SECONDS)
        wait_until(f"{name} is Ready", lambda: ready(cluster.node(name)) == "True", EDGE_SECONDS)
    for name in NODES:
        # The kubelet asks for its lease before its Node is known, and again after 10 s.
        wait_until(f"{name} has a lease", lambda: cluster.lease(name), EDGE_SECONDS)
    return {name: cluster.node(name) for name in NODES}


@pytest.fixture(scope="session")
def fleet(cluster, hub, watches, peers, authority, work_dir, log_dir):
    """Three nodes: a plain one, one with labels of its own, one that reports Events."""
    def start_edge(name, flags):
        return Edge(peers, name, authority, hub, work_dir, log_dir, flags).start()

    started = Fleet(start_edge)
    try:
        started.add("edge-1")
        started.add("edge-2", "--node-labels", "site=harbour,example.com/rack=7")
        started.add("edge-3", "--report-events")
        yield started
    finally:
        started.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the ends of all logs with a failure."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for path in sorted(glob.glob(os.path.join(item.config.getoption("--log-dir"), "*.log"))):
        # Control plane and edges talk much and are seldom to blame.
        many = 8 if os.path.basename(path).startswith(("kube-", "etcd", "edgecore-")) else 40
        with open(path, encoding="utf-8", errors="replace") as log:
            lines = log.readlines()[-many:]
        report.sections.append((os.path.relpath(path), "".join(line[:400] for line in lines)))


_tally = {"passed": 0, "failed": 0, "skipped": 0}
_started = time.monotonic()


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        _tally["passed"] += 1
    elif report.failed:
        _tally["failed"] += 1
    elif report.skipped:
        _tally["skipped"] += 1


def pytest_unconfigure(config):
    """The closing line, alone on its line, after everything pytest prints."""
    if config.option.collectonly:
        return
    skipped = f", {_tally['skipped']} skipped" if _tally["skipped"] else ""
    print(f"e2e took {time.monotonic() - _started:.0f} s")
    print(f"{_tally['passed']} passed, {_tally['failed']} failed{skipped}", flush=True)
