#!/usr/bin/env bash
# Hostile load on a release build, on ports of its own: slow connections by the thousand, distinct paths, clients and
# keys against `portcullis demo`, and what HTTP/2 can be abused for against a listener with TLS. What it measured goes to
# docs/security.md.
#
#   loadtest/hostile.sh              prints three lines of JSON; fails when a promise did not hold
#
# GATEWAY_PORT, ADMIN_PORT, ISSUER_PORT, SERVICE_PORT    18072, 19072, 18180, 18081 (and the two after it)
# TLS_PORT                                               18443
# PORTCULLIS_BIN                                         target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

prepare_load
# Ten thousand connections, one end in each of two processes.
ulimit -n "$(ulimit -Hn)"
files=$(ulimit -n)
[ "$files" = unlimited ] || [ "$files" -ge 10500 ] || die "only $files files may be open here; 10500 are needed"

trap 'stop_demo; stop_gateway' EXIT
start_demo "$bin" "$root/target/loadtest/hostile.log"
attack() { python3 "$root/loadtest/hostile.py" "$@"; }
attack many "${GATEWAY_PORT:-18072}" "${ADMIN_PORT:-19072}" "$demo_pid" || die "the series grew"
attack slow "${GATEWAY_PORT:-18072}" "$demo_pid" || die "slow connections did harm"
stop_demo

tls=${TLS_PORT:-18443}
port=${GATEWAY_PORT:-18072}
admin=${ADMIN_PORT:-19072}
port_is_taken "$tls" && die "port $tls is taken; choose another with TLS_PORT"
make_certificate "$work"
# Any service will do, and the admin listener is one.
cat >"$work/gateway.yaml" <<YAML
admin: { address: "127.0.0.1:$admin" }
listeners:
  - address: 127.0.0.1:$port
  - address: 127.0.0.1:$tls
    tls: { certificate: $work/tls.crt, private_key: $work/tls.key }
upstreams: { service: { peers: ["127.0.0.1:$admin"] } }
routes: [{ name: all, match: { path: / }, rewrite: { pattern: '^.*$', to: /livez }, upstream: service, access: public }]
YAML
start_gateway "$bin" "$work/gateway.yaml" "http://127.0.0.1:$admin" "$work/gateway.log"
attack http2 "$tls" "$port" "$admin" "$gateway_pid" || die "an attack over HTTP/2 did harm"
