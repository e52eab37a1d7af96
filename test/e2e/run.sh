#!/bin/sh
# Runs the end-to-end tests: the real control plane and EdgeCores against build/isthmus.
#
#   test/e2e/run.sh [pytest options]          for example: --hub cloudcore, -k ready, --stay 20
#
# B is the build folder. Without a Go that can build the peers, or where EdgeCore cannot run, it is
# skipped, except where CI=true: there it fails.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
B=${B:-build}
case "$B" in /*) ;; *) B=$root/$B ;; esac

cannot() {
    if [ "${CI:-}" = true ]; then
        echo "FAILED: the end-to-end tests $1"
        echo "0 passed, 1 failed"
        exit 1
    fi
    echo "SKIPPED: the end-to-end tests $1"
    exit 0
}

# The kubelet in EdgeCore looks there for processes that ran out of memory, and ends if it may not.
{ true </dev/kmsg; } 2>/dev/null || cannot "run EdgeCore, which must be able to read /dev/kmsg (as root)"

programs="kube edgecore"
case " $* " in *cloudcore*) programs="$programs cloudcore" ;; esac

status=0
# shellcheck disable=SC2086  # a list of words on purpose
peers=$("$root/test/peers/build.sh" $programs) || status=$?
[ "$status" -ne 77 ] || cannot "need Go (see test/peers/build.sh)"
[ "$status" -eq 0 ] || { echo "0 passed, 1 failed"; exit 1; }

# The modules of pytest and yaml are Debian's, so it has to be Debian's Python.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
cd "$root"
exec "$python" -m pytest -p no:cacheprovider -q -rfE --tb=short --rootdir "$here" "$here" \
    --peers "$peers" --hub-program "$B/isthmus" --log-dir "$B/e2e" "$@"
