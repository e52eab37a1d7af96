#!/bin/sh
# Runs every built fuzz target for a while, two at a time.
#
#   B=build test/fuzz/run.sh SECONDS
#
# New inputs stay in $B/fuzz-work/NAME/corpus, so that the next run begins where this one ended; what crashes a target, and its
# log, lie beside them. The seeds are test/fuzz/corpus/NAME, where there are any. Exits 1 when a target crashed.
set -eu

seconds=${1:-60}
B=${B:-build}
here=$(cd "$(dirname "$0")" && pwd)
work=$B/fuzz-work

dictionary() {
    case "$1" in
    envelope | jsonscan | watch | watched) echo "-dict=$here/json.dict" ;;
    esac
}

run_one() {
    name=$1
    dir=$work/$name
    seeds=$here/corpus/$name
    mkdir -p "$dir/corpus" "$dir/crashes"
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2046,SC2086  # no dictionary or no seeds, no word
    if "$B/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 \
        -artifact_prefix="$dir/crashes/" $(dictionary "$name") "$dir/corpus" $seeds \
        >"$dir/log" 2>&1; then
        runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$dir/log")
        echo "ok      $name: ${runs:-0} runs"
    else
        echo "CRASHED $name: see $dir/log and $dir/crashes"
        : >"$dir/failed"
    fi
}

mkdir -p "$work"
names=""
for target in "$B"/fuzz/fuzz_*; do
    case "$target" in
    *.d | *'*') continue ;;
    esac
    [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    names="$names $name"
    rm -f "$work/$name/failed"
done
if [ -z "$names" ]; then
    echo "fuzz: no target in $B/fuzz: make fuzzers first" >&2
    exit 2
fi

# shellcheck disable=SC2086  # a list of words on purpose
set -- $names
while [ $# -gt 0 ]; do
    run_one "$1" &
    first=$!
    shift
    if [ $# -gt 0 ]; then
        run_one "$1" &
        second=$!
        shift
        wait "$second"
    fi
    wait "$first"
done

passed=0
failed=0
for name in $names; do
    if [ -e "$work/$name/failed" ]; then
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
