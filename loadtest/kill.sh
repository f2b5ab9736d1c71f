#!/usr/bin/env bash
# `kill -9` on one of three real peer processes, twenty times, under load on a release build. What it measured goes to
# docs/performance.md.
#
#   loadtest/kill.sh [ROUNDS]        prints one line of JSON; fails when a promise did not hold
#
# PORTCULLIS_BIN                     target/release/portcullis
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/lib.sh"

ensure python3 python3
python3 "$root/loadtest/kill.py" "$(portcullis_bin)" "$@" || die "a promise did not hold"
