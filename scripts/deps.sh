#!/bin/sh
# Installs the Debian packages a make target needs, if any of them is missing.
#
#   scripts/deps.sh build|test|run|e2e|lint|fuzz|bench ...
#
# Nothing is asked of the network when everything is there already.
set -eu

build="gcc make pkg-config libc6-dev libuv1-dev libwebsockets-dev libwebsockets-evlib-uv libssl-dev
       libjansson-dev libnghttp2-dev libyaml-dev libhiredis-dev libwslay-dev uthash-dev
       libhttp-parser-dev"
run="openssl curl redis-server haproxy"
test="$run nginx-light libnginx-mod-stream libcmocka-dev python3 python3-pytest python3-pytest-xdist python3-yaml prometheus"
e2e="$test etcd-server git ca-certificates"
lint="clang-format clang-tidy shellcheck"
fuzz="clang libclang-rt-14-dev llvm"

want=""
for set in "$@"; do
    case "$set" in
    build) want="$want $build" ;;
    run) want="$want $build $run" ;;
    test) want="$want $build $test" ;;
    e2e) want="$want $build $e2e" ;;
    lint) want="$want $build $lint" ;;
    fuzz) want="$want $build $fuzz" ;;
    *) echo "deps.sh: unknown set '$set'" >&2; exit 2 ;;
    esac
done

missing=""
for package in $want; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing:$missing"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
    command -v sudo >/dev/null || { echo "deps.sh: run as root: apt-get install$missing" >&2; exit 1; }
fi
# Debian starts some of these as services; the tests start their own.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ] && [ "$(id -u)" -eq 0 ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made_policy=1
fi
trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
$as_root apt-get update -q >/dev/null
# shellcheck disable=SC2086  # a list of words on purpose
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    -o DPkg::Lock::Timeout=300 $missing >/dev/null
