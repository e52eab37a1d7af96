"""System tests: the real programs, on loopback. B is the build folder; $ISTHMUS_HUB another hub to test."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ["no_proxy"] = "*"

from lab.fixtures import authority, devapi, hub, lab, pytest_runtest_makereport  # noqa: E402,F401
from lab.processes import is_sanitized  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that take minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: skipped without --long")
    config.addinivalue_line("markers", "sanitize: also run against hubs built with sanitizers")
    config.addinivalue_line("markers", "timing: says nothing about a hub that sanitizers slow down")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; --long runs it"))
        if item.get_closest_marker("timing") and is_sanitized():
            item.add_marker(pytest.mark.skip(reason="about time, and this hub is slow on purpose"))
