#!/bin/bash
# The whole of it on this machine, for looking at: a development API server, the hub, and a fleet of simulated edges, with a
# live summary in the terminal. `make run` has built the programs. Ctrl-C ends it; so does DURATION.
#
#   make run [NODES=200] [DURATION=0] [WEBSOCKET_PORT=10000] [ADMIN_PORT=9440] [API_PORT=6443]
#            [HUB_FLAGS="..."] [EDGE_FLAGS="..."] [KEEP=1]
#
#   NODES           simulated edges
#   DURATION        seconds until it ends by itself; 0: never
#   *_PORT          where to listen, on 127.0.0.1; the next free port is taken instead of one that is in use
#   HUB_FLAGS       more flags for isthmus, for example "--log-level debug"
#   EDGE_FLAGS      more flags for edgesim, for example "--event-rate 2"
#   KEEP            keep the folder with logs and certificates, which else is removed at the end
#
# Exit code: 0 when it was ended, 1 when something could not be started or ended by itself (its log is shown then).
set -u

cd "$(dirname "$0")/.." || exit 1
B=${B:-build}
nodes=${NODES:-200}
duration=${DURATION:-0}
read -ra hub_flags <<<"${HUB_FLAGS:-}"
read -ra edge_flags <<<"${EDGE_FLAGS:-}"

case ${1:-} in
'') ;;
*) sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//p}' "$0"; [ "$1" = --help ]; exit ;;
esac
for number in "$nodes" "$duration"; do
    [[ $number =~ ^[0-9]{1,7}$ ]] || { echo "run.sh: '$number' is not a number" >&2; exit 1; }
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/isthmus-run.XXXXXX") || exit 1
hub_pid="" api_pid="" edges_pid="" is_stopping=""
is_tty=""
[ ! -t 1 ] || is_tty=1

# ---- words ----

bold() { if [ -n "$is_tty" ]; then printf '\033[1m%s\033[0m' "$1"; else printf '%s' "$1"; fi; }
step() { printf '  %-14s' "$1"; }
finished() { echo "$1"; }

# ---- processes ----

# start NAME PROGRAM FLAG...: sets $started. In a session of its own, so that Ctrl-C reaches this script only, which ends things
# in their order; should this script be killed, they are told to end as well.
start() {
    local name=$1
    shift
    setsid setpriv --pdeathsig TERM "$@" >"$folder/$name.log" 2>&1 </dev/null &
    started=$!
}

is_running() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# end PID SECONDS: by SIGTERM, and for certain.
end() {
    local tenths=$(($2 * 10))
    is_running "$1" || return 0
    kill -TERM "$1" 2>/dev/null
    while is_running "$1" && [ $((tenths--)) -gt 0 ]; do sleep 0.1; done
    kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    return 0
}

# die TEXT [LOG]
die() {
    echo
    echo "run.sh: $1" >&2
    [ -z "${2:-}" ] || tail -n 15 "$folder/$2.log" | sed 's/^/    /' >&2
    KEEP=1
    exit 1
}

clean_up() {
    trap '' INT TERM HUP
    if [ -n "$edges_pid$hub_pid$api_pid" ]; then
        echo
        step stopping
        end "$edges_pid" 10
        end "$hub_pid" 30
        end "$api_pid" 10
        finished "done"
    fi
    if [ -n "${KEEP:-}" ]; then
        echo "logs are in $folder"
    else
        rm -rf "$folder"
    fi
}
trap clean_up EXIT
trap 'is_stopping=1' INT TERM HUP

# Before the fleet runs there is nothing to wait for.
stop_if_asked() { [ -z "$is_stopping" ] || exit 0; }

# wait_until SECONDS PID NAME COMMAND...
wait_until() {
    local tenths=$(($1 * 10)) pid=$2 name=$3
    shift 3
    until "$@" >/dev/null 2>&1; do
        stop_if_asked
        is_running "$pid" || die "$name ended:" "$name"
        [ $((tenths--)) -gt 0 ] || die "$name does not answer:" "$name"
        sleep 0.1
    done
}

# ---- ports ----

taken=" "
is_listening() { # PORT
    awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port {found = 1} END {exit !found}' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# free_port WANTED: sets $port to it, or to the next one that nobody listens at.
free_port() {
    port=$1
    while is_listening "$port" || [[ $taken == *" $port "* ]]; do
        port=$((port + 1))
        [ "$port" -le 65535 ] || die "no free port from $1 on"
    done
    taken="$taken$port "
}

# ---- certificates ----

# issue NAME SUBJECT EXTENSION...
issue() {
    local name=$folder/certs/$1 subject=$2
    shift 2
    printf '%s\n' "$@" >"$name.ext"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -out "$name.csr" \
        -subj "$subject" &&
        openssl x509 -req -in "$name.csr" -CA "$folder/certs/ca.crt" -CAkey "$folder/certs/ca.key" -CAcreateserial \
            -out "$name.crt" -days 30 -extfile "$name.ext"
}

# The edges' CA signs the hub's certificate too; edgesim issues those of its nodes from it.
make_certificates() {
    mkdir "$folder/certs" &&
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$folder/certs/ca.key" \
            -out "$folder/certs/ca.crt" -days 30 -subj /CN=isthmus-run \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign &&
        issue hub /CN=isthmus subjectAltName=IP:127.0.0.1,DNS:localhost extendedKeyUsage=serverAuth
}

# ---- what is known ----

# The API server's own view, as an administrator.
api_get() {
    curl -fsS --max-time 2 --cacert "$folder/api-ca.pem" --cert "$folder/admin.pem" --key "$folder/admin-key.pem" \
        "https://127.0.0.1:$api_port$1"
}

unpack_kubeconfig() {
    local name
    for name in certificate-authority:api-ca client-certificate:admin client-key:admin-key; do
        sed -n "s/^ *${name%:*}-data: *//p" "$folder/kubeconfig" | tr -d '"' | base64 -d >"$folder/${name#*:}.pem" || return 1
        [ -s "$folder/${name#*:}.pem" ] || return 1
    done
}

# in_part JSON PART KEY: sets $value; "-" where there is none. Good for the flat objects that /status has.
in_part() {
    value=-
    [[ $1 =~ \"$2\":\{[^\}]*\"$3\":(-?[0-9][0-9.e+-]*) ]] && value=${BASH_REMATCH[1]}
    return 0
}

# in_lane JSON LANE KEY
in_lane() {
    value=-
    [[ $1 =~ \"name\":\"$2\"[^\}]*\"$3\":([0-9][0-9.e+-]*) ]] && value=${BASH_REMATCH[1]}
    return 0
}

# What a part counted in all its reasons.
sum_of() {
    [[ $1 =~ \"$2\":\{([^\}]*)\} ]] || { value=0; return 0; }
    value=$(tr , '\n' <<<"${BASH_REMATCH[1]}" | awk -F: '{n += $2} END {print n + 0}')
}

milliseconds() { awk -v v="$1" 'BEGIN {if (v == "-") print "–"; else if (v < 10) printf "%.1f ms", v;
    else if (v < 1000) printf "%.0f ms", v; else printf "%.1f s", v / 1000}'; }

cpu_before="" cpu_at=""
# Sets the words of the summary from /status and the API server's leases; 1 when the hub does not answer.
read_summary() {
    local status leases cpu now
    status=$(curl -fsS --max-time 2 "http://127.0.0.1:$admin_port/status") || return 1
    leases=$(api_get "/devapi/leases?summary=1") || leases=""
    in_part "$status" edges connected; connected=$value
    ready=0 oldest=-
    [[ $leases =~ \"leases\":\ *([0-9]+) ]] && ready=${BASH_REMATCH[1]}
    [[ $leases =~ \"not_ready\":\ *([0-9]+) ]] && ready=$((ready - BASH_REMATCH[1]))
    [[ $leases =~ \"oldest_ms\":\ *([0-9]+) ]] && oldest=$((BASH_REMATCH[1] / 1000))
    in_part "$status" rates received_per_s; up=$value
    in_part "$status" rates local_per_s; besides=$value
    in_part "$status" edges handshakes; handshakes=$value
    sum_of "$status" refused; refused=$value
    sum_of "$status" dropped; dropped=$value
    latencies=""
    for lane in liveness status query event; do
        in_lane "$status" $lane p50_ms; p50=$value
        in_lane "$status" $lane p99_ms
        latencies="$latencies${latencies:+   }$lane $(milliseconds "$p50") / $(milliseconds "$value")"
        [ $lane != liveness ] || lease_latency="$(milliseconds "$p50") / $(milliseconds "$value")"
    done
    in_part "$status" process resident_bytes; memory=$(awk -v v="$value" 'BEGIN {printf "%.1f MiB", v / 1048576}')
    in_part "$status" process threads; threads=$value
    in_part "$status" process cpu_s; cpu=$value
    now=$EPOCHREALTIME
    percent=$(awk -v a="$cpu_before" -v b="$cpu" -v from="$cpu_at" -v to="$now" \
        'BEGIN {if (from == "" || to <= from) print "–"; else printf "%.1f %%", 100 * (b - a) / (to - from)}')
    cpu_before=$cpu cpu_at=$now
}

clock() { printf '%02d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }

drawn=0
draw_block() {
    local text
    text=$(
        printf '  %-11s%s\n' \
            "$(clock)" "$(bold "$connected of $nodes edges connected, $ready Ready")" \
            leases "the oldest was renewed $oldest s ago (Ready up to 40 s)" \
            messages "$up/s to the API server, $besides/s keepalives and the like; $dropped dropped" \
            latency "$latencies   (median / 99 %)" \
            hub "$memory, $percent CPU, $threads threads, $handshakes in handshake, $refused refused"
    )
    [ "$drawn" -eq 0 ] || printf '\033[%dA\033[J' "$drawn"
    # A line that wraps would spoil the next redraw.
    cut -c "1-$(($(tput cols 2>/dev/null || echo 80) + 8))" <<<"$text"
    drawn=5
}

draw_line() {
    echo "$(clock) connected $connected/$nodes ready $ready messages $up/s lease latency $lease_latency (median / 99 %)" \
        "dropped $dropped refused $refused memory $memory"
}

# ---- the run ----

[ -x "$B/isthmus" ] && [ -x "$B/devapi" ] && [ -x "$B/edgesim" ] || die "no programs in $B: use make run"
ulimit -n "$(ulimit -Hn)" 2>/dev/null
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge $((nodes + 500)) ] ||
    die "$nodes edges need $((nodes + 500)) open files, and the limit here is $(ulimit -n)"

free_port "${API_PORT:-6443}"; api_port=$port
free_port "${WEBSOCKET_PORT:-10000}"; websocket_port=$port
free_port "${ADMIN_PORT:-9440}"; admin_port=$port

step certificates
make_certificates >"$folder/openssl.log" 2>&1 || die "openssl failed:" openssl
finished "an authority for the edges, the hub's own"
stop_if_asked

step "API server"
start devapi "$B/devapi" --address "127.0.0.1:$api_port" --kubeconfig-out "$folder/kubeconfig" --cert-dir "$folder"
api_pid=$started
wait_until 20 "$api_pid" devapi test -s "$folder/kubeconfig"
unpack_kubeconfig || die "devapi's kubeconfig cannot be read"
wait_until 20 "$api_pid" devapi api_get /version
finished "devapi at https://127.0.0.1:$api_port"

step hub
start isthmus "$B/isthmus" --kubeconfig "$folder/kubeconfig" --websocket-address "127.0.0.1:$websocket_port" \
    --admin-address "127.0.0.1:$admin_port" --https-address "" --control-socket "$folder/control.sock" \
    --tls-ca "$folder/certs/ca.crt" --tls-cert "$folder/certs/hub.crt" --tls-key "$folder/certs/hub.key" \
    --replica-id isthmus-0 "${hub_flags[@]}"
hub_pid=$started
wait_until 20 "$hub_pid" isthmus curl -fsS --max-time 2 "http://127.0.0.1:$admin_port/readyz"
finished "isthmus, edges at 127.0.0.1:$websocket_port"

step edges
# A little of everything: leases and node status are every edge's own; now and then an event and a question.
start edgesim "$B/edgesim" --server "127.0.0.1:$websocket_port" --ca "$folder/certs/ca.crt" --cert-dir "$folder/certs" \
    --nodes "$nodes" --duration 0 --event-rate 0.05 --query-rate 0.05 --query-kind node "${edge_flags[@]}"
edges_pid=$started
finished "$nodes simulated, each with its own certificate"

echo
echo "  status page   $(bold "http://127.0.0.1:$admin_port/")"
echo "  kubectl       $(bold "kubectl --kubeconfig $folder/kubeconfig get nodes")"
[ -z "$is_tty" ] || echo "  Ctrl-C ends it."
echo

SECONDS=0
every=5
[ -z "$is_tty" ] || every=1
while [ -z "$is_stopping" ]; do
    for name in isthmus:$hub_pid devapi:$api_pid edgesim:$edges_pid; do
        is_running "${name#*:}" || { [ -n "$is_stopping" ] && break 2; die "${name%:*} has ended:" "${name%:*}"; }
    done
    if ! read_summary 2>/dev/null; then
        [ -n "$is_stopping" ] || echo "$(clock) the hub does not answer"
        drawn=0
    elif [ -n "$is_stopping" ]; then
        break # Ctrl-C may have ended a command that read the numbers
    elif [ -n "$is_tty" ]; then
        draw_block
    else
        draw_line
    fi
    [ "$duration" -eq 0 ] || [ "$SECONDS" -lt "$duration" ] || break
    sleep "$every" &
    wait $! 2>/dev/null
done
exit 0
