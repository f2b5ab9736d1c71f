#!/usr/bin/env bash
# Hostile load on a release build, on ports of its own, an ordinary caller beside: slow connections by the thousand, what
# HTTP/2 can be abused for, distinct tokens, and distinct paths, clients and keys. What it measured goes to
# docs/security.md.
#
#   loadtest/hostile.sh [PART...]    prints a line of JSON for each part; fails when a promise did not hold.
#                                    many, tokens, http2, slow, ledger: some two minutes; and crowd
#
# The gateway has one worker and the first core for itself. The attackers, the ordinary callers, the issuer and the
# service share the others.
#
# GATEWAY_PORT, ADMIN_PORT, TLS_PORT     18072, 19072, 18443: the gateway that is attacked
# ISSUER_PORT, SERVICE_PORT              18180, 18081 (and the two after it): `portcullis demo`
# DEMO_PORT, DEMO_ADMIN_PORT             18172, 19172: the demo's own gateway, which nobody asks
# TOKENS                                 7500: so many good tokens and as many forged ones, each presented once, 3,000
#                                        a second
# PORTCULLIS_BIN                         target/release/portcullis
# URGENT=1                               all of it with real-time priority, on a machine that has other work too
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

prepare_load
export PYTHONDONTWRITEBYTECODE=1
# Ten thousand connections, one end in each of two processes.
ulimit -n "$(ulimit -Hn)"
files=$(ulimit -n)
[ "$files" = unlimited ] || [ "$files" -ge 10500 ] || die "only $files files may be open here; 10500 are needed"
port=${GATEWAY_PORT:-18072}
admin=${ADMIN_PORT:-19072}
tls=${TLS_PORT:-18443}
export ISSUER_PORT=${ISSUER_PORT:-18180} SERVICE_PORT=${SERVICE_PORT:-18081}
for taken in "$port GATEWAY_PORT" "$admin ADMIN_PORT" "$tls TLS_PORT"; do
    port_is_taken "${taken% *}" && die "port ${taken% *} is taken; choose another with ${taken#* }"
done

trap 'stop_gateway; stop_demo' EXIT
GATEWAY_PORT=${DEMO_PORT:-18172} ADMIN_PORT=${DEMO_ADMIN_PORT:-19172} start_demo "$bin" "$work/hostile.log"
make_certificate "$work"

# gateway LIMITS: the one that is attacked.
gateway() {
    cat >"$work/gateway.yaml" <<YAML
server: { threads: 1 }
admin: { address: "127.0.0.1:$admin" }
limits: $1
listeners:
  - address: 127.0.0.1:$port
  - address: 127.0.0.1:$tls
    tls: { certificate: $work/tls.crt, private_key: $work/tls.key }
issuers:
  eazybank: { issuer: "$issuer_url", audience: [eazybank-gateway], algorithms: [RS256, EdDSA] }
# Far fewer proofs than there are tokens.
token_cache: { max_bytes: 256KiB }
upstreams: { service: { peers: ["127.0.0.1:$SERVICE_PORT"] } }
routes:
  - { name: contact, match: { path: /contact }, rewrite: { pattern: '^.*$', to: /api/fetch }, upstream: service, access: public }
  - { name: guarded, match: { path: /guarded }, rewrite: { pattern: '^.*$', to: /api/fetch }, upstream: service, access: {} }
YAML
    start_gateway "$bin" "$work/gateway.yaml" "http://127.0.0.1:$admin" "$work/gateway.log"
}

attack() {
    python3 "$root/loadtest/hostile.py" "$1" --port "$port" --tls "$tls" --admin "$admin" --issuer "$issuer_url" \
        --tokens "${TOKENS:-7500}" --gateway-pid "$gateway_pid" --demo-pid "$demo_pid" || { say "$2" && failed=1; }
}

failed=0
wanted=" ${*:-many tokens http2 slow ledger} "
gateway '{}'
case $wanted in *" many "*) attack many "the series grew" ;; esac
case $wanted in *" tokens "*) attack tokens "a flood of tokens did harm" ;; esac
case $wanted in *" http2 "*) attack http2 "an attack over HTTP/2 did harm" ;; esac
case $wanted in *" crowd "*) attack crowd "a crowd did harm" ;; esac
case $wanted in *" slow "*) attack slow "slow connections did harm" ;; esac
stop_gateway
case $wanted in *" ledger "*)
    gateway '{ floods_per_source: { connections: 1, burst: 20 } }'
    attack ledger "an attack over HTTP/2 did harm"
    ;;
esac
exit "$failed"
