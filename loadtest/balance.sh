#!/usr/bin/env bash
# How each way of balancing shares requests out, and what one slow peer costs, on a release build. What it measured
# goes to docs/performance.md.
#
#   loadtest/balance.sh [SECONDS]    prints one line of JSON for each run; SECONDS each, 10
#
# PORTCULLIS_BIN                     target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

ensure python3 python3
python3 "$root/loadtest/balance.py" "$(portcullis_bin)" "$@" || die "requests failed"
