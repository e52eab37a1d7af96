#!/bin/bash
# Runs the end-to-end tests: the real control plane and EdgeCores against build/isthmus.
#
#   test/e2e/run.sh                           all of them, in groups side by side
#   test/e2e/run.sh PYTEST-OPTIONS            one run, for example: -k ready --stay 20, --hub cloudcore
#
# Each group has a control plane, hubs and edges of its own; much of its time is waiting for what an edge
# does every ten, thirty or sixty seconds, so that four of them fit on two cores. B is the build folder.
# Ends with a line "N passed, N failed". Without a Go that can build the peers, or where EdgeCore cannot
# run, everything is skipped, except where CI=true: there that is a failure.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
B=${B:-build}
case "$B" in /*) ;; *) B=$root/$B ;; esac

# Group: test files. What is in none of them is found at the start.
declare -A groups=(
    [node]="test_rights.py test_ready.py test_identity.py test_pods.py test_join.py test_removal.py test_return.py"
    [fleet]="test_fleet.py"
    [faults]="test_foreign.py test_faults.py"
    [peer]="test_takeover.py test_conformance.py"
)
group_seconds=840

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

status=0
peers=$("$root/test/peers/build.sh" kube edgecore cloudcore) || status=$?
[ "$status" -ne 77 ] || cannot "need Go (see test/peers/build.sh)"
[ "$status" -eq 0 ] || { echo "0 passed, 1 failed"; exit 1; }

# The modules of pytest and yaml are Debian's, so it has to be Debian's Python.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
cd "$root"

pytest=("$python" -m pytest -p no:cacheprovider -q -rfE --tb=short --color=no --durations=5
    --rootdir="$here" --peers="$peers" --hub-program="$B/isthmus")

[ $# -eq 0 ] || exec "${pytest[@]}" --log-dir="$B/e2e" "$here" "$@"

for file in "$here"/test_*.py; do
    case " ${groups[*]} " in *" ${file##*/} "*) ;; *) echo "run.sh: ${file##*/} is in no group"; exit 2 ;; esac
done

rm -rf "$B/e2e"
mkdir -p "$B/e2e"
declare -A running=()
first_port=20000
for group in "${!groups[@]}"; do
    # shellcheck disable=SC2206  # a list of words on purpose
    files=(${groups[$group]})
    ISTHMUS_E2E_PORTS=$first_port-$((first_port + 2499)) timeout -k 30 "$group_seconds" \
        "${pytest[@]}" --log-dir="$B/e2e/$group" "${files[@]/#/$here/}" >"$B/e2e/$group.log" 2>&1 </dev/null &
    running[$group]=$!
    first_port=$((first_port + 2500))
done

passed=0
failed=0
for group in "${!running[@]}"; do
    status=0
    wait "${running[$group]}" || status=$?
    good=0 bad=0
    read -r good bad <<<"$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$B/e2e/$group.log" | tail -n 1)" || true
    good=${good:-0} bad=${bad:-0}
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + good))
    failed=$((failed + bad))
    echo "---- $group: $good ok, $bad not ok"
    if [ "$bad" -gt 0 ]; then
        sed 's/^/    /' "$B/e2e/$group.log" | tail -n 400
    else
        grep -E '^(skipped|[A-Z][a-z]+.*:|[0-9.]+s )' "$B/e2e/$group.log" || true
    fi
done
echo "took $SECONDS s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
