"""balancer/beat.lua in a real Redis against its twin in C, which the simulator uses."""

import subprocess
import sys

from lab.processes import ROOT


def test_script_and_model_agree():
    done = subprocess.run([sys.executable, ROOT / "test/sim/lua_agree.py", "--sequences", "100"],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "lua_agree: 100 sequences agree\n"
