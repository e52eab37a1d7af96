#!/bin/sh
# Builds the real peers that the end-to-end tests talk to, and prints the folder they are in.
#
#   test/peers/build.sh [kube] [edgecore] [cloudcore]      (default: kube edgecore)
#
# kube is the Kubernetes control plane, edgecore a KubeEdge node with a pretended container
# runtime, cloudcore the original CloudCore. What was built once is kept outside the tree, by a hash of
# our sources, the pinned modules and the compiler:
#   ${ISTHMUS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/isthmus}/peers/HASH/
# The first build takes ten minutes of two cores, 1 GB of modules and 5 GB of build cache.
# Exit status 77: there is no Go here that can build them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${ISTHMUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/isthmus}/peers

say() { echo "peers: $*" >&2; }

# Succeeds if version $1 is at least version $2.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# The newest Go on PATH and in its usual places.
find_go() {
    best="" best_version=0
    for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-*/bin/go /usr/lib/go/bin/go \
        "$HOME"/go/bin/go "$HOME"/sdk/go*/bin/go /opt/go/bin/go /snap/bin/go; do
        [ -x "$go" ] || continue
        version=$("$go" env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9.]*\).*/\1/p')
        [ -n "$version" ] || continue
        if [ -z "$best" ] || ! at_least "$best_version" "$version"; then
            best=$go best_version=$version
        fi
    done
}

# A Go from 1.21 on fetches the toolchain that go.mod asks for, unless it is told not to.
usable() {
    needed=$(sed -n 's/^go //p' "$here/kube/go.mod")
    at_least "$best_version" "$needed" && return 0
    at_least "$best_version" 1.21 && [ "$("$best" env GOTOOLCHAIN)" != local ]
}

sources_hash() {
    (cd "$here" && "$best" env GOVERSION GOARCH &&
        find build.sh kube edge -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -c 1-16
}

# build MODULE PACKAGE PROGRAM CGO LDFLAGS
build() {
    module=$1 package=$2 program=$3 cgo=$4 ldflags=$5
    [ ! -x "$out/$program" ] || return 0
    started=$(date +%s)
    say "building $program with $("$best" env GOVERSION) (minutes when it is the first time)"
    if ! (cd "$here/$module" && CGO_ENABLED=$cgo GOFLAGS="-buildvcs=false" nice -n 10 "$best" build -trimpath \
        -ldflags "-s -w $ldflags" -o "$out/$program.new" "$package") >"$out/$program.log" 2>&1; then
        grep -v '^go: downloading' "$out/$program.log" >&2 || true
        say "building $program failed"
        exit 1
    fi
    mv "$out/$program.new" "$out/$program"
    say "built $program in $(($(date +%s) - started)) s"
}

# The resource definitions that the hubs work with, from the release itself.
copy_crds() {
    [ ! -d "$out/crds" ] || return 0
    module=$(cd "$here/edge" && "$best" mod download github.com/kubeedge/kubeedge >&2 &&
        "$best" list -m -f '{{.Dir}}' github.com/kubeedge/kubeedge)
    cp -r "$module/build/crds" "$out/crds.new"
    chmod -R u+w "$out/crds.new"
    mv "$out/crds.new" "$out/crds"
}

version_of() { sed -n "s#^[[:space:]]*$2 \(v[0-9.]*\).*#\1#p" "$here/$1/go.mod" | head -n 1; }

find_go
if [ -z "$best" ]; then
    say "no Go found"
    exit 77
fi
if ! usable; then
    say "$best is $best_version; $needed or newer is needed"
    exit 77
fi

out=$cache/$(sources_hash)
mkdir -p "$out"
# Two runs at once build once.
exec 9>"$out/lock"
flock 9
# Builds of other versions go when nobody has asked for them for a month.
touch "$out"
find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +30 -exec rm -rf {} +

kubernetes=$(version_of kube k8s.io/kubernetes)
kubeedge=$(version_of edge github.com/kubeedge/kubeedge)
edge_version="-X github.com/kubeedge/kubeedge/pkg/version.gitVersion=$kubeedge"
[ $# -gt 0 ] || set -- kube edgecore
for program in "$@"; do
    case "$program" in
    kube) build kube . kube 0 "-X k8s.io/component-base/version.gitVersion=$kubernetes" ;;
    # SQLite is C.
    edgecore) build edge ./edgecore edgecore 1 "$edge_version" ;;
    cloudcore) copy_crds && build edge ./cloudcore cloudcore 1 "$edge_version" ;;
    *) say "unknown program '$program'"; exit 2 ;;
    esac
done
echo "$out"
