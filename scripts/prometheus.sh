#!/usr/bin/env bash
# Has a real Prometheus scrape a release build's `portcullis demo`, both on ports of their own: promtool must like
# the metrics, `up` must be 1 and the request counter must move.
#
# GATEWAY_PORT, ADMIN_PORT, ISSUER_PORT, SERVICE_PORT    18072, 19072, 18180, 18081 (and the two after it)
# PROMETHEUS_PORT                                        19090
# PORTCULLIS_BIN                                         target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

work=$root/target/prometheus
port=${PROMETHEUS_PORT:-19090}
prometheus_url=http://127.0.0.1:$port

# Debian's package is unpacked, not installed: installing it would start a service on this machine.
find_prometheus() {
    if command -v prometheus >/dev/null && command -v promtool >/dev/null; then return; fi
    if [ ! -x "$work/package/usr/bin/prometheus" ]; then
        say "fetching Debian's prometheus"
        rm -rf "$work/package" "$work/download"
        mkdir -p "$work/download"
        cd "$work/download"
        apt update || die "apt-get update failed"
        # As root: apt's own user may not write here.
        apt -o APT::Sandbox::User=root download prometheus || die "apt-get could not download prometheus"
        dpkg-deb --extract prometheus_*.deb "$work/package" || die "the package does not unpack"
        cd "$root"
        rm -r "$work/download"
    fi
    PATH=$work/package/usr/bin:$PATH
}

# asks QUERY: whether this PromQL comparison has any result.
asks() {
    curl -fsS --max-time 2 --get "$prometheus_url/api/v1/query" --data-urlencode "query=$1" | grep -q '"result":\[{'
}

expect() {
    wait_until 20 asks "$1" || {
        tail -n 20 "$work/prometheus.log" >&2
        die "Prometheus did not see within 20 s: $1"
    }
    say "seen: $1"
}

# send COUNT: requests that must be answered 200.
send() {
    local i status
    for ((i = 0; i < $1; i++)); do
        status=$(curl -sS --max-time 5 --output /dev/null --write-out '%{http_code}' \
            --header "Authorization: Bearer $token" "$gateway_url/eazybank/accounts/api/fetch")
        [ "$status" = 200 ] || die "the demo answered $status to a good token"
    done
}

stop_all() {
    if [ -n "${prometheus_pid:-}" ]; then
        kill -TERM "$prometheus_pid" 2>/dev/null || true
        wait "$prometheus_pid" 2>/dev/null || true
    fi
    stop_demo
}

bin=$(portcullis_bin)
ensure curl curl
mkdir -p "$work"
find_prometheus
prometheus --version 2>&1 | head -n 1 >&2
port_is_taken "$port" && die "port $port is taken; choose another with PROMETHEUS_PORT"

trap stop_all EXIT
start_demo "$bin" "$work/demo.log"
token=$(demo_token eazybank-accounts-reader-cc accounts:read)
[ -n "$token" ] || die "the issuer's answer held no token"

# Some traffic first, so that the series with labels are there to be checked.
send 10
curl -sS --max-time 5 --output /dev/null "$gateway_url/eazybank/accounts/api/fetch"
curl -fsS --max-time 5 "$admin_url/metrics" >"$work/metrics.txt" || die "no answer from $admin_url/metrics"
promtool check metrics <"$work/metrics.txt" >&2 || die "promtool objects to $work/metrics.txt"
say "promtool has no objection to $(grep -c '^# TYPE ' "$work/metrics.txt") metrics"

cat >"$work/prometheus.yml" <<YAML
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: portcullis
    static_configs:
      - targets: ["${admin_url#http://}"]
YAML
rm -rf "$work/data"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address="127.0.0.1:$port" </dev/null >"$work/prometheus.log" 2>&1 &
prometheus_pid=$!
wait_until 30 curl -fsS --max-time 2 "$prometheus_url/-/ready" || {
    tail -n 20 "$work/prometheus.log" >&2
    die "Prometheus was not ready within 30 s"
}

expect 'up{job="portcullis"} == 1'
expect 'sum(portcullis_requests_total{status_class="2xx"}) == 10'
expect 'sum(portcullis_requests_total{status_class="4xx"}) == 1'
send 10
expect 'sum(portcullis_requests_total{status_class="2xx"}) == 20'
