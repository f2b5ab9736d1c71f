#!/usr/bin/env bash
# Holds a TLS listener of a release build to RFC 9113 and RFC 7541: every test of h2spec has to pass.
#
# GATEWAY_PORT, ADMIN_PORT    18443, 19443
# PORTCULLIS_BIN              target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

work=$root/target/h2spec
port=${GATEWAY_PORT:-18443}
admin=${ADMIN_PORT:-19443}
admin_url=http://127.0.0.1:$admin

# h2spec has as many.
readonly tests=145

bin=$(portcullis_bin)
ensure curl curl
ensure go golang-go
port_is_taken "$port" && die "port $port is taken; choose another with GATEWAY_PORT"
port_is_taken "$admin" && die "port $admin is taken; choose another with ADMIN_PORT"
mkdir -p "$work"
# scripts/h2spec/go.mod and go.sum pin it and what it stands on.
(cd "$root/scripts/h2spec" && go build -mod=readonly -buildvcs=false -o "$work/h2spec" github.com/summerwind/h2spec/cmd/h2spec) ||
    die "cannot build h2spec"
make_certificate "$work"

# Any service will do, and the admin listener is one.
cat >"$work/gateway.yaml" <<YAML
admin: { address: "127.0.0.1:$admin" }
listeners:
  - address: 127.0.0.1:$port
    tls: { certificate: $work/tls.crt, private_key: $work/tls.key }
upstreams: { service: { peers: ["127.0.0.1:$admin"] } }
routes: [{ name: all, match: { path: / }, upstream: service, access: public }]
YAML
trap stop_gateway EXIT
start_gateway "$bin" "$work/gateway.yaml" "$admin_url" "$work/gateway.log"

"$work/h2spec" --host 127.0.0.1 --port "$port" --tls --insecure --timeout 5 --path /livez >"$work/h2spec.log" 2>&1 || {
    grep -a -B 1 -A 6 '×' "$work/h2spec.log" >&2 || tail -n 40 "$work/h2spec.log" >&2
    die "h2spec found faults, see $work/h2spec.log"
}
passed=$(sed -n 's/^\([0-9]*\) tests, \([0-9]*\) passed, 0 skipped, 0 failed$/\1 \2/p' "$work/h2spec.log")
[ "$passed" = "$tests $tests" ] || { tail -n 3 "$work/h2spec.log" >&2; die "h2spec did not run its $tests tests"; }
grep -qa 'panicked' "$work/gateway.log" && die "something panicked, see $work/gateway.log"
say "all $tests tests of h2spec pass"
