#!/bin/bash
# Runs every test that needs no Go, and ends with one line: "N passed, N failed".
#
#   B=build test/run.sh [--long] [--only PART]... [--jobs N] [-- PYTEST-OPTIONS]
#
# Parts, in their order: unit, sim, golden, devapi, system, fuzz, asan, tsan. Programs, unit tests and fuzz targets have been built
# by make; the last two parts build isthmus once more with sanitizers, in $B/asan and $B/tsan, and run a part of the system
# tests against that (asan the unit tests as well). Logs are in $B/test-logs; what failed is shown.
# Exits 1 when something failed, or when nothing ran.
set -u

cd "$(dirname "$0")/.." || exit 2
export B=${B:-build}
logs=$B/test-logs
long=""
only=""
jobs=4
pytest_options=()
unit_seconds=180
fuzz_seconds=60
sim_seconds=300

usage() {
    sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
    --long) long=--long sim_seconds=3600 fuzz_seconds=600 unit_seconds=1200 ;;
    --only) shift; only="$only ${1:-}" ;;
    --jobs) shift; jobs=${1:-3} ;;
    --) shift; pytest_options=("$@"); break ;;
    *) usage ;;
    esac
    shift
done
for part in $only; do
    case "$part" in
    unit | sim | golden | devapi | system | fuzz | asan | tsan) ;;
    *) echo "run.sh: no part '$part'" >&2; usage ;;
    esac
done

# Debian's modules of pytest belong to Debian's Python.
python=/usr/bin/python3
[ -x "$python" ] || python=python3

rm -rf "$logs"
mkdir -p "$logs"
passed=0
failed=0
begun=$SECONDS

wanted() {
    [ -z "$only" ] || [[ " $only " == *" $1 "* ]]
}

# part passed failed seconds [log to show]
account() {
    passed=$((passed + $2))
    failed=$((failed + $3))
    echo "$1: $2 ok, $3 not ok ($4 s)"
    [ "$3" -eq 0 ] || [ -z "${5:-}" ] || { sed "s/^/    /" "$5" | tail -n 400; }
}

# ---- unit ----

# One binary, in a folder of logs. A crash or a timeout counts as one failure.
run_unit() {
    local binary=$1 to=$2 name status=0 good bad
    name=${binary##*/}
    timeout -k 5 "$unit_seconds" "$binary" >"$to/$name.log" 2>&1 || status=$?
    good=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$to/$name.log" | awk '{n += $1} END {print n + 0}')
    bad=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test(s).*/\1/p' "$to/$name.log" | awk '{n += $1} END {print n + 0}')
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        echo "ended with status $status (124: took longer than $unit_seconds s)" >>"$to/$name.log"
    elif [ $((good + bad)) -eq 0 ]; then
        bad=1
        echo "ran no test" >>"$to/$name.log"
    fi
    echo "$name $good $bad" >"$to/$name.count"
}
export -f run_unit
export unit_seconds

# part, folder of binaries
units() {
    local to=$logs/$1 start=$SECONDS good=0 bad=0 name g b
    mkdir -p "$to"
    find "$2" -maxdepth 1 -name 'test_*' -type f -perm -u+x 2>/dev/null | sort |
        xargs -r -P 2 -I {} bash -c 'run_unit "$1" "$2"' _ {} "$to"
    : >"$to/failures"
    for count in "$to"/*.count; do
        [ -e "$count" ] || continue
        read -r name g b <"$count"
        good=$((good + g))
        bad=$((bad + b))
        [ "$b" -eq 0 ] || { echo "--- $name"; tail -n 60 "$to/$name.log"; } >>"$to/failures"
    done
    [ $((good + bad)) -gt 0 ] || bad=1
    account "$1" "$good" "$bad" $((SECONDS - start)) "$to/failures"
}

# ---- pytest ----

# part, then pytest's arguments
run_pytest() {
    local part=$1 start=$SECONDS log=$logs/$1.log status=0 summary good bad
    shift
    "$python" -m pytest -p no:cacheprovider -q -ra --tb=short --color=no --durations=10 "$@" \
        "${pytest_options[@]}" >"$log" 2>&1 </dev/null || status=$?
    summary=$(grep -E '^[0-9]+ (passed|failed|error|skipped|deselected)' "$log" | tail -n 1)
    good=$(grep -oE '[0-9]+ passed' <<<"$summary" | awk '{n += $1} END {print n + 0}')
    bad=$(grep -oE '[0-9]+ (failed|errors?)' <<<"$summary" | awk '{n += $1} END {print n + 0}')
    # 5: nothing was selected, which is no success either.
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    account "$part" "$good" "$bad" $((SECONDS - start)) "$log"
}

# ---- sanitizers ----

# They are built while other parts run, most of which wait more than they work.
build_sanitized() {
    local isthmus
    for part in asan tsan; do
        wanted $part || continue
        isthmus=$B/$part/isthmus
        if [ $part = asan ]; then
            nice make --no-print-directory -j2 B="$B/asan" SAN=address,undefined "$isthmus" units
        else
            nice make --no-print-directory -j2 B="$B/tsan" SAN=thread "$isthmus"
        fi >"$logs/$part-build.log" 2>&1 || touch "$logs/$part-build.failed"
    done
}

# What make said is only of interest when it failed.
is_built() {
    wait "$builds"
    [ -e "$logs/$part-build.failed" ] || return 0
    account "$part" 0 1 0 "$logs/$part-build.log"
    return 1
}

# ---- parts ----

build_sanitized &
builds=$!
for part in unit sim golden devapi system fuzz asan tsan; do
    wanted $part || continue
    start=$SECONDS
    case $part in
    unit) units unit "$B/unit" ;;
    sim)
        [ -x "$B/balance-sim" ] || continue
        timeout -k 5 "$sim_seconds" "$B/balance-sim" ${long:+--long} >"$logs/sim.log" 2>&1
        status=$?
        counts=$(sed -n 's/^sim: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$logs/sim.log" | tail -n 1)
        read -r good bad <<<"${counts:-0 1}"
        [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
        account sim "$good" "$bad" $((SECONDS - start)) "$logs/sim.log"
        ;;
    golden) run_pytest golden -n 2 test/golden ;;
    devapi) run_pytest devapi test/devapi ;;
    system) run_pytest system -n "$jobs" $long test/system ;;
    fuzz)
        targets=$(find "$B/fuzz" -maxdepth 1 -name 'fuzz_*' -type f -perm -u+x 2>/dev/null | wc -l)
        # Two run at a time: together they take fuzz_seconds.
        each=$((targets > 0 ? fuzz_seconds * 2 / targets : 1))
        test/fuzz/run.sh $((each > 0 ? each : 1)) >"$logs/fuzz.log" 2>&1
        status=$?
        counts=$(sed -n 's/^fuzz: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$logs/fuzz.log")
        read -r good bad <<<"${counts:-0 1}"
        [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
        account fuzz "$good" "$bad" $((SECONDS - start)) "$logs/fuzz.log"
        ;;
    asan)
        is_built || continue
        unit_seconds=$((3 * unit_seconds)) # all of it is slower
        ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=test/lsan.supp:print_suppressions=0 \
            UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 units asan-unit "$B/asan/unit"
        ISTHMUS_HUB=$B/asan/isthmus ISTHMUS_SANITIZER=asan \
            run_pytest asan -n "$jobs" -m sanitize $long test/system
        ;;
    tsan)
        is_built || continue
        ISTHMUS_HUB=$B/tsan/isthmus ISTHMUS_SANITIZER=tsan \
            run_pytest tsan -n "$jobs" -m sanitize $long test/system
        ;;
    esac
done

echo "took $((SECONDS - begun)) s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
