"""pytest fixtures: one authority for the run; programs for each test, with their logs shown when it fails."""

import shutil

import pytest

from lab.certs import Authority
from lab.programs import Devapi, Fleet, Hub

TAIL_BYTES = 6000


class Lab:
    """Starts programs in a folder of the test's own, and ends at its end what still runs."""

    def __init__(self, folder, authority):
        self.folder, self.authority = folder, authority
        self.started = []

    def devapi(self, *flags):
        api = Devapi(self.folder, *flags)
        self.started.append(api)
        return api.start()

    def new_hub(self, devapi, *flags, **options):
        """One that is still to be started."""
        hub = Hub(self.folder, self.authority, devapi, *flags, **options)
        self.started.append(hub)
        return hub

    def hub(self, devapi, *flags, ready=True, **options):
        return self.new_hub(devapi, *flags, **options).start(ready)

    def fleet(self, hub, nodes, *flags, **options):
        fleet = Fleet(self.folder, hub, nodes, *flags, **options)
        self.started.append(fleet)
        return fleet.start()

    def add(self, process):
        """Something else with .process."""
        self.started.append(process)
        return process

    def logs(self):
        for item in self.started:
            if item.process:
                text = item.process.log_text()
                yield item.process.name, text[-TAIL_BYTES:]

    def close(self):
        """Fleets first, then hubs, each of which must end well, then API servers."""
        problems = []
        for item in reversed(self.started):
            if not item.process or not item.process.is_running():
                continue
            try:
                if isinstance(item, Hub):
                    item.stop()
                else:
                    item.process.stop(20)
            except AssertionError as problem:
                problems.append(str(problem))
            finally:
                item.process.kill()
        assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("pki"))
    made.server()
    return made


@pytest.fixture
def lab(tmp_path, authority, request):
    made = Lab(tmp_path, authority)
    request.node.lab = made
    yield made
    made.close()  # where this fails, the logs are still to be shown
    if not getattr(request.node, "has_failed", False):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def devapi(lab):
    return lab.devapi()


@pytest.fixture
def hub(lab, devapi):
    return lab.hub(devapi)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    lab = getattr(item, "lab", None)
    if report.failed:
        item.has_failed = True
        for name, text in lab.logs() if lab else ():
            report.sections.append((f"the end of {name}'s log", text))
