#!/bin/bash
# The tables in README.md and docs/ that are made from the program's own. Each stands between two lines
#
#     <!-- table: NAME -->
#     <!-- end of table -->
#
#   scripts/doc-tables.sh           writes them anew (`make docs`)
#   scripts/doc-tables.sh --check   says which differ; exits 1 then
#
# Also checks that every word of a reason and every event of the log is explained in docs/operations.md.
set -eu

cd "$(dirname "$0")/.."
B=${B:-build}
check=""
[ "${1:-}" != --check ] || check=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

tables() { sed -n 's/^<!-- table: \([a-z]*\) -->$/\1/p' "$1"; }

# The document $1 with its tables new, on standard output.
renew() {
    local name
    for name in $(tables "$1"); do
        "$B/doc-tables" "$name" >"$work/$name" || exit 2
    done
    awk -v folder="$work" '
        /^<!-- table: [a-z]+ -->$/ {
            print; print ""
            while ((getline line < (folder "/" $3)) > 0) print line
            print ""; inside = 1; next
        }
        /^<!-- end of table -->$/ { inside = 0 }
        !inside' "$1"
}

for document in README.md docs/*.md; do
    [ -n "$(tables "$document")" ] || continue
    renew "$document" >"$work/document"
    cmp -s "$work/document" "$document" && continue
    if [ -n "$check" ]; then
        echo "$document: a table is not up to date: run make docs"
        diff -u "$document" "$work/document" | head -n 20
        status=1
    else
        cat "$work/document" >"$document"
        echo "$document: renewed"
    fi
done

# X(ID, "word"): reasons. log_info("event", ...): events, not those of libwebsockets at debug level.
words() {
    sed -n 's/^ *X([A-Z0-9_]*, *"\([a-z0-9_]*\)").*/\1/p' hub/reasons.h hub/route.h
    git ls-files base apiclient hub balancer | grep '\.c$' | xargs cat | tr '\n' ' ' |
        grep -oE 'log_(info|warn|error|limited)\(([A-Za-z_? :]*, *)?"[a-z0-9_]+"' | sed 's/.*"\([a-z0-9_]*\)"/\1/'
}
for word in $(words | sort -u); do
    case $word in none | libwebsockets) continue ;; esac
    grep -q "\`$word\`" docs/operations.md || { echo "docs/operations.md does not explain \`$word\`"; status=1; }
done
exit $status
