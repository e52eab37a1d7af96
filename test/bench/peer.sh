#!/bin/sh
# CloudCore and Isthmus under the same load, on the same real kube-apiserver; test/bench/peer.py says what and how.
#
#   B=build test/bench/peer.sh [--nodes N] [--only cloudcore|isthmus] [--into FILE] [--json FILE]
#
# Needs a Go that can build the peers (test/peers/build.sh); exits 77 without one.
set -eu
cd "$(dirname "$0")/../.."
export B="${B:-build}" PYTHONDONTWRITEBYTECODE=1 no_proxy="*"
peers=$(test/peers/build.sh kube cloudcore)
# Debian's modules of Python belong to Debian's Python.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
exec "$python" test/bench/peer.py --peers "$peers" "$@"
