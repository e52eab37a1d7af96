#!/bin/bash
# The whole of it on this machine, for looking at: a development API server, Redis, three replicas behind HAProxy, and a fleet of
# simulated edges, with a live summary in the terminal. When all edges are Ready one replica is killed, and later started again;
# then the others give it its share. `make run` has built the programs. Ctrl-C ends it; so does DURATION.
#
#   make run [NODES=600] [REPLICAS=3] [DURATION=0] [KILL_AFTER=20] [START_AFTER=75] [WEBSOCKET_PORT=10000] [ADMIN_PORT=9440]
#            [API_PORT=6443] [HUB_FLAGS="..."] [EDGE_FLAGS="..."] [KEEP=1]
#
#   NODES           simulated edges (200 with one replica)
#   REPLICAS        1 to 9; with 1 there is neither Redis nor HAProxy
#   DURATION        seconds until it ends by itself; 0: never
#   KILL_AFTER      seconds from when all edges are Ready until a replica is killed; 0: none is
#   START_AFTER     seconds until it is started again
#   *_PORT          where to listen, on 127.0.0.1; the next free port is taken instead of one that is in use
#   HUB_FLAGS       more flags for isthmus, for example "--balance dry-run"
#   EDGE_FLAGS      more flags for edgesim, for example "--event-rate 2"
#   KEEP            keep the folder with logs and certificates, which else is removed at the end
#
# Exit code: 0 when it was ended, 1 when something could not be started or ended by itself (its log is shown then). make itself
# dies of Ctrl-C, whatever the script returns.
set -u

cd "$(dirname "$0")/.." || exit 1
B=${B:-build}
replicas=${REPLICAS:-3}
nodes=${NODES:-$((replicas > 1 ? 600 : 200))}
duration=${DURATION:-0}
kill_after=${KILL_AFTER:-20}
start_after=${START_AFTER:-75}
read -ra hub_flags <<<"${HUB_FLAGS:-}"
read -ra edge_flags <<<"${EDGE_FLAGS:-}"

case ${1:-} in
'') ;;
*) sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//p}' "$0"; [ "$1" = --help ]; exit ;;
esac
for number in "$nodes" "$replicas" "$duration" "$kill_after" "$start_after"; do
    [[ $number =~ ^[0-9]{1,7}$ ]] || { echo "run.sh: '$number' is not a number" >&2; exit 1; }
done
[ "$replicas" -ge 1 ] && [ "$replicas" -le 9 ] || { echo "run.sh: REPLICAS is 1 to 9" >&2; exit 1; }

folder=$(mktemp -d "${TMPDIR:-/tmp}/isthmus-run.XXXXXX") || exit 1
hub_pids=() api_pid="" edges_pid="" redis_pid="" haproxy_pid="" is_stopping=""
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

# end PID SECONDS [SIGNAL]: for certain.
end() {
    local tenths=$(($2 * 10))
    is_running "$1" || return 0
    kill -"${3:-TERM}" "$1" 2>/dev/null
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
    if [ -n "$api_pid" ]; then
        echo
        step stopping
        end "$edges_pid" 10
        end "$haproxy_pid" 5
        # All at once, and not SIGTERM: that begins a drain, which waits for nodes on their way.
        for pid in "${hub_pids[@]}"; do kill -INT "$pid" 2>/dev/null; done
        for pid in "${hub_pids[@]}"; do end "$pid" 30 0; done
        end "$redis_pid" 5
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

# ---- the parts ----

# What is to run on the edges: a pod on each, and the ConfigMap it mentions.
write_objects() {
    awk -v nodes="$nodes" 'BEGIN {
        meta = "\"metadata\": {\"namespace\": \"default\", \"name\": "
        print "[{\"kind\": \"ServiceAccount\", \"apiVersion\": \"v1\", " meta "\"default\"}},"
        print "{\"kind\": \"ConfigMap\", \"apiVersion\": \"v1\", " meta "\"web\"}, \"data\": {\"greeting\": \"hello\"}}"
        for (i = 0; i < nodes; i++)
            printf ",{\"kind\": \"Pod\", \"apiVersion\": \"v1\", %s\"web-%d\"}, \"spec\": {\"nodeName\": \"edge-%d\", " \
                "\"serviceAccountName\": \"default\", \"containers\": [{\"name\": \"web\", \"image\": \"web:1\", " \
                "\"envFrom\": [{\"configMapRef\": {\"name\": \"web\"}}]}]}}\n", meta, i, i
        print "]"
    }'
}

start_api() {
    step "API server"
    write_objects >"$folder/objects.json"
    start devapi "$B/devapi" --address "127.0.0.1:$api_port" --kubeconfig-out "$folder/kubeconfig" --cert-dir "$folder" \
        --seed-file "$folder/objects.json"
    api_pid=$started
    wait_until 20 "$api_pid" devapi test -s "$folder/kubeconfig"
    unpack_kubeconfig || die "devapi's kubeconfig cannot be read"
    wait_until 20 "$api_pid" devapi api_get /version
    finished "devapi at https://127.0.0.1:$api_port"
}

# Redis takes all it needs by a Unix socket; nothing of it is kept.
start_redis() {
    step Redis
    start redis redis-server --port 0 --unixsocket "$folder/redis.sock" --save "" --appendonly no --dir "$folder"
    redis_pid=$started
    wait_until 10 "$redis_pid" redis test -S "$folder/redis.sock"
    finished "redis-server at a socket of its own"
}

# start_hub I
start_hub() {
    local flags=()
    [ "$replicas" -eq 1 ] || flags=(--redis "unix://$folder/redis.sock" --proxy-protocol-from 127.0.0.1)
    start "isthmus-$1" "$B/isthmus" --kubeconfig "$folder/kubeconfig" --replica-id "isthmus-$1" \
        --websocket-address "127.0.0.1:${hub_ports[$1]}" --admin-address "127.0.0.1:${admin_ports[$1]}" --https-address "" \
        --control-socket "$folder/isthmus-$1.sock" --tls-ca "$folder/certs/ca.crt" --tls-cert "$folder/certs/hub.crt" \
        --tls-key "$folder/certs/hub.key" "${flags[@]}" "${hub_flags[@]}"
    hub_pids[$1]=$started
}

wait_for_hub() { # I
    wait_until 20 "${hub_pids[$1]}" "isthmus-$1" curl -fsS --max-time 2 "http://127.0.0.1:${admin_ports[$1]}/readyz"
}

start_hubs() {
    local i
    step "$([ "$replicas" -eq 1 ] && echo hub || echo replicas)"
    for ((i = 0; i < replicas; i++)); do start_hub $i; done
    for ((i = 0; i < replicas; i++)); do wait_for_hub $i; done
    if [ "$replicas" -eq 1 ]; then
        finished "isthmus, edges at 127.0.0.1:$websocket_port"
    else
        finished "isthmus-0 to isthmus-$((replicas - 1))"
    fi
}

write_haproxy_config() {
    local i
    cat <<END
global
    maxconn $((nodes + 200))
defaults
    mode tcp
    timeout connect 5s
    timeout client 2m
    timeout server 2m
listen edges
    bind 127.0.0.1:$websocket_port
    balance leastconn
    option httpchk GET /readyz
    default-server inter 1s fall 2 rise 1 send-proxy-v2
END
    for ((i = 0; i < replicas; i++)); do
        echo "    server isthmus-$i 127.0.0.1:${hub_ports[i]} check addr 127.0.0.1 port ${admin_ports[i]}"
    done
}

start_haproxy() {
    local program
    step HAProxy
    program=$(PATH=$PATH:/usr/sbin:/sbin command -v haproxy) || die "haproxy is not installed"
    write_haproxy_config >"$folder/haproxy.cfg"
    start haproxy "$program" -db -f "$folder/haproxy.cfg"
    haproxy_pid=$started
    wait_until 10 "$haproxy_pid" haproxy is_listening "$websocket_port"
    finished "leastconn, edges at 127.0.0.1:$websocket_port"
}

# A little of everything: leases and node status are every edge's own; now and then an event and a question.
start_edges() {
    step edges
    start edgesim "$B/edgesim" --server "127.0.0.1:$websocket_port" --ca "$folder/certs/ca.crt" --cert-dir "$folder/certs" \
        --nodes "$nodes" --duration 0 --event-rate 0.05 --query-rate 0.05 --query-kind both \
        --query-configmap default/configmap/web "${edge_flags[@]}"
    edges_pid=$started
    finished "$nodes simulated, each with its own certificate"
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

# in_part JSON PART KEY: sets $value to a number, $3 to what it is where there is none. For the flat objects that /status has.
in_part() {
    value=${4:--}
    [[ $1 =~ \"$2\":\{[^\}]*\"$3\":(-?[0-9][0-9.e+-]*) ]] && value=${BASH_REMATCH[1]}
    return 0
}

text_in_part() {
    value=""
    [[ $1 =~ \"$2\":\{[^\}]*\"$3\":\"([^\"]*)\" ]] && value=${BASH_REMATCH[1]}
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

latency_of() { # JSON LANE: sets $latency
    local p50
    in_lane "$1" "$2" p50_ms
    p50=$value
    in_lane "$1" "$2" p99_ms
    latency="$(milliseconds "$p50") / $(milliseconds "$value")"
}

# Sets the words of the summary from each replica's /status and the API server's leases. 1 when there is nothing to show.
cpu_before="" cpu_at=""
read_summary() {
    local i status leases cpu=0 now answers=0
    connected=0 up=0 besides=0 handshakes=0 refused=0 dropped=0 memory=0
    for ((i = 0; i < replicas; i++)); do
        live[i]=- share[i]=- does[i]="does not answer"
        status=$(curl -fsS --max-time 2 "http://127.0.0.1:${admin_ports[i]}/status" 2>/dev/null) || continue
        answers=$((answers + 1))
        in_part "$status" edges connected 0; live[i]=$value connected=$((connected + value))
        in_part "$status" edges handshakes 0; handshakes=$((handshakes + value))
        in_part "$status" rates received_per_s 0; up="$up+$value"
        in_part "$status" rates local_per_s 0; besides="$besides+$value"
        in_part "$status" process resident_bytes 0; memory="$memory+$value"
        in_part "$status" process cpu_s 0; cpu="$cpu+$value"
        sum_of "$status" refused; refused=$((refused + value))
        sum_of "$status" dropped; dropped=$((dropped + value))
        in_part "$status" decision expected; share[i]=$value
        text_in_part "$status" decision phase; does[i]=$value
        text_in_part "$status" decision text; does[i]="${does[i]}${value:+: $value}"
        latency_of "$status" liveness; lease_latency[i]=$latency
        [ "$replicas" -gt 1 ] || one_status=$status
    done
    [ "$answers" -gt 0 ] || return 1
    leases=$(api_get "/devapi/leases?summary=1" 2>/dev/null) || leases=""
    ready=0 oldest=-
    [[ $leases =~ \"leases\":\ *([0-9]+) ]] && ready=${BASH_REMATCH[1]}
    [[ $leases =~ \"not_ready\":\ *([0-9]+) ]] && ready=$((ready - BASH_REMATCH[1]))
    [[ $leases =~ \"oldest_ms\":\ *([0-9]+) ]] && oldest=$((BASH_REMATCH[1] / 1000))
    now=$EPOCHREALTIME
    read -r up besides memory cpu <<<"$(awk "BEGIN {printf \"%.1f %.1f %.1f %.3f\", $up, $besides, ($memory) / 1048576, $cpu}")"
    percent=$(awk -v a="$cpu_before" -v b="$cpu" -v from="$cpu_at" -v to="$now" \
        'BEGIN {if (from == "" || to <= from || b < a) print "–"; else printf "%.1f %%", 100 * (b - a) / (to - from)}')
    cpu_before=$cpu cpu_at=$now
}

# ---- the summary ----

clock() { printf '%02d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }

# What the block says of latency: by lane with one replica, else each replica says its own.
draw_details() {
    local i lane latencies=""
    if [ "$replicas" -eq 1 ]; then
        for lane in liveness status query event; do
            latency_of "$one_status" $lane
            latencies="$latencies${latencies:+   }$lane $latency"
        done
        printf '  %-11s%s\n' latency "$latencies   (median / 99 %)"
        return
    fi
    printf '\n  %-12s%6s %6s   %-20s %s\n' replica edges share "lease latency" "what its balancer does"
    for ((i = 0; i < replicas; i++)); do
        printf '  %-12s%6s %6s   %-20s %s\n' "isthmus-$i" "${live[i]}" "${share[i]}" "${lease_latency[i]:-}" "${does[i]}"
    done
}

drawn=0
draw_block() {
    local text
    text=$(
        printf '  %-11s%s\n' \
            "$(clock)" "$(bold "$connected of $nodes edges connected, $ready Ready")" \
            leases "the oldest was renewed $oldest s ago (Ready up to 40 s)" \
            messages "$up/s to the API server, $besides/s keepalives and the like; $dropped dropped" \
            "$([ "$replicas" -eq 1 ] && echo hub || echo hubs)" \
            "$memory MiB, $percent CPU, $handshakes in handshake, $refused refused"
        draw_details
    )
    erase_block
    # A line that wraps would spoil the next redraw.
    cut -c "1-$(($(tput cols 2>/dev/null || echo 80) + 8))" <<<"$text"
    drawn=$(wc -l <<<"$text")
}

erase_block() {
    [ "$drawn" -eq 0 ] || printf '\033[%dA\033[J' "$drawn"
    drawn=0
}

draw_line() {
    local i each=""
    for ((i = 0; i < replicas; i++)); do each="$each${each:+ }isthmus-$i=${live[i]}"; done
    echo "$(clock) connected $connected/$nodes ready $ready messages $up/s lease latency ${lease_latency[0]:-–} (median / 99 %)" \
        "dropped $dropped refused $refused memory $memory MiB$([ "$replicas" -eq 1 ] || echo " $each")"
}

# A line that stays.
say() {
    erase_block
    echo "  $(clock)      $(bold "$1")"
}

# ---- the show: one replica is killed and comes back ----

act=wait act_at=0
victim=1
is_even() {
    local i
    for ((i = 0; i < replicas; i++)); do
        [[ ${live[i]} =~ ^[0-9]+$ ]] && [ $((live[i] * replicas * 20)) -ge $((nodes * 19 - 20 * replicas)) ] || return 1
    done
}

play() {
    case $act in
    wait)
        [ "$connected" -lt "$nodes" ] || [ "$ready" -lt "$nodes" ] || act=ready act_at=$SECONDS
        ;;
    ready)
        [ $((SECONDS - act_at)) -ge "$kill_after" ] || return 0
        say "isthmus-$victim is killed. Its ${live[victim]} edges notice at their next write, sleep 30 s and come to the others."
        kill -KILL "${hub_pids[victim]}"
        wait "${hub_pids[victim]}" 2>/dev/null
        act=killed act_at=$SECONDS
        ;;
    killed)
        [ $((SECONDS - act_at)) -ge "$start_after" ] || return 0
        say "isthmus-$victim is started again, empty. The others will let go of what it lacks, a few at a time."
        start_hub $victim
        wait_for_hub $victim
        act=started act_at=$SECONDS
        ;;
    started)
        [ "$connected" -eq "$nodes" ] && is_even || return 0
        say "The load is even again, $((SECONDS - act_at)) s after isthmus-$victim came back."
        act=over
        ;;
    esac
}

# ---- the run ----

for program in isthmus devapi edgesim; do
    [ -x "$B/$program" ] || die "there is no $B/$program: use make run"
done
ulimit -n "$(ulimit -Hn)" 2>/dev/null
needed=$((nodes * (replicas > 1 ? 2 : 1) + 500)) # HAProxy needs two for each edge
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge $needed ] ||
    die "$nodes edges need $needed open files, and the limit here is $(ulimit -n)"

free_port "${API_PORT:-6443}"; api_port=$port
free_port "${WEBSOCKET_PORT:-10000}"; websocket_port=$port
for ((i = 0; i < replicas; i++)); do
    free_port $((${ADMIN_PORT:-9440} + i)); admin_ports[i]=$port
    [ "$replicas" -eq 1 ] && hub_ports[0]=$websocket_port && break
    free_port $((websocket_port + 11 + i)); hub_ports[i]=$port
done

step certificates
make_certificates >"$folder/openssl.log" 2>&1 || die "openssl failed:" openssl
finished "an authority for the edges, the hub's own"
stop_if_asked
start_api
[ "$replicas" -eq 1 ] || start_redis
start_hubs
[ "$replicas" -eq 1 ] || start_haproxy
start_edges

echo
echo "  status page   $(bold "http://127.0.0.1:${admin_ports[0]}/")$([ "$replicas" -eq 1 ] || echo "  (isthmus-0's; the others are at ${admin_ports[*]:1})")"
echo "  kubectl       $(bold "kubectl --kubeconfig $folder/kubeconfig get nodes,pods")"
[ -z "$is_tty" ] || echo "  Ctrl-C ends it."
echo

# Everything but the replica that was killed on purpose.
check_children() {
    local i
    is_running "$api_pid" || die "devapi has ended:" devapi
    is_running "$edges_pid" || die "edgesim has ended:" edgesim
    [ "$replicas" -eq 1 ] || is_running "$redis_pid" || die "redis-server has ended:" redis
    [ "$replicas" -eq 1 ] || is_running "$haproxy_pid" || die "haproxy has ended:" haproxy
    for ((i = 0; i < replicas; i++)); do
        is_running "${hub_pids[i]}" || { [ $act = killed ] && [ $i -eq $victim ]; } || die "isthmus-$i has ended:" "isthmus-$i"
    done
}

SECONDS=0
every=5
[ -z "$is_tty" ] || every=1
[ "$replicas" -gt 1 ] && [ "$kill_after" -gt 0 ] || act=over
while [ -z "$is_stopping" ]; do
    check_children
    if ! read_summary; then
        [ -n "$is_stopping" ] || { erase_block; echo "$(clock) no hub answers"; }
    elif [ -n "$is_stopping" ]; then
        break # Ctrl-C may have ended a command that read the numbers
    else
        play
        if [ -n "$is_tty" ]; then draw_block; else draw_line; fi
    fi
    [ "$duration" -eq 0 ] || [ "$SECONDS" -lt "$duration" ] || break
    sleep "$every" &
    wait $! 2>/dev/null
done
exit 0
