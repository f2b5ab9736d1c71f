#!/usr/bin/env bash
# Changes a gateway under load: reloads, upgrades of the binary, and drains. Prints a line of JSON for each; fails when
# a request failed or a connection was refused. What it measured goes to docs/operations.md.
#
#   loadtest/change.sh [reload] [upgrade] [drain]      all three, if none is named
#
# RELOADS, ROUNDS                                         100 (one a second), 20
# GATEWAY_PORT, ADMIN_PORT, ISSUER_PORT, SERVICE_PORT     18072, 19072, 18180, 18081 (and the two after it)
# PORTCULLIS_BIN                                          target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

prepare_load
# The demo brings the issuer and the services; its own gateway is left alone.
trap stop_demo EXIT
start_demo "$bin" "$work/change.log"
[ $# -gt 0 ] || set -- reload upgrade drain
for change in "$@"; do
    python3 "$root/loadtest/change.py" "$change" "$bin" "${ISSUER_PORT:-18180}" "${SERVICE_PORT:-18081}" \
        "$work/change" || die "$change: somebody noticed"
done
