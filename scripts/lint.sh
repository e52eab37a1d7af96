#!/bin/bash
# What a machine can say about the sources: layout (clang-format), mistakes (clang-tidy, shellcheck), headers that do not
# compile alone, tables in the documents that are out of date.
#
#   B=build scripts/lint.sh [format|headers|tidy|shell|docs]...      all of them without an argument
#
# Exits 1 when there is anything to say.
set -u

cd "$(dirname "$0")/.." || exit 2
B=${B:-build}
parts=${*:-format headers shell docs tidy}
flags="-std=gnu11 -D_GNU_SOURCE -Iinclude -I. -I$B/gen $(pkg-config --cflags libuv libwebsockets hiredis jansson libnghttp2)"
failed=""

begin() { echo "lint: $1"; }
wrong() { failed="$failed $part"; }

# Runs a command for each file on standard input, as many at once as there are cores; says what it says, fails if one fails.
for_each() { xargs -r -P "$(nproc)" -n 1 "$@"; }

format() {
    local file status=0
    for file in $(git ls-files '*.c' '*.h' | grep -vxFf <(grep -v '^#' .clang-format-ignore)); do
        clang-format --style=file "$file" | cmp -s - "$file" ||
            { echo "$file: run clang-format -i on it"; status=1; }
    done
    return $status
}

# shellcheck disable=SC2016  # for the shell that xargs starts
headers() {
    git ls-files '*.h' | FLAGS=$flags for_each sh -c \
        'printf "#include \"%s\"\n" "$1" | ${CC:-cc} $FLAGS -Wall -Wextra -fsyntax-only -x c - || { echo "$1 does not compile alone"; exit 1; }' sh
}

# shellcheck disable=SC2016
tidy() {
    git ls-files 'base/*.c' 'apiclient/*.c' 'balancer/*.c' 'hub/*.c' 'test/devapi/*.c' 'test/edgesim/*.c' 'test/sim/*.c' 'test/lib/*.c' 'test/tools/*.c' |
        FLAGS=$flags for_each sh -c 'clang-tidy --quiet "$1" -- $FLAGS 2>/dev/null' sh
}

shell() {
    git ls-files | while read -r file; do
        head -n 1 "$file" 2>/dev/null | grep -qaE '^#!/bin/(ba)?sh' && echo "$file"
    done | xargs -r shellcheck --severity=warning
}

docs() { B=$B scripts/doc-tables.sh --check; }

# The status page is made into bytes for the compiler; clang-tidy wants them as well.
case " $parts " in *" tidy "*) make -s B="$B" "$B/gen/status_page.inc" || exit 2 ;; esac

for part in $parts; do
    case $part in
    format | headers | tidy | shell | docs) ;;
    *) echo "lint.sh: no part '$part'" >&2; exit 2 ;;
    esac
    begin "$part"
    "$part" || wrong
done
[ -z "$failed" ] || { echo "lint: something to do in:$failed"; exit 1; }
echo "lint: nothing to say"
