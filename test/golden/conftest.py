"""Golden tests: recorded sessions of real EdgeCores, replayed against the hub. B is the build folder."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ["no_proxy"] = "*"

from lab.fixtures import authority, devapi, hub, lab, pytest_runtest_makereport  # noqa: E402,F401
