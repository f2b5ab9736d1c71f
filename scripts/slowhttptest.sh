#!/usr/bin/env bash
# Slow heads, slow bodies and slow readers (Debian's slowhttptest) against a release build: each attack has to be cut
# off, and others have to be served while it lasts.
#
# GATEWAY_PORT, ADMIN_PORT, SERVICE_PORT    18073, 19073, 18090 (and the one after it)
# CONNECTIONS                               300
# PORTCULLIS_BIN                            target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

work=$root/target/slowhttptest
port=${GATEWAY_PORT:-18073}
admin=${ADMIN_PORT:-19073}
service=${SERVICE_PORT:-18090}
attacked=$((service + 1))
connections=${CONNECTIONS:-300}
url=http://127.0.0.1:$port
admin_url=http://127.0.0.1:$admin

stop_all() {
    local pid
    for pid in ${attacker_pid:+"$attacker_pid"} "${service_pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    stop_gateway
}

# probe UNTIL_PID: asks for something small until the process has ended, and wants 200 within two seconds each time.
probe() {
    local answer asked=0
    while kill -0 "$1" 2>/dev/null; do
        answer=$(curl -sS --max-time 2 --output /dev/null --write-out '%{http_code}' "$url/small" || true)
        [ "$answer" = 200 ] || { kill "$1" 2>/dev/null; die "while under attack others were answered '$answer'"; }
        asked=$((asked + 1))
        sleep 0.1
    done
    say "  $asked requests of others were answered in time"
}

# begin NAME ARGUMENT...: starts an attack and serves others beside it. Sets attacker_pid.
begin() {
    local name=$1
    shift
    say "$name on $connections connections"
    slowhttptest -c "$connections" -r 100 -l 30 -p 3 "$@" </dev/null >"$work/$name.raw" 2>&1 &
    attacker_pid=$!
}

# report NAME: what slowhttptest says, which paints even without a terminal; the service has to have been there.
report() {
    sed 's/\x1b\[[0-9;]*[A-Za-z]//g' "$work/$1.raw" >"$work/$1.log"
    grep -qa 'service available: *YES' "$work/$1.log" || { tail -n 30 "$work/$1.log" >&2; die "$1: no report"; }
    grep -qa 'service available: *NO' "$work/$1.log" && die "$1: the service was away, see $work/$1.log"
    return 0
}

# attack NAME ARGUMENT...: every connection has to be ended by us, before the attacker would give up.
attack() {
    local status=0
    begin "$@"
    probe "$attacker_pid"
    wait "$attacker_pid" || status=$?
    report "$1"
    grep -qa 'Exit status: *No open connections left' "$work/$1.log" ||
        { tail -n 5 "$work/$1.log" >&2; die "$1: connections outlived the attack, see $work/$1.log"; }
    [ "$status" -eq 0 ] || die "$1: slowhttptest ended with $status"
}

# attack_readers NAME ARGUMENT...: the same for readers. They go on reading what the kernel still holds for them, so
# it is the gateway that is asked whether it has let go of them.
attack_readers() {
    begin "$@"
    wait_until 15 half_are_open || die "$1: the attack does not begin"
    probe "$attacker_pid" &
    local probing=$!
    wait_until 20 none_is_held || die "$1: the gateway still holds connections"
    kill -0 "$attacker_pid" 2>/dev/null || die "$1: the attack ended by itself"
    wait "$attacker_pid" || die "$1: slowhttptest ended with $?"
    wait "$probing" || die "$1: others were not served"
    report "$1"
}

open_now() { metric "$admin_url" "portcullis_connections_open{listener=\"127.0.0.1:$port\"}"; }

# The little server behind may not take all of them at once.
half_are_open() { [ "$(open_now)" -ge $((connections / 2)) ]; }

# But for a few: others are being served.
none_is_held() { [ "$(open_now)" -le 5 ]; }

# expect_count REASON ROUTE: it has been counted for as many connections.
expect_count() {
    local counted
    counted=$(metric "$admin_url" "portcullis_rejections_total{reason=\"$1\",route=\"$2\"}")
    [ "$counted" -ge "$connections" ] || die "only $counted of $connections connections were refused as $1"
    say "$counted connections were refused as $1"
}

bin=$(portcullis_bin)
ensure curl curl
ensure slowhttptest slowhttptest
ensure busybox busybox
for taken in "GATEWAY_PORT $port" "ADMIN_PORT $admin" "SERVICE_PORT $service" "SERVICE_PORT $attacked"; do
    port_is_taken "${taken#* }" && die "port ${taken#* } is taken; choose another with ${taken% *}"
done
mkdir -p "$work/service/cgi-bin"
service_pids=()
trap stop_all EXIT
echo hello >"$work/service/small"
# More than the kernel keeps for a reader that does not read.
head -c 8388608 /dev/zero >"$work/service/large"
# A service that waits for the whole body before it answers.
printf '#!/bin/sh\ncat >/dev/null\nprintf "Content-Type: text/plain\\r\\n\\r\\nok"\n' >"$work/service/cgi-bin/sink"
chmod +x "$work/service/cgi-bin/sink"
# Two of them, because it is the gateway that has to bear the attack, not this little server.
for each in "$service" "$attacked"; do
    busybox httpd -f -p "127.0.0.1:$each" -h "$work/service" >"$work/service-$each.log" 2>&1 &
    service_pids+=($!)
done
cat >"$work/gateway.yaml" <<YAML
admin: { address: "127.0.0.1:$admin" }
listeners: [{ address: "127.0.0.1:$port" }]
limits:
  header_timeout: 5s
  write_timeout: 5s
  keep_alive: 5s
  connections_per_source: 5000
upstreams:
  service: { peers: ["127.0.0.1:$service"] }
  attacked: { peers: ["127.0.0.1:$attacked"], timeouts: { connect: 5s } }
routes:
  - { name: others, match: { path: /small, exact: true }, upstream: service, access: public }
  - { name: attacked, match: { path: / }, upstream: attacked, access: public, timeout: 15s }
YAML
start_gateway "$bin" "$work/gateway.yaml" "$admin_url" "$work/gateway.log"
wait_until 10 curl -fsS "$url/small" || die "the service behind the gateway does not answer"

attack slow-heads -H -u "$url/large" -i 1 -x 8
attack slow-bodies -B -u "$url/cgi-bin/sink" -i 1 -x 8 -s 8192
attack_readers slow-reads -X -u "$url/large" -n 2 -z 8 -w 16 -y 64 -k 1
grep -qa 'panicked' "$work/gateway.log" && die "something panicked, see $work/gateway.log"
expect_count header_timeout none
expect_count body_too_slow attacked
