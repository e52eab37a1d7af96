#!/bin/sh
# Measures the numbers of the design on this machine, in one run; test/bench/__main__.py says what and how.
#
#   B=build test/bench/run.sh [--quick] [--only PART]... [--markdown] [--into FILE]
set -eu
cd "$(dirname "$0")/../.."
export B="${B:-build}" PYTHONPATH=test PYTHONDONTWRITEBYTECODE=1 no_proxy="*"
# Debian's modules of Python belong to Debian's Python.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
exec "$python" -m bench "$@"
