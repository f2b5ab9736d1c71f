#!/usr/bin/env bash
# Hostile load on a release build's `portcullis demo`, on ports of its own: slow connections by the thousand, and
# distinct paths, clients and keys. What it measured goes to docs/security.md.
#
#   loadtest/hostile.sh              prints two lines of JSON; fails when a promise did not hold
#
# GATEWAY_PORT, ADMIN_PORT, ISSUER_PORT, SERVICE_PORT    18072, 19072, 18180, 18081 (and the two after it)
# PORTCULLIS_BIN                                         target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

bin=$(portcullis_bin)
ensure curl curl
ensure python3 python3
# Ten thousand connections, one end in each of two processes.
ulimit -n "$(ulimit -Hn)"
files=$(ulimit -n)
[ "$files" = unlimited ] || [ "$files" -ge 10500 ] || die "only $files files may be open here; 10500 are needed"
mkdir -p "$root/target/loadtest"

trap stop_demo EXIT
start_demo "$bin" "$root/target/loadtest/hostile.log"
attack() { python3 "$root/loadtest/hostile.py" "$@"; }
attack many "${GATEWAY_PORT:-18072}" "${ADMIN_PORT:-19072}" "$demo_pid" || die "the series grew"
attack slow "${GATEWAY_PORT:-18072}" "$demo_pid" || die "slow connections did harm"
